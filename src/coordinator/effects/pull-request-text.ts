/**
 * Title and text of a task's pull request: the agent's report, which ends with the results of the
 * checks, what it cost, and the way to the task.
 */
import { formatUsd } from "../../core/lib/figures.ts";
import type { PullRequestOptions } from "../../core/ports/repositories.ts";
import type { Store } from "../../core/ports/store.ts";
import type { Task } from "../../core/task.ts";

export interface DescriptionDeps extends PullRequestOptions {
  readonly store: Pick<Store, "task">;
}

/** GitHub takes 256 characters and 65,536; the other parts need less than the difference. */
const TITLE_CHARS = 250;
const SUMMARY_CHARS = 50_000;

export async function describePullRequest(deps: DescriptionDeps, task: Task): Promise<{ title: string; body: string }> {
  const { report } = task.snapshot.context;
  const worked = await findWorked(deps.store, task);
  const summary = shorten(report?.summary.trim() ?? "", SUMMARY_CHARS);
  return {
    title: shorten(toLine(report?.title ?? "") || toLine(task.spec.title), TITLE_CHARS),
    body: `${summary}\n\n---\n\n${describeOrigin(deps, task, worked)}`.trim(),
  };
}

/** The task whose agent did the work: a retry of the push alone has none of its own. */
async function findWorked(store: Pick<Store, "task">, task: Task): Promise<Task> {
  let worked = task;
  while (worked.spec.from === "push" && worked.parentId !== null) {
    const parent = await store.task(worked.parentId);
    if (parent === null) break;
    worked = parent;
  }
  return worked;
}

function describeOrigin({ publicUrl }: DescriptionDeps, { id }: Task, { spec, snapshot }: Task): string {
  const { turns, usd } = snapshot.context.usage;
  return [
    publicUrl ? `[Slipway task](${publicUrl}/tasks/${id}) \`${id}\`` : `Slipway task \`${id}\``,
    `agent ${spec.agent}`,
    ...(spec.model === null || usd === 0 ? [] : [`model ${spec.model}`]),
    ...(turns === 0 ? [] : [`${turns} ${turns === 1 ? "turn" : "turns"}`]),
    ...(usd === 0 ? [] : [formatUsd(usd)]),
  ].join(" · ");
}

const toLine = (text: string): string => text.replaceAll(/[\p{Cc}\p{Cf}\s]+/gu, " ").trim();

const shorten = (text: string, length: number): string =>
  text.length > length ? `${text.slice(0, length - 1)}…` : text;
