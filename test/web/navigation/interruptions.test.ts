/** What a person does while something else is under way: it neither leads them away nor is lost. */
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, NARROW, WIDE } from "../../support/browser/browser.ts";
import { openWebRig, taskState, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

const DONE = [{ finish: { title: "t", summary: "s" } }];
/** A service worker has a network of its own, which the routes of the page do not see. */
const NO_WORKER = { viewport: NARROW, serviceWorkers: "block" } as const;

describeWithBrowser("while something is under way", () => {
  let rig: WebRig;
  let first: string;
  let second: string;
  beforeAll(async () => {
    rig = await openWebRig();
    await rig.server().call("POST", "/v1/ops/queue/pause");
    first = await rig.submit("Waits for the pilot", DONE);
    second = await rig.submit("Waits for the tide", DONE);
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  it("[P20] what is open on a task at a desk is not open on the one that Back leads to", async () => {
    const { page } = await rig.open({ viewport: WIDE });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${first}`);
    const list = page.getByRole("complementary", { name: "Tasks" });
    await list.getByRole("link", { name: /Waits for the tide/ }).click();
    await page.getByRole("heading", { name: "Waits for the tide", level: 1 }).waitFor();
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByRole("dialog", { name: "Stop this task?" }).getByRole("button").last().waitFor();
    await page.goBack();
    await page.getByRole("heading", { name: "Waits for the pilot", level: 1 }).waitFor();
    await page.getByRole("dialog").waitFor({ state: "detached" });
    expect(await page.getByRole("dialog", { name: "Stop this task?" }).count()).toBe(0);
  });

  it("[P20] a task whose start is answered late does not lead the person away from where they went", async () => {
    const { page } = await rig.open(NO_WORKER);
    await rig.logIn(page);
    await page.getByRole("link", { name: "New task" }).first().click();
    await page.getByLabel("Repository").fill(rig.repo);
    await page.getByLabel("Prompt").fill("Sails while nobody looks");
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    let isAsked = false;
    await page.route("**/v1/tasks", async (route) => {
      if (route.request().method() !== "POST") return route.continue();
      isAsked = true;
      await held;
      return route.continue();
    });
    await page.getByRole("button", { name: "Start task" }).click();
    await expect.poll(() => isAsked).toBe(true);
    await page.goBack();
    await page.getByRole("link", { name: /Waits for the pilot/ }).click();
    await page.getByRole("heading", { name: "Waits for the pilot", level: 1 }).waitFor();
    const answered = page.waitForResponse(
      (response) => response.request().method() === "POST" && response.url().endsWith("/v1/tasks"),
    );
    release();
    expect((await answered).status()).toBe(201);
    await page.unrouteAll({ behavior: "wait" });
    await page.getByRole("link", { name: "Back" }).click();
    // The outbox says for a while that it was sent, with a link too.
    await page.locator("#main .row-link", { hasText: "Sails while nobody looks" }).waitFor();
    // Neither was the entry of that task replaced.
    await page.goBack();
    await page.getByRole("heading", { name: "Waits for the pilot", level: 1 }).waitFor();
    expect(new URL(page.url()).pathname).toBe(`/tasks/${first}`);
  });

  it("without a session the keys of the app do nothing, neither at once nor after the log-in", async () => {
    const { page } = await rig.open({ viewport: WIDE });
    await page.goto(`${rig.server().url}/tasks/${second}`);
    await page.getByRole("button", { name: "Log in" }).waitFor();
    await page.evaluate("document.activeElement.blur()");
    for (const key of ["?", "Control+k", "c"]) await page.keyboard.press(key);
    await page.getByLabel("E-mail").fill("mira@example.com");
    await page.getByLabel("Password").fill("correct horse battery staple");
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Waits for the tide", level: 1 }).waitFor();
    expect(await page.locator("dialog[open]").count()).toBe(0);
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keys" }).waitFor();
  });

  it("[P20] a screen that could not be loaded is there at the next visit, when the network is back", async () => {
    const { page } = await rig.open(NO_WORKER);
    await rig.logIn(page);
    await page.route("**/assets/task-screen-*", (route) => route.abort());
    const open =
      "[...document.querySelectorAll('#main .row-link')].find((row) => row.textContent.includes('tide')).click()";
    await page.getByRole("link", { name: /Waits for the tide/ }).waitFor();
    await page.evaluate(open);
    await page.getByRole("alert").getByText("could not be loaded").waitFor();
    await page.unrouteAll({ behavior: "wait" });
    await page.goBack();
    await page.getByRole("link", { name: /Waits for the tide/ }).waitFor();
    // Without a pointer that rests on the link, which would load it before.
    await page.evaluate(open);
    await taskState(page).waitFor();
  });

  it("the search field says what the list is filtered by, whatever changed it", async () => {
    const { page } = await rig.open({ viewport: NARROW });
    await rig.logIn(page);
    const rows = page.locator("#main .row-link");
    await page.getByRole("link", { name: /Waits for the tide/ }).waitFor();
    const all = await rows.count();
    const search = page.getByRole("button", { name: "Search" });
    const field = page.getByLabel("Search tasks");
    await search.click();
    await field.fill("pilot");
    await expect.poll(() => rows.count()).toBe(1);
    await expect.poll(() => page.url()).toContain("q=pilot");
    // The link of the bar leads to the whole list.
    await page.getByRole("link", { name: "Inbox" }).click();
    await expect.poll(() => rows.count()).toBe(all);
    await field.waitFor({ state: "detached" });
    await page.goBack();
    await expect.poll(() => field.inputValue()).toBe("pilot");
    await expect.poll(() => rows.count()).toBe(1);
    await search.click();
    await expect.poll(() => rows.count()).toBe(all);
    expect(new URL(page.url()).search).toBe("");
  });
});
