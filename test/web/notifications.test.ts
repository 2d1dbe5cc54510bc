/**
 * Notifications in a real browser: the page, and the real service worker, which gets messages as
 * the push service double decrypted them. (Chromium takes pushes from its own service only, so the
 * subscription is the double's and the delivery is the browser's own test command.)
 */
import type { Page, Request } from "playwright-core";
import { Webhook } from "standardwebhooks";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { WirePush } from "../../src/core/protocol/push.ts";
import { describeWithBrowser, NARROW } from "../support/browser/browser.ts";
import { findMisfits } from "../support/browser/misfits.ts";
import { startPostReceiver, type PostReceiver } from "../support/browser/post-receiver.ts";
import { startPushService, type PushMessage, type PushService } from "../support/browser/push-service.ts";
import { findRegistration, openWebRig, untilControlled, type WebRig } from "../support/browser/rig.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(4);

const ASK = [
  { ask: { question: "Tabs or spaces?", options: ["Tabs", "Spaces"] } },
  { finish: { title: "t", summary: "s" } },
];

describeWithBrowser("notifications", () => {
  let rig: WebRig;
  let push: PushService;
  let receiver: PostReceiver;

  beforeAll(async () => {
    push = await startPushService();
    receiver = await startPostReceiver();
    rig = await openWebRig({ SLIPWAY_TRUSTED_PUSH_HOSTS: `${push.host},${receiver.host}` });
  });
  afterAll(async () => {
    await rig.close();
    await push.close();
    await receiver.close();
  });
  afterEach(() => rig.closeDevices());

  /** A device whose push service is the double. */
  async function openDevice(name: string): Promise<{ page: Page; deliver: (message: PushMessage) => Promise<void> }> {
    const { page } = await rig.open({ viewport: NARROW, permissions: ["notifications"] });
    const subscription = push.subscribe(name);
    await page.addInitScript(`
      const made = { toJSON: () => (${JSON.stringify(subscription)}), unsubscribe: async () => true };
      PushManager.prototype.subscribe = async () => made;
      PushManager.prototype.getSubscription = async () => null;
    `);
    await rig.logIn(page);
    await untilControlled(page);
    const session = await page.context().newCDPSession(page);
    const registrationId = await findRegistration(session);
    const deliver = async ({ payload }: PushMessage): Promise<void> => {
      const data = JSON.stringify(payload);
      await session.send("ServiceWorker.deliverPushMessage", { origin: rig.server().url, registrationId, data });
    };
    return { page, deliver };
  }

  const isSubscribing = (request: Request): boolean =>
    request.method() === "POST" && request.url().endsWith("/v1/push/devices");

  /** @returns tells whether the page was loaded again: what it asked for before does not count. */
  function watchReload(page: Page): () => boolean {
    let isReloaded = false;
    page.once("framenavigated", () => (isReloaded = true));
    return () => isReloaded;
  }

  async function turnOn(page: Page): Promise<void> {
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.getByRole("link", { name: "Notifications" }).click();
    await page.getByRole("button", { name: "Turn on notifications" }).click();
    await page.getByRole("button", { name: "Send a test" }).waitFor();
  }

  const messagesOf = (name: string): PushMessage[] => push.messages.filter(({ browser }) => browser === name);

  it("[N3] a test goes from the page to the push service, is shown by the service worker, and comes back as shown", async () => {
    const { page, deliver } = await openDevice("phone");
    await turnOn(page);
    await page.getByRole("button", { name: "Send a test" }).click();
    await expect.poll(() => messagesOf("phone").length).toBe(1);
    await page.getByText("accepted by the push service").waitFor();
    await deliver(messagesOf("phone")[0]!);
    await page.getByText(/shown after/).waitFor();
    expect(await page.getByText("1 of 1").count()).toBe(1);
    await page.setViewportSize({ width: 320, height: 700 });
    expect(await findMisfits(page)).toEqual([]);
    expect(push.invalid).toEqual([]);
    await page.getByRole("button", { name: "Turn off here" }).click();
    await page.getByRole("button", { name: "Turn on notifications" }).waitFor();
  });

  it("[N3] [N4] an answer given on the notification is applied once; nothing is sent about a task that is looked at", async () => {
    const { page, deliver } = await openDevice("tablet");
    await turnOn(page);
    const id = await rig.submit("Is answered from outside", ASK);
    await expect.poll(() => messagesOf("tablet").length).toBe(1);
    const [message] = messagesOf("tablet");
    expect(message?.payload).toMatchObject({ kind: "needs_you", taskId: id, title: "Asks: Is answered from outside" });
    await deliver(message!);
    await page.getByText(/shown after/).waitFor();
    // The service worker puts the number of tasks that wait on the icon.
    const [worker] = page.context().serviceWorkers();
    await worker!.evaluate("navigator.setAppBadge = async (count) => void (self.onIcon = count)");
    await deliver(message!);
    await expect.poll(() => worker!.evaluate("self.onIcon")).toBe(1);
    // A tap, as the system reports it.
    const tap = `(async () => {
      const [notification] = await registration.getNotifications();
      self.dispatchEvent(new NotificationEvent("notificationclick", { notification, action: "answer-1" }));
      return notification.actions.map(({ title }) => title);
    })()`;
    expect(await worker!.evaluate(tap)).toEqual(["Tabs", "Spaces"]);
    await rig.until(id, (task) => task.state === "done", "the end");
    await page
      .getByText(/acted on$/)
      .first()
      .waitFor();
    const answers = (await rig.server().events(id)).filter(({ type }) => type === "answer");
    expect(answers.map(({ data }) => data["text"])).toEqual(["Spaces"]);
    // The end is told as well, because nobody looked.
    await expect.poll(() => messagesOf("tablet").length).toBe(2);

    const open = rig.gate();
    const looked = await rig.submit("Is looked at", [open.step, ...ASK]);
    const heard = page.waitForResponse((response) => response.url().endsWith("/v1/push/presence"));
    await page.goto(`${rig.server().url}/tasks/${looked}`);
    await heard;
    open.open();
    await page.getByText("Tabs or spaces?").first().waitFor();
    // The server looks at who sees the task a moment after the question.
    const ended = async (): Promise<unknown[]> => {
      const { devices } = (await rig.call("GET", "/v1/push")).body as WirePush;
      return devices.flatMap(({ last }) => last.filter(({ taskId }) => taskId === looked).map((row) => row.ended));
    };
    await expect.poll(ended).toContain("quiet");
    await page.getByRole("link", { name: "Back" }).click();
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.getByRole("link", { name: "Notifications" }).click();
    await page.getByText("not sent: you looked at the task").waitFor();
    expect(messagesOf("tablet")).toHaveLength(2);
  });

  it("[N3] another device has a page: what it was told and showed, a test, and its removal", async () => {
    // What an earlier device did not show in time would go to these.
    const known = (await rig.call("GET", "/v1/push")).body as { devices: { id: string }[] };
    for (const { id } of known.devices) await rig.call("DELETE", `/v1/push/devices/${id}`);
    const { page: phone, deliver } = await openDevice("far");
    await turnOn(phone);
    const { page } = await openDevice("laptop");
    await turnOn(page);
    const others = page.getByRole("region", { name: /^When this device stays silent/ });
    const row = others.getByRole("listitem").filter({ hasText: "0 of 0 shown" });
    await row.getByRole("button", { name: /^Look at / }).click();
    const sheet = page.getByRole("dialog").filter({ hasText: "Send a test" });
    await sheet.getByRole("button", { name: "Send a test" }).click();
    await expect.poll(() => messagesOf("far").length).toBe(1);
    await sheet.getByText("accepted by the push service").waitFor();
    await deliver(messagesOf("far")[0]!);
    await sheet.getByText(/shown after/).waitFor();
    await sheet.getByText("1 of 1").waitFor();
    expect(await findMisfits(page)).toEqual([]);
    await sheet.getByRole("button", { name: "Remove the device" }).click();
    await sheet.waitFor({ state: "detached" });
    await phone.getByRole("button", { name: /^(?:Turn on notifications|Connect again)$/ }).waitFor();
  });

  it("[N6] a topic and a webhook are added, tried and removed; the webhook's secret is shown once and verifies", async () => {
    const { page } = await rig.open({ viewport: NARROW });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/you/notifications`);
    const add = async (fields: Record<string, string>): Promise<void> => {
      await page.getByRole("button", { name: "Add a topic or a webhook" }).click();
      if ("Address" in fields) await page.getByRole("radio", { name: "Webhook" }).check();
      for (const [name, value] of Object.entries(fields)) await page.getByLabel(new RegExp(`^${name}`)).fill(value);
      await page.getByRole("button", { name: "Add it" }).click();
    };
    await add({ Topic: `${receiver.url}/my-topic`, Name: "Pager", Token: "tk_1" });
    await page.getByRole("button", { name: "Test Pager" }).click();
    await page.getByText(/ntfy at .*, took 1 of 1/).waitFor();
    expect(receiver.requests.map(({ headers }) => headers.authorization)).toEqual(["Bearer tk_1"]);
    await add({ Address: `${receiver.url}/hook`, Name: "Chat" });
    const secret = await page.getByRole("region", { name: "The secret" }).innerText();
    await page.getByRole("button", { name: "Close" }).click();
    receiver.answer({ status: 403 });
    await page.getByRole("button", { name: "Test Chat" }).click();
    await page.getByText("The other end answered 403.").waitFor();
    const { body, headers } = receiver.requests[1]!;
    expect(new Webhook(secret.trim()).verify(body, headers as Record<string, string>)).toMatchObject({ type: "test" });
    receiver.answer({ status: 410 });
    await page.getByRole("button", { name: "Test Chat" }).click();
    await page
      .getByRole("alert")
      .filter({ hasText: /^Chat is gone/ })
      .waitFor();
    await page.getByRole("button", { name: "Remove Chat" }).waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Remove Pager" }).click();
    await page.getByRole("button", { name: "Remove Pager" }).waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Add a topic or a webhook" }).click();
    await page.getByLabel(/^Topic/).fill("https://10.0.0.1/x");
    await page.getByRole("button", { name: "Add it" }).click();
    expect(await page.getByRole("alert").innerText()).toContain("must name a public host");
  });

  it("[N3] a task that asks for words is stopped from its notification, once", async () => {
    const { page, deliver } = await openDevice("watch");
    await turnOn(page);
    const id = await rig.submit("Asks for words", [{ ask: { question: "## What is the name of `it`, **exactly**?" } }]);
    await expect.poll(() => messagesOf("watch").length).toBe(1);
    await deliver(messagesOf("watch")[0]!);
    await page.getByText(/shown after/).waitFor();
    const [worker] = page.context().serviceWorkers();
    const tap = `(async () => {
      const [notification] = await registration.getNotifications();
      self.dispatchEvent(new NotificationEvent("notificationclick", { notification, action: "stop" }));
      return [notification.body, ...notification.actions.map(({ title }) => title)];
    })()`;
    expect(await worker!.evaluate(tap)).toEqual(["What is the name of it, exactly?", "Stop"]);
    await rig.until(id, (task) => task.state === "cancelled", "the stop");
    await page
      .getByText(/acted on$/)
      .first()
      .waitFor();
    const stops = (await rig.server().events(id)).filter(({ data }) => data["reason"] === "cancel");
    expect(stops).toHaveLength(1);
  });

  it("[N1] on an iPad, which says that it is a Mac, the first task leads to the home screen", async () => {
    const userAgent =
      "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.0 Safari/605.1.15";
    const { page } = await rig.open({ viewport: NARROW, userAgent });
    await page.addInitScript(`
      Object.defineProperty(navigator, "maxTouchPoints", { value: 5 });
      delete globalThis.PushManager;
    `);
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/new`);
    await page.getByLabel("Repository").fill(rig.repo);
    await page.getByRole("textbox", { name: "Prompt" }).fill("write on-an-ipad.txt=1");
    await page.getByRole("button", { name: "Start task" }).click();
    await page.getByText("add the app to the home screen first").waitFor();
    expect(await page.getByRole("button", { name: "Turn on notifications" }).count()).toBe(0);
    await page.getByRole("button", { name: "Understood" }).click();
    await page.goto(`${rig.server().url}/you/notifications`);
    await page.getByText("add the app to the home screen first").waitFor();
  });

  it("a device that its push service forgot says so, and hears again once it is connected again", async () => {
    const { page } = await openDevice("forgotten");
    await turnOn(page);
    // The start of the app subscribes a lost device again: it comes before the loss.
    const isReloaded = watchReload(page);
    const started = page.waitForResponse((response) => isReloaded() && isSubscribing(response.request()));
    await page.reload();
    await started;
    push.answer("forgotten", 410);
    await page.getByRole("button", { name: "Send a test" }).click();
    await page.getByText("Its push service forgot this device.").waitFor();
    await page.getByRole("button", { name: "Connect again" }).click();
    await page.getByRole("button", { name: "Send a test" }).click();
    await expect.poll(() => messagesOf("forgotten").length).toBe(1);
    await page.getByText("accepted by the push service").waitFor();
    expect(await page.getByRole("button", { name: "Connect again" }).count()).toBe(0);
    await page.getByRole("button", { name: "Turn off here" }).click();
  });

  it("a device that is turned off while the start of the app says that it is in use stays off", async () => {
    const { page } = await openDevice("off");
    const idsOfDevices = async (): Promise<string[]> => {
      const { body } = await rig.call("GET", "/v1/push");
      return (body as { devices: { id: string }[] }).devices.map(({ id }) => id);
    };
    const before = await idsOfDevices();
    await turnOn(page);
    expect(await idsOfDevices()).toHaveLength(before.length + 1);
    const isReloaded = watchReload(page);
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    const held = new Promise<void>((resolve) => {
      void page.route("**/v1/push/devices", async (route) => {
        if (isReloaded()) {
          resolve();
          await released;
        }
        await route.continue();
      });
    });
    await page.reload();
    await held;
    await page.getByRole("button", { name: "Turn off here" }).click();
    await page.getByRole("button", { name: "Turn on notifications" }).waitFor();
    await expect.poll(idsOfDevices).toEqual(before);
    const late = page.waitForResponse((response) => isSubscribing(response.request()));
    release();
    await late;
    await expect.poll(idsOfDevices).toEqual(before);
    expect(await page.getByRole("button", { name: "Turn on notifications" }).count()).toBe(1);
  });

  it("[N1] notifications are offered after the first task that was sent from this device", async () => {
    const { page } = await openDevice("first");
    await page.goto(`${rig.server().url}/new`);
    await page.getByLabel("Repository").fill(rig.repo);
    await page.getByRole("textbox", { name: "Prompt" }).fill("write offered.txt=1");
    await page.getByRole("button", { name: "Start task" }).click();
    await page.getByRole("button", { name: "Turn on notifications" }).click();
    await page.getByRole("heading", { name: "Hear when it is your move?" }).waitFor({ state: "detached" });
    const { body } = await rig.call("GET", "/v1/push");
    expect((body as { devices: unknown[] }).devices.length).toBeGreaterThan(0);
  });
});
