/** From screen to screen: what stays on the screen meanwhile, and where a screen was left. */
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, NARROW } from "../../support/browser/browser.ts";
import { openWebRig, taskState, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

const TASKS = 24;
/** Rows of a group before the others are asked for. */
const SHOWN = 20;
const ENV = { SLIPWAY_USER_TASKS_PER_MINUTE: "0", SLIPWAY_USER_OPEN_TASKS: "0" };
const SCROLLED = 700;
const DESK = { width: 1440, height: 480 } as const;
/** The first row that is whole on the screen. */
const ROW = "[...document.querySelectorAll('#main .row-link')].find((row) => row.getBoundingClientRect().top > 100)";

const scrolled = (page: Page) => (): Promise<unknown> => page.evaluate("scrollY");

/** Requests of the chunk wait until it is released. */
async function holdChunk(page: Page, pattern: string): Promise<{ isAsked: () => boolean; release: () => void }> {
  let release = (): void => {};
  const held = new Promise<void>((resolve) => (release = resolve));
  let isAsked = false;
  await page.route(pattern, async (route) => {
    isAsked = true;
    await held;
    await route.continue();
  });
  return { isAsked: () => isAsked, release };
}

describeWithBrowser("from screen to screen", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig(ENV);
    await rig.server().call("POST", "/v1/ops/queue/pause");
    for (let i = 0; i < TASKS; i++) {
      const id = await rig.submit(`Loads crate ${i}`, [{ finish: { title: "t", summary: "s" } }]);
      await rig.call("POST", `/v1/tasks/${id}/cancel`);
    }
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  /**
   * The inbox on a phone. The routes of a page do not see what a service worker asks for.
   * @param prepare is done before a screen can be loaded.
   */
  async function openInbox(prepare?: (page: Page) => Promise<unknown>) {
    const watched = await rig.open({ viewport: NARROW, serviceWorkers: "block" });
    await prepare?.(watched.page);
    await rig.logIn(watched.page);
    await expect.poll(() => watched.page.locator("#main .row-link").count()).toBe(SHOWN);
    return watched;
  }

  async function scrollTo(page: Page, top: number): Promise<void> {
    await page.evaluate(`scrollTo(0, ${top})`);
    await expect.poll(scrolled(page)).toBe(top);
  }

  it("[P20] a screen stays until the next is loaded; that begins at its top, and Back goes where one was", async () => {
    let chunk: Awaited<ReturnType<typeof holdChunk>> | undefined;
    const { page, errors } = await openInbox(async (fresh) => {
      chunk = await holdChunk(fresh, "**/assets/task-screen-*");
    });
    await scrollTo(page, SCROLLED);
    await page.evaluate(`${ROW}.click()`);
    await expect.poll(() => new URL(page.url()).pathname).toMatch(/^\/tasks\//);
    await expect.poll(() => chunk?.isAsked()).toBe(true);
    expect(await page.locator("#main .row-link").count()).toBe(SHOWN);
    expect(await page.evaluate("scrollY")).toBe(SCROLLED);
    // The person reads on meanwhile.
    await scrollTo(page, SCROLLED + 100);
    chunk?.release();
    await taskState(page).waitFor();
    expect(await page.evaluate("scrollY")).toBe(0);
    await page.goBack();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    await expect.poll(scrolled(page)).toBe(SCROLLED + 100);
    await page.goForward();
    await taskState(page).waitFor();
    await expect.poll(scrolled(page)).toBe(0);
    expect(errors).toEqual([]);
  });

  it("[P20] a page that was loaded anew still knows where the screens before it were left", async () => {
    const { page } = await openInbox();
    await scrollTo(page, SCROLLED);
    await page.evaluate(`${ROW}.click()`);
    await taskState(page).waitFor();
    await page.reload();
    await taskState(page).waitFor();
    await page.goBack();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    await expect.poll(scrolled(page)).toBe(SCROLLED);
  });

  it("[P20] a group that was unfolded is unfolded when Back leads to it, and is where it was left", async () => {
    const { page } = await openInbox();
    await page.getByRole("button", { name: `${TASKS - SHOWN} more` }).click();
    await expect.poll(() => page.locator("#main .row-link").count()).toBe(TASKS);
    await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)");
    const end = Number(await page.evaluate("scrollY"));
    await page.evaluate("[...document.querySelectorAll('#main .row-link')].at(-1).click()");
    await taskState(page).waitFor();
    await page.goBack();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    await expect.poll(scrolled(page)).toBe(end);
    expect(await page.locator("#main .row-link").count()).toBe(TASKS);
  });

  it("[P20] a screen that becomes as long as it was a moment later is where it was left", async () => {
    const { page } = await openInbox();
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.getByRole("heading", { name: "What you use" }).waitFor();
    await scrollTo(page, SCROLLED);
    await page.evaluate("[...document.querySelectorAll('a')].find((link) => link.textContent === 'Inbox').click()");
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    await page.goBack();
    await page.getByRole("heading", { name: "You", exact: true }).waitFor();
    await expect.poll(scrolled(page)).toBe(SCROLLED);
  });

  it("[P20] at a desk Back finds the rows and the preview as they were left, and the keys go on from there", async () => {
    const { page, errors } = await rig.open({ viewport: DESK });
    await rig.logIn(page);
    const rows = page.locator("#main .drow");
    await expect.poll(() => rows.count()).toBe(SHOWN);
    const pane = (): Promise<unknown> => page.evaluate("document.querySelector('.desk-rows').scrollTop");
    await page.evaluate("document.querySelector('.desk-rows').scrollTo(0, 300)");
    await expect.poll(pane).toBe(300);
    const title = String(await rows.nth(14).locator(".t").textContent());
    await rows.nth(14).focus();
    await page.getByRole("complementary", { name: "Preview" }).getByRole("heading", { name: title }).waitFor();
    const left = await pane();
    expect(left).toBeGreaterThan(0);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: title, level: 1 }).waitFor();
    await page.goBack();
    await page.getByRole("complementary", { name: "Preview" }).getByRole("heading", { name: title }).waitFor();
    await expect.poll(pane).toBe(left);
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    const focused = (): Promise<number> =>
      rows.evaluateAll((all) => all.findIndex((row) => row === row.ownerDocument.activeElement));
    await expect.poll(focused).toBe(15);
    expect(errors).toEqual([]);
  });

  it("[P20] the heading of the next screen has the focus and its words are the title; no task's stay after the log-out", async () => {
    const { page } = await openInbox();
    const heading = (): Promise<unknown> => page.evaluate("document.activeElement.textContent");
    await page.locator("#main .row-link").first().focus();
    const title = `Loads crate ${TASKS - 1}`;
    await page.keyboard.press("Enter");
    await expect.poll(heading).toBe(title);
    await expect.poll(() => page.title()).toBe(`${title} · Slipway`);
    const addresses = {
      "/new": "New task",
      "/console": "Console",
      "/console/audit": "Audit log",
      "/you/notifications": "Notifications",
      "/tasks/none/nothing": "There is nothing at this address",
      "/you": "You",
    };
    for (const [address, words] of Object.entries(addresses)) {
      await page.goto(`${rig.server().url}${address}`);
      await page.getByRole("heading", { name: words, exact: true, level: 1 }).waitFor();
      await expect.poll(() => page.title()).toBe(`${words} · Slipway`);
    }
    await page.goBack();
    await page.goto(`${rig.server().url}/you`);
    await page.getByRole("button", { name: "Log out" }).first().click();
    await page.getByLabel("E-mail").waitFor();
    await expect.poll(() => page.title()).toBe("Log in to Slipway");
  });

  it("[P20] a link to the present address makes no entry in the history", async () => {
    const { page } = await rig.open({ viewport: NARROW });
    await rig.logIn(page);
    const inbox = page.getByRole("link", { name: "Inbox" });
    expect(await inbox.getAttribute("aria-current")).toBe("page");
    const before = await page.evaluate("history.length");
    await inbox.click();
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.getByRole("heading", { name: "You", exact: true }).waitFor();
    expect(await page.evaluate("history.length")).toBe(Number(before) + 1);
    expect(await inbox.getAttribute("aria-current")).toBeNull();
  });
});
