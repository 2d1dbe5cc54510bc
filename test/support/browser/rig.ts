/** A real server with the scripted agent, a person, and browsers that are this person's devices. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, CDPSession, Page } from "playwright-core";
import { expect } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { startGitServer, type GitServer } from "../git-server.ts";
import { eventually, startServer, type RealServer } from "../process/server.ts";
import { launchBrowser, openPage, type WatchedPage } from "./browser.ts";

export const EMAIL = "mira@example.com";
export const PASSWORD = "correct horse battery staple";

export interface WebRig {
  /** The running server; another one after `restart`. */
  readonly server: () => RealServer;
  readonly browser: Browser;
  readonly upstream: GitServer;
  /** A repository of it that tasks can use. */
  readonly repo: string;
  /** Closed by `closeDevices`. */
  open(options?: Parameters<typeof openPage>[1]): Promise<WatchedPage>;
  closeDevices(): Promise<void>;
  /** @param person absent = the person of the rig. */
  logIn(page: Page, person?: { readonly email: string; readonly password: string }): Promise<void>;
  /** A call as the person. */
  call(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }>;
  /** A task of the person, made over HTTP. */
  submit(title: string, script: object[], more?: object): Promise<string>;
  /** A step of a script that lasts until the test opens it, however slow the machine is. */
  gate(): { readonly step: object; open(): void };
  until(id: string, accepts: (task: WireTask) => boolean, what: string): Promise<WireTask>;
  /** Starts a server at the same address, with the same data, after `server().kill()`. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

type Env = Readonly<Record<string, string>>;

/** @param settings may depend on the upstream. @param name of the repository. */
export async function openWebRig(
  settings: Env | ((upstream: GitServer) => Env) = {},
  name = "storefront",
): Promise<WebRig> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-web-"));
  const upstream = await startGitServer();
  const env = typeof settings === "function" ? settings(upstream) : settings;
  const repo = upstream.createRepo(name, { "src/voucher.ts": "const voucher = find(code);\n" }).url;
  const start = (port: string): Promise<RealServer> =>
    startServer({
      dataDir: join(dir, "data"),
      env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, SLIPWAY_LOG_LEVEL: "error", SLIPWAY_PORT: port, ...env },
    });
  let server = await start("0");
  const person = { email: EMAIL, password: PASSWORD, role: "admin" };
  expect((await server.call("POST", "/v1/users", person)).status).toBe(201);
  const browser = await launchBrowser();
  const opened: WatchedPage[] = [];
  let bearer: string | null = null;
  let gates = 0;

  async function logInAgain(): Promise<string> {
    const login = await server.call("POST", "/v1/auth/login", { email: EMAIL, password: PASSWORD });
    return `Bearer ${(login.body as { accessToken: string }).accessToken}`;
  }

  async function call(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
    bearer ??= await logInAgain();
    const answer = await server.call(method, path, body, { authorization: bearer });
    if (answer.status !== 401) return answer;
    // On a busy machine a file of tests takes longer than an access token lives.
    bearer = await logInAgain();
    return server.call(method, path, body, { authorization: bearer });
  }

  return {
    server: () => server,
    browser,
    upstream,
    repo,
    call,
    async open(options = {}) {
      const watched = await openPage(browser, options);
      opened.push(watched);
      return watched;
    },
    async closeDevices() {
      for (const { page } of opened.splice(0)) await page.context().close();
    },
    async logIn(page, person = { email: EMAIL, password: PASSWORD }) {
      await page.goto(`${server.url}/login`);
      await page.getByLabel("E-mail").fill(person.email);
      await page.getByLabel("Password").fill(person.password);
      await page.getByRole("button", { name: "Log in" }).click();
      await page.getByRole("heading", { name: "Inbox" }).waitFor();
    },
    async submit(title, script, more = {}) {
      const answer = await call("POST", "/v1/tasks", { repo, prompt: title, title, script, ...more });
      expect(answer.status).toBe(201);
      return (answer.body as WireTask).id;
    },
    gate() {
      const file = join(dir, `gate-${++gates}`);
      return {
        step: { bash: `until [ -e ${file} ]; do sleep 0.1; done`, timeoutMs: 600_000 },
        open: () => writeFileSync(file, ""),
      };
    },
    until: (id, accepts, what) =>
      eventually(async () => {
        const task = await server.task(id);
        return accepts(task) ? task : null;
      }, what),
    async restart() {
      server = await start(new URL(server.url).port);
    },
    async close() {
      await browser.close();
      // A worker outlives its server.
      const { body } = await server.call("GET", "/v1/tasks?state=running,provisioning,queued");
      for (const { id } of (body as { items: WireTask[] }).items) {
        await server.call("POST", `/v1/tasks/${id}/cancel`);
        await eventually(async () => ((await server.task(id)).settledAt === null ? null : true), "the cancel");
      }
      await server.kill();
      await upstream.close();
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

export const taskState = (page: Page) => page.getByRole("status", { name: "Task state" });

/** Waits for the last part of a list that renders what is near the screen, and grows as it does. */
export async function untilAtEnd(page: Page, text: string): Promise<void> {
  const last = page.getByText(text, { exact: true });
  const look = async (): Promise<number> => {
    await page.evaluate("scrollTo(0, document.documentElement.scrollHeight)");
    return last.count();
  };
  await expect.poll(look).toBe(1);
}

/** Resolves when the page is controlled by a service worker, whose files are complete then. */
export async function untilControlled(page: Page): Promise<void> {
  const state = (): Promise<unknown> => page.evaluate("navigator.serviceWorker.controller?.state");
  await expect.poll(state).toBe("activated");
}

/** The id of the service worker's registration, for commands of the browser. */
export function findRegistration(session: CDPSession): Promise<string> {
  return new Promise((resolve, reject) => {
    session.on("ServiceWorker.workerRegistrationUpdated", ({ registrations }) => {
      const [first] = registrations;
      if (first !== undefined) resolve(first.registrationId);
    });
    session.send("ServiceWorker.enable").catch(reject);
  });
}
