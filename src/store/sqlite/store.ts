/**
 * The store on one SQLite file, `<dir>/slipway.db`, in WAL mode, synced with each commit.
 *
 * S1 One writer: the folder's lock is acquired before the database is opened and released after it
 *    is closed.
 * S2 All writes go through the writer thread (writer/group-commit.ts). The connection of the main
 *    thread only reads.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import Database, { type Connection } from "./driver.ts";
import type { Accounts, KeyStore } from "../../core/ports/accounts.ts";
import { crashpointFrom } from "../../core/lib/runtime/crashpoint.ts";
import { SlipwayError } from "../../core/error.ts";
import type { Act, AuditLog } from "../../core/ports/records/audit.ts";
import type { Notifications } from "../../core/ports/notifications.ts";
import type { UsageLedger } from "../../core/ports/records/usage-ledger.ts";
import type { Commit, CreateResult, NewTask, Store } from "../../core/ports/store.ts";
import type { Task } from "../../core/task.ts";
import { createAuditedRun, sqliteAudit } from "./accounts/audit.ts";
import { sqliteAccounts } from "./accounts/accounts.ts";
import { sqliteNotifications } from "./tables/notifications.ts";
import { sqliteKeys } from "./accounts/keys.ts";
import { sqliteReplies } from "./accounts/replies.ts";
import { GroupCommit } from "./writer/group-commit.ts";
import { sqliteLedger } from "./tables/usage-ledger.ts";
import { lockFolder, makePrivateFile } from "./lock.ts";
import { copyBefore, migrate, pendingMigrations } from "./migrate.ts";
import { sqliteReads, type Reads } from "./tables/task-reads.ts";
import { CoreCache, toNewTaskRow, toProgress } from "./tables/rows.ts";
import { openReserve } from "./writer/disk-reserve.ts";
import { connect } from "./writer/writer.ts";
import { PING } from "./tables/task-writes.ts";
import { projectProgress } from "../shared/progress.ts";
import { makeTask } from "../shared/task-record.ts";
import type { ExplainUnreadable } from "../shared/unreadable.ts";

export interface SqliteOptions {
  /** The data folder; created if it does not exist. */
  readonly dir: string;
  /** The folder of the migrations. */
  readonly migrations: string;
  /** Crash plan of src/core/lib/runtime/crashpoint.ts: around transactions, or in a migration. */
  readonly crash?: string | undefined;
  /**
   * FULL (default): acknowledged writes survive a power loss. NORMAL: they survive a crash of the
   * process, but may be lost in a power loss.
   */
  readonly synchronous?: "FULL" | "NORMAL";
  /** Disk space that is kept for ends of tasks (writer/disk-reserve.ts); none by default. */
  readonly reserveBytes?: number;
  /** Why this version cannot read a snapshot; by default it can read all that are JSON. */
  readonly explainUnreadable?: ExplainUnreadable;
  /** Called when the folder is locked, before the database is opened: may make room for it. */
  readonly onLocked?: () => void;
}

export interface SqliteStore {
  readonly store: Store;
  readonly accounts: Accounts;
  readonly audit: AuditLog;
  readonly keys: KeyStore;
  readonly ledger: UsageLedger;
  readonly notifications: Notifications;
  /** Numbers of the migrations that this call applied. */
  readonly migrated: readonly number[];
  /** The database from before them; null when it was new. */
  readonly copy: string | null;
}

/** The reads of the store, for tools that run beside a coordinator. */
export type StoreReader = Omit<
  Store,
  | "create"
  | "commit"
  | "appendRecord"
  | "dropTranscript"
  | "beginDeletion"
  | "purgeDeletion"
  | "purgePerson"
  | "setKept"
  | "markRead"
  | "recordExit"
  | "setSetting"
>;

const DATABASE = "slipway.db";
const readAll: ExplainUnreadable = () => null;
const BUSY_MS = 5_000;
/** Smaller than the writer's cache: each commit of the other connection invalidates it. */
const READ_CACHE_KIB = 16 * 1_024;

