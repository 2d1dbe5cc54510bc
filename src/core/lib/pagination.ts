/** Pages: long lists are read in parts that are bounded in items and in characters. */

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
  const items: T[] = [];
  let text = 0;
  for (const row of rows) {
    if (items.length >= limit || text >= PAGE_BYTES) return { items, more: true };
    items.push(make(row));
    text += sizeOf(row);
  }
  return { items, more: false };
}

/**
 * Iterates over all items. A page is read when its first item is requested.
 * @param read returns the page after an item; null = the first page.
 */
export async function* every<T>(read: (last: T | null) => Promise<Page<T>>): AsyncGenerator<T, void, undefined> {
  for (let last: T | null = null; ;) {
    const { items, more }: Page<T> = await read(last);
    yield* items;
    if (!more) return;
    last = items.at(-1) ?? last;
  }
}
