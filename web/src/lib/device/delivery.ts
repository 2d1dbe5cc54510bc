/** The delivery of an item of the outbox: by a page, or by the service worker when none is open. */
import type { SlipwayClient } from "../../../../src/client/client.ts";
import { isTransient, SlipwayProblem } from "../../../../src/client/problem.ts";
import type { MessageAnswer } from "../../../../src/client/types.ts";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { formatProblem } from "../format.ts";
import type { OutboxItem } from "./outbox-item.ts";

/** The lock under which one sends at a time, the channel that says what changed, and the sync. */
export const OUTBOX = "slipway-outbox";

export type Receipt = { readonly kind: "task"; readonly task: WireTask } | MessageAnswer;
export type Ended = { readonly receipt: Receipt } | { readonly problem: SlipwayProblem };

/** How an answer came too late. */
const LATE: Readonly<Record<string, string>> = {
  already_answered: "Somebody answered first; this answer was not applied.",
  question_expired: "The question expired; this answer was not applied.",
};

export const isLate = ({ code }: SlipwayProblem): boolean => Object.hasOwn(LATE, code);

type Sender = Pick<SlipwayClient, "submit" | "message" | "answer">;

/** @returns the item as it ended; null when the server could not be asked. */
export async function deliverItem(
  client: Sender,
  item: OutboxItem,
): Promise<{ readonly item: OutboxItem; readonly end: Ended } | null> {
  try {
    const receipt = await send(client, item);
    const taskId = receipt.kind === "queued" ? item.taskId : receipt.task.id;
    return { item: { ...item, state: "sent", endedAt: Date.now(), taskId }, end: { receipt } };
  } catch (thrown) {
    if (!(thrown instanceof SlipwayProblem) || isWorthWaiting(thrown)) return null;
    const problem = LATE[thrown.code] ?? formatProblem(thrown);
    return { item: { ...item, state: "failed", endedAt: Date.now(), problem }, end: { problem: thrown } };
  }
}

async function send(client: Sender, { work, id }: OutboxItem): Promise<Receipt> {
  const options = { idempotencyKey: id };
  switch (work.kind) {
    case "submit":
      return { kind: "task", task: await client.submit(work.body, options) };
    case "message":
      return client.message(work.taskId, work.body, options);
    case "answer":
      return { kind: "task", task: await client.answer(work.taskId, work.body, options) };
    default:
      return work satisfies never;
  }
}

/**
 * What passes by itself, a network that broke within the request (408), and a session that must
 * begin again. A used-up quota is none of these: what stands behind the item must not wait until
 * the person or an admin makes room. A fault of the server (500) waits: its effect may be there,
 * and only the same key tells.
 */
const isWorthWaiting = (problem: SlipwayProblem): boolean =>
  isTransient(problem) || [401, 408].includes(problem.status);
