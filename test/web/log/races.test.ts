/**
 * What happens while an answer is on its way, in a real browser: another text is typed, a row
 * moves, a part of the app does not come.
 */
import type { BrowserContextOptions, Page, Request, Route } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { describeWithBrowser, NARROW, WIDE } from "../../support/browser/browser.ts";
import { runWithModules } from "../../support/browser/module-page.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(4);

const DONE = { finish: { title: "t", summary: "s" } };
const ASK = { ask: { question: "Which quay?", options: ["North", "South"] } };
/** A service worker has a network of its own, and keeps the files of the app. */
const NO_WORKER: BrowserContextOptions = { serviceWorkers: "block" };

/** A page that waits for an answer longer than the 6 s after which it goes on without. */
const PATIENT = `const real = setTimeout;
  globalThis.setTimeout = (work, ms, ...rest) => real(work, ms === 6_000 ? 2 ** 30 : ms, ...rest);`;

interface Held {
  /** Resolves when the server has decided about a request. */
  readonly isHeld: () => Promise<void>;
  readonly letGo: () => void;
}

/** Holds the answers to these requests back, but not the requests. */
async function holdAnswers(page: Page, method: string, path: string): Promise<Held> {
  let held = 0;
  let letGo = (): void => undefined;
  const gone = new Promise<void>((resolve) => (letGo = resolve));
  await page.route(path, async (route: Route) => {
    if (route.request().method() !== method) return route.fallback();
    const response = await route.fetch();
    held += 1;
    await gone;
    // The page may have given the request up.
    return route.fulfill({ response }).catch(() => undefined);
  });
  return { isHeld: () => expect.poll(() => held).toBeGreaterThan(0), letGo: () => letGo() };
}

