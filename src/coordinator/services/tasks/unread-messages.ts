/**
 * What becomes of messages that the agent has not read when their task settles (rule R6): after
 * `done` they are the prompt of one follow-up task, in order; after `failed` and `cancelled` no
 * task begins unasked, they are `undelivered` and a notice says so.
 */
import type { Proposal } from "../../../core/event.ts";
import type { MessageRow, Store } from "../../../core/ports/store.ts";
import type { Ids } from "../../../core/ports/runtime.ts";
import type { Policy, Task } from "../../../core/task.ts";
import { serverNotice } from "../../../core/notices.ts";
import type { PlanUnread, TaskCreation } from "../../task-log.ts";
import { attachmentsOf, TaskAttachments, type AttachmentDeps } from "./attachments.ts";
import { planFollowUp, toChild } from "./retry-and-follow-up.ts";
import { messageText } from "../worker/commands.ts";

export interface UnreadDeps extends Pick<AttachmentDeps, "attachments"> {
  readonly store: Pick<Store, "task" | "tasks" | "events" | "eventsOfOthers">;
  readonly ids: Ids;
  readonly policy: Policy;
}

export function createUnreadPlanner(deps: UnreadDeps): PlanUnread {
  return async (task, unread) => {
    if (task.state !== "done") return { proposals: toUndelivered(task, unread), followUp: null };
    const followUp = await planOne(deps, task, unread);
    const proposals = unread.map(({ id }): Proposal => toStatus(id, { status: "moved", taskId: followUp.id }));
    return { proposals, followUp };
  };
}

const toStatus = (id: string, data: object): Proposal => ({ type: "message.status", data: { id, ...data } });

function toUndelivered({ state }: Task, unread: readonly MessageRow[]): Proposal[] {
  const many = unread.length === 1 ? "A message was" : `${unread.length} messages were`;
  const text = `${many} not delivered: the task ended as ${state} first. Sent again, a message begins a follow-up task.`;
  return [
    ...unread.map(({ id }) => toStatus(id, { status: "undelivered" })),
    serverNotice("warning", "messages_undelivered", text),
  ];
}

async function planOne(
  { store, ids, policy, attachments }: UnreadDeps,
  task: Task,
  unread: readonly MessageRow[],
): Promise<TaskCreation> {
  // The store still has the task as it was before it settled.
  const reader: Pick<Store, "tasks" | "eventsOfOthers"> = {
    eventsOfOthers: (id, after, limit) => store.eventsOfOthers(id, after, limit),
    async tasks(query) {
      const page = await store.tasks(query);
      return { ...page, items: page.items.map((stored) => (stored.id === task.id ? task : stored)) };
    },
  };
  const text = unread.map(messageText).join("\n\n");
  const given = unread.flatMap(({ content }) => attachmentsOf(content));
  const plan = await planFollowUp(reader, task, { text, attachments: given });
  const first = (await store.events(task.id, (unread[0]?.seq ?? 1) - 1, 1)).items[0];
  const by = String(first?.data["by"] ?? task.userId);
  // A client cannot send a key with a space, so this one names the follow-up of this task alone.
  const idempotency = { key: `messages of ${task.id}`, fingerprint: "" };
  const id = ids.next("task");
  const files = new TaskAttachments({ store, ...(attachments === undefined ? {} : { attachments }) });
  const spec = await files.inherit(plan.spec, id);
  return { ...toChild(task, { ...plan, spec }, { id, policy, by }), idempotency };
}
