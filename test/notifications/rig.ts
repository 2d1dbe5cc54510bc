/** A coordinator with simulated workers, a push service, and what tells people between them. */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Notification, Notifications, PushDevice } from "../../src/core/ports/notifications.ts";
import { openNotifications, type OpenNotifications } from "../../src/notifications/open.ts";
import type { NotificationService } from "../../src/notifications/service.ts";
import { openDeviceSealer, openVault } from "../../src/auth/vault.ts";
import { openMemoryStore } from "../../src/store/memory/store.ts";
import { openHarness, type Harness } from "../support/coordinator/harness.ts";
import { seededIds } from "../support/manual-clock.ts";
import { startPostReceiver, type PostReceiver } from "../support/browser/post-receiver.ts";
import { startPushService, type PushService } from "../support/browser/push-service.ts";

export const ADA = "user_ada";

export interface TellingRig {
  readonly harness: Harness;
  readonly push: PushService;
  /** What ntfy topics and webhooks get. */
  readonly receiver: PostReceiver;
  readonly notifications: Notifications;
  readonly service: () => NotificationService;
  /** Sessions that ended. */
  readonly ended: Set<string>;
  /** People who are disabled. */
  readonly disabled: Set<string>;
  /** A browser of Ada's. */
  subscribe(name: string, change?: Partial<PushDevice>): Promise<PushDevice>;
  /** A topic or a webhook of Ada's. */
  add(via: "ntfy" | "webhook", path?: string): Promise<PushDevice>;
  /** A task of Ada's whose worker is ready. */
  running(): Promise<string>;
  ask(taskId: string, questionId: string, options?: string[] | null): Promise<void>;
  /** Lets time pass, and what is sent arrive. */
  pass(ms: number): Promise<void>;
  rows(deviceId: string): Promise<Notification[]>;
  /** A start after a kill: nothing but the stored rows is left. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export async function openTellingRig(): Promise<TellingRig> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-telling-"));
  const { store, ledger, notifications } = openMemoryStore();
  const harness = await openHarness({ store, ledger });
  const { clock, bus, fakeWorkers } = harness;
  const push = await startPushService();
  const receiver = await startPostReceiver();
  const ended = new Set<string>();
  const disabled = new Set<string>();
  const sealer = openDeviceSealer(openVault(randomBytes(32)));
  const secret = randomBytes(32);
  const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
  /** From the first row that is due until none is. */
  let isSending = false;
  const watched = new Proxy(notifications, {
    get(target, name: keyof Notifications) {
      if (name !== "dueNotifications") return target[name].bind(target);
      return async (now: number, limit: number) => {
        const due = await target.dueNotifications(now, limit);
        isSending = due.length > 0;
        return due;
      };
    },
  });
  const open = async (seed: number): Promise<OpenNotifications> =>
    openNotifications({
      store,
      notifications: watched,
      bus,
      clock,
      ids: seededIds(seed),
      log,
      isSessionValid: async (id) => id === null || !ended.has(id),
      isActive: async (id) => !disabled.has(id),
      sealer,
      dir,
      secrets: () => [secret],
      publicUrl: "https://slipway.example",
      trustedHosts: [push.host, receiver.host],
    });
  let opened = await open(1);
  let starts = 1;
  return {
    harness,
    push,
    receiver,
    notifications,
    service: () => opened.service,
    ended,
    disabled,
    async subscribe(name, change = {}) {
      const { endpoint, keys } = push.subscribe(name);
      const kinds = ["needs_you", "budget", "done", "failed"] as const;
      const subscription = { id: null, endpoint, ...keys, label: name, kinds };
      const device = await opened.service.subscribe({ userId: ADA, sessionId: `session_${name}` }, subscription);
      const changed = { ...device, ...change };
      await notifications.putDevice(changed);
      return changed;
    },
    async add(via, path = "/topic") {
      const other = { via, url: `${receiver.url}${path}`, token: null, label: null };
      const kinds = ["needs_you", "budget", "done", "failed"] as const;
      return (await opened.service.add(ADA, { ...other, kinds })).device;
    },
    async running() {
      const { id } = await harness.submit({}, { userId: ADA, role: "user" });
      await harness.until(id, "running.working").catch(() => undefined);
      return id;
    },
    async ask(taskId, questionId, options = null) {
      const question = { id: questionId, question: "Tabs or spaces?", options };
      await fakeWorkers.send(harness.coordinator.workerApi, taskId, ["question", question]);
    },
    async pass(ms) {
      await clock.advance(ms);
      // Messages travel over real sockets while the clock stands still.
      for (let i = 0; i < 20 || (isSending && i < 2_000); i++) await new Promise((resolve) => setTimeout(resolve, 5));
      await clock.advance(0);
    },
    rows: (deviceId) => notifications.notificationsOf(deviceId, 100),
    async restart() {
      await opened.close();
      opened = await open(++starts);
    },
    async close() {
      await opened.close();
      await harness.close();
      await push.close();
      await receiver.close();
      rmSync(dir, { recursive: true });
    },
  };
}
