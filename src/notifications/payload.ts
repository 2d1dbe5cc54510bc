/** The message that a device gets, and the proof that a receipt comes from this device. */
import { createHmac, timingSafeEqual } from "node:crypto";
import type { Notification, NotificationKind } from "../core/ports/notifications.ts";
import type { Subject } from "./subjects.ts";

/** What the service worker reads (web/service-worker/push.ts). */
export interface PushPayload {
  readonly id: string;
  /** Sent back with each receipt. Only the device can decrypt it. */
  readonly receipt: string;
  readonly kind: NotificationKind;
  readonly title: string;
  readonly body: string;
  /** Where a tap leads. */
  readonly url: string;
  /** A later notification of the same task replaces the former. */
  readonly tag: string;
  readonly at: number;
  readonly taskId: string | null;
  readonly question: { readonly id: string; readonly options: readonly string[] } | null;
  readonly canStop: boolean;
  /** How many tasks of the person wait for an answer: the number on the app's icon. */
  readonly needs: number;
}

const TITLE = 100;
const BODY = 300;
/** Systems show about two actions; longer texts are cut there, so they are not offered. */
const OPTIONS = 2;
const OPTION = 40;
const WORDS: Readonly<Record<NotificationKind, string>> = {
  needs_you: "Asks",
  budget: "Budget",
  done: "Done",
  failed: "Failed",
  test: "Test",
};

/** Cuts between characters, never inside one. */
const cut = (text: string, length: number): string => {
  const line = text.replaceAll(/\s+/g, " ").trim();
  return line.length <= length ? line : `${[...line].slice(0, length - 1).join("")}…`;
};

/** At most about 2 kB: a push service takes 4 kB after encryption. */
export function makePayload(
  row: Notification,
  subject: Subject | null,
  { receipt, needs }: Pick<PushPayload, "receipt" | "needs">,
): PushPayload {
  const { id, kind, taskId, title, dueAt } = row;
  const isTest = kind === "test";
  const options = (subject?.question?.options ?? []).filter((option) => option.length <= OPTION).slice(0, OPTIONS);
  return {
    id,
    receipt,
    kind,
    title: isTest ? "Slipway reaches this device" : cut(`${WORDS[kind]}: ${title}`, TITLE),
    body: cut(subject?.text ?? "You hear from it when it is your move.", BODY),
    url: isTest ? "/you/notifications" : `/tasks/${taskId}`,
    tag: isTest ? "test" : taskId,
    at: subject?.at ?? dueAt,
    taskId: isTest ? null : taskId,
    question: subject?.question ? { id: subject.question.id, options } : null,
    canStop: subject?.isOpen ?? false,
    needs,
  };
}

/** @param secrets the newest first. */
export function makeReceipt([secret]: readonly Uint8Array[], notificationId: string): string {
  if (secret === undefined) throw new Error("there is no secret to sign a receipt with");
  return createHmac("sha256", secret).update(notificationId).digest("base64url");
}

export function isReceipt(secrets: readonly Uint8Array[], notificationId: string, given: string): boolean {
  const actual = Buffer.from(given);
  return secrets.some((secret) => {
    const expected = Buffer.from(makeReceipt([secret], notificationId));
    return actual.length === expected.length && timingSafeEqual(expected, actual);
  });
}
