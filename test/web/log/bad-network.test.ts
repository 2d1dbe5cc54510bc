/**
 * The app behind a bad network, in a real browser: connections are cut, the server is killed and
 * started again, everything is late. At the end every device has the server's log and shows it.
 */
import { createHash } from "node:crypto";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect } from "vitest";
import { describeWithBrowser } from "../../support/browser/browser.ts";
import { EMAIL, openWebRig, PASSWORD, taskState, untilControlled, type WebRig } from "../../support/browser/rig.ts";
import { startTunnel, type Tunnel } from "../../support/browser/tunnel.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(2);

const LINES = 80;
const CUTS = 30;
const OFFLINE_MS = 10_000;
const LATENCY_MS = 250;
/** Each line is one message, two events of a tool and a pause. */
const EMIT = Array.from({ length: LINES }, (_, i) => [{ say: `line ${i + 1} of the log` }, { bash: "sleep 0.15" }]);
const ASK = [
  { ask: { question: "Tabs or spaces?", options: ["Tabs", "Spaces"] } },
  { finish: { title: "t", summary: "s" } },
];

describeWithBrowser("the app behind a bad network", () => {
  let rig: WebRig;
  let tunnel: Tunnel;

  beforeAll(async () => {
    tunnel = await startTunnel();
    rig = await openWebRig({ SLIPWAY_ALLOWED_ORIGINS: tunnel.url });
    tunnel.aim(rig.server().url);
  });
  afterAll(async () => {
    await rig.close();
    await tunnel.close();
  });

  it("[P5] [P8] cut 30 times, away for 10 s, the server killed, half a second late: two tabs and a second device have the server's log", async () => {
    const asking = await rig.submit("Asks through a tunnel", ASK);
    await rig.until(asking, (task) => task.question !== null, "the question");
    // The task works at least until it has the message.
    const heard = rig.gate();
    const id = await rig.submit("Writes many events", [
      ...EMIT.slice(0, 60).flat(),
      heard.step,
      ...EMIT.slice(60).flat(),
      { finish: { title: "t", summary: "The end of the log." } },
    ]);
    const { page: first } = await rig.open();
    await logIn(first, tunnel.url);
    const second = await first.context().newPage();
    const { page: device } = await rig.open();
    await logIn(device, tunnel.url);
    const pages = [first, second, device];
    await Promise.all(pages.map((page) => page.goto(`${tunnel.url}/tasks/${id}`)));
    await rig.until(id, (task) => task.state === "running", "running");
    for (const page of pages) {
      await page.getByLabel(/^Connection: in sync/).waitFor();
      await untilControlled(page);
    }

    for (let n = 0; n < CUTS; n++) {
      await expect.poll(tunnel.streams, { interval: 20 }).toBeGreaterThan(0);
      tunnel.cut();
    }

    // Taps without a network: a message here, an answer in the list of the other tab.
    tunnel.open(false);
    const back = new Promise((resolve) => setTimeout(resolve, OFFLINE_MS));
    await first.getByLabel("Message").fill("Then add a line to the changelog");
    await first.getByRole("button", { name: "Send" }).click();
    await first.getByRole("listitem", { name: /waiting, Message/ }).waitFor();
    await second.getByRole("link", { name: "Back" }).click();
    const row = second.getByRole("listitem").filter({ hasText: "Asks through a tunnel" });
    await row.getByRole("button", { name: "Spaces" }).click();
    await second.getByRole("listitem", { name: /waiting, Answer/ }).waitFor();
    await back;

    await rig.server().kill("SIGKILL");
    tunnel.delay(LATENCY_MS);
    tunnel.open(true);
    await rig.restart();
    await second.goto(`${tunnel.url}/tasks/${id}`);

    const readSaid = async (): Promise<unknown[]> => (await rig.server().events(id)).filter(isSaid);
    await expect.poll(readSaid).toHaveLength(1);
    heard.open();
    await rig.until(id, (task) => task.state === "done", "the end of the log");
    await rig.until(asking, (task) => task.state === "done", "the end of the other task");
    const events = await rig.server().events(id);
    const digest = digestOf(events.map((event) => JSON.stringify(event)));
    for (const page of pages) {
      await page.getByLabel("Connection: complete").waitFor();
      await expect.poll(() => taskState(page).textContent()).toBe("done");
      await expect.poll(async () => digestOf(await page.evaluate<string[]>(readKept(id)))).toBe(digest);
      expect(await readLines(page)).toEqual(Array.from({ length: LINES }, (_, i) => i + 1));
    }
    expect(events.filter(isSaid)).toHaveLength(1);
    const answers = (await rig.server().events(asking)).filter(({ type }) => type === "answer");
    expect(answers.map(({ data }) => data["text"])).toEqual(["Spaces"]);
  });

  it("[P5] while the task itself cannot be read its state comes from the log, and it is read again until that succeeds", async () => {
    const opened = rig.gate();
    const id = await rig.submit("Is read late", [opened.step, { finish: { title: "t", summary: "Read late." } }]);
    const { page } = await rig.open();
    await logIn(page, rig.server().url);
    // The log's stream works; the list's stream, the list and, but once, the task itself do not.
    let isCut = true;
    let reads = 0;
    await page.context().route(`**/v1/tasks/${id}`, (route) => {
      reads++;
      return isCut && reads > 1 ? route.abort() : route.continue();
    });
    await page.context().route("**/v1/tasks?**", (route) => (isCut ? route.abort() : route.continue()));
    await page.context().routeWebSocket(/\/v1\/stream/, (socket) => {
      const server = socket.connectToServer();
      socket.onMessage((frame) => {
        if (isCut && String(frame).includes(`"topic":"tasks"`)) void socket.close();
        else server.send(frame);
      });
    });
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await expect.poll(() => taskState(page).textContent()).toBe("running");
    opened.open();
    await expect.poll(() => taskState(page).textContent()).toBe("done");
    await expect.poll(() => reads).toBeGreaterThan(3);
    expect(await page.getByText("Read late.").count()).toBe(0);
    isCut = false;
    await page.getByText("Read late.").first().waitFor();
  });
});

