/** Requests that wait to be sent, in their stored form on the device. */
import type { AnswerRequest, MessageRequest, SubmitRequest } from "../../../../src/core/protocol/rest.ts";

export type OutboxWork =
  | { readonly kind: "submit"; readonly body: SubmitRequest }
  | { readonly kind: "message"; readonly taskId: string; readonly body: MessageRequest }
  | { readonly kind: "answer"; readonly taskId: string; readonly body: AnswerRequest };

export interface OutboxItem {
  /** The idempotency key. */
  readonly id: string;
  readonly at: number;
  readonly work: OutboxWork;
  readonly state: "waiting" | "sent" | "failed";
  readonly endedAt: number | null;
  /** Why it failed, in words. */
  readonly problem: string | null;
  /** The task that it made or belongs to. */
  readonly taskId: string | null;
}
