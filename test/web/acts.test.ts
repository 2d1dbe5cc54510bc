/** What a person does with a task, in a browser: retries, forks, messages and answers. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import type { BrowserContextOptions, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { startFakeModel, type FakeModel } from "../../src/broker/model/fake/server.ts";
import type { ServerConfig } from "../../src/core/protocol/config.ts";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { describeWithBrowser, expectAccessible, NARROW, WIDE } from "../support/browser/browser.ts";
import { findMisfits } from "../support/browser/misfits.ts";
import { openWebRig, taskState, untilAtEnd, type WebRig } from "../support/browser/rig.ts";
import type { GitServer } from "../support/git-server.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(4);
const KEY = "sk-test";
const ASK = { ask: { question: "Tabs or spaces?", options: ["Tabs", "Spaces"] } };
/** A service worker has a network of its own, and sends what the page keeps. */
const NO_WORKER: BrowserContextOptions = { serviceWorkers: "block" };
const FINISH = { finish: { title: "t", summary: "It came to its end." } };

/** The names of states of the charts in sight that stand out of their boxes while each is lit. */
const FIND_WIDE_NAMES = `[...document.querySelectorAll("svg.chart-art")]
  .filter((chart) => chart.checkVisibility())
  .flatMap((chart) => [...chart.querySelectorAll(".ch-state")])
  .map((state) => {
    state.classList.add("now");
    return [state.querySelector("rect").getBBox(), state.querySelector("text")];
  })
  .map(([box, text]) => [box, text.getBBox(), text.textContent])
  .map(([box, name, text]) => ({ text, isIn: name.x >= box.x + 1 && name.x + name.width <= box.x + box.width - 1 }))`;

/** Changes the first text of the log that this device keeps of a task. */
const CHANGE_KEPT = `(async () => {
  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const [{ name }] = (await indexedDB.databases()).filter(({ name }) => name.startsWith("slipway-"));
  const db = await done(indexedDB.open(name));
  const store = db.transaction("parts", "readwrite").objectStore("parts");
  const [key] = await done(store.getAllKeys());
  const part = await done(store.get(key));
  part.find(({ type }) => type === "message").data.content[0].text = "Something else.";
  await done(store.put(part, key));
  db.close();
})()`;

