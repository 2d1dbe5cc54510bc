/** A notification that is due now and was not sent yet. */
import type { Notification } from "../core/ports/notifications.ts";

type Given = Pick<Notification, "id" | "deviceId" | "userId" | "taskId" | "subject" | "seq" | "kind" | "title">;

export function createNotification(given: Given, now: number): Notification {
  return {
    ...given,
    dueAt: now,
    acceptedAt: null,
    shownAt: null,
    openedAt: null,
    actedAt: null,
    ended: null,
    problem: null,
    tries: 0,
    nextAt: now,
    passedAt: null,
  };
}
