/**
 * What this device keeps of the server, in one IndexedDB per person: the tasks and the event logs
 * that were seen, and the outbox.
 *
 * K1 A kept log is a run of the server's log without holes, whichever tabs wrote it: from its first
 *    event, or from some page before its end; then what the page knows of the begin is kept too.
 * K2 Logs are bounded in bytes of JSON, each and together; the one that was read longest ago goes
 *    first.
 * K3 Nothing of a person is left after the log-out, and only the outbox after the server ended the
 *    session.
 *
 * Every function works without a database (forbidden storage, a full disk): nothing is kept then,
 * which `keepOutboxItem` says.
 */
import type { WireEvent } from "../../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { openDatabase, Rows, transact } from "./database.ts";
import type { OutboxItem } from "./outbox-item.ts";

export interface KeptLimits {
  readonly tasks: number;
  /** Bytes of JSON of one log, and of all. */
  readonly log: number;
  readonly logs: number;
}

export const KEPT_LIMITS: KeptLimits = { tasks: 200, log: 4_000_000, logs: 24_000_000 };

interface LogRow {
  readonly id: string;
  readonly seq: number;
  readonly bytes: number;
  readonly readAt: number;
}

interface Stores {
  readonly tasks: Rows<string, WireTask>;
  readonly logs: Rows<string, LogRow>;
  /** Parts of the run, by task and first seq; with the seq 0 what is known from before the run. */
  readonly parts: Rows<[string, number], readonly WireEvent[]>;
  readonly outbox: Rows<string, OutboxItem>;
}

const SEEN = ["tasks", "logs", "parts"] as const;
const STORES = [...SEEN, "outbox"] as const;

let opening: Promise<IDBDatabase | null> = Promise.resolve(null);
let limits = KEPT_LIMITS;

/** Opens the person's database; a person who was open before is closed. */
export function openKept(userId: string, bounds: KeptLimits = KEPT_LIMITS): void {
  closeKept();
  limits = bounds;
  // A newer version of the app, in another tab, may change the stores.
  opening = openDatabase(`slipway-${userId}`, STORES, closeKept).catch(() => null);
}

export function closeKept(): void {
  const closing = opening;
  opening = Promise.resolve(null);
  void closing.then((db) => db?.close());
}

/**
 * Deletes what was seen, or everything that was kept of this person (K3). What arrives meanwhile is
 * not kept: the database is out of reach before it is emptied.
 */
export async function forgetKept(what: "seen" | "everything"): Promise<void> {
  const names = what === "seen" ? SEEN : STORES;
  const emptied = use(names, (stores) => Promise.all(names.map((name) => stores[name].clear())), []);
  const closing = opening;
  opening = Promise.resolve(null);
  await emptied;
  (await closing)?.close();
}

/** @param names the stores that the work uses. */
async function use<T, N extends keyof Stores>(
  names: readonly N[],
  work: (stores: Pick<Stores, N>) => Promise<T>,
  otherwise: T,
  mode: IDBTransactionMode = "readwrite",
): Promise<T> {
  const db = await opening;
  if (db === null) return otherwise;
  try {
    return await transact(db, names, mode, (tx) => {
      const stores = names.map((name) => [name, new Rows(tx.objectStore(name))]);
      return work(Object.fromEntries(stores) as Pick<Stores, N>);
    });
  } catch {
    return otherwise;
  }
}

// -------------------------------------------------------------- tasks

export function readTasks(): Promise<readonly WireTask[]> {
  return use(["tasks"], ({ tasks }) => tasks.getAll(), [], "readonly");
}

/** Keeps the newest tasks by id. */
export async function keepTasks(added: readonly WireTask[]): Promise<void> {
  const keep = async ({ tasks }: Pick<Stores, "tasks">): Promise<void> => {
    await Promise.all(added.map((task) => tasks.put(task, task.id)));
    const ids = await tasks.getKeys();
    await Promise.all(ids.slice(0, Math.max(0, ids.length - limits.tasks)).map((id) => tasks.delete(id)));
  };
  await use(["tasks"], keep, undefined);
}

export async function dropTasks(ids: readonly string[]): Promise<void> {
  const drop = async ({ tasks, logs, parts }: Pick<Stores, (typeof SEEN)[number]>): Promise<void> => {
    for (const id of ids) {
      await tasks.delete(id);
      await logs.delete(id);
      await parts.delete(ofTask(id));
    }
  };
  await use(SEEN, drop, undefined);
}

// -------------------------------------------------------------- logs

