/**
 * The app without a server, in a real browser: it starts, shows what was seen, and keeps what the
 * person sends until the server is back.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import express, { type RequestHandler } from "express";
import { afterAll, afterEach, beforeAll, describe, expect } from "vitest";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { serveWebApp } from "../../src/http/web-app.ts";
import { describeWithBrowser, launchBrowser, openPage } from "../support/browser/browser.ts";
import { runWithModules } from "../support/browser/module-page.ts";
import { findRegistration, openWebRig, taskState, untilControlled, type WebRig } from "../support/browser/rig.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(3);

const ROOT = join(import.meta.dirname, "../..");
const PUBLIC = join(ROOT, "web/public");
const ASK = [
  { say: "I looked at the voucher." },
  { ask: { question: "Tabs or spaces?", options: ["Tabs", "Spaces"] } },
  { finish: { title: "t", summary: "s" } },
];

/** A service worker has a network of its own, and sends what the page keeps. */
const NO_WORKER = { serviceWorkers: "block" } as const;

describe("what makes the app installable", () => {
  it.always("[P7] every icon of the manifest is there in the size that it says, one of them maskable", () => {
    const manifest = JSON.parse(readFileSync(join(PUBLIC, "manifest.webmanifest"), "utf8")) as {
      icons: { src: string; sizes: string; type: string; purpose: string }[];
    };
    const images = manifest.icons.filter(({ type }) => type === "image/png");
    const sizes = images.map(({ src }) => {
      const header = readFileSync(join(PUBLIC, src));
      return `${header.readUInt32BE(16)}x${header.readUInt32BE(20)}`;
    });
    expect(sizes).toEqual(images.map((icon) => icon.sizes));
    expect(sizes).toEqual(["192x192", "512x512", "512x512"]);
    expect(images.map(({ purpose }) => purpose)).toContain("maskable");
  });
});

