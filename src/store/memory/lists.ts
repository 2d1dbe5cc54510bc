/** Pages, orders and keys of lists in memory. */
import { pageOf, type Page } from "../../core/lib/pagination.ts";
import type { NewTask } from "../../core/ports/store.ts";

/** Characters that a database would store. */
const sizeOf = (stored: object): number => JSON.stringify(stored).length;
export const pageFrom = <T extends object>(items: readonly T[], limit: number): Page<T> =>
  pageOf(items, limit, sizeOf, (item) => item);
export const byId = (a: { readonly id: string }, b: { readonly id: string }): number =>
  a.id < b.id ? -1 : a.id > b.id ? 1 : 0;

/** What has a smaller seq, the newest first. */
export const before = <T extends { readonly seq: number }>(items: readonly T[], seq: number): T[] =>
  items.filter((item) => item.seq < seq).toReversed();

export const keyOf = ({ userId, idempotency }: NewTask): string | null =>
  idempotency === null ? null : JSON.stringify([userId, idempotency.key]);
