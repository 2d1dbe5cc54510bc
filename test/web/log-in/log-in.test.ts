/**
 * How people come and go, in a real browser against a real server that is configured as operators
 * do: log-in with a provider, export, deletion.
 */
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, expect, onTestFinished } from "vitest";
import Database from "../../../src/store/sqlite/driver.ts";
import { CLIENT, startStrictProvider, type StrictProvider } from "../../auth/providers/strict-provider.ts";
import { describeWithBrowser, expectAccessible, launchBrowser, openPage, WIDE } from "../../support/browser/browser.ts";
import { startTunnel } from "../../support/browser/tunnel.ts";
import { launch, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

const PASSWORD = "seven green lanterns";
/** Larger than what a browser takes ahead of a slow reader. */
const FILE_BYTES = 4_000_000;

/** The browser of a device on which pages do not write files, as most do not. */
const WITHOUT_PICKER = "delete globalThis.showSaveFilePicker";
/** Answers the browser's question with a file of its own storage. */
const WITH_PICKER = `globalThis.showSaveFilePicker = async ({ suggestedName }) =>
  (await navigator.storage.getDirectory()).getFileHandle(suggestedName, { create: true })`;
const readPicked = (name: string): string => `navigator.storage.getDirectory()
  .then((folder) => folder.getFileHandle("${name}")).then((handle) => handle.getFile())
  .then((file) => file.bytes?.() ?? file.arrayBuffer()).then((bytes) => [...new Uint8Array(bytes)])`;

describeWithBrowser("how people come and go", () => {
  let dir: string;
  let provider: StrictProvider;
  let server: RealServer;
  let browser: Browser;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "slipway-login-"));
    provider = await startStrictProvider();
    const env = {
      SLIPWAY_LOG_LEVEL: "error",
      SLIPWAY_OIDC_COMPANY_ISSUER: provider.url,
      SLIPWAY_OIDC_COMPANY_CLIENT_ID: CLIENT.id,
      SLIPWAY_OIDC_COMPANY_CLIENT_SECRET: CLIENT.secret,
      SLIPWAY_OIDC_COMPANY_ALLOW: "@example.org",
      SLIPWAY_TRUSTED_REPO_HOSTS: new URL(provider.url).host,
      SLIPWAY_GITHUB_URL: provider.url,
      SLIPWAY_GITHUB_API_URL: `${provider.url}/api/v3`,
      SLIPWAY_GITHUB_CLIENT_ID: CLIENT.id,
      SLIPWAY_GITHUB_CLIENT_SECRET: CLIENT.secret,
    };
    server = await startServer({ dataDir: join(dir, "data"), env });
    browser = await launchBrowser();
  });
  afterAll(async () => {
    await browser.close();
    await server.kill();
    await provider.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });

  it("[P2] the link that the first start prints ends in a logged-in app, and works once", async () => {
    const first = launch({ dataDir: join(dir, "first") });
    onTestFinished(() => void first.kill());
    const readLink = (): string | undefined => /http:\S+\/setup#\S+/.exec(first.stderr())?.[0];
    await expect.poll(readLink).toBeDefined();
    const { page } = await openPage(browser);
    await page.goto(readLink() ?? "");
    await page.getByLabel("E-mail").fill("first@example.org");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Create account" }).click();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    await page.getByRole("link", { name: "Console" }).waitFor();
    await page.reload();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    const again = await openPage(browser);
    await again.page.goto(readLink() ?? "");
    await again.page.getByLabel("E-mail").fill("second@example.org");
    await again.page.getByLabel("Password").fill(PASSWORD);
    await again.page.getByRole("button", { name: "Create account" }).click();
    await again.page.getByRole("alert").waitFor();
    await again.page.context().close();
    await page.context().close();
  });

  it("[P2] a session that the server ended says so, keeps the draft, and returns to its screen", async () => {
    const person = { email: "ends@example.org", password: PASSWORD };
    expect((await server.call("POST", "/v1/users", { ...person, role: "user" })).status).toBe(201);
    const { page } = await openPage(browser);
    const logIn = async (): Promise<void> => {
      await page.getByLabel("E-mail").fill(person.email);
      await page.getByLabel("Password").fill(person.password);
      await page.getByRole("button", { name: "Log in", exact: true }).click();
    };
    await page.goto(server.url);
    await logIn();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    await page.goto(`${server.url}/new`);
    await page.getByRole("textbox", { name: "Prompt" }).fill("Half a thought");
    const login = await server.call("POST", "/v1/auth/login", person);
    const headers = { authorization: `Bearer ${(login.body as { accessToken: string }).accessToken}` };
    expect((await server.call("DELETE", "/v1/sessions", undefined, headers)).status).toBe(204);
    await page.getByText(/^Your session ended at \d\d:\d\d\.$/).waitFor();
    await page.getByText("Drafts are kept on this device.").waitFor();
    await logIn();
    await expect.poll(() => new URL(page.url()).pathname).toBe("/new");
    expect(await page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe("Half a thought");
    await page.context().close();
  });

  it("[H7] an invitation's link opens a screen that makes the account, and the account shows its session", async () => {
    const { page, errors } = await openPage(browser);
    const made = await server.call("POST", "/v1/links", { role: "user", email: "guest@example.org" });
    await page.goto((made.body as { url: string }).url);
    await page.getByRole("heading", { name: "Welcome to Slipway" }).waitFor();
    await page.getByLabel("Password").fill("password1234");
    await page.getByRole("button", { name: "Create account" }).click();
    await page.getByRole("alert").filter({ hasText: "most common passwords" }).waitFor();
    await page.getByLabel("Password").fill("seven green lanterns");
    await page.getByRole("button", { name: "Create account" }).click();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    await page.goto(`${server.url}/you`);
    await page.getByText("this one").waitFor();
    expect(errors.filter((text) => !text.includes("400"))).toEqual([]);
    await page.goto((made.body as { url: string }).url);
    await page.reload();
    await page.getByRole("alert").filter({ hasText: "was used" }).waitFor();
    await page.context().close();
  });

  it("[H19] tabs that start together share one session, which goes on", async () => {
    const ida = { email: "ida@example.org", password: "seven green lanterns" };
    expect((await server.call("POST", "/v1/users", { ...ida, role: "user" })).status).toBe(201);
    const { page, errors } = await openPage(browser, { serviceWorkers: "block" });
    await logIn(page, ida.email);
    const tabs = [page, ...(await Promise.all([1, 2, 3, 4].map(() => page.context().newPage())))];
    for (let round = 0; round < 3; round++) {
      await Promise.all(tabs.map((tab) => tab.goto(`${server.url}/you`)));
      for (const tab of tabs) await tab.getByText("this one").waitFor();
    }
    expect(await page.getByRole("heading", { name: /^Sessions 1$/ }).count()).toBe(1);
    expect(errors).toEqual([]);
    await page.context().close();
  });

  it("[H1] the log-in screen leads to the provider and back to the app, where the provider can be unlinked", async () => {
    const { page, errors } = await openPage(browser);
    provider.person = { id: 7, login: "ann", emails: [{ email: "ann@example.com", primary: true, verified: true }] };
    await page.goto(`${server.url}/login?next=/you`);
    await page.getByRole("link", { name: "Log in with Company" }).click();
    await page.getByRole("alert").filter({ hasText: "not on the list of people" }).waitFor();

    provider.person = { id: 7, login: "ann", emails: [{ email: "ann@example.org", primary: true, verified: true }] };
    await page.goto(`${server.url}/login?next=/you`);
    await page.getByRole("link", { name: "Log in with Company" }).click();
    await page.getByRole("heading", { name: "ann@example.org" }).waitFor();
    expect(new URL(page.url()).hash).toBe("");
    await page.getByRole("button", { name: "Unlink" }).click();
    await page.getByRole("alert").filter({ hasText: "only way to log in" }).waitFor();
    expect(errors.filter((text) => !text.includes("409"))).toEqual([]);
    await page.reload();
    await page.getByRole("heading", { name: "ann@example.org" }).waitFor();
    await page.context().close();
  });

  it("[P21] a log-in with the provider after a log-out that the server has not heard of begins a session that stays", async () => {
    provider.person = { id: 8, login: "bo", emails: [{ email: "bo@example.org", primary: true, verified: true }] };
    const { page } = await openPage(browser, { serviceWorkers: "block" });
    const enter = page.getByRole("link", { name: "Log in with Company" });
    const name = page.getByRole("heading", { name: "bo@example.org" });
    await page.goto(`${server.url}/login?next=/you`);
    await enter.click();
    await name.waitFor();
    const isOfLogOut = /\/v1\/session(?:\/refresh)?$/;
    await page.route(isOfLogOut, (route) => route.abort());
    await page.getByRole("button", { name: "Log out" }).click();
    await enter.waitFor();
    await page.goto(`${server.url}/login?next=/you`);
    await enter.waitFor();
    await page.unroute(isOfLogOut);
    await enter.click();
    await name.waitFor();
    await page.reload();
    await name.waitFor();
    await page.getByText("this one").waitFor();
    expect(await page.getByRole("region", { name: "Sessions 1" }).count()).toBe(1);
    await page.context().close();
  });

  /** A person with a task that waits in a paused queue, and its attachment. */
  async function person(
    email: string,
    role = "user",
    bytes = 1_000,
  ): Promise<{ readonly id: string; readonly task: string }> {
    const made = await server.call("POST", "/v1/users", { email, password: PASSWORD, role });
    const login = await server.call("POST", "/v1/auth/login", { email, password: PASSWORD });
    const authorization = `Bearer ${(login.body as { accessToken: string }).accessToken}`;
    const sent = await fetch(`${server.url}/v1/attachments?name=noise.bin`, {
      method: "POST",
      headers: { authorization, "content-type": "application/octet-stream" },
      body: randomBytes(bytes),
    });
    const attachments = [((await sent.json()) as { id: string }).id];
    await server.call("POST", "/v1/ops/queue/pause");
    const body = { repo: "https://example.org/a/b", prompt: "Wait.", attachments };
    const task = await server.call("POST", "/v1/tasks", body, { authorization });
    expect(task.status).toBe(201);
    return { id: (made.body as { id: string }).id, task: (task.body as { id: string }).id };
  }

  async function logIn(page: Page, email: string, url = server.url): Promise<void> {
    await page.goto(`${url}/login?next=/you`);
    await page.getByLabel("E-mail").fill(email);
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Log in", exact: true }).click();
    await page.getByRole("heading", { name: "Your data" }).waitFor();
  }

  it("[H3] GitHub becomes the git credential of a person who says so, and goes with the link", async () => {
    const { page, errors } = await openPage(browser);
    const email = "octo@example.org";
    await server.call("POST", "/v1/users", { email, password: PASSWORD, role: "user" });
    provider.person = { id: 11, login: "octocat" };
    await logIn(page, email);
    await page.getByRole("link", { name: "Link GitHub" }).click();
    await page.getByRole("link", { name: `Use GitHub for git at ${new URL(provider.url).host}` }).click();
    const granted = page.getByText(/^Granted by octocat at /);
    await granted.waitFor();
    await page.getByRole("button", { name: "Unlink" }).click();
    await granted.waitFor({ state: "detached" });
    await expect.poll(() => provider.revoked).toEqual([{ what: "grant", token: provider.issued.at(-1) }]);
    expect(errors).toEqual([]);
    await page.context().close();
  });

  const archiveNames = (archive: Buffer): string[] =>
    execFileSync("tar", ["tz"], { input: archive, maxBuffer: 1e6 }).toString().split("\n");

  it("[R10] an export is saved as it comes; a cancel and a connection that breaks save nothing and are said", async () => {
    const { task } = await person("packs@example.org", "user", FILE_BYTES);
    const tunnel = await startTunnel();
    tunnel.aim(server.url);
    const { page } = await openPage(browser);
    await page.addInitScript(WITHOUT_PICKER);
    await logIn(page, "packs@example.org", tunnel.url);
    const own = page.getByRole("region", { name: "Your data" });
    const network = await page.context().newCDPSession(page);
    const slow = { offline: false, latency: 0, downloadThroughput: 400_000, uploadThroughput: -1 };
    let saved = 0;
    page.on("download", () => saved++);
    await network.send("Network.emulateNetworkConditions", slow);
    await own.getByRole("button", { name: "Export as a file" }).click();
    await own.getByText(/[1-9].* so far$/).waitFor();
    await own.getByRole("button", { name: "Cancel" }).click();
    // The server lets the next one begin when it knows that the reader has left.
    const begin = async (): Promise<string | null> => {
      const button = own.getByRole("button", { name: "Export as a file" });
      if ((await button.count()) > 0) await button.click();
      return await own.locator("small").first().textContent();
    };
    await expect.poll(begin).toMatch(/^[1-9].* so far$/);
    tunnel.cut();
    await own.getByRole("alert").filter({ hasText: "connection broke after" }).waitFor();
    expect(saved).toBe(0);
    await network.send("Network.emulateNetworkConditions", { ...slow, downloadThroughput: -1 });
    const download = page.waitForEvent("download");
    await expect.poll(begin).toMatch(/so far$|^Saved/);
    const path = await (await download).path();
    const names = archiveNames(readFileSync(path));
    expect(names).toEqual(expect.arrayContaining(["profile.json", `tasks/${task}/task.json`]));
    expect(names.some((name) => /^attachments\/.*noise\.bin$/.test(name))).toBe(true);
    expect((await download).suggestedFilename()).toBe("slipway-packs@example.org.tar.gz");
    await page.context().close();
    await tunnel.close();
  });

  it("[R9] a person deletes their account: they see what stays, prove who they are, and nothing is left in the browser", async () => {
    const { task } = await person("leaves@example.org");
    const { page, errors } = await openPage(browser);
    await page.addInitScript(WITH_PICKER);
    await logIn(page, "leaves@example.org");
    await page.getByRole("button", { name: "Export as a file" }).click();
    await page.getByRole("status").filter({ hasText: "Saved" }).waitFor();
    const archive = await page.evaluate<number[]>(readPicked("slipway-leaves@example.org.tar.gz"));
    expect(archiveNames(Buffer.from(archive))).toContain(`tasks/${task}/task.json`);

    // The log-in is an hour old.
    const db = new Database(join(dir, "data", "slipway.db"));
    db.prepare("UPDATE sessions SET created_at = created_at - 3600000").run();
    db.close();
    await page.reload();
    await page.getByRole("button", { name: "Delete account" }).click();
    const sheet = page.getByRole("dialog", { name: "Delete your account?" });
    await sheet.getByText("the books must equal the bill").waitFor();
    const go = sheet.getByRole("button", { name: "Delete my account" });
    await sheet.getByLabel("Type leaves@example.org to confirm").fill("leaves@example.org");
    await sheet.getByLabel("Your password").fill("not this one");
    expect(await go.isDisabled()).toBe(true);
    await sheet.getByRole("checkbox", { name: /Cancel my 1 open task/ }).check();
    await go.click();
    await sheet.getByRole("alert").waitFor();
    await sheet.getByRole("link", { name: "Log in with Company" }).waitFor();
    await expectAccessible(page, "delete your account");
    await sheet.getByLabel("Your password").fill(PASSWORD);
    await go.click();
    await page.getByRole("status").filter({ hasText: "Your account is deleted." }).waitFor();
    await page.getByRole("heading", { name: "Log in to Slipway" }).waitFor();
    expect(await page.context().cookies()).toEqual([]);
    const kept = await page.evaluate<string[]>("Object.keys(localStorage)");
    expect(kept).toEqual([]);
    await expect.poll(async () => (await server.call("GET", `/v1/tasks/${task}`)).status).toBe(404);
    await page.getByLabel("E-mail").fill("leaves@example.org");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Log in", exact: true }).click();
    await page.getByRole("alert").waitFor();
    // Two log-ins were refused.
    expect(errors.filter((text) => !text.includes("401"))).toEqual([]);
    await page.context().close();
  });

  it("[R9] an admin deletes a person, and says first that their open tasks are cancelled", async () => {
    const { task } = await person("fired@example.org");
    await person("boss@example.org", "admin");
    const { page, errors } = await openPage(browser, { viewport: WIDE });
    await logIn(page, "boss@example.org");
    await page.getByRole("button", { name: "Manage fired@example.org" }).click();
    await page.getByRole("button", { name: "Delete", exact: true }).click();
    const sheet = page.getByRole("dialog", { name: "Delete fired@example.org?" });
    const go = sheet.getByRole("button", { name: "Delete the person" });
    await sheet.getByLabel("Type fired@example.org to confirm").fill("Fired@example.org");
    await sheet.getByText("To let them end first, disable the account").waitFor();
    await expectAccessible(page, "delete a person");
    expect(await go.isDisabled()).toBe(true);
    await sheet.getByRole("checkbox", { name: /Cancel their 1 open task/ }).check();
    await go.click();
    await page.getByRole("status").filter({ hasText: "fired@example.org is deleted" }).waitFor();
    await page.getByRole("button", { name: "Manage fired@example.org" }).waitFor({ state: "detached" });
    await expect.poll(async () => (await server.call("GET", `/v1/tasks/${task}`)).status).toBe(404);
    // Themselves they delete under Your data, but not as the last admin.
    await page.getByRole("button", { name: "Delete account" }).click();
    await page.getByLabel("Type boss@example.org to confirm").fill("boss@example.org");
    await page.getByRole("checkbox", { name: /Cancel my 1 open task/ }).check();
    await page.getByRole("button", { name: "Delete my account" }).click();
    await page.getByRole("alert").filter({ hasText: "last admin" }).waitFor();
    expect(errors.filter((text) => !text.includes("409"))).toEqual([]);
    await page.context().close();
  });
});
