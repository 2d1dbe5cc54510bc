/**
 * What a person sends: kept on this device until the server has it.
 *
 * O1 An item is kept before it is sent, under one idempotency key, so that it has one effect,
 *    however often it is sent (rule R5).
 * O2 Items are sent in the order in which they were made, by one tab at a time.
 * O3 What the server rejects is shown as failed and stays until the person drops it.
 * O4 The list is never older than what this tab changed: a read that began before a change is made
 *    again.
 * O5 What the browser does not store, as on a full device, is in the list of this page all the
 *    same, is sent from it, and is stored as soon as there is room.
 */
import { SlipwayProblem } from "../../../../src/client/problem.ts";
import { readFiles } from "../attachments/kept-files.ts";
import { impatientClient } from "../client.ts";
import { getPerson, session } from "../session.ts";
import { createStore } from "../store.ts";
import { deliverItem, isLate, OUTBOX, type Ended, type Receipt } from "./delivery.ts";
import { dropOutboxItem, keepOutboxItem, readOutbox } from "./kept.ts";
import { withLock } from "./lock.ts";
import { draftsOf, type OutboxItem, type OutboxWork } from "./outbox-item.ts";

export type Dispatched =
  | { readonly kind: "sent"; readonly receipt: Receipt }
  | { readonly kind: "waiting" }
  /** An answer that was not applied, which the outbox says. */
  | { readonly kind: "late" };

interface InPage {
  /** Whose it is. */
  readonly owner: string | null;
  readonly item: OutboxItem;
}

/** A person does not wait longer for an answer before the item counts as kept. */
const PATIENCE_MS = 6_000;
const SENT_SHOWN_MS = 10 * 60_000;
const RETRY_MS = [1_000, 2_000, 5_000, 10_000, 15_000] as const;

export const outbox = createStore<readonly OutboxItem[]>([]);
/** The ids of items that live in this page only (O5). */
export const unstored = createStore<ReadonlySet<string>>(new Set());
/** What is being stored, and what could not be. */
const inPage = new Map<string, InPage>();
/** How items of this tab ended, for their callers. */
const ended = new Map<string, Ended>();
const tabs = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(OUTBOX);
/** Changes that this tab made to what is kept. */
let changes = 0;
let failures = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

/**
 * Sends now, or keeps it for later when the server cannot be reached.
 * @throws SlipwayProblem when the server rejects it, or the session has ended; nothing is kept
 * then, but for a late answer: its question is closed, so the place where it was given is gone from
 * the screen.
 */
