/** The question about a used-up budget, the parsing of its answer, and the budget that results. */
import { formatTime, formatUsd } from "./lib/figures.ts";
import type { Budget, Task } from "./task.ts";

/** Budgets that the model gateway enforces. Minutes are enforced by a deadline. */
export type BudgetKind = "usd" | "turns" | "threadUsd";
/** What a person can be asked to raise. */
type AskedKind = BudgetKind | "minutes";

/** Prefix of the coordinator's question ids; workers may not use it. */
const PREFIX = "budget_";
const LARGEST = 10_000;
/** The most minutes that a budget can name (budgetSchema). */
const MOST_MINUTES = 24 * 60;
/** Question ids contain no dots, so dollars are written in millionths and minutes in ms. */
const MICRO = 1_000_000;
const MINUTE_MS = 60_000;
/** By kind: how its questions are named, and what their ids count in. */
const ASKED = {
  usd: { name: "usd", scale: MICRO },
  turns: { name: "turns", scale: 1 },
  minutes: { name: "minutes", scale: MINUTE_MS },
  threadUsd: { name: "thread", scale: MICRO },
} as const;

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
const isQuestionOf = (kind: AskedKind, id: string): boolean => id.startsWith(`${PREFIX}${ASKED[kind].name}_`);
/** The question for more dollars of the task's thread. */
export const isThreadQuestion = (id: string): boolean => isQuestionOf("threadUsd", id);
/** The question for more working time. */
export const isTimeQuestion = (id: string): boolean => isQuestionOf("minutes", id);

/** The budget of the submission, with the amounts that users granted since. */
export const remainingBudget = (task: Pick<Task, "spec" | "snapshot">): Budget => ({
  ...task.spec.budget,
  ...task.snapshot.context.granted,
});

export function formatLimit(kind: AskedKind, amount: number): string {
  if (kind === "usd" || kind === "threadUsd") return formatUsd(amount);
  return kind === "turns" ? `${amount} turns` : formatTime(amount * MINUTE_MS);
}

/** The id depends only on kind and limit. @param step the amount that "continue" adds. */
export function budgetQuestion(kind: AskedKind, limit: number, step: number): BudgetQuestion {
  const isMoney = kind === "usd" || kind === "threadUsd";
  const example = isMoney ? "$5" : "20";
  const used = kind === "minutes" ? "worked for its" : "used its budget of";
  const who =
    kind === "threadUsd" ? "The tasks of this thread have together used their budget of" : `The task has ${used}`;
  return {
    id: `${PREFIX}${ASKED[kind].name}_${Math.round(limit * ASKED[kind].scale)}`,
    question: `${who} ${formatLimit(kind, limit)}. Continue with another ${formatLimit(kind, step)}? Answer with an amount such as ${example} to grant that instead.`,
    options: ["continue", "stop"],
  };
}

/** Minutes that the task may work, with what was granted. */
const allowedMinutes = (task: Pick<Task, "spec" | "snapshot">): number =>
  remainingBudget(task).minutes ?? task.snapshot.context.policy.wallMs / MINUTE_MS;

/** @returns null when the task already has the most minutes that it can have. */
export function timeQuestion(task: Pick<Task, "spec" | "snapshot">): BudgetQuestion | null {
  const limit = allowedMinutes(task);
  return limit >= MOST_MINUTES ? null : budgetQuestion("minutes", limit, minutesStep(task));
}

/** What `continue` adds. */
const minutesStep = (task: Pick<Task, "spec" | "snapshot">): number =>
  Math.min(
    task.spec.budget.minutes ?? task.snapshot.context.policy.wallMs / MINUTE_MS,
    MOST_MINUTES - allowedMinutes(task),
  );

const YES = /^(?:y|yes|ok|okay|continue|go on|go)[.! ]*$/i;
const NO = /^(?:n|no|stop|end)[.! ]*$/i;
const AMOUNT = /^\$?\s*(\d{1,5}(?:\.\d{1,4})?)$/;
const MINUTES = /^(\d{1,4}(?:\.\d{1,2})?)\s*(?:m|min|mins|minutes?)?$/i;

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
  if (isTimeQuestion(questionId)) return readTimeAnswer(task, answer);
  if (isThreadQuestion(questionId)) return readThreadAnswer(task, questionId, answer, spent.usd);
  const kind = isQuestionOf("usd", questionId) ? "usd" : "turns";
  const now = remainingBudget(task);
  const step = YES.test(answer) ? (task.spec.budget[kind] ?? 0) : readAmount(answer);
  const granted = kind === "usd" ? step : Math.floor(step);
  if (!(granted > 0)) return null;
  const used = kind === "usd" ? spent.usd : spent.requests;
  return { decision: "continue", budget: { ...now, [kind]: raise(now[kind] ?? 0, granted, used) } };
}

const readAmount = (answer: string): number => Number(AMOUNT.exec(answer)?.[1] ?? 0);

/** The amount counts from what was used, where that is more than the budget. */
const raise = (before: number, granted: number, used: number): number => {
  const total = before + granted > used ? before + granted : used + granted;
  return Math.min(LARGEST, Math.round(total * MICRO) / MICRO);
};

/** The question names the limit, which another task of the thread may have been granted. */
function readThreadAnswer(
  task: Pick<Task, "spec" | "snapshot">,
  questionId: string,
  answer: string,
  spentUsd: number,
): BudgetDecision | null {
  const limit = Number(questionId.split("_").at(-1)) / MICRO;
  const granted = YES.test(answer) ? (task.spec.budget.threadUsd ?? limit) : readAmount(answer);
  if (!(granted > 0)) return null;
  return { decision: "continue", budget: { ...remainingBudget(task), threadUsd: raise(limit, granted, spentUsd) } };
}

function readTimeAnswer(task: Pick<Task, "spec" | "snapshot">, answer: string): BudgetDecision | null {
  const granted = YES.test(answer) ? minutesStep(task) : Number(MINUTES.exec(answer)?.[1] ?? 0);
  if (!(granted > 0)) return null;
  const minutes = Math.min(MOST_MINUTES, Math.round((allowedMinutes(task) + granted) * MINUTE_MS) / MINUTE_MS);
  return { decision: "continue", budget: { ...remainingBudget(task), minutes } };
}
