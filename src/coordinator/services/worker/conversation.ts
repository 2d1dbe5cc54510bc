/** What a new worker needs of the messages, answers and notices in the log. */
import { isTimeQuestion } from "../../../core/budget.ts";
import type { Store } from "../../../core/ports/store.ts";
import { DELIVERED, type WorkerSpec } from "../../../core/protocol/worker.ts";
import type { Task } from "../../../core/task.ts";
import { BRANCH_NEWS } from "../../effects/branch/start-point.ts";
import { readLogWithoutWorker } from "../../read-lists.ts";
import { answerText, messageParts } from "./commands.ts";

export interface Conversation extends Pick<WorkerSpec, "answers" | "delivered" | "commandsAfter"> {
  /** News of this attempt, for the agent. */
  readonly notes: string[];
  /** Who asked for the work; null when the log does not tell. */
  readonly by: string | null;
}

const MORE_TIME =
  "The working time of the last attempt was used up, and it was ended. A person granted more: go on from where it was.";

export async function readConversation(
  store: Pick<Store, "eventsOfOthers" | "message">,
  task: Task,
): Promise<Conversation> {
  const now = task.snapshot.context.attempt;
  const answers: Record<string, string> = {};
  const delivered: WorkerSpec["delivered"] = [];
  const notes: string[] = [];
  let commandsAfter = task.seq;
  let by: string | null = null;
  for await (const { type, seq, data, attempt } of readLogWithoutWorker(store, task.id, 0)) {
    if (type === "task.submitted") by = String(data["by"] ?? task.userId);
    if (type === "answer") {
      answers[String(data["questionId"])] = answerText(data);
      if (isTimeQuestion(String(data["questionId"])) && attempt === now - 1) notes.push(MORE_TIME);
    }
    const isNews = type === "notice" && BRANCH_NEWS.some((code) => code === data["code"]);
    if (isNews && attempt === now) notes.push(String(data["text"]));
    const message = type === "message" ? await store.message(task.id, String(data["id"])) : null;
    if (message?.status === "queued") commandsAfter = Math.min(commandsAfter, seq - 1);
    if (message?.status === "delivered") delivered.push({ id: message.id, ...messageParts(message) });
    if (delivered.length > DELIVERED) delivered.shift();
  }
  return { answers, delivered, commandsAfter, notes, by };
}
