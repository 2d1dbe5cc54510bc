/** Single screens of the app in a real browser: what a person gives, and what comes back. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { ForgeDouble } from "../git/forges/forge-double.ts";
import { GITHUB_TOKEN, startGitHubDouble } from "../git/forges/github-double.ts";
import { describeWithBrowser, expectAccessible, NARROW, WIDE } from "../support/browser/browser.ts";
import type { GitServer } from "../support/git-server.ts";
import { EMAIL, openWebRig, PASSWORD, taskState, type WebRig } from "../support/browser/rig.ts";
import { sampled } from "../support/random.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(6);

/** A picture of 3 by 2 pixels, as it comes from the clipboard. */
const PASTE_PICTURE = `new Promise((resolve) => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [3, 2];
  canvas.toBlob((blob) => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File([blob], "image.png", { type: "image/png" }));
    const paste = new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true });
    resolve(document.getElementById("prompt").dispatchEvent(paste));
  });
})`;

/**
 * What moved without an act of the person; the digits of a counter, at 0.0001, do not count, nor do
 * the rows of the list beside the task, which is by state.
 */
const WATCH_SHIFTS = `globalThis.shifts = [];
  new PerformanceObserver((list) => {
    for (const { value, hadRecentInput, sources } of list.getEntries())
      if (!hadRecentInput && value >= 0.0005)
        shifts.push(...sources.filter(({ node }) => !(node?.parentElement ?? node)?.closest?.(".list-pane")).map(({ node }) => \`\${value} \${(node?.outerHTML ?? node?.parentElement?.outerHTML)?.slice(0, 90)}\`));
  }).observe({ type: "layout-shift" });`;

/** A turn of all that a task shows; its second tool runs long enough to show its output. */
const TURN = [
  { bash: "seq 20" },
  { bash: "echo almost; sleep 1.3; echo there" },
  { read: "src/voucher.ts" },
  { say: "A paragraph of **several** lines. ".repeat(8) },
];

const canShow = (address: string): string => `new Promise((resolve) => {
  const image = new Image();
  image.onload = () => resolve(true);
  image.onerror = () => resolve(false);
  image.src = ${JSON.stringify(address)};
})`;

