/**
 * The guard before the push (rule S9): what would be pushed is looked at on the coordinator, where
 * no worker can skip it. What holds the push back becomes a question; the answer is in the log, so
 * that it survives a restart, and counts for this commit and these findings alone.
 */
import type { Repositories } from "../../../core/ports/repositories.ts";
import type { Task } from "../../../core/task.ts";
import { serverNotice } from "../../../core/notices.ts";
import { describeFindings, guardQuestion, isPushable } from "../../../core/values/push-guard.ts";
import type { AttemptVariables } from "../../services/worker/variables.ts";
import type { Recorder } from "../recorder.ts";

export interface GuardDeps {
  readonly recorder: Recorder;
  readonly repos: Pick<Repositories, "inspect" | "leaveOut">;
  readonly variables: Pick<AttemptVariables, "redactor" | "secrets">;
}

/** @returns the commit to push; null when a person is asked first. */
export async function passGuard(
  { recorder, repos, variables }: GuardDeps,
  task: Task,
  head: string,
  signal: AbortSignal,
): Promise<string | null> {
  const { baseSha: base, guard, pushTries } = task.snapshot.context;
  if (base === null) return head;
  const findings = await repos.inspect(task.id, base, head, signal, await variables.secrets(task));
  const held = findings.filter(({ holds }) => holds);
  const told = findings.filter(({ holds }) => !holds);
  if (told.length > 0 && guard === undefined && pushTries === 0) {
    const text = `In what is pushed there is also:\n${describeFindings(told)}`;
    await recorder.record(task, serverNotice("info", "guard_told", text));
  }
  if (held.length === 0) return head;
  const question = guardQuestion(head, held);
  const choice = guard?.questionId === question.id ? guard.choice : null;
  if (choice === "push" && isPushable(held)) return head;
  if (choice === "leave_out") {
    const paths = [...new Set(held.map(({ path }) => path))];
    return await repos.leaveOut({ taskId: task.id, base, head, expect: task.spec.expectSha, paths }, signal);
  }
  await recorder.record(task, { type: "question", data: { ...question } });
  return null;
}
