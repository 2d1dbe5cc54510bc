/** What is searched in a task: the output of a tool, and the raw log. */
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, expectAccessible, NARROW } from "../../support/browser/browser.ts";
import { findMisfits } from "../../support/browser/misfits.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(2);

interface Box {
  readonly scrollTop: number;
  readonly scrollHeight: number;
  readonly clientHeight: number;
}

const DONE = [{ finish: { title: "t", summary: "It came to its end." } }];

describeWithBrowser("a search", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  async function open(path: string): Promise<Page> {
    const { page } = await rig.open({ viewport: NARROW });
    await rig.logIn(page);
    await page.goto(rig.server().url + path);
    return page;
  }

  it("[P18] the output of a tool is searched: hits are counted and gone through, also what is not drawn and what has colours", async () => {
    // The last hit is beyond what is drawn at first, and goes across a colour.
    const print = "echo Warn one; seq 6000; printf 'a wa\\033[33mrn\\033[0ming\\n'; echo end";
    const id = await rig.submit("Prints warnings", [{ bash: print }, ...DONE]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const page = await open(`/tasks/${id}`);
    await page.getByText(/^Worked /).click();
    await page.locator("summary").filter({ hasText: "bash" }).click();
    const output = page.getByRole("region", { name: "Input and output of bash" });
    await output.waitFor();
    await page.getByRole("button", { name: "Search in it" }).click();
    const box = page.getByRole("search");
    await box.getByLabel("Search in the output").fill("warn");
    // One is in the command.
    const said = box.getByRole("status");
    await expect.poll(() => said.innerText()).toBe("1 of 3");
    const marked = (): Promise<string> =>
      page.evaluate<string>("[...CSS.highlights.get('hit-now')].map(String).join() + CSS.highlights.get('hit').size");
    await expect.poll(marked).toBe("Warn3");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Enter");
    await expect.poll(() => said.innerText()).toBe("3 of 3");
    await expect.poll(marked).toBe("warn3");
    const hit = "CSS.highlights.get('hit-now').values().next().value.getBoundingClientRect().top";
    await expect.poll(() => page.evaluate<boolean>(`${hit} > 0 && ${hit} < innerHeight`)).toBe(true);
    await box.getByRole("button", { name: "Next hit" }).click();
    await expect.poll(() => said.innerText()).toBe("1 of 3");
    await page.keyboard.press("Shift+Tab");
    await box.getByLabel("Search in the output").fill("nowhere to be found");
    await expect.poll(() => said.innerText()).toBe("none");
    await expect.poll(() => page.evaluate<boolean>("CSS.highlights.has('hit')")).toBe(false);
    expect(await findMisfits(page)).toEqual([]);
    await expectAccessible(page, "the search of an output");
    await page.getByRole("button", { name: "Search in it" }).click();
    expect(await box.count()).toBe(0);
  });

  it("[P4] what is in sight can be pressed while the page scrolls", async () => {
    const talk = Array.from({ length: 40 }, (_, n) => ({ say: `Paragraph ${n}` }));
    const id = await rig.submit("Says and does", [{ bash: "seq 20" }, ...talk, ...DONE]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const page = await open(`/tasks/${id}`);
    await page.getByText(/^Worked /).click();
    await page.locator("summary").filter({ hasText: "bash" }).waitFor();
    // A list that scrolls might leave presses to what is behind it.
    const missed = await page.evaluate<number>(`(async () => {
      const row = [...document.querySelectorAll("summary")].find(({ innerText }) => innerText.includes("bash"));
      let missed = 0;
      for (let i = 0; i < 30; i += 1) {
        scrollBy(0, i % 2 === 0 ? 3 : -3);
        await new Promise(requestAnimationFrame);
        const { x, y, width, height } = row.getBoundingClientRect();
        if (!row.contains(document.elementFromPoint(x + width / 2, y + height / 2))) missed += 1;
      }
      return missed;
    })()`);
    expect(missed).toBe(0);
  });

  it("[P4] the output of a tool that runs follows its end, until a person scrolls up", async () => {
    // What was printed before the page is open comes with the end of the tool.
    const gates = [rig.gate(), rig.gate(), rig.gate(), rig.gate()];
    const waits = gates.map(({ step }) => (step as { bash: string }).bash);
    const bash = `${waits[0]}; seq 100; ${waits[1]}; seq 101 200; ${waits[2]}; seq 201 300; ${waits[3]}`;
    const id = await rig.submit("Counts", [{ bash, timeoutMs: 600_000 }, ...DONE]);
    const page = await open(`/tasks/${id}`);
    await page.locator("summary").filter({ hasText: "bash" }).click();
    const output = page.getByRole("region", { name: "Input and output of bash" });
    const last = async (): Promise<string> => (await output.innerText()).trim().split("\n").at(-1) ?? "";
    const place = (): Promise<{ top: number; below: number }> =>
      output.evaluate(({ scrollTop, scrollHeight, clientHeight }: Box) => ({
        top: Math.round(scrollTop),
        below: Math.round(scrollHeight - scrollTop - clientHeight),
      }));
    await output.waitFor();
    // What a tool prints is sent to those who watch, and not repeated.
    await page.getByLabel(/^Connection: in sync/).waitFor();
    gates[0]?.open();
    await expect.poll(last).toBe("100");
    await expect.poll(place).toMatchObject({ below: 0 });
    const { top } = await place();
    gates[1]?.open();
    await expect.poll(last).toBe("200");
    await expect.poll(place).toMatchObject({ below: 0 });
    await page.evaluate(`(() => {
      const box = document.querySelector("pre[role=region]");
      box.scrollTop = ${top};
      return new Promise((heard) => box.addEventListener("scroll", () => requestAnimationFrame(heard), { once: true }));
    })()`);
    gates[2]?.open();
    await expect.poll(last).toBe("300");
    expect((await place()).top).toBe(top);
    gates[3]?.open();
    await rig.until(id, (task) => task.state === "done", "the end");
  });

  it("[P18] the raw log is searched, and a hit is a moment of the machine", async () => {
    const id = await rig.submit("Says marmalade", [
      { say: "No jam." },
      { say: "Marmalade." },
      { say: "MARMALADE!" },
      ...DONE,
    ]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const page = await open(`/tasks/${id}/machine`);
    const box = page.getByRole("search");
    await box.getByLabel("Search in the log").fill("marmalade");
    const said = box.getByRole("status");
    const events = await rig.server().events(id);
    const hits = events.filter((event) => /marmalade/i.test(JSON.stringify(event))).map(({ seq }) => seq);
    expect(hits.length).toBeGreaterThan(1);
    await expect.poll(() => said.innerText()).toBe(String(hits.length));
    await box.getByRole("button", { name: "Next hit" }).click();
    await expect.poll(() => said.innerText()).toBe(`1 of ${hits.length}`);
    const moment = page.getByRole("slider", { name: "Moment, by seq" });
    await expect.poll(() => moment.inputValue()).toBe(String(hits[0]));
    await box.getByRole("button", { name: "Hit before" }).click();
    await expect.poll(() => moment.inputValue()).toBe(String(hits.at(-1)));
    await page
      .locator("summary")
      .filter({ hasText: String(hits.at(-1)) })
      .first()
      .click();
    await page
      .getByRole("region", { name: `Event ${hits.at(-1)}` })
      .getByText(/marmalade/i)
      .first()
      .waitFor();
    expect(await findMisfits(page)).toEqual([]);
  });
});
