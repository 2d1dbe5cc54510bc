/** Passkeys with a virtual authenticator, and a phone by QR: real browsers, a real server. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, CDPSession, Page } from "playwright-core";
import { afterAll, beforeAll, expect } from "vitest";
import { describeWithBrowser, launchBrowser, openPage } from "../../support/browser/browser.ts";
import Database from "../../../src/store/sqlite/driver.ts";
import { startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

const PASSWORD = "seven green lanterns";
const AUTHENTICATOR = {
  protocol: "ctap2",
  ctap2Version: "ctap2_1",
  transport: "internal",
  hasResidentKey: true,
  hasUserVerification: true,
  isUserVerified: true,
} as const;

/** A page with an authenticator of its own, which answers when it is told to. */
class Device {
  readonly page: Page;
  readonly errors: string[];
  readonly #cdp: CDPSession;
  #id = "";

  constructor(page: Page, errors: string[], cdp: CDPSession) {
    this.page = page;
    this.errors = errors;
    this.#cdp = cdp;
  }

  async attach(): Promise<void> {
    await this.#cdp.send("WebAuthn.enable");
    const options = { ...AUTHENTICATOR, automaticPresenceSimulation: false };
    this.#id = (await this.#cdp.send("WebAuthn.addVirtualAuthenticator", { options })).authenticatorId;
  }

  /** The person is there for the one thing that the page then asks. */
  async touch(act: () => Promise<unknown>): Promise<void> {
    const set = (enabled: boolean) =>
      this.#cdp.send("WebAuthn.setAutomaticPresenceSimulation", { authenticatorId: this.#id, enabled });
    const done = new Promise<void>((resolve) => {
      for (const name of ["WebAuthn.credentialAdded", "WebAuthn.credentialAsserted"] as const)
        this.#cdp.once(name, () => resolve());
    });
    await set(true);
    await act();
    await done;
    await set(false);
  }

