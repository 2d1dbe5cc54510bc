/** The broker port and the callbacks that the coordinator implements for it. */
import type { BudgetStanding } from "../budget.ts";
import type { GcMode, Garbage, IsNeeded } from "../lib/garbage.ts";
import type { WorkerAck, WorkerBatch, WorkerCommand, WorkerSpec } from "../protocol/worker.ts";
import type { StoredRecord } from "./transcripts.ts";
import type { ModelUsage } from "./usage-ledger.ts";
import type { EgressPolicy } from "../values/egress-policy.ts";

export interface BrokerEndpoint {
  readonly socketDir: string;
  readonly token: string;
}

/** One listener per attempt: the only door that a worker sees. */
export interface Broker {
  /**
   * Idempotent; after a restart the same attempt gets the same address and token, so that a running
   * worker reconnects.
   */
  open(taskId: string, attempt: number): Promise<BrokerEndpoint>;
  /** Refuses everything from then on. Idempotent. */
  revoke(taskId: string, attempt: number): Promise<void>;
  /** What a crash left of attempts that are over. Never touches one that is open. */
  reclaim(wanted: IsNeeded, mode: GcMode): Promise<Garbage[]>;
  close(): Promise<void>;
}

/**
 * The verbs behind the worker protocol (implemented by src/coordinator/services/worker.ts, called
 * by the broker and by the in-process link of simulated workers). All throw `stale_attempt` once
 * the attempt is over, and all but that count as a sign of life.
 */
export interface WorkerApi extends TranscriptApi {
  /** Waits until the attempt's repository is ready; rejects with the signal's reason. */
  spec(taskId: string, attempt: number, signal: AbortSignal): Promise<WorkerSpec>;
  /**
   * Resolves after the batch is durable. Resent events are dropped. Throws `sequence_gap` (a
   * SequenceGap with `ack`) on a hole; nothing was written then.
   * @param bytes size of the batch as JSON.
   */
  accept(taskId: string, batch: WorkerBatch, bytes: number): Promise<WorkerAck>;
  /**
   * After the gateway refused a request for the budget. A question that is due is open when it
   * resolves.
   */
  budget(taskId: string, attempt: number): Promise<BudgetStanding>;
  /** Commands with id > after; waits up to `waitMs` for the first. */
  commands(
    taskId: string,
    attempt: number,
    after: number,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<WorkerCommand[]>;
}

/**
 * The verbs behind the worker's transcript. Like those of WorkerDesk they throw `stale_attempt`
 * once the attempt is over.
 */
export interface TranscriptApi {
  /** One page after record `after`; empty at the end. */
  transcript(taskId: string, attempt: number, after: number): Promise<readonly StoredRecord[]>;
  /**
   * Resolves when the record is durable; idempotent.
   * Throws TranscriptMoved when the number is not the next one, `payload_too_large` and
   * `transcript_full`: nothing was written then.
   */
  append(taskId: string, record: StoredRecord): Promise<void>;
}

/** What is left for one request, and where its end is told. */
export interface Admission {
  /**
   * Told as the answer passes, with what it cost up to now (US dollars).
   * @returns null, or why the answer is to be cut off: a budget is used up by it.
   */
  update(usd: number): string | null;
  /**
   * Books the request and tells the task. Idempotent: the first call counts. Resolves when it is
   * durable.
   */
  settle(end: Omit<ModelUsage, "id" | "taskId" | "userId" | "attempt" | "at">): Promise<void>;
  /**
   * The request never reached the provider, or was refused there: it cost nothing. Idempotent;
   * nothing after `settle`.
   */
  cancel(): Promise<void>;
}

/** What the model gateway asks before each request. */
export interface ModelBudget {
  /**
   * @param usd the least that the request will cost.
   * @throws SlipwayError `stale_attempt` when the attempt is over, `budget_exceeded` when there is
   * nothing left to spend: nothing was booked.
   */
  admit(taskId: string, attempt: number, model: string, usd: number): Promise<Admission>;
}

/** What the broker asks before each connection, and tells after a refusal. */
export interface EgressApi {
  /** @throws SlipwayError `stale_attempt` when the attempt is over. */
  policy(taskId: string, attempt: number): Promise<EgressPolicy>;
  /** The owner sees it as a notice, once per place and attempt. Never rejects. */
  reportRefusal(taskId: string, attempt: number, place: string, why: string): void;
}

/** What the broker of an attempt asks and tells. */
export interface BrokerCallbacks {
  readonly worker: WorkerApi;
  readonly model: ModelBudget;
  readonly egress: EgressApi;
}
