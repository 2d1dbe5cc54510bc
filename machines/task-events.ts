/** The types of the task's chart: events, input, and the meta of its states. */
import type { GuardChoice } from "../src/core/values/push-guard.ts";
import type { FailureCode } from "../src/core/failure.ts";
import type {
  Budget,
  Checkpoint,
  Policy,
  PullRequest,
  RetryFrom,
  StartPoint,
  StepName,
  Usage,
} from "../src/core/task.ts";

/** A failure as the retry policy sees it. */
export interface AttemptFault {
  readonly code: FailureCode;
  readonly detail: string | null;
  readonly evidence: string | null;
  /** 0..1, drawn by the coordinator. */
  readonly jitter: number;
  /** Wait asked for by the other side in ms, or null. */
  readonly retryAfterMs: number | null;
  /** True: an infrastructure failure that uses up an attempt (P1 of retry-policy.ts). */
  readonly counted: boolean;
}

/**
 * The effect of a state (src/coordinator/effects/). `claim` is the scheduler's; `retire` clears a
 * settled task.
 */
export type StateEffect = "claim" | "provision" | "supervise" | "park" | "push" | "wait" | "kill" | "retire";

export interface StateMeta {
  readonly drive: StateEffect;
  /** The state occupies one of the slots that `SLIPWAY_MAX_CONCURRENT` counts. */
  readonly slot: boolean;
}

interface Stamp {
  readonly seq: number;
  readonly at: number;
  readonly workerSeq: number | null;
}

/** What a notice of lost time carries for the chart. */
export interface LostTime {
  /** Ms that deadlines move by; negative when the wall clock was set back. */
  readonly lostMs: number;
  /** No deadline of work passes earlier than this after the event, ms. */
  readonly graceMs: number;
  /** How far the task's events are ahead of the wall clock from now on, ms. */
  readonly aheadMs: number;
}

/** Result of the mirror step. */
export interface ResolvedBase {
  readonly base: string;
  readonly baseSha: string;
  /** Absent or null = the saved work, or the base where there is none. */
  readonly start?: StartPoint | null;
}

/** Pushed work of another task of the thread, from which a task begins. */
export interface Continuation {
  readonly taskId: string;
  readonly checkpoint: Checkpoint;
}

/** An event of the chart (stored-events.ts derives it from the stored event). */
export type TaskMachineEvent = Stamp &
  (
    | {
        readonly type: "claimed";
        /** Newer work of the thread than the parent's; null = the parent's. */
        readonly continues: Continuation | null;
      }
    | {
        readonly type: "step";
        readonly name: StepName;
        readonly status: "started" | "ended";
        readonly detail: string | null;
        readonly found: ResolvedBase | null;
        /** Set for a quick step, which is recorded only at its end. */
        readonly startedAt: number | null;
      }
    | { readonly type: "ready" }
    | { readonly type: "note" }
    | ({ readonly type: "time_lost" } & LostTime)
    | { readonly type: "progress" }
    | { readonly type: "usage"; readonly usage: Usage }
    | { readonly type: "checkpoint"; readonly checkpoint: Checkpoint }
    | {
        readonly type: "question";
        readonly id: string;
        readonly question: string;
        readonly options: readonly string[] | null;
        /** The attempt is over, so the task does not keep its slot while it waits. */
        readonly parks: boolean;
      }
    | {
        readonly type: "answer";
        readonly questionId: string;
        /** `stop` = the person wants the task to end. */
        readonly decision: "continue" | "stop";
        /** Of a push that was held back. */
        readonly choice: GuardChoice | null;
        /** The new budget; null = unchanged. */
        readonly granted: Budget | null;
      }
    | {
        readonly type: "finished";
        readonly sha: string;
        readonly changed: boolean;
        readonly title: string;
        readonly summary: string;
      }
    | ({ readonly type: "failed" } & AttemptFault)
    | { readonly type: "push"; readonly sha: string }
    | ({ readonly type: "pull_request" } & PullRequest)
    | { readonly type: "cancel"; readonly force: boolean }
    | { readonly type: "stopped" }
    | { readonly type: "timed_out"; readonly jitter: number }
    | { readonly type: "yielded" }
  );

/** The input of the chart, from `task.submitted`. */
export interface TaskInput {
  readonly at: number;
  readonly maxAttempts: number;
  readonly policy: Policy;
  readonly wantsPullRequest: boolean;
  readonly from: RetryFrom;
  /** Work that an earlier task of the thread saved; null for a fresh start. */
  readonly checkpoint: Checkpoint | null;
  readonly base: string | null;
  readonly baseSha: string | null;
  readonly headSha: string | null;
  readonly report: { readonly title: string; readonly summary: string } | null;
}

export type EventOf<T extends TaskMachineEvent["type"]> = Extract<TaskMachineEvent, { type: T }>;
