/** The question about a used-up budget, the parsing of its answer, and the budget that results. */
import type { Budget, Task } from "./task.ts";

/** Budgets that the model gateway enforces. Minutes are enforced by a deadline. */
export type BudgetKind = "usd" | "turns";

/** Prefix of the coordinator's question ids; workers may not use it. */
const PREFIX = "budget_";
const LARGEST = 10_000;
/** Question ids contain no dots, so dollars are written in millionths. */
const MICRO = 1_000_000;

export interface BudgetQuestion {
  readonly id: string;
  readonly question: string;
  readonly options: readonly string[];
}

/** The decision of a user; `budget` is the total from then on. */
export type BudgetDecision = { readonly decision: "continue"; readonly budget: Budget } | { readonly decision: "stop" };

/**
 * The answer to a worker whose request the gateway refused: the question is open, or the decision.
 * `reason` states why the worker must stop.
 */
export type BudgetStanding =
  | { readonly state: "asked"; readonly questionId: string }
  | { readonly state: "continue" }
  | { readonly state: "stop"; readonly reason: string };

export const isBudgetQuestion = (id: string): boolean => id.startsWith(PREFIX);

/** The budget of the submission, with the amounts that users granted since. */
export const remainingBudget = (task: Pick<Task, "spec" | "snapshot">): Budget => ({
  ...task.spec.budget,
  ...task.snapshot.context.granted,
});

export const formatLimit = (kind: BudgetKind, amount: number): string =>
  kind === "usd" ? `$${amount.toFixed(Math.abs(amount) < 0.1 ? 4 : 2)}` : `${amount} turns`;

/** The id depends only on kind and limit. @param step the amount that "continue" adds. */
export function budgetQuestion(kind: BudgetKind, limit: number, step: number): BudgetQuestion {
  const example = kind === "usd" ? "$5" : "20";
  return {
    id: `${PREFIX}${kind}_${kind === "usd" ? Math.round(limit * MICRO) : limit}`,
    question: `The task has used its budget of ${formatLimit(kind, limit)}. Continue with another ${formatLimit(kind, step)}? Answer with an amount such as ${example} to grant that instead.`,
    options: ["continue", "stop"],
  };
}

const YES = /^(?:y|yes|ok|okay|continue|go on|go)[.! ]*$/i;
const NO = /^(?:n|no|stop|end)[.! ]*$/i;
const AMOUNT = /^\$?\s*(\d{1,5}(?:\.\d{1,4})?)$/;

/**
 * An amount that is granted is one that the task can use: if it has spent more than its budget, the
 * amount is added to what it has spent.
 * @returns null when the text is neither yes, no nor an amount.
 */
export function readBudgetAnswer(
  task: Pick<Task, "spec" | "snapshot">,
  questionId: string,
  text: string,
  spent: { readonly usd: number; readonly requests: number },
): BudgetDecision | null {
  const answer = text.trim();
  if (NO.test(answer)) return { decision: "stop" };
  const kind: BudgetKind = questionId.startsWith(`${PREFIX}usd_`) ? "usd" : "turns";
  const now = remainingBudget(task);
  const step = YES.test(answer) ? (task.spec.budget[kind] ?? 0) : Number(AMOUNT.exec(answer)?.[1] ?? 0);
  const granted = kind === "usd" ? step : Math.floor(step);
  if (!(granted > 0)) return null;
  const used = kind === "usd" ? spent.usd : spent.requests;
  const before = now[kind] ?? 0;
  const total = before + granted > used ? before + granted : used + granted;
  return {
    decision: "continue",
    budget: { ...now, [kind]: Math.min(LARGEST, Math.round(total * MICRO) / MICRO) },
  };
}
