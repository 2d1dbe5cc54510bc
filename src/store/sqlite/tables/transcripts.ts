/** Transcripts in SQLite, and in memory: the same contract. */
import type { Connection } from "../driver.ts";
import {
  TRANSCRIPT_BYTES,
  type AppendResult,
  type NewRecord,
  type StoredRecord,
} from "../../../core/ports/transcripts.ts";

/** The longest list of old ones. */
const OLD = 1_000;

interface Tail {
  readonly n: number;
  readonly total: number;
}
const NOTHING: Tail = { n: 0, total: 0 };

/**
 * What happens to a record, decided the same way in every store. @param known the stored record of
 * that number.
 */
function judge(record: NewRecord, tail: Tail, known: () => StoredRecord | undefined): AppendResult {
  if (record.n <= tail.n) {
    const before = known();
    const same = before?.attempt === record.attempt && before.json === record.json;
    return same ? { kind: "known" } : { kind: "elsewhere", last: tail.n };
  }
  if (record.n !== tail.n + 1) return { kind: "elsewhere", last: tail.n };
  return tail.total + Buffer.byteLength(record.json) > TRANSCRIPT_BYTES ? { kind: "full" } : { kind: "appended" };
}

export function transcriptReads(db: Connection) {
  const page = db.prepare<[string, number], StoredRecord>(
    "SELECT n, attempt, record AS json FROM transcripts WHERE task_id = ? AND n > ? ORDER BY n",
  );
  const last = db.prepare<[string], number | null>("SELECT max(n) FROM transcripts WHERE task_id = ?").pluck();
  const old = db.prepare<[number], { taskId: string; bytes: number }>(
    `SELECT r.task_id AS taskId, max(r.total) AS bytes FROM transcripts AS r JOIN tasks AS t ON t.id = r.task_id
     WHERE t.settled_at < ? GROUP BY r.task_id LIMIT ${OLD}`,
  );
  return {
    oldTranscripts: (settledBefore: number) => old.all(settledBefore),
    records(taskId: string, after: number, bytes: number): StoredRecord[] {
      const found: StoredRecord[] = [];
      let size = 0;
      for (const record of page.iterate(taskId, after)) {
        size += Buffer.byteLength(record.json);
        if (found.length > 0 && size > bytes) break;
        found.push(record);
      }
      return found;
    },
    lastRecord: (taskId: string): number => last.get(taskId) ?? 0,
  };
}

export function transcriptWrites(db: Connection) {
  const holder = db
    .prepare<[string, number], number>("SELECT 1 FROM tasks WHERE id = ? AND attempt = ? AND slot = 1")
    .pluck();
  const tail = db.prepare<[string], Tail>("SELECT n, total FROM transcripts WHERE task_id = ? ORDER BY n DESC LIMIT 1");
  const one = db.prepare<[string, number], StoredRecord>(
    "SELECT n, attempt, record AS json FROM transcripts WHERE task_id = ? AND n = ?",
  );
  const insert = db.prepare("INSERT INTO transcripts (task_id, n, attempt, total, record) VALUES (?, ?, ?, ?, ?)");
  const copy = db.prepare(
    `INSERT INTO transcripts (task_id, n, attempt, total, record)
     SELECT ?, n, 0, total, record FROM transcripts WHERE task_id = ? ORDER BY n`,
  );
  const drop = db.prepare("DELETE FROM transcripts WHERE task_id = ?");
  return {
    dropTranscript: (taskId: string): void => void drop.run(taskId),
    appendRecord(record: NewRecord): AppendResult {
      const { taskId, n, attempt, json } = record;
      if (holder.get(taskId, attempt) === undefined) return { kind: "stale" };
      const end = tail.get(taskId) ?? NOTHING;
      const result = judge(record, end, () => one.get(taskId, n));
      if (result.kind === "appended") insert.run(taskId, n, attempt, end.total + Buffer.byteLength(json), json);
      return result;
    },
    inherit(taskId: string, from: string): void {
      copy.run(taskId, from);
    },
  };
}

export class MemoryTranscripts {
  readonly #records = new Map<string, StoredRecord[]>();

  #of(taskId: string): readonly StoredRecord[] {
    return this.#records.get(taskId) ?? [];
  }

  /** @param holds true when the attempt holds the task's slot. */
  append(record: NewRecord, holds: boolean): AppendResult {
    if (!holds) return { kind: "stale" };
    const { taskId, n, attempt, json } = record;
    const before = this.#of(taskId);
    const total = before.reduce((sum, one) => sum + Buffer.byteLength(one.json), 0);
    const result = judge(record, { n: before.length, total }, () => before[n - 1]);
    if (result.kind === "appended") this.#records.set(taskId, [...before, { n, attempt, json }]);
    return result;
  }

  inherit(taskId: string, from: string): void {
    const inherited = this.#of(from).map((record) => ({ ...record, attempt: 0 }));
    this.#records.set(taskId, inherited);
  }

  records(taskId: string, after: number, bytes: number): StoredRecord[] {
    let size = 0;
    return this.#of(taskId)
      .slice(Math.max(0, after))
      .filter(({ json }, i) => (size += Buffer.byteLength(json)) <= bytes || i === 0);
  }

  /** Tasks that have one. */
  stock(): { taskId: string; bytes: number }[] {
    const sizeOf = (records: readonly StoredRecord[]): number =>
      records.reduce((sum, { json }) => sum + Buffer.byteLength(json), 0);
    return [...this.#records].map(([taskId, records]) => ({ taskId, bytes: sizeOf(records) }));
  }

  drop(taskId: string): void {
    this.#records.delete(taskId);
  }

  last(taskId: string): number {
    return this.#of(taskId).length;
  }
}
