/**
 * Transcripts in SQLite. A task that continues another one refers to its records instead of copying
 * them: `transcript_origins` lists, in order, whose records come first. Before a task is deleted,
 * one of those that refer to its records gets copies and is their owner from then on. (Rows of
 * attempt 0 without an origin are copies that an earlier version made.)
 */
import type { Connection } from "../driver.ts";
import type { AppendResult, NewRecord, StoredRecord } from "../../../core/ports/records/transcripts.ts";
import { checkSequence, EMPTY_TRANSCRIPT, type TranscriptTail } from "../../shared/append.ts";

/** Most transcripts that one call of `oldTranscripts` returns. */
const MAX_OLD = 1_000;
/** Tasks in a page of `transcriptSizes`: a page takes a few ms. */
const SIZES_PAGE = 500;

/** The records `after` + 1 to `upto` of a transcript are those of `owner`. */
interface Part {
  readonly owner: string;
  readonly after: number;
  readonly upto: number;
}

/** What a task inherited, then its own records. */
function partsOf(db: Connection): (taskId: string) => Part[] {
  const origins = db.prepare<[string], Part>(
    "SELECT owner, after, upto FROM transcript_origins WHERE task_id = ? ORDER BY upto",
  );
  return (taskId) => {
    const inherited = origins.all(taskId);
    return [...inherited, { owner: taskId, after: inherited.at(-1)?.upto ?? 0, upto: Number.MAX_SAFE_INTEGER }];
  };
}

function tailOf(db: Connection): (taskId: string) => TranscriptTail {
  const own = db.prepare<[string], TranscriptTail>(
    "SELECT n, total FROM transcripts WHERE task_id = ? ORDER BY n DESC LIMIT 1",
  );
  const inherited = db.prepare<[string], TranscriptTail>(
    "SELECT upto AS n, total FROM transcript_origins WHERE task_id = ? ORDER BY upto DESC LIMIT 1",
  );
  return (taskId) => {
    const [mine = EMPTY_TRANSCRIPT, theirs = EMPTY_TRANSCRIPT] = [own.get(taskId), inherited.get(taskId)];
    return mine.n > theirs.n ? mine : theirs;
  };
}

export function transcriptReads(db: Connection) {
  const parts = partsOf(db);
  const tail = tailOf(db);
  const page = db.prepare<[string, number, number], StoredRecord>(
    "SELECT n, attempt, record AS json FROM transcripts WHERE task_id = ? AND n > ? AND n <= ? ORDER BY n",
  );
  const old = db.prepare<[number], { taskId: string; bytes: number }>(
    `SELECT t.id AS taskId, max(0, coalesce((SELECT max(total) FROM transcripts WHERE task_id = t.id), 0)
       - coalesce((SELECT max(total) FROM transcript_origins WHERE task_id = t.id), 0)) AS bytes
     FROM (SELECT task_id FROM transcripts UNION SELECT task_id FROM transcript_origins) AS h
     JOIN tasks AS t ON t.id = h.task_id
     WHERE t.settled_at < ? AND NOT EXISTS (
       SELECT 1 FROM transcript_origins AS o WHERE o.owner = t.id AND o.task_id <> t.id
     )
     LIMIT ${MAX_OLD}`,
  );
  const sizes = db.prepare<[string, string], { taskId: string; bytes: number }>(
    `SELECT t.id AS taskId,
       max(0, coalesce((SELECT total FROM transcripts WHERE task_id = t.id ORDER BY n DESC LIMIT 1), 0)
         - coalesce((SELECT total FROM transcript_origins WHERE task_id = t.id ORDER BY upto DESC LIMIT 1), 0)) AS bytes
     FROM tasks AS t INDEXED BY tasks_user WHERE t.user_id = ? AND t.id > ? ORDER BY t.id LIMIT ${SIZES_PAGE + 1}`,
  );
  return {
    transcriptSizes(userId: string, after: string | null) {
      const found = sizes.all(userId, after ?? "");
      return { items: found.slice(0, SIZES_PAGE), more: found.length > SIZES_PAGE };
    },
    oldTranscripts: (settledBefore: number) => old.all(settledBefore),
    records(taskId: string, after: number, bytes: number): StoredRecord[] {
      const found: StoredRecord[] = [];
      let size = 0;
      for (const { owner, after: before, upto } of parts(taskId)) {
        if (upto <= after) continue;
        for (const record of page.iterate(owner, Math.max(after, before), upto)) {
          size += Buffer.byteLength(record.json);
          if (found.length > 0 && size > bytes) return found;
          found.push(owner === taskId ? record : { ...record, attempt: 0 });
        }
      }
      return found;
    },
    lastRecord: (taskId: string): number => tail(taskId).n,
  };
}

