/** What each adapter of a forge does, against a double of that forge. */
import { afterEach, beforeEach, expect, it } from "vitest";
import type { TaskFailure } from "../../src/core/failure.ts";
import type { Forge, PullRequestRequest } from "../../src/core/ports/repositories.ts";
import { pullRequestOf, type ForgeDouble } from "../git/forges/forge-double.ts";

const never = new AbortController().signal;

/** Declares the tests of one adapter, inside a `describe`. */
export function forgeSuite(start: () => Promise<ForgeDouble>): void {
  let double: ForgeDouble;
  let opened: { readonly forge: Forge; readonly close: () => Promise<void> };
  beforeEach(async () => {
    double = await start();
    opened = double.open();
  });
  afterEach(async () => {
    await opened.close();
    await double.close();
  });
  const open = (changes: Partial<PullRequestRequest> = {}) =>
    opened.forge.openPullRequest(pullRequestOf(double, changes), never);
  const failure = (changes: Partial<PullRequestRequest> = {}): Promise<TaskFailure> =>
    open(changes).then(
      (result) => Promise.reject(new Error(`it opened ${result.url}`)),
      (error: unknown) => error as TaskFailure,
    );

  it("serves the repositories of its host, and no others", () => {
    const { forge } = opened;
    expect([double.repo, `${double.repo}.git`].map((repo) => forge.serves(repo))).toEqual([true, true]);
    const others = ["https://example.com/o/r", `${double.url}.example.com/o/r`, `${double.url}/o`];
    expect(others.map((repo) => forge.serves(repo))).toEqual([false, false, false]);
  });

  it("opens one with title, text, branches and mode", async () => {
    const result = await open();
    expect(result).toMatchObject({ number: 1, state: "open" });
    expect(result.url.startsWith(`${double.repo}/`)).toBe(true);
    expect(await double.pulls()).toEqual([
      {
        number: 1,
        title: "Add a login form",
        body: "It has one.\n\nSlipway task `task_one`",
        head: "slipway/one",
        base: "main",
        draft: false,
        state: "open",
      },
    ]);
    expect(await open({ head: "slipway/two", marker: "task_two", draft: true })).toMatchObject({ state: "draft" });
    expect((await double.pulls())[1]).toMatchObject({ draft: true, state: "open" });
  });

  it("[W9] adopts the one that the branch has, and leaves what people wrote in it", async () => {
    const first = await open();
    await double.edit(first.number, { title: "Edited", body: "By a person." });
    expect(await open({ title: "Another", marker: "task_two" })).toEqual(first);
    expect(await double.pulls()).toMatchObject([{ title: "Edited", body: "By a person.", state: "open" }]);
  });

  it("[W9] an answer that is lost after the pull request was made makes no second one", async () => {
    double.fail({ method: "POST", how: "lost" });
    expect(await failure()).toMatchObject({ code: "forge_unreachable" });
    expect(await open()).toMatchObject({ number: 1, state: "open" });
    expect(await double.pulls()).toHaveLength(1);
  });

  it("[W9] one that this task opened counts although it is closed or merged; another task opens a new one", async () => {
    const { number } = await open();
    await double.settle(number, "close");
    expect(await open()).toMatchObject({ number, state: "closed" });
    const next = await open({ marker: "task_two", body: "task_two" });
    expect(next).toMatchObject({ state: "open" });
    expect(next.number).not.toBe(number);
    await double.settle(next.number, "merge");
    expect(await open({ marker: "task_two" })).toMatchObject({ number: next.number, state: "merged" });
  });

  it.each([
    [401, "pull_request_auth", "replace the credential"],
    [403, "pull_request_auth", "The token needs"],
    [404, "pull_request_auth", "The token needs"],
    [301, "pull_request_rejected", "current address"],
    [409, "pull_request_rejected", "Refused by a rule"],
    [500, "forge_unreachable", "It answered 500"],
    [502, "forge_unreachable", "It answered 502"],
  ])("%i ends in %s, in words that say what to do", async (status, code, words) => {
    double.fail({
      method: "POST",
      status,
      headers: { location: "/elsewhere" },
      body: { message: "Refused by a rule." },
    });
    const error = await failure();
    expect(error).toMatchObject({ code });
    expect(error.message).toContain(words);
    expect(double.requests.some(({ path }) => path === "/elsewhere")).toBe(false);
  });

  it.each([
    [429, { "retry-after": "7" }],
    [403, { "retry-after": "7" }],
  ])("a rate limit (%i) is waited for as long as the forge asks", async (status, headers) => {
    double.fail({ method: "GET", status, headers });
    const error = await failure();
    expect(error.code).toBe("forge_rate_limited");
    expect(error.retryAfterMs).toBeGreaterThan(6_000);
    expect(error.retryAfterMs).toBeLessThanOrEqual(7_000);
    await expect(open()).resolves.toMatchObject({ number: 1 });
  });

  const read = (number: number) => {
    const { repo, auth } = pullRequestOf(double);
    return opened.forge.readPullRequest({ repo, auth, number }, never);
  };

  it("reads the state as it is now", async () => {
    const { number } = await open({ draft: true });
    expect(await read(number)).toMatchObject({ state: "draft" });
    await double.settle(number, "close");
    expect(await read(number)).toMatchObject({ state: "closed" });
    const other = await open({ marker: "task_two", body: "task_two" });
    expect(await read(other.number)).toMatchObject({ state: "open" });
    await double.settle(other.number, "merge");
    expect(await read(other.number)).toMatchObject({ state: "merged" });
  });

  it("counts the checks of the newest commit and names those that failed", async () => {
    const { number } = await open();
    expect((await read(number)).checks).toEqual({ passed: 0, failed: 0, running: 0, failing: [] });
    await double.report(number, { build: "passed", lint: "failed", test: "running", types: "passed" });
    expect((await read(number)).checks).toEqual({ passed: 2, failed: 1, running: 1, failing: ["lint"] });
    expect(double.requests.filter(({ method }) => method === "GET").length).toBeLessThanOrEqual(7);
  });

  it("checks that the credential may not read are not known, and a forge that fails says so", async () => {
    const { number } = await open();
    const failReadings = (status: number): void => {
      for (const path of [/check-runs/, /\/status(?:es)?\?/]) double.fail({ method: "GET", path, status });
    };
    failReadings(403);
    expect(await read(number)).toEqual({ state: "open", checks: null });
    failReadings(500);
    await expect(read(number)).rejects.toMatchObject({ code: "forge_unreachable" });
    await expect(read(99)).rejects.toMatchObject({ code: "pull_request_auth" });
  });

  it("[S1] the token is in the header of the call alone, not in a message that repeats it", async () => {
    double.fail({ method: "POST", status: 401, body: { message: `bad token ${double.token}` } });
    const error = await failure();
    expect(`${error.message} ${error.stack ?? ""}`).not.toContain(double.token);
    expect(error.message).toContain("bad token ***");
    expect(double.requests.every(({ path }) => !path.includes(double.token))).toBe(true);
  });

  it("[V10] says whose token it is, and whether the forge knows it", async () => {
    const ask = (token: string) => opened.forge.readToken({ username: "x-access-token", token }, never);
    expect(await ask(double.token)).toMatchObject({ kind: "known", account: "octocat" });
    expect(await ask("another")).toMatchObject({ kind: "refused" });
    for (const path of [/\/user$/, /\/self$/]) double.fail({ method: "GET", path, status: 403 });
    expect(await ask(double.token)).toEqual({ kind: "unreadable" });
    double.fail({ method: "GET", status: 401, body: { message: `unknown ${double.token}` } });
    const refused = await ask(double.token);
    expect(JSON.stringify(refused)).toContain("unknown ***");
    for (const status of [429, 503]) {
      double.fail({ method: "GET", status });
      await expect(ask(double.token)).rejects.toMatchObject({ code: expect.stringMatching(/^forge_/) as string });
    }
  });

  it("without a credential nothing is asked", async () => {
    expect(await failure({ auth: null })).toMatchObject({ code: "pull_request_auth" });
    expect(double.requests).toEqual([]);
  });

  it("[S6] an answer that is endless, late or no JSON fails the call, and a control character does not pass", async () => {
    const late = double.open({ timeoutMs: 300 });
    double.fail({ method: "GET", how: "hang" });
    await expect(late.forge.openPullRequest(pullRequestOf(double), never)).rejects.toMatchObject({
      code: "forge_unreachable",
    });
    await late.close();
    double.fail({ method: "GET", status: 200, body: `["${"x".repeat(9 * 2 ** 20)}"]` });
    expect(await failure()).toMatchObject({
      code: "forge_unreachable",
      message: expect.stringContaining("size") as string,
    });
    double.fail({ method: "GET", status: 200, body: "<html>" });
    expect(await failure()).toMatchObject({ code: "forge_unreachable" });
    double.fail({ method: "POST", status: 400, body: { message: "one\u001b[31m\ntwo" } });
    expect((await failure()).message).toContain('"one [31m two"');
  });

  it("[S5] a forge at a private address is not called unless an operator trusts its host", async () => {
    const untrusted = double.open({ trusted: false });
    await expect(untrusted.forge.openPullRequest(pullRequestOf(double), never)).rejects.toMatchObject({
      code: "forge_unreachable",
      message: expect.stringContaining("SLIPWAY_TRUSTED_REPO_HOSTS") as string,
    });
    expect(double.requests).toEqual([]);
    await untrusted.close();
  });

  it("an aborted call rejects with the signal's reason", async () => {
    const stop = new AbortController();
    double.fail({ method: "GET", how: "hang" });
    const call = opened.forge.openPullRequest(pullRequestOf(double), stop.signal);
    await expect.poll(() => double.requests.length).toBe(1);
    stop.abort(new Error("left"));
    await expect(call).rejects.toThrow("left");
  });
}
