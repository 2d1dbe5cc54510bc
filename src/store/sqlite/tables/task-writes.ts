/**
 * Writes of tasks. Everything here runs inside a transaction of writer/writer.ts.
 *
 * W1 The task's row is updated first, by compare-and-swap on its seq; the log and the projections
 *    are written only when that succeeds.
 * W2 SQLite maintains the indexes of all columns that an UPDATE names, even if their values stay.
 *    So the common commit (same state) names only the columns that it changes.
 */
import type { Connection } from "../driver.ts";
import type { TaskEvent } from "../../../core/event.ts";
import { projectProgress } from "../../shared/progress.ts";
import { projectEvent, type ProjectionChange } from "../../shared/projection.ts";
import { isSettledState } from "../../../core/task.ts";
import { deletionWrites } from "../deletions.ts";
import { readMarkWrite } from "../read-marks.ts";
import { queueWrites } from "./queue.ts";
import { toProgressRow, type NewTaskRow, type ProgressRow } from "./rows.ts";
import { transcriptWrites } from "./transcripts.ts";
import type { CommitCall, LedgerWrites, TaskWrites } from "../writer/messages.ts";

/** The setting that `ping` flips. */
export const PING = "store.ping";

/**
 * @returns the writes, and `resetRev`: call it after a rollback, so that the next write reads the
 * newest rev from the database.
 */
export function taskWrites(
  db: Connection,
  { recordUsage }: LedgerWrites,
): { readonly writes: TaskWrites; readonly resetRev: () => void } {
  const queue = queueWrites(db);
  const log = logWrites(db);
  const updateTask = taskUpdate(db);
  const transcripts = transcriptWrites(db);
  const deletions = deletionWrites(db);
  const markRead = readMarkWrite(db);
  const insertTask = taskInsert(db);
  const insertSpec = db.prepare("INSERT INTO task_specs (task_id, spec, search) VALUES (?, ?, ?)");
  const findKey = db.prepare<[string, string], { task_id: string; fingerprint: string }>(
    "SELECT task_id, fingerprint FROM idempotency_keys WHERE user_id = ? AND key = ?",
  );
  const insertKey = db.prepare("INSERT INTO idempotency_keys (user_id, key, task_id, fingerprint) VALUES (?, ?, ?, ?)");
  const exit = db.prepare("UPDATE attempts SET exit_code = coalesce(exit_code, ?) WHERE task_id = ? AND number = ?");
  const set = db.prepare(
    "INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
  );
  const unset = db.prepare("DELETE FROM settings WHERE key = ?");
  const ping = db.prepare(
    "INSERT INTO settings (key, value) VALUES (?, '1') ON CONFLICT DO UPDATE SET value = 1 - value",
  );
  const newestRev = db
    .prepare<[], number | null>(
      `SELECT max(rev) FROM (SELECT max(rev) AS rev FROM tasks UNION ALL SELECT max(rev) FROM deleted_tasks
         UNION ALL SELECT max(rev) FROM task_reads)`,
    )
    .pluck();
  /** The newest rev; null = read it from the database. */
  let newest: number | null = null;
  const nextRev = (): number => (newest ?? newestRev.get() ?? 0) + 1;

  function insert(task: NewTaskRow): number {
    const { id, userId, spec, search, priority, event } = task;
    const rev = nextRev();
    insertTask(task, queue.assign(userId, priority), rev);
    insertSpec.run(id, spec, search);
    log(event);
    if (task.inherits !== null) transcripts.inherit(id, task.inherits);
    if (task.idempotency !== null) insertKey.run(userId, task.idempotency.key, id, task.idempotency.fingerprint);
    newest = rev;
    return rev;
  }

  const writes: TaskWrites = {
    create(task) {
      const known = task.idempotency === null ? undefined : findKey.get(task.userId, task.idempotency.key);
      if (known === undefined) return { kind: "created", rev: insert(task) };
      return known.fingerprint === task.idempotency?.fingerprint
        ? { kind: "replayed", taskId: known.task_id }
        : { kind: "mismatch" };
    },
    commit(commit) {
      const { taskId, events } = commit;
      const last = events.at(-1);
      if (last?.seq !== commit.expectedSeq + events.length)
        throw new Error(`the events of a commit of ${taskId} are not consecutive`);
      const rev = nextRev();
      const progress = updateTask(commit, last, rev);
      if (progress === undefined) return null;
      newest = rev;
      for (const event of events) {
        log(event);
        if (event.from === "queued" && event.to === "provisioning") queue.claimed(taskId);
      }
      if (commit.usage !== undefined) recordUsage(commit.usage);
      if (commit.followUp !== undefined) writes.create(commit.followUp);
      return { rev, ...progress };
    },
    recordExit: (taskId, attempt, exitCode) => void exit.run(exitCode, taskId, attempt),
    appendRecord: transcripts.appendRecord,
    dropTranscript: transcripts.dropTranscript,
    beginDeletion(request) {
      const rev = nextRev();
      const hasBegun = deletions.beginDeletion(request, rev);
      if (hasBegun) newest = rev;
      return hasBegun;
    },
    purgeDeletion: deletions.purgeDeletion,
    setKept: deletions.setKept,
    markRead(userId, taskId, seq) {
      const rev = nextRev();
      const isWritten = markRead(userId, taskId, seq, rev);
      if (isWritten) newest = rev;
      return isWritten;
    },
    setSetting: (key, value) => void (value === null ? unset.run(key) : set.run(key, value)),
    ping: () => void ping.run(PING),
  };
  return { writes, resetRev: () => void (newest = null) };
}