/** @throws SlipwayError `locked`, `newer_schema`. */
export function openSqliteStore(options: SqliteOptions): SqliteStore {
  const { dir, migrations, crash } = options;
  const lock = lockFolder(dir);
  let db: Connection | null = null;
  try {
    options.onLocked?.();
    const path = join(dir, DATABASE);
    makePrivateFile(path);
    const { synchronous = "FULL", reserveBytes = 0 } = options;
    const connection = { path, synchronous, reserveBytes };
    openReserve(connection);
    refuseNewer(path, migrations);
    db = connect(connection);
    const copy = copyBefore(db, migrations, dir);
    const migrated = migrate(db, migrations, crashpointFrom(crash));
    db.pragma("query_only = ON");
    db.pragma(`cache_size = -${READ_CACHE_KIB}`);
    const cache = new CoreCache();
    const reads = sqliteReads(db, cache, options.explainUnreadable ?? readAll);
    return {
      ...assemble(db, { cache, reads }, new GroupCommit({ ...connection, crash }), lock.release),
      migrated,
      copy,
    };
  } catch (error) {
    db?.close();
    lock.release();
    throw error;
  }
}

/** Runs before anything in the file is changed. */
function refuseNewer(path: string, migrations: string): void {
  const db = new Database(path, { timeout: BUSY_MS });
  try {
    pendingMigrations(db, migrations);
  } finally {
    db.close();
  }
}

function assemble(
  db: Connection,
  { cache, reads }: { readonly cache: CoreCache; readonly reads: Reads },
  groupCommit: GroupCommit,
  release: () => void,
): Omit<SqliteStore, "migrated" | "copy"> {
  let closed: Promise<void> | null = null;

  async function create(task: NewTask): Promise<CreateResult> {
    const row = toNewTaskRow(task);
    const written = await groupCommit.run("create", row);
    if (written.kind === "mismatch") return written;
    if (written.kind === "replayed") {
      const first = reads.task(written.taskId);
      return first === null ? { kind: "mismatch" } : { kind: "replayed", task: first };
    }
    const { id, userId, threadId, parentId, spec, machineVersion, snapshot, state, event } = task;
    const size = row.spec.length;
    const core = { userId, threadId, parentId, spec, machineVersion, createdAt: event.at, size };
    cache.set(id, core);
    return {
      kind: "created",
      task: makeTask(id, core, snapshot, projectProgress([event], userId), state, event.seq, written.rev, event.at),
    };
  }

  async function commit({ followUp, ...request }: Commit): Promise<Task | null> {
    const { taskId, events, snapshot, state } = request;
    const besides = followUp === undefined ? {} : { followUp: toNewTaskRow(followUp) };
    const written = await groupCommit.run("commit", { ...request, ...besides });
    const last = events.at(-1);
    if (written === null || last === undefined) return null;
    const { seq, at } = last;
    return makeTask(taskId, reads.core(taskId), snapshot, toProgress(written), state, seq, written.rev, at);
  }

  // The writer's connection is closed first, because the last one to close truncates the WAL.
  async function close(): Promise<void> {
    await groupCommit.close();
    db.close();
    release();
  }

  const store: Store = {
    ...asyncReads(reads),
    create,
    commit,
    recordExit: (taskId, attempt, exitCode) => groupCommit.run("recordExit", taskId, attempt, exitCode),
    dropTranscript: (taskId) => groupCommit.run("dropTranscript", taskId),
    purgeDeletion: (taskId, at) => groupCommit.run("purgeDeletion", taskId, at),
    setKept: (taskId, at) => groupCommit.run("setKept", taskId, at),
    markRead: (...mark) => groupCommit.run("markRead", ...mark),
    purgePerson: (deletion) => groupCommit.run("purgePerson", deletion),
    async beginDeletion(request) {
      const hasBegun = await groupCommit.run("beginDeletion", request);
      if (hasBegun) cache.drop(request.taskId);
      return hasBegun;
    },
    appendRecord: (record) => groupCommit.run("appendRecord", record),
    setSetting: (key, value) => groupCommit.run("setSetting", key, value),
    async ping() {
      await groupCommit.run("ping");
      reads.setting(PING);
    },
    close: () => (closed ??= close()),
  };
  return {
    store,
    accounts: openAccounts(db, groupCommit),
    audit: sqliteAudit(db, groupCommit),
    keys: sqliteKeys(db, groupCommit),
    ledger: sqliteLedger(db, groupCommit),
    notifications: sqliteNotifications(db, groupCommit),
  };
}

