/**
 * Tells people about their tasks. Level-triggered, like the supervisor: each pass derives what is
 * due from the tasks that changed since the last pass, and does what the rows still need.
 *
 * N1 The position in the list of changes is stored after the rows that follow from it, so a kill
 *    between a commit and its notification loses nothing; deriving again is harmless (N2).
 * N2 A message is sent at least once: a kill between the push service's answer and its record
 *    sends it again, and the device replaces the first one by its tag.
 * N3 One device at a time is told: the browser that was used last, and the next one when that does
 *    not show it within 30 s; then ntfy and webhooks, which give no receipt: taken is shown.
 */
import { errorMessage } from "../core/error.ts";
import type { Notification, NotificationProgress, Notifications, PushDevice } from "../core/ports/notifications.ts";
import type { Bus, Clock, Ids, Log } from "../core/ports/runtime.ts";
import type { Store } from "../core/ports/store.ts";
import type { Task } from "../core/task.ts";
import { makePayload, makeReceipt } from "./payload.ts";
import { createNotification } from "./new-notification.ts";
import type { Presence } from "./presence.ts";
import type { PushSender } from "./push-sender.ts";
import { subjectOf, type Subject } from "./subjects.ts";

export interface NotifierDeps {
  readonly store: Store;
  readonly notifications: Notifications;
  readonly bus: Bus;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly presence: Presence;
  readonly sender: PushSender;
  readonly secrets: () => readonly Uint8Array[];
  readonly isSessionValid: (sessionId: string | null) => Promise<boolean>;
  /** False for a person who is disabled. */
  readonly isActive: (userId: string) => Promise<boolean>;
}

export interface Notifier {
  /** Makes the next pass begin soon. */
  wake(): void;
  close(): Promise<void>;
}

const CURSOR = "notifications.rev";
const PAGE = 100;
/** Changes without a notification after which the position is stored. */
const SAVE_EVERY = 1_000;
const BATCH = 20;
/** Commits within this time share a pass. */
const GATHER_MS = 100;
/** Longest delay after a lost hint or a failure. */
const TICK_MS = 5_000;
const UNSHOWN_MS = 30_000;
const BACKOFF_MS = [1_000, 5_000, 15_000, 60_000, 300_000] as const;
/** A later notification would be stale. */
const EXPIRY_MS = 24 * 60 * 60_000;

export function openNotifier(deps: NotifierDeps): Notifier {
  const { bus, clock, log } = deps;
  const derived = deriver(deps);
  const deliver = deliverer(deps);
  let cancelTimer = (): void => undefined;
  let running: Promise<void> | null = null;
  let isAsked = false;
  let isClosed = false;

  async function pass(): Promise<void> {
    try {
      await derived();
      for (;;) {
        const due = await deps.notifications.dueNotifications(clock.now(), BATCH);
        if (due.length === 0 || isClosed) break;
        await Promise.all(due.map((row) => deliver(row)));
      }
    } catch (error) {
      if (!isClosed) log.warn({ error: errorMessage(error) }, "notifications wait for the next try");
    }
  }

  function run(): void {
    cancelTimer();
    if (isClosed) return;
    isAsked = false;
    running ??= pass().finally(() => {
      running = null;
      schedule(isAsked ? GATHER_MS : TICK_MS);
    });
  }

  function schedule(ms: number): void {
    cancelTimer();
    if (!isClosed) cancelTimer = clock.timer(ms, run);
  }

  function wake(): void {
    if (isAsked) return;
    isAsked = true;
    if (running === null) schedule(GATHER_MS);
  }

  const unsubscribe = bus.onHint(wake);
  wake();
  return {
    wake,
    async close() {
      isClosed = true;
      unsubscribe();
      cancelTimer();
      await running;
    },
  };
}

/** Adds the rows that follow from the tasks that changed since the last call. */
function deriver({ store, notifications, clock, ids, presence }: NotifierDeps): () => Promise<void> {
  let position: number | null = null;
  let saved = 0;

  async function add(task: Task): Promise<boolean> {
    const subject = subjectOf(task);
    if (subject === null) return false;
    const all = await notifications.devices(task.userId);
    const [device] = all.filter((each) => each.createdAt <= subject.at && each.kinds.includes(subject.kind));
    if (device === undefined || (await notifications.devicesWith(task.id, subject.id)).length > 0) return false;
    const isQuiet = presence.isLookedAt(task.userId, task.id);
    return notifications.addNotification({
      ...makeRow(ids, device, task, subject, clock.now()),
      ...(isQuiet ? { ended: "quiet" as const, nextAt: null } : {}),
    });
  }

  return async () => {
    if (position === null) saved = position = Number((await store.setting(CURSOR)) ?? 0);
    let isAdded = false;
    for (;;) {
      const page = await store.changes(null, position, PAGE);
      for (const task of page.items) {
        isAdded = (await add(task)) || isAdded;
        position = task.rev;
      }
      if (!page.more) break;
    }
    // Without a new row, deriving again from an older position costs reads only.
    if (!isAdded && position - saved < SAVE_EVERY) return;
    await store.setSetting(CURSOR, String(position));
    saved = position;
  };
}

