/** What a person decides with the answer to a question of the coordinator. */
import { readBudgetAnswer, type BudgetDecision } from "../../../core/budget.ts";
import { SlipwayError } from "../../../core/error.ts";
import type { UsageTotal } from "../../../core/ports/usage-ledger.ts";
import type { Task } from "../../../core/task.ts";
import { GUARD_OPTIONS, readGuardAnswer } from "../../../core/values/push-guard.ts";

export function parseGuardDecision(offered: readonly string[], text: string): object {
  const choice = readGuardAnswer(text, offered);
  if (choice === "stop") return { decision: "stop" };
  if (choice !== null) return { decision: "continue", choice };
  throw new SlipwayError("invalid_request", `Answer ${offered.join(", ") || GUARD_OPTIONS.join(", ")}.`, {
    errors: [{ path: "text", message: "must be one of the options" }],
  });
}

export function parseBudgetDecision(task: Task, questionId: string, text: string, spent: UsageTotal): BudgetDecision {
  const decision = readBudgetAnswer(task, questionId, text, spent);
  if (decision !== null) return decision;
  throw new SlipwayError("invalid_request", "Answer continue, stop, or how much more to grant.", {
    errors: [{ path: "text", message: "must be continue, stop or an amount" }],
  });
}
