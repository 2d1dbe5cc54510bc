/** Pull requests in the app, in a real browser: chosen, shown with their checks, opened later. */
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import type { ForgeDouble } from "../git/forges/forge-double.ts";
import { GITHUB_TOKEN, startGitHubDouble } from "../git/forges/github-double.ts";
import { describeWithBrowser } from "../support/browser/browser.ts";
import { openWebRig, taskState, type WebRig } from "../support/browser/rig.ts";

describeWithBrowser("pull requests in the web app", () => {
  let github: ForgeDouble;
  let rig: WebRig;

  beforeAll(async () => {
    github = await startGitHubDouble();
    const settings = (upstream: { readonly url: string; readonly host: string }) => ({
      SLIPWAY_GITHUB_URL: upstream.url,
      SLIPWAY_GITHUB_API_URL: github.apiUrl,
      SLIPWAY_TRUSTED_REPO_HOSTS: `${upstream.host},${new URL(github.apiUrl).host}`,
    });
    rig = await openWebRig(settings, "octocat/app");
    const host = new URL(rig.repo).host;
    await rig.call("POST", "/v1/credentials", { host, kind: "token", token: GITHUB_TOKEN });
  });
  afterAll(async () => {
    await rig.close();
    await github.close();
  });
  afterEach(() => rig.closeDevices());

  it("a new task offers one where the forge is known, and the result shows it", async () => {
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.getByRole("link", { name: "New task" }).first().click();
    await page.getByText("Options").click();
    const choice = page.getByRole("group", { name: "Pull request" });
    await page.getByLabel("Repository").fill("https://elsewhere.example.com/team/app");
    await page.getByRole("group", { name: "What it may reach" }).waitFor();
    expect(await choice.count()).toBe(0);
    await page.getByLabel("Repository").fill(rig.repo);
    await choice.getByRole("radio", { name: "draft" }).check();
    await page.getByLabel("Prompt").fill("write b.txt=new");
    await page.getByRole("button", { name: "Start task" }).click();
    await expect.poll(() => taskState(page).textContent(), { timeout: 30_000 }).toBe("done");
    const result = page.getByRole("region", { name: "Result" });
    const link = result.getByRole("link", { name: "#1" });
    expect(await link.getAttribute("href")).toBe(`${rig.repo.replace(/\.git$/, "")}/pull/1`);
    await result.getByText("draft").waitFor();
    expect(errors).toEqual([]);
  });

  it("the checks of the newest commit are counted, and those that failed have names", async () => {
    const script = [{ bash: "echo d > d.txt" }, { finish: { title: "D", summary: "One." } }];
    const id = await rig.submit("Adds d", script, { pullRequest: "ready" });
    const { pullRequest } = await rig.until(id, (task) => task.state === "done", "the end");
    await github.report(pullRequest?.number ?? 0, { build: "passed", lint: "failed" });
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByRole("region", { name: "Result" }).getByText("1 failed (lint), 1 passed").waitFor();
    expect(errors).toEqual([]);
  });

  it("work that was pushed without one gets it later, and no agent runs for it", async () => {
    const id = await rig.submit("Adds c", [{ bash: "echo c > c.txt" }, { finish: { title: "C", summary: "One." } }]);
    const { branch } = await rig.until(id, (task) => task.state === "done", "the end");
    const { page, errors } = await rig.open();
    await rig.logIn(page);
    await page.goto(`${rig.server().url}/tasks/${id}`);
    await page.getByRole("button", { name: "Open a pull request" }).click();
    await expect.poll(() => page.url()).not.toContain(id);
    const link = page.getByRole("region", { name: "Result" }).getByRole("link", { name: /^#\d+$/ });
    await link.waitFor();
    expect((await github.pulls()).filter(({ head }) => head === branch)).toMatchObject([{ title: "C", draft: false }]);
    expect(await page.getByRole("button", { name: "Open a pull request" }).count()).toBe(0);
    expect(errors).toEqual([]);
  });
});
