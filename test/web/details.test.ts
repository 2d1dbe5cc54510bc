/** Details of screens in a browser: how long a task stays, and the words of the chart. */
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { describeWithBrowser, NARROW, WIDE } from "../support/browser/browser.ts";
import { findMisfits } from "../support/browser/misfits.ts";
import { EMAIL, openWebRig, PASSWORD, type WebRig } from "../support/browser/rig.ts";

const DAYS = 30;
const OPERATOR = { email: "otto@example.com", password: PASSWORD };
const DONE = [{ finish: { title: "t", summary: "It came to its end." } }];

/** The names of states of the charts in sight that stand out of their boxes. */
const FIND_WIDE_NAMES = `[...document.querySelectorAll("svg.chart-art")]
  .filter((chart) => chart.checkVisibility())
  .flatMap((chart) => [...chart.querySelectorAll(".ch-state")])
  .map((state) => [state.querySelector("rect").getBBox(), state.querySelector("text")])
  .map(([box, text]) => [box, text.getBBox(), text.textContent])
  .map(([box, name, text]) => ({ text, isIn: name.x >= box.x + 1 && name.x + name.width <= box.x + box.width - 1 }))`;

describeWithBrowser("details of screens", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig({ SLIPWAY_TASKS_EXPIRE_DAYS: String(DAYS) });
    expect((await rig.server().call("POST", "/v1/users", { ...OPERATOR, role: "operator" })).status).toBe(201);
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  async function open(path: string, person = { email: EMAIL, password: PASSWORD }): Promise<Page> {
    const { page } = await rig.open({ viewport: NARROW });
    await rig.logIn(page, person);
    await page.goto(rig.server().url + path);
    return page;
  }

  it("[R7] a task says until when it stays, is kept by its owner and expires again; an operator sees it only", async () => {
    const id = await rig.submit("Is worth keeping", DONE);
    const { settledAt } = await rig.until(id, (task) => task.state === "done", "the end");
    const isKept = async (): Promise<unknown> => (await rig.call("GET", `/v1/tasks/${id}/keep`)).body;
    const page = await open(`/tasks/${id}`);
    const result = page.getByRole("region", { name: "Result" });
    const end = new Date(Date.parse(settledAt ?? "") + DAYS * 86_400_000);
    await result.getByText(`until ${end.toLocaleDateString("en", { dateStyle: "medium" })}`).waitFor();
    await result.getByRole("button", { name: "Keep it" }).click();
    await result.getByText("until somebody deletes it").waitFor();
    await expect.poll(isKept).toEqual({ keep: true });
    expect(await findMisfits(page)).toEqual([]);
    const other = await open(`/tasks/${id}`, OPERATOR);
    await other.getByText("until somebody deletes it").waitFor();
    expect(await other.getByRole("button", { name: "Let it expire" }).count()).toBe(0);
    await result.getByRole("button", { name: "Let it expire" }).click();
    await result.getByRole("button", { name: "Keep it" }).waitFor();
    await expect.poll(isKept).toEqual({ keep: false });
  });

  it("[P3] at a desk the name of each state of the chart is in its box", async () => {
    const id = await rig.submit("Is drawn", DONE);
    await rig.until(id, (task) => task.state === "done", "the end");
    const page = await open(`/tasks/${id}/machine`);
    await page.setViewportSize(WIDE);
    await page.getByRole("region", { name: "Chart of the lifecycle" }).first().waitFor();
    const names = await page.evaluate<{ text: string; isIn: boolean }[]>(FIND_WIDE_NAMES);
    expect(names.map(({ text }) => text)).toContain("provisioning");
    expect(names.filter(({ isIn }) => !isIn)).toEqual([]);
  });
});
