/** The outbox of the app, in a real browser: used-up quotas, and answers. */
import type { BrowserContextOptions, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { describeWithBrowser } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

const ASK = { ask: { question: "Tabs or spaces?", options: ["Tabs", "Spaces"] } };
const DONE = { finish: { title: "t", summary: "s" } };
/** A service worker has a network of its own, and sends what the page keeps. */
const NO_WORKER: BrowserContextOptions = { serviceWorkers: "block" };

const row = (page: Page, name: RegExp) => page.getByRole("listitem", { name });
const promptField = (page: Page) => page.getByRole("textbox", { name: "Prompt" });
const textOf = (page: Page, name: string): Promise<string> => page.getByRole("textbox", { name }).inputValue();

/** What is sent now waits. The lists are followed over a socket, so each screen stays as it is. */
async function cutOff(page: Page): Promise<() => Promise<void>> {
  const isSend = (url: URL): boolean => /\/v1\/tasks$|\/messages$|\/answer$/.test(url.pathname);
  await page.route(isSend, (route) => (route.request().method() === "POST" ? route.abort() : route.continue()));
  return () => page.unroute(isSend);
}

describeWithBrowser("the outbox", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  async function open(path: string): Promise<Page> {
    const { page } = await rig.open(NO_WORKER);
    await rig.logIn(page);
    await page.goto(rig.server().url + path);
    return page;
  }

  async function openAsking(title: string): Promise<{ page: Page; id: string }> {
    const id = await rig.submit(title, [ASK, DONE]);
    await rig.until(id, (task) => task.question !== null, "the question");
    return { page: await open(`/tasks/${id}`), id };
  }

  it("[P8] a question whose answer waits takes no second one, also after a reload, until it is taken back", async () => {
    const { page, id } = await openAsking("Is asked once");
    const reconnect = await cutOff(page);
    const answer = page.getByRole("button", { name: "Answer" });
    await page.getByRole("radio", { name: "Spaces" }).check();
    await answer.click();
    await page.getByText("Kept on this device.").waitFor();
    await page.getByRole("link", { name: "Back" }).click();
    await row(page, /^waiting, Answer/).waitFor();
    await page.getByRole("link", { name: /Is asked once/ }).click();
    await page.getByText("Kept on this device.").waitFor();
    expect(await answer.isEnabled()).toBe(false);
    await page.reload();
    await page.getByText("Kept on this device.").waitFor();
    expect(await answer.isEnabled()).toBe(false);
    await row(page, /^waiting, Answer/)
      .getByRole("button", { name: "Take back" })
      .click();
    await expect.poll(() => answer.isEnabled()).toBe(true);
    expect(await textOf(page, "Or in your own words")).toBe("Spaces");
    await reconnect();
    await answer.click();
    await rig.until(id, (task) => task.state === "done", "the end");
    const events = await rig.server().events(id);
    expect(events.filter(({ type }) => type === "answer").map(({ data }) => data["text"])).toEqual(["Spaces"]);
  });
});

describeWithBrowser("the outbox and quotas", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig({ SLIPWAY_USER_OPEN_TASKS: "1" });
  });
  afterAll(() => rig.close());

  it("[P8] [S14] a used-up quota: a new task says why it is refused, can be sent again, and holds nothing up", async () => {
    const id = await rig.submit("Is the only one", [ASK, DONE]);
    await rig.until(id, (task) => task.question !== null, "the question");
    const { page } = await rig.open(NO_WORKER);
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/new`);
    const start = page.getByRole("button", { name: "Start task" });
    await page.getByLabel("Repository").fill(rig.repo);
    await promptField(page).fill("write second.txt=2");
    await start.click();
    await page.getByRole("alert").filter({ hasText: "tasks that a person may have open at once" }).waitFor();
    expect(await textOf(page, "Prompt")).toBe("write second.txt=2");
    // The same later, without a network at first: what is behind it is sent.
    const reconnect = await cutOff(page);
    await start.click();
    await row(page, /^waiting, New task/).waitFor();
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByRole("radio", { name: "Spaces" }).check();
    await page.getByRole("button", { name: "Answer" }).click();
    await row(page, /^waiting, Answer/).waitFor();
    await reconnect();
    await page.goto(rig.server().url);
    await rig.until(id, (task) => task.state === "done", "the end");
    const failed = row(page, /^failed, New task/);
    await failed.getByText("tasks that a person may have open at once").waitFor();
    await failed.getByRole("button", { name: "Take back" }).click();
    await page.getByRole("link", { name: "New task" }).click();
    await start.click();
    await expect.poll(() => page.url()).toContain("/tasks/");
    const { items } = (await rig.call("GET", "/v1/tasks?limit=200")).body as { items: WireTask[] };
    expect(items.filter(({ prompt }) => prompt === "write second.txt=2")).toHaveLength(1);
  });
});
