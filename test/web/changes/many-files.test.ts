/** A change of many files in a browser: tree, filter, what was seen, and the way through it. */
import type { Locator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, expectAccessible, NARROW, WIDE } from "../../support/browser/browser.ts";
import { findMisfits } from "../../support/browser/misfits.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(2);

const DONE = { finish: { title: "t", summary: "It is written." } };
/** 24 files: 20 of one kind, two images, and two that begin and end the list. */
const WRITE = [
  "mkdir -p src/app/parts assets docs",
  'for i in $(seq -w 20); do echo "export const part = $i;" > src/app/parts/p$i.ts; done',
  "printf '\\000a' > assets/a.png; printf '\\000b' > assets/b.png",
  "echo '# Read' > docs/read.md; echo end > z.txt",
].join("; ");

describeWithBrowser("a change of many files", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  async function open(id: string): Promise<{ page: Page; errors: string[] }> {
    const { page, errors } = await rig.open({ viewport: NARROW });
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}/changes`);
    await page.getByRole("region", { name: "Files" }).waitFor();
    return { page, errors };
  }

  const files = (page: Page): Locator => page.getByRole("region", { name: "Files" });
  const place = (page: Page): Locator => page.getByRole("status", { name: "File" });
  const folder = (page: Page, name: string): Locator =>
    files(page).locator("details", { has: page.locator("summary b", { hasText: name }) });

  it("[P17] files are seen one after the other, by button and by key; marks stay on the device until the file changes", async () => {
    const id = await rig.submit("Changes many files", [
      { bash: WRITE },
      { ask: { question: "Go on?", options: ["Yes"] } },
      { bash: "echo 'export const part = 0;' > src/app/parts/p02.ts" },
      DONE,
    ]);
    const { question } = await rig.until(id, (task) => task.question !== null, "the question");
    const { page, errors } = await open(id);
    await files(page).getByText("24 files").waitFor();
    await expect.poll(() => place(page).textContent()).toContain("a.png1 of 24");
    // Both pictures at once, from one of them.
    await page.getByRole("button", { name: "Mark all 2 alike as seen" }).first().click();
    await files(page).getByText("2 seen", { exact: true }).waitFor();
    await page.getByRole("button", { name: "Next file that is not seen" }).click();
    await expect.poll(() => place(page).textContent()).toContain("read.md3 of 24");
    await page.getByRole("button", { name: "Seen, next" }).click();
    await expect.poll(() => place(page).textContent()).toContain("p01.ts4 of 24");
    await page.keyboard.press("s");
    await page.keyboard.press("s");
    await expect.poll(() => place(page).textContent()).toContain("p03.ts6 of 24");
    await page.keyboard.press("n");
    await expect.poll(() => place(page).textContent()).toContain("p04.ts7 of 24");
    await folder(page, "src/app/parts").locator("summary").getByText("2/20").waitFor();
    // The one before is marked where its diff stands, and unmarked again.
    await page.getByRole("button", { name: "File before" }).click();
    const mark = page.getByRole("button", { name: "Mark p03.ts as seen" });
    await mark.click();
    await files(page).getByText("6 seen", { exact: true }).waitFor();
    await mark.click();
    await files(page).getByText("5 seen", { exact: true }).waitFor();
    await page.reload();
    await files(page).getByText("5 seen", { exact: true }).waitFor();
    await expect.poll(() => place(page).textContent()).toContain("p03.ts6 of 24");
    await rig.call("POST", `/v1/tasks/${id}/answer`, { questionId: question?.id, text: "Yes" });
    await rig.until(id, (task) => task.state === "done", "the end");
    // p02.ts has other lines now; the pictures have no lines, and the task another commit.
    await files(page).getByText("2 seen", { exact: true }).waitFor();
    await expect.poll(() => folder(page, "src/app/parts").locator("summary").textContent()).toContain("1/20");
    // Nothing of it is left after the log-out.
    await page.evaluate("sessionStorage.kept = JSON.stringify(localStorage)");
    expect(await page.evaluate<string>("sessionStorage.kept")).toContain(`seen.${id}`);
    await page.goto(`${rig.server().url}/you`);
    await page.getByRole("button", { name: "Log out", exact: true }).click();
    await page.getByLabel("Password").waitFor();
    expect(await page.evaluate<string>("JSON.stringify(localStorage)")).not.toContain(id);
    expect(errors).toEqual([]);
  });

  it("the tree is filtered by path and kind, leads to diffs, and fits phone and desk", async () => {
    const id = await rig.submit("Changes many files", [{ bash: WRITE }, DONE]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const { page, errors } = await open(id);
    const rows = files(page).getByRole("button", { name: /^[AMDRCT] / });
    await files(page).getByLabel("Filter files").fill("app p1");
    await expect.poll(() => rows.count()).toBe(10);
    await files(page)
      .getByRole("button", { name: /p17\.ts/ })
      .click();
    await expect.poll(() => place(page).textContent()).toContain("p17.ts");
    const lines = page.getByRole("region", { name: "Diff of p17.ts" });
    await expect.poll(async () => (await lines.boundingBox())?.y ?? NaN).toBeLessThan(NARROW.height * 0.75);
    await lines.getByRole("cell", { name: "export const part = 17;" }).click();
    await page.getByLabel("Comment on line 1").fill("Why?");
    await page.getByRole("button", { name: "Keep" }).click();
    await files(page).getByLabel("Filter files").fill("");
    const show = files(page).getByRole("group", { name: "Show" });
    await show.getByRole("button", { name: "Commented 1" }).click();
    await expect.poll(() => rows.count()).toBe(1);
    await show.getByRole("button", { name: "Binary 2" }).click();
    await expect.poll(() => rows.count()).toBe(2);
    await files(page).getByLabel("Filter files").fill("nowhere");
    await files(page).getByText("No file is like that.").waitFor();
    await files(page).getByLabel("Filter files").fill("");
    await show.getByRole("button", { name: "All 24" }).click();
    // A folder that somebody closed stays closed.
    await folder(page, "src/app/parts").locator("summary").click();
    await expect.poll(() => rows.count()).toBe(4);
    for (const viewport of [NARROW, WIDE])
      for (const colorScheme of ["light", "dark"] as const) {
        await page.setViewportSize(viewport);
        await page.emulateMedia({ colorScheme });
        await expectAccessible(page, `many files, ${viewport.width}, ${colorScheme}`);
      }
    await page.setViewportSize({ width: 320, height: 640 });
    expect(await findMisfits(page)).toEqual([]);
    expect(errors).toEqual([]);
  });

  it("of 3,000 files in one folder the page holds some, wherever one looks", async () => {
    const write = "mkdir -p all; for i in $(seq -w 3000); do echo $i > all/f$i.txt; done";
    const id = await rig.submit("Changes thousands", [{ bash: write }, DONE]);
    await rig.until(id, (task) => task.state === "done", "the end");
    const { page, errors } = await open(id);
    const count = async (): Promise<[number, number]> => [
      await page.locator(".filerow").count(),
      await page.locator(".diff-file").count(),
    ];
    await page.locator(".diff-file").first().waitFor();
    expect(await count()).toEqual([31, 50]);
    await files(page).getByLabel("Filter files").fill("f2999");
    await files(page).getByRole("button", { name: /f2999/ }).click();
    await page.getByRole("region", { name: "Diff of f2999.txt" }).getByRole("cell", { name: "2999" }).last().waitFor();
    await files(page).getByLabel("Filter files").fill("");
    await files(page).getByRole("button", { name: /f2999/ }).waitFor();
    expect(await count()).toEqual([8, 2]);
    await page.getByRole("button", { name: "50 files before" }).click();
    await expect.poll(count).toEqual([8, 52]);
    await page.getByRole("button", { name: "File after" }).click();
    await expect.poll(() => place(page).textContent()).toContain("f3000.txt3,000 of 3,000");
    expect(errors).toEqual([]);
  });
});
