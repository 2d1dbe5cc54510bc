/**
 * The writing end of the database: one connection, which only the thread of writer-thread.ts has.
 *
 * B1 Calls of one batch share one transaction, and with it one sync to the disk; they run in the
 *    order in which they were made.
 * B2 When one call throws, the transaction is rolled back and each call runs in a transaction of
 *    its own: only the culprit fails.
 */
import Database, { type Connection } from "../driver.ts";
import { noCrash, type Crashpoint } from "../../../core/lib/crashpoint.ts";
import { accountWrites } from "../tables/accounts.ts";
import { ledgerWrites } from "../tables/usage-ledger.ts";
import { taskWrites } from "../tables/task-writes.ts";
import type { ConnectionOptions, WriteCall, WriteOutcome, Writes } from "./messages.ts";

export interface Writer {
  /** @returns one outcome per call, after all that succeeded is durable. */
  run(calls: readonly WriteCall[]): WriteOutcome[];
  close(): void;
}

const BUSY_MS = 5_000;
const CACHE_KIB = 64 * 1_024;
/**
 * Pages of the log that are copied back at once; few large checkpoints write a page that changes
 * often only once.
 */
const CHECKPOINT_PAGES = 8_192;

/** A connection that may write, in WAL mode. */
export function connect({ path, synchronous }: ConnectionOptions): Connection {
  const db = new Database(path, { timeout: BUSY_MS });
  try {
    db.pragma("journal_mode = WAL");
    db.pragma(`synchronous = ${synchronous}`);
    db.pragma("foreign_keys = ON");
    // A statement with triggers keeps a journal of its own while it runs: it need not be a file.
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
 * @param crashpoint called as `store.before`, `store.inside` and `store.after` around each
 * transaction.
 */
export function createWriter(db: Connection, crashpoint: Crashpoint = noCrash): Writer {
  const tasks = taskWrites(db);
  const writes: Writes = { ...tasks.writes, ...accountWrites(db), ...ledgerWrites(db) };
  const begin = db.prepare("BEGIN IMMEDIATE");
  const commit = db.prepare("COMMIT");

  // A call's arguments are those of its name; the compiler cannot see that through a union.
  const call = ([name, ...args]: WriteCall): unknown => (writes[name] as (...given: unknown[]) => unknown)(...args);

  function transaction(calls: readonly WriteCall[]): WriteOutcome[] {
    crashpoint("store.before");
    begin.run();
    const outcomes = calls.map((one): WriteOutcome => ({ kind: "done", value: call(one) }));
    crashpoint("store.inside");
    commit.run();
    crashpoint("store.after");
    return outcomes;
  }

  function rollback(): void {
    tasks.forget();
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
      return calls.length === 1 ? [failed(error)] : calls.flatMap((one) => run([one]));
    }
  }

  return { run, close: () => void db.close() };
}

function failed(error: unknown): WriteOutcome {
  const code = error instanceof Database.SqliteError ? error.code : null;
  return { kind: "failed", message: error instanceof Error ? error.message : String(error), code };
}