describeWithBrowser("while an answer is on its way", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  async function open(path: string, options: BrowserContextOptions = {}): Promise<Page> {
    const { page } = await rig.open({ ...NO_WORKER, ...options });
    await rig.logIn(page);
    await page.goto(rig.server().url + path);
    return page;
  }

  const field = (page: Page) => page.getByRole("textbox", { name: "Message" });
  const send = (page: Page) => page.getByRole("button", { name: "Send", exact: true });
  const isChecked = (page: Page, name: string): Promise<boolean> => page.getByRole("radio", { name }).isChecked();

  /** What the field has once the send has ended. */
  async function readAfterSend(page: Page): Promise<string> {
    await expect.poll(() => send(page).isEnabled()).toBe(true);
    return field(page).inputValue();
  }

  async function openRunning(title: string): Promise<{ page: Page; id: string }> {
    const id = await rig.submit(title, [rig.gate().step, rig.gate().step]);
    await rig.until(id, (task) => task.state === "running", "running");
    return { page: await open(`/tasks/${id}`), id };
  }

  it("[P4] what is typed, and how it is to be read, stays when the message before it has been sent", async () => {
    const { page } = await openRunning("Is written to twice");
    const answer = await holdAnswers(page, "POST", "**/messages");
    await page.getByRole("radio", { name: "Interrupt" }).check({ force: true });
    await field(page).fill("The first");
    await send(page).click();
    await answer.isHeld();
    await field(page).fill("The second");
    await page.getByRole("radio", { name: "After turn" }).check({ force: true });
    answer.letGo();
    expect(await readAfterSend(page)).toBe("The second");
    expect(await isChecked(page, "After turn")).toBe(true);
  });

  it("[P4] a message that is taken back before its send has ended is in the field, once", async () => {
    const { page } = await openRunning("Is asked too early");
    const answer = await holdAnswers(page, "POST", "**/messages");
    await page.getByRole("radio", { name: "After turn" }).check({ force: true });
    await field(page).fill("Add a tset");
    await send(page).click();
    await answer.isHeld();
    const said = page.getByRole("article").filter({ hasText: "Add a tset" });
    await said.getByRole("button", { name: "Take back and edit" }).click();
    await said.getByText("taken back").waitFor();
    answer.letGo();
    expect(await readAfterSend(page)).toBe("Add a tset");
  });

  it("[P4] a draft of a new task that was changed after it was sent is kept, as another task", async () => {
    const page = await open("/new");
    const answer = await holdAnswers(page, "POST", "**/v1/tasks");
    await page.getByLabel("Repository").fill(rig.repo);
    await page.getByRole("textbox", { name: "Prompt" }).fill("write first.txt=1");
    await page.getByRole("button", { name: "Start task" }).click();
    await answer.isHeld();
    await page.getByRole("textbox", { name: "Prompt" }).fill("write second.txt=2");
    answer.letGo();
    await expect.poll(() => page.url()).not.toContain("/new");
    await page.goto(`${rig.server().url}/new`);
    expect(await page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe("write second.txt=2");
    await page.getByRole("button", { name: "Start task" }).click();
    await expect.poll(() => page.url()).toContain("/tasks/");
    const made = ((await rig.call("GET", "/v1/tasks")).body as { items: WireTask[] }).items;
    const prompts = made.map(({ prompt }) => prompt).filter((prompt) => prompt.startsWith("write "));
    expect(prompts).toEqual(["write second.txt=2", "write first.txt=1"]);
    await page.goto(`${rig.server().url}/new`);
    expect(await page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe("");
  });

  it("[P4] a page that ends while it sends a new task: the same again is that task, another one is another", async () => {
    let page = await open("/new");
    const prompt = () => page.getByRole("textbox", { name: "Prompt" });
    const listMade = async (): Promise<string[]> => {
      const { items } = (await rig.call("GET", "/v1/tasks")).body as { items: WireTask[] };
      return items.flatMap(({ prompt: text }) => (text.startsWith("ended ") ? [text] : [])).toSorted();
    };
    /** The page ends without a word to its scripts, as when the phone needs its memory. */
    const sendAndEnd = async (text: string): Promise<void> => {
      await page.addInitScript(PATIENT);
      await page.goto(`${rig.server().url}/new`);
      const answer = await holdAnswers(page, "POST", "**/v1/tasks");
      await page.getByLabel("Repository").fill(rig.repo);
      await prompt().fill(text);
      await page.getByRole("button", { name: "Start task" }).click();
      await answer.isHeld();
      const next = await page.context().newPage();
      await page.close();
      answer.letGo();
      page = next;
      // What waits in the outbox is sent again by itself.
      const again = page.waitForResponse((one) => one.request().method() === "POST" && one.url().endsWith("/v1/tasks"));
      await page.goto(`${rig.server().url}/new`);
      expect((await again).ok()).toBe(true);
      expect(await prompt().inputValue()).toBe(text);
    };
    await sendAndEnd("ended once");
    await page.getByRole("button", { name: "Start task" }).click();
    await expect.poll(() => page.url()).toContain("/tasks/");
    expect(await listMade()).toEqual(["ended once"]);
    await sendAndEnd("ended twice");
    await prompt().fill("ended and changed");
    await page.getByRole("button", { name: "Start task" }).click();
    await expect.poll(() => page.url()).toContain("/tasks/");
    expect(await listMade()).toEqual(["ended and changed", "ended once", "ended twice"]);
  });

  it("[P4] a file whose upload ends while another screen is open is attached, and one that was removed is not", async () => {
    const page = await open("/new");
    const attach = (name: string): Promise<void> =>
      page
        .locator("input[type=file]")
        .first()
        .setInputFiles({ name, mimeType: "text/plain", buffer: Buffer.from(name) });
    const file = (name: string) => page.getByRole("listitem").filter({ hasText: name });
    const first = await holdAnswers(page, "POST", "**/v1/attachments**");
    await attach("plan.txt");
    await attach("wrong.txt");
    await file("wrong.txt").getByRole("button", { name: "Remove wrong.txt" }).click();
    await first.isHeld();
    await page.getByRole("link", { name: "Close" }).click();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    const isKept = (): Promise<string | null> => page.evaluate(`localStorage.getItem("slipway.draft.new.files")`);
    expect(await isKept()).toBeNull();
    first.letGo();
    await expect.poll(isKept).toContain("plan.txt");
    await page.getByRole("link", { name: "New task" }).first().click();
    await file("plan.txt").waitFor();
    expect(await file("wrong.txt").count()).toBe(0);
    await page.unrouteAll({ behavior: "wait" });
    // Back before the end: the field goes on with it.
    const second = await holdAnswers(page, "POST", "**/v1/attachments**");
    await attach("late.txt");
    await second.isHeld();
    await page.getByRole("link", { name: "Close" }).click();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    await page.getByRole("link", { name: "New task" }).first().click();
    await file("late.txt").waitFor();
    expect(await page.getByRole("button", { name: "Start task" }).isDisabled()).toBe(true);
    second.letGo();
    await expect.poll(() => page.getByRole("button", { name: "Start task" }).isEnabled()).toBe(true);
    expect(await isKept()).toMatch(/plan\.txt.*late\.txt/);
  });

  it("[P4] a comment that is kept while others are sent is another message", async () => {
    const write = { write: { path: "a.txt", content: "one\ntwo\n" } };
    const id = await rig.submit("Is commented on", [write, ASK, DONE]);
    await rig.until(id, (task) => task.question !== null, "the question");
    const page = await open(`/tasks/${id}`, { viewport: WIDE });
    const lines = page.getByRole("region", { name: "Diff of a.txt" });
    const comment = async (line: string, text: string): Promise<void> => {
      await lines.getByRole("cell", { name: line, exact: true }).click();
      await lines.getByLabel(/^Comment on line/).fill(text);
      await lines.getByRole("button", { name: "Keep" }).click();
    };
    const batch = page.getByRole("button", { name: "Send 1 comment to the agent" });
    const answer = await holdAnswers(page, "POST", "**/messages");
    await comment("one", "Why one?");
    await batch.click();
    await answer.isHeld();
    await comment("two", "Why two?");
    answer.letGo();
    await batch.click();
    await batch.waitFor({ state: "detached" });
    const said = (await rig.server().events(id)).flatMap(({ type, data }) =>
      type === "message" && data["role"] === "user" ? JSON.stringify(data).match(/Why \w+\?/g) : [],
    );
    expect(said).toEqual(["Why one?", "Why two?"]);
  });

  it("[H18] an approved phone is shown as approved, though the link is asked for once more meanwhile", async () => {
    const page = await open("/you");
    await page.getByRole("button", { name: "Log in on your phone" }).click();
    const sheet = page.getByRole("dialog", { name: "Log in on your phone" });
    const { page: phone } = await rig.open();
    await phone.goto((await sheet.getByRole("code").textContent()) ?? "");
    await phone.getByRole("button", { name: "Log in on this device" }).click();
    await sheet.getByRole("button", { name: "Approve" }).waitFor();
    await page.evaluate(`
      globalThis.shown = [];
      new MutationObserver(() => shown.push(document.querySelector("dialog [role=status]")?.textContent ?? ""))
        .observe(document, { subtree: true, childList: true });
    `);
    // A question that the server answers after the decision.
    let asked = 0;
    let ask = (): void => undefined;
    const decided = new Promise<void>((resolve) => (ask = resolve));
    await page.route("**/v1/device/offer", async (route) => {
      asked += 1;
      await decided;
      const response = await route.fetch();
      return route.fulfill({ response }).catch(() => undefined);
    });
    await expect.poll(() => asked).toBeGreaterThan(0);
    const decision = await holdAnswers(page, "POST", "**/v1/device/decide");
    const isOffer = { predicate: (request: Request) => request.url().endsWith("/v1/device/offer") };
    const isOver = Promise.race([
      page.waitForEvent("requestfinished", isOffer),
      page.waitForEvent("requestfailed", isOffer),
    ]);
    await sheet.getByRole("button", { name: "Approve" }).click();
    await decision.isHeld();
    ask();
    await isOver;
    decision.letGo();
    await sheet.getByRole("status").filter({ hasText: "Approved" }).waitFor();
    expect((await page.evaluate<string[]>("shown")).filter((text) => !/^$|^Approved/.test(text))).toEqual([]);
  });

  it("[V7] what was said of one branch does not stand under another that is being typed", async () => {
    const page = await open("/new");
    const said = page.getByRole("status", { name: "Pre-flight" });
    await page.getByLabel("Repository").fill(rig.repo);
    await said.getByText("Can be read and pushed to").waitFor();
    await page.getByText("Options").click();
    await page.getByLabel("Base branch").fill("no-such-branch");
    expect(await said.textContent()).toContain("Asking whether");
    await said.getByText("There is no branch no-such-branch").waitFor();
  });

  for (const [device, viewport, selector] of [
    ["a phone", NARROW, "#main .row-link"],
    ["a desk", WIDE, "#main .drow"],
  ] as const) {
    it(`on ${device} the focus stays with the row of a task that moves to another group`, async () => {
      const gate = rig.gate();
      const title = `Moves on ${device}`;
      const id = await rig.submit(title, [gate.step, DONE]);
      const page = await open("/", { viewport });
      const row = page.locator(selector).filter({ hasText: title });
      await page
        .getByRole("region", { name: /^Running/ })
        .getByRole("link", { name: title })
        .waitFor();
      await row.focus();
      gate.open();
      await rig.until(id, (task) => task.state === "done", "the end");
      await page
        .getByRole("region", { name: /^Done today/ })
        .getByRole("link", { name: title })
        .waitFor();
      expect(await row.evaluate((link) => link === link.ownerDocument.activeElement)).toBe(true);
    });
  }

  it("a part of the app that does not come is asked for again, and one that never comes says so in its place", async () => {
    const id = await rig.submit("Asks on a bad network", [ASK, DONE]);
    await rig.until(id, (task) => task.question !== null, "the question");
    const page = await open("/");
    const failing = new Map<string, number>();
    const block = async (name: string): Promise<void> => {
      await page.route(`**/assets/${name}-*.js`, (route) => {
        failing.set(name, (failing.get(name) ?? 0) + 1);
        return route.abort();
      });
    };
    await block("ask-card");
    await page.getByRole("link", { name: /Asks on a bad network/ }).click();
    await expect.poll(() => failing.get("ask-card")).toBeGreaterThan(1);
    await page.unroute("**/assets/ask-card-*.js");
    await page.getByRole("heading", { name: "Which quay?" }).waitFor();
    await block("todo-sheet");
    await block("you");
    await page.getByRole("button", { name: /^Cost|^To do/ }).click();
    const sheet = page.getByRole("dialog", { name: /^Cost|^To do/ });
    await sheet.getByRole("alert").filter({ hasText: "could not be loaded" }).waitFor();
    await page.keyboard.press("Escape");
    // The rest goes on.
    await page.getByRole("radio", { name: "South" }).check({ force: true });
    await page.getByRole("link", { name: "Back" }).click();
    await page.getByRole("link", { name: "You", exact: true }).click();
    const problem = page.getByRole("alert").filter({ hasText: "could not be loaded" });
    await problem.waitFor();
    await page.unroute("**/assets/you-*.js");
    await problem.getByRole("button", { name: "Reload" }).click();
    await page.getByRole("heading", { name: "You", exact: true }).waitFor();
  });
});

const DEVICE = ["lib/device/outbox.ts", "lib/device/kept.ts"];

describeWithBrowser("the outbox", () => {
  it("[P8] what is sent while the outbox is being read stays in its list", async () => {
    const lengths = await runWithModules<number[]>(
      DEVICE,
      "device",
      `(async () => {
      const lengths = [];
      device.outbox.subscribe(() => lengths.push(device.outbox.get().length));
      device.openKept("p1");
      const opened = device.openOutbox();
      const message = { kind: "message", taskId: "t1", body: { text: "x" } };
      await Promise.all([opened, device.dispatch(message, "k1")]);
      return lengths;
    })()`,
    );
    expect([...new Set(lengths)]).toEqual([1]);
  });
});
