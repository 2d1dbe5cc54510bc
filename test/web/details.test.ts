/** Details in a browser: what is unread, how long a task stays. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Locator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, expectAccessible, NARROW, WIDE } from "../support/browser/browser.ts";
import { findMisfits } from "../support/browser/misfits.ts";
import { EMAIL, openWebRig, PASSWORD, taskState, type WebRig } from "../support/browser/rig.ts";
import type { GitServer } from "../support/git-server.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(3);

const DAYS = 30;
/** A stop of a worker that hears nothing lasts until somebody kills it. */
const PATIENT = JSON.stringify({ graceMs: 20 * 60_000, cancelMs: 40 * 60_000 });
const OPERATOR = { email: "otto@example.com", password: PASSWORD };
const DONE = [{ finish: { title: "t", summary: "It came to its end." } }];
const ASK = [{ ask: { question: "Which quay?", options: ["North", "South"] } }, ...DONE];

/** As when another window covers the page, or no longer does. */
const show = (page: Page, state: "hidden" | "visible"): Promise<void> =>
  page.evaluate(`Object.defineProperty(document, "visibilityState", { configurable: true, value: "${state}" });
    document.dispatchEvent(new Event("visibilitychange"));`);

describeWithBrowser("details of screens", () => {
  let rig: WebRig;
  let git: GitServer;
  let dir: string;
  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "slipway-details-"));
    rig = await openWebRig((upstream) => {
      git = upstream;
      return { SLIPWAY_TASKS_EXPIRE_DAYS: String(DAYS), SLIPWAY_POLICY: PATIENT };
    });
    expect((await rig.server().call("POST", "/v1/users", { ...OPERATOR, role: "operator" })).status).toBe(201);
  });
  afterAll(async () => {
    await rig.close();
    rmSync(dir, { recursive: true, force: true });
  });
  afterEach(() => rig.closeDevices());

  async function open(path: string, person = { email: EMAIL, password: PASSWORD }): Promise<Page> {
    const { page } = await rig.open({ viewport: NARROW });
    await rig.logIn(page, person);
    await page.goto(rig.server().url + path);
    return page;
  }

  const unread = (page: Page, title: string): Locator => page.getByRole("link", { name: `${title} (unread)` });
  const marks = async (id: string): Promise<number[]> => {
    const { notableSeq, readSeq } = await rig.server().task(id);
    return [notableSeq, readSeq];
  };

  it("[P13] a question and an end are unread on every device until one of them shows the task", async () => {
    const title = "Asks about the quay";
    const id = await rig.submit(title, ASK);
    const { notableSeq } = await rig.until(id, (task) => task.question !== null, "the question");
    const [phone, laptop] = [await open("/"), await open("/")];
    await laptop.setViewportSize(WIDE);
    for (const scheme of ["light", "dark"] as const) {
      await phone.emulateMedia({ colorScheme: scheme });
      await unread(phone, title).waitFor();
      await expectAccessible(phone, `an unread row, ${scheme}`);
    }
    expect(await phone.title()).toMatch(/^\(\d+\) Inbox/);
    await unread(laptop, title).click();
    await laptop.getByText("Which quay?").first().waitFor();
    await expect.poll(() => unread(phone, title).count()).toBe(0);
    await expect.poll(() => marks(id)).toEqual([notableSeq, notableSeq]);
    // The end is seen where the task is open.
    await laptop.goto(`${rig.server().url}/`);
    await laptop.getByRole("heading", { name: "Inbox" }).waitFor();
    await rig.call("POST", `/v1/tasks/${id}/answer`, {
      questionId: (await rig.server().task(id)).question?.id,
      text: "North",
    });
    await rig.until(id, (task) => task.state === "done", "the end");
    for (const page of [phone, laptop]) await unread(page, title).waitFor();
    await unread(phone, title).click();
    await expect.poll(() => unread(laptop, title).count()).toBe(0);
  });

  it("[P13] a page that is covered reads nothing, and what was seen without a server is marked when it is back", async () => {
    const gate = rig.gate();
    const id = await rig.submit("Ends behind a window", [gate.step, ...DONE]);
    const page = await open(`/tasks/${id}`);
    await page.getByLabel(/Connection: in sync at/).waitFor();
    await show(page, "hidden");
    gate.open();
    const { seq, notableSeq } = await rig.until(id, (task) => task.state === "done", "the end");
    await page.getByText("It came to its end.").first().waitFor();
    expect([notableSeq, await marks(id)]).toEqual([seq, [seq, 0]]);
    await rig.server().kill();
    const refused = page.waitForEvent("requestfailed", (request) => request.url().endsWith(`/${id}/read`));
    await show(page, "visible");
    await refused;
    await rig.restart();
    await expect.poll(() => marks(id)).toEqual([seq, seq]);
  });

  it("[R7] a task says until when it stays, is kept by its owner and expires again; an operator sees it only", async () => {
    const id = await rig.submit("Is worth keeping", DONE);
    const { settledAt } = await rig.until(id, (task) => task.state === "done", "the end");
    const isKept = async (): Promise<unknown> => (await rig.call("GET", `/v1/tasks/${id}/keep`)).body;
    const page = await open(`/tasks/${id}`);
    const result = page.getByRole("region", { name: "Result" });
    const end = new Date(Date.parse(settledAt ?? "") + DAYS * 86_400_000);
    await result.getByText(`until ${end.toLocaleDateString("en", { dateStyle: "medium" })}`).waitFor();
    await result.getByRole("button", { name: "Keep it" }).click();
    await result.getByText("until somebody deletes it").waitFor();
    await expect.poll(isKept).toEqual({ keep: true });
    expect(await findMisfits(page)).toEqual([]);
    const other = await open(`/tasks/${id}`, OPERATOR);
    await other.getByText("until somebody deletes it").waitFor();
    expect(await other.getByRole("button", { name: "Let it expire" }).count()).toBe(0);
    await result.getByRole("button", { name: "Let it expire" }).click();
    await result.getByRole("button", { name: "Keep it" }).waitFor();
    await expect.poll(isKept).toEqual({ keep: false });
  });

  it("a step of provisioning opens to what it printed; one that printed nothing does not open", async () => {
    const setup = "setup:\n  - printf '\\033[32madded\\033[0m 3 packages\\n'\n";
    const { url: repo } = git.createRepo("with-setup", { ".slipway.yml": setup });
    const id = await rig.submit("Is prepared", DONE, { repo });
    await rig.until(id, (task) => task.state === "done", "the end");
    const page = await open(`/tasks/${id}`);
    await page.getByText(/^Ready in /).click();
    const steps = page.locator(".steps li");
    await steps.filter({ hasText: "setup" }).locator("summary").click();
    const log = page.getByRole("region", { name: "Log of setup" });
    // Workers send the text of an output without its colours.
    await expect.poll(() => log.textContent()).toMatch(/^\$ printf '.*'\nadded 3 packages\n$/);
    await steps.filter({ hasText: "connect" }).waitFor();
    expect(await steps.filter({ hasText: "connect" }).locator("summary").count()).toBe(0);
    expect(await findMisfits(page)).toEqual([]);
    await expectAccessible(page, "the log of a step");
  });

  it("a stopped task proves its end: what was saved, its container, its last charge", async () => {
    const { step: runs } = rig.gate();
    const charge = (usd: number) => ({ usage: { inputTokens: 10, outputTokens: 1, usd, turns: 1 } });
    const id = await rig.submit("Is stopped", [
      charge(0.25),
      { write: { path: "a.txt", content: "a\n" } },
      charge(0.5),
      runs,
    ]);
    await rig.until(id, (task) => task.usage.usd === 0.75, "the charges");
    const page = await open(`/tasks/${id}`);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByRole("button", { name: "Stop the task" }).click();
    const proof = page.getByRole("region", { name: /^Cancelled at/ });
    await proof.getByText(/^\$0\.50 at \d\d:\d\d:\d\d; \$0\.75 in all$/).waitFor();
    const [attempt] = ((await rig.call("GET", `/v1/tasks/${id}/attempts`)).body as { items: { container: string }[] })
      .items;
    await proof.getByText(attempt!.container).waitFor();
    const { headSha } = await rig.server().task(id);
    await proof.getByRole("definition").getByText(headSha!.slice(0, 7), { exact: true }).waitFor();
    expect(await findMisfits(page)).toEqual([]);
    await expectAccessible(page, "the proof of a stop");
  });

  it("[W6] a kill is confirmed with what it loses, and is not one before that", async () => {
    // A worker that is stopped hears nothing.
    const isDeaf = join(dir, "deaf");
    const id = await rig.submit("Hears nothing", [{ bash: `kill -STOP $PPID; touch ${isDeaf}` }]);
    await expect.poll(() => existsSync(isDeaf)).toBe(true);
    const page = await open(`/tasks/${id}`);
    await rig.call("POST", `/v1/tasks/${id}/cancel`);
    await page.getByRole("button", { name: "Kill now" }).click();
    const dialog = page.getByRole("dialog", { name: "Kill now?" });
    await dialog.getByText("Nothing is saved yet, so what the agent changed is lost.").waitFor();
    const isForced = async (): Promise<boolean> =>
      (await rig.server().events(id)).some(({ data }) => data["reason"] === "cancel" && data["force"] === true);
    expect(await isForced()).toBe(false);
    await dialog.getByRole("button", { name: "Kill the task" }).click();
    await expect.poll(() => taskState(page).textContent()).toBe("cancelled");
    expect(await isForced()).toBe(true);
  });

  it("[P14] a question is announced, and so is the number of tasks that need the person, which is on the icon", async () => {
    const { page } = await rig.open({ viewport: NARROW });
    await page.addInitScript(`
      globalThis.spoken = [];
      globalThis.onIcon = [];
      navigator.setAppBadge = async (count) => void onIcon.push(count);
      // What is added to a live region that is there already.
      new MutationObserver((records) => {
        for (const { type, target, addedNodes, oldValue } of records) {
          const region = target.parentElement?.closest("[aria-live=polite]") ?? target.closest?.("[aria-live=polite]");
          const isNew = type === "attributes" ? oldValue === "true" : addedNodes.length > 0 || type === "characterData";
          if (isNew && region?.isConnected) spoken.push(region.textContent);
        }
      }).observe(document, { subtree: true, childList: true, characterData: true, attributeFilter: ["aria-hidden"], attributeOldValue: true });
    `);
    await rig.logIn(page);
    const gate = rig.gate();
    const id = await rig.submit("Asks later", [gate.step, ...ASK]);
    await page.getByRole("link", { name: /Asks later/ }).waitFor();
    const read = <T>(name: string): Promise<T[]> => page.evaluate<T[]>(name);
    const before = (await read<number>("onIcon")).at(-1) ?? 0;
    gate.open();
    await expect.poll(() => read<string>("spoken")).toContain(`${before + 1} need you`);
    expect((await read<number>("onIcon")).at(-1)).toBe(before + 1);
    await page.getByRole("link", { name: /Asks later/ }).click();
    await page.getByRole("heading", { name: "Which quay?" }).waitFor();
    await expect.poll(() => read<string>("spoken")).toContain("Which quay?");
    await page.getByRole("radio", { name: "South" }).check({ force: true });
    await page.getByRole("button", { name: "Answer", exact: true }).click();
    await rig.until(id, (task) => task.state === "done", "the end");
    await expect.poll(async () => (await read<number>("onIcon")).at(-1)).toBe(before);
  });

  it("a line of the change is chosen by a tap, a step or the keys, and a removed line is not the one in its place", async () => {
    const edit = { edit: { path: "src/voucher.ts", old: "find(code)", new: "lock(tx, code)" } };
    const id = await rig.submit("Changes a line", [edit, ...DONE]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const page = await open(`/tasks/${id}/changes`);
    const lines = page.getByRole("region", { name: "Diff of voucher.ts" });
    await lines.getByRole("cell", { name: "const voucher = find(code);" }).click();
    await lines.getByLabel("Comment on line 1").fill("Why here?");
    // The thumb was one line off.
    const after = lines.getByRole("button", { name: "Line after" });
    await after.click();
    await expect.poll(() => after.evaluate((button) => button === button.ownerDocument.activeElement)).toBe(true);
    expect(await lines.locator("tr.sel").textContent()).toContain("lock(tx, code)");
    expect(await lines.getByLabel("Comment on line 1").inputValue()).toBe("Why here?");
    await page.setViewportSize({ width: 320, height: 640 });
    expect(await findMisfits(page)).toEqual([]);
    await page.setViewportSize(NARROW);
    await lines.getByRole("button", { name: "Keep" }).click();
    await lines.focus();
    await page.keyboard.press("ArrowDown");
    await expect.poll(() => lines.locator("tr.sel").textContent()).toContain("find(code)");
    await page.keyboard.press("Enter");
    await page.keyboard.type("Was it wrong?");
    await lines.getByRole("button", { name: "Keep" }).click();
    await expectAccessible(page, "comments on lines");
    await page.getByText("begins a new task on the same branch").waitFor();
    await page.getByRole("button", { name: "Send 2 comments to the agent" }).waitFor();
    await page.getByRole("button", { name: "Edit it" }).click();
    const prompted = page
      .getByRole("dialog", { name: "The comments as a prompt" })
      .getByRole("textbox", { name: "Prompt" });
    await prompted.fill(`${await prompted.inputValue()}\n\nAnswer both.`);
    // A tap beside the sheet closes it, and takes nothing that was typed.
    await page.mouse.click(5, 5);
    await prompted.waitFor({ state: "detached" });
    await page.getByText("In one prompt, as you edited it").waitFor();
    await page.getByRole("button", { name: "Edit it" }).click();
    await page.getByRole("button", { name: "Send the prompt" }).click();
    await expect.poll(() => page.url()).not.toContain(id);
    const { prompt } = await rig.server().task(/tasks\/([^/?]+)/.exec(page.url())?.[1] ?? "");
    expect(prompt).toContain("src/voucher.ts:1\n> const voucher = lock(tx, code);\nWhy here?");
    expect(prompt).toContain("src/voucher.ts:1 (removed)\n> const voucher = find(code);\nWas it wrong?");
    expect(prompt).toMatch(/\n\nAnswer both\.$/);
  });

  it("the lines of files that a large change left out are loaded, few by themselves and many with a tap", async () => {
    const write = { bash: "seq -f 'a line of many: %048g' 6000 > a-large.txt; echo one > z-small.txt" };
    const id = await rig.submit("Changes much", [write, ...DONE]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const page = await open(`/tasks/${id}/changes`);
    await page.getByRole("region", { name: "Diff of z-small.txt" }).getByRole("cell", { name: "one" }).waitFor();
    await page.getByRole("button", { name: "Show a-large.txt" }).click();
    await page.getByRole("button", { name: "Show 6,000 lines" }).click();
    const rows = page.getByRole("region", { name: "Diff of a-large.txt" }).getByRole("row");
    await rows.last().waitFor();
    expect(await rows.count()).toBe(2_000);
    await page.getByRole("button", { name: "4,001 more lines" }).click();
    await expect.poll(() => rows.count()).toBe(4_000);
  });

  it("a failed task says what was saved, what it read, and is tried again with another prompt in its thread", async () => {
    const id = await rig.submit(
      "Fails with work",
      [
        { write: { path: "a.txt", content: "a\n" } },
        { usage: { inputTokens: 300, cacheReadTokens: 700, outputTokens: 20, usd: 0.1, turns: 1 } },
        { usage: { inputTokens: 500, cacheReadTokens: 2500, outputTokens: 20, usd: 0.1, turns: 1 } },
        { fail: { code: "agent_error", message: "It gave up." } },
      ],
      { maxAttempts: 1, budget: { turns: 60 } },
    );
    const { headSha } = await rig.until(id, (task) => task.state === "failed", "the end");
    const page = await open(`/tasks/${id}`);
    const result = page.getByRole("region", { name: "Result" });
    await result.getByText(new RegExp(`^${headSha!.slice(0, 7)} at \\d\\d:\\d\\d, \\+1 −0$`)).waitFor();
    await page.getByRole("button", { name: /^Cost|^To do/ }).click();
    await page.getByText("3,000 tokens in the newest request").waitFor();
    await page.getByText("4,000 in (80 % from the cache), 40 out").waitFor();
    await page.getByText("2 of 60", { exact: true }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Retry" }).click();
    const dialog = page.getByRole("dialog", { name: "Retry" });
    await dialog.getByRole("radio", { name: /another prompt/ }).check();
    const prompt = dialog.getByRole("textbox", { name: "Prompt" });
    expect(await prompt.inputValue()).toBe("Fails with work");
    await prompt.fill("");
    expect(await prompt.inputValue()).toBe("");
    expect(await dialog.getByRole("button", { name: "Start again" }).isDisabled()).toBe(true);
    await prompt.fill("Fails with less work");
    await page.reload();
    await page.getByRole("button", { name: "Retry" }).click();
    await dialog.getByRole("radio", { name: /another prompt/ }).check();
    expect(await prompt.inputValue()).toBe("Fails with less work");
    await dialog.getByRole("button", { name: "Start again" }).click();
    await expect.poll(() => page.url()).not.toContain(id);
    const before = await rig.server().task(id);
    const next = await rig.server().task(/tasks\/([^/?]+)/.exec(page.url())?.[1] ?? "");
    expect(next).toMatchObject({ prompt: "Fails with less work", threadId: before.threadId, budget: { turns: 60 } });
  });

  it("[P14] Enter makes a new line on touch and sends at a desk; with reduced motion nothing moves by itself", async () => {
    const { step } = rig.gate();
    const id = await rig.submit("Is written to", [step]);
    await rig.until(id, (task) => task.state === "running", "running");
    const { page: touch } = await rig.open({ viewport: NARROW, hasTouch: true, isMobile: true });
    const { page: desk } = await rig.open({ viewport: WIDE });
    for (const page of [touch, desk]) {
      await rig.logIn(page);
      await page.goto(`${rig.server().url}/tasks/${id}`);
      await page.getByLabel("Message").pressSequentially("One");
      await page.keyboard.press("Enter");
    }
    await desk.getByText("the server has it").waitFor();
    await touch.getByLabel("Message").pressSequentially("two");
    expect(await touch.getByLabel("Message").inputValue()).toBe("One\ntwo");
    const said = (await rig.server().events(id)).filter(({ type }) => type === "message");
    expect(said).toHaveLength(1);
    const moving = (page: Page): Promise<number> =>
      page.evaluate<number>("document.getAnimations().filter(({ playState }) => playState === 'running').length");
    await expect.poll(() => moving(desk)).toBeGreaterThan(0);
    await desk.emulateMedia({ reducedMotion: "reduce" });
    await expect.poll(() => moving(desk)).toBe(0);
    await rig.call("POST", `/v1/tasks/${id}/cancel`);
  });

  it("the output of a tool is wrapped on request and saved whole", async () => {
    const id = await rig.submit("Prints long lines", [{ bash: "printf 'x%.0s' $(seq 4000)" }, ...DONE]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const page = await open(`/tasks/${id}`);
    await page.getByText(/^Worked /).click();
    await page.locator("summary").filter({ hasText: "bash" }).click();
    const output = page.getByRole("region", { name: "Input and output of bash" });
    const isWide = (): Promise<boolean> => output.evaluate((pre) => pre.scrollWidth > pre.clientWidth);
    await expect.poll(isWide).toBe(true);
    await page.getByRole("button", { name: "Wrap lines" }).click();
    expect(await isWide()).toBe(false);
    expect(await findMisfits(page)).toEqual([]);
    const [saved] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name: "Save", exact: true }).click(),
    ]);
    expect(saved.suggestedFilename()).toMatch(/^bash-\d+\.txt$/);
    expect(readFileSync(await saved.path(), "utf8")).toBe("x".repeat(4_000));
    await expectAccessible(page, "the output of a tool");
  });

  it("[W6] an operator kills a machine that runs from its inspector, and confirms it", async () => {
    const id = await rig.submit("Is inspected", [{ say: "It begins." }, { hang: true }]);
    await rig.until(id, (task) => task.state === "running", "running");
    const page = await open(`/tasks/${id}/machine`, OPERATOR);
    await page.getByRole("region", { name: "Facts" }).getByRole("button", { name: "Kill now" }).click();
    await page.getByRole("dialog", { name: "Kill now?" }).getByRole("button", { name: "Kill the task" }).click();
    await expect.poll(() => taskState(page).textContent()).toBe("cancelled");
  });

  it("[P1] names of files, lines of a change and an SVG that are hostile are shown as text, and nothing of them runs", async () => {
    const names = ["<img src=x onerror=alert(1)>.html", "a\u202Egnp.txt", "[x](javascript:alert(1)).md"];
    const write = names.map((name) => `printf '<script>alert(1)</script>\n' > '${name}'`).join("; ");
    const id = await rig.submit("Writes hostile files", [{ bash: write }, ...DONE]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const { page, errors } = await rig.open({ viewport: NARROW });
    const elsewhere: string[] = [];
    page.on("request", (request) => {
      if (!request.url().startsWith(rig.server().url)) elsewhere.push(request.url());
    });
    page.on("dialog", (dialog) => {
      errors.push(`dialog ${dialog.message()}`);
      void dialog.dismiss();
    });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}/changes`);
    for (const name of names) await page.locator("section").filter({ hasText: name }).first().waitFor();
    await expect.poll(() => page.getByRole("cell", { name: "<script>alert(1)</script>" }).count()).toBe(3);
    expect(await page.locator("main img, main script, main a[href^='javascript:']").count()).toBe(0);
    // An attached one is a file, not a picture.
    await page.goto(`${rig.server().url}/new`);
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>`;
    const field = page.getByRole("group", { name: /^Attachments/ });
    const file = { name: "evil.svg", mimeType: "image/svg+xml", buffer: Buffer.from(svg) };
    await field.locator("input[type=file]").first().setInputFiles(file);
    await field.getByText("evil.svg", { exact: true }).waitFor();
    await field.getByText(/^1 of 10/).waitFor();
    expect(await field.locator("img").count()).toBe(0);
    expect(elsewhere).toEqual([]);
    expect(errors).toEqual([]);
  });

  it("a question that is answered on another device leaves this one, and its answer is shown", async () => {
    const gate = rig.gate();
    const id = await rig.submit("Asks everywhere", [ASK[0]!, gate.step, ...DONE]);
    const { question } = await rig.until(id, (task) => task.question !== null, "the question");
    const page = await open(`/tasks/${id}`);
    await page.getByLabel("Or in your own words").fill("Neither");
    await rig.call("POST", `/v1/tasks/${id}/answer`, { questionId: question?.id, text: "North" });
    await page.getByText("Which quay? → North").waitFor();
    await expect.poll(() => page.getByRole("button", { name: "Answer", exact: true }).count()).toBe(0);
    gate.open();
  });

  it("on touch a photo is taken with the camera of the device", async () => {
    const { page } = await rig.open({ viewport: NARROW, hasTouch: true, isMobile: true });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/new`);
    const chosen = page.waitForEvent("filechooser");
    await page.getByRole("button", { name: "Take a photo" }).click();
    const chooser = await chosen;
    expect(chooser.isMultiple()).toBe(false);
    const asks = (name: string): Promise<string | null> => chooser.element().getAttribute(name);
    expect([await asks("accept"), await asks("capture")]).toEqual(["image/*", "environment"]);
    const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
    await chooser.setFiles({ name: "photo.png", mimeType: "image/png", buffer: Buffer.from(pixel, "base64") });
    await page
      .getByRole("group", { name: /^Attachments/ })
      .locator("img")
      .waitFor();
  });
});
