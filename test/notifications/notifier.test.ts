/** What people are told, when, and on which device: a real push service double over HTTP. */
import { afterEach, beforeEach, expect, it } from "vitest";
import { ADA, openTellingRig, type TellingRig } from "./rig.ts";

let rig: TellingRig;
beforeEach(async () => {
  rig = await openTellingRig();
});
afterEach(() => rig.close());

async function begin(): Promise<string> {
  const { id } = await rig.harness.submit({}, { userId: ADA, role: "user" });
  await rig.harness.untilWorker(id);
  await rig.harness.fakeWorkers.send(rig.harness.coordinator.workerApi, id, ["ready", {}]);
  await rig.harness.until(id, "running.working");
  return id;
}

it("[N1] [N5] a question reaches the device, encrypted and signed, with its options and the way to the task", async () => {
  const device = await rig.subscribe("phone");
  const id = await begin();
  await rig.pass(1_000);
  expect(rig.push.messages).toEqual([]);
  await rig.ask(id, "q1", ["Tabs", "Spaces", "An answer that is much too long for the button of a notification"]);
  await rig.pass(1_000);
  expect(rig.push.invalid).toEqual([]);
  expect(rig.push.messages).toHaveLength(1);
  const [message] = rig.push.messages;
  expect(message?.contact).toBe("https://slipway.example");
  expect(message?.headers["urgency"]).toBe("high");
  expect(message?.payload).toMatchObject({
    kind: "needs_you",
    body: "Tabs or spaces?",
    url: `/tasks/${id}`,
    tag: id,
    question: { id: "q1", options: ["Tabs", "Spaces"] },
    canStop: true,
    needs: 1,
  });
  expect(await rig.rows(device.id)).toMatchObject([{ kind: "needs_you", taskId: id, shownAt: null, tries: 1 }]);
  expect((await rig.rows(device.id))[0]?.acceptedAt).not.toBeNull();
});

it("[N1] killed between the commit and its notification, a start sends it; started again, it is not sent twice", async () => {
  await rig.subscribe("phone");
  const id = await begin();
  await rig.pass(1_000);
  // The process is gone before its next pass.
  await rig.restart();
  await rig.ask(id, "q1");
  await rig.restart();
  await rig.pass(1_000);
  expect(rig.push.messages).toHaveLength(1);
  await rig.restart();
  await rig.pass(1_000);
  expect(rig.push.messages).toHaveLength(1);
});

it("[N2] a kill between the push service's answer and its record sends it again, under the same tag", async () => {
  const device = await rig.subscribe("phone");
  const id = await begin();
  await rig.ask(id, "q1");
  await rig.pass(1_000);
  const [row] = await rig.rows(device.id);
  await rig.notifications.progressNotification(row!.id, { acceptedAt: null, nextAt: row!.dueAt });
  await rig.restart();
  await rig.pass(1_000);
  expect(rig.push.messages.map(({ payload }) => [payload["id"], payload["tag"]])).toEqual([
    [row!.id, id],
    [row!.id, id],
  ]);
  expect(await rig.rows(device.id)).toHaveLength(1);
});

it("[N2] asked again under the same id, it is told again; an answered question is not", async () => {
  await rig.subscribe("phone");
  const id = await begin();
  await rig.ask(id, "q1");
  await rig.pass(1_000);
  await rig.harness.coordinator.tasks.answer({ userId: ADA, role: "user" }, id, { questionId: "q1", text: "x" });
  await rig.pass(60_000);
  await rig.ask(id, "q1");
  await rig.pass(1_000);
  expect(rig.push.messages).toHaveLength(2);
});