describeWithBrowser("screens of the web app", () => {
  let github: ForgeDouble;
  let rig: WebRig;
  /** A repository whose check prints the end of an attached file. */
  let checked: string;

  beforeAll(async () => {
    github = await startGitHubDouble();
    const settings = (upstream: GitServer) => {
      const setup = {
        ".slipway.yml": JSON.stringify({ verify: ["cat $SLIPWAY_ATTACHMENTS/*notes.txt | tail -c 20"] }),
      };
      checked = upstream.createRepo("octocat/checked", setup).url;
      return {
        SLIPWAY_GITHUB_URL: upstream.url,
        SLIPWAY_GITHUB_API_URL: github.apiUrl,
        SLIPWAY_ATTACHMENT_MB: "1",
        SLIPWAY_THREAD_USD: "9.5",
        // Its model is never asked: no task of the built-in agent gets that far.
        ANTHROPIC_API_KEY: "not-a-key",
        ANTHROPIC_BASE_URL: "http://127.0.0.1:9",
        SLIPWAY_AGENT: "scripted",
        SLIPWAY_TRUSTED_REPO_HOSTS: `${upstream.host},${new URL(github.apiUrl).host}`,
      };
    };
    rig = await openWebRig(settings, "octocat/app");
    const host = new URL(rig.repo).host;
    await rig.call("POST", "/v1/credentials", { host, kind: "token", token: GITHUB_TOKEN });
  });
  afterAll(async () => {
    await rig.close();
    await github.close();
  });
  afterEach(() => rig.closeDevices());

  it("a new task offers a pull request where the forge is known, and the result shows it", async () => {
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.getByRole("link", { name: "New task" }).first().click();
    await page.getByText("Options").click();
    const choice = page.getByRole("group", { name: "Pull request" });
    await page.getByLabel("Repository").fill("https://elsewhere.example.com/team/app");
    await page.getByRole("group", { name: "What it may reach" }).waitFor();
    expect(await choice.count()).toBe(0);
    await page.getByLabel("Repository").fill(rig.repo);
    await choice.getByRole("radio", { name: "draft" }).check();
    await page.getByRole("textbox", { name: "Prompt" }).fill("write b.txt=new");
    await page.getByRole("button", { name: "Start task" }).click();
    await expect.poll(() => taskState(page).textContent()).toBe("done");
    const result = page.getByRole("region", { name: "Result" });
    const link = result.getByRole("link", { name: "#1" });
    expect(await link.getAttribute("href")).toBe(`${rig.repo.replace(/\.git$/, "")}/pull/1`);
    await result.getByText("draft").waitFor();
    expect(errors).toEqual([]);
  });

  it("the checks of a pull request's newest commit are counted, and those that failed have names", async () => {
    const script = [{ bash: "echo d > d.txt" }, { finish: { title: "D", summary: "One." } }];
    const id = await rig.submit("Adds d", script, { pullRequest: "ready" });
    const { pullRequest } = await rig.until(id, (task) => task.state === "done", "the end");
    await github.report(pullRequest?.number ?? 0, { build: "passed", lint: "failed" });
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByRole("region", { name: "Result" }).getByText("1 failed (lint), 1 passed").waitFor();
    expect(errors).toEqual([]);
  });

  it("work that was pushed without a pull request gets it later, and no agent runs for it", async () => {
    const id = await rig.submit("Adds c", [{ bash: "echo c > c.txt" }, { finish: { title: "C", summary: "One." } }]);
    const { branch } = await rig.until(id, (task) => task.state === "done", "the end");
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByRole("button", { name: "Open a pull request" }).click();
    await expect.poll(() => page.url()).not.toContain(id);
    const link = page.getByRole("region", { name: "Result" }).getByRole("link", { name: /^#\d+$/ });
    await link.waitFor();
    expect((await github.pulls()).filter(({ head }) => head === branch)).toMatchObject([{ title: "C", draft: false }]);
    expect(await page.getByRole("button", { name: "Open a pull request" }).count()).toBe(0);
    expect(errors).toEqual([]);
  });

  it("[G5] minutes that are used up park the task, the card says so, and an amount goes on; the budget of the thread is seen", async () => {
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/new`);
    await page.getByText("Options").click();
    expect(await page.getByLabel("Dollars per thread").getAttribute("placeholder")).toBe("9.5");
    const mark = join(mkdtempSync(join(tmpdir(), "slipway-mark-")), "ran");
    // The first attempt goes on until its time is over.
    const script = [
      { bash: `[ -e ${mark} ] || { touch ${mark}; sleep 60; }` },
      { finish: { title: "E", summary: "1." } },
    ];
    const id = await rig.submit("Takes long", script, { budget: { minutes: 0.05, threadUsd: 12 } });
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByText("Thread $0.00 of $12.00").waitFor();
    const card = page.getByRole("region", { name: /^The task has worked for its 3 seconds/ });
    await card.getByText("Time used up").waitFor();
    await expect
      .poll(() => card.locator("dl").innerText())
      .toMatch(/This task\s+\$0\.00\s+Thread\s+\$0\.00 of \$12\.00/);
    await card.getByLabel("Or in your own words").fill("20 min");
    await card.getByRole("button", { name: "Answer" }).click();
    await expect.poll(() => taskState(page).textContent()).toBe("done");
    expect((await rig.server().task(id)).attempt).toBe(2);
    rmSync(dirname(mark), { recursive: true });
    expect(errors).toEqual([]);
  });

  it("[W11] the You page sets the commit identity, explains a refused address and shows whether commits are signed", async () => {
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/you`);
    const commits = page.getByRole("region", { name: "Commits" });
    await commits.getByText("Co-author; the author is Slipway <agent@slipway.invalid>").waitFor();
    await commits.getByText("Not signed").waitFor();
    await commits.getByRole("button", { name: "Change" }).click();
    await page.getByLabel("Name", { exact: true }).fill("Mira <Lee>");
    await page.getByLabel("E-mail").fill("mira@example.org");
    await page.getByRole("radio", { name: "author", exact: true }).check();
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByRole("alert").waitFor();
    await page.getByLabel("Name", { exact: true }).fill("Mira Lee");
    await page.getByRole("button", { name: "Save" }).click();
    await commits.getByText("Mira Lee <mira@example.org>").waitFor();
    await commits.getByText("Author", { exact: true }).waitFor();
    const { body } = await rig.call("GET", "/v1/me/commit-identity");
    expect(body).toEqual({ identity: { name: "Mira Lee", email: "mira@example.org", as: "author" } });
    await commits.getByRole("button", { name: "Change" }).click();
    await page.getByRole("button", { name: "Use the account's address" }).click();
    await commits.getByText("Your account's e-mail address").waitFor();
    // The refused address.
    expect(errors.filter((text) => !text.includes("400"))).toEqual([]);
  });

  it("[S14] the You page says what one uses of each quota, and admins see it of a person", async () => {
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/you`);
    const used = page.getByRole("region", { name: "What you use" });
    await used.getByText(/^\d+ of 200$/).waitFor();
    await used.getByText(/^[\d.]+ [kM]?B of 21\.5 GB: /).waitFor();
    await page
      .getByRole("button", { name: /^Manage / })
      .first()
      .click();
    await page
      .getByRole("dialog")
      .getByRole("region", { name: "What they use" })
      .getByText("Stored", { exact: true })
      .waitFor();
    expect(errors).toEqual([]);
  });

  it("[U5] a picked file and a pasted picture go with the prompt; a too large one is refused in words", async () => {
    const { page, errors } = await rig.open({ viewport: WIDE });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/new`);
    await page.getByLabel("Repository").fill(checked);
    await page.getByRole("textbox", { name: "Prompt" }).fill("Read what is attached.");
    const field = page.getByRole("group", { name: /^Attachments/ });
    const pick = (name: string, bytes: number): Promise<void> =>
      field
        .locator("input[type=file]")
        .setInputFiles({ name, mimeType: "text/plain", buffer: Buffer.alloc(bytes, 65) });
    await pick("notes.txt", 1_234);
    await field.getByText("1.2 kB", { exact: true }).waitFor();
    await pick("core.dump", 2_000_000);
    await field.getByRole("alert").filter({ hasText: "core.dump is not attached. It has 2.0 MB" }).waitFor();
    await page.evaluate(PASTE_PICTURE);
    await field.getByText(/^2 of 10/).waitFor();
    // Kept with the draft.
    await page.reload();
    await field.getByText(/^2 of 10/).waitFor();
    await page.getByRole("button", { name: "Start task" }).click();
    await taskState(page).waitFor();
    const sent = page.getByRole("list", { name: "Attachments" });
    await sent.getByRole("button", { name: /notes\.txt.*1\.2 kB/ }).waitFor();
    const picture = sent.locator("img");
    await expect.poll(() => picture.evaluate((image): unknown => Reflect.get(image, "naturalWidth"))).toBe(3);
    await picture.click();
    const full = page.getByRole("dialog", { name: "image.png" });
    await full.getByRole("img", { name: "image.png" }).waitFor();
    await full.getByText("3 × 2").waitFor();
    await full.getByRole("button", { name: "Actual size" }).click();
    await expectAccessible(page, "a picture");
    const [saved] = await Promise.all([
      page.waitForEvent("download"),
      full.getByRole("button", { name: "Download" }).click(),
    ]);
    expect(saved.suggestedFilename()).toBe("image.png");
    await page.keyboard.press("Escape");
    await full.waitFor({ state: "detached" });
    // The worker has it too.
    const check = page.locator("#main summary").filter({ hasText: "cat $SLIPWAY_ATTACHMENTS" });
    await check.click();
    await page.getByRole("region", { name: "Output of the check" }).getByText("A".repeat(20)).waitFor();
    const address = await picture.getAttribute("src");
    const id = /tasks\/([^/?]+)/.exec(page.url())?.[1] ?? "";
    expect((await rig.server().task(id)).attachments).toMatchObject([
      { name: "notes.txt", bytes: 1_234 },
      { width: 3 },
    ]);
    // The next person on this device sees nothing of it.
    const shows = (): Promise<boolean> => page.evaluate<boolean>(canShow(address ?? ""));
    expect(await shows()).toBe(true);
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in to Slipway" }).waitFor();
    expect(await shows()).toBe(false);
    expect(errors.filter((text) => !text.includes("ERR_FILE_NOT_FOUND"))).toEqual([]);
  });

  it("[H12] a task of another person says whose it is; an operator looks and stops it, but cannot write to it", async () => {
    const kim = { email: "kim@example.com", password: PASSWORD };
    const ola = { email: "ola@example.com", password: PASSWORD };
    await rig.call("POST", "/v1/users", { ...kim, role: "user" });
    await rig.call("POST", "/v1/users", { ...ola, role: "operator" });
    const { accessToken } = (await rig.call("POST", "/v1/auth/login", kim)).body as { accessToken: string };
    const script = [{ ask: { question: "Tabs or spaces?", options: ["Tabs", "Spaces"] } }];
    const task = { repo: rig.repo, prompt: "Ask.", title: "Kim’s task", script };
    const { page, errors } = await rig.open();
    await rig.logIn(page, ola);
    // It appears by itself.
    await rig.server().call("POST", "/v1/tasks", task, { authorization: `Bearer ${accessToken}` });
    const row = page.getByRole("region", { name: "Waiting" }).getByRole("link", { name: /Kim’s task.*asks/ });
    await row.filter({ hasText: kim.email }).click();
    await page.getByText(`${kim.email} is asked`).waitFor();
    await page.getByText(`Only ${kim.email} and admins can answer.`).waitFor();
    expect(await page.getByRole("button", { name: "Answer" }).count()).toBe(0);
    expect(await page.getByLabel("Message").count()).toBe(0);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByRole("button", { name: "Stop the task" }).click();
    await expect.poll(() => taskState(page).textContent()).toBe("cancelled");
    expect(await page.getByRole("button", { name: "Retry" }).count()).toBe(0);
    expect(errors).toEqual([]);
    // An admin answers in the place of the owner, and the log says who.
    const again = await rig.server().call("POST", "/v1/tasks", task, { authorization: `Bearer ${accessToken}` });
    const { page: admins } = await rig.open();
    await rig.logIn(admins);
    await admins.goto(`${rig.server().url}/tasks/${(again.body as { id: string }).id}`);
    await admins.getByText(`You answer in the place of ${kim.email}.`).waitFor();
    await admins.getByRole("button", { name: "Answer" }).click();
    await admins.getByText("Tabs or spaces? → Tabs").waitFor();
  });

  it("[H10] a program is logged in by its code: a wrong one can be typed again, and the screen says who asks", async () => {
    const { page } = await rig.open();
    await rig.logIn(page);
    const started = (await rig.server().call("POST", "/v1/device/start")).body as Record<string, string>;
    await page.goto(`${rig.server().url}/device#ABCD-EFGH`);
    await page.getByRole("alert").filter({ hasText: "wrong, was used, or has expired" }).waitFor();
    await page.getByLabel("Code").fill((started["userCode"] ?? "").toLowerCase());
    await page.getByRole("button", { name: "Continue" }).click();
    await page.getByText(`asks to act as ${EMAIL}`).waitFor();
    await page.getByRole("button", { name: "Approve" }).click();
    await page.getByRole("status").filter({ hasText: "Approved." }).waitFor();
    const poll = { deviceCode: started["deviceCode"] };
    expect((await rig.server().call("POST", "/v1/device/poll", poll)).body).toMatchObject({ state: "done" });
  });

  const ends = [
    ["a phone", "done", { finish: { title: "t", summary: "It came to its end." } }, NARROW],
    ["a phone", "failed", { fail: { code: "agent_error", message: "It came to its end." } }, NARROW],
    ["a desk", "done", { finish: { title: "t", summary: "It came to its end." } }, WIDE],
  ] as const;
  it.each(sampled(ends, 1))(
    "[P10] on %s nothing of a task moves while it emits, nor when it is %s",
    async (_name, state, end, viewport) => {
      const steps = Array.from({ length: 12 }, (_, i) => (i % 2 ? { say: `Step ${i}.` } : { bash: "seq 20" }));
      const todo = { todo: [{ text: "Look", status: "in_progress" }] };
      const watched = rig.gate();
      const script = [{ say: "Begins." }, watched.step, ...steps, todo, ...TURN, { usage: { usd: 0.4 } }, ...TURN];
      const id = await rig.submit("Is watched", [...script, end], { maxAttempts: 1 });
      const { page } = await rig.open({ viewport });
      await rig.logIn(page);
      await page.goto(`${rig.server().url}/tasks/${id}`);
      await page.getByText("Begins.", { exact: true }).waitFor();
      await page.getByText("until [ -e").first().waitFor();
      await page.evaluate(WATCH_SHIFTS);
      await page.getByLabel(/Connection: in sync at/).waitFor();
      watched.open();
      await page.locator("#main").getByText("It came to its end.").waitFor({ state: "attached" });
      await page.getByLabel("Connection: complete").waitFor();
      await expect.poll(() => taskState(page).textContent()).toBe(state);
      expect(await page.evaluate("shifts")).toEqual([]);
      // Work that was watched is not folded.
      await page.getByText("until [ -e").first().waitFor();
    },
  );

  it("a review is offered for the built-in agent alone, and the task that was asked for it has one", async () => {
    const { page } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/new`);
    await page.getByLabel("Repository").fill(rig.repo);
    await page.getByRole("textbox", { name: "Prompt" }).fill("Do nothing.");
    await page.getByText("Options").click();
    const review = page.getByRole("checkbox", { name: /^Review/ });
    await page.getByLabel("Agent").waitFor();
    expect(await review.count()).toBe(0);
    await page.getByLabel("Agent").selectOption("anthropic");
    await review.check();
    const sent = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/v1/tasks"));
    await page.getByRole("button", { name: "Start task" }).click();
    expect((await sent).postDataJSON()).toMatchObject({ agent: "anthropic", review: true });
    await taskState(page).waitFor();
    const id = /tasks\/([^/?]+)/.exec(page.url())?.[1] ?? "";
    await rig.call("POST", `/v1/ops/tasks/${id}/kill`);
  });

  it("[S11] variables of a repository are added and removed; a refused name is said in words, a secret is not shown", async () => {
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/you`);
    await page.getByRole("link", { name: "Variables of repositories" }).click();
    await page.getByRole("button", { name: "Add a variable" }).click();
    await page.getByLabel("Repository").fill(rig.repo);
    await page.getByLabel("Name").fill("GIT_DIR");
    await page.getByLabel("Secret value").fill("seven green lanterns");
    await page.getByRole("button", { name: "Save" }).click();
    await page.getByRole("alert").filter({ hasText: "choose another name" }).waitFor();
    await page.getByLabel("Name").fill("NPM_TOKEN");
    await page.getByRole("button", { name: "Save" }).click();
    const own = page.getByRole("region", { name: "octocat/app" });
    await own.getByText("secret, for the setup alone").waitFor();
    expect(await page.getByText("seven green lanterns").count()).toBe(0);
    const { body } = await rig.call("GET", "/v1/variables");
    expect((body as { items: object[] }).items).toMatchObject([{ name: "NPM_TOKEN", secret: true, phase: "setup" }]);
    await own.getByRole("button", { name: "Remove NPM_TOKEN" }).click();
    await page.getByText("There are none yet.").waitFor();
    expect(errors.filter((text) => !text.includes("400"))).toEqual([]);
  });

  it("[H9] admins read the audit log: filtered by person and action, page by page, and checked", async () => {
    for (let i = 0; i < 55; i++) await rig.server().call("POST", "/v1/ops/queue/resume");
    await rig.call("POST", "/v1/ops/queue/resume");
    const { page, errors } = await rig.open({ viewport: WIDE });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/console`);
    await page.getByRole("link", { name: "Audit log" }).click();
    const rows = page.locator("#main").getByRole("listitem");
    await expect.poll(() => rows.count()).toBe(50);
    await page.getByRole("button", { name: "Earlier rows" }).click();
    await expect.poll(() => rows.count()).toBeGreaterThan(50);
    await page.getByLabel("What").selectOption({ label: "resume queue" });
    await page.getByLabel("Who").selectOption({ label: EMAIL });
    await expect.poll(() => rows.count()).toBe(1);
    await rows.filter({ hasText: `${EMAIL}, in a session` }).waitFor();
    await page.getByRole("button", { name: "Check the log" }).click();
    await page.getByText("none was changed, removed or moved").waitFor();
    expect(errors).toEqual([]);
  });

  it("a thread is read whole: what was said in each of its tasks, in order", async () => {
    const first = await rig.submit("Begin the thread", [
      { say: "First words." },
      { bash: "echo one > one.txt" },
      { finish: { title: "t", summary: "s" } },
    ]);
    const { branch } = await rig.until(first, (task) => task.state === "done", "the end");
    const sha = rig.upstream.commitOn("octocat/app", branch, { "notes.md": "<b>By hand</b>" }, "Name the <i>lock</i>");
    const { body } = await rig.call("POST", `/v1/tasks/${first}/messages`, { text: "Go on with it." });
    const { id } = body as { id: string };
    await rig.until(id, (task) => task.state === "done", "the end of the follow-up");
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByText("Thread of 2 tasks").click();
    await page.getByRole("link", { name: "What was said in all of them" }).click();
    const parts = page.getByRole("region", { name: "Thread" }).locator("> section");
    await parts.first().getByText("First words.").waitFor();
    await parts.last().getByText("Go on with it.").first().waitFor();
    const commits = parts.last().getByRole("region", { name: "Commits by people" });
    await commits.getByRole("heading", { name: "People pushed 1 commit here" }).waitFor();
    expect(await commits.getByRole("listitem").allInnerTexts()).toEqual([
      [sha.slice(0, 7), "Name the <i>lock</i>", "Upstream"].join("\n"),
    ]);
    expect(await parts.count()).toBe(2);
    await parts.first().getByRole("link", { name: "Begin the thread" }).click();
    await expect.poll(() => page.url()).toContain(first);
    expect(errors).toEqual([]);
  });
});
