/** The fair queue in SQL: turns, claimable tasks and slots (src/store/shared/fair-queue.ts). */
import type { Connection } from "../driver.ts";
import { computeRank, nextTurn, shareSlots } from "../../shared/fair-queue.ts";
import { NOT_ASIDE, type SetAsideTasks } from "./set-aside.ts";

/** Most rows that are read from the head of the queue before the owners are queried one by one. */
const PAGE = 256;
/** The most claims of one batch: up to here the answer is exact. */
const BATCH = 64;

interface QueuedRow {
  rank: number;
  id: string;
  userId: string;
}

export interface Queue {
  /** Turn and rank of a new task. Call it inside the transaction that inserts the task. */
  assign(userId: string, priority: number): { turn: number; rank: number };
  /** Advances the virtual time. Call it inside the transaction that claims the task. */
  claimed(taskId: string): void;
}

export function queueWrites(db: Connection): Queue {
  const claimedTurn = db
    .prepare<[string, number], number>("SELECT turn FROM turns WHERE user_id = ? AND priority = ?")
    .pluck();
  const newest = db.prepare<[], number | null>("SELECT max(turn) FROM turns WHERE user_id = ''").pluck();
  const anyQueued = db
    .prepare<[number], number>("SELECT 1 FROM tasks WHERE state = 'queued' AND priority = ? LIMIT 1")
    .pluck();
  const lastQueued = db
    .prepare<[number, string], number | null>(
      "SELECT max(turn) FROM tasks WHERE state = 'queued' AND priority = ? AND user_id = ?",
    )
    .pluck();
  const raise = "ON CONFLICT DO UPDATE SET turn = max(turn, excluded.turn)";
  const setVirtual = db.prepare<[number, number]>(
    `INSERT INTO turns (user_id, priority, turn) VALUES ('', ?, ?) ${raise}`,
  );
  const claim = db.prepare<[string, string]>(
    `INSERT INTO turns (user_id, priority, turn)
     SELECT user_id, priority, turn FROM tasks WHERE id = ?
     UNION ALL SELECT '', priority, turn FROM tasks WHERE id = ? ${raise}`,
  );

  function virtualTime(priority: number): number {
    const current = claimedTurn.get("", priority) ?? 0;
    if (anyQueued.get(priority) !== undefined) return current;
    const time = Math.max(current, newest.get() ?? 0);
    if (time > current) setVirtual.run(priority, time);
    return time;
  }

  return {
    assign(userId, priority) {
      const time = virtualTime(priority);
      const queued = lastQueued.get(priority, userId) ?? null;
      const claimed = claimedTurn.get(userId, priority) ?? null;
      const turn = nextTurn(time, queued === null && claimed === null ? null : Math.max(queued ?? 0, claimed ?? 0));
      return { turn, rank: computeRank(turn, priority) };
    },
    claimed: (taskId) => void claim.run(taskId, taskId),
  };
}

/** True when each of these tasks is the only one of its owner, who holds no slot. */
function hasOnlyFirsts(rows: readonly QueuedRow[], ids: readonly string[], held: ReadonlyMap<string, number>): boolean {
  const chosen = new Set(ids);
  const owners = rows.filter(({ id }) => chosen.has(id)).map(({ userId }) => userId);
  return new Set(owners).size === owners.length && owners.every((owner) => !held.has(owner));
}

const inOrder = (a: QueuedRow, b: QueuedRow): number => a.rank - b.rank || (a.id < b.id ? -1 : 1);

/** Tasks of one thread push to one branch, so they run one after another. */
const IS_CLAIMABLE = `${NOT_ASIDE} AND NOT EXISTS (
  SELECT 1 FROM tasks AS ahead INDEXED BY tasks_thread_open
  WHERE ahead.thread_id = tasks.thread_id AND ahead.id < tasks.id AND ahead.state NOT IN ('done', 'failed', 'cancelled')
    AND ahead.${NOT_ASIDE}
)`;