describeWithBrowser("the app without a server", () => {
  let rig: WebRig;

  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  it("[P7] a page that was open once starts without a server, and shows tasks and logs that were seen", async () => {
    const id = await rig.submit("Asks before a tunnel", ASK);
    await rig.until(id, (task) => task.question !== null, "the question");
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.getByRole("link", { name: /Asks before a tunnel/ }).click();
    await page.getByText("I looked at the voucher.").waitFor();
    await page.getByLabel(/Connection: in sync at/).waitFor();
    await untilControlled(page);
    await expect.poll(() => page.evaluate(COUNT_ROWS)).toBeGreaterThan(2);
    expect(errors).toEqual([]);
    await rig.server().kill();
    await page.reload();
    await page.getByText("I looked at the voucher.").waitFor();
    await page.getByLabel(/Connection: no connection at/).waitFor();
    await expect.poll(() => taskState(page).textContent()).toBe("running");
    await page.goto(`${rig.server().url}/`);
    await page.getByText("No connection since").waitFor();
    await page.getByRole("link", { name: /Asks before a tunnel/ }).waitFor();
    // Screens that were never opened are there as well.
    await page.getByRole("link", { name: "You", exact: true }).click();
    await page.getByRole("heading", { name: "You", exact: true }).waitFor();
    await rig.restart();
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByLabel(/Connection: in sync at/).waitFor();
  });

  it("[P8] an answer, a message and a task that were made without a server are applied once each, in order", async () => {
    const id = await rig.submit("Hears later", ASK);
    await rig.until(id, (task) => task.question !== null, "the question");
    const { page } = await rig.open();
    await rig.logIn(page);
    await page.getByRole("link", { name: /Hears later/ }).click();
    await page.getByText("I looked at the voucher.").waitFor();
    await untilControlled(page);
    await rig.server().kill();
    await page.getByLabel("Message").fill("Then add a line to the changelog");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByRole("listitem", { name: /waiting, Message/ }).waitFor();
    await page.getByRole("radio", { name: "Spaces" }).check();
    await page.getByRole("button", { name: "Answer" }).click();
    await page.getByText("Kept on this device.").waitFor();
    await page.goto(`${rig.server().url}/new`);
    await page.getByLabel("Repository").fill(rig.repo);
    await page.getByRole("textbox", { name: "Prompt" }).fill("write later.txt=1");
    await page.getByRole("button", { name: "Start task" }).click();
    await page.getByRole("listitem", { name: /waiting, New task/ }).waitFor();
    // Nothing depends on the page that made them.
    await page.reload();
    await expect.poll(() => page.getByRole("listitem", { name: /^waiting, / }).count()).toBe(3);
    // The button is there until the app finds the server by itself.
    await page.route("**/v1/tasks?**", (route) => route.abort());
    await rig.restart();
    await page.getByRole("button", { name: "Try now" }).click();
    await page.unrouteAll({ behavior: "ignoreErrors" });
    await page.getByRole("listitem", { name: /sent, New task/ }).waitFor();
    await rig.until(id, (task) => task.state === "done", "the end");
    const events = await rig.server().events(id);
    expect(events.filter(({ type }) => type === "answer").map(({ data }) => data["text"])).toEqual(["Spaces"]);
    const said = events.filter(({ type, data }) => type === "message" && data["role"] === "user");
    expect(said.map(({ data }) => data["text"] ?? data["content"])).toHaveLength(1);
    const { body } = await rig.call("GET", "/v1/tasks?limit=200");
    const made = (body as { items: WireTask[] }).items.filter((task) => task.prompt === "write later.txt=1");
    expect(made).toHaveLength(1);
  });

  it("[P8] what waits is sent by the service worker when no page of the app is open, once", async () => {
    const id = await rig.submit("Is heard without a page", ASK);
    await rig.until(id, (task) => task.question !== null, "the question");
    const { page } = await rig.open();
    // The browser's own sync could come after the restart; the one of the test is the only one.
    await page.addInitScript("SyncManager.prototype.register = async () => undefined");
    await rig.logIn(page);
    await page.getByRole("link", { name: /Is heard without a page/ }).click();
    await page.getByText("I looked at the voucher.").waitFor();
    await untilControlled(page);
    const session = await page.context().newCDPSession(page);
    const registrationId = await findRegistration(session);
    const origin = rig.server().url;
    await rig.server().kill();
    await page.getByLabel("Message").fill("Then add a line to the changelog");
    await page.getByRole("button", { name: "Send" }).click();
    await page.getByRole("listitem", { name: /waiting, Message/ }).waitFor();
    await page.goto("about:blank");
    await rig.restart();
    const said = async (): Promise<number> =>
      (await rig.server().events(id)).filter(({ type, data }) => type === "message" && data["role"] === "user").length;
    expect(await said()).toBe(0);
    const sync = { origin, registrationId, tag: "slipway-outbox", lastChance: false };
    await session.send("ServiceWorker.dispatchSyncEvent", sync);
    await expect.poll(said).toBe(1);
    await page.goto(`${origin}/tasks/${id}`);
    await page.getByRole("listitem", { name: /sent, Message/ }).waitFor();
    expect(await page.getByRole("listitem", { name: /waiting/ }).count()).toBe(0);
    expect(await said()).toBe(1);
  });

  it("[P8] what the server rejects later is shown as failed, and its text can be taken back", async () => {
    const id = await rig.submit("Is answered elsewhere", ASK);
    const asking = await rig.until(id, (task) => task.question !== null, "the question");
    const { page } = await rig.open(NO_WORKER);
    await rig.logIn(page);
    const row = page.getByRole("listitem").filter({ hasText: "Is answered elsewhere" });
    await row.getByRole("button", { name: "Tabs" }).waitFor();
    await page.route("**/v1/**", (route) => route.abort());
    await row.getByRole("button", { name: "Tabs" }).click();
    await page.getByRole("listitem", { name: /waiting, Answer/ }).waitFor();
    const answer = { questionId: asking.question!.id, text: "Spaces" };
    expect((await rig.call("POST", `/v1/tasks/${id}/answer`, answer)).status).toBe(200);
    await page.unroute("**/v1/**");
    const failed = page.getByRole("listitem", { name: /failed, Answer/ });
    await failed.getByText("Somebody answered first").waitFor();
    await failed.getByRole("button", { name: "Take back" }).click();
    await failed.waitFor({ state: "detached" });
  });

  it("[P8] an answer that comes too late at once says so, though its question is gone from the screen", async () => {
    const id = await rig.submit("Asks in haste", ASK);
    await rig.until(id, (task) => task.question !== null, "the question");
    const { page } = await rig.open(NO_WORKER);
    await rig.logIn(page);
    const row = page.getByRole("listitem").filter({ hasText: "Asks in haste" });
    let release = (): void => undefined;
    const gone = new Promise<void>((resolve) => (release = resolve));
    await page.route("**/answer", async (route) => {
      await gone;
      await route.continue();
    });
    await row.getByRole("button", { name: "Tabs" }).click();
    await rig.call("POST", `/v1/tasks/${id}/cancel`);
    await row.getByRole("button", { name: "Spaces" }).waitFor({ state: "detached" });
    release();
    const failed = page.getByRole("listitem", { name: /failed, Answer/ }).filter({ hasText: "The question expired" });
    await failed.waitFor();
    await page.reload();
    await failed.waitFor();
    await failed.getByRole("button", { name: "Take back" }).click();
    await failed.waitFor({ state: "detached" });
  });

  it("[P9] after the log-out nothing of the person is left on the device", async () => {
    const id = await rig.submit("Is seen once", [{ say: "a secret" }, { finish: { title: "t", summary: "s" } }]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const { page } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByLabel("Connection: complete").waitFor();
    await page.getByPlaceholder("Follow up").fill("a draft");
    await expect.poll(() => page.evaluate(COUNT_ROWS)).not.toBe(0);
    await page.goto(`${rig.server().url}/you`);
    await page.getByRole("button", { name: "Log out" }).click();
    await page.getByRole("heading", { name: "Log in to Slipway" }).waitFor();
    expect(await page.evaluate(COUNT_ROWS)).toBe(0);
    expect(await page.evaluate<string>("JSON.stringify({ ...localStorage })")).not.toMatch(/draft|mira/);
  });
});

/** Rows in all databases of the page. */
const COUNT_ROWS = `(async () => {
  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  let rows = 0;
  for (const { name } of await indexedDB.databases()) {
    const db = await done(indexedDB.open(name));
    for (const store of db.objectStoreNames) rows += await done(db.transaction(store).objectStore(store).count());
    db.close();
  }
  return rows;
})()`;

const KEPT = ["lib/device/kept.ts"];

describeWithBrowser("what is kept on the device", () => {
  it("[P9] logs are without holes, within their bytes; the one that was read longest ago goes first", async () => {
    const seqs = await runWithModules<Record<string, number[]>>(
      KEPT,
      "kept",
      `(async () => {
        const events = (from, to) =>
          Array.from({ length: to - from + 1 }, (_, i) => ({ seq: from + i, type: "say", data: { text: "x".repeat(80) } }));
        kept.openKept("p1", { tasks: 2, log: 1_000, logs: 2_500 });
        await kept.keepEvents("a", events(1, 3), 1);
        await kept.keepEvents("a", events(2, 5), 2);
        await kept.keepEvents("a", events(7, 8), 3);
        const first = await kept.readLog("a", 4);
        await kept.keepEvents("a", events(6, 40), 5);
        const bounded = await kept.readLog("a", 6);
        await kept.keepEvents("b", events(1, 40), 7);
        await kept.readLog("a", 8);
        await kept.keepEvents("c", events(1, 40), 9);
        const seqs = { first, bounded, a: await kept.readLog("a"), b: await kept.readLog("b"), c: await kept.readLog("c") };
        return Object.fromEntries(Object.entries(seqs).map(([name, { run }]) => [name, run.map(({ seq }) => seq)]));
      })()`,
    );
    expect(seqs["first"]).toEqual([1, 2, 3, 4, 5]);
    expect(seqs["bounded"]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    expect(seqs["a"]).toEqual(seqs["bounded"]);
    expect(seqs["b"]).toEqual([]);
    expect(seqs["c"]).toHaveLength(8);
  });

  it("[P9] [P15] the ends of a long log are kept in place of a run that ends before them, and go on from there", async () => {
    const found = await runWithModules<Record<string, { begin: number[]; run: number[] }>>(
      KEPT,
      "kept",
      `(async () => {
        const events = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => ({ seq: from + i, type: "say" }));
        const seqs = ({ begin, run }) => ({ begin: begin.map(({ seq }) => seq), run: run.map(({ seq }) => seq) });
        kept.openKept("p1", { tasks: 2, log: 1_000, logs: 2_500 });
        await kept.keepEnds("a", { begin: [], run: events(1, 3) });
        const whole = seqs(await kept.readLog("a"));
        await kept.keepEnds("a", { begin: events(1, 2), run: events(3, 5) });
        const longer = seqs(await kept.readLog("a"));
        await kept.keepEnds("a", { begin: events(1, 2), run: events(10, 12) });
        await kept.keepEvents("a", events(6, 13));
        await kept.keepEnds("a", { begin: events(1, 2), run: events(7, 9) });
        const ends = seqs(await kept.readLog("a"));
        await kept.keepEnds("a", { begin: events(1, 2), run: events(100, 900) });
        return { whole, longer, ends, large: seqs(await kept.readLog("a")) };
      })()`,
    );
    expect(found["whole"]).toEqual({ begin: [], run: [1, 2, 3] });
    expect(found["longer"]).toEqual({ begin: [], run: [1, 2, 3, 4, 5] });
    expect(found["ends"]).toEqual({ begin: [1, 2], run: [10, 11, 12, 13] });
    expect(found["large"]).toEqual(found["ends"]);
  });

  it("[P9] what arrives while a log-out deletes is not kept any more", async () => {
    const rows = await runWithModules<number>(
      KEPT,
      "kept",
      `(async () => {
      kept.openKept("p1");
      await kept.keepTasks([{ id: "before" }]);
      const left = kept.forgetKept("everything");
      await Promise.all([left, kept.keepTasks([{ id: "late" }]), kept.keepEvents("a", [{ seq: 1 }], 1)]);
      return ${COUNT_ROWS};
    })()`,
    );
    expect(rows).toBe(0);
  });
});

/** Serves the files of the app alone. @param before answers first; absent = nothing does. */
function serveApp(dir: string, port: number, before?: RequestHandler): Promise<Server> {
  return new Promise((resolve) => {
    const app = express();
    if (before !== undefined) app.use(before);
    serveWebApp(app, dir);
    const server = app.listen(port, "127.0.0.1", () => resolve(server));
  });
}

describeWithBrowser("a first version of the app", () => {
  for (const [part, dest, path] of [
    ["script", "serviceworker", "/sw.js"],
    ["files", "empty", "/assets/"],
  ] as const)
    it(`[P7] is installed later when its ${part} cannot be loaded at first`, async () => {
      let failures = 0;
      const server = await serveApp(join(ROOT, "dist/web"), 0, (request, response, next) => {
        const isPart = request.headers["sec-fetch-dest"] === dest && request.path.startsWith(path);
        if (!isPart || failures === 1) return next();
        failures += 1;
        return response.status(503).end();
      });
      const browser = await launchBrowser();
      try {
        const { page } = await openPage(browser);
        await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/login`);
        await untilControlled(page);
        expect(failures).toBe(1);
      } finally {
        await browser.close();
        server.closeAllConnections();
        server.close();
      }
    });
});

describeWithBrowser("a new version of the app", () => {
  for (const [isForced, when] of [
    [false, ""],
    [true, " after a forced reload too"],
  ] as const)
    it(`[P7] is offered${when}, and taken by a reload when the person says so; a page keeps its version`, async () => {
      const dir = mkdtempSync(join(tmpdir(), "slipway-version-"));
      cpSync(join(ROOT, "dist/web"), dir, { recursive: true });
      let server = await serveApp(dir, 0);
      const { port } = server.address() as AddressInfo;
      const browser = await launchBrowser();
      try {
        const { page } = await openPage(browser);
        const version = (): Promise<unknown> => page.evaluate("document.documentElement.dataset.version");
        await page.goto(`http://127.0.0.1:${port}/login`);
        await untilControlled(page);
        if (isForced) {
          // Such a page has no service worker of its own.
          const session = await page.context().newCDPSession(page);
          await session.send("Page.reload", { ignoreCache: true });
          await expect.poll(() => page.evaluate("navigator.serviceWorker.controller")).toBe(null);
          // The files come from the server, which ends now.
          await page.getByRole("button", { name: "Log in" }).waitFor();
          await page.waitForLoadState("networkidle");
        }
        server.closeAllConnections();
        server.close();
        for (const name of ["index.html", "sw.js"]) {
          const old = readFileSync(join(dir, name), "utf8");
          const next = old.replace("<html ", '<html data-version="2" ').replace(/version:"/, 'version:"2');
          writeFileSync(join(dir, name), next);
          for (const ending of ["br", "gz"]) rmSync(join(dir, `${name}.${ending}`));
        }
        server = await serveApp(dir, port);
        await page.evaluate("navigator.serviceWorker.getRegistration().then((known) => known.update())");
        await page.getByText("A new version is here.").waitFor();
        expect(await version()).toBeUndefined();
        await page.getByRole("button", { name: "Reload" }).click();
        await expect.poll(version).toBe("2");
        const names = await page.evaluate<string[]>("caches.keys()");
        await expect.poll(() => page.evaluate<string[]>("caches.keys()")).toHaveLength(1);
        expect(names.at(-1)).toContain("shell-2");
      } finally {
        await browser.close();
        server.closeAllConnections();
        server.close();
        rmSync(dir, { recursive: true });
      }
    });
});
