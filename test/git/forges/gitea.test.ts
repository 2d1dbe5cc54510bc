import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { forgeSuite } from "../../contract/forge.ts";
import { pullRequestOf, type ForgeDouble } from "./forge-double.ts";
import { startGiteaDouble } from "./gitea-double.ts";

describe("a forge", () => forgeSuite(startGiteaDouble));

let double: ForgeDouble;
let opened: ReturnType<ForgeDouble["open"]>;
beforeEach(async () => {
  double = await startGiteaDouble();
  opened = double.open();
});
afterEach(async () => {
  await opened.close();
  await double.close();
});
const never = new AbortController().signal;

it("[W9] one that is not in the list any more is adopted by the number that the refusal names", async () => {
  const first = await opened.forge.openPullRequest(pullRequestOf(double), never);
  double.fail({ method: "GET", status: 200, body: [] });
  await expect(opened.forge.openPullRequest(pullRequestOf(double), never)).resolves.toEqual(first);
});

it("one of a fork with a branch of the same name is not this task's", async () => {
  const fork = {
    number: 9,
    state: "open",
    head: { ref: "slipway/one", repo_id: 2 },
    base: { ref: "main", repo_id: 1 },
  };
  double.fail({ method: "GET", status: 200, body: [fork] });
  await expect(opened.forge.openPullRequest(pullRequestOf(double), never)).resolves.toMatchObject({ number: 1 });
});

it("422 is told as what it means", async () => {
  const same = opened.forge.openPullRequest(pullRequestOf(double, { base: "slipway/one" }), never);
  await expect(same).rejects.toMatchObject({
    code: "pull_request_rejected",
    message: expect.stringContaining("there is nothing to merge") as string,
  });
});