it("[N3] only the receipt of the message counts, and each rung is written once", async () => {
  const device = await rig.subscribe("phone");
  const id = await begin();
  await rig.ask(id, "q1");
  await rig.pass(1_000);
  const { id: row, receipt } = rig.push.messages[0]!.payload as { id: string; receipt: string };
  await expect(rig.service().receive(row, "x".repeat(43), "shown")).rejects.toMatchObject({ code: "not_found" });
  await expect(rig.service().receive("ntf_other", receipt, "shown")).rejects.toMatchObject({ code: "not_found" });
  expect((await rig.rows(device.id))[0]?.shownAt).toBeNull();
  await rig.service().receive(row, receipt, "shown");
  await rig.pass(5_000);
  await rig.service().receive(row, receipt, "acted");
  await rig.service().receive(row, receipt, "shown");
  const [climbed] = await rig.rows(device.id);
  expect(climbed!.shownAt! - climbed!.dueAt).toBeLessThan(5_000);
  expect(climbed!.actedAt! - climbed!.shownAt!).toBeGreaterThanOrEqual(5_000);
});

it("[N4] nothing is sent while the person looks at the task on any device", async () => {
  const device = await rig.subscribe("phone");
  const id = await begin();
  rig.service().look(ADA, "desk", id);
  await rig.ask(id, "q1");
  await rig.pass(1_000);
  expect(rig.push.messages).toEqual([]);
  expect(await rig.rows(device.id)).toMatchObject([{ ended: "quiet" }]);
});

it("[N4] a device that does not show it within 30 s is followed by the next one, once", async () => {
  const desk = await rig.subscribe("desk", { seenAt: 1 });
  const phone = await rig.subscribe("phone");
  const id = await begin();
  await rig.ask(id, "q1");
  await rig.pass(1_000);
  await rig.pass(20_000);
  expect(rig.push.messages.map(({ browser }) => browser)).toEqual(["phone"]);
  await rig.pass(20_000);
  expect(rig.push.messages.map(({ browser }) => browser)).toEqual(["phone", "desk"]);
  await rig.pass(120_000);
  expect(rig.push.messages).toHaveLength(2);
  expect((await rig.rows(phone.id))[0]?.passedAt).not.toBeNull();
  expect(await rig.rows(desk.id)).toHaveLength(1);
});

it("[N4] a device that shows it is enough", async () => {
  await rig.subscribe("desk", { seenAt: 1 });
  await rig.subscribe("phone");
  const id = await begin();
  await rig.ask(id, "q1");
  await rig.pass(1_000);
  const { id: row, receipt } = rig.push.messages[0]!.payload as { id: string; receipt: string };
  await rig.service().receive(row, receipt, "shown");
  await rig.pass(120_000);
  expect(rig.push.messages).toHaveLength(1);
});

it("[N5] a subscription that its push service forgot is removed, and the next device is told at once", async () => {
  const desk = await rig.subscribe("desk", { seenAt: 1 });
  const tablet = await rig.subscribe("tablet");
  rig.push.answer("tablet", 410);
  const id = await begin();
  await rig.ask(id, "q1");
  await rig.pass(5_000);
  await rig.pass(1_000);
  expect(await rig.notifications.device(tablet.id)).toBeNull();
  expect(rig.push.messages.map(({ browser }) => browser)).toEqual(["desk"]);
  expect(await rig.rows(desk.id)).toHaveLength(1);
});

it("[N5] a device whose session ended is removed and told nothing", async () => {
  const phone = await rig.subscribe("phone");
  rig.ended.add(phone.sessionId!);
  const id = await begin();
  await rig.ask(id, "q1");
  await rig.pass(1_000);
  expect(rig.push.messages).toEqual([]);
  expect(await rig.notifications.device(phone.id)).toBeNull();
});

it("[N1] a push service that is down or busy is asked again until it takes the message", async () => {
  const phone = await rig.subscribe("phone");
  rig.push.answer("phone", 503, 429);
  const id = await begin();
  await rig.ask(id, "q1");
  await rig.pass(1_000);
  expect(rig.push.messages).toEqual([]);
  for (let i = 0; i < 4; i++) await rig.pass(6_000);
  expect(rig.push.messages).toHaveLength(1);
  expect(await rig.rows(phone.id)).toMatchObject([{ tries: 3, problem: null }]);
});

it("[N1] the end of a task is told to devices that were there before, unless they want to hear nothing of it", async () => {
  await rig.subscribe("phone", { kinds: ["needs_you", "failed"] });
  const id = await begin();
  await rig.harness.coordinator.tasks.cancel({ userId: ADA, role: "user" }, id, false);
  await rig.pass(60_000);
  expect(rig.push.messages).toEqual([]);
});

