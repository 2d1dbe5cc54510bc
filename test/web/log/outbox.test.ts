/** The outbox of the app, in a real browser: full storages, used-up quotas, what is taken back. */
import type { BrowserContextOptions, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { describeWithBrowser } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

const ASK = { ask: { question: "Tabs or spaces?", options: ["Tabs", "Spaces"] } };
const DONE = { finish: { title: "t", summary: "s" } };
/** A service worker has a network of its own, and sends what the page keeps. */
const NO_WORKER: BrowserContextOptions = { serviceWorkers: "block" };

/** The browser stores nothing of the outbox until the page says that there is room. */
const FULL_STORAGE = `
  const put = IDBObjectStore.prototype.put;
  IDBObjectStore.prototype.put = function (...args) {
    if (this.name === "outbox" && globalThis.hasRoom !== true) throw new DOMException("full", "QuotaExceededError");
    return put.apply(this, args);
  };
`;

const saidBy = (events: readonly WireEvent[]): readonly string[] =>
  events.flatMap(({ type, data }) => (type === "message" && data["role"] === "user" ? [JSON.stringify(data)] : []));

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

  async function open(path: string, script = ""): Promise<Page> {
    const { page } = await rig.open(NO_WORKER);
    if (script !== "") await page.addInitScript(script);
    await rig.logIn(page);
    await page.goto(rig.server().url + path);
    return page;
  }

  async function openAsking(title: string, script = ""): Promise<{ page: Page; id: string }> {
    const id = await rig.submit(title, [ASK, DONE]);
    await rig.until(id, (task) => task.question !== null, "the question");
    return { page: await open(`/tasks/${id}`, script), id };
  }

  async function send(page: Page, text: string): Promise<void> {
    await page.getByRole("textbox", { name: "Message" }).fill(text);
    await page.getByRole("button", { name: "Send", exact: true }).click();
  }

  it("[P8] a full storage: what is sent without a network waits in the page, which says so, and is sent once", async () => {
    const { page, id } = await openAsking("Has no room", FULL_STORAGE);
    const reconnect = await cutOff(page);
    await send(page, "The first of two");
    const first = row(page, /^waiting, Message “The first/);
    await first.getByText("Kept in this page only").waitFor();
    await send(page, "The second of two");
    await row(page, /^waiting, Message “The second/).waitFor();
    expect(await page.getByText("kept on this device").count()).toBe(0);
    await page.getByRole("radio", { name: "Spaces" }).check();
    await page.getByRole("button", { name: "Answer" }).click();
    await page.getByText("Kept in this page only: leave the page open.").waitFor();
    // Another screen of the same page has them as well.
    await page.getByRole("link", { name: "Back" }).click();
    await expect.poll(() => row(page, /^waiting, /).count()).toBe(3);
    await row(page, /^waiting, Message “The first/)
      .getByRole("button", { name: "Take back" })
      .click();
    await expect.poll(() => row(page, /^waiting, /).count()).toBe(2);
    await reconnect();
    await row(page, /^sent, Message/).waitFor();
    await row(page, /^sent, Answer/).waitFor();
    await rig.until(id, (task) => task.state === "done", "the end");
    const events = await rig.server().events(id);
    expect(saidBy(events).map((said) => /The \w+ of two/.exec(said)?.[0])).toEqual(["The second of two"]);
    expect(events.filter(({ type }) => type === "answer").map(({ data }) => data["text"])).toEqual(["Spaces"]);
  });

  it("[P8] a storage that was full: what waits in the page is stored when there is room, and outlives the page", async () => {
    const page = await open("/new", FULL_STORAGE);
    const reconnect = await cutOff(page);
    await page.getByLabel("Repository").fill(rig.repo);
    await promptField(page).fill("write room.txt=1");
    await page.getByRole("button", { name: "Start task" }).click();
    const waiting = row(page, /^waiting, New task/);
    await waiting.getByText("Kept in this page only").waitFor();
    await page.evaluate("globalThis.hasRoom = true");
    await page.getByText("kept on this device").waitFor();
    expect(await waiting.getByText("Kept in this page only").count()).toBe(0);
    await page.reload();
    await waiting.waitFor();
    await reconnect();
    await row(page, /^sent, New task/).waitFor();
    const { items } = (await rig.call("GET", "/v1/tasks?limit=200")).body as { items: WireTask[] };
    expect(items.filter(({ prompt }) => prompt === "write room.txt=1")).toHaveLength(1);
  });

  it("[P9] a full storage: nothing that was not stored is left after the log-out, nor sent by the next person", async () => {
    const { page, id } = await openAsking("Is left behind", FULL_STORAGE);
    const reconnect = await cutOff(page);
    await send(page, "Left behind");
    await row(page, /^waiting, Message/).waitFor();
    await page.getByRole("link", { name: "Back" }).click();
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in to Slipway" }).waitFor();
    await reconnect();
    const other = { email: "noor@example.com", password: "another horse battery staple", role: "admin" };
    expect((await rig.server().call("POST", "/v1/users", other)).status).toBe(201);
    await page.getByLabel("E-mail").fill(other.email);
    await page.getByLabel("Password").fill(other.password);
    await page.getByRole("button", { name: "Log in", exact: true }).click();
    await page.getByRole("link", { name: /Is left behind/ }).click();
    await page.getByRole("heading", { name: "Tabs or spaces?" }).waitFor();
    await send(page, "By another");
    await expect.poll(async () => saidBy(await rig.server().events(id)).length).toBe(1);
    expect(saidBy(await rig.server().events(id))[0]).toContain("By another");
    expect(await row(page, /Left behind/).count()).toBe(0);
  });

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

  it("[P8] a message that is taken back is before what was begun meanwhile, and has its files", async () => {
    const { page, id } = await openAsking("Is written to early");
    const reconnect = await cutOff(page);
    const chosen = { name: "plan.txt", mimeType: "text/plain", buffer: Buffer.from("the plan") };
    const form = page.getByRole("form", { name: "Write to the agent" });
    await form.locator("input[type=file]").setInputFiles(chosen);
    await form.getByText(/^8 /).waitFor();
    await send(page, "Look at the plan");
    await row(page, /^waiting, Message/).waitFor();
    await expect.poll(() => textOf(page, "Message")).toBe("");
    await page.getByRole("textbox", { name: "Message" }).fill("And hurry");
    await row(page, /^waiting, Message/)
      .getByRole("button", { name: "Take back" })
      .click();
    await row(page, /^waiting, Message/).waitFor({ state: "detached" });
    expect(await textOf(page, "Message")).toBe("Look at the plan\n\nAnd hurry");
    await form.getByRole("button", { name: "Remove plan.txt" }).waitFor();
    await reconnect();
    await page.getByRole("button", { name: "Send", exact: true }).click();
    await expect.poll(async () => saidBy(await rig.server().events(id)).join("")).toContain("And hurry");
    const said = saidBy(await rig.server().events(id));
    expect(said).toHaveLength(1);
    expect(said[0]).toContain("plan.txt");
  });

  it("[P8] a new task that is taken back has its options and files, and replaces no draft for another repository", async () => {
    const page = await open("/new");
    await cutOff(page);
    const chosen = { name: "plan.txt", mimeType: "text/plain", buffer: Buffer.from("the plan") };
    const attached = page.getByRole("group", { name: "Attachments" });
    await page.getByLabel("Repository").fill(rig.repo);
    await promptField(page).fill("write taken.txt=1");
    await attached.locator("input[type=file]").first().setInputFiles(chosen);
    await attached.getByText("8 B", { exact: true }).waitFor();
    await page.getByText("Options").click();
    const fields = { "Base branch": "main", "Budget in dollars": "2.5", "Budget in minutes": "7" };
    for (const [name, value] of Object.entries(fields)) await page.getByRole("textbox", { name }).fill(value);
    await page.getByRole("radio", { name: "nothing" }).check({ force: true });
    await page.getByRole("button", { name: "Start task" }).click();
    const waiting = row(page, /^waiting, New task/);
    await waiting.waitFor();
    // A draft of something else stays, and so does what waits.
    await page.getByRole("link", { name: "New task" }).click();
    await page.getByLabel("Repository").fill("https://example.com/another/one.git");
    await page.getByRole("link", { name: "Close" }).click();
    await waiting.getByRole("button", { name: "Take back" }).click();
    await page.getByRole("status").filter({ hasText: "Not taken back: the draft of a new task is for" }).waitFor();
    expect(await waiting.count()).toBe(1);
    await page.getByRole("link", { name: "New task" }).click();
    expect(await textOf(page, "Repository")).toBe("https://example.com/another/one.git");
    await page.getByLabel("Repository").fill("");
    await promptField(page).fill("And test it");
    await page.getByRole("link", { name: "Close" }).click();
    await waiting.getByRole("button", { name: "Take back" }).click();
    await waiting.waitFor({ state: "detached" });
    await page.getByRole("status").filter({ hasText: "It is the draft of a new task again." }).waitFor();
    await page.getByRole("link", { name: "New task" }).click();
    expect(await textOf(page, "Repository")).toBe(rig.repo);
    expect(await textOf(page, "Prompt")).toBe("write taken.txt=1\n\nAnd test it");
    await attached.getByRole("button", { name: "Remove plan.txt" }).waitFor();
    await page.getByText("Options").click();
    for (const [name, value] of Object.entries(fields)) expect(await textOf(page, name)).toBe(value);
    expect(await page.getByRole("radio", { name: "nothing" }).isChecked()).toBe(true);
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
