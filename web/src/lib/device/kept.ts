/**
 * What this device keeps of the server, in one IndexedDB per person: the tasks and the event logs
 * that were seen, and the outbox.
 *
 * K1 A kept log is a prefix of the server's log, without holes, whichever tabs wrote it.
 * K2 Logs are bounded in bytes of JSON, each and together; the one that was read longest ago goes
 *    first.
 * K3 Nothing of a person is left after the log-out, and only the outbox after the server ended the
 *    session.
 *
 * Every function works without a database (forbidden storage, a full disk): nothing is kept then.
 */
import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import type { WireEvent } from "../../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
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

interface KeptSchema extends DBSchema {
  tasks: { key: string; value: WireTask };
  logs: { key: string; value: LogRow };
  /** Runs of events, by task and first seq. */
  parts: { key: [string, number]; value: readonly WireEvent[] };
  outbox: { key: string; value: OutboxItem };
}

type Database = IDBPDatabase<KeptSchema>;

let opening: Promise<Database | null> = Promise.resolve(null);
let limits = KEPT_LIMITS;

/** Opens the person's database; a person who was open before is closed. */
export function openKept(userId: string, bounds: KeptLimits = KEPT_LIMITS): void {
  closeKept();
  limits = bounds;
  opening = openDB<KeptSchema>(`slipway-${userId}`, 1, {
    upgrade(db) {
      db.createObjectStore("tasks");
      db.createObjectStore("logs");
      db.createObjectStore("parts");
      db.createObjectStore("outbox");
    },
    // A newer version of the app, in another tab, changes the stores.
    blocking: () => closeKept(),
  }).catch(() => null);
}

export function closeKept(): void {
  const closing = opening;
  opening = Promise.resolve(null);
  void closing.then((db) => db?.close());
}

const SEEN = ["tasks", "logs", "parts"] as const;

/**
 * Deletes what was seen, or everything that was kept of this person (K3). What arrives meanwhile is
 * not kept: the database is out of reach before it is emptied.
 */
export async function forgetKept(what: "seen" | "everything"): Promise<void> {
  const stores = what === "seen" ? SEEN : ([...SEEN, "outbox"] as const);
  const emptied = use(async (db) => {
    const tx = db.transaction(stores, "readwrite");
    await Promise.all([...stores.map((name) => tx.objectStore(name).clear()), tx.done]);
    db.close();
  }, undefined);
  opening = Promise.resolve(null);
  await emptied;
}

async function use<T>(work: (db: Database) => Promise<T>, otherwise: T): Promise<T> {
  const db = await opening;
  if (db === null) return otherwise;
  try {
    return await work(db);
  } catch {
    return otherwise;
  }
}

// -------------------------------------------------------------- tasks

export function readTasks(): Promise<readonly WireTask[]> {
  return use((db) => db.getAll("tasks"), []);
}

/** Keeps the newest tasks by id. */
export async function keepTasks(tasks: readonly WireTask[]): Promise<void> {
  await use(async (db) => {
    const tx = db.transaction("tasks", "readwrite");
    await Promise.all(tasks.map((task) => tx.store.put(task, task.id)));
    const ids = await tx.store.getAllKeys();
    await Promise.all(ids.slice(0, Math.max(0, ids.length - limits.tasks)).map((id) => tx.store.delete(id)));
    await tx.done;
  }, undefined);
}

export async function dropTasks(ids: readonly string[]): Promise<void> {
  await use(async (db) => {
    const tx = db.transaction(SEEN, "readwrite");
    for (const id of ids) {
      await tx.objectStore("tasks").delete(id);
      await tx.objectStore("logs").delete(id);
      await tx.objectStore("parts").delete(ofTask(id));
    }
    await tx.done;
  }, undefined);
}

// -------------------------------------------------------------- logs

const ofTask = (id: string): IDBKeyRange => IDBKeyRange.bound([id, 0], [id, Number.MAX_SAFE_INTEGER]);

export function readLog(id: string, now = Date.now()): Promise<readonly WireEvent[]> {
  return use(async (db) => {
    const tx = db.transaction(["logs", "parts"], "readwrite");
    const row = await tx.objectStore("logs").get(id);
    if (row === undefined) return [];
    await tx.objectStore("logs").put({ ...row, readAt: now }, id);
    const parts = await tx.objectStore("parts").getAll(ofTask(id));
    await tx.done;
    return parts.flat();
  }, []);
}

/** Appends what follows the kept prefix; other events are ignored (K1). */
export async function keepEvents(id: string, events: readonly WireEvent[], now = Date.now()): Promise<void> {
  await use(async (db) => {
    const tx = db.transaction(["logs", "parts"], "readwrite");
    const rows = tx.objectStore("logs");
    const known = (await rows.get(id)) ?? { id, seq: 0, bytes: 0, readAt: now };
    const { added, bytes } = selectNext(known, events);
    const [first] = added;
    if (first !== undefined) {
      await tx.objectStore("parts").put(added, [id, first.seq]);
      await rows.put({ id, seq: first.seq + added.length - 1, bytes: known.bytes + bytes, readAt: now }, id);
    }
    for (const { id: old } of selectOldest(await rows.getAll())) {
      await tx.objectStore("parts").delete(ofTask(old));
      await rows.delete(old);
    }
    await tx.done;
  }, undefined);
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
  return use(async (db) => (await db.getAll("outbox")).toSorted((a, b) => a.at - b.at), null);
}

export async function keepOutboxItem(item: OutboxItem): Promise<void> {
  await use((db) => db.put("outbox", item, item.id), "");
}

export async function dropOutboxItem(id: string): Promise<void> {
  await use((db) => db.delete("outbox", id), undefined);
}
