/** The clock of a coordinator in a simulated world. Its wall clock can jump; its timers do not. */
import type { Clock } from "../../../../src/core/ports/runtime.ts";
import type { Domain, VirtualTime } from "../virtual-time.ts";

/** The machine's wall clock: epoch ms at the world's beginning, moved by jumps. */
export interface WallClock {
  offset: number;
}

export function openClock(time: VirtualTime, wall: WallClock, domain: Domain): Clock {
  const aborted = (): Error => new DOMException("The wait was aborted", "AbortError");
  const clock = {
    now: () => time.now + wall.offset,
    monotonic: () => time.now,
    timer: (ms: number, wake: () => void) => time.schedule(domain, ms, wake),
    sleep: (ms: number, signal?: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        if (signal?.aborted === true) return reject(aborted());
        const abort = (): void => {
          cancel();
          reject(aborted());
        };
        const cancel = time.schedule(domain, ms, () => {
          signal?.removeEventListener("abort", abort);
          resolve();
        });
        signal?.addEventListener("abort", abort, { once: true });
      }),
  };
  return clock;
}
