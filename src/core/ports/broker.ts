/** The broker port and the callbacks that the coordinator implements for it. */
import type { BudgetStanding } from "../budget.ts";
import type { GcMode, Garbage, IsNeeded } from "../lib/garbage.ts";
import type {
  TranscriptAppend,
  WorkerAck,
  WorkerBatch,
  WorkerCommand,
  WorkerSpec,
  WorkerVariables,
} from "../protocol/worker.ts";
import type { Finding } from "../values/push-guard.ts";
import type { OpenedAttachment } from "./files/attachments.ts";
import type { OpenedSetup, SetupSaved } from "./files/setup-caches.ts";
import type { StoredRecord } from "./records/transcripts.ts";
import type { ModelUsage } from "./records/usage-ledger.ts";
import type { EgressPolicy } from "../values/egress-policy.ts";

export interface BrokerEndpoint {
  readonly socketDir: string;
  readonly token: string;
}

/**
 * One listener per attempt: the only address that a worker can reach. Lifecycle: open -> revoke;
 * `close` ends every listener when the process stops.
 */
export interface Broker {
  /**
   * Starts the listener. Idempotent, across restarts too: an attempt keeps its address and token,
   * so a running worker reconnects.
   */
  open(taskId: string, attempt: number): Promise<BrokerEndpoint>;
  /** Closes the listener and invalidates the token. Idempotent. */
  revoke(taskId: string, attempt: number): Promise<void>;
  /** Removes what crashes left of attempts that are over; open listeners are never touched. */
  reclaim(isNeeded: IsNeeded, mode: GcMode): Promise<Garbage[]>;
  close(): Promise<void>;
}

/**
 * The server side of the worker protocol, implemented by src/coordinator/services/worker.ts. The
 * broker calls it, and so does the in-process link of simulated workers. Every method throws
 * SlipwayError `stale_attempt` once the attempt is over; every other call counts as a sign of life.
 */
export interface WorkerApi extends TranscriptApi {
  /** Waits until the attempt's repository is ready; rejects with the signal's reason. */
  spec(taskId: string, attempt: number, signal: AbortSignal): Promise<WorkerSpec>;
  /**
   * Resolves when the batch is durable. Idempotent: events that were accepted before are dropped.
   * Throws SequenceGap, without writing anything, when events are missing before the batch.
   * @param bytes size of the batch as JSON.
   */
  accept(taskId: string, batch: WorkerBatch, bytes: number): Promise<WorkerAck>;
  /** What an earlier setup made that this one would make again; null = nothing is kept. */
  openSetup(taskId: string, attempt: number, signal: AbortSignal): Promise<OpenedSetup | null>;
  /** Keeps what the setup made, while the attempt is in it. Rejects when the content breaks off. */
  saveSetup(
    taskId: string,
    attempt: number,
    content: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<SetupSaved>;
  /** The variables of the attempt's commands in its present phase. */
  variables(taskId: string, attempt: number): Promise<WorkerVariables>;
  /**
   * Called after the gateway refused a request because of the budget. When a question is due, it is
   * open before this resolves.
   */
  budget(taskId: string, attempt: number): Promise<BudgetStanding>;
  /**
   * What the guard finds in a commit of the task repository. Empty for an unknown commit, and after
   * too many calls of one attempt: the push is looked at again in any case.
   */
  inspect(taskId: string, attempt: number, sha: string, signal: AbortSignal): Promise<readonly Finding[]>;
  /** An attachment that the task was given. Throws SlipwayError `not_found` for any other. */
  attachment(taskId: string, attempt: number, id: string): Promise<OpenedAttachment>;
  /**
   * Commands with an id above `after`, in order. Waits up to `waitMs` for the first one, then
   * returns an empty list.
   */
  commands(
    taskId: string,
    attempt: number,
    after: number,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<WorkerCommand[]>;
}

/** The transcript methods of the worker protocol; `stale_attempt` as in WorkerApi. */
export interface TranscriptApi {
  /** One page of the records after number `after`; empty at the end. */
  transcript(taskId: string, attempt: number, after: number): Promise<readonly StoredRecord[]>;
  /**
   * Resolves when the record is durable, without secrets. Idempotent for the same number and bytes.
   * Throws, without writing anything, TranscriptMoved when the number is not the next one, or
   * SlipwayError `payload_too_large` or `transcript_full`.
   */
  append(taskId: string, sent: TranscriptAppend): Promise<void>;
}

/** One admitted model request: the caller reports its cost and then calls `settle` or `cancel`. */
export interface Admission {
  /**
   * Reports the cost while the answer is forwarded, US dollars: of what has passed, and the most
   * that the request can still cost in all, which is what it holds of its budgets from now on.
   * @returns the reason to cut the answer off because it uses up a budget, or null.
   */
  update(cost: { readonly usd: number; readonly mostUsd: number }): string | null;
  /**
   * Records the usage and emits it to the task's log. Idempotent: only the first call counts.
   * Resolves when the usage is durable.
   */
  settle(end: Omit<ModelUsage, "id" | "taskId" | "userId" | "attempt" | "at">): Promise<void>;
  /**
   * Releases a request that cost nothing: it never reached the provider, or was refused there.
   * Idempotent; without effect after `settle`.
   */
  cancel(): Promise<void>;
}

/** The budget check of the model gateway. */
export interface ModelBudget {
  /**
   * Called before each request. Resolves once its reservation is durable: what was not recorded is
   * not sent. A request that does not fit beside those under way waits for them.
   * @param mostUsd the most that the request can cost, which it reserves.
   * @throws SlipwayError `stale_attempt` when the attempt is over or the task is being cancelled,
   * `budget_exceeded` when the budget is used up, `rate_limited` when others held what is left of
   * it for too long; nothing is recorded then.
   */
  admit(taskId: string, attempt: number, model: string, mostUsd: number, signal?: AbortSignal): Promise<Admission>;
  /**
   * Called before each request that costs nothing.
   * @throws SlipwayError `stale_attempt` as `admit` does.
   */
  admitFree(taskId: string, attempt: number): Promise<void>;
}

/** The egress check of the broker's CONNECT proxy. */
export interface EgressApi {
  /**
   * The policy at this moment; called before each connection, so that changes of the lists apply at
   * once. @throws SlipwayError `stale_attempt` when the attempt is over.
   */
  policy(taskId: string, attempt: number): Promise<EgressPolicy>;
  /**
   * Records a notice for the owner, once per endpoint and attempt. Returns at once and never
   * throws.
   */
  reportRefusal(taskId: string, attempt: number, endpoint: string, reason: string): void;
  /**
   * Counts bytes that are about to pass, in either direction; 0 asks whether any may. To be called
   * once `policy` has resolved. The first refusal of an attempt is a notice for the owner. Never
   * throws.
   * @returns why neither these bytes nor any later ones may pass; null = they may.
   */
  spend(taskId: string, attempt: number, bytes: number): string | null;
  /** @param listener called after each change of a list. */
  onChange(listener: () => void): void;
}

/** Removes the secrets of a task from what its agent sends to the model. */
export interface SecretRemoval {
  /** Null = there is nothing to remove. */
  redactorOf(taskId: string): Promise<{ redactValue(value: unknown): unknown } | null>;
}

/** The services that the broker calls. */
export interface BrokerCallbacks {
  readonly worker: WorkerApi;
  readonly model: ModelBudget;
  readonly egress: EgressApi;
  readonly secrets: SecretRemoval;
}
