/**
 * A branch that people touch while a thread lives: a real coordinator process, real workers, a real
 * git server. Each case goes on, or says what to do before the agent has run.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(4, { concurrent: true });
let upstream: GitServer;
let server: RealServer;
let dir: string;
let repos = 0;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-living-"));
  upstream = await startGitServer();
  server = await startServer({
    dataDir: join(dir, "data"),
    policy: { backoffMs: 100, backoffCapMs: 500 },
    env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host },
  });
});
afterAll(async () => {
  await server.kill("SIGTERM");
  await upstream.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

interface App {
  readonly name: string;
  readonly url: string;
}
function createApp(): App {
  repos += 1;
  const name = `app${repos}`;
  return { name, url: upstream.createRepo(name, { "README.md": "# App\n", "shared.txt": "one\ntwo\nthree\n" }).url };
}

async function post(path: string, body: object): Promise<WireTask> {
  const answer = await server.call("POST", path, body);
  expect([answer.status, answer.body]).toMatchObject([201, { state: "queued" }]);
  return answer.body as WireTask;
}
const write = (path: string, content: string) => ({ write: { path, content } });
const finish = { finish: { title: "A change", summary: "Done." } };
const submit = (app: App, body: object = {}): Promise<WireTask> =>
  post("/v1/tasks", { repo: app.url, prompt: "The first change.", ...body });
const message = (id: string, text: string, options: object = {}): Promise<WireTask> =>
  post(`/v1/tasks/${id}/messages`, { text, ...options });
const retry = (id: string, body: object): Promise<WireTask> => post(`/v1/tasks/${id}/retry`, body);
const settled = (id: string): Promise<WireTask> =>
  eventually(async () => {
    const task = await server.task(id);
    return task.settledAt === null ? null : task;
  }, `task ${id} settles`);
const show = ({ name }: App, branch: string, path: string): string => upstream.git(name, "show", `${branch}:${path}`);
const contains = ({ name }: App, branch: string, sha: string): boolean =>
  upstream.git(name, "rev-list", `refs/heads/${branch}`).split("\n").includes(sha);

async function notices(id: string): Promise<string[]> {
  const events = await server.events(id);
  return events.flatMap(({ type, data }) =>
    type === "notice" ? [`${String(data["code"])}: ${String(data["text"])}`] : [],
  );
}
/** True when a worker was started for the task. */
const began = (events: readonly WireEvent[]): boolean =>
  events.some(({ type, data }) => type === "task.state" && data["reason"] === "ready");

async function pushed(app: App): Promise<WireTask> {
  const task = await settled((await submit(app)).id);
  expect([task.state, task.outcome]).toEqual(["done", "pushed"]);
  return task;
}

it("[W10] a follow-up goes on on top of the commits that people added, and says which", async () => {
  const app = createApp();
  const { id, branch } = await pushed(app);
  const human = upstream.commitOn(app.name, branch, { "people.txt": "by hand" }, "Say hello by hand");
  const next = await settled((await message(id, "The second change.")).id);
  expect([next.state, next.failure]).toEqual(["done", null]);
  expect(contains(app, branch, human)).toBe(true);
  expect(show(app, branch, "SLIPWAY.md")).toContain("The second change.");
  const said = (await notices(next.id)).find((text) => text.startsWith("branch_updated"));
  expect(said).toContain(`${human.slice(0, 8)} Upstream: Say hello by hand`);
  expect(said).toContain("people.txt");
  const { body } = await server.call("GET", `/v1/threads/${next.threadId}/conversation`);
  const news = (body as { items: WireEvent[] }).items.find(({ type }) => type === "notice");
  const commit = { sha: human, author: "Upstream", title: "Say hello by hand" };
  expect(news).toMatchObject({ taskId: next.id, data: { commits: [commit], commitCount: 1 } });
  expect(upstream.git(app.name, "log", "-1", "--format=%b", branch)).toBe("Added SLIPWAY.md, which holds the prompt.");
  // The diff holds what the branch adds to its base, and nothing of the base itself.
  const diff = (await server.call("GET", `/v1/tasks/${next.id}/diff`)).body as { files: { path: string }[] };
  expect(diff.files.map(({ path }) => path).toSorted()).toEqual(["SLIPWAY.md", "people.txt"]);
});

