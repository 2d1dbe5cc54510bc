/**
 * Pages: every list that can be long is read in parts whose size is bounded, in items and in text.
 */

/** A part of a list, in the list's order. */
export interface Page<T> {
  readonly items: readonly T[];
  /** True when the list went on behind the last item at the time of the read. */
  readonly more: boolean;
}

/**
 * A page is full once its items have so many characters as they are stored. The item that fills it
 * is whole.
 */
export const PAGE_BYTES = 2 * 1024 * 1024;

/**
 * Takes rows until there are `limit` or they fill the page, and looks at one row more to know
 * whether there are any. So what comes lazily (a database's cursor) is read no further than that.
 * @param sizeOf characters of a row as it is stored.
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
 * Every item of a list, each page read when its first item is asked for. @param read the page
 * behind an item; null = the first.
 */
export async function* every<T>(read: (last: T | null) => Promise<Page<T>>): AsyncGenerator<T, void, undefined> {
  for (let last: T | null = null; ;) {
    const { items, more }: Page<T> = await read(last);
    yield* items;
    if (!more) return;
    last = items.at(-1) ?? last;
  }
}
