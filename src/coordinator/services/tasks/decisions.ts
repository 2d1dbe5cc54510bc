/** What a person decides with the answer to a question of the coordinator. */
import { isBudgetQuestion, isThreadQuestion, readBudgetAnswer, type BudgetDecision } from "../../../core/budget.ts";
import { SlipwayError } from "../../../core/error.ts";
import type { Store } from "../../../core/ports/store.ts";
import type { UsageLedger, UsageTotal } from "../../../core/ports/records/usage-ledger.ts";
import type { Task } from "../../../core/task.ts";
import { ThreadBudgets } from "../budget/threads.ts";
import { GUARD_OPTIONS, readGuardAnswer } from "../../../core/values/push-guard.ts";

export function parseGuardDecision(offered: readonly string[], text: string): object {
  const choice = readGuardAnswer(text, offered);
  if (choice === "stop") return { decision: "stop" };
  if (choice !== null) return { decision: "continue", choice };
  throw new SlipwayError("invalid_request", `Answer ${offered.join(", ") || GUARD_OPTIONS.join(", ")}.`, {
    errors: [{ path: "text", message: "must be one of the options" }],
  });
}

/** What was used of the budget that a question is about; null = it is about none. */
export async function readSpent(
  { store, ledger }: { readonly store: Pick<Store, "tasks">; readonly ledger: Pick<UsageLedger, "spentBy"> },
  { id, threadId }: Pick<Task, "id" | "threadId">,
  questionId: string,
): Promise<UsageTotal | null> {
  if (!isBudgetQuestion(questionId)) return null;
  return isThreadQuestion(questionId)
    ? await new ThreadBudgets(store, ledger).spent(threadId)
    : await ledger.spentBy(id);
}

export function parseBudgetDecision(task: Task, questionId: string, text: string, spent: UsageTotal): BudgetDecision {
  const decision = readBudgetAnswer(task, questionId, text, spent);
  if (decision !== null) return decision;
  throw new SlipwayError("invalid_request", "Answer continue, stop, or how much more to grant.", {
    errors: [{ path: "text", message: "must be continue, stop or an amount" }],
  });
}
