/**
 * What a person sends: kept on this device until the server has it.
 *
 * O1 An item is kept before it is sent, under one idempotency key, so that it has one effect,
 *    however often it is sent (rule R5).
 * O2 Items are sent in the order in which they were made, by one tab at a time.
 * O3 What the server rejects is shown as failed and stays until the person drops it.
 * O4 The list is never older than what this tab changed: a read that began before a change is made
 *    again.
 */
import { impatientClient } from "../client.ts";
import { session } from "../session.ts";
import { createStore } from "../store.ts";
import { deliverItem, isLate, OUTBOX, type Ended, type Receipt } from "./delivery.ts";
import { dropOutboxItem, keepOutboxItem, readOutbox } from "./kept.ts";
import { withLock } from "./lock.ts";
import type { OutboxItem, OutboxWork } from "./outbox-item.ts";

export type Dispatched =
  | { readonly kind: "sent"; readonly receipt: Receipt }
  | { readonly kind: "waiting" }
  /** An answer that was not applied, which the outbox says. */
  | { readonly kind: "late" };

/** A person does not wait longer for an answer before the item counts as kept. */
const PATIENCE_MS = 6_000;
const SENT_SHOWN_MS = 10 * 60_000;
const RETRY_MS = [1_000, 2_000, 5_000, 10_000, 15_000] as const;

export const outbox = createStore<readonly OutboxItem[]>([]);
/** How items of this tab ended, for their callers. */
const ended = new Map<string, Ended>();
const tabs = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel(OUTBOX);
/** Changes that this tab made to what is kept. */
let changes = 0;
let failures = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Sends now, or keeps it for later when the server cannot be reached.
 * @throws SlipwayProblem when the server rejects it; nothing is kept then, but for a late answer:
 * its question is closed, so the place where it was given is gone from the screen.
 */
export async function dispatch(work: OutboxWork, id: string): Promise<Dispatched> {
  const taskId = work.kind === "submit" ? null : work.taskId;
  await put({ id, at: Date.now(), work, state: "waiting", endedAt: null, problem: null, taskId });
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

/** Sets the list to what is kept (O4). */
async function readKept(): Promise<void> {
  const before = changes;
  const kept = await readOutbox();
  if (before !== changes) return readKept();
  if (kept !== null) outbox.set(kept);
}

export async function dropItem(id: string): Promise<void> {
  changes += 1;
  outbox.set(outbox.get().filter((item) => item.id !== id));
  await dropOutboxItem(id);
  tabs?.postMessage("changed");
}

/** Sends everything that waits, in order; ends at the first item that finds no server. */
export async function flushOutbox(): Promise<void> {
  clearTimeout(timer);
  const isDone = await withLock(OUTBOX, async () => {
    await readKept();
    for (const item of outbox.get()) {
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
  const delivered = await deliverItem(impatientClient, item);
  if (delivered === null) return false;
  ended.set(item.id, delivered.end);
  await put(delivered.item);
  return true;
}

async function put(item: OutboxItem): Promise<void> {
  changes += 1;
  const others = outbox.get().filter((other) => other.id !== item.id);
  outbox.set([...others, item].toSorted((a, b) => a.at - b.at));
  await keepOutboxItem(item);
  tabs?.postMessage("changed");
}

tabs?.addEventListener("message", () => void readKept());
