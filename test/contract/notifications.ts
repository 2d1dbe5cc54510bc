/** The contract suite of devices and notifications (rule M1). */
import { expect, it } from "vitest";
import {
  KEPT_PER_DEVICE,
  type Notification,
  type Notifications,
  type PushDevice,
} from "../../src/core/ports/notifications.ts";

const DEVICE: PushDevice = {
  id: "dev_a",
  userId: "user_a",
  via: "web_push",
  sessionId: "ses_1",
  endpoint: "https://push.example/a",
  sealed: null,
  p256dh: "p",
  auth: "a",
  label: "Chrome on Android",
  kinds: ["needs_you", "done"],
  createdAt: 1_000,
  seenAt: 1_000,
};

const ROW: Notification = {
  id: "ntf_1",
  deviceId: "dev_a",
  userId: "user_a",
  taskId: "task_1",
  subject: "q_1",
  seq: 7,
  kind: "needs_you",
  title: "Naïve ☃",
  dueAt: 2_000,
  acceptedAt: null,
  shownAt: null,
  openedAt: null,
  actedAt: null,
  ended: null,
  problem: null,
  tries: 0,
  nextAt: 2_000,
  passedAt: null,
};

export function notificationsContract(get: () => Notifications): void {
  it("[M1] devices are read back unchanged, the last used first, and only their owner deletes them", async () => {
    const other = { ...DEVICE, id: "dev_b", endpoint: "https://push.example/b", sessionId: null, seenAt: 5_000 };
    await get().putDevice(DEVICE);
    await get().putDevice(other);
    expect(await get().devices("user_a")).toEqual([other, DEVICE]);
    await get().putDevice({ ...DEVICE, label: "Renamed", seenAt: 9_000 });
    expect((await get().devices("user_a")).map(({ label }) => label)).toEqual(["Renamed", "Chrome on Android"]);
    expect(await get().deleteDevice("user_b", "dev_a")).toBe(false);
    expect(await get().deleteDevice("user_a", "dev_a")).toBe(true);
    expect(await get().device("dev_a")).toBeNull();
  });

  it("[M1] [N4] browsers come before ntfy and webhooks, which keep what they are reached with", async () => {
    const ntfy = {
      ...DEVICE,
      id: "dev_n",
      via: "ntfy",
      endpoint: "https://ntfy.example/dev_n",
      seenAt: 8_000,
    } as const;
    const hook = {
      ...ntfy,
      id: "dev_w",
      via: "webhook",
      endpoint: "https://hook.example/dev_w",
      seenAt: 9_000,
    } as const;
    for (const device of [ntfy, DEVICE, hook])
      await get().putDevice({ ...device, sealed: device === DEVICE ? null : `v1.aaaaaaaa.${device.id}` });
    expect((await get().devices("user_a")).map(({ id, sealed }) => [id, sealed])).toEqual([
      ["dev_a", null],
      ["dev_w", "v1.aaaaaaaa.dev_w"],
      ["dev_n", "v1.aaaaaaaa.dev_n"],
    ]);
  });

  it("[M1] a browser that changes hands takes its endpoint along", async () => {
    await get().putDevice(DEVICE);
    await get().addNotification(ROW);
    await get().putDevice({ ...DEVICE, id: "dev_c", userId: "user_b" });
    expect(await get().devices("user_a")).toEqual([]);
    expect(await get().notification("ntf_1")).toBeNull();
    expect(await get().devices("user_b")).toHaveLength(1);
  });

  it("[M1] [N2] a device gets one notification per task and subject, and none after it is gone", async () => {
    await get().putDevice(DEVICE);
    const added = await Promise.all(
      Array.from({ length: 5 }, (_, i) => get().addNotification({ ...ROW, id: `ntf_${i}` })),
    );
    expect(added.filter(Boolean)).toHaveLength(1);
    expect(await get().addNotification({ ...ROW, id: "ntf_x", subject: "q_2" })).toBe(true);
    expect(await get().addNotification({ ...ROW, id: "ntf_y", deviceId: "dev_none" })).toBe(false);
    expect(await get().devicesWith("task_1", "q_1")).toEqual(["dev_a"]);
    expect((await get().notificationsOf("dev_a", 10)).map(({ id }) => id)).toEqual(["ntf_x", "ntf_0"]);
  });

  it("[M1] what is due comes in its order, until nothing is left to do", async () => {
    await get().putDevice(DEVICE);
    await get().addNotification(ROW);
    await get().addNotification({ ...ROW, id: "ntf_2", subject: "q_2", nextAt: 1_500 });
    await get().addNotification({ ...ROW, id: "ntf_3", subject: "q_3", nextAt: null, ended: "quiet" });
    expect(await get().nextNotificationAt()).toBe(1_500);
    expect((await get().dueNotifications(1_999, 10)).map(({ id }) => id)).toEqual(["ntf_2"]);
    expect((await get().dueNotifications(2_000, 10)).map(({ id }) => id)).toEqual(["ntf_2", "ntf_1"]);
    await get().progressNotification("ntf_2", { nextAt: null, ended: "refused", problem: "no", tries: 3 });
    await get().progressNotification("ntf_3", { acceptedAt: 1_700, shownAt: 1_700 });
    expect(await get().notification("ntf_3")).toMatchObject({ acceptedAt: 1_700, shownAt: 1_700, openedAt: null });
    await get().progressNotification("ntf_1", { acceptedAt: 2_001, nextAt: 32_001 });
    expect(await get().nextNotificationAt()).toBe(32_001);
    expect(await get().notification("ntf_2")).toMatchObject({ ended: "refused", problem: "no", tries: 3 });
  });

  it("[M1] [N3] a rung stays as it was first reached, and those below count as reached", async () => {
    await get().putDevice(DEVICE);
    await get().addNotification({ ...ROW, acceptedAt: 2_001, nextAt: 32_001 });
    expect(await get().reachRung("ntf_1", "opened", 3_000)).toBe(true);
    expect(await get().reachRung("ntf_1", "shown", 4_000)).toBe(true);
    expect(await get().notification("ntf_1")).toMatchObject({
      shownAt: 3_000,
      openedAt: 3_000,
      actedAt: null,
      nextAt: null,
    });
    await get().reachRung("ntf_1", "acted", 5_000);
    expect(await get().notification("ntf_1")).toMatchObject({ shownAt: 3_000, actedAt: 5_000 });
    expect(await get().reachRung("ntf_none", "shown", 1)).toBe(false);
  });

  it("[M1] a device keeps its newest notifications", async () => {
    await get().putDevice(DEVICE);
    for (let i = 0; i <= KEPT_PER_DEVICE + 4; i++)
      await get().addNotification({ ...ROW, id: `ntf_${i}`, subject: `q_${i}`, dueAt: i, nextAt: i === 0 ? 1 : null });
    const kept = await get().notificationsOf("dev_a", 1_000);
    expect(kept).toHaveLength(KEPT_PER_DEVICE + 1);
    // What is not finished stays, however old.
    expect(kept.at(-1)?.id).toBe("ntf_0");
  });
}
