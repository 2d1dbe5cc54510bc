/** The rule by which a transcript record is accepted, shared by every store. */
import {
  TRANSCRIPT_BYTES,
  type AppendResult,
  type NewRecord,
  type StoredRecord,
} from "../../core/ports/records/transcripts.ts";

/** The end of one task's transcript. */
export interface TranscriptTail {
  /** Number of the last record; 0 when there is none. */
  readonly n: number;
  /** UTF-8 bytes of all records. */
  readonly total: number;
}

export const EMPTY_TRANSCRIPT: TranscriptTail = { n: 0, total: 0 };

/**
 * Checks a record against the end of the transcript; the caller writes it only for `appended`.
 * @param readStored reads the stored record with the number of `record`; called only when that
 * number is already taken.
 */
export function checkSequence(
  record: NewRecord,
  tail: TranscriptTail,
  readStored: () => StoredRecord | undefined,
): AppendResult {
  if (record.n <= tail.n) {
    const stored = readStored();
    const same = stored?.attempt === record.attempt && stored.json === record.json;
    return same ? { kind: "known" } : { kind: "elsewhere", last: tail.n };
  }
  if (record.n !== tail.n + 1) return { kind: "elsewhere", last: tail.n };
  return tail.total + Buffer.byteLength(record.json) > TRANSCRIPT_BYTES ? { kind: "full" } : { kind: "appended" };
}
