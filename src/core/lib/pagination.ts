/** Pages: long lists are read in parts that are bounded in items and in characters. */
import { setImmediate } from "node:timers/promises";

/** A part of a list, in the list's order. */
export interface Page<T> {
  readonly items: readonly T[];
  /** True when more items followed at the time of the read. */
  readonly more: boolean;
}

/** A page ends after the item with which its stored characters reach this number. */
export const PAGE_BYTES = 2 * 1024 * 1024;

/**
 * Takes rows until there are `limit` of them or the page is full, and reads one more row to set
 * `more`. A lazy source (a database cursor) is read no further.
 * @param sizeOf returns the stored characters of a row.
 */
export function pageOf<R, T>(
  rows: Iterable<R>,
  limit: number,
  sizeOf: (row: R) => number,
  make: (row: R) => T,
): Page<T> {
  const page = new PageBuilder(limit, sizeOf, make);
  page.take(rows);
  return page.finish();
}

/** A page that is filled from several sources, one after the other. */
export class PageBuilder<R, T> {
  readonly #items: T[] = [];
  #more = false;
  readonly #limit: number;
  readonly #sizeOf: (row: R) => number;
  readonly #make: (row: R) => T;
  #text = 0;

  constructor(limit: number, sizeOf: (row: R) => number, make: (row: R) => T) {
    this.#limit = limit;
    this.#sizeOf = sizeOf;
    this.#make = make;
  }

  /** True once a row did not fit. */
  get isFull(): boolean {
    return this.#more;
  }

  /** Takes rows until one does not fit. */
  take(rows: Iterable<R>): void {
    for (const row of rows) {
      this.#more = this.#items.length >= this.#limit || this.#text >= PAGE_BYTES;
      if (this.#more) return;
      this.#items.push(this.#make(row));
      this.#text += this.#sizeOf(row);
    }
  }

  finish(): Page<T> {
    return { items: this.#items, more: this.#more };
  }
}

/**
 * Iterates over all items. A page is read when its first item is requested, and in a turn of the
 * event loop of its own: the pages of a database are read synchronously (rule F7).
 * @param read returns the page after an item; null = the first page.
 */
export async function* every<T>(read: (last: T | null) => Promise<Page<T>>): AsyncGenerator<T, void, undefined> {
  for (let last: T | null = null; ;) {
    const { items, more }: Page<T> = await read(last);
    yield* items;
    if (!more) return;
    await setImmediate();
    last = items.at(-1) ?? last;
  }
}
