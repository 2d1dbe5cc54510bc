/** The task: its states, its specification, and its context, which is computed from the log. */
import type { GuardChoice } from "./values/push-guard.ts";
import type { Failure } from "./failure.ts";
import type { Attachment } from "./values/attachment.ts";
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
 * The time limits of a task in ms. Copied into the task at submission, so that folding its log
 * again needs no configuration.
 */
export interface Policy {
  /** Maximum time in the queue. */
  readonly queueMs: number;
  /** Maximum time in provisioning without a new step or progress of one. */
  readonly progressMs: number;
  /** Maximum total time in provisioning. */
  readonly bootMs: number;
  /** Maximum time in running without an event. */
  readonly silenceMs: number;
  /**
   * Maximum total time in running; waiting for an answer does not count. Then the task asks for
   * more.
   */
  readonly wallMs: number;
  /** The slot is released when a question is open for this long. */
  readonly parkMs: number;
  /** The task fails when a parked question has no answer for this long. */
  readonly answerMs: number;
  /** Maximum time of one push. */
  readonly pushMs: number;
  /** Time between SIGTERM and SIGKILL. */
  readonly graceMs: number;
  /** Maximum time in cancelling; the task is settled after it in any case. */
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
/** The operator's upper bounds for the limits of a task. */
export type MaxLimits = { readonly [name in keyof Limits]-?: number };

export const EGRESS_POLICIES = ["none", "allowlist", "open"] as const;
export type Egress = (typeof EGRESS_POLICIES)[number];
/** Effort of the model, from quick and cheap to thorough. */
export const EFFORTS = ["low", "medium", "high", "xhigh", "max"] as const;
export type Effort = (typeof EFFORTS)[number];
/** Agents that need a model, and therefore a model key of the installation. */
export const MODEL_AGENTS = ["anthropic"] as const;
export const PULL_REQUEST_MODES = ["none", "draft", "ready"] as const;
export type PullRequestMode = (typeof PULL_REQUEST_MODES)[number];
export const RETRY_FROM = ["start", "checkpoint", "push"] as const;
export type RetryFrom = (typeof RETRY_FROM)[number];

/** The specification of a task: written at submission, never changed. */
export interface TaskSpec {
  readonly repo: string;
  /** The branch to start from; null for the upstream's default branch. */
  readonly base: string | null;
  /** The upstream branch that receives the work. */
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
   * Canonical name of the sandbox image; "default" = Slipway's own; null or absent = the
   * repository's setting.
   */
  readonly image?: string | null;
  /** Commands that the worker runs after the agent, in order; empty = the repository's setting. */
  readonly verify: readonly string[];
  /** -10..10; larger values are claimed first. */
  readonly priority: number;
  readonly maxAttempts: number;
  readonly from: RetryFrom;
  /**
   * The commit that the upstream branch must point at before the push; null = the branch must not
   * exist, unless this task pushed it. Set for retries and follow-ups of a pushed task.
   */
  readonly expectSha: string | null;
  /** The admin who began it in its owner's place; absent = the owner. */
  readonly submittedBy?: string;
  /** Merge the newest base into the branch before the work begins; absent = no. */
  readonly updateBase?: boolean;
  /** False = begin also when the upstream would refuse the push; absent = ask it first. */
  readonly checkPush?: boolean;
  /** Given with the prompt; absent = none. */
  readonly attachments?: readonly Attachment[];
  /** Given to earlier tasks of the thread, oldest first; absent = none. */
  readonly earlierAttachments?: readonly Attachment[];
  /** The model that reviews the change before it is delivered; absent = no review. */
  readonly reviewModel?: string;
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
 * A saved state of the work: a commit in the task repository and the agent's position (`cursor`,
 * opaque to the coordinator).
 */
export interface Checkpoint {
  readonly sha: string;
  readonly cursor: string | null;
}

/** Where the work of an attempt begins when that is not the saved work. */
export interface StartPoint {
  /** A commit of the upstream branch; null = the base. */
  readonly sha: string | null;
  /** The changes from `base` to `sha` are applied to it, uncommitted; null = none are. */
  readonly carry: { readonly base: string; readonly sha: string } | null;
}

export interface PullRequest {
  readonly url: string;
  readonly number: number;
  readonly state: string;
}

/** The context of the statechart (machines/task.ts): a function of the task's events alone. */
export interface TaskContext {
  readonly seq: number;
  /** The fence: incremented each time the task enters provisioning. */
  readonly attempt: number;
  /** Attempts that do not count against `maxAttempts`: ended by infrastructure or parked. */
  readonly excused: number;
  readonly maxAttempts: number;
  readonly policy: Policy;
  readonly wantsPullRequest: boolean;
  /** Where a retry resumes. */
  readonly resume: "provisioning" | "pushing";
  /** Consecutive failures, for the backoff. */
  readonly streak: number;
  readonly pushTries: number;
  readonly resourceTries: number;
  readonly agentTries: number;
  readonly memoryFactor: number;
  /** Highest worker sequence number of this attempt in the log. */
  readonly workerSeq: number;
  /** In provisioning, moved by the time that nobody could use. */
  readonly enteredAt: number;
  readonly activeAt: number;
  /** Deadline of the total time in running, epoch ms of the wall clock. */
  readonly wallAt: number | null;
  /** Deadline of the state, epoch ms of the wall clock. */
  readonly dueAt: number | null;
  readonly forced: boolean;
  readonly steps: readonly Step[];
  readonly failure: Failure | null;
  readonly question: Question | null;
  readonly checkpoint: Checkpoint | null;
  /**
   * The task of the thread whose pushed work this one continues in place of its parent's; absent
   * when that is the parent.
   */
  readonly continues?: string;
  /** The upstream branch that the work starts from; null until it is known. */
  readonly base: string | null;
  readonly baseSha: string | null;
  /** Of the current attempt; absent until an attempt had another start than the saved work. */
  readonly start?: StartPoint | null;
  /** A person's decision about a push that was held back; absent until then. */
  readonly guard?: { readonly questionId: string; readonly choice: GuardChoice };
  readonly headSha: string | null;
  readonly report: { readonly title: string; readonly summary: string } | null;
  readonly outcome: "pushed" | "no_changes" | null;
  readonly pullRequest: PullRequest | null;
  readonly usage: Usage;
  /** The budget that users granted in place of the submitted one; absent until then. */
  readonly granted?: Budget;
  /** Limit of the attempts from now on, ms, since minutes were granted; absent = the policy's. */
  readonly wallMs?: number;
  /**
   * How far the task's events are ahead of the wall clock after it was set back, ms; absent until
   * then.
   */
  readonly aheadMs?: number;
  readonly startedAt: number | null;
  readonly settledAt: number | null;
}

/** The stored form of the statechart: plain JSON, byte for byte the same for the same log. */
export interface Snapshot {
  readonly value: string | { readonly [state: string]: string };
  readonly context: TaskContext;
}

/** How far a task is, for lists: a projection of its log (src/store/shared/progress.ts). */
export interface TaskProgress {
  /** The agent's list; null before its first one. */
  readonly todo: { readonly done: number; readonly total: number; readonly current: string | null } | null;
  /** The size of the change at the last checkpoint. */
  readonly changes: { readonly files: number; readonly additions: number; readonly deletions: number } | null;
  /** What was last seen to happen, in words, and when (epoch ms); null until then. */
  readonly activity: { readonly at: number; readonly text: string } | null;
  /** The seq of the last event that its owner should see; 0 after an act of theirs, null = none. */
  readonly notable: number | null;
}
export const NO_PROGRESS: TaskProgress = { todo: null, changes: null, activity: null, notable: null };

/** A stored task. `seq` is the length of the log and the optimistic lock. */
export interface Task {
  readonly id: string;
  readonly userId: string;
  readonly threadId: string;
  readonly parentId: string | null;
  readonly spec: TaskSpec;
  readonly machineVersion: number;
  readonly snapshot: Snapshot;
  readonly progress: TaskProgress;
  readonly state: TaskState;
  readonly seq: number;
  /** Increases with every commit of any task: the cursor for changed tasks. */
  readonly rev: number;
  readonly createdAt: number;
  readonly updatedAt: number;
  /**
   * Set when this version cannot read the row: `state` and `snapshot` then are those of a failed
   * task, the row stays as it is, and nothing is recorded. Absent for every other task.
   */
  readonly setAside?: SetAside;
}

export interface SetAside {
  /** For operators, continues "the task is set aside: ". */
  readonly reason: string;
  /** False = what was submitted cannot be read either. */
  readonly hasSpec: boolean;
}

export type WaitReason =
  | "concurrency"
  | "user_limit"
  | "thread_busy"
  | "sandbox_unavailable"
  | "disk_low"
  | "paused"
  | "model_rate_limited"
  | "budget";

/** Why a queued task waits, and how many tasks are ahead of it (0 = next). */
export interface Wait {
  readonly reason: WaitReason;
  readonly position: number;
}

export function isSettledState(state: TaskState): boolean {
  return state === "done" || state === "failed" || state === "cancelled";
}

/** The sandbox's name: derived, so that creating the sandbox of an attempt is idempotent. */
export function sandboxName(taskId: string, attempt: number): string {
  return `slipway-${taskId}-a${attempt}`;
}

/** The inverse of `sandboxName`; null for any other name. */
export function parseSandboxName(name: string): { readonly taskId: string; readonly attempt: number } | null {
  const [, taskId, attempt] = /^slipway-(.+)-a([1-9]\d{0,8})$/.exec(name) ?? [];
  return taskId === undefined ? null : { taskId, attempt: Number(attempt) };
}
