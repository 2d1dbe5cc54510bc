/** Damage to a database that a healthy Slipway never does, each with the rule that it breaks. */
import type { Connection } from "../../../src/store/sqlite/driver.ts";
import type { Tasks } from "./healthy-folder.ts";

export interface Injury {
  readonly name: string;
  readonly rule: string;
  /** `doctor --repair` corrects it. */
  readonly repaired: boolean;
  /** False = the log itself was changed, so what follows from it differs. */
  readonly fromLog?: false;
  /** It changes SQLite's own structures, so that others cannot follow it. */
  readonly isOfFile?: true;
  readonly change: (db: Connection, tasks: Tasks) => void;
}

type Key = keyof Tasks;

function sql(rule: string, name: string, repaired: boolean, task: Key, ...statements: string[]): Injury {
  return {
    name,
    rule,
    repaired,
    change(db, tasks) {
      for (const statement of statements) {
        const { changes } = db.prepare(statement.replaceAll("?", `'${tasks[task]}'`)).run();
        if (changes === 0) throw new Error(`it changed nothing: ${statement}`);
      }
    },
  };
}

const ddl = (rule: string, name: string, repaired: boolean, ...statements: string[]): Injury => ({
  name,
  rule,
  repaired,
  change: (db) => statements.forEach((statement) => db.exec(statement)),
});

const column = (rule: string, task: Key, assignment: string): Injury =>
  sql(rule, `tasks.${assignment} of the ${task} task`, true, task, `UPDATE tasks SET ${assignment} WHERE id = ?`);

const snapshot = (task: Key, path: string, value: string): Injury =>
  column("T1", task, `snapshot = json_set(snapshot, '${path}', ${value})`);

const COLUMNS: Injury[] = [
  column("D4", "running", "slot = 0"),
  column("D4", "parked", "slot = 1"),
  column("D4", "done", "slot = 1"),
  column("D6", "running", "due_at = NULL"),
  column("D6", "queued", "due_at = due_at + 1"),
  column("D6", "done", "due_at = 1"),
  column("T5", "running", "attempt = attempt + 1"),
  column("T5", "parked", "excused = excused + 1"),
  column("T1", "running", "state = 'pushing'"),
  column("T1", "done", "state = 'failed'"),
  column("T4", "running", "seq = seq + 1"),
  column("T4", "failed", "seq = seq - 1"),
  column("M4", "done", "priority = 7"),
  column("M4", "queued", "rank = rank + 3"),
  column("M4", "done", "created_at = created_at - 1"),
  column("M4", "running", "updated_at = updated_at + 1"),
  column("M4", "running", "started_at = NULL"),
  column("M4", "failed", "settled_at = NULL"),
  column("M4", "done", `todo = '{"done":9,"total":9,"current":null}'`),
  column("M4", "done", "changes = NULL"),
  column("M4", "done", "notable = 1"),
  column("M4", "running", `activity = '{"at":1,"text":"nothing of the kind"}'`),
  column("M4", "running", "activity = 'no JSON'"),
  snapshot("running", "$.context.excused", "9"),
  snapshot("done", "$.context.headSha", "'0000000000000000000000000000000000000000'"),
  snapshot("parked", "$.value", "'queued'"),
  column("T1", "running", "snapshot = '{'"),
];

const LISTS: Injury[] = [
  sql("M4", "a message is missing", true, "running", "DELETE FROM messages WHERE task_id = ?"),
  sql(
    "M4",
    "a message's status",
    true,
    "running",
    "UPDATE messages SET status = 'withdrawn' WHERE task_id = ? AND role = 'user'",
  ),
  sql("M4", "a message's text", true, "running", `UPDATE messages SET content = '[]' WHERE task_id = ?`),
  sql(
    "M4",
    "a message that the log does not have",
    true,
    "done",
    `INSERT INTO messages SELECT task_id, 999, id, at, role, mode, status, content FROM messages WHERE task_id = ? LIMIT 1`,
  ),
  sql("M4", "a tool call is missing", true, "done", "DELETE FROM tool_calls WHERE task_id = ?"),
  sql("M4", "a tool call's output", true, "done", "UPDATE tool_calls SET output = 'other' WHERE task_id = ?"),
  sql("M4", "a tool call that has not ended", true, "done", "UPDATE tool_calls SET ended_at = NULL WHERE task_id = ?"),
  sql(
    "M4",
    "a tool call that the log does not have",
    true,
    "done",
    `INSERT INTO tool_calls SELECT task_id, 999, attempt, id, name, input, started_at, ended_at, output, exit_code, truncated FROM tool_calls WHERE task_id = ? LIMIT 1`,
  ),
  sql("T5", "an attempt is missing", true, "running", "DELETE FROM attempts WHERE task_id = ?"),
  sql(
    "T5",
    "an attempt too many",
    true,
    "failed",
    "INSERT INTO attempts SELECT task_id, 9, container, started_at, ended_at, exit_code, failure FROM attempts WHERE task_id = ?",
  ),
  sql("T5", "an attempt that has not ended", true, "failed", "UPDATE attempts SET ended_at = NULL WHERE task_id = ?"),
  sql("T5", "an attempt's failure", true, "failed", "UPDATE attempts SET failure = NULL WHERE task_id = ?"),
  sql("M4", "the text that lists search", true, "queued", "UPDATE task_specs SET search = 'x' WHERE task_id = ?"),
  ddl("M4", "a tally that is too high", true, "UPDATE tallies SET tasks = tasks + 1 WHERE state = 'done'"),
  ddl("M4", "a tally that is missing", true, "DELETE FROM tallies WHERE state = 'running'"),
  ddl("M5", "two tasks with one revision", true, "UPDATE tasks SET rev = (SELECT max(rev) FROM tasks)"),
];