export function queueReads(db: Connection, aside: SetAsideTasks) {
  const page = db.prepare<[string, string, number], QueuedRow>(
    `SELECT rank, id, user_id AS userId FROM tasks INDEXED BY tasks_queue
     WHERE state = 'queued' AND ${IS_CLAIMABLE} ORDER BY rank, id LIMIT ?`,
  );
  // One index seek per owner, independent of the number of tasks.
  const owners = db
    .prepare<[], string>(
      `WITH RECURSIVE owner (id) AS (
         SELECT min(user_id) FROM tasks INDEXED BY tasks_queue_user WHERE state = 'queued'
         UNION ALL
         SELECT (
           SELECT min(user_id) FROM tasks INDEXED BY tasks_queue_user WHERE state = 'queued' AND user_id > owner.id
         ) FROM owner WHERE owner.id IS NOT NULL
       ) SELECT id FROM owner WHERE id IS NOT NULL`,
    )
    .pluck();
  const ofOwner = db.prepare<[string, string, string, number], QueuedRow>(
    `SELECT rank, id, user_id AS userId FROM tasks INDEXED BY tasks_queue_user
     WHERE state = 'queued' AND user_id = ? AND ${IS_CLAIMABLE} ORDER BY rank, id LIMIT ?`,
  );
  const holders = db.prepare<[string], { userId: string; slots: number }>(
    `SELECT user_id AS userId, count(*) AS slots FROM tasks WHERE slot = 1 AND ${NOT_ASIDE} GROUP BY user_id`,
  );
  const ahead = db
    .prepare<[string, string], string>(
      `SELECT ahead.id FROM tasks JOIN tasks AS ahead INDEXED BY tasks_thread_open
       ON ahead.thread_id = tasks.thread_id AND ahead.id < tasks.id
       WHERE tasks.id = ? AND ahead.state NOT IN ('done', 'failed', 'cancelled') AND ahead.${NOT_ASIDE}
       ORDER BY ahead.id LIMIT 1`,
    )
    .pluck();
  const heldBy = db
    .prepare<[string, string], number>(`SELECT count(*) FROM tasks WHERE slot = 1 AND user_id = ? AND ${NOT_ASIDE}`)
    .pluck();
  const held = db.prepare<[string], number>(`SELECT count(*) FROM tasks WHERE slot = 1 AND ${NOT_ASIDE}`).pluck();

  function shareAmongOwners(limit: number, held: ReadonlyMap<string, number>, userLimit: number | null): string[] {
    const waiting = owners.all();
    const share = (each: number): { chosen: string[]; isWhole: boolean } => {
      const queues = waiting.map((user) => ofOwner.all(user, aside.ids, aside.ids, each));
      const isWhole = queues.every(({ length }) => length < each);
      return { chosen: shareSlots(queues.flat().toSorted(inOrder), limit, held, userLimit), isWhole };
    };
    const first = share(limit <= BATCH ? limit : BATCH / 4 + Math.ceil(limit / waiting.length));
    return first.chosen.length === limit || first.isWhole ? first.chosen : share(limit).chosen;
  }

  return {
    claimable(limit: number, userLimit: number | null): string[] {
      if (limit <= 0 || (userLimit !== null && userLimit <= 0)) return [];
      const held = new Map(holders.all(aside.ids).map((row) => [row.userId, row.slots]));
      const size = Math.min(PAGE, 16 + 4 * limit);
      const head = page.all(aside.ids, aside.ids, size);
      const firsts = shareSlots(head, limit, held, userLimit);
      // An owner behind the page holds at least zero slots, so it cannot go before these.
      const isExact = firsts.length === limit && hasOnlyFirsts(head, firsts, held);
      return isExact || head.length < size ? firsts : shareAmongOwners(limit, held, userLimit);
    },
    threadAhead: (taskId: string): string | null => ahead.get(taskId, aside.ids) ?? null,
    positions: positionReads(db),
    slotsHeld: (userId?: string): number =>
      (userId === undefined ? held.get(aside.ids) : heldBy.get(userId, aside.ids)) ?? 0,
  };
}

/** Counts each row of the queue once at most: from one of the wanted places to the next. */
function positionReads(db: Connection): (taskIds: readonly string[]) => ReadonlyMap<string, number> {
  const places = db.prepare<[string], Pick<QueuedRow, "rank" | "id">>(
    `SELECT rank, id FROM tasks WHERE id IN (SELECT value FROM json_each(?)) AND state = 'queued' ORDER BY rank, id`,
  );
  const between = db
    .prepare<[number, string, number, string], number>(
      `SELECT count(*) FROM tasks INDEXED BY tasks_queue
       WHERE state = 'queued' AND (rank, id) >= (?, ?) AND (rank, id) < (?, ?)`,
    )
    .pluck();
  // One transaction, so that the counts are of one moment.
  return db.transaction((taskIds: readonly string[]): ReadonlyMap<string, number> => {
    let [rank, id, position] = [Number.MIN_SAFE_INTEGER, "", 0];
    const found = new Map<string, number>();
    for (const place of places.all(JSON.stringify(taskIds))) {
      position += between.get(rank, id, place.rank, place.id) ?? 0;
      found.set(place.id, position);
      ({ rank, id } = place);
    }
    return found;
  });
}