it("[W10] a force-push that rewrote the pushed work is kept, and the follow-up begins from it", async () => {
  const app = createApp();
  const { id, branch, headSha } = await pushed(app);
  const rewritten = upstream.commit(app.name, branch, { "SLIPWAY.md": "shorter\n" }, "Squashed by a person");
  const next = await settled((await message(id, "The second change.")).id);
  expect([next.state, next.failure]).toEqual(["done", null]);
  expect(contains(app, branch, rewritten)).toBe(true);
  expect(contains(app, branch, headSha ?? "")).toBe(false);
  expect((await notices(next.id)).join("\n")).toContain("branch_rewritten: ");
});

/** A follow-up whose push is refused: its work is saved, and upstream is what it was. */
async function saved(app: App, parent: WireTask): Promise<WireTask> {
  upstream.hook(app.name, "pre-receive", "#!/bin/sh\necho 'not now' >&2\nexit 1\n");
  const task = await settled((await message(parent.id, "The second change.")).id);
  expect(task.failure?.code).toBe("push_rejected");
  upstream.hook(app.name, "pre-receive", "#!/bin/sh\nexit 0\n");
  return task;
}

it("[W10] saved work that was not pushed is applied on top of what others pushed since", async () => {
  for (const how of ["commitOn", "commit"] as const) {
    const app = createApp();
    const parent = await pushed(app);
    const task = await saved(app, parent);
    const human = upstream[how](app.name, parent.branch, { "people.txt": "by hand" });
    const again = await settled((await retry(task.id, { from: "checkpoint" })).id);
    expect([how, again.state, again.failure]).toEqual([how, "done", null]);
    expect(contains(app, parent.branch, human)).toBe(true);
    expect(contains(app, parent.branch, parent.headSha ?? "")).toBe(how === "commitOn");
    expect(upstream.git(app.name, "ls-tree", "--name-only", parent.branch)).toContain("people.txt");
    if (how === "commitOn") expect(show(app, parent.branch, "SLIPWAY.md")).toContain("The second change.");
  }
});

it("[W10] saved work in conflict with what others pushed is left to the agent, with the names of the files", async () => {
  const app = createApp();
  const parent = await pushed(app);
  const task = await saved(app, parent);
  const human = upstream.commitOn(app.name, parent.branch, { "SLIPWAY.md": "by hand\n" });
  const again = await settled((await retry(task.id, { from: "checkpoint" })).id);
  expect([again.state, again.failure]).toEqual(["done", null]);
  expect((await notices(again.id)).join("\n")).toMatch(/in conflict with what others pushed in: SLIPWAY.md/);
  expect(contains(app, parent.branch, human)).toBe(true);
});

it("[W10] a merged branch that was deleted: the follow-up begins from the base that has the work", async () => {
  for (const how of ["merged", "squashed"]) {
    const app = createApp();
    const { id, branch, headSha } = await pushed(app);
    if (how === "merged") upstream.git(app.name, "update-ref", "refs/heads/main", headSha ?? "");
    else upstream.commitOn(app.name, "main", { "SLIPWAY.md": `${show(app, branch, "SLIPWAY.md")}\n` }, "Squashed");
    const main = upstream.commitOn(app.name, "main", { "later.txt": "after the merge" });
    upstream.git(app.name, "update-ref", "-d", `refs/heads/${branch}`);
    const next = await settled((await message(id, "The second change.")).id);
    expect([how, next.state, next.failure]).toEqual([how, "done", null]);
    expect(upstream.git(app.name, "rev-list", `main..${branch}`).split("\n")).toHaveLength(1);
    expect(contains(app, branch, main)).toBe(true);
    expect((await notices(next.id)).join("\n")).toContain("branch_merged: ");
  }
});

it("[W10] a branch that was deleted without a merge is made again, and the follow-up says so", async () => {
  const app = createApp();
  const { id, branch, headSha } = await pushed(app);
  upstream.git(app.name, "update-ref", "-d", `refs/heads/${branch}`);
  const next = await settled((await message(id, "The second change.")).id);
  expect([next.state, next.failure]).toEqual(["done", null]);
  expect(contains(app, branch, headSha ?? "")).toBe(true);
  expect((await notices(next.id)).join("\n")).toContain("branch_gone: ");
});

it("[W10] a sibling follow-up and a person between the two: all the work is on the branch", async () => {
  const app = createApp();
  const { id, branch } = await pushed(app);
  const first = await settled((await message(id, "The second change.")).id);
  const human = upstream.commitOn(app.name, branch, { "people.txt": "by hand" });
  const second = await settled((await message(id, "The third change.")).id);
  expect([first.outcome, second.outcome]).toEqual(["pushed", "pushed"]);
  for (const sha of [first.headSha, human, second.headSha]) expect(contains(app, branch, sha ?? "")).toBe(true);
});

