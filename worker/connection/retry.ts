/** Repeats work that needs the task repository. */
import type { Clock } from "../../src/core/ports/runtime.ts";
import { Unreachable } from "../workspace/workspace.ts";
import type { CoordinatorLink } from "./link.ts";

/** How often a reachable coordinator may refuse the same work. */
const MAX_REFUSALS = 4;
/** Between two pushes that find no room on the server's disk, ms. */
const NO_ROOM_MS = 10_000;

const NO_ROOM = `The work cannot be saved now: the server's disk has too little room. The push is tried again every ${NO_ROOM_MS / 1_000} s.`;

/**
 * Repeats `work` while it rejects with Unreachable.
 *
 * A broken connection only means that the coordinator went away: it is waited for without limit.
 * So is room on its disk, with a notice. A refusal counts: the fourth one rejects. Other failures
 * reject at once.
 */
export async function retryUnreachable<T>(
  { link, clock }: { readonly link: CoordinatorLink; readonly clock: Clock },
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  let isNoted = false;
  for (let refusals = 0; ;) {
    try {
      return await work();
    } catch (thrown) {
      if (!(thrown instanceof Unreachable)) throw thrown;
      if (!thrown.lost && !thrown.later && ++refusals >= MAX_REFUSALS) throw thrown;
      if (thrown.later && !isNoted) link.emit("notice", { level: "warning", code: "push_waits", text: NO_ROOM });
      isNoted ||= thrown.later;
      await link.reach(signal);
      await clock.sleep(thrown.later ? NO_ROOM_MS : 100 * 2 ** refusals, signal);
    }
  }
}
