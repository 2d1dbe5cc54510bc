/**
 * The store on one SQLite file: `<dir>/slipway.db`, in WAL mode, synced with each commit.
 *
 * S1 One writer: the folder's lock is taken before the database is opened, and let go of after it is closed.
 * S2 Writes go through one group commit, so that they happen in the order of the calls and share syncs.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import Database, { type Database as Connection } from "better-sqlite3";
import type { Accounts } from "../accounts.ts";
import { SlipwayError } from "../error.ts";
import type { Ledger } from "../ledger.ts";
import type { Store } from "../store-port.ts";
import { sqliteAccounts } from "./accounts.ts";
import { Batch } from "./batch.ts";
import { sqliteLedger } from "./ledger.ts";
import { lockFolder, makePrivateFile } from "./lock.ts";
import { migrate, pendingMigrations } from "./migrate.ts";
import { sqliteReads, type Reads } from "./reads.ts";
import { CoreCache } from "./rows.ts";
import { sqliteWrites } from "./writes.ts";

export interface SqliteOptions {
  /** The data folder; made if it is not there. */
  readonly dir: string;
  /** The folder of numbered SQL files. */
  readonly migrations: string;
  /** Called as `store.before`, `store.inside` and `store.after` around each transaction, and as `migration` in each migration. */
  readonly crashpoint?: (name: string) => void;
  /** FULL (the default): what was acknowledged survives power loss. NORMAL: it survives the end of the process only. */
  readonly synchronous?: "FULL" | "NORMAL";
}

export interface SqliteStore {
  readonly store: Store;
  readonly accounts: Accounts;
  readonly ledger: Ledger;
}

/** The store without its writes, for those who look while a coordinator runs. */
export type StoreReader = Omit<Store, "create" | "commit" | "appendRecord" | "dropTranscript" | "observeExit" | "setSetting">;

const DATABASE = "slipway.db";
const BUSY_MS = 5_000;
const CACHE_KIB = 64 * 1_024;
/** Pages of the log that are copied back at once; few large checkpoints write a page that changes often only once. */
const CHECKPOINT_PAGES = 8_192;
const PING = "store.ping";

/** @throws SlipwayError locked, newer_schema. */
export function openSqliteStore(options: SqliteOptions): SqliteStore {
  const { dir, migrations, crashpoint } = options;
  const lock = lockFolder(dir);
  let db: Connection | null = null;
  try {
    const path = join(dir, DATABASE);
    makePrivateFile(path);
    db = new Database(path, { timeout: BUSY_MS });
    pendingMigrations(db, migrations);
    db.pragma("journal_mode = WAL");
    db.pragma(`synchronous = ${options.synchronous ?? "FULL"}`);
    db.pragma("foreign_keys = ON");
    // A statement with triggers keeps a journal of its own while it runs: it need not be a file.
    db.pragma("temp_store = MEMORY");
    db.pragma(`cache_size = -${CACHE_KIB}`);
    db.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
    db.pragma(`journal_size_limit = ${CHECKPOINT_PAGES * 4_096}`);
    migrate(db, migrations, crashpoint);
    return assemble(db, lock.release, crashpoint);
  } catch (error) {
    db?.close();
    lock.release();
    throw error;
  }
}

function assemble(db: Connection, release: () => void, crashpoint: SqliteOptions["crashpoint"]): SqliteStore {
  const cache = new CoreCache();
  const reads = sqliteReads(db, cache);
  const writes = sqliteWrites(db, cache, reads);
  const onRollback = (): void => {
    cache.clear();
    writes.forget();
  };
  const batch = new Batch(db, { onRollback, crashpoint });
  const store: Store = {
    ...asyncReads(reads),
    create: (task) => batch.run(() => writes.create(task)),
    commit: (commit) => batch.run(() => writes.commit(commit)),
    observeExit: (taskId, attempt, exitCode) => batch.run(() => writes.observeExit(taskId, attempt, exitCode)),
    dropTranscript: (taskId) => batch.run(() => writes.dropTranscript(taskId)),
    appendRecord: (record) => batch.run(() => writes.appendRecord(record)),
    setSetting: (key, value) => batch.run(() => writes.setSetting(key, value)),
    ping: () => batch.run(() => writes.setSetting(PING, reads.setting(PING) === "0" ? "1" : "0")),
    async close() {
      if (!db.open) return;
      batch.close();
      db.close();
      release();
    },
  };
  return { store, accounts: sqliteAccounts(db, batch), ledger: sqliteLedger(db, batch) };
}

/** Opens the database beside a running coordinator, or while none runs. It never writes and takes no lock. @throws SlipwayError unavailable, newer_schema. */
export function openSqliteReader({ dir, migrations }: Pick<SqliteOptions, "dir" | "migrations">): StoreReader {
  const path = join(dir, DATABASE);
  if (!existsSync(path)) throw new SlipwayError("unavailable", `There is no database in ${dir} yet. Start Slipway once.`);
  const db = new Database(path, { readonly: true, timeout: BUSY_MS });
  try {
    if (pendingMigrations(db, migrations).length > 0) {
      throw new SlipwayError("unavailable", `The database in ${dir} was not brought up to date yet. Start this version of Slipway once.`);
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
    messages: async (taskId) => reads.messages(taskId),
    message: async (taskId, messageId) => reads.message(taskId, messageId),
    toolCalls: async (taskId) => reads.toolCalls(taskId),
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
