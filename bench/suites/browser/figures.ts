/**
 * The web app in a real Chromium against a real server: what a screen loads, when it is usable on a
 * slow phone, and whether large logs, outputs and changes hold it up.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { chromium, type Browser, type CDPSession, type Page } from "playwright-core";
import { packageRoot } from "../../../src/core/lib/runtime/package-root.ts";
import { startServer, startUpstream, type Server } from "../../server.ts";
import { percentile } from "../../support.ts";
import { writeLongLog } from "../../long-log.ts";
import { Talkers, type Hour, type Streaming } from "./streaming.ts";

export interface ScreenLoad {
  readonly screen: string;
  /** Gzip bytes of all scripts that the screen needs on an empty cache. */
  readonly scripts: number;
  /** First contentful paint and time to usable at 4x CPU throttle and slow 4G, ms. */
  readonly paintMs: number;
  readonly usableMs: number;
  /** Cumulative layout shift until then. */
  readonly shift: number;
}

export interface BrowserFigures {
  readonly screens: readonly ScreenLoad[];
  readonly longLog: { readonly events: number; readonly ms: number };
  readonly streaming: Streaming;
  readonly hour: Hour;
  readonly output: { readonly bytes: number; readonly ms: number; readonly longestMs: number };
  /** A command that prints this much while it is watched. */
  readonly printing: { readonly bytes: number; readonly longestMs: number };
  readonly diff: { readonly files: number; readonly ms: number; readonly longestMs: number };
}

const CHROMIUM = process.env["SLIPWAY_CHROMIUM"] ?? "/usr/bin/chromium";
const PERSON = { email: "bench@example.com", password: "correct horse battery staple" };
const PHONE = { width: 390, height: 844 };
/** As Lighthouse throttles: 150 ms, 1.6 Mbit/s down, 750 kbit/s up. */
const SLOW_4G = { offline: false, latency: 150, downloadThroughput: 204_800, uploadThroughput: 93_750 };
const ROUNDS = 3;
const LOG_EVENTS = 20_000;
/** The most that an event carries: workers shorten what is longer. */
const OUTPUT_BYTES = 64 * 1_024;
/** Of a command; the page gets what the worker keeps of it. */
const PRINTED_BYTES = 5 * 2 ** 20;
const DIFF_FILES = 3_000;
const LIMIT_MS = 180_000;

export const whyNoBrowser = (): string | null => (existsSync(CHROMIUM) ? null : `there is no ${CHROMIUM}`);

export async function browserFigures(): Promise<BrowserFigures> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-browser-"));
  const data = join(dir, "data");
  const upstream = await startUpstream(join(dir, "upstream"));
  const talkers = new Talkers(dir);
  const env = {
    SLIPWAY_SANDBOX: "process",
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
    SLIPWAY_LOG_LEVEL: "error",
    SLIPWAY_AGENTS_FILE: talkers.file,
  };
  let server = await startServer(data, env);
  let browser: Browser | null = null;
  try {
    const user = (await server.call("POST", "/v1/users", { ...PERSON, role: "user" })) as { id: string };
    await server.end("SIGTERM");
    const longLog = await writeLongLog(data, user.id, { events: LOG_EVENTS, outputBytes: OUTPUT_BYTES });
    server = await startServer(data, env);
    browser = await chromium.launch({
      executablePath: CHROMIUM,
      args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
    });
    const rig = new Rig(browser, server, `${upstream.url}/app.git`);
    await rig.enter();
    const changed = await rig.submit([
      { bash: `for i in $(seq ${DIFF_FILES}); do mkdir -p d$((i / 50)); echo "line $i" > d$((i / 50))/f$i.txt; done` },
    ]);
    await rig.until(changed, "done");
    const busy = await rig.submit([{ bash: "until [ -e ../go ]; do sleep 0.2; done", timeoutMs: LIMIT_MS }]);
    await rig.until(busy, "running");
    const screens: ScreenLoad[] = [];
    for (const [screen, path, usable] of [
      ["inbox", "/", ".row-link"],
      ["task", `/tasks/${busy}`, "#message"],
      ["new task", "/new", "#prompt"],
      ["changes", `/tasks/${changed}/changes`, ".filerow"],
      ["you", "/you", ".rows.set"],
    ] as const)
      screens.push(await rig.load(screen, path, usable));
    await server.call("POST", `/v1/ops/tasks/${busy}/kill`);
    return {
      screens,
      longLog: { events: LOG_EVENTS, ms: await rig.openLog(longLog) },
      output: { bytes: OUTPUT_BYTES, ...(await rig.openOutput(longLog)) },
      diff: { files: DIFF_FILES, ...(await rig.openDiff(changed)) },
      printing: { bytes: PRINTED_BYTES, longestMs: await rig.print() },
      streaming: await rig.watch("burst", (page) => talkers.burst(page)),
      hour: await rig.watch("hour", (page) => talkers.hour(page)),
    };
  } finally {
    await browser?.close();
    await server.end("SIGKILL");
    upstream.close();
    // Workers of killed tasks may still write for a moment.
    rmSync(dir, { recursive: true, force: true, maxRetries: 30 });
  }
}

