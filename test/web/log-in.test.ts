/**
 * Log-in with a provider in a real browser, against a real server that is configured as operators
 * do.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import { CLIENT, startStrictProvider, type StrictProvider } from "../auth/providers/strict-provider.ts";
import { describeWithBrowser, launchBrowser, openPage } from "../support/browser/browser.ts";
import { startServer, type RealServer } from "../support/process/server.ts";

describeWithBrowser("log-in with a provider", () => {
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
});
