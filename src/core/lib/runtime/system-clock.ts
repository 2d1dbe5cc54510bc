import { setTimeout as delay } from "node:timers/promises";
import type { Clock } from "../../ports/runtime.ts";

/** The clock of the operating system. Tests inject their own. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  timer(ms, wake) {
    const handle = setTimeout(wake, ms);
    return () => clearTimeout(handle);
  },
  sleep: (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }),
};