export function transcriptWrites(db: Connection) {
  const parts = partsOf(db);
  const tail = tailOf(db);
  const holder = db
    .prepare<[string, number], number>("SELECT 1 FROM tasks WHERE id = ? AND attempt = ? AND slot = 1")
    .pluck();
  const selectRecord = db.prepare<[string, number], StoredRecord>(
    "SELECT n, attempt, record AS json FROM transcripts WHERE task_id = ? AND n = ?",
  );
  const insert = db.prepare("INSERT INTO transcripts (task_id, n, attempt, total, record) VALUES (?, ?, ?, ?, ?)");
  const inheritOrigins = db.prepare(
    `INSERT INTO transcript_origins (task_id, owner, after, upto, total)
     SELECT ?, owner, after, upto, total FROM transcript_origins WHERE task_id = ?`,
  );
  const inheritOwn = db.prepare<[string, string, number, number, number]>(
    "INSERT INTO transcript_origins (task_id, owner, after, upto, total) VALUES (?, ?, ?, ?, ?)",
  );
  const isOpen = db
    .prepare<[string], number>("SELECT 1 FROM tasks WHERE id = ? AND state NOT IN ('done', 'failed', 'cancelled')")
    .pluck();
  const isInherited = db
    .prepare<[string], number>("SELECT 1 FROM transcript_origins WHERE owner = ? AND task_id <> owner LIMIT 1")
    .pluck();
  const dropOrigins = db.prepare("DELETE FROM transcript_origins WHERE task_id = ?");
  const drop = db.prepare("DELETE FROM transcripts WHERE task_id = ?");

  function find(taskId: string, n: number): StoredRecord | undefined {
    const part = parts(taskId).find(({ after, upto }) => n > after && n <= upto);
    const record = part === undefined ? undefined : selectRecord.get(part.owner, n);
    return record === undefined || part?.owner === taskId ? record : { ...record, attempt: 0 };
  }

  return {
    dropTranscript(taskId: string): void {
      if (isOpen.get(taskId) !== undefined)
        throw new Error(`the transcript of the open task ${taskId} cannot be dropped`);
      if (isInherited.get(taskId) !== undefined) return;
      dropOrigins.run(taskId);
      drop.run(taskId);
    },
    appendRecord(record: NewRecord): AppendResult {
      const { taskId, n, attempt, json } = record;
      if (holder.get(taskId, attempt) === undefined) return { kind: "stale" };
      const end = tail(taskId);
      const result = checkSequence(record, end, () => find(taskId, n));
      if (result.kind === "appended") insert.run(taskId, n, attempt, end.total + Buffer.byteLength(json), json);
      return result;
    },
    inherit(taskId: string, from: string): void {
      inheritOrigins.run(taskId, from);
      const after = parts(from).at(-1)?.after ?? 0;
      const { n, total } = tail(from);
      if (n > after) inheritOwn.run(taskId, from, after, n, total);
    },
  };
}

/** Most rows and bytes that one write hands over. */
const ROWS = 1_000;
const BYTES = 4 * 2 ** 20;

/**
 * Before a task is deleted: what tasks that stay have inherited from it becomes the property of one
 * of them. @returns a function that hands over some records; true when none are left.
 */
export function transcriptHeirs(db: Connection): (owner: string) => boolean {
  const heirs = db.prepare<[string], { taskId: string; after: number; upto: number }>(
    `SELECT o.task_id AS taskId, o.after, o.upto FROM transcript_origins AS o
     WHERE o.owner = ? AND o.task_id <> o.owner AND o.task_id NOT IN (SELECT task_id FROM deleted_tasks WHERE purged_at IS NULL)
     ORDER BY o.upto DESC, o.task_id LIMIT 1`,
  );
  const handed = db
    .prepare<[string, number, number], number | null>(
      "SELECT max(n) FROM transcripts WHERE task_id = ? AND n > ? AND n <= ?",
    )
    .pluck();
  const sizes = db.prepare<[string, number, number], { n: number; bytes: number }>(
    `SELECT n, octet_length(record) AS bytes FROM transcripts
     WHERE task_id = ? AND n > ? AND n <= ? ORDER BY n LIMIT ${ROWS}`,
  );
  const copy = db.prepare<[string, string, number, number]>(
    `INSERT INTO transcripts (task_id, n, attempt, total, record)
     SELECT ?, n, 0, total, record FROM transcripts WHERE task_id = ? AND n > ? AND n <= ? ORDER BY n`,
  );
  const repoint = db.prepare("UPDATE transcript_origins SET owner = ? WHERE owner = ? AND after >= ? AND upto <= ?");
  const forget = db.prepare("DELETE FROM transcript_origins WHERE owner = ?");

  return (owner) => {
    const heir = heirs.get(owner);
    if (heir === undefined) {
      forget.run(owner);
      return true;
    }
    const { taskId, after, upto } = heir;
    const from = handed.get(taskId, after, upto) ?? after;
    let to = from;
    let bytes = 0;
    for (const row of sizes.iterate(owner, from, upto)) {
      if (to > from && bytes + row.bytes > BYTES) break;
      to = row.n;
      bytes += row.bytes;
    }
    copy.run(taskId, owner, from, to);
    if (to === upto || to === from) repoint.run(taskId, owner, after, upto);
    return false;
  };
}
