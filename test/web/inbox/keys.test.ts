/** The keys of a desk. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { describeWithBrowser, expectAccessible, WIDE } from "../../support/browser/browser.ts";
import { openWebRig, type WebRig } from "../../support/browser/rig.ts";

describeWithBrowser("the keys", () => {
  let rig: WebRig;
  beforeAll(async () => {
    rig = await openWebRig();
  });
  afterAll(() => rig.close());

  it("[P4] keys at a desk: j and k move through the tasks, Ctrl K finds one, and the filter is in the address", async () => {
    const id = await rig.submit("Sails to Reykjavik", [{ finish: { title: "t", summary: "s" } }]);
    const other = await rig.submit("Stays in harbour", [{ finish: { title: "t", summary: "s" } }]);
    for (const one of [id, other]) await rig.until(one, (task) => task.state === "done", "the end");
    const { page, errors } = await rig.open({ viewport: WIDE });
    await rig.logIn(page);
    await page.getByRole("link", { name: /Stays in harbour/ }).waitFor();
    const rows = page.locator("#main .drow");
    const focused = (): Promise<number> =>
      rows.evaluateAll((all) => all.findIndex((row) => row === row.ownerDocument.activeElement));
    await page.keyboard.press("j");
    await expect.poll(focused).toBe(0);
    await page.keyboard.press("j");
    await expect.poll(focused).toBe(1);
    await page.keyboard.press("k");
    await expect.poll(focused).toBe(0);
    // The bar below the list names the key that lists them all.
    await page.getByRole("list", { name: "Keys" }).getByText("all keys").waitFor();
    await page.keyboard.press("?");
    const keys = page.getByRole("dialog", { name: "Keys" });
    await keys.getByText("search tasks, repositories and actions").waitFor();
    await expectAccessible(page, "the list of keys");
    await page.keyboard.press("Escape");
    await keys.waitFor({ state: "detached" });
    await expect.poll(focused).toBe(0);
    await page.keyboard.press("?");
    await keys.getByRole("button", { name: "Close" }).click();
    await expect.poll(focused).toBe(0);
    // At the moment in which a dialog ends, its close event is still to come.
    await page.keyboard.press("?");
    await keys.waitFor();
    await page.evaluate(`document.querySelector("dialog[open]").close();
      dispatchEvent(new KeyboardEvent("keydown", { key: "k", ctrlKey: true }))`);
    await page.getByRole("combobox").fill("reykjavik");
    await page.getByRole("option", { name: /Sails to Reykjavik/, selected: true }).waitFor();
    await page.keyboard.press("Enter");
    await expect.poll(() => page.url()).toContain(id);
    // The list stands beside the task.
    await page.getByRole("complementary", { name: "Tasks" }).getByText("Stays in harbour").waitFor();
    await page.getByRole("button", { name: "Whole machine" }).click();
    await page.getByRole("dialog").getByRole("region", { name: "Chart of the lifecycle" }).waitFor();
    await page.goto(`${rig.server().url}/?q=reykjavik`);
    await rows.filter({ hasText: "Sails to Reykjavik" }).waitFor();
    expect(await rows.count()).toBe(1);
    await page.goto(`${rig.server().url}/?needs=true&q=reykjavik`);
    await page.getByRole("link", { name: "Show all tasks" }).click();
    await rows.filter({ hasText: "Stays in harbour" }).waitFor();
    await page.keyboard.press("c");
    // The list stays until the form is there, and has nothing of the field's name.
    await page.getByLabel("Prompt").fill("Keys in a field are letters");
    await page.keyboard.press("c");
    expect(await page.getByLabel("Prompt").inputValue()).toBe("Keys in a field are lettersc");
    expect(errors).toEqual([]);
  });
});
