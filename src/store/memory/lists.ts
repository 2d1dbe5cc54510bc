/** Pages, orders and keys of lists in memory. */
import { pageOf, type Page } from "../../core/lib/pagination.ts";
import { OUTLINE_TYPES, type EventRow, type TaskEvent } from "../../core/event.ts";
import type { NewTask, ToolCallRow } from "../../core/ports/store.ts";
import { toEventRow } from "./entry.ts";

/** Characters that a database would store. */
const sizeOf = (stored: object): number => JSON.stringify(stored).length;
export const pageFrom = <T extends object>(items: readonly T[], limit: number): Page<T> =>
  pageOf(items, limit, sizeOf, (item) => item);

/** A page of the log that is bounded by the bytes of the data. */
export const rowPage = (log: readonly TaskEvent[], limit: number): Page<EventRow> =>
  pageOf(
    log.slice(0, limit + 1).map(toEventRow),
    limit,
    (row) => row.dataBytes,
    (row) => row,
  );

export const byId = (a: { readonly id: string }, b: { readonly id: string }): number =>
  a.id < b.id ? -1 : a.id > b.id ? 1 : 0;

/** What has a smaller seq, the newest first. */
export const before = <T extends { readonly seq: number }>(items: readonly T[], seq: number): T[] =>
  items.filter((item) => item.seq < seq).toReversed();

/** @param calls the tool calls of the log. */
export function toOutline(log: readonly TaskEvent[], calls: readonly ToolCallRow[]): TaskEvent[] {
  const running = new Set(calls.filter(({ endedAt }) => endedAt === null).map(({ seq }) => seq));
  const types: readonly string[] = OUTLINE_TYPES;
  return log.filter(({ seq, type, from, to }) => from !== to || types.includes(type) || running.has(seq));
}

export const keyOf = ({ userId, idempotency }: NewTask): string | null =>
  idempotency === null ? null : JSON.stringify([userId, idempotency.key]);