type LogStores = Pick<Stores, "logs" | "parts">;
const OF_LOGS = ["logs", "parts"] as const;

const ofTask = (id: string, from = 0): IDBKeyRange => IDBKeyRange.bound([id, from], [id, Number.MAX_SAFE_INTEGER]);

export interface KeptLog {
  /** What is known from before the run; empty when the run has the whole log. */
  readonly begin: readonly WireEvent[];
  readonly run: readonly WireEvent[];
}

const NOTHING: KeptLog = { begin: [], run: [] };

export function readLog(id: string, now = Date.now()): Promise<KeptLog> {
  const read = async ({ logs, parts }: LogStores): Promise<KeptLog> => {
    const row = await logs.get(id);
    if (row === undefined) return NOTHING;
    await logs.put({ ...row, readAt: now }, id);
    const begin = await parts.get([id, 0]);
    return { begin: begin ?? [], run: (await parts.getAll(ofTask(id, 1))).flat() };
  };
  return use(OF_LOGS, read, NOTHING);
}

/** Keeps a run that is newer than what is known: in its place where a hole is between them. */
export async function keepEnds(id: string, { begin, run }: KeptLog, now = Date.now()): Promise<void> {
  const keep = async ({ logs, parts }: LogStores): Promise<void> => {
    const known = await logs.get(id);
    const [first, last] = [run[0]?.seq ?? 0, run.at(-1)?.seq ?? 0];
    if (first <= (known?.seq ?? 0) + 1) return;
    const bytes = JSON.stringify([begin, run]).length;
    if (bytes > limits.log) return;
    await parts.delete(ofTask(id));
    await parts.put(begin, [id, 0]);
    await parts.put(run, [id, first]);
    await logs.put({ id, seq: last, bytes, readAt: now }, id);
  };
  await use(OF_LOGS, keep, undefined);
  await keepEvents(id, run, now);
}

/** Appends what follows the kept run; other events are ignored (K1). */
export async function keepEvents(id: string, events: readonly WireEvent[], now = Date.now()): Promise<void> {
  const keep = async ({ logs, parts }: LogStores): Promise<void> => {
    const known = (await logs.get(id)) ?? { id, seq: 0, bytes: 0, readAt: now };
    const { added, bytes } = selectNext(known, events);
    const [first] = added;
    if (first !== undefined) {
      await parts.put(added, [id, first.seq]);
      await logs.put({ id, seq: first.seq + added.length - 1, bytes: known.bytes + bytes, readAt: now }, id);
    }
    for (const { id: old } of selectOldest(await logs.getAll())) {
      await parts.delete(ofTask(old));
      await logs.delete(old);
    }
  };
  await use(OF_LOGS, keep, undefined);
}

function selectNext(known: LogRow, events: readonly WireEvent[]): { added: WireEvent[]; bytes: number } {
  const added: WireEvent[] = [];
  let bytes = 0;
  for (const event of events) {
    if (event.seq <= known.seq) continue;
    const size = JSON.stringify(event).length;
    if (event.seq !== known.seq + added.length + 1 || known.bytes + bytes + size > limits.log) break;
    added.push(event);
    bytes += size;
  }
  return { added, bytes };
}

/** The logs that must go so that the rest is within its bound. */
function selectOldest(rows: readonly LogRow[]): readonly LogRow[] {
  let bytes = rows.reduce((sum, row) => sum + row.bytes, 0);
  const oldest = rows.toSorted((a, b) => a.readAt - b.readAt);
  return oldest.filter((row) => {
    if (bytes <= limits.logs) return false;
    bytes -= row.bytes;
    return true;
  });
}

// -------------------------------------------------------------- outbox

/** In the order in which they were made. */
export function readOutbox(): Promise<readonly OutboxItem[] | null> {
  const read = async ({ outbox }: Pick<Stores, "outbox">): Promise<readonly OutboxItem[]> =>
    (await outbox.getAll()).toSorted((a, b) => a.at - b.at);
  return use(["outbox"], read, null, "readonly");
}

/** @returns whether it is stored. */
export function keepOutboxItem(item: OutboxItem): Promise<boolean> {
  const keep = async ({ outbox }: Pick<Stores, "outbox">): Promise<boolean> => {
    await outbox.put(item, item.id);
    return true;
  };
  return use(["outbox"], keep, false);
}

export async function dropOutboxItem(id: string): Promise<void> {
  await use(["outbox"], ({ outbox }) => outbox.delete(id), null);
}