it("[W10] a fresh start that would remove people's commits ends before a worker starts", async () => {
  const app = createApp();
  const { id, branch } = await pushed(app);
  const human = upstream.commitOn(app.name, branch, { "people.txt": "by hand" });
  const again = await settled((await retry(id, { from: "start" })).id);
  expect([again.failure?.code, again.failure?.stage]).toEqual(["branch_conflict", "provisioning"]);
  expect(again.failure?.message).toContain("Retry from `checkpoint`");
  expect(began(await server.events(again.id))).toBe(false);
  const onTop = await settled((await retry(again.id, { from: "checkpoint" })).id);
  expect([onTop.state, onTop.failure]).toEqual(["done", null]);
  expect(contains(app, branch, human)).toBe(true);
});

it("[W5] [W10] a fresh start keeps people's commits that a follow-up stands on", async () => {
  const app = createApp();
  const { id, branch } = await pushed(app);
  const human = upstream.commitOn(app.name, branch, { "people.txt": "by hand" });
  const next = await settled((await message(id, "The second change.")).id);
  expect(contains(app, branch, human)).toBe(true);
  const again = await settled((await retry(next.id, { from: "start" })).id);
  expect([again.failure?.code, again.failure?.stage]).toEqual(["branch_conflict", "provisioning"]);
  expect(contains(app, branch, human)).toBe(true);
  // Squashed into the base, nothing of theirs is lost any more.
  upstream.commitOn(app.name, "main", {
    "SLIPWAY.md": `${show(app, branch, "SLIPWAY.md")}\n`,
    "people.txt": "by hand",
  });
  const fresh = await settled((await retry(again.id, { from: "start", prompt: "The fourth change." })).id);
  expect([fresh.state, fresh.failure]).toEqual(["done", null]);
  expect(contains(app, branch, human)).toBe(false);
});

it("[W10] a branch with the work of others is named before a worker starts, and how to go on on it", async () => {
  const app = createApp();
  const human = upstream.commit(app.name, "feature", { "people.txt": "by hand" });
  const taken = await settled((await submit(app, { branch: "feature" })).id);
  expect([taken.failure?.code, taken.failure?.stage]).toEqual(["branch_conflict", "provisioning"]);
  expect(began(await server.events(taken.id))).toBe(false);
  const onTop = await settled((await submit(app, { branch: "feature", base: "feature" })).id);
  expect(onTop.outcome).toBe("pushed");
  expect(contains(app, "feature", human)).toBe(true);
});

it("[W10] the base is merged into the branch when a person asks, and conflicts are left for the agent", async () => {
  const app = createApp();
  const script = [write("shared.txt", "one\nours\nthree\n"), finish];
  const first = await settled((await submit(app, { script })).id);
  const clean = upstream.commitOn(app.name, "main", { "new.txt": "from main" });
  const merged = await settled((await message(first.id, "Go on.", { updateBase: true })).id);
  expect([merged.state, merged.failure]).toEqual(["done", null]);
  expect(contains(app, first.branch, clean)).toBe(true);
  expect(upstream.git(app.name, "rev-list", "--merges", `main..${first.branch}`).split("\n")).toHaveLength(1);

  const rival = upstream.commitOn(app.name, "main", { "shared.txt": "one\ntheirs\nthree\n" });
  const resolved = await settled((await message(merged.id, "Go on.", { updateBase: true })).id);
  expect([resolved.state, resolved.failure]).toEqual(["done", null]);
  expect((await notices(resolved.id)).join("\n")).toContain("these files are in conflict: shared.txt");
  expect(contains(app, first.branch, rival)).toBe(true);
  expect(show(app, first.branch, "shared.txt")).toContain("<<<<<<<");
});

it("[W10] a credential that may not push is known before a worker starts, unless the check is waived", async () => {
  const app = createApp();
  upstream.refuse(app.name, { on: "push", status: 403, text: "Permission to app denied to robot" });
  const refused = await settled((await submit(app)).id);
  expect([refused.failure?.code, refused.failure?.stage]).toEqual(["push_forbidden", "provisioning"]);
  expect(began(await server.events(refused.id))).toBe(false);
  const waived = await settled((await submit(app, { checkPush: false })).id);
  expect([waived.failure?.code, waived.failure?.stage]).toEqual(["push_auth", "pushing"]);
});