const receivedBy = (path: string): unknown[] => rig.receiver.requests.filter((request) => request.path === path);

it("[N4] [N6] browsers come first, whatever was used last; then the webhook, whose acceptance ends the ladder", async () => {
  const phone = await rig.subscribe("phone");
  const desk = await rig.subscribe("desk", { seenAt: 1 });
  const topic = await rig.add("ntfy");
  await rig.pass(1);
  const hook = await rig.add("webhook", "/hook");
  const id = await begin();
  await rig.ask(id, "q1", ["Tabs"]);
  await rig.pass(1_000);
  await rig.pass(31_000);
  expect(rig.push.messages.map(({ browser }) => browser)).toEqual(["phone", "desk"]);
  expect(rig.receiver.requests).toEqual([]);
  await rig.pass(31_000);
  await rig.pass(120_000);
  expect(rig.receiver.requests.map(({ path }) => path)).toEqual(["/hook"]);
  expect(await rig.rows(topic.id)).toEqual([]);
  const [row] = await rig.rows(hook.id);
  expect(row).toMatchObject({
    kind: "needs_you",
    taskId: id,
    shownAt: row?.acceptedAt,
    openedAt: null,
    passedAt: null,
  });
  for (const device of [phone, desk]) expect(await rig.rows(device.id)).toMatchObject([{ shownAt: null }]);
});

it("[N6] without a browser the topic is told at once, and a browser that shows it keeps it from the topic", async () => {
  const topic = await rig.add("ntfy");
  const first = await begin();
  await rig.ask(first, "q1");
  await rig.pass(1_000);
  expect(receivedBy("/")).toHaveLength(1);
  expect(await rig.rows(topic.id)).toMatchObject([{ taskId: first, tries: 1, ended: null }]);
  await rig.subscribe("phone");
  const second = await begin();
  await rig.ask(second, "q2");
  await rig.pass(1_000);
  const { id: row, receipt } = rig.push.messages[0]!.payload as { id: string; receipt: string };
  await rig.service().receive(row, receipt, "shown");
  await rig.pass(120_000);
  expect(receivedBy("/")).toHaveLength(1);
});

it("[N1] [N6] a webhook that is down is called again under the same id; one that refuses is followed by the next", async () => {
  await rig.add("ntfy");
  await rig.pass(1);
  const hook = await rig.add("webhook", "/hook");
  rig.receiver.answer({ status: 503 }, { status: 500 }, { status: 403 });
  const id = await begin();
  await rig.ask(id, "q1");
  for (let i = 0; i < 4; i++) await rig.pass(6_000);
  expect(rig.receiver.requests.map(({ path }) => path)).toEqual(["/hook", "/hook", "/hook", "/"]);
  expect(new Set(rig.receiver.requests.slice(0, 3).map(({ headers }) => headers["webhook-id"])).size).toBe(1);
  const problem = "The other end answered 403.";
  expect(await rig.rows(hook.id)).toMatchObject([{ ended: "refused", tries: 3, problem, shownAt: null }]);
});

it("[N6] nothing is sent for a person who is disabled, and the address stays for their return", async () => {
  const hook = await rig.add("webhook", "/hook");
  rig.disabled.add(ADA);
  const id = await begin();
  await rig.ask(id, "q1");
  await rig.pass(1_000);
  expect(rig.receiver.requests).toEqual([]);
  expect(await rig.rows(hook.id)).toMatchObject([{ ended: "obsolete" }]);
});

it("[N6] the address and the secret are not in the stored row", async () => {
  const { endpoint, sealed } = (await rig.notifications.device((await rig.add("webhook", "/very-secret")).id))!;
  expect(endpoint).not.toContain("very-secret");
  expect(sealed).toMatch(/^v1\.[0-9a-f]{8}\./);
  expect(Buffer.from(sealed!.split(".")[2]!, "base64").toString("latin1")).not.toContain("very-secret");
});