function openAccounts(db: Connection, groupCommit: GroupCommit): Accounts {
  const accounts = sqliteAccounts(db);
  const replies = sqliteReplies(db, groupCommit);
  const plain: Accounts = { ...accounts((...call) => groupCommit.run(...call)), ...replies, with: withAct };
  function withAct(act: Act | undefined): Accounts {
    if (act === undefined || act.isWritten) return plain;
    return { ...accounts(createAuditedRun(groupCommit, act)), ...replies, with: withAct };
  }
  return plain;
}

/**
 * Opens the database read-only, whether or not a coordinator runs. Takes no lock.
 * @throws SlipwayError `unavailable` when the database is missing or not migrated, `newer_schema`.
 */
export function openSqliteReader({ dir, migrations }: Pick<SqliteOptions, "dir" | "migrations">): StoreReader {
  const path = join(dir, DATABASE);
  if (!existsSync(path))
    throw new SlipwayError("unavailable", `There is no database in ${dir} yet. Start Slipway once.`);
  const db = new Database(path, { readonly: true, timeout: BUSY_MS });
  try {
    if (pendingMigrations(db, migrations).length > 0) {
      throw new SlipwayError(
        "unavailable",
        `The database in ${dir} has not been migrated yet. Start this version of Slipway once.`,
      );
    }
    return {
      ...asyncReads(sqliteReads(db, new CoreCache(), readAll)),
      async ping() {
        db.prepare("SELECT 1 FROM tasks LIMIT 1").get();
      },
      async close() {
        db.close();
      },
    };
  } catch (error) {
    db.close();
    throw error;
  }
}

function asyncReads(reads: Reads): Omit<StoreReader, "ping" | "close"> {
  return {
    task: async (id) => reads.task(id),
    tasks: (query) => reads.tasks(query),
    recentRepositories: async (userId, among) => reads.recentRepositories(userId, among),
    changes: async (...place) => reads.changes(...place),
    readSeqs: async (taskIds) => reads.readSeqs(taskIds),
    events: async (...place) => reads.events(...place),
    conversation: async (query) => reads.conversation(query),
    tally: async (query) => reads.tally(query),
    eventRows: async (taskId, afterSeq, limit) => reads.eventRows(taskId, afterSeq, limit),
    outline: (taskId, afterSeq, limit) => reads.outline(taskId, afterSeq, limit),
    eventsOfOthers: (taskId, afterSeq, limit) => reads.eventsOfOthers(taskId, afterSeq, limit),
    messages: async (...place) => reads.messages(...place),
    message: async (taskId, messageId) => reads.message(taskId, messageId),
    queuedMessages: async (taskId) => reads.queuedMessages(taskId),
    toolCalls: async (...place) => reads.toolCalls(...place),
    toolCall: async (taskId, seq) => reads.toolCall(taskId, seq),
    attempts: async (taskId) => reads.attempts(taskId),
    openIds: async () => reads.openIds(),
    due: async (now, limit) => reads.due(now, limit),
    nextDue: async () => reads.nextDue(),
    claimable: async (limit, userLimit) => reads.claimable(limit, userLimit),
    threadAhead: async (taskId) => reads.threadAhead(taskId),
    positions: async (taskIds) => reads.positions(taskIds),
    slotsHeld: async (userId) => reads.slotsHeld(userId),
    counts: async () => reads.counts(),
    newestTaskAt: async (userId, n) => reads.newestTaskAt(userId, n),
    taskLoad: async (userId, since) => reads.taskLoad(userId, since),
    taskOwners: async (taskIds) => reads.taskOwners(taskIds),
    hasIdempotencyKey: async (userId, key) => reads.hasIdempotencyKey(userId, key),
    oldTranscripts: async (settledBefore) => reads.oldTranscripts(settledBefore),
    transcriptSizes: async (userId, after) => reads.transcriptSizes(userId, after),
    records: async (taskId, after, bytes) => reads.records(taskId, after, bytes),
    lastRecord: async (taskId) => reads.lastRecord(taskId),
    setAside: async () => reads.setAside(),
    isKept: async (taskId) => reads.isKept(taskId),
    tasksToExpire: async (before, limit) => reads.tasksToExpire(before, limit),
    deletedTask: async (taskId) => reads.deletedTask(taskId),
    openDeletions: async (limit) => reads.openDeletions(limit),
    deletedSince: async (...place) => reads.deletedSince(...place),
    personDeletions: async () => reads.personDeletions(),
    personTasks: async (userId, limit) => reads.personTasks(userId, limit),
    setting: async (key) => reads.setting(key),
  };
}
