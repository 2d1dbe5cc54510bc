/** The queue in memory (fair.ts says why it is ordered so). */
import { nextTurn, computeRank } from "../fair-queue.ts";

interface QueueEntry {
  readonly id: string;
  readonly userId: string;
  readonly priority: number;
  readonly turn: number;
  readonly rank: number;
}

const before = (a: QueueEntry, b: QueueEntry): boolean => a.rank < b.rank || (a.rank === b.rank && a.id < b.id);
const flow = (userId: string, priority: number): string => JSON.stringify([priority, userId]);

export class MemoryQueue {
  readonly #places = new Map<string, QueueEntry>();
  /** In order. */
  readonly #queued: QueueEntry[] = [];
  /** The largest claimed turn per priority and owner, and per priority: the virtual time. */
  readonly #claimed = new Map<string, number>();
  readonly #time = new Map<number, number>();

  /** Gives a new task its place for life. */
  add(id: string, userId: string, priority: number, queued: boolean): void {
    const queuedTurns = this.#queued.filter((p) => p.priority === priority && p.userId === userId).map((p) => p.turn);
    const claimed = this.#claimed.get(flow(userId, priority));
    const turns = claimed === undefined ? queuedTurns : [...queuedTurns, claimed];
    const turn = nextTurn(this.#virtualTime(priority), turns.length === 0 ? null : Math.max(...turns));
    this.#places.set(id, { id, userId, priority, turn, rank: computeRank(turn, priority) });
    this.mark(id, queued);
  }

  /** Whether the task is queued now. */
  mark(id: string, queued: boolean): void {
    const place = this.#places.get(id);
    if (place === undefined) return;
    const at = this.#indexOf(place);
    const there = this.#queued[at] === place;
    if (queued && !there) this.#queued.splice(at, 0, place);
    if (!queued && there) this.#queued.splice(at, 1);
  }

  claimed(id: string): void {
    const place = this.#places.get(id);
    if (place === undefined) return;
    const { userId, priority, turn } = place;
    const key = flow(userId, priority);
    this.#claimed.set(key, Math.max(this.#claimed.get(key) ?? 0, turn));
    this.#time.set(priority, Math.max(this.#time.get(priority) ?? 0, turn));
  }

  /** @param held slots per owner. */
  claimable(limit: number, userLimit: number | null, held: ReadonlyMap<string, number>): string[] {
    const taken = new Map(held);
    const chosen: string[] = [];
    for (const { id, userId } of this.#queued) {
      if (chosen.length >= limit) break;
      const slots = taken.get(userId) ?? 0;
      if (userLimit !== null && slots >= userLimit) continue;
      taken.set(userId, slots + 1);
      chosen.push(id);
    }
    return chosen;
  }

  position(id: string): number {
    const place = this.#places.get(id);
    return place === undefined ? 0 : this.#indexOf(place);
  }

  #virtualTime(priority: number): number {
    const own = this.#time.get(priority) ?? 0;
    if (this.#queued.some((place) => place.priority === priority)) return own;
    const time = Math.max(own, ...this.#time.values());
    this.#time.set(priority, time);
    return time;
  }

  /** Where the place is, or belongs. */
  #indexOf(place: QueueEntry): number {
    let low = 0;
    let high = this.#queued.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#queued[middle];
      if (other !== undefined && before(other, place)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
