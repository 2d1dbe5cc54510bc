/** Transcripts in memory. */
import type { AppendResult, NewRecord, StoredRecord } from "../../core/ports/transcripts.ts";
import { checkSequence } from "../append.ts";

const totalBytes = (records: readonly StoredRecord[]): number =>
  records.reduce((sum, { json }) => sum + Buffer.byteLength(json), 0);

export class MemoryTranscripts {
  readonly #records = new Map<string, StoredRecord[]>();

  /** @param holdsSlot true when the record's attempt holds the task's slot. */
  append(record: NewRecord, holdsSlot: boolean): AppendResult {
    if (!holdsSlot) return { kind: "stale" };
    const { taskId, n, attempt, json } = record;
    const stored = this.#get(taskId);
    const tail = { n: stored.length, total: totalBytes(stored) };
    const result = checkSequence(record, tail, () => stored[n - 1]);
    if (result.kind === "appended") this.#records.set(taskId, [...stored, { n, attempt, json }]);
    return result;
  }

  /** Copies the whole transcript of `from`, as records of attempt 0. */
  inherit(taskId: string, from: string): void {
    const inherited = this.#get(from).map((record) => ({ ...record, attempt: 0 }));
    this.#records.set(taskId, inherited);
  }

  records(taskId: string, after: number, bytes: number): StoredRecord[] {
    let size = 0;
    return this.#get(taskId)
      .slice(Math.max(0, after))
      .filter(({ json }, i) => (size += Buffer.byteLength(json)) <= bytes || i === 0);
  }

  sizes(): { taskId: string; bytes: number }[] {
    return [...this.#records].map(([taskId, records]) => ({ taskId, bytes: totalBytes(records) }));
  }

  drop(taskId: string): void {
    this.#records.delete(taskId);
  }

  last(taskId: string): number {
    return this.#get(taskId).length;
  }

  #get(taskId: string): readonly StoredRecord[] {
    return this.#records.get(taskId) ?? [];
  }
}
