/**
 * Start-time fair queueing (rule D8).
 *
 * F1 A task gets its turn at creation: its owner's previous turn at this priority plus one, but not
 *    less than the virtual time of the priority. So owners alternate regardless of how many tasks
 *    each has, and a new owner starts level with the others.
 * F2 The virtual time of a priority is the largest turn claimed at it. A priority with an empty
 *    queue restarts at the largest turn of all priorities.
 * F3 The order is by rank, then by id. One level of priority equals TURNS_PER_PRIORITY turns, so
 *    tasks of low priority do not starve.
 * F4 A task that is queued again keeps its rank.
 * F5 Turns share what is served, not for how long: an owner whose tasks take hours would end up
 *    with every slot. So a slot goes to the owner who holds the fewest, and the order of F3 decides
 *    among equals (decision 063).
 */
const TURNS_PER_PRIORITY = 100;

/**
 * @param last the largest turn of the owner's queued and claimed tasks at this priority, or null.
 */
export function nextTurn(virtualTime: number, last: number | null): number {
  return last === null ? virtualTime : Math.max(virtualTime, last + 1);
}

export function computeRank(turn: number, priority: number): number {
  return turn - TURNS_PER_PRIORITY * priority;
}

export interface Waiting {
  readonly id: string;
  readonly userId: string;
}

/**
 * Which tasks get the next `limit` slots (F5).
 *
 * @param waiting in the order of F3.
 * @param held slots per owner.
 * @param userLimit slots that one owner may hold; null = no limit.
 */
export function shareSlots(
  waiting: readonly Waiting[],
  limit: number,
  held: ReadonlyMap<string, number>,
  userLimit: number | null,
): string[] {
  const slots = new Map(held);
  return (
    waiting
      .map(({ id, userId }) => {
        const share = (slots.get(userId) ?? 0) + 1;
        slots.set(userId, share);
        return { id, share };
      })
      .filter(({ share }) => share <= (userLimit ?? Infinity))
      // The sort is stable, so equals stay in order.
      .toSorted((a, b) => a.share - b.share)
      .slice(0, Math.max(0, limit))
      .map(({ id }) => id)
  );
}
