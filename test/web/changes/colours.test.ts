/** Colours of code in the changes, in a browser: where they come from, and what happens without. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Locator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, expectAccessible, NARROW, WIDE } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(2);

const DONE = { finish: { title: "t", summary: "It is written." } };
const CODE = `// A comment.
export const lock = async (code: string): Promise<number> => {
  const text = "a string";
  return text.length + 42;
};
`;
/** The file of the worker. */
const WORKER = "**/assets/worker-*.js";

describeWithBrowser("colours of code", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  async function change(files: Readonly<Record<string, string>>, more: object[] = []): Promise<string> {
    const written = Object.entries(files).map(([path, content]) => ({ write: { path, content } }));
    const id = await rig.submit("Writes code", [...more, ...written, DONE]);
    await rig.until(id, (task) => task.state === "done", "the end");
    return id;
  }

  /** The service worker would answer in place of the test. */
  async function open(): Promise<{ page: Page; errors: string[]; loaded: string[] }> {
    const { page, errors } = await rig.open({ viewport: NARROW, serviceWorkers: "block" });
    const loaded: string[] = [];
    page.on("request", (request) => loaded.push(new URL(request.url()).pathname));
    await rig.logIn(page);
    return { page, errors, loaded };
  }

  const diffOf = (page: Page, name: string): Locator => page.getByRole("region", { name: `Diff of ${name}` });

  /**
   * Waits for the colours of all files. On a busy machine a worker takes longer than the app lets
   * it, and the file stays plain, as it should: the page is opened again.
   *
   * @param closed opens the file, where the page does not.
   */
  async function untilColoured(page: Page, colours: Locator[], path: string, closed?: Locator): Promise<void> {
    const look = async (): Promise<boolean> => {
      await page.goto(rig.server().url + path);
      await closed?.click();
      await page
        .getByRole("region", { name: /^Diff of/ })
        .first()
        .waitFor();
      return await Promise.all(colours.map((colour) => colour.waitFor({ timeout: 30_000 }))).then(
        () => true,
        () => false,
      );
    };
    await expect.poll(look).toBe(true);
  }

  it("code has colours in light and dark, beside the marks of words; the worker is loaded for the first diff", async () => {
    const edit = { edit: { path: "src/voucher.ts", old: "find(code)", new: "lock(tx, code, 12)" } };
    const id = await change({ "src/lock.ts": CODE, "notes.txt": "const plain = 1;\n" }, [edit]);
    const { page, errors, loaded } = await open();
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByText("It is written.").first().waitFor();
    expect(loaded.filter((path) => /\/worker-/.test(path))).toEqual([]);
    await page.getByRole("link", { name: /^Changes \d+$/ }).click();
    const lines = diffOf(page, "lock.ts");
    await lines.waitFor();
    const marked = diffOf(page, "voucher.ts").locator("tr.a");
    const colours = [
      lines.locator(".cm", { hasText: "// A comment." }),
      marked.locator(".k", { hasText: "const" }).first(),
    ];
    await untilColoured(page, colours, `/tasks/${id}/changes`);
    await lines.locator(".k", { hasText: "return" }).waitFor();
    await lines.locator(".s", { hasText: '"a string"' }).waitFor();
    await lines.locator(".nu", { hasText: "42" }).waitFor();
    expect(await marked.locator("ins").allTextContents()).toEqual(["lock(tx, code, 12"]);
    expect(await marked.locator(".cd").textContent()).toBe("const voucher = lock(tx, code, 12);");
    expect(await diffOf(page, "notes.txt").locator("span").count()).toBe(0);
    expect(loaded.filter((path) => /\/worker-/.test(path))).not.toHaveLength(0);
    for (const viewport of [NARROW, WIDE])
      for (const colorScheme of ["light", "dark"] as const) {
        await page.setViewportSize(viewport);
        await page.emulateMedia({ colorScheme });
        await expectAccessible(page, `colours, ${colorScheme}`);
      }
    // The keys choose lines as before, and the lines keep their colours.
    await lines.focus();
    await page.keyboard.press("ArrowDown");
    await lines.locator("tr.sel .cm").waitFor();
    expect(errors).toEqual([]);
    const shell = readFileSync(join(import.meta.dirname, "../../../dist/web/sw.js"), "utf8");
    expect(shell).toContain(loaded.find((path) => /\/worker-/.test(path)));
  });

  it("[P1] code that is written against the colours stays text", async () => {
    const evil = `</span><img src=x onerror=alert(1)><script>alert(1)</script>`;
    const id = await change({
      "a.html": `${evil}\n<!-- ${evil}\n`,
      "b.ts": `const a = "${evil}";\n\`\${"\${".repeat(2_000)}\n${"/[".repeat(900)}\n\u202e// ${evil}\n`,
      "c.py": `${"'''\"\"\"".repeat(300)}\n${"\\'".repeat(900)}\n`,
    });
    const { page, errors } = await open();
    page.on("dialog", (dialog) => {
      errors.push(`dialog ${dialog.message()}`);
      void dialog.dismiss();
    });
    const colours = [
      diffOf(page, "c.py").locator(".s").first(),
      diffOf(page, "b.ts").locator(".s", { hasText: evil }).first(),
      diffOf(page, "a.html").locator(".cm", { hasText: evil }).first(),
    ];
    await untilColoured(page, colours, `/tasks/${id}/changes`);
    expect(await page.locator("main img, main script").count()).toBe(0);
    expect(errors).toEqual([]);
  });

  it("a large file has colours at its begin", async () => {
    const id = await change({ "large.ts": "const a = 1;\n".repeat(4_500) });
    const { page } = await open();
    const closed = page.getByRole("button", { name: "Show large.ts" });
    const lines = diffOf(page, "large.ts");
    await untilColoured(page, [lines.locator(".k").first()], `/tasks/${id}/changes`, closed);
    await expect.poll(() => lines.locator(".k").count()).toBe(1_999);
    const more = page.getByRole("button", { name: /more lines$/ });
    await more.click();
    await expect.poll(() => lines.getByRole("row").count()).toBe(4_000);
    await more.click();
    await expect.poll(() => lines.getByRole("row").count()).toBe(4_501);
    expect(await lines.locator(".k").count()).toBe(3_999);
  });

  it("a worker that never answers, and one that does not load, leave plain text; a next one is tried", async () => {
    const id = await change({ "a.ts": CODE, "b.ts": CODE, "c.ts": CODE });
    const { page } = await open();
    let asked = 0;
    await page.route(WORKER, (route) => {
      asked++;
      if (asked === 1)
        return route.fulfill({
          contentType: "text/javascript",
          body: "postMessage('loaded'); onmessage = () => { for (;;); };",
        });
      return asked === 2 ? route.abort() : route.continue();
    });
    await page.setViewportSize({ width: 390, height: 1_600 });
    page.on("framenavigated", () => (asked = 0));
    // The browser chooses the order in which files that it shows at once are asked for.
    await untilColoured(page, [page.locator("#main .cd .k").first()], `/tasks/${id}/changes`);
    expect(asked).toBe(3);
    const plain: string[] = [];
    for (const name of ["a.ts", "b.ts", "c.ts"]) {
      if ((await diffOf(page, name).locator(".cd span").count()) === 0) plain.push(name);
      expect(await diffOf(page, name).locator(".cd").nth(1).textContent()).toBe("// A comment.");
    }
    expect(plain).toHaveLength(2);
  });
});
