/**
 * What is on a screen stays where it is: while the screen loads on a slow network, and while a task
 * emits.
 */
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { describeWithBrowser, NARROW, WIDE } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { readShifts, WATCH_SHIFTS } from "../../support/browser/shifts.ts";
import { sampled } from "../../support/random.ts";

/** 150 ms, 1.6 Mbit/s down: the parts of a screen come one after the other. */
const SLOW = { offline: false, latency: 150, downloadThroughput: 204_800, uploadThroughput: 93_750 };

const TEXT = "Some **bold** words, and a list:\n\n- one\n- two";
const TODO = { todo: [{ text: "Look", status: "in_progress" }] };
const DONE = { finish: { title: "t", summary: TEXT } };

const SIZES = [
  ["a phone", NARROW],
  ["a desk", WIDE],
] as const;

/**
 * A task that is not whole after 2,500 ms is shown as far as it is there, and what comes later may
 * move it. A busy machine needs longer than a phone.
 */
const WAITS = `const later = setTimeout;
  window.setTimeout = (work, ms, ...rest) => later(work, ms === 2500 ? 300000 : ms, ...rest);`;

const SCROLL_TO_END = "scrollTo(0, document.documentElement.scrollHeight)";

/** The addresses that the page asked for and has no whole answer from. */
function watchPending(page: Page): ReadonlySet<string> {
  const pending = new Set<string>();
  page.on("request", (request) => pending.add(request.url()));
  page.on("requestfinished", (request) => pending.delete(request.url()));
  page.on("requestfailed", (request) => pending.delete(request.url()));
  return pending;
}

describeWithBrowser("nothing moves", () => {
  let rig: WebRig;

  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  /** The address of each screen, and a text that is there when all of it is. */
  async function makeScreens(): Promise<readonly (readonly [path: string, text: string | RegExp])[]> {
    const changed = await rig.submit("Is done", [{ say: TEXT }, TODO, { bash: "seq 40 > e.txt" }, DONE]);
    const failed = await rig.submit("Fails", [{ say: TEXT }, { fail: { code: "agent_error", message: "No." } }], {
      maxAttempts: 1,
    });
    const asks = await rig.submit("Asks", [{ say: TEXT }, { ask: { question: "Tabs?", options: ["Yes", "No"] } }]);
    const stopped = await rig.submit("Is stopped", [{ say: TEXT }, rig.gate().step]);
    await rig.until(stopped, (task) => task.state === "running" && task.seq > 8, "the command");
    await rig.call("POST", `/v1/tasks/${stopped}/cancel`);
    for (const id of [changed, failed, stopped]) await rig.until(id, ({ settledAt }) => settledAt !== null, "the end");
    await rig.until(asks, ({ question }) => question !== null, "the question");
    const { body } = await rig.call("POST", `/v1/tasks/${changed}/messages`, { text: "Go on." });
    const { id: next } = body as { id: string };
    await rig.until(next, ({ settledAt }) => settledAt !== null, "the end of the follow-up");
    return [
      ["/", "Done today"],
      ["/new", "Options"],
      ["/console", "Storage"],
      [`/tasks/${changed}`, "Thread of 2 tasks"],
      [`/tasks/${next}`, "Thread of 2 tasks"],
      [`/tasks/${failed}`, "agent_error"],
      [`/tasks/${stopped}`, /^Last charge$/],
      [`/tasks/${asks}`, "Or in your own words"],
      [`/tasks/${changed}/changes`, "e.txt"],
      [`/tasks/${changed}/machine`, "Transitions"],
      [`/tasks/${changed}/thread`, "Fork from here"],
    ];
  }

  /** A fresh device on a slow network. */
  async function look(path: string, text: string | RegExp, viewport: typeof NARROW | typeof WIDE): Promise<string[]> {
    const { page } = await rig.open({ viewport, serviceWorkers: "block" });
    await rig.logIn(page);
    await page.addInitScript(WATCH_SHIFTS);
    await page.addInitScript(WAITS);
    const session = await page.context().newCDPSession(page);
    await session.send("Network.clearBrowserCache");
    await session.send("Network.emulateNetworkConditions", SLOW);
    const pending = watchPending(page);
    try {
      await page.goto(rig.server().url + path);
      await page.locator("#main").getByText(text).first().waitFor();
      await page.waitForLoadState("networkidle");
    } catch (cause) {
      throw new Error(`${path} was not loaded, without an answer: ${[...pending].join(", ")}`, { cause });
    }
    const shifts = await readShifts(page);
    await page.context().close();
    return shifts.map((shift) => `${path}: ${shift}`);
  }

  it.each(sampled(SIZES, 1))(
    "[P10] on %s nothing of a screen moves while it is loaded on a slow network",
    async (_name, viewport) => {
      const shifts: string[] = [];
      for (const [path, text] of await makeScreens()) shifts.push(...(await look(path, text, viewport)));
      expect(shifts).toEqual([]);
    },
  );

  const follow = async (page: Page, text: string): Promise<boolean> => {
    await page.evaluate(SCROLL_TO_END);
    return page.getByText(text, { exact: true }).isVisible();
  };

  it.each(SIZES)(
    "[P10] on %s nothing of a task moves from its queue to its end while the end is followed",
    async (_name, viewport) => {
      await rig.server().call("POST", "/v1/ops/queue/pause");
      const steps = Array.from({ length: 30 }, (_, i) => [{ say: `Part ${i}.` }, { bash: "seq 20" }]).flat();
      const id = await rig.submit("Is followed", [...steps, TODO, { usage: { usd: 0.4 } }, { say: "Almost." }, DONE]);
      const { page } = await rig.open({ viewport });
      await rig.logIn(page);
      await page.goto(`${rig.server().url}/tasks/${id}`);
      await page.getByLabel(/^Connection: in sync at/).waitFor();
      await page.evaluate(WATCH_SHIFTS);
      await rig.server().call("POST", "/v1/ops/queue/resume");
      await expect.poll(() => follow(page, "Almost."), { interval: 100 }).toBe(true);
      await page.getByLabel("Connection: complete").waitFor();
      expect(await readShifts(page)).toEqual([]);
    },
  );
});
