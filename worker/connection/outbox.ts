/**
 * The events on their way to the coordinator: numbered, written to the journal, and kept in memory
 * until they are acknowledged.
 *
 * O1 Events leave in the order of their numbers. The next batch starts with the first event that is
 *    not acknowledged.
 * O2 An event that the coordinator refuses is replaced by a notice with the same number, so that it
 *    never blocks the events behind it.
 */
import { BATCH_BYTES, BATCH_EVENTS, type WorkerEvent } from "../../src/core/protocol/worker.ts";
import type { Journal } from "./journal.ts";

interface OutboxItem {
  readonly event: WorkerEvent;
  readonly json: string;
  readonly bytes: number;
}

interface FlushWaiter {
  readonly seq: number;
  readonly resolve: () => void;
}

export class Outbox {
  readonly #journal: Journal;
  #items: OutboxItem[] = [];
  /** Every event up to this number is durable at the coordinator. */
  #acked = 0;
  /** Halved after a refused batch, to find the event that is refused. */
  #batchLimit = BATCH_EVENTS;
  #waiters: FlushWaiter[] = [];

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  get isEmpty(): boolean {
    return this.#items.length === 0;
  }

  /** Loads the events of an earlier process of this attempt that were not acknowledged. */
  startAfter(ack: number): void {
    this.#journal.startAfter(ack);
    this.#acked = ack;
    this.#items = this.#journal.after(ack).map(toItem);
  }

  add(event: Omit<WorkerEvent, "seq">): void {
    const item = toItem({ seq: this.#journal.lastSeq + 1, ...event });
    this.#journal.append(item.event, item.json);
    this.#items.push(item);
  }

  /** The events to send now, as JSON, up to the limits of a batch. */
  nextBatch(): { readonly firstSeq: number | null; readonly events: readonly string[]; readonly isLast: boolean } {
    let bytes = 0;
    const events: string[] = [];
    for (const item of this.#items) {
      bytes += item.bytes + 1;
      if (events.length >= this.#batchLimit || (events.length > 0 && bytes > BATCH_BYTES)) break;
      events.push(item.json);
    }
    const isLast = events.length === this.#items.length;
    return { firstSeq: this.#items[0]?.event.seq ?? null, events, isLast };
  }

  /** The coordinator accepted a batch: everything up to `ack` is durable. */
  acknowledge(ack: number): void {
    this.#batchLimit = BATCH_EVENTS;
    this.#drop(ack);
  }

  /**
   * The coordinator reported a gap: it has every event up to `ack` and none after it.
   * @throws Error when the events after `ack` cannot be sent.
   */
  rewind(ack: number, firstSent: number | null): void {
    if (firstSent === null || ack + 1 === firstSent)
      throw new Error("the coordinator reported a gap at the event that was sent");
    this.#drop(ack);
    if (this.#journal.lastSeq <= ack || this.#items[0]?.event.seq === ack + 1) return;
    this.#items = this.#journal.after(ack).map(toItem);
    if (this.#items[0]?.event.seq !== ack + 1) throw new Error(`event ${ack + 1} is not in the journal`);
  }

  /** The coordinator refused a batch of `count` events: retries with half as many, then O2. */
  reject(count: number): void {
    this.#batchLimit = Math.max(1, Math.floor(count / 2));
    const first = this.#items[0];
    if (count !== 1 || first === undefined) return;
    const data = { level: "warning", code: "event_refused", text: `An event of type ${first.event.type} was refused.` };
    this.#items[0] = toItem({ ...first.event, type: "notice", data });
  }

  /**
   * Resolves when every event that exists now is acknowledged; rejects with the signal's reason.
   */
  async flush(signal: AbortSignal): Promise<void> {
    const seq = this.#journal.lastSeq;
    if (this.#acked >= seq) return;
    await new Promise<void>((resolve, reject) => {
      const abort = (): void => reject(signal.reason as Error);
      if (signal.aborted) return abort();
      signal.addEventListener("abort", abort, { once: true });
      this.#waiters.push({
        seq,
        resolve: () => {
          signal.removeEventListener("abort", abort);
          resolve();
        },
      });
    });
  }

  #drop(ack: number): void {
    this.#acked = Math.max(this.#acked, ack);
    const first = this.#items.findIndex((item) => item.event.seq > ack);
    this.#items = first === -1 ? [] : this.#items.slice(first);
    const reached = this.#waiters.filter((waiter) => waiter.seq <= this.#acked);
    this.#waiters = this.#waiters.filter((waiter) => waiter.seq > this.#acked);
    for (const waiter of reached) waiter.resolve();
  }
}

function toItem(event: WorkerEvent): OutboxItem {
  const json = JSON.stringify(event);
  return { event, json, bytes: Buffer.byteLength(json) };
}
