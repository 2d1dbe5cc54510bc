/** The operator's console in a browser: its content, and the effects of its actions. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BrowserContextOptions, Locator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { describeWithBrowser, expectAccessible, NARROW, WIDE } from "../support/browser/browser.ts";
import { findMisfits } from "../support/browser/misfits.ts";
import { EMAIL, openWebRig, type WebRig } from "../support/browser/rig.ts";
import { createServerClock, type ServerClock } from "../support/process/clock.ts";
import { inTurn } from "../support/vitest/full-run.ts";
import { formatUsd } from "../../web/src/lib/format.ts";

const it = inTurn(4);
const ASK = { ask: { question: "Tabs or spaces?", options: ["Tabs", "Spaces"] } };
const FINISH = { finish: { title: "t", summary: "It came to its end." } };
/** A question that waits so long is shown to operators, and its task is not parked yet, ms. */
const UNANSWERED_MS = 3 * 60_000;

describeWithBrowser("the operator's console", () => {
  let dir: string;
  let clock: ServerClock;
  let rig: WebRig;
  let passed = 0;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "slipway-console-"));
    clock = createServerClock(dir);
    rig = await openWebRig(clock.env);
  });
  afterAll(async () => {
    await rig.close();
    rmSync(dir, { recursive: true, force: true });
  });
  afterEach(() => rig.closeDevices());

  async function open(path: string, options: BrowserContextOptions = {}): Promise<{ page: Page; errors: string[] }> {
    const { page, errors } = await rig.open(options);
    await rig.logIn(page);
    await page.goto(rig.server().url + path);
    return { page, errors };
  }

  /** Tasks that wait for an answer for so long that the console shows them. */
  async function submitUnanswered(...titles: string[]): Promise<WireTask[]> {
    const ids = await Promise.all(titles.map((title) => rig.submit(title, [ASK, FINISH])));
    const tasks = [];
    for (const id of ids) tasks.push(await rig.until(id, (task) => task.question !== null, "the question"));
    clock.set((passed += UNANSWERED_MS));
    return tasks;
  }

  /** Also behind a dialog. */
  const card = (page: Page, title: string): Locator => page.locator(`section[aria-label="Attention: ${title}"]`);

  it("an operator cancels and kills machines that do not move; what came of it stays when their cards are gone", async () => {
    const [first, second] = await submitUnanswered("Waits in the north", "Waits in the south");
    const { page, errors } = await open("/console");
    const result = page.getByRole("status", { name: "Result of the stop" });
    await card(page, "Waits in the north").getByRole("button", { name: "Cancel" }).click();
    await page.getByText("The agent is asked to save its work").waitFor();
    await page.getByRole("button", { name: "Cancel the task" }).click();
    await result.getByText("“Waits in the north” is cancelled").waitFor();
    await rig.until(first!.id, (task) => task.state === "cancelled", "the cancel");
    await card(page, "Waits in the north").waitFor({ state: "detached" });
    expect(await result.innerText()).toContain("“Waits in the north” is cancelled: its agent saves its work");
    for (const size of [NARROW, WIDE]) {
      await page.setViewportSize(size);
      expect(await findMisfits(page)).toEqual([]);
    }
    await expectAccessible(page, "the result of a stop");
    await card(page, "Waits in the south").getByRole("button", { name: "Kill" }).click();
    await page.getByText("What was not saved with a checkpoint is lost").waitFor();
    await page.getByRole("button", { name: "Kill the task" }).click();
    await result.getByText("“Waits in the south” is killed").waitFor();
    await rig.until(second!.id, (task) => task.state === "cancelled", "the kill");
    const asked = (await rig.server().events(second!.id)).find(({ data }) => data["reason"] === "cancel");
    expect(asked?.data).toMatchObject({ force: true });
    await card(page, "Waits in the south").waitFor({ state: "detached" });
    expect(await result.innerText()).toContain("“Waits in the south” is killed: its container is removed at once");
    await result.getByRole("button", { name: "Dismiss" }).click();
    await result.waitFor({ state: "detached" });
    expect(errors).toEqual([]);
  });

  it("a stop that is confirmed after the machine went on is refused, and the console says why", async () => {
    const [task] = await submitUnanswered("Is answered");
    const { page, errors } = await open("/console");
    await card(page, "Is answered").getByRole("button", { name: "Cancel" }).click();
    const sheet = page.getByRole("dialog", { name: "Cancel “Is answered”?" });
    await sheet.waitFor();
    await rig.call("POST", `/v1/tasks/${task!.id}/answer`, { questionId: task!.question?.id, text: "Tabs" });
    await rig.until(task!.id, ({ state }) => state === "done", "the end");
    await card(page, "Is answered").waitFor({ state: "detached" });
    await sheet.getByRole("button", { name: "Cancel the task" }).click();
    const result = page.getByRole("alert", { name: "Result of the stop" });
    await result.getByText("“Is answered” is not cancelled. It ended as done.").waitFor();
    expect(errors.filter((text) => !text.includes("409"))).toEqual([]);
  });

  it("a refused withdrawal of an invitation that was used is shown, also when the list is empty then", async () => {
    const made = await rig.call("POST", "/v1/links", { role: "user", email: "early@example.com" });
    const { page, errors } = await open("/you");
    const row = page.getByRole("listitem").filter({ hasText: "early@example.com" });
    const withdraw = row.getByRole("button", { name: "Withdraw" });
    await withdraw.waitFor();
    const { token } = made.body as { token: string };
    const accepted = { token, password: "seven green lanterns" };
    expect((await rig.server().call("POST", "/v1/links/accept", accepted, { authorization: "" })).status).toBe(201);
    await withdraw.click();
    await page.getByRole("alert").filter({ hasText: "It was not withdrawn: somebody had used it" }).waitFor();
    await withdraw.waitFor({ state: "detached" });
    await page.getByRole("button", { name: "Manage early@example.com" }).waitFor();
    expect(await page.getByRole("alert").count()).toBe(1);
    expect(errors.filter((text) => !text.includes("404"))).toEqual([]);
  });

  it("two taps on Withdraw withdraw the link once, and say nothing else", async () => {
    for (const email of ["one@example.com", "two@example.com"])
      expect((await rig.call("POST", "/v1/links", { role: "user", email })).status).toBe(201);
    const { page, errors } = await open("/you", { serviceWorkers: "block" });
    let asked = 0;
    let letGo = (): void => undefined;
    const tapped = new Promise<void>((resolve) => (letGo = resolve));
    await page.route("**/v1/links/*", async (route) => {
      asked += 1;
      await tapped;
      return route.continue();
    });
    const row = page.getByRole("listitem").filter({ hasText: "one@example.com" });
    const withdraw = row.getByRole("button", { name: "Withdraw" });
    await withdraw.click();
    await withdraw.click({ force: true });
    letGo();
    await row.waitFor({ state: "detached" });
    expect(asked).toBe(1);
    expect(await page.getByText("It was not withdrawn").count()).toBe(0);
    expect(errors).toEqual([]);
  });

  it("a session that could not be ended, as the server did not answer, is said to go on", async () => {
    const { page: other } = await open("/");
    const { page } = await open("/you");
    const sessions = page.getByRole("region", { name: /^Sessions/ });
    const ends = sessions.getByRole("button", { name: "End", exact: true });
    await ends.first().waitFor();
    const count = await ends.count();
    await rig.server().kill();
    await ends.first().click();
    await sessions.getByRole("alert").waitFor();
    expect(await ends.count()).toBe(count);
    await rig.restart();
    await sessions.getByRole("button", { name: "End all others" }).click();
    await expect.poll(() => ends.count()).toBe(0);
    expect(await sessions.getByRole("alert").count()).toBe(0);
    await other.getByRole("button", { name: "Log in" }).waitFor();
  });

  it("the console counts what failed by its code, and what the tasks of the day cost by person", async () => {
    const failing = [{ usage: { usd: 0.75 } }, { fail: { code: "agent_error", message: "It broke." } }];
    const id = await rig.submit("Fails", failing, { maxAttempts: 1 });
    await rig.until(id, (task) => task.state === "failed", "the end");
    // A repository that does not exist fails with another code.
    const nowhere = await rig.submit("Fails elsewhere", [FINISH], { repo: rig.repo.replace("storefront", "nowhere") });
    const { failure: other } = await rig.until(nowhere, (task) => task.state === "failed", "the other end");
    const { page, errors } = await open("/console");
    const failures = page.getByRole("region", { name: "Failures" });
    const { failure } = await rig.server().task(id);
    await failures.getByText(failure!.code.replaceAll("_", " "), { exact: true }).waitFor();
    await failures.getByRole("img", { name: /^Failures by hour: \d+, at most \d+, 0 hours ago$/ }).waitFor();
    // Each code has its part of the bar, in the colour that stands beside its name.
    for (const code of [failure!.code, other!.code]) {
      const name = failures.getByRole("term").filter({ hasText: code.replaceAll("_", " ") });
      const colour = await name.locator("rect").getAttribute("class");
      expect(await failures.locator(`.hours rect.${colour}`).count()).toBeGreaterThan(0);
    }
    const storage = page.getByRole("region", { name: "Storage" });
    await storage.getByText(/^no task starts below [\d.]+ [MG]B free, running ones end below [\d.]+ [MG]B$/).waitFor();
    const spend = page.getByRole("region", { name: "Spend" });
    await spend.getByText(EMAIL).waitFor();
    // The tests before it cost something as well.
    const { items } = (await rig.call("GET", "/v1/tasks?limit=200")).body as { items: WireTask[] };
    const usd = items.reduce((sum, { usage }) => sum + usage.usd, 0);
    expect(usd).toBeGreaterThanOrEqual(0.75);
    await spend.getByRole("definition").getByText(formatUsd(usd)).waitFor();
    expect(await findMisfits(page)).toEqual([]);
    expect(errors).toEqual([]);
  });

  it("[D15] the console drains the queue, says what still runs and that nothing does, and resumes it", async () => {
    const gate = rig.gate();
    const id = await rig.submit("Runs on", [gate.step, FINISH]);
    await rig.until(id, (task) => task.phase === "working", "the work");
    const { page, errors } = await open("/console");
    await page.getByRole("button", { name: "Drain the queue" }).click();
    await page.getByText("one that waits for an answer is parked").waitFor();
    await page.getByRole("button", { name: "Drain", exact: true }).click();
    const status = page.getByRole("status", { name: "Drain" });
    await expect.poll(() => status.textContent()).toBe("1 task still runs.");
    await page
      .getByRole("region", { name: "Draining" })
      .getByRole("link", { name: /Runs on/ })
      .waitFor();
    expect(await findMisfits(page)).toEqual([]);
    gate.open();
    await expect.poll(() => status.textContent()).toMatch(/^Nothing runs/);
    await page.getByRole("button", { name: "Resume the queue" }).click();
    await page.getByRole("button", { name: "Resume", exact: true }).click();
    await page.getByText("The queue runs again.").waitFor();
    expect(errors).toEqual([]);
  });

  it("an operator sees what tasks may reach, allows a host for one repository, and takes it back", async () => {
    const { page, errors } = await open("/console");
    await page.getByRole("link", { name: "Egress lists" }).click();
    const all = page.getByRole("region", { name: "For all tasks" });
    await all.getByText("As shipped").waitFor();
    await page.getByRole("textbox", { name: "Repository" }).fill(rig.repo);
    await page.getByRole("button", { name: "Show" }).click();
    const own = page.getByRole("region", { name: /^More for / });
    await own.getByLabel("Host to allow").fill("not a host");
    await own.getByRole("button", { name: "Allow it" }).click();
    await own.getByRole("alert").first().waitFor();
    await own.getByLabel("Host to allow").fill("packages.example.com");
    await own.getByRole("button", { name: "Allow it" }).click();
    const remove = own.getByRole("button", { name: /^Remove packages\.example\.com/ });
    await remove.waitFor();
    const read = async (): Promise<unknown> =>
      (await rig.server().call("GET", `/v1/ops/egress?repo=${encodeURIComponent(rig.repo)}`)).body;
    expect(await read()).toMatchObject({ hosts: [expect.stringContaining("packages.example.com")] });
    await remove.click();
    await own.getByText("0 hosts").waitFor();
    expect(await read()).toMatchObject({ hosts: [] });
    expect(errors.filter((text) => !text.includes("400"))).toEqual([]);
  });
});
