/**
 * Whether the queue is claimed, as an operator set it: one durable setting, so that a crash between
 * two writes leaves no mode that nobody chose.
 */
import type { Store } from "../../core/ports/store.ts";

/**
 * paused: nothing is claimed. draining: the same, tasks that wait for an answer park at once, and
 * the queue says what still runs (rule D15).
 */
export type QueueMode =
  | { readonly state: "open" }
  | { readonly state: "paused" }
  | { readonly state: "draining"; readonly since: number };

const PAUSED = "queue.paused";
const DRAINING = /^drain (\d+)$/;

export async function readQueueMode(store: Pick<Store, "setting">): Promise<QueueMode> {
  const text = await store.setting(PAUSED);
  if (text === null) return { state: "open" };
  const since = DRAINING.exec(text)?.[1];
  return since === undefined ? { state: "paused" } : { state: "draining", since: Number(since) };
}

export function writeQueueMode(store: Pick<Store, "setSetting">, mode: QueueMode): Promise<void> {
  const text = mode.state === "open" ? null : mode.state === "paused" ? "1" : `drain ${mode.since}`;
  return store.setSetting(PAUSED, text);
}
