/** When a waiting task usually starts, from how long tasks waited at this server. */
import { afterAll, beforeAll, expect } from "vitest";
import { describeWithBrowser, NARROW, WIDE } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(4);

/** Fewer say nothing. */
const SAMPLES = 5;
/** How long they wait: longer than the screen takes to show a row, ms. */
const WAIT_MS = 25_000;
const FINISH = { finish: { title: "t", summary: "s" } };

describeWithBrowser("the forecast of a waiting row", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig({ SLIPWAY_USER_TASKS_PER_MINUTE: "0" });
  });
  afterAll(() => rig.close());

  it("a queued task says when it usually starts, once five have waited, on a phone and at a desk", async () => {
    const sizes = await Promise.all([NARROW, WIDE].map((viewport) => rig.open({ viewport })));
    for (const { page } of sizes) await rig.logIn(page);
    const pause = () => rig.server().call("POST", "/v1/ops/queue/pause");
    await pause();
    const ids: string[] = [];
    for (let i = 0; i < SAMPLES; i++) ids.push(await rig.submit(`Waits ${i}`, [FINISH]));
    for (const { page } of sizes) {
      await page.getByRole("link", { name: /Waits 4.*the queue is paused/ }).waitFor();
      expect(await page.getByText("usually starts").count()).toBe(0);
    }
    const { createdAt } = await rig.server().task(ids.at(-1)!);
    await expect.poll(() => Date.now() - Date.parse(createdAt)).toBeGreaterThan(WAIT_MS);
    await rig.server().call("POST", "/v1/ops/queue/resume");
    for (const id of ids) await rig.until(id, ({ state }) => state === "done", "the end");
    await pause();
    await rig.submit("Waits as they did", [FINISH]);
    for (const { page, errors } of sizes) {
      await page.getByRole("link", { name: /Waits as they did.*usually starts within a minute/ }).waitFor();
      expect(errors).toEqual([]);
    }
  });
});
