/** Another person logs in on a device whose first person did not log out. */
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, NARROW } from "../../support/browser/browser.ts";
import { EMAIL, openWebRig, PASSWORD, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

const GUEST = { email: "guest@example.com", password: "seven green lanterns" };
/** A service worker has a network of its own, which the routes of the page do not see. */
const NO_WORKER = { viewport: NARROW, serviceWorkers: "block" } as const;

describeWithBrowser("another person on the same device", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig();
    expect((await rig.call("POST", "/v1/users", { ...GUEST, role: "user" })).status).toBe(201);
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  /** As a person, without the device. */
  async function callAs(
    person: { readonly email: string; readonly password: string },
    method: string,
    path: string,
  ): Promise<{ status: number; body: unknown }> {
    const login = await rig.server().call("POST", "/v1/auth/login", person);
    const authorization = `Bearer ${(login.body as { accessToken: string }).accessToken}`;
    return rig.server().call(method, path, undefined, { authorization });
  }

  /** At the server alone: the next call of the device is refused. */
  const endSessions = (): Promise<unknown> => callAs({ email: EMAIL, password: PASSWORD }, "DELETE", "/v1/sessions");

  async function listPrompts(person: { readonly email: string; readonly password: string }): Promise<string[]> {
    const { body } = await callAs(person, "GET", "/v1/tasks");
    return (body as { items: { prompt: string }[] }).items.map(({ prompt }) => prompt);
  }

  async function logInHere(page: Page, person: { readonly email: string; readonly password: string }): Promise<void> {
    await page.getByLabel("E-mail").fill(person.email);
    await page.getByLabel("Password").fill(person.password);
    await page.getByRole("button", { name: "Log in", exact: true }).click();
  }

  it("[P9] after a session that the server ended: no draft and no notification of the first is left", async () => {
    const { page } = await rig.open(NO_WORKER);
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/new`);
    await page.getByLabel("Prompt").fill("Half a thought");
    await page.evaluate(`localStorage.setItem("slipway.device", "push_1")`);
    await endSessions();
    await page.getByText("Drafts are kept on this device.").waitFor();
    await logInHere(page, GUEST);
    await page.getByRole("heading", { name: "New task" }).waitFor();
    expect(await page.getByLabel("Prompt").inputValue()).toBe("");
    await expect.poll(() => page.evaluate(`localStorage.getItem("slipway.device")`)).toBeNull();
  });

  it("[P8] in another tab: the page of the first becomes the second's, and what waits is sent as the first", async () => {
    const { page } = await rig.open(NO_WORKER);
    await rig.logIn(page);
    await page.route("**/v1/tasks", (route) =>
      route.request().method() === "POST" ? route.abort() : route.continue(),
    );
    await page.getByRole("link", { name: "New task" }).first().click();
    await page.getByLabel("Repository").fill(rig.repo);
    await page.getByLabel("Prompt").fill("Of the first person");
    await page.getByRole("button", { name: "Start task" }).click();
    await page.getByRole("listitem", { name: /^waiting, New task/ }).waitFor();
    await page.getByRole("link", { name: "New task" }).first().click();
    await page.getByLabel("Prompt").fill("Half a thought");

    const other = await page.context().newPage();
    await rig.logIn(other, GUEST);
    await endSessions();
    // Its next call is refused, and the cookie is the second's.
    await page.getByRole("link", { name: "Close" }).click();
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.getByRole("heading", { name: GUEST.email }).waitFor();
    await page.unrouteAll({ behavior: "wait" });
    await page.getByRole("link", { name: "Inbox", exact: true }).click();
    await page.getByRole("link", { name: "New task" }).first().click();
    expect(await page.getByLabel("Prompt").inputValue()).toBe("");
    await page.getByLabel("Repository").fill(rig.repo);
    await page.getByLabel("Prompt").fill("Of the second person");
    await page.getByRole("button", { name: "Start task" }).click();
    await expect.poll(() => listPrompts(GUEST)).toEqual(["Of the second person"]);

    await page.goto(`${rig.server().url}/you`);
    await page.getByRole("button", { name: "Log out" }).click();
    await logInHere(page, { email: EMAIL, password: PASSWORD });
    await expect.poll(() => listPrompts({ email: EMAIL, password: PASSWORD })).toContain("Of the first person");
    expect(await listPrompts(GUEST)).toEqual(["Of the second person"]);
  });

  it("[P21] a call that is under way ends with its session: it is not repeated as the next person", async () => {
    const { page } = await rig.open(NO_WORKER);
    await rig.logIn(page);
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.getByRole("button", { name: "Make a token" }).click();
    await page.getByLabel("Name").fill("For a script");
    await page.route("**/v1/tokens", () => undefined);
    const failed = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/v1/tokens"));
    const sent = page.waitForRequest((request) => request.method() === "POST" && request.url().endsWith("/v1/tokens"));
    await page.getByRole("dialog").getByRole("button", { name: "Make" }).click();
    await sent;
    await endSessions();
    // The next call of the page finds that out.
    await page.evaluate("dispatchEvent(new Event('online'))");
    await page.getByText("Drafts are kept on this device.").waitFor();
    await failed;
    await page.unrouteAll({ behavior: "ignoreErrors" });
  });
});
