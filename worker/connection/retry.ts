/** Repeats work that needs the task repository. */
import type { Clock } from "../../src/core/ports/runtime.ts";
import { Unreachable } from "../workspace/workspace.ts";
import type { CoordinatorLink } from "./link.ts";

/** How often a reachable coordinator may refuse the same work. */
const MAX_REFUSALS = 4;

/**
 * Repeats `work` while it rejects with Unreachable.
 *
 * A broken connection only means that the coordinator went away: it is waited for without limit.
 * A refusal counts: the fourth one rejects. Other failures reject at once.
 */
export async function retryUnreachable<T>(
  { link, clock }: { readonly link: CoordinatorLink; readonly clock: Clock },
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  for (let refusals = 0; ;) {
    try {
      return await work();
    } catch (thrown) {
      if (!(thrown instanceof Unreachable)) throw thrown;
      if (!thrown.lost && ++refusals >= MAX_REFUSALS) throw thrown;
      await link.reach(signal);
      await clock.sleep(100 * 2 ** refusals, signal);
    }
  }
}
