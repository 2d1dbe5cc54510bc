/** Comments on lines of a change that goes on changing, in a browser. */
import type { Locator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, expectAccessible, NARROW } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(2);

const ask = (question: string) => ({ ask: { question, options: ["Yes"] } });
const DONE = { finish: { title: "t", summary: "It is written." } };
/** Both beside the page's routes: a service worker has a network of its own. */
const PHONE = { viewport: NARROW, serviceWorkers: "block" } as const;

describeWithBrowser("comments on a change that changes", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  /** A task that has written `a.txt` and asks; `goOn` lets it do the next step, and ask again. */
  async function open(steps: readonly object[]): Promise<{ page: Page; goOn: () => Promise<void> }> {
    const write = { write: { path: "a.txt", content: "one\ntwo\nthree\n" } };
    const asked = steps.flatMap((step, i) => [step, ask(`After ${i + 1}?`)]);
    const id = await rig.submit("Changes on and on", [write, ask("After 0?"), ...asked, DONE]);
    let done = 0;
    const untilAsked = () =>
      rig.until(id, ({ question }) => question?.question === `After ${done}?`, `the question after ${done}`);
    await untilAsked();
    const { page } = await rig.open(PHONE);
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}/changes`);
    return {
      page,
      goOn: async () => {
        const { question } = await untilAsked();
        done += 1;
        expect(
          (await rig.call("POST", `/v1/tasks/${id}/answer`, { questionId: question?.id, text: "Yes" })).status,
        ).toBe(200);
        await untilAsked();
      },
    };
  }

  const lines = (page: Page): Locator => page.getByRole("region", { name: "Diff of a.txt" });
  const line = (page: Page, text: string): Locator => lines(page).getByRole("cell", { name: text, exact: true });
  const editor = (page: Page): Locator => lines(page).getByLabel(/^Comment on line/);
  /** The texts of the rows from the code line on: what stands below it. */
  const readBelow = (page: Page, text: string): Promise<string[]> =>
    line(page, text).evaluate((cell) => {
      const texts: string[] = [];
      for (let row = cell.closest("tr")?.nextElementSibling; row?.className === "say"; row = row.nextElementSibling)
        texts.push((row as HTMLElement).innerText);
      return texts;
    });

  it("[P4] what is being typed and what is kept stay with their lines when the agent writes above them", async () => {
    const { page, goOn } = await open([{ write: { path: "a.txt", content: "zero\nnil\none\ntwo\nthree\n" } }]);
    await line(page, "one").click();
    await editor(page).fill("Why one?");
    await lines(page).getByRole("button", { name: "Keep" }).click();
    await line(page, "two").click();
    await editor(page).fill("Why two");
    await goOn();
    await line(page, "zero").waitFor();
    expect(await readBelow(page, "one")).toEqual([expect.stringContaining("line 3, not sent yet")]);
    expect(await readBelow(page, "two")).toEqual([expect.stringContaining("Comment on line 4")]);
    expect(await editor(page).inputValue()).toBe("Why two");
    // The line that has the number now gets a comment of its own.
    await lines(page).getByRole("button", { name: "Keep" }).click();
    await line(page, "zero").click();
    await editor(page).fill("Why zero?");
    await lines(page).getByRole("button", { name: "Keep" }).click();
    await page.getByRole("button", { name: "Send 3 comments to the agent" }).waitFor();
    await page.getByRole("button", { name: "Edit it" }).click();
    expect(await page.getByRole("textbox", { name: "Prompt" }).inputValue()).toBe(
      "Comments on the change:\n\na.txt:1\n> one\nWhy one?\n\na.txt:4\n> two\nWhy two\n\na.txt:1\n> zero\nWhy zero?",
    );
  });

  it("[P4] a line that goes leaves what was typed and kept on it, and says so", async () => {
    const { page, goOn } = await open([{ write: { path: "a.txt", content: "one\nTWO\n" } }]);
    await line(page, "three").click();
    await editor(page).fill("Why three?");
    await lines(page).getByRole("button", { name: "Keep" }).click();
    await line(page, "two").click();
    await editor(page).fill("Why two?");
    await goOn();
    await line(page, "TWO").waitFor();
    await lines(page).getByText("Comment on line 2, which the agent has changed").waitFor();
    expect(await editor(page).inputValue()).toBe("Why two?");
    await lines(page).getByRole("button", { name: "Keep" }).click();
    const gone = lines(page).getByText("on a line that is gone, not sent yet");
    await expect.poll(() => gone.count()).toBe(2);
    await expectAccessible(page, "comments on lines that are gone");
    await lines(page).getByRole("button", { name: "Remove the comment" }).last().click();
    await page.getByRole("button", { name: "Send 1 comment to the agent" }).waitFor();
  });

  it("[P4] a version that cannot be read leaves the one before, and what is typed there, until it can", async () => {
    const { page, goOn } = await open([{ write: { path: "a.txt", content: "zero\none\ntwo\nthree\n" } }]);
    await line(page, "two").click();
    await editor(page).fill("Why two?");
    await page.route("**/diff?**", (route) =>
      route.fulfill({ status: 409, json: { code: "conflict", detail: "Busy." } }),
    );
    await goOn();
    const problem = page.getByRole("alert").filter({ hasText: "Busy." });
    await problem.waitFor();
    expect(await editor(page).inputValue()).toBe("Why two?");
    await page.unrouteAll({ behavior: "wait" });
    await problem.getByRole("button", { name: "Try again" }).click();
    await line(page, "zero").waitFor();
    await problem.waitFor({ state: "detached" });
    expect(await editor(page).inputValue()).toBe("Why two?");
  });
});
