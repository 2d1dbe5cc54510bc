/**
 * The store on one SQLite file: `<dir>/slipway.db`, in WAL mode, synced with each commit.
 *
 * S1 One writer: the folder's lock is taken before the database is opened, and let go of after it
 *    is closed.
 * S2 Writes go through one group commit in a thread of its own (batch.ts). This thread's connection
 *    only reads.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import Database, { type Connection } from "./driver.ts";
import type { Accounts } from "../../core/ports/accounts.ts";
import { crashpointFrom } from "../../core/lib/crashpoint.ts";
import { SlipwayError } from "../../core/error.ts";
import type { UsageLedger } from "../../core/ports/usage-ledger.ts";
import type { Commit, CreateResult, NewTask, Store } from "../../core/ports/store.ts";
import type { Task } from "../../core/task.ts";
import { sqliteAccounts } from "./tables/accounts.ts";
import { GroupCommit } from "./writer/group-commit.ts";
import { sqliteLedger } from "./tables/usage-ledger.ts";
import { lockFolder, makePrivateFile } from "./lock.ts";
import { migrate, pendingMigrations } from "./migrate.ts";
import { sqliteReads, type Reads } from "./tables/task-reads.ts";
import { CoreCache } from "./tables/rows.ts";
import { connect } from "./writer/writer.ts";
import { PING } from "./tables/task-writes.ts";
import { makeTask } from "../task-record.ts";

export interface SqliteOptions {
  /** The data folder; made if it is not there. */
  readonly dir: string;
  /** The folder of numbered SQL files. */
  readonly migrations: string;
  /**
   * Where the process kills itself (src/core/lib/crashpoint.ts): around transactions, or in a
   * migration.
   */
  readonly crash?: string | undefined;
  /**
   * FULL (the default): what was acknowledged survives power loss. NORMAL: it survives the end of
   * the process only.
   */
  readonly synchronous?: "FULL" | "NORMAL";
}

export interface SqliteStore {
  readonly store: Store;
  readonly accounts: Accounts;
  readonly ledger: UsageLedger;
  /** Numbers of the migrations that this call applied. */
  readonly migrated: readonly number[];
}

/** The store without its writes, for those who look while a coordinator runs. */
export type StoreReader = Omit<
  Store,
  "create" | "commit" | "appendRecord" | "dropTranscript" | "recordExit" | "setSetting"
>;

const DATABASE = "slipway.db";
const BUSY_MS = 5_000;
/** Less than the writer's: each commit of the other connection empties it. */
const READ_CACHE_KIB = 16 * 1_024;

/** @throws SlipwayError locked, newer_schema. */
export function openSqliteStore(options: SqliteOptions): SqliteStore {
  const { dir, migrations, crash } = options;
  const lock = lockFolder(dir);
  let db: Connection | null = null;
  try {
    const path = join(dir, DATABASE);
    makePrivateFile(path);
    const connecting = { path, synchronous: options.synchronous ?? "FULL" };
    refuseNewer(path, migrations);
    db = connect(connecting);
    const migrated = migrate(db, migrations, crashpointFrom(crash));
    db.pragma("query_only = ON");
    db.pragma(`cache_size = -${READ_CACHE_KIB}`);
    return { ...assemble(db, new GroupCommit({ ...connecting, crash }), lock.release), migrated };
  } catch (error) {
    db?.close();
    lock.release();
    throw error;
  }
}

/** Before anything of the file is changed. */
function refuseNewer(path: string, migrations: string): void {
  const db = new Database(path, { timeout: BUSY_MS });
  try {
    pendingMigrations(db, migrations);
  } finally {
    db.close();
  }
}

function assemble(db: Connection, batch: GroupCommit, release: () => void): Omit<SqliteStore, "migrated"> {
  const cache = new CoreCache();
  const reads = sqliteReads(db, cache);
  let closed: Promise<void> | null = null;

  async function create(task: NewTask): Promise<CreateResult> {
    const written = await batch.run("create", task);
    if (written.kind === "mismatch") return written;
    if (written.kind === "replayed") {
      const first = reads.task(written.taskId);
      return first === null ? { kind: "mismatch" } : { kind: "replayed", task: first };
    }
    const { id, userId, threadId, parentId, spec, machineVersion, snapshot, state, event } = task;
    const core = {
      userId,
      threadId,
      parentId,
      spec,
      machineVersion,
      createdAt: event.at,
      size: JSON.stringify(spec).length,
    };
    cache.set(id, core);
    return { kind: "created", task: makeTask(id, core, snapshot, state, event.seq, written.rev, event.at) };
  }

  async function commit(asked: Commit): Promise<Task | null> {
    const { taskId, events, snapshot, state } = asked;
    const rev = await batch.run("commit", asked);
    const last = events.at(-1);
    return rev === null || last === undefined
      ? null
      : makeTask(taskId, reads.core(taskId), snapshot, state, last.seq, rev, last.at);
  }

  // The writer's connection is closed first: the last one to close empties the write-ahead log.
  async function close(): Promise<void> {
    await batch.close();
    db.close();
    release();
  }

  const store: Store = {
    ...asyncReads(reads),
    create,
    commit,
    recordExit: (taskId, attempt, exitCode) => batch.run("recordExit", taskId, attempt, exitCode),
    dropTranscript: (taskId) => batch.run("dropTranscript", taskId),
    appendRecord: (record) => batch.run("appendRecord", record),
    setSetting: (key, value) => batch.run("setSetting", key, value),
    async ping() {
      await batch.run("ping");
      reads.setting(PING);
    },
    close: () => (closed ??= close()),
  };
  return { store, accounts: sqliteAccounts(db, batch), ledger: sqliteLedger(db, batch) };
}

/**
 * Opens the database beside a running coordinator, or while none runs. It never writes and takes no
 * lock. @throws SlipwayError unavailable, newer_schema.
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
        `The database in ${dir} was not brought up to date yet. Start this version of Slipway once.`,
      );
    }
    return {
      ...asyncReads(sqliteReads(db, new CoreCache())),
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
    tasks: async (query) => reads.tasks(query),
    changes: async (userId, afterRev, limit) => reads.changes(userId, afterRev, limit),
    events: async (taskId, afterSeq, limit) => reads.events(taskId, afterSeq, limit),
    eventsOfOthers: async (taskId, afterSeq, limit) => reads.eventsOfOthers(taskId, afterSeq, limit),
    messages: async (taskId, afterSeq, limit) => reads.messages(taskId, afterSeq, limit),
    message: async (taskId, messageId) => reads.message(taskId, messageId),
    toolCalls: async (taskId, afterSeq, limit) => reads.toolCalls(taskId, afterSeq, limit),
    attempts: async (taskId) => reads.attempts(taskId),
    openIds: async () => reads.openIds(),
    due: async (now, limit) => reads.due(now, limit),
    nextDue: async () => reads.nextDue(),
    claimable: async (limit, userLimit) => reads.claimable(limit, userLimit),
    position: async (taskId) => reads.position(taskId),
    slotsHeld: async (userId) => reads.slotsHeld(userId),
    counts: async () => reads.counts(),
    oldTranscripts: async (settledBefore) => reads.oldTranscripts(settledBefore),
    records: async (taskId, after, bytes) => reads.records(taskId, after, bytes),
    lastRecord: async (taskId) => reads.lastRecord(taskId),
    setting: async (key) => reads.setting(key),
  };
}
