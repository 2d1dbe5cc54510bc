/** The machine's own time. */
import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "../../src/core/ports/runtime.ts";

export const systemClock: Clock = {
  now: () => Date.now(),
  timer(ms, wake) {
    const handle = setTimeout(wake, ms);
    return () => clearTimeout(handle);
  },
  async sleep(ms, signal) {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
  },
};
