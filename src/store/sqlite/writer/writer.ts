/**
 * The only writing connection to the database, used by the writer thread.
 *
 * B1 Calls of one batch run in their order and share one transaction, and so one sync to the disk.
 * B2 When a call throws, the batch is rolled back and each call runs again in a separate
 *    transaction: only the failing call fails.
 * B3 When another process holds the lock, one wait of `BUSY_MS` fails the whole batch, and the
 *    following batches only probe the lock until one of them gets it: no write waits longer because
 *    others wait too.
 * B4 When the disk is full, the reserve is given up and the batch runs once more. Until the reserve
 *    is whole again, nothing that only grows the database is accepted: ends of tasks are recorded.
 */
import Database, { type Connection } from "../driver.ts";
import { noCrash, type Crashpoint } from "../../../core/lib/runtime/crashpoint.ts";
import { auditWrites } from "../accounts/audit.ts";
import { accountWrites } from "../accounts/accounts.ts";
import { personDeletionWrites } from "../accounts/person-deletions.ts";
import { ledgerWrites } from "../tables/usage-ledger.ts";
import { notificationWrites } from "../tables/notifications.ts";
import { keyWrites } from "../accounts/keys.ts";
import { replyWrites } from "../accounts/replies.ts";
import { taskWrites } from "../tables/task-writes.ts";
import type { DiskReserve } from "./disk-reserve.ts";
import type { ConnectionOptions, WriteCall, WriteOutcome, Writes } from "./messages.ts";

export interface Writer {
  /** @returns one outcome per call; successful ones are durable. */
  run(calls: readonly WriteCall[]): WriteOutcome[];
  close(): void;
}

const BUSY_MS = 5_000;
/** How long a batch waits for a lock that the batch before did not get. */
const PROBE_MS = 100;
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
export function createWriter(
  db: Connection,
  crashpoint: Crashpoint = noCrash,
  reserve: DiskReserve | null = null,
): Writer {
  const ledger = ledgerWrites(db);
  const tasks = taskWrites(db, ledger);
  const audit = auditWrites(db);
  const writes: Writes = {
    ...tasks.writes,
    ...audit,
    ...accountWrites(db),
    ...replyWrites(db),
    ...personDeletionWrites(db),
    ...ledger,
    ...notificationWrites(db),
    ...keyWrites(db),
    audited(entry, inner) {
      const result = call(inner as WriteCall);
      if (result !== false) audit.appendAudit(entry);
      return result;
    },
  };
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

  let isLocked = false;
  const setLocked = (locked: boolean): void => {
    if (locked === isLocked) return;
    isLocked = locked;
    db.pragma(`busy_timeout = ${locked ? PROBE_MS : BUSY_MS}`);
  };

  function run(calls: readonly WriteCall[]): WriteOutcome[] {
    try {
      const outcomes = transaction(calls);
      setLocked(false);
      return outcomes;
    } catch (error) {
      rollback();
      // The second time there is nothing left to give up.
      if (isFull(error) && reserve?.release() === true) return run(calls);
      setLocked(isBusy(error));
      if (calls.length === 1 || isLocked) return calls.map(() => failed(error));
      return runEach(calls);
    }
  }

  /** B2; after a call that did not get the lock, the others are not tried (B3). */
  function runEach(calls: readonly WriteCall[]): WriteOutcome[] {
    const outcomes: WriteOutcome[] = [];
    for (const [index, item] of calls.entries()) {
      const [outcome] = run([item]);
      if (outcome !== undefined) outcomes.push(outcome);
      if (isLocked && outcome?.kind === "failed") return [...outcomes, ...calls.slice(index + 1).map(() => outcome)];
    }
    return outcomes;
  }

  /** B4 */
  function runAccepted(calls: readonly WriteCall[]): WriteOutcome[] {
    reserve?.restore();
    const accepted = reserve?.isSpent === true ? calls.filter(([name]) => !GROWING.has(name)) : calls;
    const outcomes = accepted.length === 0 ? [] : run(accepted);
    if (accepted.length === calls.length) return outcomes;
    const rest = outcomes[Symbol.iterator]();
    return calls.map(([name]) => (GROWING.has(name) ? NO_ROOM : (rest.next().value ?? NO_ROOM)));
  }

  return { run: runAccepted, close: () => void db.close() };
}

/** Writes that wait for room; all others end something, or are small. */
const GROWING: ReadonlySet<keyof Writes> = new Set<keyof Writes>(["create", "appendRecord"]);
const NO_ROOM: WriteOutcome = { kind: "failed", message: "the disk is full", code: "SQLITE_FULL" };

function isFull(error: unknown): boolean {
  return error instanceof Database.SqliteError && /^SQLITE_(FULL|IOERR)/.test(error.code);
}

function isBusy(error: unknown): boolean {
  return error instanceof Database.SqliteError && /^SQLITE_(BUSY|LOCKED)/.test(error.code);
}

function failed(error: unknown): WriteOutcome {
  const code = error instanceof Database.SqliteError ? error.code : null;
  return { kind: "failed", message: error instanceof Error ? error.message : String(error), code };
}
