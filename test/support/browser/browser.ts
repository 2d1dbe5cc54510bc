/**
 * A real Chromium. Without one the suites are skipped, with the reason in their name; with
 * SLIPWAY_REQUIRE_ENGINES=1 (CI) that is an error instead.
 */
import { existsSync } from "node:fs";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";
import { AxeBuilder } from "@axe-core/playwright";
import { describe, expect } from "vitest";
import { PATIENCE_MS } from "../vitest/patience.ts";

const PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"];

export const NARROW = { width: 390, height: 844 } as const;
export const WIDE = { width: 1440, height: 900 } as const;

function findChromium(): string | null {
  const chosen = process.env["SLIPWAY_CHROMIUM"];
  return [...(chosen === undefined ? [] : [chosen]), ...PATHS].find((path) => existsSync(path)) ?? null;
}

export function describeWithBrowser(name: string, suite: () => void): void {
  const isMissing = findChromium() === null;
  if (isMissing && process.env["SLIPWAY_REQUIRE_ENGINES"] === "1")
    throw new Error("SLIPWAY_REQUIRE_ENGINES=1, but there is no Chromium: apt-get install chromium");
  describe.runIf(!isMissing)(`${name}${isMissing ? " (skipped: no Chromium)" : ""}`, suite);
}

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: findChromium() ?? "", args: FLAGS });
}

export interface WatchedPage {
  readonly page: Page;
  /** Errors of the page and its console, violations of its policy among them. */
  readonly errors: string[];
}

/** A page of a fresh device. */
export async function openPage(browser: Browser, options: BrowserContextOptions = {}): Promise<WatchedPage> {
  const context = await browser.newContext({ viewport: NARROW, ...options });
  context.setDefaultTimeout(PATIENCE_MS);
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => {
    // Chromium fails requests when the interfaces of the machine change: containers do that.
    if (message.type() !== "error" || message.text().includes("net::ERR_NETWORK_CHANGED")) return;
    errors.push(`${message.text()} ${message.location().url}`.trim());
  });
  return { page, errors };
}

/** A colour that still fades has no contrast yet. @param name of what is on the screen. */
export async function expectAccessible(page: Page, name: string): Promise<void> {
  await page.emulateMedia({ reducedMotion: "reduce" });
  const { violations } = await new AxeBuilder({ page }).analyze();
  await page.emulateMedia({ reducedMotion: null });
  expect(violations.map(({ id, nodes }) => `${name}, ${id}: ${nodes[0]?.html ?? ""}`)).toEqual([]);
}
