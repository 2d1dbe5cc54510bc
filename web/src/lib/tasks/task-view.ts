/** How a task looks: the appearance of its state, its word, and a line that says what happens. */
import type { Me } from "../../../../src/client/types.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { formatOrdinal, formatUsd } from "../format.ts";
import { dropMarks } from "./plain-line.ts";
import { isOwn } from "./ownership.ts";

export type Appearance =
  | "queued"
  | "provisioning"
  | "running"
  | "awaiting"
  | "parked"
  | "pushing"
  | "retrying"
  | "cancelling"
  | "done"
  | "failed"
  | "cancelled";

export const isSettled = (task: Pick<WireTask, "state">): boolean =>
  task.state === "done" || task.state === "failed" || task.state === "cancelled";

export function getAppearance(task: Pick<WireTask, "state" | "phase"> & Partial<WireTask>): Appearance {
  // A push that waits for a person.
  if (task.state === "pushing" && (task.question ?? null) !== null) return "awaiting";
  if (task.state !== "running") return task.state;
  if (task.phase === "awaiting_input") return "awaiting";
  return task.phase === "parked" ? "parked" : "running";
}

const WAIT_REASONS: Readonly<Record<NonNullable<WireTask["wait"]>["reason"], string>> = {
  concurrency: "all slots are in use",
  thread_busy: "an earlier task of the thread is at work",
  user_limit: "you use all your slots",
  sandbox_unavailable: "no container engine answers",
  disk_low: "the disk is almost full",
  paused: "the queue is paused",
  model_rate_limited: "the model provider limits requests",
  budget: "the day's budget is used up",
};

export function describeWait(wait: NonNullable<WireTask["wait"]>): string {
  const reason = WAIT_REASONS[wait.reason] ?? wait.reason.replaceAll("_", " ");
  return wait.position === 0 ? `next, ${reason}` : `${formatOrdinal(wait.position + 1)}, ${reason}`;
}

const describeAttempt = ({ attempt, maxAttempts }: WireTask): string =>
  attempt > 1 ? `attempt ${attempt} of ${maxAttempts}` : "";

/** The word of the step in bold, and the rest of the line. */
export function describeStep(task: WireTask): { readonly word: string; readonly rest: string } {
  const appearance = getAppearance(task);
  switch (appearance) {
    case "queued":
      return { word: "queued", rest: task.wait === null ? "" : describeWait(task.wait) };
    case "provisioning":
      return { word: task.phase ?? "provisioning", rest: task.steps.at(-1)?.detail ?? "" };
    case "awaiting":
    case "parked": {
      const isBudget = task.question?.id.startsWith("budget_") === true;
      const word = appearance === "parked" ? "parked" : isBudget ? "budget" : "asks";
      return { word, rest: dropMarks(task.question?.question ?? "") };
    }
    case "running":
      return { word: "working", rest: task.activity?.text ?? describeAttempt(task) };
    case "pushing":
      return { word: "pushing", rest: task.branch };
    case "retrying":
      return { word: "retrying", rest: task.failure?.message ?? "" };
    case "cancelling":
      return { word: "cancelling", rest: "saves its work" };
    case "done":
      return { word: "done", rest: task.outcome === "no_changes" ? "nothing to change" : `pushed to ${task.branch}` };
    case "failed":
      return { word: task.failure?.code.replaceAll("_", " ") ?? "failed", rest: task.failure?.message ?? "" };
    case "cancelled":
      return { word: "cancelled", rest: "" };
    default:
      return appearance satisfies never;
  }
}

export const describeCost = (task: WireTask): string => (task.usage.usd > 0 ? formatUsd(task.usage.usd) : "");

/** `$4.10 of $5.00`, what the thread spent; empty when it has no budget. */
export function describeThreadBudget({ threadBudget }: WireTask): string {
  // A row that this device kept from an earlier version does not say.
  if (!threadBudget) return "";
  return `${formatUsd(threadBudget.spentUsd)} of ${formatUsd(threadBudget.limitUsd)}`;
}

/** The share of a budget from which the task tells of it (rule G6). */
const NEAR = 0.8;

export const isThreadBudgetNear = ({ threadBudget }: WireTask): boolean =>
  Boolean(threadBudget && threadBudget.spentUsd >= threadBudget.limitUsd * NEAR);

/** Whose move it is. */
export type Group = "needs" | "running" | "waiting" | "today" | "earlier";

const DAY = 24 * 60 * 60 * 1_000;

/** The tasks of others wait for them, not for the person who looks. */
export function getGroup(task: WireTask, now: number, person: Me | null): Group {
  const appearance = getAppearance(task);
  if (appearance === "awaiting" || appearance === "parked") return isOwn(task, person) ? "needs" : "waiting";
  if (appearance === "queued" || appearance === "retrying") return "waiting";
  if (!isSettled(task)) return "running";
  return now - Date.parse(task.settledAt ?? task.updatedAt) < DAY ? "today" : "earlier";
}
