/** Transcripts in SQLite. */
import type { Connection } from "../driver.ts";
import type { AppendResult, NewRecord, StoredRecord } from "../../../core/ports/transcripts.ts";
import { checkSequence, EMPTY_TRANSCRIPT, type TranscriptTail } from "../../append.ts";

/** Most transcripts that one call of `oldTranscripts` returns. */
const MAX_OLD = 1_000;

export function transcriptReads(db: Connection) {
  const page = db.prepare<[string, number], StoredRecord>(
    "SELECT n, attempt, record AS json FROM transcripts WHERE task_id = ? AND n > ? ORDER BY n",
  );
  const last = db.prepare<[string], number | null>("SELECT max(n) FROM transcripts WHERE task_id = ?").pluck();
  const old = db.prepare<[number], { taskId: string; bytes: number }>(
    `SELECT r.task_id AS taskId, max(r.total) AS bytes FROM transcripts AS r JOIN tasks AS t ON t.id = r.task_id
     WHERE t.settled_at < ? GROUP BY r.task_id LIMIT ${MAX_OLD}`,
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
  const selectTail = db.prepare<[string], TranscriptTail>(
    "SELECT n, total FROM transcripts WHERE task_id = ? ORDER BY n DESC LIMIT 1",
  );
  const selectRecord = db.prepare<[string, number], StoredRecord>(
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
      const tail = selectTail.get(taskId) ?? EMPTY_TRANSCRIPT;
      const result = checkSequence(record, tail, () => selectRecord.get(taskId, n));
      if (result.kind === "appended") insert.run(taskId, n, attempt, tail.total + Buffer.byteLength(json), json);
      return result;
    },
    inherit(taskId: string, from: string): void {
      copy.run(taskId, from);
    },
  };
}
