/** The inbox of a person with more tasks than it loads: what is older is asked of the server. */
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, NARROW } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(4);

/** The app loads 200, and a page of older ones has 50. */
const LATER = 265;
const ENV = { SLIPWAY_USER_TASKS_PER_MINUTE: "0", SLIPWAY_USER_OPEN_TASKS: "0" };

describeWithBrowser("an inbox of many tasks", () => {
  let rig: WebRig;
  let mole: string;
  beforeAll(async () => {
    rig = await openWebRig(ENV);
    mole = rig.repo.replace("storefront", "mole");
    const question = { ask: { question: "Which quay?", options: ["North", "South"] } };
    const asking = await rig.submit("Asks about the quay", [question]);
    await rig.until(asking, ({ question: asked }) => asked !== null, "the question");
    await rig.server().call("POST", "/v1/ops/queue/pause");
    // Settled, so that the server has no reason to send them again.
    const settle = async (title: string, more: object = {}): Promise<void> => {
      const id = await rig.submit(title, [{ finish: { title: "t", summary: "s" } }], more);
      await rig.call("POST", `/v1/tasks/${id}/cancel`);
    };
    await settle("Counts the crates", { prompt: "Look for marmalade in the hold." });
    await settle("Mends the mole", { repo: mole });
    await settle("Paints the mole", { repo: mole });
    for (let i = 0; i < LATER; i += 5)
      await Promise.all(Array.from({ length: 5 }, (_, j) => settle(`Loads crate ${i + j}`)));
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  const rows = (page: Page) => page.locator("#main .row-link");
  async function open(search: string): Promise<{ page: Page; errors: string[] }> {
    const { page, errors } = await rig.open({ viewport: NARROW });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/${search}`);
    return { page, errors };
  }

  it("[P11] each filter of the address finds what is older than the list, also a word of a prompt", async () => {
    const { page, errors } = await open("?q=marmalade");
    await rows(page).filter({ hasText: "Counts the crates" }).waitFor();
    expect(await rows(page).count()).toBe(1);
    await page.goto(`${rig.server().url}/?needs=true`);
    await rows(page).filter({ hasText: "Asks about the quay" }).waitFor();
    expect(await rows(page).count()).toBe(1);
    // No task that the app has loaded names this repository.
    await page.goto(`${rig.server().url}/?repo=mole`);
    await rows(page).filter({ hasText: "Mends the mole" }).waitFor();
    await rows(page).filter({ hasText: "Paints the mole" }).waitFor();
    expect(await rows(page).count()).toBe(2);
    expect(await page.getByRole("button", { name: "mole", pressed: true }).count()).toBe(1);
    await page.goto(`${rig.server().url}/?repo=mole&q=paints`);
    await rows(page).filter({ hasText: "Paints the mole" }).waitFor();
    await expect.poll(() => rows(page).count()).toBe(1);
    await page.goto(`${rig.server().url}/?q=nothing-of-this-name`);
    await page.getByRole("heading", { name: "No task matches" }).waitFor();
    expect(errors).toEqual([]);
  });

  it("[P11] the counts are those of all tasks, and a filter is left by its chip", async () => {
    const { page } = await open("");
    await page.getByRole("button", { name: `All ${LATER + 4}` }).waitFor();
    await page.getByRole("button", { name: "Needs you 1" }).click();
    await expect.poll(() => page.url()).toContain("needs=true");
    await rows(page).filter({ hasText: "Asks about the quay" }).waitFor();
    await page.getByRole("button", { name: /^All/ }).click();
    await rows(page)
      .filter({ hasText: `Loads crate ${LATER - 1}` })
      .waitFor();
  });

  it.each(["", "?q=crate", "?mine=true"])("[P11] paging under %j reaches the oldest task", async (search) => {
    const { page, errors } = await open(search);
    const oldest = search === "?q=crate" ? "Counts the crates" : "Mends the mole";
    await expect
      .poll(async () => {
        const more = page.locator("button.more-row").last();
        if (await more.isVisible()) await more.click({ timeout: 1_000 }).catch(() => undefined);
        return await rows(page).filter({ hasText: oldest }).count();
      })
      .toBe(1);
    const wanted = search === "?q=crate" ? LATER + 1 : LATER + 4;
    await expect
      .poll(async () => {
        for (const more of await page.locator("button.more-row").all())
          await more.click({ timeout: 1_000 }).catch(() => undefined);
        return await rows(page).count();
      })
      .toBe(wanted);
    expect(errors).toEqual([]);
  });

  it("[P11] what is open is listed, however old; the stream sends what changes after the list was read, not all tasks again", async () => {
    const { page, errors } = await rig.open({ viewport: NARROW });
    await rig.logIn(page);
    const sent: string[] = [];
    page.on("websocket", (socket) =>
      socket.on("framereceived", ({ payload }) => {
        const { type, topic, items } = JSON.parse(String(payload)) as {
          type: string;
          topic?: string;
          items?: { title: string }[];
        };
        if (type === "events" && topic === "tasks:all") sent.push(...(items ?? []).map(({ title }) => title));
      }),
    );
    await page.goto(rig.server().url);
    await rows(page).filter({ hasText: "Asks about the quay" }).waitFor();
    await page.getByLabel("Connection: in sync").waitFor();
    await rig.submit("Arrives on the tide", [{ finish: { title: "t", summary: "s" } }]);
    await rows(page).filter({ hasText: "Arrives on the tide" }).waitFor();
    expect(sent).toContain("Arrives on the tide");
    expect(sent.length).toBeLessThan(10);
    expect(errors).toEqual([]);
  });

  // The last one: it makes tasks.
  it("[P11] the console counts a queue that it does not list, and lists what began before it", async () => {
    const queued: string[] = [];
    for (let i = 0; i < 210; i += 5)
      queued.push(...(await Promise.all(Array.from({ length: 5 }, (_, j) => rig.submit(`Waits as ${i + j}`, [])))));
    const { page, errors } = await rig.open({ viewport: NARROW });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/console`);
    const { counts } = (await rig.call("GET", "/v1/ops/overview")).body as { counts: { queued: number } };
    expect(counts.queued).toBeGreaterThanOrEqual(210);
    await page.getByText(`slots are in use, ${counts.queued} tasks wait`).waitFor();
    const queue = page.getByRole("region", { name: "Queue", exact: true });
    await queue.getByText(`${counts.queued} tasks, 100 of them below`).waitFor();
    await queue.getByRole("cell", { name: "Waits as 0", exact: true }).waitFor();
    await page
      .getByRole("region", { name: /^(?:Slots|Parked and retrying)$/ })
      .getByText("Asks about the quay")
      .waitFor();
    for (let i = 0; i < queued.length; i += 5)
      await Promise.all(queued.slice(i, i + 5).map((id) => rig.call("POST", `/v1/tasks/${id}/cancel`)));
    expect(errors).toEqual([]);
  });
});
