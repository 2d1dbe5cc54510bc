/** Where the checkout of an attempt begins. */
import type { Repositories } from "../../../core/ports/repositories.ts";
import type { WorkerSpec } from "../../../core/protocol/worker.ts";
import type { Task } from "../../../core/task.ts";

/** As chosen before the attempt (effects/branch/start-point.ts), or at the work that was saved. */
export async function readCheckoutStart(
  repos: Repositories,
  task: Task,
): Promise<Pick<WorkerSpec, "resume" | "carry" | "mergeBase">> {
  const { checkpoint, start = null, base, baseSha } = task.snapshot.context;
  const saved = checkpoint !== null && (await repos.has(task.id, checkpoint.sha)) ? checkpoint : null;
  const sha = start === null ? (saved?.sha ?? null) : start.sha;
  const resume = sha === null ? null : { sha, cursor: checkpoint?.cursor ?? null };
  const mergeBase = task.spec.updateBase === true && baseSha !== null ? { name: base ?? "", sha: baseSha } : null;
  const carry = start?.carry ?? null;
  return { resume, ...(carry === null ? {} : { carry }), ...(mergeBase === null ? {} : { mergeBase }) };
}
