/** Derives the notifications of a task's owner from the stored task. Pure. */
import { isBudgetQuestion } from "../core/budget.ts";
import type { NotificationKind } from "../core/ports/notifications.ts";
import type { Task } from "../core/task.ts";

export interface Subject {
  /** The same thing to tell has the same id, however often it is derived. */
  readonly id: string;
  readonly kind: NotificationKind;
  /** When it happened, epoch ms. */
  readonly at: number;
  readonly text: string;
  /** Answers that can be given from the notification. */
  readonly question: { readonly id: string; readonly options: readonly string[] } | null;
  /** True while the task can be stopped. */
  readonly isOpen: boolean;
}

/** Null = the task neither waits for the person nor has ended. A cancelled task is not notified. */
export function subjectOf(task: Task): Subject | null {
  const { question, failure, report, outcome, settledAt } = task.snapshot.context;
  if (question !== null) {
    const { id, options, askedAt } = question;
    const kind = isBudgetQuestion(id) ? "budget" : "needs_you";
    // A worker may ask again under the same id.
    const subject = `${id}@${askedAt}`;
    return {
      id: subject,
      kind,
      at: askedAt,
      text: question.question,
      question: { id, options: options ?? [] },
      isOpen: true,
    };
  }
  const at = settledAt ?? task.updatedAt;
  const ended = { id: "end", at, question: null, isOpen: false };
  if (task.state === "done") {
    const result = outcome === "no_changes" ? "Nothing had to change." : `Pushed to ${task.spec.branch}.`;
    return { ...ended, kind: "done", text: report?.summary ?? result };
  }
  if (task.state === "failed") return { ...ended, kind: "failed", text: failure?.message ?? "The task failed." };
  return null;
}
