/**
 * Notifications: shown as they come, with a receipt to the server for each rung that they reach.
 *
 * U1 A push message is always shown: browsers take the permission away from apps that do not.
 * U2 An action that the server did not take opens the task, where the person sees why.
 */
import { dropMarks } from "../src/lib/tasks/plain-line.ts";
import { callAsPerson } from "./session.ts";

declare const self: ServiceWorkerGlobalScope;

/** What the server sends (src/notifications/payload.ts). */
interface Payload {
  readonly id: string;
  readonly receipt: string;
  readonly kind: string;
  readonly title: string;
  readonly body: string;
  readonly url: string;
  readonly tag: string;
  readonly at: number;
  readonly taskId: string | null;
  readonly question: { readonly id: string; readonly options: readonly string[] } | null;
  readonly canStop: boolean;
  /** How many tasks wait for an answer of the person. */
  readonly needs: number;
}

interface Action {
  readonly action: string;
  readonly title: string;
}

/** TypeScript does not know these parts of the standard. */
type Options = NotificationOptions & {
  readonly actions?: readonly Action[];
  readonly renotify?: boolean;
  readonly timestamp?: number;
};

const ACTIONS = 2;
const RECEIPT_TRIES = 3;
const RETRY_MS = 2_000;
const LOOK: Options = { icon: "/icons/icon-192.png", badge: "/icons/badge-96.png" };

export async function showPush(data: PushMessageData | null): Promise<void> {
  const payload = read(data);
  if (payload === null) {
    await self.registration.showNotification("Slipway", { ...LOOK, body: "Something happened. Open the app." });
    return;
  }
  const { title, body, tag, at } = payload;
  const options: Options = {
    ...LOOK,
    body: dropMarks(body),
    tag,
    renotify: true,
    timestamp: at,
    data: payload,
    actions: actionsOf(payload),
  };
  await self.registration.showNotification(title, options);
  if ("setAppBadge" in navigator) await navigator.setAppBadge(payload.needs).catch(() => undefined);
  await report(payload, "shown");
}

function read(data: PushMessageData | null): Payload | null {
  try {
    const payload = data?.json() as Partial<Payload> | undefined;
    return typeof payload?.id === "string" && typeof payload.title === "string" ? (payload as Payload) : null;
  } catch {
    return null;
  }
}

function actionsOf({ question, canStop }: Payload): Action[] {
  const answers = (question?.options ?? []).map((option, index) => ({ action: `answer-${index}`, title: option }));
  return [...answers, ...(canStop ? [{ action: "stop", title: "Stop" }] : [])].slice(0, ACTIONS);
}

export async function onNotificationClick({ notification, action }: NotificationEvent): Promise<void> {
  notification.close();
  const payload = notification.data as Payload | null;
  if (payload === null) return open("/");
  if (action === "") {
    await Promise.all([open(payload.url), report(payload, "opened")]);
    return;
  }
  const isTaken = await act(payload, action);
  await (isTaken ? report(payload, "acted") : Promise.all([open(payload.url), report(payload, "opened")]));
}

/** @returns true when the server did it. The key makes a repeated tap the same action. */
async function act(payload: Payload, action: string): Promise<boolean> {
  const { id, taskId, question, tag } = payload;
  const task = `/v1/tasks/${encodeURIComponent(taskId ?? "")}`;
  const index = Number(/^answer-(\d)$/.exec(action)?.[1] ?? Number.NaN);
  const answer = question?.options[index];
  const say = (title: string): Promise<void> =>
    self.registration.showNotification(title, { ...LOOK, tag, silent: true, data: payload });
  if (question !== null && answer !== undefined) {
    const body = { questionId: question.id, text: answer };
    const status = await callAsPerson(`${task}/answer`, body, `${id}-${action}`);
    if (status === 0 || status >= 300) return false;
    await say(`Answered “${answer}”`);
    return true;
  }
  if (action !== "stop") return false;
  const status = await callAsPerson(`${task}/cancel`, null, `${id}-stop`);
  if (status === 0 || status >= 300) return false;
  await say("The task stops");
  return true;
}

/** Shows the address in a window of the app that is open, or in a new one. */
async function open(path: string): Promise<void> {
  const windows = await self.clients.matchAll({ type: "window" });
  const url = new URL(path, location.origin).href;
  const shown = windows.find((client) => client.url === url) ?? windows[0];
  try {
    if (shown === undefined) throw new Error("no window is open");
    const moved = shown.url === url ? shown : await shown.navigate(url);
    await moved?.focus();
  } catch {
    await self.clients.openWindow(url);
  }
}

async function report({ id, receipt }: Payload, rung: string): Promise<void> {
  for (let tries = 1; tries <= RECEIPT_TRIES; tries++) {
    const isTaken = await fetch("/v1/push/receipts", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ id, receipt, rung }),
    }).then(
      ({ status }) => status < 500,
      () => false,
    );
    if (isTaken) return;
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}
