/** Which tasks get a pull request: what a submission says, what the server does by default. */
import { afterEach, expect, it } from "vitest";
import type { SubmitRequest } from "../../../src/core/protocol/rest.ts";
import { WORK_REF } from "../../../src/core/ports/repositories.ts";
import type { PullRequestMode } from "../../../src/core/task.ts";
import { ALICE, openHarness, REPO, type Harness } from "../../support/coordinator/harness.ts";

let harness: Harness | null = null;
afterEach(() => harness?.close());
const open = async (pullRequest?: PullRequestMode): Promise<Harness> =>
  (harness = await openHarness({ settings: pullRequest === undefined ? {} : { pullRequest } }));
const modeOf = async ({ submit }: Harness, request: Partial<SubmitRequest>): Promise<PullRequestMode> =>
  (await submit(request)).spec.pullRequest;

const ELSEWHERE = "https://elsewhere.example.com/team/app";

it("a submission for a repository of no known forge is rejected with the list of those that are", async () => {
  const { submit, store } = await open();
  await expect(submit({ repo: ELSEWHERE, pullRequest: "ready" })).rejects.toMatchObject({
    code: "forge_unavailable",
    message:
      'This server opens pull requests on git.example.com (Test forge), not on elsewhere.example.com. An operator adds a forge with SLIPWAY_FORGES. Or submit with pullRequest "none".',
  });
  await expect(submit({ base: "main", branch: "main", pullRequest: "ready" })).rejects.toMatchObject({
    code: "invalid_branch",
  });
  expect((await store.tasks({ userId: null, limit: 1 })).items).toEqual([]);
});

it("what a task does not say is the server's setting, where it can be", async () => {
  const usual = await open("draft");
  expect(await modeOf(usual, {})).toBe("draft");
  expect(await modeOf(usual, { pullRequest: "none" })).toBe("none");
  expect(await modeOf(usual, { pullRequest: "ready" })).toBe("ready");
  expect(await modeOf(usual, { repo: ELSEWHERE })).toBe("none");
  expect(await modeOf(usual, { base: "next", branch: "next" })).toBe("none");
  expect(usual.coordinator.tasks.capabilities().pullRequests).toEqual({
    default: "draft",
    forges: [{ name: "Test forge", host: "git.example.com" }],
  });
});

it("a retry of the push opens one for work that is pushed, and another kind of retry keeps the mode", async () => {
  const { submit, until, untilWorker, fakeWorkers, coordinator, repos } = await open();
  const { id } = await submit({ pullRequest: "none" });
  await until(id, "provisioning");
  await untilWorker(id);
  const finished = { sha: await repos.commit(id, WORK_REF, "work"), title: "A title", summary: "Done." };
  await fakeWorkers.send(coordinator.workerApi, id, ["ready", {}], ["finished", finished]);
  expect((await until(id, "done")).snapshot.context.pullRequest).toBeNull();
  const again = await coordinator.tasks.retry(ALICE, id, { from: "push", pullRequest: "ready" });
  expect((await until(again.id, "done")).snapshot.context).toMatchObject({
    attempt: 0,
    pullRequest: { url: `${REPO}/pull/1` },
  });
  expect((await coordinator.tasks.retry(ALICE, again.id, {})).spec.pullRequest).toBe("ready");
});