async function logIn(page: Page, url: string): Promise<void> {
  await page.goto(`${url}/login`);
  await page.getByLabel("E-mail").fill(EMAIL);
  await page.getByLabel("Password").fill(PASSWORD);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { name: "Inbox" }).waitFor();
}

/** Whether an event is a message of a person. */
const isSaid = ({ type, data }: { readonly type: string; readonly data: Readonly<Record<string, unknown>> }): boolean =>
  type === "message" && data["role"] === "user";

const digestOf = (events: readonly string[]): string =>
  `${events.length} ${createHash("sha256").update(events.join("\n")).digest("hex")}`;

/** The log of the task that the page keeps on its device, in order. */
const readKept = (id: string): string => `(async () => {
  const done = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const [{ name }] = (await indexedDB.databases()).filter(({ name }) => name.startsWith("slipway-"));
  const db = await done(indexedDB.open(name));
  const range = IDBKeyRange.bound(["${id}", 0], ["${id}", Number.MAX_SAFE_INTEGER]);
  const parts = await done(db.transaction("parts").objectStore("parts").getAll(range));
  db.close();
  return parts.flat().map((event) => JSON.stringify(event));
})()`;

/** Resolves after the paint of what came into sight, to true when nothing more can. */
const scrollAndPaint = (scroll: string): string => `new Promise((resolve) => {
  const before = scrollY;
  ${scroll};
  requestAnimationFrame(() => requestAnimationFrame(() => resolve(scrollY === before)));
})`;

/** The numbers of the lines that the page shows, read from its beginning to its end. */
async function readLines(page: Page): Promise<number[]> {
  const shown = new Map<number, number>();
  await page.bringToFront();
  await page.evaluate(scrollAndPaint("scrollTo(0, 0)"));
  for (let isEnd = false; !isEnd;) {
    const texts = await page.getByText(/^line \d+ of the log$/).allTextContents();
    const numbers = texts.map((text) => Number(/\d+/.exec(text)?.[0]));
    for (const number of numbers) shown.set(number, numbers.filter((other) => other === number).length);
    isEnd = await page.evaluate<boolean>(scrollAndPaint("scrollBy(0, innerHeight / 2)"));
  }
  expect([...shown.values()].every((count) => count === 1)).toBe(true);
  return [...shown.keys()];
}
