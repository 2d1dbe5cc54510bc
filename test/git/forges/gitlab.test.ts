import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { forgeSuite } from "../../contract/forge.ts";
import { pullRequestOf, type ForgeDouble } from "./forge-double.ts";
import { startGitLabDouble } from "./gitlab-double.ts";

describe("a forge", () => forgeSuite(startGitLabDouble));

let double: ForgeDouble;
let opened: ReturnType<ForgeDouble["open"]>;
beforeEach(async () => {
  double = await startGitLabDouble();
  opened = double.open();
});
afterEach(async () => {
  await opened.close();
  await double.close();
});
const never = new AbortController().signal;

it("[W9] one that the first list does not show yet is adopted when GitLab says that it exists", async () => {
  const first = await opened.forge.openPullRequest(pullRequestOf(double), never);
  double.fail({ method: "GET", status: 200, body: [] });
  await expect(opened.forge.openPullRequest(pullRequestOf(double), never)).resolves.toEqual(first);
});

it("a token without the scope is told in GitLab's words and ours", async () => {
  const body = { error: "insufficient_scope", error_description: "The request requires higher privileges." };
  double.fail({ method: "POST", status: 403, body });
  await expect(opened.forge.openPullRequest(pullRequestOf(double), never)).rejects.toMatchObject({
    code: "pull_request_auth",
    message: expect.stringMatching(/scope `api`.*insufficient_scope; The request requires/) as string,
  });
});
