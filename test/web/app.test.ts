/**
 * The web app in a real browser, against a real server with the scripted agent: the flows of a
 * person on a phone and at a desk. The accessible names are those of docs/web.md.
 */
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { WIDE, describeWithBrowser, expectAccessible, NARROW } from "../support/browser/browser.ts";
import { findMisfits } from "../support/browser/misfits.ts";
import { sampled } from "../support/random.ts";
import {
  openWebRig,
  PASSWORD,
  EMAIL,
  taskState as state,
  untilAtEnd,
  untilControlled,
  type WebRig,
} from "../support/browser/rig.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(6);

describeWithBrowser("the web app", () => {
  let rig: WebRig;

  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  it.always("[P4] from log-in to a pushed branch: a task is submitted, watched and done", async () => {
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.getByRole("link", { name: "New task" }).first().click();
    await page.getByLabel("Repository").fill(rig.repo);
    await page.getByRole("textbox", { name: "Prompt" }).fill("write b.txt=new");
    await page.getByRole("button", { name: "Start task" }).click();
    await state(page).waitFor();
    await expect.poll(() => state(page).textContent()).toBe("done");
    expect(errors).toEqual([]);
    await page.getByRole("link", { name: "Back" }).click();
    await page.getByRole("heading", { name: /Done today/ }).waitFor();
  });

  it("[P2] a reload continues the session, the token is in no storage, and log-out ends it", async () => {
    const { page } = await rig.open();
    await rig.logIn(page);
    await page.reload();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    const stored = await page.evaluate<string>(
      "JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie])",
    );
    expect(stored).not.toMatch(/eyJ|refresh/i);
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in to Slipway" }).waitFor();
    await page.goto(rig.server().url);
    await page.getByRole("heading", { name: "Log in to Slipway" }).waitFor();
  });

  it("a wrong password is said in words, and a right one goes where the person wanted to go", async () => {
    const { page } = await rig.open();
    await page.goto(`${rig.server().url}/you`);
    await page.getByLabel("E-mail").fill(EMAIL);
    await page.getByLabel("Password").fill("wrong password");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("alert").waitFor();
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "You", exact: true }).waitFor();
  });

  it("a question is answered from the list, and the agent goes on", async () => {
    const said = "Tabs or `spaces`?\nIn `src/<b>.ts`\nand its tests.\n\n- **Tabs** as before\n- <i>Spaces</i>";
    const id = await rig.submit("Asks once", [
      { ask: { question: said, options: ["Tabs", "Spaces"] } },
      { finish: { title: "t", summary: "s" } },
    ]);
    await rig.until(id, (task) => task.question !== null, "the question");
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    const question = page.getByRole("region", { name: "Tabs or spaces?" });
    await question.getByRole("heading", { name: "Tabs or spaces?" }).locator("code").waitFor();
    await question.locator("code", { hasText: "src/<b>.ts" }).waitFor();
    expect(await question.getByRole("paragraph").first().innerText()).toBe("In src/<b>.ts\nand its tests.");
    const items = question.getByRole("listitem");
    expect(await items.allInnerTexts()).toEqual(["Tabs as before", "<i>Spaces</i>"]);
    expect(await items.locator("strong").innerText()).toBe("Tabs");
    await page.goto(rig.server().url);
    const row = page.getByRole("listitem").filter({ hasText: "Asks once" });
    await row.getByText("Tabs or spaces? In src/<b>.ts and its tests. - Tabs as before").waitFor();
    await row.getByRole("button", { name: "Spaces" }).click();
    await rig.until(id, (task) => task.state === "done", "the end");
    const answers = (await rig.server().events(id)).filter(({ type }) => type === "answer");
    expect(answers.map(({ data }) => data["text"])).toEqual(["Spaces"]);
    expect(errors).toEqual([]);
  });

  it("stop asks first, then the task is cancelled", async () => {
    const id = await rig.submit("Runs long", [{ bash: "sleep 600", timeoutMs: 900_000 }]);
    await rig.until(id, (task) => task.state === "running", "running");
    const { page } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByRole("button", { name: "Stop" }).click();
    expect((await rig.server().task(id)).state).toBe("running");
    await page.getByRole("button", { name: "Stop the task" }).click();
    await expect.poll(() => state(page).textContent()).toBe("cancelled");
    // The proof, as the log has it.
    const stages = page.getByRole("region", { name: /^Cancelled at/ }).getByRole("listitem");
    await stages.filter({ hasText: "by you" }).waitFor();
    await stages
      .filter({ hasText: "Container gone" })
      .getByText(/^\d\d:\d\d:\d\d$/)
      .waitFor();
  });

  it("[V7] a new task says in words what is wrong with the repository before it is sent", async () => {
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/new`);
    const said = page.getByRole("status", { name: "Pre-flight" });
    await page.getByLabel("Repository").fill(rig.repo.replace("storefront", "nowhere"));
    await said.getByText("has no such repository").waitFor();
    await said.getByRole("button", { name: /^Save a credential for/ }).waitFor();
    await page.getByLabel("Repository").fill(rig.repo);
    await said.getByText("Can be read and pushed to, starts from main").waitFor();
    await page.getByText("Options").click();
    await page.getByLabel("Base branch").fill("no-such-branch");
    await said.getByText("There is no branch no-such-branch").waitFor();
    expect(errors).toEqual([]);
  });

  it("[H6] an admin changes a role and disables a person; a token does only what was ticked", async () => {
    const person = { email: "kim@example.com", password: PASSWORD };
    await rig.call("POST", "/v1/users", { ...person, role: "user" });
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/you`);
    await page.getByRole("button", { name: "Manage kim@example.com" }).click();
    await page.getByRole("radio", { name: "operator" }).check({ force: true });
    await page.getByRole("button", { name: "Change the role to operator" }).click();
    await page.getByText("The role is operator now.").waitFor();
    await page.getByRole("button", { name: "Disable", exact: true }).click();
    await page.getByRole("button", { name: "Disable the account" }).click();
    await page.getByText("operator, disabled").waitFor();
    expect((await rig.call("POST", "/v1/auth/login", person)).status).toBe(401);
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Make a token" }).click();
    await page.getByRole("checkbox", { name: /^Submit/ }).uncheck();
    await page.getByLabel("Name").fill("reader");
    await page.getByRole("button", { name: "Make it" }).click();
    const token = await page.getByRole("region", { name: "The token" }).textContent();
    const headers = { authorization: `Bearer ${token ?? ""}` };
    expect((await rig.server().call("GET", "/v1/tasks", undefined, headers)).status).toBe(200);
    const task = { repo: rig.repo, prompt: "write c.txt=1" };
    expect((await rig.server().call("POST", "/v1/tasks", task, headers)).status).toBe(403);
    expect(errors).toEqual([]);
  });

  it("[P4] a message to a running task is delivered once, a message to a settled one begins a follow-up", async () => {
    const id = await rig.submit("Hears a message", [rig.gate().step]);
    await rig.until(id, (task) => task.state === "running", "running");
    const { page } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByLabel("Message").fill("Also add a test");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByText("the server has it").waitFor();
    await expect.poll(() => page.getByLabel("Message").inputValue()).toBe("");
    await rig.server().call("POST", `/v1/tasks/${id}/cancel`);
    await rig.until(id, (task) => task.state === "cancelled", "the end");
    await page.getByPlaceholder("Follow up").fill("Once more");
    await page.getByRole("button", { name: "Send" }).click();
    await expect.poll(() => page.url()).not.toContain(id);
    const messages = (await rig.server().events(id)).filter(({ type }) => type === "message");
    expect(messages).toHaveLength(1);
  });

  it("the changes show each file with its lines, and a comment on a line becomes one message", async () => {
    const id = await rig.submit("Changes a line", [
      { edit: { path: "src/voucher.ts", old: "find(code)", new: "lock(tx, code)" } },
      { finish: { title: "t", summary: "The lock comes first." } },
    ]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByText("The lock comes first.").waitFor();
    await page.getByRole("link", { name: "Changes", exact: false }).last().click();
    await page.getByRole("cell", { name: "const voucher = lock(tx, code);" }).click();
    await page.getByLabel(/Comment on line/).fill("Why here?");
    await page.getByRole("button", { name: "Keep" }).click();
    await page.getByRole("button", { name: "Send 1 comment to the agent" }).click();
    await expect.poll(() => page.url()).not.toContain(id);
    const followUp = /tasks\/([^/?]+)/.exec(page.url())?.[1] ?? "";
    expect((await rig.server().task(followUp)).prompt).toContain(
      "src/voucher.ts:1\n> const voucher = lock(tx, code);\nWhy here?",
    );
    expect(errors).toEqual([]);
  });

  it("[P5] the server is killed and started again: the page catches up, each event once and in order", async () => {
    const seen = rig.gate();
    const id = await rig.submit("Survives a restart", [
      { say: "before" },
      seen.step,
      { say: "after" },
      { finish: { title: "t", summary: "s" } },
    ]);
    await rig.until(id, (task) => task.state === "running", "running");
    const { page } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByText("before", { exact: true }).waitFor();
    // The service worker has every part of the app.
    await untilControlled(page);
    await rig.server().kill("SIGKILL");
    await page.getByLabel("Connection: no connection").waitFor();
    seen.open();
    await rig.restart();
    await expect.poll(() => state(page).textContent()).toBe("done");
    await page.getByLabel("Connection: complete").waitFor();
    await untilAtEnd(page, "after");
    expect(await page.getByText("before", { exact: true }).count()).toBe(1);
  });

  it("[P4] a draft survives a reload, and a task whose answer was lost is sent again by itself and exists once", async () => {
    // A service worker would send the task as well, and the routes of the page do not see it.
    const { page } = await rig.open({ serviceWorkers: "block" });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/new`);
    await page.getByLabel("Repository").fill(rig.repo);
    await page.getByRole("textbox", { name: "Prompt" }).fill("write only-once.txt=1");
    await page.getByText("Options").click();
    await page.getByLabel("Budget in dollars").fill("2.5");
    await page.getByLabel("Base branch").fill("main");
    const reach = page.getByRole("group", { name: "What it may reach" }).getByRole("radio").last();
    await reach.check({ force: true });
    await page.reload();
    expect(await page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe("write only-once.txt=1");
    await page.getByText("main, scripted, $2.5").click();
    expect(await reach.isChecked()).toBe(true);
    // The request arrives and its answer is lost, as in a tunnel.
    await page.route("**/v1/tasks", async (route) => {
      await route.fetch();
      await route.abort();
    });
    await page.getByRole("button", { name: "Start task" }).click();
    await page.getByRole("listitem", { name: /waiting, New task/ }).waitFor();
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.getByRole("listitem", { name: /sent, New task/ }).waitFor();
    await page.getByRole("link", { name: /New task “write only-once/ }).click();
    await state(page).waitFor();
    const { body } = await rig.server().call("GET", "/v1/tasks?limit=200");
    const same = (body as { items: WireTask[] }).items.filter((task) => task.prompt === "write only-once.txt=1");
    expect(same).toMatchObject([{ base: "main", budget: { usd: 2.5 } }]);
    await page.goto(`${rig.server().url}/new`);
    await page.getByText("default branch, scripted").waitFor();
  });

  it("[P1] hostile texts are shown as text: nothing runs, nothing is fetched from elsewhere", async () => {
    const evil = `<img src=x onerror=alert(1)> [click](javascript:alert(1)) ![pixel](http://evil.example/p.png) <script>alert(1)</script>`;
    const id = await rig.submit(evil.slice(0, 150), [
      { say: evil },
      { bash: "printf '\\033]8;;http://evil.example\\007link'" },
      { finish: { title: evil, summary: evil } },
    ]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const { page, errors } = await rig.open();
    const elsewhere: string[] = [];
    page.on("request", (request) => {
      if (!request.url().startsWith(rig.server().url)) elsewhere.push(request.url());
    });
    page.on("dialog", (dialog) => {
      errors.push(`dialog ${dialog.message()}`);
      void dialog.dismiss();
    });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByText("onerror=alert(1)").first().waitFor();
    expect(await page.locator("main img, main script, a[href^='javascript:']").count()).toBe(0);
    expect(elsewhere).toEqual([]);
    expect(errors).toEqual([]);
  });

  it("on a small screen the composer is one line until somebody writes, and what was written keeps it open", async () => {
    const todo = { todo: [{ text: "One", status: "in_progress" }] };
    const id = await rig.submit("Leaves room", [todo, { bash: "sleep 600", timeoutMs: 900_000 }]);
    await rig.until(id, (task) => task.todo !== null, "the list");
    const { page } = await rig.open({ viewport: { width: 320, height: 640 } });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    const composer = page.getByRole("form", { name: "Write to the agent" });
    const height = async (): Promise<number> => (await composer.boundingBox())?.height ?? Number.POSITIVE_INFINITY;
    const oneLine = 640 / 5;
    await expect.poll(height).toBeLessThan(oneLine);
    await page.getByLabel("Message").focus();
    await composer.getByRole("radio", { name: "After turn" }).click();
    await page.getByRole("heading", { level: 1 }).click();
    // The choice is kept, and in sight.
    await expect.poll(height).toBeGreaterThan(oneLine);
    await composer.getByRole("radio", { name: "Steer now" }).click();
    await page.getByLabel("Message").fill("A thought");
    await page.getByRole("heading", { level: 1 }).click();
    await expect.poll(height).toBeGreaterThan(oneLine);
    await page.getByLabel("Message").fill("");
    await page.getByRole("heading", { level: 1 }).click();
    await expect.poll(height).toBeLessThan(oneLine);
    await rig.call("POST", `/v1/tasks/${id}/cancel`);
  });

  const looks = [
    ["a phone", NARROW, "light"],
    ["a phone", NARROW, "dark"],
    ["a desk", WIDE, "light"],
    ["a desk", WIDE, "dark"],
    ["320 pixels", { width: 320, height: 640 }, "light"],
  ] as const;
  it.each(sampled(looks, 1))(
    "on %s at %o in %s axe finds no violation, and nothing is wider than the screen",
    async (_name, viewport, colorScheme) => {
      const id = await rig.submit("Is looked at", [
        {
          todo: [
            { text: "One", status: "completed" },
            { text: "Two", status: "in_progress" },
          ],
        },
        { bash: "exit 1" },
        { write: { path: "a.txt", content: "a\n" } },
        { finish: { title: "t", summary: "# Done\n\n- one\n- `two`" } },
      ]);
      await rig.until(id, (task) => task.state === "done", "the end");
      const { page, errors } = await rig.open({ viewport, colorScheme });
      await rig.logIn(page);
      const screens = [
        "/",
        "/new",
        `/tasks/${id}`,
        `/tasks/${id}/changes`,
        `/tasks/${id}/machine`,
        "/console",
        "/you",
        "/you/notifications",
        "/you/variables",
        "/console/audit",
        "/console/egress",
        "/device",
      ];
      const misfits: string[] = [];
      for (const path of screens) {
        await page.goto(rig.server().url + path);
        await page.getByRole("heading", { level: 1 }).first().waitFor();
        await page.waitForLoadState("networkidle");
        await expectAccessible(page, path);
        if (viewport.width < 1_000) misfits.push(...(await findMisfits(page)).map((text) => `${path} ${text}`));
        const width = await page.evaluate<number>("document.documentElement.scrollWidth");
        expect([path, width]).toEqual([path, viewport.width]);
        if (viewport.width > 320) continue;
        // A phone of 390 at 200 %.
        await page.setViewportSize({ width: 195, height: 422 });
        misfits.push(...(await findMisfits(page)).map((text) => `${path} at 200 % ${text}`));
        await page.setViewportSize(viewport);
      }
      expect(misfits).toEqual([]);
      expect(errors).toEqual([]);
    },
  );
});
