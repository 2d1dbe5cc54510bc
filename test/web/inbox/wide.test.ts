/** A desk: rows in columns beside a preview, and a task between the list and its change. */
import type { Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { describeWithBrowser, expectAccessible, NARROW, WIDE } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(4);

/** The narrowest desk. */
const DESK = { width: 1_024, height: 768 } as const;
const DONE = { finish: { title: "t", summary: "The voucher is **locked** before it is read." } };

describeWithBrowser("a desk", () => {
  let rig: WebRig;
  let changed: string;
  beforeAll(async () => {
    rig = await openWebRig();
    const items = ["Find the writers", "Lock first"].map((text) => ({ text, status: "completed" }));
    const file = { write: { path: "src/lock.ts", content: "await lock(code);\n".repeat(90) } };
    const said = Array.from({ length: 20 }, (_, i) => ({ say: `Paragraph ${i}. ${"It goes on. ".repeat(60)}` }));
    changed = await rig.submit("Locks the voucher", [{ todo: items }, file, ...said, { usage: { usd: 0.74 } }, DONE]);
    await rig.until(changed, ({ state }) => state === "done", "the end");
  });
  afterAll(() => rig.close());
  afterEach(() => rig.closeDevices());

  const preview = (page: Page) => page.getByRole("complementary", { name: "Preview" });
  const isFocused = (page: Page, selector: string): Promise<boolean> =>
    page.evaluate<boolean>(`document.activeElement.closest(${JSON.stringify(selector)}) !== null`);

  it("[P16] j and k move the preview, which answers in place and takes no focus; the row stays selected where it moves", async () => {
    const question = { question: "Which quay?", options: ["North", "South"] };
    const asking = await rig.submit("Asks about the quay", [{ ask: question }, rig.gate().step]);
    await rig.until(asking, (task) => task.question !== null, "the question");
    const { page, errors } = await rig.open({ viewport: WIDE });
    await rig.logIn(page);
    // The first row is selected, and nothing has the focus.
    await preview(page).getByRole("heading", { name: "Asks about the quay" }).waitFor();
    await preview(page).getByRole("heading", { name: "Which quay?" }).waitFor();
    expect(await isFocused(page, ".preview, .drow")).toBe(false);
    const row = page.getByRole("link", { name: /Locks the voucher/ });
    expect((await row.innerText()).split("\n").filter(Boolean)).toEqual(
      expect.arrayContaining(["Locks the voucher", "(unread)", "storefront", "2/2", "$0.74", "+90 −0"]),
    );
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    await preview(page).getByRole("heading", { name: "Locks the voucher" }).waitFor();
    await preview(page).getByText("locked", { exact: true }).waitFor();
    await preview(page).getByRole("listitem").filter({ hasText: "Lock first" }).waitFor();
    expect(await isFocused(page, ".drow")).toBe(true);
    await page.keyboard.press("k");
    await preview(page).getByRole("radio", { name: "North", checked: true }).waitFor();
    await page.keyboard.press("2");
    await preview(page).getByRole("radio", { name: "South", checked: true }).waitFor();
    expect(await isFocused(page, ".drow")).toBe(true);
    await expectAccessible(page, "the inbox at a desk");
    await page.keyboard.press("a");
    await page.keyboard.press("Enter");
    await rig.until(asking, (task) => task.question === null, "the answer");
    const answer = (await rig.server().events(asking)).find(({ type }) => type === "answer");
    expect(answer?.data).toMatchObject({ text: "South" });
    await page
      .getByRole("region", { name: /^Running/ })
      .getByRole("link", { name: /Asks about the quay/ })
      .waitFor();
    await preview(page).getByRole("heading", { name: "Asks about the quay" }).waitFor();
    await preview(page).getByRole("heading", { name: "Which quay?" }).waitFor({ state: "detached" });
    expect(errors).toEqual([]);
    await rig.call("POST", `/v1/tasks/${asking}/cancel`);
  });

  it("[P16] a pointer that rests on a row selects it, but not while somebody writes an answer", async () => {
    const asking = await rig.submit("Asks for a name", [{ ask: { question: "Which name?" } }]);
    await rig.until(asking, (task) => task.question !== null, "the question");
    const { page, errors } = await rig.open({ viewport: WIDE });
    await rig.logIn(page);
    await preview(page).getByRole("heading", { name: "Asks for a name" }).waitFor();
    const other = page.getByRole("link", { name: /Locks the voucher/ });
    await other.hover();
    await preview(page).getByRole("heading", { name: "Locks the voucher" }).waitFor();
    await page.getByRole("link", { name: /Asks for a name/ }).hover();
    await preview(page).getByLabel("Answer").fill("Vouch");
    await other.hover();
    // Longer than a pointer rests.
    await page.evaluate("new Promise((resolve) => setTimeout(resolve, 500))");
    expect(await preview(page).getByLabel("Answer").inputValue()).toBe("Vouch");
    await page.keyboard.type("er");
    await preview(page).getByRole("button", { name: "Answer" }).click();
    await rig.until(asking, (task) => task.question === null, "the answer");
    const answer = (await rig.server().events(asking)).find(({ type }) => type === "answer");
    expect(answer?.data).toMatchObject({ text: "Voucher" });
    expect(errors).toEqual([]);
  });

  it("[P16] a phone loads nothing of the desk, and a window that becomes wide has it", async () => {
    const { page, errors } = await rig.open({ viewport: NARROW });
    const loaded: string[] = [];
    page.on("request", (request) => loaded.push(request.url()));
    await rig.logIn(page);
    const row = page.getByRole("link", { name: /Locks the voucher/ });
    await row.waitFor();
    await page.waitForLoadState("networkidle");
    const ofDesk = (): string[] => loaded.filter((url) => /\/(?:wide-inbox|list-pane|changes-pane)-/.test(url));
    expect(ofDesk()).toEqual([]);
    await page.setViewportSize(WIDE);
    await preview(page).getByRole("heading", { level: 2 }).first().waitFor();
    expect(ofDesk()).toHaveLength(1);
    await page.setViewportSize(NARROW);
    await preview(page).waitFor({ state: "detached" });
    await row.click();
    await page.getByRole("status", { name: "Task state" }).waitFor();
    await page.waitForLoadState("networkidle");
    expect(ofDesk()).toHaveLength(1);
    expect(errors).toEqual([]);
  });

  it.each([WIDE, DESK])(
    "[P16] at %o a task stands between the list and its change, and each scrolls alone",
    async (viewport) => {
      const { page, errors } = await rig.open({ viewport });
      await rig.logIn(page);
      await page.goto(`${rig.server().url}/tasks/${changed}`);
      const panes = [
        page.getByRole("navigation", { name: "Main" }),
        page.getByRole("complementary", { name: "Tasks" }),
        page.getByRole("main"),
        page.getByRole("complementary", { name: "Changes" }),
      ];
      await panes[3]!.getByRole("region", { name: "Diff of lock.ts" }).waitFor();
      await page.getByText("It goes on.").last().waitFor();
      let right = 0;
      for (const pane of panes) {
        const box = await pane.boundingBox();
        // One after the other, in the order of the page.
        expect(Math.abs((box?.x ?? 0) - right)).toBeLessThan(2);
        right = (box?.x ?? 0) + (box?.width ?? 0);
      }
      expect(right).toBe(viewport.width);
      expect(await page.evaluate<number>("document.documentElement.scrollWidth")).toBe(viewport.width);
      const places = (): Promise<number[]> =>
        page.evaluate<number[]>("[scrollY, document.querySelector('.changes-pane').scrollTop]");
      await page.evaluate("scrollTo(0, 0)");
      await panes[3]!.hover();
      await page.mouse.wheel(0, 300);
      await expect.poll(async () => (await places())[1]).toBeGreaterThan(100);
      expect((await places())[0]).toBe(0);
      const there = (await places())[1];
      await page.getByText("Paragraph 0.").hover();
      await page.mouse.wheel(0, 300);
      await expect.poll(async () => (await places())[0]).toBeGreaterThan(100);
      expect((await places())[1]).toBe(there);
      await expectAccessible(page, "three panes");
      // The address says what is open: the change has the room of both.
      await panes[3]!.getByRole("link", { name: "Full width" }).click();
      await expect.poll(() => new URL(page.url()).pathname).toBe(`/tasks/${changed}/changes`);
      await panes[3]!.waitFor({ state: "detached" });
      await panes[2]!.getByRole("region", { name: "Diff of lock.ts" }).waitFor();
      await page.getByRole("link", { name: "Conversation" }).click();
      await panes[3]!.getByRole("region", { name: "Diff of lock.ts" }).waitFor();
      expect(errors).toEqual([]);
    },
  );
});