const LOGS: Injury[] = [
  sql(
    "T4",
    "the last event is missing",
    false,
    "running",
    "DELETE FROM task_events WHERE task_id = ? AND seq = (SELECT max(seq) FROM task_events WHERE task_id = ?)",
  ),
  sql(
    "T4",
    "an event in the middle is missing",
    false,
    "done",
    "DELETE FROM task_events WHERE task_id = ? AND seq = 4",
  ),
  sql("T4", "a log is missing", false, "done", "DELETE FROM task_events WHERE task_id = ?"),
  sql(
    "T4",
    "an event is older than the one before",
    false,
    "done",
    "UPDATE task_events SET at = 1 WHERE task_id = ? AND seq = 5",
  ),
  sql(
    "T4",
    "an event that cannot be read",
    false,
    "done",
    "UPDATE task_events SET data = '{' WHERE task_id = ? AND seq = 5",
  ),
  sql(
    "T4",
    "an event comes from another state",
    false,
    "done",
    "UPDATE task_events SET from_state = 'retrying' WHERE task_id = ? AND seq = 5",
  ),
  sql(
    "T6",
    "an event of another attempt",
    false,
    "done",
    "UPDATE task_events SET attempt = 7 WHERE task_id = ? AND type = 'checkpoint'",
  ),
  sql(
    "T7",
    "a move that no task may make",
    false,
    "queued",
    "UPDATE task_events SET to_state = 'done' WHERE task_id = ? AND seq = 1",
  ),
  {
    ...sql(
      "T1",
      "the usage of an event",
      true,
      "done",
      "UPDATE task_events SET data = json_set(data, '$.usd', 7) WHERE task_id = ? AND type = 'usage'",
    ),
    fromLog: false,
  },
  sql(
    "T2",
    "an event after the end",
    false,
    "failed",
    `INSERT INTO task_events SELECT task_id, seq + 1, at, attempt, 'notice', to_state, to_state, NULL, '{"level":"info","code":"x","text":"x"}' FROM task_events WHERE task_id = ? ORDER BY seq DESC LIMIT 1`,
  ),
  sql(
    "W1",
    "a hole in a worker's numbers",
    false,
    "running",
    "UPDATE task_events SET worker_seq = 999 WHERE task_id = ? AND worker_seq = 2",
  ),
  sql(
    "R5",
    "a user's message twice in a log",
    false,
    "running",
    "INSERT INTO task_events SELECT task_id, seq + 1, at, attempt, type, from_state, to_state, worker_seq, data FROM task_events WHERE task_id = ? AND type = 'message' AND worker_seq IS NULL",
  ),
  sql("M6", "a log without its task", false, "cancelled", "DELETE FROM tasks WHERE id = ?"),
];

const OTHERS: Injury[] = [
  sql("X1", "a hole in a transcript", false, "done", "DELETE FROM transcripts WHERE task_id = ? AND n = 2"),
  sql(
    "X1",
    "the first record of a transcript is missing",
    false,
    "parked",
    "DELETE FROM transcripts WHERE task_id = ? AND n = 1",
  ),
  sql(
    "X1",
    "another text in a transcript",
    false,
    "done",
    "UPDATE transcripts SET record = record || ' ' WHERE task_id = ? AND n = 2",
  ),
  sql(
    "X1",
    "a record of an attempt to come",
    false,
    "followUp",
    "UPDATE transcripts SET attempt = 9 WHERE task_id = ? AND n = (SELECT max(n) FROM transcripts WHERE task_id = ?)",
  ),
  sql(
    "X1",
    "records that a follow-up inherited are missing",
    false,
    "followUp",
    "DELETE FROM transcripts WHERE task_id = (SELECT owner FROM transcript_origins WHERE task_id = ?) AND n = 1",
  ),
  sql("G3", "a row of the ledger is missing", true, "done", "DELETE FROM model_requests WHERE task_id = ?"),
  sql(
    "G3",
    "a row of the ledger has other costs",
    true,
    "followUp",
    "UPDATE model_requests SET usd = usd / 2 WHERE task_id = ?",
  ),
  sql("M6", "a task without its specification", false, "queued", "DELETE FROM task_specs WHERE task_id = ?"),
  sql("M6", "a specification that cannot be read", false, "done", "UPDATE task_specs SET spec = '{' WHERE task_id = ?"),
  sql("M3", "an unknown machine version", false, "queued", "UPDATE tasks SET machine_version = 99 WHERE id = ?"),
  ddl(
    "M6",
    "an idempotency key without a task",
    true,
    "INSERT INTO idempotency_keys VALUES ('u', 'k', 'task_gone', 'f')",
  ),
  ddl(
    "M6",
    "a message without a task",
    true,
    "INSERT INTO messages VALUES ('task_gone', 1, 'm', 1, 'user', NULL, 'queued', '[]')",
  ),
  ddl(
    "M6",
    "a session without a user",
    true,
    "INSERT INTO sessions (id, user_id, token_hash, rotated_at, expires_at) VALUES ('s', 'user_gone', 'h', 1, 1)",
  ),
  ddl("M6", "a transcript without a task", false, "INSERT INTO transcripts VALUES ('task_gone', 1, 1, 2, '{}')"),
  sql(
    "R5",
    "an idempotency key of another user",
    false,
    "done",
    "UPDATE idempotency_keys SET user_id = 'other' WHERE task_id = ?",
  ),
];