describeWithBrowser("acts on a task", () => {
  let model: FakeModel;
  let rig: WebRig;
  let git: GitServer;

  beforeAll(async () => {
    const turns = [{ tools: [{ name: "finish", input: { title: "Looked", summary: "Nothing to change." } }] }];
    model = await startFakeModel({ scenarios: { default: { turns } }, apiKey: KEY });
    rig = await openWebRig((upstream) => {
      git = upstream;
      return { ANTHROPIC_API_KEY: KEY, ANTHROPIC_BASE_URL: model.url, SLIPWAY_AGENT: "scripted" };
    });
  });
  afterAll(async () => {
    await rig.close();
    await model.close();
  });
  afterEach(() => rig.closeDevices());

  async function open(path: string, options: BrowserContextOptions = {}): Promise<{ page: Page; errors: string[] }> {
    const { page, errors } = await rig.open(options);
    await rig.logIn(page);
    await page.goto(rig.server().url + path);
    return { page, errors };
  }

  /** The task that the page shows once it is another than this one. */
  async function readNext(page: Page, id: string): Promise<WireTask> {
    await expect.poll(() => page.url()).not.toContain(id);
    return rig.until(/tasks\/([^/?]+)/.exec(page.url())?.[1] ?? "", (task) => task.settledAt !== null, "the end");
  }

  it("a retry takes another model and effort, chosen on the screen of the task", async () => {
    const answer = await rig.call("POST", "/v1/tasks", { repo: rig.repo, prompt: "Look around.", agent: "anthropic" });
    const before = await rig.until((answer.body as WireTask).id, (task) => task.settledAt !== null, "the end");
    expect(before.state).toBe("done");
    const { page, errors } = await open(`/tasks/${before.id}`);
    // The provider said how large the window of its model is.
    const { windows } = (await rig.call("GET", "/v1/config")).body as ServerConfig;
    const window = windows[before.model ?? ""] ?? 0;
    expect(window).toBeGreaterThanOrEqual(200_000);
    await page.getByRole("button", { name: /^Cost|^To do/ }).click();
    const share = new RegExp(
      `^[\\d,]+ tokens in the newest request, \\d+ % of the model’s ${window.toLocaleString("en")}$`,
    );
    await page.getByText(share).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Retry" }).click();
    await page.getByRole("radio", { name: /^From the start, the same prompt/ }).check();
    const models = page.getByLabel("Model");
    expect(await models.inputValue()).toBe("");
    const offered = await models.locator("option").evaluateAll((all) => all.map((one) => Reflect.get(one, "value")));
    const other = String(offered.findLast((name) => name !== "" && name !== before.model));
    await models.selectOption(other);
    await page.getByLabel("Effort").selectOption("low");
    await expectAccessible(page, "the retry");
    await page.getByRole("button", { name: "Start again" }).click();
    const next = await readNext(page, before.id);
    expect(next).toMatchObject({ model: other, effort: "low", threadId: before.threadId, state: "done" });
    expect(errors).toEqual([]);
  });

  it("[R11] a fork goes on from a task in a thread and on a branch of its own, and says from where", async () => {
    const id = await rig.submit("Begins the way", [{ write: { path: "way.txt", content: "one\n" } }, FINISH]);
    const before = await rig.until(id, (task) => task.state === "done", "the end");
    const { page, errors } = await open(`/tasks/${id}/thread`);
    await page.getByRole("button", { name: "Fork from here" }).click();
    const start = page.getByRole("button", { name: "Fork and start" });
    expect(await start.isDisabled()).toBe(true);
    await page.getByLabel("What should go differently?").fill("Use a unique index instead.");
    expect(await findMisfits(page)).toEqual([]);
    await expectAccessible(page, "the fork");
    await start.click();
    const fork = await readNext(page, id);
    expect(fork).toMatchObject({ state: "done", outcome: "pushed", parentId: id });
    expect(fork.threadId).not.toBe(before.threadId);
    expect(fork.branch).not.toBe(before.branch);
    // It has what was there, and its own.
    const { body } = await rig.call("GET", `/v1/tasks/${fork.id}/diff`);
    const files = (body as { files: { path: string }[] }).files.map(({ path }) => path);
    expect(files).toEqual(expect.arrayContaining(["way.txt", "SLIPWAY.md"]));
    const old = (await rig.call("GET", `/v1/tasks/${id}/diff`)).body as { files: { path: string }[] };
    expect(old.files.map(({ path }) => path)).toEqual(["way.txt"]);
    await page.getByRole("link", { name: "Forked from another task" }).click();
    await expect.poll(() => page.url()).toContain(id);
    expect(errors).toEqual([]);
  });

  it("[P4] a message that the agent has not read is taken back, changed, and sent once", async () => {
    const id = await rig.submit("Is busy", [rig.gate().step]);
    await rig.until(id, (task) => task.state === "running", "running");
    const { page, errors } = await open(`/tasks/${id}`);
    await page.getByRole("radio", { name: "After turn" }).check({ force: true });
    await page.getByLabel("Message").fill("Also add a tset");
    await page.getByRole("button", { name: "Send" }).click();
    const said = page.getByRole("article").filter({ hasText: "Also add a tset" });
    await said.getByText("the server has it").waitFor();
    const field = page.getByLabel("Message");
    await expect.poll(() => field.inputValue()).toBe("");
    await said.getByRole("button", { name: "Take back and edit" }).click();
    await said.getByText("taken back").waitFor();
    await expect.poll(() => field.inputValue()).toBe("Also add a tset");
    expect(await findMisfits(page)).toEqual([]);
    await field.fill("Also add a test");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByRole("article").filter({ hasText: "Also add a test" }).getByText("the server has it").waitFor();
    const messages = (await rig.call("GET", `/v1/tasks/${id}/messages`)).body as { items: { status: string }[] };
    expect(messages.items.map(({ status }) => status)).toEqual(["withdrawn", "queued"]);
    await rig.call("POST", `/v1/tasks/${id}/cancel`);
    expect(errors).toEqual([]);
  });

  it("[P8] an answer that comes too late says so: the question expired, and the conversation shows it", async () => {
    const id = await rig.submit("Asks in vain", [ASK, FINISH]);
    await rig.until(id, (task) => task.question !== null, "the question");
    const { page } = await open("/", NO_WORKER);
    const row = page.getByRole("listitem").filter({ hasText: "Asks in vain" });
    await row.getByRole("button", { name: "Tabs" }).waitFor();
    await page.route("**/v1/**", (route) => route.abort());
    await row.getByRole("button", { name: "Tabs" }).click();
    await page.getByRole("listitem", { name: /waiting, Answer/ }).waitFor();
    await rig.call("POST", `/v1/tasks/${id}/cancel`);
    await rig.until(id, (task) => task.state === "cancelled", "the end");
    await page.unroute("**/v1/**");
    await page
      .getByRole("listitem", { name: /failed, Answer/ })
      .getByText("The question expired")
      .waitFor();
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await expect.poll(() => taskState(page).textContent()).toBe("cancelled");
    await page.getByLabel("Connection: complete").waitFor();
    await untilAtEnd(page, "Expired without an answer: Tabs or spaces?");
  });

  it("an answer that was kept comes back as applied", async () => {
    const id = await rig.submit("Asks and hears", [ASK, FINISH]);
    await rig.until(id, (task) => task.question !== null, "the question");
    const { page } = await open("/", NO_WORKER);
    const row = page.getByRole("listitem").filter({ hasText: "Asks and hears" });
    await row.getByRole("button", { name: "Tabs" }).waitFor();
    await page.route("**/v1/**", (route) => route.abort());
    // The item waits before it is sent at all: then it would arrive, and never be kept.
    const refused = page.waitForEvent("requestfailed", (request) => request.url().endsWith(`/${id}/answer`));
    await row.getByRole("button", { name: "Tabs" }).click();
    await refused;
    await page.getByRole("listitem", { name: /waiting, Answer/ }).waitFor();
    await page.unroute("**/v1/**");
    await page
      .getByRole("listitem", { name: /sent, Answer/ })
      .getByText(/^applied /)
      .waitFor();
    await rig.until(id, (task) => task.state === "done", "the end");
  });

  it("[P1] a link names the host that it goes to, in whatever letters and order its text is written", async () => {
    const say = [
      "[github.com](https://evil.example/a)",
      "[https://github.com/login?next=evil.example](https://evil.example/b)",
      "https://g\u0456thub.com/c",
      "[\u202Emoc.buhtig//:sptth](https://evil.example/d)",
      "[github.com.evil.example](https://github.com.evil.example:8443/e)",
      "https://github.com/f",
      "[write](mailto:a@evil.example)",
    ].join("\n\n");
    const id = await rig.submit("Links", [{ say }, FINISH]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const { page, errors } = await open(`/tasks/${id}`);
    await page.getByRole("link", { name: "https://github.com/f" }).waitFor();
    const shown = await page
      .locator("main .read a")
      .evaluateAll((links) =>
        links.map((link) => String(Reflect.get(link.querySelector("small") ?? {}, "textContent") ?? "")),
      );
    const evil = " (evil.example)";
    expect(shown).toEqual([
      evil,
      evil,
      " (xn--gthub-n2e.com)",
      evil,
      " (github.com.evil.example:8443)",
      "",
      " (a@evil.example)",
    ]);
    // The text cannot turn the direction of the name beside it.
    expect(await page.locator("main .read a bdi").count()).toBe(shown.length);
    expect(errors).toEqual([]);
  });

  it("the machine says what it accepts now, and of a past moment the states that it could go to then", async () => {
    const id = await rig.submit("Is looked back at", [FINISH]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const { page, errors } = await open(`/tasks/${id}/machine`);
    const facts = page.getByRole("region", { name: "Facts" });
    const slider = page.getByRole("slider", { name: "Moment, by seq" });
    await facts.getByText("nothing: the state is final").waitFor();
    await slider.fill("1");
    await facts.getByText("Could go to").waitFor();
    await facts.getByText(/^(?=.*\bprovisioning\b)(?=.*\bcancelled\b)(?=.*\bfailed\b)(?!.*\bdone\b)/).waitFor();
    expect(await facts.getByText("Accepts now").count()).toBe(0);
    await page.getByRole("button", { name: "Now", exact: true }).click();
    await facts.getByText("Accepts now").waitFor();
    expect(errors).toEqual([]);
  });

  it("[P12] the machine says whether the log on this device is the server's, at any moment, and reads it again when not", async () => {
    const id = await rig.submit("Keeps its log", [{ say: "As it was said." }, FINISH]);
    const { seq } = await rig.until(id, (task) => task.state === "done", "the end");
    const { page, errors } = await open(`/tasks/${id}`);
    await page.getByText("As it was said.").waitFor();
    await page.getByRole("link", { name: "Machine" }).click();
    const said = page.getByRole("status", { name: "Log" });
    const digestAt = async (at: number): Promise<string> => {
      const { body } = await rig.call("GET", `/v1/tasks/${id}/digest?seq=${at}`);
      return `in sync at ${at}, digest ${(body as { digest: string }).digest}`;
    };
    await expect.poll(() => said.innerText()).toBe(await digestAt(seq));
    await page.getByRole("slider", { name: "Moment, by seq" }).fill("3");
    await expect.poll(() => said.innerText()).toBe(await digestAt(3));
    expect(await findMisfits(page)).toEqual([]);
    // The events are there as the wire has them, and as a file.
    await page.locator("summary").filter({ hasText: "task.submitted" }).click();
    await page.getByRole("region", { name: "Event 1" }).getByText(`"taskId": "${id}"`).waitFor();
    const download = page.waitForEvent("download");
    await page.getByRole("button", { name: "Save the whole log" }).click();
    const lines = readFileSync(await (await download).path(), "utf8")
      .trim()
      .split("\n");
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(await rig.server().events(id));
    await page.evaluate(CHANGE_KEPT);
    await page.reload();
    await said.getByText(`differs from the server’s at ${seq}`).waitFor();
    await page.getByRole("button", { name: "Read it again" }).click();
    await expect.poll(() => said.innerText()).toBe(await digestAt(seq));
    await page.getByRole("link", { name: "Conversation" }).click();
    await page.getByText("As it was said.").waitFor();
    expect(errors).toEqual([]);
  });

  it("a finger that pulls the list down at its top reads it again", async () => {
    const { page, errors } = await rig.open({ viewport: NARROW, hasTouch: true, isMobile: true });
    await rig.logIn(page);
    let isMuted = false;
    await page.context().routeWebSocket(/\/v1\/stream/, (socket) => {
      const server = socket.connectToServer();
      server.onMessage((frame) => {
        if (!isMuted || !String(frame).includes('"type":"events"')) socket.send(frame);
      });
    });
    await page.goto(rig.server().url);
    await page.getByLabel("Connection: in sync").waitFor();
    await page.locator(".pull").waitFor({ state: "attached" });
    isMuted = true;
    await rig.submit("Arrives unheard", [FINISH]);
    const row = page.getByRole("link", { name: /Arrives unheard/ });
    const session = await page.context().newCDPSession(page);
    const pull = async (distance: number): Promise<void> => {
      const touch = (type: "touchStart" | "touchMove", y: number) =>
        session.send("Input.dispatchTouchEvent", { type, touchPoints: [{ x: 200, y }] });
      await touch("touchStart", 150);
      for (let moved = 15; moved <= distance; moved += 15) await touch("touchMove", 150 + moved);
      await session.send("Input.dispatchTouchEvent", { type: "touchEnd", touchPoints: [] });
    };
    await pull(45);
    expect(await row.count()).toBe(0);
    // It is said for three seconds.
    const said = page.getByText(/^Up to date at /).waitFor();
    await pull(120);
    await said;
    await row.waitFor();
    expect(errors).toEqual([]);
  });

  it("a credential is added by its fields: what the host refuses is said, and saved only without the check", async () => {
    const { page, errors } = await open("/you");
    const list = page.getByRole("region", { name: /^Git credentials/ });
    const host = new URL(rig.repo).host;
    await list.getByRole("button", { name: "Add a credential" }).click();
    const sheet = page.getByRole("dialog", { name: "Add a credential" });
    const save = sheet.getByRole("button", { name: "Save" });
    await sheet.getByLabel("Host").fill(host);
    await sheet.getByLabel("Token").fill("a-wrong-token");
    expect(await sheet.getByLabel("Token").getAttribute("type")).toBe("password");
    await sheet.getByLabel(/^Repository/).fill(rig.repo);
    await sheet.getByLabel(/^User name/).fill("mira");
    expect(await findMisfits(page)).toEqual([]);
    git.refuse("storefront", { status: 401 });
    await save.click();
    await sheet.getByRole("alert").waitFor();
    expect((await rig.call("GET", "/v1/credentials")).body).toMatchObject({ items: [] });
    await sheet.getByRole("checkbox", { name: "Save it without the check" }).check();
    await save.click();
    const row = list.getByRole("listitem").filter({ hasText: host });
    await row.getByText("mira").waitFor();
    expect((await rig.call("GET", "/v1/credentials")).body).toMatchObject({
      items: [{ host, username: "mira", check: { result: "skipped" } }],
    });
    git.refuse("storefront", null);
    await row.getByRole("button", { name: "Remove" }).click();
    await row.waitFor({ state: "detached" });
    // The refused one.
    expect(errors.filter((text) => !text.includes("422"))).toEqual([]);
  });

  it("[P3] the name of each state of the chart is in its box, lit or not, on a phone and at a desk", async () => {
    const id = await rig.submit("Is drawn", [FINISH]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const { page } = await open(`/tasks/${id}/machine`);
    for (const size of [NARROW, { width: 320, height: 640 }, WIDE]) {
      await page.setViewportSize(size);
      await page.getByRole("region", { name: "Chart of the lifecycle" }).first().waitFor();
      // A chart of another size is drawn in place of the one that is there.
      const look = async (): Promise<unknown> => {
        const names = await page.evaluate<{ text: string; isIn: boolean }[]>(FIND_WIDE_NAMES);
        return [names.some(({ text }) => text === "provisioning"), names.filter(({ isIn }) => !isIn)];
      };
      await expect.poll(look).toEqual([true, []]);
    }
  });

  it("[W6] what a killed worker had not saved is downloaded on the page of its task, which says so", async () => {
    const gate = rig.gate();
    const begun = async (): Promise<boolean> =>
      (await rig.server().events(id)).some(({ type, data }) => type === "tool.started" && data["name"] === "bash");
    const late = { write: { path: "late.txt", content: "not lost\n" } };
    const id = await rig.submit("Is killed", [late, gate.step, FINISH]);
    await expect.poll(begun).toBe(true);
    expect((await rig.call("POST", `/v1/ops/tasks/${id}/kill`)).status).toBe(202);
    await rig.until(id, (task) => task.state === "cancelled", "the end");
    const kept = async (): Promise<unknown> => (await rig.call("GET", `/v1/tasks/${id}/artifacts`)).body;
    await expect.poll(kept).toMatchObject({ items: [{ name: "a1-workspace.tar.gz" }] });
    const { page, errors } = await rig.open();
    await page.addInitScript("delete globalThis.showSaveFilePicker");
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    const result = page.getByRole("region", { name: "Result" });
    const download = page.waitForEvent("download");
    await result.getByRole("button", { name: /^Download a1-workspace\.tar\.gz, [\d.]+ k?B$/ }).click();
    expect((await download).suggestedFilename()).toBe(`${id}-a1-workspace.tar.gz`);
    const archive = await (await download).path();
    expect(execFileSync("tar", ["xzOf", archive, "workspace/late.txt"]).toString()).toBe("not lost\n");
    await result.getByRole("status").getByText("a1-workspace.tar.gz is downloaded.").waitFor();
    expect(await findMisfits(page)).toEqual([]);
    expect(errors).toEqual([]);
  });
});
