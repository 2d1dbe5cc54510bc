/** Requests that wait to be sent, in their stored form on the device. */
import type { AnswerRequest, MessageRequest, SubmitRequest } from "../../../../src/core/protocol/rest.ts";
import type { Attachment } from "../../../../src/core/values/attachment.ts";

export type OutboxWork =
  | { readonly kind: "submit"; readonly body: SubmitRequest }
  | { readonly kind: "message"; readonly taskId: string; readonly body: MessageRequest }
  | { readonly kind: "answer"; readonly taskId: string; readonly body: AnswerRequest };

export interface OutboxItem {
  /** The idempotency key. */
  readonly id: string;
  readonly at: number;
  readonly work: OutboxWork;
  /** What the draft knew of the attachments of the work; absent = of an older version. */
  readonly files?: readonly Attachment[];
  readonly state: "waiting" | "sent" | "failed";
  readonly endedAt: number | null;
  /** Why it failed, in words. */
  readonly problem: string | null;
  /** The task that it made or belongs to. */
  readonly taskId: string | null;
}

/** The names of the drafts that it was made of. */
export function draftsOf(work: OutboxWork): { readonly text: string; readonly files: string } {
  if (work.kind === "submit") return { text: "new.prompt", files: "new.files" };
  if (work.kind === "message") return { text: `message.${work.taskId}`, files: `files.${work.taskId}` };
  return { text: `answer.${work.body.questionId}`, files: "" };
}
