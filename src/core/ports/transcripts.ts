/**
 * The agent's append-only memory, kept by the coordinator: what a later attempt, or a task that
 * goes on from this one, is built from.
 *
 * X1 Records are numbered 1, 2, 3, ... per task, without hole or double, and never change.
 * X2 Only the attempt that holds the task's slot writes. What was inherited stands first, as of
 *    attempt 0.
 * X3 The same record again is no second one: whoever heard no answer sends it again.
 */
import { SlipwayError } from "../error.ts";

/**
 * UTF-8 bytes of JSON: of one record, of a task's whole transcript, and of one page of it (which
 * holds at least one record).
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
  /** Durable now, or since an earlier call with the same attempt, number and bytes. */
  | { readonly kind: "appended" | "known" }
  /** Nothing was written: the next record is `last` + 1. */
  | { readonly kind: "elsewhere"; readonly last: number }
  /** Nothing was written: the task is settled, or this is not the attempt that holds its slot. */
  | { readonly kind: "stale" }
  /** Nothing was written: there would be more than TRANSCRIPT_BYTES. */
  | { readonly kind: "full" };

/**
 * Part of the store; contract in test/contract/transcripts.ts. Atomic and durable like its other
 * writes; NewTask.inherits copies a whole transcript.
 */
export interface Transcripts {
  /** Compare-and-swap on the number. */
  appendRecord(record: NewRecord): Promise<AppendResult>;
  /**
   * Records after number `after` in order: at most `bytes` bytes of JSON, but at least one; empty
   * at the end.
   */
  records(taskId: string, after: number, bytes: number): Promise<StoredRecord[]>;
  /** The number of the last record; 0 = there is none. */
  lastRecord(taskId: string): Promise<number>;
  /** Transcripts of tasks that settled before that moment (epoch ms); at most 1,000. */
  oldTranscripts(settledBefore: number): Promise<{ readonly taskId: string; readonly bytes: number }[]>;
  /**
   * Forgets the whole transcript of a settled task; idempotent. That of an open one is kept:
   * rejects.
   */
  dropTranscript(taskId: string): Promise<void>;
}

/**
 * A record under a number that is taken or too high: its writer does not know the whole transcript.
 */
export class TranscriptMoved extends SlipwayError {
  readonly last: number;

  constructor(last: number) {
    super(
      "transcript_moved",
      `The transcript ends at record ${last}. Read what you do not know; the next one is ${last + 1}.`,
    );
    this.last = last;
  }
}
