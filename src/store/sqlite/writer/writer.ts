/**
 * The only writing connection to the database, used by the writer thread.
 *
 * B1 Calls of one batch run in their order and share one transaction, and so one sync to the disk.
 * B2 When a call throws, the batch is rolled back and each call runs again in a separate
 *    transaction: only the failing call fails.
 */
import Database, { type Connection } from "../driver.ts";
import { noCrash, type Crashpoint } from "../../../core/lib/runtime/crashpoint.ts";
import { accountWrites } from "../tables/accounts.ts";
import { ledgerWrites } from "../tables/usage-ledger.ts";
import { replyWrites } from "../tables/replies.ts";
import { taskWrites } from "../tables/task-writes.ts";
import type { ConnectionOptions, WriteCall, WriteOutcome, Writes } from "./messages.ts";

export interface Writer {
  /** @returns one outcome per call; successful ones are durable. */
  run(calls: readonly WriteCall[]): WriteOutcome[];
  close(): void;
}

const BUSY_MS = 5_000;
const CACHE_KIB = 64 * 1_024;
/**
 * WAL pages per checkpoint. With few large checkpoints, a page that changes often is written back
 * only once.
 */
const CHECKPOINT_PAGES = 8_192;

/** Opens a writing connection in WAL mode. */
export function connect({ path, synchronous }: ConnectionOptions): Connection {
  const db = new Database(path, { timeout: BUSY_MS });
  try {
    db.pragma("journal_mode = WAL");
    db.pragma(`synchronous = ${synchronous}`);
    db.pragma("foreign_keys = ON");
    // Statements with triggers use a statement journal; in memory it costs no file I/O.
    db.pragma("temp_store = MEMORY");
    db.pragma(`cache_size = -${CACHE_KIB}`);
    db.pragma(`wal_autocheckpoint = ${CHECKPOINT_PAGES}`);
    db.pragma(`journal_size_limit = ${CHECKPOINT_PAGES * 4_096}`);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

/**
 * @param crashpoint called with `store.before`, `store.inside` and `store.after` around each
 * transaction.
 */
export function createWriter(db: Connection, crashpoint: Crashpoint = noCrash): Writer {
  const tasks = taskWrites(db);
  const writes: Writes = { ...tasks.writes, ...accountWrites(db), ...replyWrites(db), ...ledgerWrites(db) };
  const begin = db.prepare("BEGIN IMMEDIATE");
  const commit = db.prepare("COMMIT");

  // The arguments match the name by the type of WriteCall; TypeScript cannot infer it from the
  // union.
  const call = ([name, ...args]: WriteCall): unknown => (writes[name] as (...given: unknown[]) => unknown)(...args);

  function transaction(calls: readonly WriteCall[]): WriteOutcome[] {
    crashpoint("store.before");
    begin.run();
    const outcomes = calls.map((item): WriteOutcome => ({ kind: "done", value: call(item) }));
    crashpoint("store.inside");
    commit.run();
    crashpoint("store.after");
    return outcomes;
  }

  function rollback(): void {
    tasks.resetRev();
    try {
      if (db.inTransaction) db.exec("ROLLBACK");
    } catch {
      // The connection is broken: the next BEGIN fails, and that error reaches every caller.
    }
  }

  function run(calls: readonly WriteCall[]): WriteOutcome[] {
    try {
      return transaction(calls);
    } catch (error) {
      rollback();
      return calls.length === 1 ? [failed(error)] : calls.flatMap((item) => run([item]));
    }
  }

  return { run, close: () => void db.close() };
}

function failed(error: unknown): WriteOutcome {
  const code = error instanceof Database.SqliteError ? error.code : null;
  return { kind: "failed", message: error instanceof Error ? error.message : String(error), code };
}
