/**
 * The agent's append-only transcript, stored by the coordinator. A later attempt, or a follow-up
 * task, rebuilds the conversation from it.
 *
 * X1 Records are numbered 1, 2, 3, ... per task, without gaps or duplicates, and never change.
 * X2 Only the attempt that holds the task's slot writes. Inherited records come first, with attempt
 *    0.
 * X3 Appending the same record again changes nothing, so a client that got no answer retries.
 */
import { SlipwayError } from "../../error.ts";
import type { Page } from "../../lib/pagination.ts";

/**
 * Limits in UTF-8 bytes of JSON: one record, the whole transcript of a task, and one page of it
 * (which always holds at least one record).
 */
export const RECORD_BYTES = 1_000_000;
export const TRANSCRIPT_BYTES = 64_000_000;
export const TRANSCRIPT_PAGE_BYTES = 1_000_000;

export interface StoredRecord {
  readonly n: number;
  /** The attempt that wrote it; 0 = inherited. */
  readonly attempt: number;
  /** An object, as JSON. */
  readonly json: string;
}

export interface NewRecord extends StoredRecord {
  readonly taskId: string;
}

export type AppendResult =
  /**
   * Durable: written now, or `known` from an earlier call with the same attempt, number and bytes.
   */
  | { readonly kind: "appended" | "known" }
  /** Nothing was written: the number is not the next one, which is `last` + 1. */
  | { readonly kind: "elsewhere"; readonly last: number }
  /** Nothing was written: the task is settled, or this is not the attempt that holds its slot. */
  | { readonly kind: "stale" }
  /** Nothing was written: the transcript would exceed TRANSCRIPT_BYTES. */
  | { readonly kind: "full" };

/**
 * Part of the store; contract in test/contract/transcripts.ts. Writes are atomic and durable like
 * the store's other writes. A task that is created with NewTask.inherits begins with the whole
 * transcript of that task as it is then; records that several tasks have are stored once.
 */
export interface Transcripts {
  /** Appends by compare-and-swap on the record's number (X1, X2, X3). */
  appendRecord(record: NewRecord): Promise<AppendResult>;
  /**
   * Records after number `after` in order: at most `bytes` bytes of JSON, but at least one; empty
   * at the end.
   */
  records(taskId: string, after: number, bytes: number): Promise<StoredRecord[]>;
  /** The number of the last record; 0 = there is none. */
  lastRecord(taskId: string): Promise<number>;
  /**
   * Transcripts of tasks that settled before `settledBefore` (epoch ms), without those that another
   * task inherited from and still has, with the bytes of their own records; at most 1,000.
   */
  oldTranscripts(settledBefore: number): Promise<{ readonly taskId: string; readonly bytes: number }[]>;
  /**
   * Bytes of the records of a person's tasks after this one, in the order of their ids; records
   * that several tasks have count once.
   */
  transcriptSizes(
    userId: string,
    after: string | null,
  ): Promise<Page<{ readonly taskId: string; readonly bytes: number }>>;
  /**
   * Deletes the whole transcript of a settled task, unless another task inherited from it, also one
   * whose deletion has not ended. Idempotent; rejects for an open task.
   */
  dropTranscript(taskId: string): Promise<void>;
}

/**
 * The record's number is taken or too high: the writer does not know the whole transcript. `last`
 * is the number of the last record.
 */
export class TranscriptMoved extends SlipwayError {
  readonly last: number;

  constructor(last: number) {
    super(
      "transcript_moved",
      `The transcript ends at record ${last}. Read the records you do not have; the next number is ${last + 1}.`,
    );
    this.last = last;
  }
}
