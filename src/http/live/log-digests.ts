/** The digests of logs at any of their seqs. */
import { LogDigest } from "./log-digest.ts";
import type { Store } from "../../core/ports/store.ts";
import { toWireEventJson } from "../../core/protocol/mapping.ts";

interface Place {
  readonly seq: number;
  readonly digest: string;
}

/** Logs of which the last place that was asked for is remembered. */
const REMEMBERED = 1_000;
const PAGE_ITEMS = 500;
const START: Place = { seq: 0, digest: new LogDigest().toString() };

/** A log only grows, so the answer for a later seq goes on from an earlier one. */
export class LogDigests {
  readonly #store: Pick<Store, "eventRows">;
  /** By task, the last used last. */
  readonly #places = new Map<string, Place>();

  constructor(store: Pick<Store, "eventRows">) {
    this.#store = store;
  }

  /** @returns null when the log ends before this seq. */
  async at(taskId: string, seq: number): Promise<string | null> {
    const known = this.#places.get(taskId) ?? START;
    let place = known.seq <= seq ? known : START;
    const digest = new LogDigest(place.digest);
    while (place.seq < seq) {
      const wanted = Math.min(PAGE_ITEMS, seq - place.seq);
      const { items } = await this.#store.eventRows(taskId, place.seq, wanted);
      const last = items.at(-1);
      if (last === undefined) return null;
      for (const row of items) digest.add(toWireEventJson(row));
      place = { seq: last.seq, digest: digest.toString() };
    }
    this.#remember(taskId, place.seq >= known.seq ? place : known);
    return place.digest;
  }

  #remember(taskId: string, place: Place): void {
    this.#places.delete(taskId);
    this.#places.set(taskId, place);
    const [oldest] = this.#places.keys();
    if (this.#places.size > REMEMBERED && oldest !== undefined) this.#places.delete(oldest);
  }
}
