/** A log-out ends the session, here and at the server, whatever is under way. */
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, NARROW } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(2);

/** A service worker has a network of its own, which the routes of the page do not see. */
const NO_WORKER = { viewport: NARROW, serviceWorkers: "block" } as const;

describeWithBrowser("the log-out", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  async function listSessions(): Promise<string[]> {
    const { body } = await rig.call("GET", "/v1/sessions");
    return (body as { items: { id: string }[] }).items.map(({ id }) => id);
  }

  /** @returns the session of the page. */
  async function logIn(page: Page): Promise<string> {
    const before = await listSessions();
    await rig.logIn(page);
    const [id] = (await listSessions()).filter((one) => !before.includes(one));
    return id!;
  }

  const untilLoggedOut = (page: Page): Promise<void> =>
    page.getByRole("heading", { name: "Log in to Slipway" }).waitFor();

  it("[P21] before the server has answered the start: the answer that comes later continues nothing", async () => {
    const { page, errors } = await rig.open(NO_WORKER);
    const id = await logIn(page);
    let release = (): void => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    await page.route("**/v1/session/refresh", async (route) => {
      await held;
      await route.continue();
    });
    await page.goto(`${rig.server().url}/you`);
    await page.getByRole("button", { name: "Log out" }).click();
    await untilLoggedOut(page);
    expect(await listSessions()).toContain(id);
    release();
    await expect.poll(listSessions).not.toContain(id);
    await page.unrouteAll({ behavior: "wait" });
    await untilLoggedOut(page);
    expect(errors).toEqual([]);
  });

  it("[P21] without a network: no address continues the session, and the server ends it when it is back", async () => {
    const { page } = await rig.open(NO_WORKER);
    const id = await logIn(page);
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.route("**/v1/**", (route) => route.abort());
    await page.getByRole("button", { name: "Log out" }).click();
    await untilLoggedOut(page);
    // The address at which the log-in with a provider ends.
    await page.goto(`${rig.server().url}/#session`);
    await untilLoggedOut(page);
    // At the log-in, where nothing continues a session.
    await page.reload();
    await untilLoggedOut(page);
    expect(await listSessions()).toContain(id);
    await page.unrouteAll({ behavior: "wait" });
    await expect.poll(listSessions).not.toContain(id);
    await untilLoggedOut(page);
  });

  it("[P21] a log-in before the server knows of it ends the session that was left, and begins another one", async () => {
    const { page, errors } = await rig.open(NO_WORKER);
    const id = await logIn(page);
    await page.getByRole("link", { name: "You", exact: true }).click();
    let isDown = true;
    await page.route("**/v1/session**", (route) => {
      const isOfLogOut = route.request().method() === "DELETE" || route.request().url().endsWith("/refresh");
      return isDown && isOfLogOut ? route.abort() : route.continue();
    });
    await page.getByRole("button", { name: "Log out" }).click();
    await untilLoggedOut(page);
    isDown = false;
    const next = await logIn(page);
    await expect.poll(listSessions).not.toContain(id);
    await page.reload();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    expect(await listSessions()).toContain(next);
    expect(errors.filter((text) => !text.includes("net::ERR_FAILED"))).toEqual([]);
  });

  it("[P21] on a network that swallows requests, with notifications on: the log-in is shown at once", async () => {
    const { page } = await rig.open(NO_WORKER);
    await logIn(page);
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.evaluate(`localStorage.setItem("slipway.device", "push_1")`);
    await page.route("**/v1/**", () => undefined);
    await page.getByRole("button", { name: "Log out" }).click();
    await untilLoggedOut(page);
    expect(await page.evaluate(`localStorage.getItem("slipway.device")`)).toBeNull();
    await page.unrouteAll({ behavior: "ignoreErrors" });
  });

  it("[P21] in another tab: the person is logged out of all of them, also without a network", async () => {
    const { page } = await rig.open(NO_WORKER);
    const id = await logIn(page);
    const other = await page.context().newPage();
    await other.goto(`${rig.server().url}/new`);
    await other.getByLabel("Prompt").fill("Half a thought");
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.context().route("**/v1/**", (route) => route.abort());
    await page.getByRole("button", { name: "Log out" }).click();
    await untilLoggedOut(other);
    expect(new URL(other.url()).search).toBe("");
    expect(await listSessions()).toContain(id);
    await page.close();
    await other.context().unrouteAll({ behavior: "wait" });
    await expect.poll(listSessions).not.toContain(id);
    expect(await other.evaluate(`Object.keys(localStorage).filter((key) => key.startsWith("slipway.draft"))`)).toEqual(
      [],
    );
  });
});
