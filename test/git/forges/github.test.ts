import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TaskFailure } from "../../../src/core/failure.ts";
import { forgeSuite } from "../../contract/forge.ts";
import { pullRequestOf, type ForgeDouble } from "./forge-double.ts";
import { startGitHubDouble } from "./github-double.ts";

describe("a forge", () => forgeSuite(startGitHubDouble));

let double: ForgeDouble;
let opened: ReturnType<ForgeDouble["open"]>;
beforeAll(async () => {
  double = await startGitHubDouble();
  opened = double.open();
});
afterAll(async () => {
  await opened.close();
  await double.close();
});
const never = new AbortController().signal;
const open = (head: string, changes = {}) =>
  opened.forge.openPullRequest(pullRequestOf(double, { head, marker: head, body: head, ...changes }), never);
const refusedWith = async (head: string, error: object): Promise<TaskFailure> => {
  double.fail({ method: "POST", status: 422, body: { message: "Validation Failed", errors: [error] } });
  return open(head).then(
    () => Promise.reject(new Error("it opened")),
    (failure: unknown) => failure as TaskFailure,
  );
};

it.each([
  [{ message: "No commits between main and a" }, "there is nothing to merge"],
  [{ resource: "PullRequest", field: "base", code: "invalid" }, "The base branch main is no longer there"],
  [{ message: "Something else" }, "Something else"],
])("422 %j is told as what it means", async (error, words) => {
  const failure = await refusedWith("a", error);
  expect(failure.code).toBe("pull_request_rejected");
  expect(failure.message).toContain(words);
});

it("[W9] one that the first list does not show yet is adopted when GitHub says that it exists", async () => {
  const first = await open("late");
  double.fail({ method: "GET", status: 200, body: [] });
  await expect(open("late")).resolves.toEqual(first);
});

it("where a repository has no drafts it opens one that says so in its title", async () => {
  const body = { message: "Validation Failed", errors: ["Draft pull requests are not supported in this repository."] };
  double.fail({ method: "POST", status: 422, body });
  await expect(open("plain", { draft: true })).resolves.toMatchObject({ state: "open" });
  expect((await double.pulls()).at(-1)).toMatchObject({ title: "Draft: Add a login form", draft: false });
});

it("the primary limit ends at the time that its header names", async () => {
  const reset = Math.ceil(Date.now() / 1_000) + 90;
  const headers = { "x-ratelimit-remaining": "0", "x-ratelimit-reset": String(reset) };
  double.fail({ method: "GET", status: 403, headers });
  const failure = await open("limited").catch((error: unknown) => error as TaskFailure);
  expect(failure).toMatchObject({ code: "forge_rate_limited" });
  expect((failure as TaskFailure).retryAfterMs).toBeGreaterThan(80_000);
});

it("statuses of older services count beside check runs", async () => {
  const { number } = await open("checked");
  await double.report(number, { build: "passed" });
  const statuses = ["success", "pending", "failure", "error"].map((state) => ({ context: `ci/${state}`, state }));
  double.fail({ method: "GET", path: /\/status\?/, status: 200, body: { state: "failure", statuses } });
  const { repo, auth } = pullRequestOf(double);
  expect((await opened.forge.readPullRequest({ repo, auth, number }, never)).checks).toEqual({
    passed: 2,
    failed: 2,
    running: 1,
    failing: ["ci/failure", "ci/error"],
  });
});