  async passkey() {
    return (await this.#cdp.send("WebAuthn.getCredentials", { authenticatorId: this.#id })).credentials[0]!;
  }

  async replacePasskey(change: Partial<Awaited<ReturnType<Device["passkey"]>>>): Promise<void> {
    const credential = { ...(await this.passkey()), ...change };
    await this.#cdp.send("WebAuthn.clearCredentials", { authenticatorId: this.#id });
    await this.#cdp.send("WebAuthn.addCredential", { authenticatorId: this.#id, credential });
  }
}

describeWithBrowser("passkeys", () => {
  let dir: string;
  let server: RealServer;
  let browser: Browser;
  let origin: string;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "slipway-passkeys-"));
    server = await startServer({ dataDir: join(dir, "data"), env: { SLIPWAY_LOG_LEVEL: "error" } });
    origin = `http://localhost:${new URL(server.url).port}`;
    browser = await launchBrowser();
  });
  afterAll(async () => {
    await browser.close();
    await server.kill();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });

  async function open(): Promise<Device> {
    const { page, errors } = await openPage(browser);
    await page.addInitScript(SUGGESTIONS);
    const device = new Device(page, errors, await page.context().newCDPSession(page));
    await device.attach();
    return device;
  }

  /** A new person, logged in by password, with a passkey on their device. */
  async function withPasskey(email: string): Promise<Device & { readonly userId: string }> {
    const made = await server.call("POST", "/v1/users", { email, password: PASSWORD, role: "user" });
    const device = await open();
    const { page } = device;
    await page.goto(`${origin}/login`);
    await page.getByLabel("E-mail").fill(email);
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    await page.goto(`${origin}/you`);
    await device.touch(() => page.getByRole("button", { name: "Add a passkey" }).click());
    await page.getByText("not used yet").waitFor();
    return Object.assign(device, { userId: (made.body as { id: string }).id });
  }

  const logOut = async ({ page }: Device): Promise<void> => {
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in to Slipway" }).waitFor();
  };
  const enter = async (device: Device, outcome: () => Promise<void>): Promise<void> => {
    await device.touch(() => device.page.getByRole("button", { name: "Use a passkey" }).click());
    await outcome();
  };
  const refused = (device: Device) => () =>
    device.page.getByRole("alert").filter({ hasText: "This passkey was not accepted" }).waitFor();
  const inside = (device: Device) => () => device.page.getByRole("heading", { name: "Inbox" }).waitFor();

  it("[H17] a person makes a passkey, logs in with it without an e-mail, renames it and removes it", async () => {
    const device = await withPasskey("mira@example.com");
    const { page, errors } = device;
    await logOut(device);
    await enter(device, inside(device));
    await page.goto(`${origin}/you`);
    const section = page.getByRole("region", { name: "Passkeys" });
    await section.getByText(/used \d+ (?:s|min) ago/).waitFor();
    await section.getByRole("button", { name: /^Rename / }).click();
    await page.getByRole("textbox", { name: "Name" }).fill("Work laptop");
    await page.getByRole("button", { name: "Rename it" }).click();
    await section.getByText("Work laptop").waitFor();
    // Chosen among the suggestions of the field for the e-mail, without a button.
    await page.evaluate("sessionStorage.setItem('suggestions', 'on')");
    await page.reload();
    await device.touch(() => page.getByRole("button", { name: "Log out" }).click());
    await inside(device)();
    await page.evaluate("sessionStorage.clear()");
    await page.goto(`${origin}/you`);
    await section.getByRole("button", { name: "Remove Work laptop" }).click();
    await section.getByText("None").waitFor();
    await logOut(device);
    expect(errors).toEqual([]);
    await enter(device, refused(device));
    await page.getByRole("button", { name: "Use a passkey" }).waitFor();
  });

  it("[H17] a copied passkey is refused, its owner still enters, and a disabled person does not", async () => {
    const device = await withPasskey("ann@example.com");
    await logOut(device);
    const { signCount } = await device.passkey();
    await enter(device, inside(device));
    await device.page.goto(`${origin}/you`);
    await logOut(device);
    await device.replacePasskey({ signCount });
    await enter(device, refused(device));
    const rows = await server.call("GET", "/v1/audit?action=logInWithPasskey&limit=1");
    expect((rows.body as { items: object[] }).items).toMatchObject([
      { target: device.userId, outcome: "passkey_refused", detail: { reason: "counter" } },
    ]);
    await enter(device, inside(device));
    await device.page.goto(`${origin}/you`);
    await logOut(device);
    await server.call("POST", `/v1/users/${device.userId}/disable`, { tasks: "keep" });
    await enter(device, refused(device));
  });

  it("[R9] a person deletes their account with a passkey as the fresh log-in", async () => {
    const device = await withPasskey("leaves@example.com");
    const { page, errors } = device;
    const db = new Database(join(dir, "data", "slipway.db"));
    db.prepare("UPDATE sessions SET created_at = created_at - 3600000").run();
    db.close();
    await page.reload();
    await page.getByRole("button", { name: "Delete account" }).click();
    const sheet = page.getByRole("dialog", { name: "Delete your account?" });
    await sheet.getByLabel("Type leaves@example.com to confirm").fill("leaves@example.com");
    await device.touch(() => sheet.getByRole("button", { name: "Use a passkey" }).click());
    await sheet.getByLabel("Your password").waitFor({ state: "detached" });
    await sheet.getByRole("button", { name: "Delete my account" }).click();
    await page.getByRole("status").filter({ hasText: "Your account is deleted." }).waitFor();
    expect(errors).toEqual([]);
  });

  it("[H17] another address of the server offers none, another origin gets no log-in, and an answer counts once", async () => {
    const device = await withPasskey("eve@example.com");
    const { page } = device;
    const other = await open();
    await other.page.goto(`${server.url}/login`);
    await other.page.getByRole("button", { name: "Log in" }).waitFor();
    expect(await other.page.getByRole("button", { name: "Use a passkey" }).count()).toBe(0);
    await logOut(device);
    // The signed answer of the browser, as an attacker could record it.
    const sent = page.waitForRequest((request) => request.url().endsWith("/v1/session/passkey"));
    await enter(device, inside(device));
    const body = (await sent).postDataJSON() as object;
    const replayed = await server.call("POST", "/v1/session/passkey", body);
    expect([replayed.status, (replayed.body as { code: string }).code]).toEqual([410, "expired"]);
    // A page of another port of this machine gets a signature for the same domain, with its origin.
    const evil = await startServer({ dataDir: join(dir, "evil"), env: { SLIPWAY_LOG_LEVEL: "error" } });
    try {
      const start = (await server.call("POST", "/v1/session/passkey/start", {})).body as Started;
      await page.goto(`http://localhost:${new URL(evil.url).port}/login`);
      await page.getByRole("button", { name: "Use a passkey" }).waitFor();
      let response: unknown;
      await device.touch(async () => {
        response = await page.evaluate(SIGN, { challenge: start.options.challenge, rpId: "localhost" });
      });
      const answer = await server.call("POST", "/v1/session/passkey", { ticket: start.ticket, response });
      expect([answer.status, (answer.body as { code: string }).code]).toEqual([403, "passkey_refused"]);
    } finally {
      await evil.kill();
    }
  });

  it("[H18] a phone logs in by the link of a QR, when the browser that shows it approves the same code", async () => {
    await server.call("POST", "/v1/users", { email: "pia@example.com", password: PASSWORD, role: "user" });
    const { page, errors } = await openPage(browser);
    await page.goto(`${server.url}/login`);
    await page.getByLabel("E-mail").fill("pia@example.com");
    await page.getByLabel("Password").fill(PASSWORD);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    await page.goto(`${server.url}/you`);
    await page.getByRole("button", { name: "Log in on your phone" }).click();
    const sheet = page.getByRole("dialog", { name: "Log in on your phone" });
    await sheet.getByRole("img", { name: "QR code of the link" }).waitFor();
    const phone = await openPage(browser);
    await phone.page.goto((await sheet.getByRole("code").textContent()) ?? "");
    await phone.page.getByRole("button", { name: "Log in on this device" }).click();
    const code = await phone.page.getByRole("code").textContent();
    await sheet.getByText(code ?? "").waitFor();
    await sheet.getByRole("button", { name: "Approve" }).click();
    await phone.page.getByRole("heading", { name: "Inbox" }).waitFor();
    await sheet.getByRole("status").filter({ hasText: "Approved" }).waitFor();
    expect([...errors, ...phone.errors]).toEqual([]);
  });

  it("[H18] a phone on a bad network: a question and an answer that are lost do not end its log-in", async () => {
    await server.call("POST", "/v1/users", { email: "max@example.com", password: PASSWORD, role: "user" });
    const login = await server.call("POST", "/v1/auth/login", { email: "max@example.com", password: PASSWORD });
    const headers = { authorization: `Bearer ${(login.body as { accessToken: string }).accessToken}` };
    const offered = await server.call("POST", "/v1/device/offer", undefined, headers);
    const { page } = await openPage(browser, { serviceWorkers: "block" });
    await page.goto((offered.body as { url: string }).url);
    await page.getByRole("button", { name: "Log in on this device" }).click();
    const userCode = (await page.getByRole("code").textContent()) ?? "";
    const address = "**/v1/session/device";
    await page.route(address, (route) => route.abort());
    await page.waitForEvent("requestfailed", (request) => request.url().endsWith("/v1/session/device"));
    await page.unroute(address);
    const isAllowed = await server.call("POST", "/v1/device/decide", { userCode, allow: true }, headers);
    expect(isAllowed.status).toBe(204);
    let lost: string | null = null;
    await page.route(address, async (route) => {
      if (lost !== null) return route.continue();
      lost = await (await route.fetch()).text();
      return route.abort();
    });
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    expect(JSON.parse(lost ?? "{}")).toMatchObject({ state: "done" });
  });
});

/** A touch answers whatever the page asks first: without this also what it suggests by itself. */
const SUGGESTIONS = `if (sessionStorage.getItem("suggestions") === null)
  PublicKeyCredential.isConditionalMediationAvailable = async () => false;`;

interface Started {
  readonly ticket: string;
  readonly options: { readonly challenge: string };
}

/** Runs in a page: signs the challenge of another server. */
async function SIGN({ challenge, rpId }: { challenge: string; rpId: string }): Promise<unknown> {
  const base = challenge.replaceAll("-", "+").replaceAll("_", "/");
  const bytes = Uint8Array.from(atob(base), (letter) => letter.charCodeAt(0));
  const publicKey = { challenge: bytes, rpId, userVerification: "required" as const };
  // oxlint-disable-next-line typescript/no-explicit-any
  const { credentials } = (globalThis as any).navigator;
  const { authenticatorAttachment: _, ...answer } = (await credentials.get({ publicKey })).toJSON();
  return answer;
}
