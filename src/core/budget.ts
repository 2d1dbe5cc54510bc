/**
 * Budgets of a task in words: what a person is asked when one is used up, what the answer means,
 * and what holds then.
 */
import type { Budget, Task } from "./task.ts";

/** Budgets that the gateway keeps; minutes are kept by the clock. */
export type BudgetKind = "usd" | "turns";

/** Ids that begin like this are questions of the coordinator: a worker may not ask with one. */
const PREFIX = "budget_";
const LARGEST = 10_000;
/** Ids hold no dots: dollars are written in millionths. */
const MICRO = 1_000_000;

export interface BudgetQuestion {
  readonly id: string;
  readonly question: string;
  readonly options: readonly string[];
}

/** What a person decided; `budget` = what holds from then on. */
export type BudgetDecision = { readonly decision: "continue"; readonly budget: Budget } | { readonly decision: "stop" };

/**
 * What a worker is told when the gateway refused: a question is open, or how it was decided.
 * `reason` = why it must stop.
 */
export type BudgetStanding =
  | { readonly state: "asked"; readonly questionId: string }
  | { readonly state: "continue" }
  | { readonly state: "stop"; readonly reason: string };

export const isBudgetQuestion = (id: string): boolean => id.startsWith(PREFIX);

/** What was asked for at submission, and what people granted since. */
export const remainingBudget = (task: Pick<Task, "spec" | "snapshot">): Budget => ({
  ...task.spec.budget,
  ...task.snapshot.context.granted,
});

export const formatLimit = (kind: BudgetKind, amount: number): string =>
  kind === "usd" ? `$${amount.toFixed(Math.abs(amount) < 0.1 ? 4 : 2)}` : `${amount} turns`;

/** The same limit always asks under the same id. @param step what "continue" adds. */
export function budgetQuestion(kind: BudgetKind, limit: number, step: number): BudgetQuestion {
  const example = kind === "usd" ? "$5" : "20";
  return {
    id: `${PREFIX}${kind}_${kind === "usd" ? Math.round(limit * MICRO) : limit}`,
    question: `The task has used its budget of ${formatLimit(kind, limit)}. Continue with another ${formatLimit(kind, step)}? An amount such as ${example} grants that much instead.`,
    options: ["continue", "stop"],
  };
}

const YES = /^(?:y|yes|ok|okay|continue|go on|go)[.! ]*$/i;
const NO = /^(?:n|no|stop|end)[.! ]*$/i;
const AMOUNT = /^\$?\s*(\d{1,5}(?:\.\d{1,4})?)$/;

/** @returns null when the words are neither yes, no nor an amount. */
export function readBudgetAnswer(
  task: Pick<Task, "spec" | "snapshot">,
  questionId: string,
  text: string,
): BudgetDecision | null {
  const words = text.trim();
  if (NO.test(words)) return { decision: "stop" };
  const kind: BudgetKind = questionId.startsWith(`${PREFIX}usd_`) ? "usd" : "turns";
  const now = remainingBudget(task);
  const step = YES.test(words) ? (task.spec.budget[kind] ?? 0) : Number(AMOUNT.exec(words)?.[1] ?? 0);
  const granted = kind === "usd" ? step : Math.floor(step);
  if (!(granted > 0)) return null;
  return {
    decision: "continue",
    budget: { ...now, [kind]: Math.min(LARGEST, Math.round(((now[kind] ?? 0) + granted) * MICRO) / MICRO) },
  };
}