function makeRow(ids: Ids, device: PushDevice, task: Task, subject: Subject, now: number): Notification {
  const about = { taskId: task.id, subject: subject.id, seq: task.seq, kind: subject.kind, title: task.spec.title };
  return createNotification({ id: ids.next("ntf"), deviceId: device.id, userId: device.userId, ...about }, now);
}

/** Processes one row: sends it, retries it, or moves on to the next device. */
function deliverer(deps: NotifierDeps): (row: Notification) => Promise<void> {
  const { store, notifications, clock, ids, log, presence, sender, secrets, isSessionValid, isActive } = deps;
  const progress = (row: Notification, change: NotificationProgress): Promise<void> =>
    notifications.progressNotification(row.id, change);

  /** A row for the next device that wants to know and does not have it yet. */
  async function passOn(row: Notification, task: Task | null, subject: Subject | null): Promise<void> {
    if (task === null || subject === null || row.passedAt !== null) return;
    const have = await notifications.devicesWith(row.taskId, row.subject);
    const others = await notifications.devices(row.userId);
    const next = others.find((device) => !have.includes(device.id) && device.kinds.includes(row.kind));
    if (next !== undefined)
      await notifications.addNotification({ ...makeRow(ids, next, task, subject, clock.now()), seq: row.seq });
    await progress(row, { passedAt: clock.now() });
  }

  async function remove(row: Notification, device: PushDevice, reason: string): Promise<void> {
    await notifications.deleteDevice(device.userId, device.id);
    log.info({ device: device.id, userId: row.userId }, reason);
  }

  return async (row) => {
    const device = await notifications.device(row.deviceId);
    if (device === null) return;
    const task = row.kind === "test" ? null : await store.task(row.taskId);
    const found = task === null ? null : subjectOf(task);
    const subject = found?.id === row.subject ? found : null;
    const isOver = row.kind !== "test" && subject === null;
    if (row.acceptedAt !== null) {
      if (row.shownAt === null && !isOver) await passOn(row, task, subject);
      return progress(row, { nextAt: null });
    }
    if (isOver || clock.now() - row.dueAt > EXPIRY_MS) return progress(row, { ended: "obsolete", nextAt: null });
    if (row.kind !== "test" && presence.isLookedAt(row.userId, row.taskId))
      return progress(row, { ended: "quiet", nextAt: null });
    if (device.via !== "web_push" && !(await isActive(row.userId)))
      return progress(row, { ended: "obsolete", nextAt: null });
    if (!(await isSessionValid(device.sessionId))) {
      await passOn(row, task, subject);
      return remove(row, device, "a device is removed: its session ended");
    }
    const { asking: needs } = await store.tally({ userId: row.userId });
    const outcome = await sender.send(
      device,
      makePayload(row, subject, { receipt: makeReceipt(secrets(), row.id), needs }),
    );
    const tries = row.tries + 1;
    if (outcome.kind === "accepted") {
      const now = clock.now();
      const wait = device.via === "web_push" ? { nextAt: now + UNSHOWN_MS } : { shownAt: now, nextAt: null };
      return progress(row, { acceptedAt: now, tries, problem: null, ...wait });
    }
    if (outcome.kind === "gone") {
      await passOn(row, task, subject);
      return remove(row, device, "a device is removed: its push service forgot the subscription");
    }
    const { problem } = outcome;
    if (outcome.kind === "refused") {
      await passOn(row, task, subject);
      return progress(row, { ended: "refused", tries, problem, nextAt: null });
    }
    if (clock.now() - row.dueAt >= UNSHOWN_MS) await passOn(row, task, subject);
    const wait = outcome.afterMs ?? BACKOFF_MS[Math.min(tries, BACKOFF_MS.length) - 1] ?? TICK_MS;
    return progress(row, { tries, problem, nextAt: clock.now() + wait });
  };
}
