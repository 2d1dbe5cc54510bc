/** The fair queue in memory (src/store/shared/fair-queue.ts). */
import { computeRank, nextTurn, shareSlots } from "../shared/fair-queue.ts";

interface QueueEntry {
  readonly id: string;
  readonly userId: string;
  readonly priority: number;
  readonly turn: number;
  readonly rank: number;
}

const before = (a: QueueEntry, b: QueueEntry): boolean => a.rank < b.rank || (a.rank === b.rank && a.id < b.id);
const flowKey = (userId: string, priority: number): string => JSON.stringify([priority, userId]);

export class MemoryQueue {
  readonly #entries = new Map<string, QueueEntry>();
  /** Sorted by rank, then id. */
  readonly #queued: QueueEntry[] = [];
  /** The largest claimed turn per priority and owner; per priority it is the virtual time. */
  readonly #claimed = new Map<string, number>();
  readonly #time = new Map<number, number>();

  /** Assigns the turn and rank of a new task. */
  add(id: string, userId: string, priority: number, queued: boolean): void {
    const queuedTurns = this.#queued.filter((p) => p.priority === priority && p.userId === userId).map((p) => p.turn);
    const claimed = this.#claimed.get(flowKey(userId, priority));
    const turns = claimed === undefined ? queuedTurns : [...queuedTurns, claimed];
    const turn = nextTurn(this.#virtualTime(priority), turns.length === 0 ? null : Math.max(...turns));
    this.#entries.set(id, { id, userId, priority, turn, rank: computeRank(turn, priority) });
    this.mark(id, queued);
  }

  /** Adds the task to the queue or removes it. Idempotent. */
  mark(id: string, queued: boolean): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    const index = this.#indexOf(entry);
    const present = this.#queued[index] === entry;
    if (queued && !present) this.#queued.splice(index, 0, entry);
    if (!queued && present) this.#queued.splice(index, 1);
  }

  claimed(id: string): void {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    const { userId, priority, turn } = entry;
    const key = flowKey(userId, priority);
    this.#claimed.set(key, Math.max(this.#claimed.get(key) ?? 0, turn));
    this.#time.set(priority, Math.max(this.#time.get(priority) ?? 0, turn));
  }

  /**
   * @param held number of slots per owner.
   * @param isFirst false for a task that waits behind another one of its thread.
   */
  claimable(
    limit: number,
    userLimit: number | null,
    held: ReadonlyMap<string, number>,
    isFirst: (id: string) => boolean,
  ): string[] {
    const waiting = this.#queued.filter(({ id }) => isFirst(id));
    return shareSlots(waiting, limit, held, userLimit);
  }

  positions(ids: readonly string[]): Map<string, number> {
    const wanted = new Set(ids);
    return new Map(this.#queued.flatMap(({ id }, i) => (wanted.has(id) ? [[id, i] as const] : [])));
  }

  #virtualTime(priority: number): number {
    const current = this.#time.get(priority) ?? 0;
    if (this.#queued.some((entry) => entry.priority === priority)) return current;
    const time = Math.max(current, ...this.#time.values());
    this.#time.set(priority, time);
    return time;
  }

  /** The index of the entry, or where it belongs. */
  #indexOf(entry: QueueEntry): number {
    let low = 0;
    let high = this.#queued.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#queued[middle];
      if (other !== undefined && before(other, entry)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
