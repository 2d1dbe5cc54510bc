/** The task: its states, what was asked for, and what the log has made of it so far. */
import type { Failure } from "./failure.ts";
import type { Budget, Limits, ScriptStep } from "./task-schema.ts";

export const TASK_STATES = [
  "queued",
  "provisioning",
  "running",
  "pushing",
  "retrying",
  "cancelling",
  "done",
  "failed",
  "cancelled",
] as const;
export type TaskState = (typeof TASK_STATES)[number];

export const OPEN_STATES = [
  "queued",
  "provisioning",
  "running",
  "pushing",
  "retrying",
  "cancelling",
] as const satisfies readonly TaskState[];

export const STEP_NAMES = ["mirror", "image", "container", "connect", "clone", "setup"] as const;
export type StepName = (typeof STEP_NAMES)[number];

/**
 * The clocks of a task in ms. Copied into the task when it is submitted, so that folding its log
 * again needs no configuration.
 */
export interface Policy {
  /** Longest wait in the queue. */
  readonly queueMs: number;
  /** Longest time in provisioning without a step or a sign that one goes on. */
  readonly progressMs: number;
  /** Longest time in provisioning in all. */
  readonly bootMs: number;
  /** Longest time in running without an event. */
  readonly silenceMs: number;
  /** Longest time in running in all; waiting for an answer does not count. */
  readonly wallMs: number;
  /** An open question frees the slot after this. */
  readonly parkMs: number;
  /** A parked question fails the task after this. */
  readonly answerMs: number;
  /** Longest try to push. */
  readonly pushMs: number;
  /** From the stop signal to the kill. */
  readonly graceMs: number;
  /** Longest time in cancelling; then it is settled anyway. */
  readonly cancelMs: number;
  /** First retry delay; doubles up to `backoffCapMs`, then full jitter. */
  readonly backoffMs: number;
  readonly backoffCapMs: number;
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;

export const DEFAULT_POLICY: Policy = {
  queueMs: DAY,
  progressMs: 120 * SECOND,
  bootMs: 15 * MINUTE,
  silenceMs: 10 * MINUTE,
  wallMs: 60 * MINUTE,
  parkMs: 10 * MINUTE,
  answerMs: 30 * DAY,
  pushMs: 6 * MINUTE,
  graceMs: 15 * SECOND,
  cancelMs: 30 * SECOND,
  backoffMs: 2 * SECOND,
  backoffCapMs: 5 * MINUTE,
};

export type { Budget, Limits, ScriptStep };
/** What a task may have at most: an operator's word. */
export type MaxLimits = { readonly [name in keyof Limits]-?: number };

export const EGRESS_POLICIES = ["none", "allowlist", "open"] as const;
export type Egress = (typeof EGRESS_POLICIES)[number];
/** How hard the model thinks, from quick and cheap to thorough. */
export const EFFORTS = ["low", "medium", "high", "max"] as const;
export type Effort = (typeof EFFORTS)[number];
/** The agents that need a model, and so a model key of the installation. */
export const MODEL_AGENTS = ["anthropic"] as const;
export const PULL_REQUEST_MODES = ["none", "draft", "ready"] as const;
export type PullRequestMode = (typeof PULL_REQUEST_MODES)[number];
export const RETRY_FROM = ["start", "checkpoint", "push"] as const;
export type RetryFrom = (typeof RETRY_FROM)[number];

/** What was asked for: written once, at submit, and never changed. */
export interface TaskSpec {
  readonly repo: string;
  /** The branch to start from; null for the upstream's default branch. */
  readonly base: string | null;
  /** The upstream branch that the work goes to. */
  readonly branch: string;
  readonly prompt: string;
  readonly title: string;
  readonly agent: string;
  readonly model: string | null;
  /** Null = the agent's own default. */
  readonly effort: Effort | null;
  readonly script: readonly ScriptStep[] | null;
  readonly budget: Budget;
  readonly limits: Limits;
  readonly egress: Egress;
  readonly pullRequest: PullRequestMode;
  /**
   * Canonical name of the sandbox image, "default" = Slipway's own; null or absent = as the
   * repository says.
   */
  readonly image?: string | null;
  /** Commands that the harness runs after the agent, in order; empty = as the repository says. */
  readonly verify: readonly string[];
  /** -10..10; larger goes first. */
  readonly priority: number;
  readonly maxAttempts: number;
  readonly from: RetryFrom;
  /**
   * What the upstream branch must point at when we push: null = must not exist (or be ours
   * already). Set for retries and follow-ups of a pushed task.
   */
  readonly expectSha: string | null;
}

export interface Step {
  readonly name: StepName;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly detail: string | null;
}

export interface Usage {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWriteTokens: number;
  readonly usd: number;
  readonly turns: number;
}
export const NO_USAGE: Usage = {
  inputTokens: 0,
  outputTokens: 0,
  cacheReadTokens: 0,
  cacheWriteTokens: 0,
  usd: 0,
  turns: 0,
};

export interface Question {
  readonly id: string;
  readonly question: string;
  readonly options: readonly string[] | null;
  readonly askedAt: number;
}

/**
 * A saved state of the work: the commit in the task repository and, with it, where the agent stood
 * (`cursor`, opaque to the coordinator).
 */
export interface Checkpoint {
  readonly sha: string;
  readonly cursor: string | null;
}

export interface PullRequest {
  readonly url: string;
  readonly number: number;
  readonly state: string;
}

/**
 * What the log has made of the task: the context of its chart (machines/task.ts). Everything here
 * is a function of the events alone.
 */
export interface TaskContext {
  readonly seq: number;
  /** The fence: grows by one each time the task enters provisioning. */
  readonly attempt: number;
  /** Attempts that do not count against `maxAttempts`: ended by infrastructure, or parked. */
  readonly excused: number;
  readonly maxAttempts: number;
  readonly policy: Policy;
  readonly wantsPullRequest: boolean;
  /** Where a retry resumes. */
  readonly resume: "provisioning" | "pushing";
  /** Failures in a row, for the backoff. */
  readonly streak: number;
  readonly pushTries: number;
  readonly resourceTries: number;
  readonly agentTries: number;
  readonly memoryFactor: number;
  /** Highest worker sequence number of this attempt that is in the log. */
  readonly workerSeq: number;
  readonly enteredAt: number;
  readonly activeAt: number;
  /** When the wall clock of running ends. */
  readonly wallAt: number | null;
  readonly dueAt: number | null;
  readonly forced: boolean;
  readonly steps: readonly Step[];
  readonly failure: Failure | null;
  readonly question: Question | null;
  readonly checkpoint: Checkpoint | null;
  /** The upstream branch that the work starts from, once it is known. */
  readonly base: string | null;
  readonly baseSha: string | null;
  readonly headSha: string | null;
  readonly report: { readonly title: string; readonly summary: string } | null;
  readonly outcome: "pushed" | "no_changes" | null;
  readonly pullRequest: PullRequest | null;
  readonly usage: Usage;
  /** The budget that people granted in place of the one asked for; absent until they did. */
  readonly granted?: Budget;
  readonly startedAt: number | null;
  readonly settledAt: number | null;
}

/**
 * The persistable form of the chart: plain JSON, the same bytes whenever the same log is folded.
 */
export interface Snapshot {
  readonly value: string | { readonly [state: string]: string };
  readonly context: TaskContext;
}

/** A task as the store keeps it. `seq` is at once the optimistic lock and the length of the log. */
export interface Task {
  readonly id: string;
  readonly userId: string;
  readonly threadId: string;
  readonly parentId: string | null;
  readonly spec: TaskSpec;
  readonly machineVersion: number;
  readonly snapshot: Snapshot;
  readonly state: TaskState;
  readonly seq: number;
  /** Grows with every commit over all tasks: the cursor of "which tasks changed". */
  readonly rev: number;
  readonly createdAt: number;
  readonly updatedAt: number;
}

export type WaitReason =
  | "concurrency"
  | "user_limit"
  | "sandbox_unavailable"
  | "disk_low"
  | "paused"
  | "model_rate_limited"
  | "budget";

/** Why a queued task waits, and how many are before it (0 = next). */
export interface Wait {
  readonly reason: WaitReason;
  readonly position: number;
}

export function isSettledState(state: TaskState): boolean {
  return state === "done" || state === "failed" || state === "cancelled";
}

/** The name that makes "create" idempotent: one sandbox per (task, attempt). */
export function sandboxName(taskId: string, attempt: number): string {
  return `slipway-${taskId}-a${attempt}`;
}

/** What `sandboxName` was made of; null for any other name. */
export function parseSandboxName(name: string): { readonly taskId: string; readonly attempt: number } | null {
  const [, taskId, attempt] = /^slipway-(.+)-a([1-9]\d{0,8})$/.exec(name) ?? [];
  return taskId === undefined ? null : { taskId, attempt: Number(attempt) };
}
