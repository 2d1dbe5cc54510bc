/**
 * Fair order by start-time fair queueing (rule D8).
 *
 * F1 Each task gets a turn when it is made: the next one of its owner at that priority, but not
 *    before the virtual time of the priority. So owners take turns however many tasks each of them
 *    has, and one who comes late starts with the others instead of before or after them.
 * F2 The virtual time of a priority is the largest turn that was claimed there; a priority with
 *    nothing queued starts again at the largest of all.
 * F3 The order is by rank, then by id. A level of priority is worth a number of turns, not
 *    infinity: old tasks are served at last.
 * F4 A task keeps its rank when it is queued again.
 */
const TURNS_PER_PRIORITY = 100;

/**
 * @param last the largest turn of this owner's queued and claimed tasks at this priority, or null.
 */
export function nextTurn(virtualTime: number, last: number | null): number {
  return last === null ? virtualTime : Math.max(virtualTime, last + 1);
}

export function computeRank(turn: number, priority: number): number {
  return turn - TURNS_PER_PRIORITY * priority;
}
