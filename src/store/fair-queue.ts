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