function taskInsert(db: Connection) {
  const statement = db.prepare(
    `INSERT INTO tasks (id, user_id, thread_id, parent_id, machine_version, priority, turn, rank, created_at,
       state, slot, attempt, excused, seq, rev, due_at, updated_at, started_at, settled_at, snapshot, notable)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  return (task: NewTaskRow, place: { turn: number; rank: number }, rev: number): void => {
    const { id, userId, threadId, parentId, priority, machineVersion, snapshot, state, slot, event } = task;
    const c = snapshot.context;
    const due = isSettledState(state) ? null : c.dueAt;
    const mutable = [
      state,
      slot ? 1 : 0,
      c.attempt,
      c.excused,
      event.seq,
      rev,
      due,
      event.at,
      c.startedAt,
      c.settledAt,
    ];
    const fixed = [id, userId, threadId, parentId, machineVersion, priority, place.turn, place.rank, event.at];
    statement.run(...fixed, ...mutable, JSON.stringify(snapshot), task.notable);
  };
}

/** Columns that each event sets; those of progress stay where it says nothing about them. */
const COMMON_COLUMNS = `seq = ?, rev = ?, due_at = ?, updated_at = ?, snapshot = ?,
  todo = coalesce(?, todo), changes = coalesce(?, changes), activity = coalesce(?, activity),
  notable = coalesce(?, notable)`;

/**
 * Updates a task's row by compare-and-swap (W1, W2). @returns the progress after it; undefined when
 * the row did not match.
 */
function taskUpdate(db: Connection) {
  const updateSameState = db.prepare<unknown[], ProgressRow>(
    `UPDATE tasks SET ${COMMON_COLUMNS}
     WHERE id = ? AND seq = ? AND state = ? AND slot = ? AND attempt = ?
       AND state NOT IN ('done', 'failed', 'cancelled')
     RETURNING todo, changes, activity, notable`,
  );
  const updateAny = db.prepare<unknown[], ProgressRow>(
    `UPDATE tasks SET ${COMMON_COLUMNS},
       state = ?, slot = ?, attempt = ?, excused = ?, started_at = ?, settled_at = ?
     WHERE id = ? AND seq = ? AND state NOT IN ('done', 'failed', 'cancelled')
     RETURNING todo, changes, activity, notable`,
  );
  const owner = db.prepare<[string], string>("SELECT user_id FROM tasks WHERE id = ?").pluck();
  return (commit: CommitCall, last: TaskEvent, rev: number): ProgressRow | undefined => {
    const { taskId, expectedSeq, events, snapshot, state, slot } = commit;
    const c = snapshot.context;
    const held = slot ? 1 : 0;
    const due = isSettledState(state) ? null : c.dueAt;
    // Nothing that a worker sends is an act of a person.
    const ownerId = events.every(({ workerSeq }) => workerSeq !== null) ? "" : (owner.get(taskId) ?? "");
    const { todo, changes, activity, notable } = toProgressRow(projectProgress(events, ownerId));
    const common = [last.seq, rev, due, last.at, JSON.stringify(snapshot), todo, changes, activity, notable];
    if (events[0]?.from === state) {
      const found = updateSameState.get(...common, taskId, expectedSeq, state, held, c.attempt);
      if (found !== undefined) return found;
    }
    const rest = [state, held, c.attempt, c.excused, c.startedAt, c.settledAt];
    return updateAny.get(...common, ...rest, taskId, expectedSeq);
  };
}

/** Appends one event to the log and updates its projections. */
function logWrites(db: Connection) {
  const insert = db.prepare(
    `INSERT INTO task_events (task_id, seq, at, attempt, type, from_state, to_state, worker_seq, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const apply = projectionWrites(db);
  return (event: TaskEvent): void => {
    const { taskId, seq, at, attempt, type, from, to, workerSeq, data } = event;
    insert.run(taskId, seq, at, attempt, type, from, to, workerSeq, JSON.stringify(data));
    const change = projectEvent(event);
    if (change !== null) apply(taskId, change);
  };
}

function projectionWrites(db: Connection) {
  const message = db.prepare(
    "INSERT INTO messages (task_id, seq, id, at, role, mode, status, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
  );
  const messageStatus = db.prepare("UPDATE messages SET status = ? WHERE task_id = ? AND id = ? AND role = 'user'");
  const tool = db.prepare(
    `INSERT INTO tool_calls (task_id, seq, attempt, id, name, input, started_at, truncated) VALUES (?, ?, ?, ?, ?, ?, ?, 0)
     ON CONFLICT (task_id, attempt, id) WHERE ended_at IS NULL DO NOTHING`,
  );
  const toolEnd = db.prepare(
    `UPDATE tool_calls SET ended_at = ?, output = ?, exit_code = ?, truncated = ?
     WHERE task_id = ? AND attempt = ? AND id = ? AND ended_at IS NULL`,
  );
  const attempt = db.prepare(
    "INSERT INTO attempts (task_id, number, container, started_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
  );
  const attemptEnd = db.prepare(
    "UPDATE attempts SET ended_at = ?, failure = ? WHERE task_id = ? AND number = ? AND ended_at IS NULL",
  );

  return (taskId: string, change: ProjectionChange): void => {
    switch (change.kind) {
      case "message": {
        const { seq, id, at, role, mode, status, content } = change.row;
        message.run(taskId, seq, id, at, role, mode, status, JSON.stringify(content));
        return;
      }
      case "message.status":
        messageStatus.run(change.status, taskId, change.id);
        return;
      case "tool": {
        const { seq, attempt: number, id, name, input, startedAt } = change.row;
        tool.run(taskId, seq, number, id, name, JSON.stringify(input), startedAt);
        return;
      }
      case "tool.end":
        toolEnd.run(
          change.endedAt,
          change.output,
          change.exitCode,
          change.truncated ? 1 : 0,
          taskId,
          change.attempt,
          change.id,
        );
        return;
      case "attempt":
        attempt.run(taskId, change.row.number, change.row.container, change.row.startedAt);
        return;
      case "attempt.end":
        attemptEnd.run(change.endedAt, change.failure, taskId, change.number);
        return;
    }
  };
}
