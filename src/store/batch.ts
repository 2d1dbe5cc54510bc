/**
 * Group commit: what is queued in one turn of the event loop shares one transaction, and with it one sync to the disk.
 *
 * B1 A promise resolves after COMMIT, never before.
 * B2 When one piece of work throws, the transaction is rolled back and each piece runs in a transaction of its own: only the culprit rejects.
 * B3 Pieces run in the order in which they were queued.
 */
import type { Database as Connection, Statement } from "better-sqlite3";
import { SlipwayError } from "../error.ts";

interface Item {
  readonly work: () => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
}

/** The longest transaction, in pieces of work: it bounds how long the event loop stands still. */
const BATCH = 256;

export interface BatchOptions {
  /** Whatever was derived from rolled back writes must be forgotten. */
  readonly onRollback: () => void;
  readonly crashpoint: ((name: string) => void) | undefined;
}

export class Batch {
  readonly #db: Connection;
  readonly #options: BatchOptions;
  readonly #begin: Statement;
  readonly #commit: Statement;
  #queue: Item[] = [];
  #scheduled = false;
  #closed = false;

  constructor(db: Connection, options: BatchOptions) {
    this.#db = db;
    this.#options = options;
    this.#begin = db.prepare("BEGIN IMMEDIATE");
    this.#commit = db.prepare("COMMIT");
  }

  /** Runs `work` (synchronous SQL) in the next transaction. @returns what it returned, once that is durable. */
  run<T>(work: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#closed) {
        reject(new SlipwayError("unavailable", "The store is closed."));
        return;
      }
      this.#queue.push({ work, resolve: resolve as (value: unknown) => void, reject });
      this.#schedule();
    });
  }

  /** Writes what is queued; further work is refused. Idempotent. */
  close(): void {
    this.#closed = true;
    while (this.#queue.length > 0) this.#flush();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    const items = this.#queue.length <= BATCH ? this.#queue : this.#queue.slice(0, BATCH);
    this.#queue = this.#queue.length <= BATCH ? [] : this.#queue.slice(BATCH);
    if (this.#queue.length > 0) this.#schedule();
    if (items.length === 0 || this.#attempt(items)) return;
    for (const item of items) this.#attempt([item]);
  }

  /** One transaction. False when it failed and there is still somebody to tell. */
  #attempt(items: readonly Item[]): boolean {
    let results: unknown[];
    try {
      results = this.#transaction(items);
    } catch (error) {
      this.#rollback();
      if (items.length > 1) return false;
      items[0]?.reject(error);
      return true;
    }
    this.#options.crashpoint?.("store.after");
    items.forEach((item, i) => item.resolve(results[i]));
    return true;
  }

  #rollback(): void {
    this.#options.onRollback();
    try {
      if (this.#db.inTransaction) this.#db.exec("ROLLBACK");
    } catch {
      // The connection is broken: the next BEGIN fails, and that error reaches every caller.
    }
  }

  #transaction(items: readonly Item[]): unknown[] {
    this.#options.crashpoint?.("store.before");
    this.#begin.run();
    const results = items.map((item) => item.work());
    this.#options.crashpoint?.("store.inside");
    this.#commit.run();
    return results;
  }
}