/** Long tasks and layout shifts of the page, as the browser reports them. */
const OBSERVE = `
  window.bench = { longest: 0, shift: 0 };
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) bench.longest = Math.max(bench.longest, duration);
  }).observe({ type: "longtask", buffered: true });
  new PerformanceObserver((list) => {
    for (const { value, hadRecentInput } of list.getEntries()) if (!hadRecentInput) bench.shift += value;
  }).observe({ type: "layout-shift", buffered: true });
`;

/**
 * Writes down when the element is on the screen and the page has time for a tap. The page does it
 * itself: what Playwright brings along to look for elements is work for a slow processor too.
 */
const watchFor = (selector: string): string => `
  new MutationObserver((_changes, observer) => {
    if (document.querySelector(${JSON.stringify(selector)}) === null) return;
    observer.disconnect();
    requestAnimationFrame(() => setTimeout(() => { window.usableMs = performance.now(); }));
  }).observe(document, { childList: true, subtree: true });
`;

async function readUsable(cdp: CDPSession): Promise<number> {
  for (const end = Date.now() + LIMIT_MS; ;) {
    const { result } = await cdp.send("Runtime.evaluate", { expression: "window.usableMs" });
    if (typeof result.value === "number") return result.value;
    if (Date.now() > end) throw new Error("the screen was never usable");
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

class Rig {
  readonly #browser: Browser;
  readonly #server: Server;
  readonly #repo: string;
  #authorization = "";

  constructor(browser: Browser, server: Server, repo: string) {
    this.#browser = browser;
    this.#server = server;
    this.#repo = repo;
  }

  /** Logs in over HTTP, for the tasks of the person. */
  async enter(): Promise<void> {
    const { accessToken } = (await this.#call("POST", "/v1/auth/login", PERSON)) as { accessToken: string };
    this.#authorization = `Bearer ${accessToken}`;
  }

  async #call(method: string, path: string, body?: object): Promise<unknown> {
    const answer = await fetch(this.#server.url + path, {
      method,
      headers: {
        "content-type": "application/json",
        ...(this.#authorization === "" ? {} : { authorization: this.#authorization }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!answer.ok) throw new Error(`${method} ${path} was refused: ${await answer.text()}`);
    return answer.json();
  }

  async submit(script: readonly object[]): Promise<string> {
    const body = { repo: this.#repo, prompt: "Measure the page.", script };
    return ((await this.#call("POST", "/v1/tasks", body)) as { id: string }).id;
  }

  async until(id: string, state: string): Promise<void> {
    for (const end = Date.now() + LIMIT_MS; ;) {
      const task = (await this.#call("GET", `/v1/tasks/${id}`)) as { state: string };
      if (task.state === state) return;
      if (Date.now() > end || task.state === "failed") throw new Error(`the task is ${task.state}, not ${state}`);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }

  /** A page of a person who is logged in; every file comes from the server. */
  async #open(): Promise<Page> {
    const context = await this.#browser.newContext({ viewport: PHONE, serviceWorkers: "block" });
    const page = await context.newPage();
    await page.addInitScript(OBSERVE);
    await page.goto(`${this.#server.url}/login`);
    await page.getByLabel("E-mail").fill(PERSON.email);
    await page.getByLabel("Password").fill(PERSON.password);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Inbox" }).waitFor();
    return page;
  }

  async load(screen: string, path: string, usable: string): Promise<ScreenLoad> {
    const rounds: Omit<ScreenLoad, "screen">[] = [];
    for (let round = 0; round < ROUNDS; round++) rounds.push(await this.#loadOnce(path, usable));
    const middle = (key: keyof Omit<ScreenLoad, "screen">): number =>
      percentile(
        rounds.map((one) => one[key]),
        50,
      );
    return {
      screen,
      scripts: middle("scripts"),
      paintMs: middle("paintMs"),
      usableMs: middle("usableMs"),
      shift: Math.max(...rounds.map(({ shift }) => shift)),
    };
  }

  async #loadOnce(path: string, usable: string): Promise<Omit<ScreenLoad, "screen">> {
    const page = await this.#open();
    await page.addInitScript(watchFor(usable));
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Network.clearBrowserCache");
    await cdp.send("Network.emulateNetworkConditions", SLOW_4G);
    await cdp.send("Emulation.setCPUThrottlingRate", { rate: 4 });
    const scripts = new Set<string>();
    page.on("request", (request) => {
      const { pathname } = new URL(request.url());
      if (pathname.startsWith("/assets/") && pathname.endsWith(".js")) scripts.add(pathname);
    });
    await page.goto(this.#server.url + path, { waitUntil: "commit" });
    const usableMs = await readUsable(cdp);
    const paintMs = await page.evaluate<number>(
      "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN",
    );
    const shift = await page.evaluate<number>("bench.shift");
    await page.context().close();
    const bytes = [...scripts].reduce(
      (sum, name) => sum + gzipSync(readFileSync(join(packageRoot(), "dist/web", name)), { level: 9 }).length,
      0,
    );
    return { scripts: bytes, paintMs, usableMs, shift };
  }

  /** From the tap on a row to a log that is complete, ms; nothing of it was seen before. */
  async openLog(id: string): Promise<number> {
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const page = await this.#open();
      const row = page.locator(`a[href="/tasks/${id}"]`);
      await row.waitFor();
      const begun = await page.evaluate<number>("performance.now()");
      await row.click();
      await page.getByLabel("Connection: complete").waitFor({ timeout: LIMIT_MS });
      times.push((await page.evaluate<number>("performance.now()")) - begun);
      await page.context().close();
    }
    return percentile(times, 50);
  }

  async openOutput(id: string): Promise<{ ms: number; longestMs: number }> {
    const page = await this.#open();
    await page.goto(`${this.#server.url}/tasks/${id}`);
    await page.getByLabel("Connection: complete").waitFor({ timeout: LIMIT_MS });
    await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)");
    await page.locator("details.fold > summary").last().click();
    const tool = page.locator("details.tool").last();
    await tool.locator("summary").click();
    const whole = page.getByRole("button", { name: "Whole output" });
    await whole.waitFor();
    await page.evaluate("bench.longest = 0");
    const begun = await page.evaluate<number>("performance.now()");
    await whole.click();
    await whole.waitFor({ state: "detached", timeout: LIMIT_MS });
    const ms = (await page.evaluate<number>("performance.now()")) - begun;
    const longestMs = await page.evaluate<number>("bench.longest");
    await page.context().close();
    return { ms, longestMs };
  }

  async openDiff(id: string): Promise<{ ms: number; longestMs: number }> {
    const page = await this.#open();
    await page.goto(`${this.#server.url}/tasks/${id}`);
    await page.getByLabel("Connection: complete").waitFor({ timeout: LIMIT_MS });
    await page.evaluate("bench.longest = 0");
    const begun = await page.evaluate<number>("performance.now()");
    await page
      .getByRole("link", { name: /^Changes/ })
      .last()
      .click();
    await page.locator(".filerow").first().waitFor({ timeout: LIMIT_MS });
    const ms = (await page.evaluate<number>("performance.now()")) - begun;
    const longestMs = await page.evaluate<number>("bench.longest");
    await page.context().close();
    return { ms, longestMs };
  }

  /** The longest task of a page that watches a command print. */
  async print(): Promise<number> {
    const page = await this.#open();
    const print = `sleep 3; yes 'src/app/main.ts: ok' | head -c ${PRINTED_BYTES}`;
    const id = await this.submit([{ say: "Prints now." }, { bash: print }, { say: "Has printed." }]);
    await page.goto(`${this.#server.url}/tasks/${id}`);
    await page.getByText("Prints now.", { exact: true }).waitFor({ timeout: LIMIT_MS });
    await page.evaluate("bench.longest = 0");
    await page.getByLabel("Connection: complete").waitFor({ timeout: LIMIT_MS });
    const longestMs = await page.evaluate<number>("bench.longest");
    await page.context().close();
    return longestMs;
  }

  /** A task of the agent, on a page from its first event on. */
  async watch<T>(agent: string, look: (page: Page) => Promise<T>): Promise<T> {
    const page = await this.#open();
    const body = { repo: this.#repo, prompt: "Talk to the page.", agent };
    const { id } = (await this.#call("POST", "/v1/tasks", body)) as { id: string };
    await page.goto(`${this.#server.url}/tasks/${id}`);
    const found = await look(page);
    await page.context().close();
    await this.until(id, "done");
    return found;
  }
}