const SCHEMA: Injury[] = [
  ...["tasks_due", "tasks_rev", "task_events_worker", "messages_id"].map((name) =>
    ddl("M6", `the index ${name} is missing`, true, `DROP INDEX ${name}`),
  ),
  ddl(
    "M6",
    "an index has another condition",
    true,
    "DROP INDEX tasks_slot",
    "CREATE INDEX tasks_slot ON tasks (user_id) WHERE slot = 0",
  ),
  ddl("M6", "an index of nobody", true, "CREATE INDEX other ON tasks (seq)"),
  ddl("M6", "the table of messages is missing", true, "DROP TABLE messages"),
  ddl("M6", "the table of tallies is missing", true, "DROP TABLE tallies"),
  ddl("M6", "the search index is missing", true, "DROP TABLE task_search"),
  ddl("M6", "the search index is damaged", true, "DELETE FROM task_search_data WHERE id > 10"),
  ddl("M4", "the search index has nothing", true, "INSERT INTO task_search (task_search) VALUES ('delete-all')"),
  ddl(
    "M4",
    "the search index has a task that is gone",
    true,
    "INSERT INTO task_search (rowid, search) VALUES (9999, 'x')",
  ),
  sql(
    "M4",
    "the search index lacks a task",
    true,
    "done",
    "INSERT INTO task_search (task_search, rowid, search) SELECT 'delete', rowid, search FROM task_specs WHERE task_id = ?",
  ),
  ddl("M6", "the usage ledger is missing", false, "DROP TABLE model_requests"),
  ddl(
    "M6",
    "a table without its checks",
    false,
    "PRAGMA writable_schema = ON",
    "UPDATE sqlite_schema SET sql = replace(sql, 'CHECK (slot IN (0, 1))', '') WHERE name = 'tasks'",
    "PRAGMA writable_schema = OFF",
  ),
  {
    ...ddl(
      "M6",
      "an index that lacks a row",
      true,
      "PRAGMA writable_schema = ON",
      "CREATE INDEX tasks_other ON tasks (rev) WHERE id > 'z'",
      `UPDATE sqlite_schema SET rootpage = (
       SELECT sum(rootpage) FROM sqlite_schema WHERE name IN ('tasks_rev', 'tasks_other')
     ) - rootpage WHERE name IN ('tasks_rev', 'tasks_other')`,
      "PRAGMA writable_schema = OFF",
    ),
    isOfFile: true,
  },
];

/** A page that nothing uses: a crash of SQLite between two pages of a free list. */
const LOST_PAGE = ddl(
  "M6",
  "a page of the file that nothing uses",
  true,
  "CREATE TABLE lost (a TEXT)",
  "PRAGMA writable_schema = ON",
  "DELETE FROM sqlite_schema WHERE name = 'lost'",
  "PRAGMA writable_schema = OFF",
);

/** A row of the audit log that was changed, removed, moved, added, or cut from the end. */
const AUDIT = [
  ["a changed actor", "UPDATE audit SET actor = 'user_other' WHERE n = 2"],
  ["a changed detail", "UPDATE audit SET detail = 'no JSON' WHERE n = 2"],
  ["a row removed from the middle", "DELETE FROM audit WHERE n = 2"],
  ["the first row removed", "DELETE FROM audit WHERE n = 1"],
  ["the last row removed", "DELETE FROM audit WHERE n = (SELECT max(n) FROM audit)"],
  [
    "two rows that changed places",
    "UPDATE audit SET n = CASE n WHEN 1 THEN -2 ELSE -1 END WHERE n IN (1, 2)",
    "UPDATE audit SET n = -n WHERE n < 0",
  ],
  [
    "a row that was added",
    "INSERT INTO audit SELECT max(n) + 1, at, actor, via, address, action, target, outcome, detail, hash FROM audit",
  ],
].map(([name = "", ...lines]) => ddl("H9", name, false, ...lines));

export const INJURIES: readonly Injury[] = [
  ...COLUMNS,
  ...LISTS,
  ...LOGS,
  ...OTHERS,
  ...AUDIT,
  ...SCHEMA,
  { ...LOST_PAGE, isOfFile: true },
];
