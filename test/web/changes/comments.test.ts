/** Comments that are being typed while the agent saves other versions of the change. */
import type { Locator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, expectAccessible, NARROW } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(2);

const NAME = "queue.txt";
const write = (...lines: string[]) => ({ write: { path: NAME, content: lines.map((line) => `${line}\n`).join("") } });

describeWithBrowser("comments on lines of a change that grows", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  interface Growing {
    readonly page: Page;
    readonly lines: Locator;
    /** The field of the comment. */
    readonly field: Locator;
    readonly id: string;
    /** Lets the agent save its next version. */
    readonly goOn: () => void;
  }

  /** @param versions what the agent does, with a checkpoint after each. */
  async function open(...versions: object[]): Promise<Growing> {
    const gates = versions.map(() => rig.gate());
    const id = await rig.submit(
      "Writes a queue",
      versions.flatMap((version, i) => [version, gates[i]!.step]),
    );
    await rig.until(id, (task) => task.headSha !== null, "the first checkpoint");
    const { page } = await rig.open({ viewport: NARROW, serviceWorkers: "block" });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}/changes`);
    const lines = page.getByRole("region", { name: `Diff of ${NAME}` });
    const field = page.getByLabel(/^Comment on line/).and(page.locator("textarea"));
    let at = 0;
    return { page, lines, field, id, goOn: () => gates[at++]!.open() };
  }

  const cell = (lines: Locator, text: string): Locator => lines.getByRole("cell", { name: text, exact: true });
  const chosen = (lines: Locator): Promise<string | null> => lines.locator("tr.sel .cd").textContent();

  it("[P20] a comment that is typed stays with its line when the agent saves lines above it", async () => {
    const { page, lines, field, id, goOn } = await open(
      write("one", "two", "three"),
      write("two", "zero", "half", "one", "two", "three"),
      write("zero", "half", "one", "three"),
      { bash: `rm ${NAME}` },
    );
    await cell(lines, "two").click();
    await field.fill("Why two?");
    goOn();
    await cell(lines, "half").waitFor();
    expect(await chosen(lines)).toBe("two");
    // The second of its equals, which has the lines of before around it.
    expect(await page.getByText("Comment on line 5").count()).toBe(1);
    expect(await field.inputValue()).toBe("Why two?");
    expect(await field.evaluate((element) => element === element.ownerDocument.activeElement)).toBe(true);
    await page.keyboard.type(" Say it.");
    goOn();
    await cell(lines, "two").first().waitFor({ state: "detached" });
    await page.getByRole("status").filter({ hasText: "not in the change any more. It was: two" }).waitFor();
    expect(await field.inputValue()).toBe("Why two? Say it.");
    await expectAccessible(page, "a line that is gone");
    // What is typed is on the device.
    await page.reload();
    await expect.poll(() => field.inputValue()).toBe("Why two? Say it.");
    goOn();
    await lines.waitFor({ state: "detached" });
    expect(await field.inputValue()).toBe("Why two? Say it.");
    await page.getByRole("button", { name: "Keep" }).click();
    await page.getByRole("button", { name: "Send 1 comment to the agent" }).click();
    const said = async (): Promise<string> => JSON.stringify(await rig.server().events(id));
    await expect.poll(said).toContain("> two\\nWhy two? Say it.");
  });

  it("[P20] a comment that is kept stands at its line when the agent saves lines above it", async () => {
    const { page, lines, field, goOn } = await open(
      write("one", "two", "three"),
      write("zero", "half", "one", "two", "three"),
    );
    await cell(lines, "two").click();
    await field.fill("Why two?");
    await lines.getByRole("button", { name: "Keep" }).click();
    goOn();
    await cell(lines, "half").waitFor();
    expect(await lines.locator("tr.has .cd").textContent()).toBe("two");
    // A line that has the number of before takes nothing from it.
    await cell(lines, "half").click();
    await field.fill("Why half?");
    await lines.getByRole("button", { name: "Keep" }).click();
    await page.getByRole("button", { name: "Send 2 comments to the agent" }).waitFor();
    expect(await lines.locator("tr.has .cd").allTextContents()).toEqual(["half", "two"]);
  });

  it("[P20] a change whose next version cannot be read stays, with what is typed, and is read again", async () => {
    const { page, lines, field, goOn } = await open(write("one"), write("one", "two"), write("one", "two", "three"));
    await cell(lines, "one").click();
    await field.fill("Why one?");
    const problem = page.getByText("The disk is busy.");
    const fail = (): Promise<unknown> =>
      page.route(/\/diff\?/, (route) =>
        route.fulfill({ status: 423, json: { code: "busy", detail: "The disk is busy." } }),
      );
    await fail();
    goOn();
    await problem.waitFor();
    expect(await lines.count()).toBe(1);
    expect(await field.inputValue()).toBe("Why one?");
    await page.unroute(/\/diff\?/);
    await page.getByRole("button", { name: "Try again" }).click();
    await cell(lines, "two").waitFor();
    await problem.waitFor({ state: "detached" });
    await fail();
    goOn();
    await problem.waitFor();
    await page.unroute(/\/diff\?/);
    await page.context().setOffline(true);
    await page.context().setOffline(false);
    await cell(lines, "three").waitFor();
    expect(await field.inputValue()).toBe("Why one?");
  });
});