export async function dispatch(work: OutboxWork, id: string): Promise<Dispatched> {
  if (session.get().kind === "none") throw new SlipwayProblem("unauthenticated", 401, "The session has ended.");
  const taskId = work.kind === "submit" ? null : work.taskId;
  const ids = work.kind === "answer" ? [] : (work.body.attachments ?? []);
  const files = readFiles(draftsOf(work).files).filter((file) => ids.includes(file.id));
  await put({ id, at: Date.now(), work, files, state: "waiting", endedAt: null, problem: null, taskId });
  await Promise.race([flushOutbox(), new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
  const end = ended.get(id);
  if (end === undefined) {
    void askForSync();
    return { kind: "waiting" };
  }
  ended.delete(id);
  if ("problem" in end && isLate(end.problem)) return { kind: "late" };
  await dropItem(id);
  if ("problem" in end) throw end.problem;
  return { kind: "sent", receipt: end.receipt };
}

interface WithSync extends ServiceWorkerRegistration {
  readonly sync?: { register(tag: string): Promise<void> };
}

/** Where the browser offers it, the service worker sends when no page is open. */
async function askForSync(): Promise<void> {
  const registration: WithSync | undefined = await navigator.serviceWorker?.getRegistration();
  await registration?.sync?.register(OUTBOX).catch(() => undefined);
}

/** Begins with what an earlier page of the person left. */
export async function openOutbox(): Promise<void> {
  await readKept();
  outbox.set(outbox.get().filter((item) => item.state !== "sent" || !isOld(item)));
  await flushOutbox();
}

/** Sets the list to what is kept (O4), and to what could not be (O5). */
async function readKept(): Promise<void> {
  const before = changes;
  const kept = await readOutbox();
  if (before !== changes) return readKept();
  const owner = getOwner();
  const own = [...inPage.values()].flatMap((entry) => (entry.owner === owner ? [entry.item] : []));
  const stored = (kept ?? outbox.get()).filter(({ id }) => !inPage.has(id));
  outbox.set([...stored, ...own].toSorted((a, b) => a.at - b.at));
}

export async function dropItem(id: string): Promise<void> {
  changes += 1;
  inPage.delete(id);
  note(id, true);
  outbox.set(outbox.get().filter((item) => item.id !== id));
  await dropOutboxItem(id);
  tabs?.postMessage("changed");
}

/** Sends everything that waits, in order; ends at the first item that finds no server. */
export async function flushOutbox(): Promise<void> {
  clearTimeout(timer);
  const isDone = await withLock(OUTBOX, async () => {
    await storeAgain();
    await readKept();
    for (const item of outbox.get()) {
      // It may have been taken back since.
      if (!outbox.get().some(({ id }) => id === item.id)) continue;
      if (item.state === "sent" && isOld(item)) await dropItem(item.id);
      if (item.state === "waiting" && !(await deliver(item))) return false;
    }
    return true;
  });
  failures = isDone ? 0 : failures + 1;
  const wait = RETRY_MS[Math.min(failures, RETRY_MS.length) - 1];
  if (wait !== undefined && session.get().kind === "active") timer = setTimeout(() => void flushOutbox(), wait);
}

const isOld = (item: OutboxItem): boolean => item.endedAt !== null && Date.now() - item.endedAt > SENT_SHOWN_MS;

/** @returns false when the server could not be asked. */
async function deliver(item: OutboxItem): Promise<boolean> {
  if (session.get().kind !== "active") return false;
  const owner = getOwner();
  const delivered = await deliverItem(impatientClient, item);
  if (delivered === null || owner !== getOwner()) return false;
  ended.set(item.id, delivered.end);
  await put(delivered.item);
  return true;
}

async function put(item: OutboxItem): Promise<void> {
  // After the end of a session nothing is added to what the next person sees.
  if (session.get().kind === "none") return;
  changes += 1;
  const others = outbox.get().filter((other) => other.id !== item.id);
  outbox.set([...others, item].toSorted((a, b) => a.at - b.at));
  const entry = { owner: getOwner(), item };
  inPage.set(item.id, entry);
  await store(entry);
  tabs?.postMessage("changed");
}

// -------------------------------------------------------------- what is not stored (O5)

const getOwner = (): string | null => getPerson()?.id ?? null;

function note(id: string, isStored: boolean): void {
  if (unstored.get().has(id) !== isStored) return;
  const others = [...unstored.get()].filter((other) => other !== id);
  unstored.set(new Set(isStored ? others : [...others, id]));
}

async function store(entry: InPage): Promise<void> {
  const { id, state } = entry.item;
  const isStored = await keepOutboxItem(entry.item);
  // It may have been changed or dropped meanwhile.
  if (inPage.get(id) !== entry) return;
  if (isStored) inPage.delete(id);
  note(id, isStored);
  // What is stored of it still waits, and a later page would send it again.
  if (!isStored && state !== "waiting") await dropOutboxItem(id);
}

async function storeAgain(): Promise<void> {
  for (const entry of inPage.values())
    if (entry.owner === getOwner() && unstored.get().has(entry.item.id)) await store(entry);
}

// What is stored survives the end of a session that the server ended, and so does this; a log-out
// leaves nothing.
session.subscribe(() => {
  const state = session.get();
  if (state.kind !== "none") return;
  changes += 1;
  outbox.set([]);
  if (state.endedAt !== null) return;
  inPage.clear();
  unstored.set(new Set());
});

tabs?.addEventListener("message", () => void readKept());
