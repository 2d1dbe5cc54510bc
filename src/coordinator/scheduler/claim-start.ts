/**
 * When claims begin after a start: once the sandboxes that no task needs are gone, so that no more
 * of them run than there are slots. One that resists delays the claims by ORPHAN_GRACE_MS at most.
 */
import { ignoreAbort } from "../../core/lib/concurrency/async.ts";
import type { Clock } from "../../core/ports/runtime.ts";
import type { Scheduler } from "./scheduler.ts";

export const ORPHAN_GRACE_MS = 5_000;

/** @param orphans settles when the first removal has ended. Starts nothing after an abort. */
export function startClaiming(
  scheduler: Pick<Scheduler, "start">,
  orphans: Promise<unknown>,
  clock: Pick<Clock, "sleep">,
  signal: AbortSignal,
): void {
  const grace = ignoreAbort(clock.sleep(ORPHAN_GRACE_MS, signal), signal);
  void Promise.race([orphans, grace]).then(() => {
    if (!signal.aborted) scheduler.start();
  });
}
