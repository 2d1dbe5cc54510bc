/** The row of a task: what a list shows without reading the task's log. */
import { afterAll, beforeAll, expect, it } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { LOCAL_TOKEN, openApiServer, REPO, type ApiServer } from "../api-server.ts";

let api: ApiServer;
let alice: { userId: string; accessToken: string };
beforeAll(async () => {
  api = await openApiServer();
  alice = await api.person("alice@example.com");
});
afterAll(() => api.close());

it("[V3] it names its owner, to operators too", async () => {
  const order = { repo: `${REPO}.git`, prompt: "x" };
  const own = (await api.call("POST", "/v1/tasks", { token: alice.accessToken, body: order })).body as WireTask;
  expect(own.owner).toEqual({ id: alice.userId, email: "alice@example.com" });
  expect(own.repoName).toBe("team/app");
  await api.call("POST", "/v1/tasks", { token: LOCAL_TOKEN, body: order });
  const { items } = (await api.call("GET", "/v1/tasks", { token: LOCAL_TOKEN })).body as { items: WireTask[] };
  expect(items.map(({ owner }) => owner.email)).toEqual(["local@localhost", "alice@example.com"]);
});

it("[V3] it has what was submitted, so that the same can be submitted again with changes", async () => {
  const order = {
    repo: REPO,
    prompt: "x",
    base: "develop",
    budget: { usd: 3, minutes: 20 },
    limits: { memoryMb: 512 },
    egress: "none",
    verify: ["npm test"],
    priority: 4,
    maxAttempts: 2,
  };
  const { submission } = (await api.call("POST", "/v1/tasks", { token: alice.accessToken, body: order }))
    .body as WireTask;
  const { repo: _, prompt: __, ...asked } = order;
  expect(submission).toEqual({ ...asked, pullRequest: "none" });
  const again = (
    await api.call("POST", "/v1/tasks", { token: alice.accessToken, body: { repo: REPO, prompt: "y", ...submission } })
  ).body as WireTask;
  expect(again.submission).toEqual(submission);
});

it("[V3] it follows its log: the list, the size of the change, and what was done last", async () => {
  const { id } = (
    await api.call("POST", "/v1/tasks", { token: alice.accessToken, body: { repo: REPO, prompt: "z", priority: 9 } })
  ).body as WireTask;
  const { harness } = api;
  const read = async () => (await api.call("GET", `/v1/tasks/${id}`, { token: alice.accessToken })).body as WireTask;
  expect([(await read()).todo, (await read()).changes, (await read()).activity]).toEqual([null, null, null]);
  await harness.untilWorker(id);
  const items = [
    { text: "Look", status: "completed" },
    { text: "Write", status: "in_progress" },
  ];
  await harness.fakeWorkers.send(
    harness.coordinator.workerApi,
    id,
    ["ready", {}],
    ["todo", { items }],
    ["tool.started", { id: "t1", name: "bash", input: { command: "npm  test" } }],
  );
  const row = await read();
  expect([row.todo, row.activity?.text]).toEqual([{ done: 1, total: 2, current: "Write" }, "npm test"]);
  const { items: listed } = (await api.call("GET", "/v1/tasks?limit=1", { token: alice.accessToken })).body as {
    items: WireTask[];
  };
  expect(listed).toEqual([row]);
});

it("[V11] it is unread after a question and an end, until its owner marks it read; their own acts are read", async () => {
  const { harness } = api;
  const ask = async (token: string, method: string, path: string, body?: object) =>
    await api.call(method, path, { token, ...(body === undefined ? {} : { body }) });
  const submitted = (await ask(alice.accessToken, "POST", "/v1/tasks", { repo: REPO, prompt: "z", priority: 10 })).body;
  const { id } = submitted;
  expect([submitted.notableSeq, submitted.readSeq]).toEqual([0, 0]);
  await harness.untilWorker(id);
  const work = (
    ...events: Parameters<typeof harness.fakeWorkers.send> extends [unknown, unknown, ...infer R] ? R : never
  ) => harness.fakeWorkers.send(harness.coordinator.workerApi, id, ...events);
  const row = async (): Promise<WireTask> => {
    const [listed] = (await ask(alice.accessToken, "GET", "/v1/tasks?limit=1")).body.items;
    expect((await ask(alice.accessToken, "GET", `/v1/tasks/${id}`)).body).toEqual(listed);
    return listed;
  };
  const mark = async (seq: number, token = alice.accessToken) =>
    await ask(token, "POST", `/v1/tasks/${id}/read`, { seq });
  await work(["ready", {}], ["todo", { items: [] }]);
  expect((await row()).notableSeq).toBe(0);
  await work(["question", { id: "q1", question: "Tabs?", options: null }]);
  const asked = await row();
  expect([asked.notableSeq, asked.readSeq]).toEqual([asked.seq, 0]);
  expect((await mark(asked.seq - 1)).body.readSeq).toBe(0);
  const read = await mark(9_000_000);
  expect([read.status, read.body]).toEqual([200, { ...asked, readSeq: asked.seq }]);
  expect((await mark(1)).body.readSeq).toBe(asked.seq);
  expect(
    (await ask(alice.accessToken, "POST", `/v1/tasks/${id}/answer`, { questionId: "q1", text: "yes" })).status,
  ).toBe(200);
  expect((await row()).notableSeq).toBe(0);
  await ask(LOCAL_TOKEN, "POST", `/v1/ops/tasks/${id}/kill`, {});
  const killed = await row();
  expect(killed.notableSeq).toBeGreaterThan(killed.readSeq);

  const eve = await api.person("eve@example.com");
  const refused = [await mark(1, eve.accessToken), await mark(1, LOCAL_TOKEN), await mark(-1)];
  expect(refused.map(({ status, body }) => [status, body.code])).toEqual([
    [404, "not_found"],
    [403, "forbidden"],
    [400, "invalid_request"],
  ]);
  expect((await row()).readSeq).toBe(asked.seq);
});

it("[V7] a person's repositories are listed, the last used first, and one can be checked before a task", async () => {
  const carol = await api.person("carol@example.com");
  const token = carol.accessToken;
  const ask = async (method: string, path: string, body?: object) =>
    (await api.call(method, path, { token, ...(body === undefined ? {} : { body }) })).body;
  expect(await ask("GET", "/v1/repositories/recent")).toEqual({ items: [] });
  for (const change of [{ base: "develop" }, { repo: `${REPO}-two` }, { repo: `${REPO}.git` }])
    await ask("POST", "/v1/tasks", { repo: REPO, prompt: "x", ...change });
  const { items } = await ask("GET", "/v1/repositories/recent");
  expect(items).toMatchObject([
    { repo: `${REPO}.git`, name: "team/app", host: "git.example.com", base: null, tasks: 2 },
    { repo: `${REPO}-two`, name: "team/app-two", tasks: 1 },
  ]);
  expect((await ask("GET", "/v1/repositories/recent?limit=1")).items).toHaveLength(1);
  const found = await ask("POST", "/v1/repositories/check", { repo: `${REPO}/`, base: "nowhere" });
  expect(found).toMatchObject({ repo: REPO, canRead: true, canPush: true, forge: "Test forge", branches: ["main"] });
  expect(found.problems).toMatchObject([{ code: "branch_not_found", about: "base" }]);
  for (const [body, code] of [
    [{ repo: "https://x:y@git.example.com/team/app" }, "invalid_repository"],
    [{ repo: REPO, base: "a b" }, "invalid_branch"],
    [{}, "invalid_request"],
  ] as const)
    expect((await ask("POST", "/v1/repositories/check", body)).code).toBe(code);
  for (let i = 0; i < 29; i++) await ask("POST", "/v1/repositories/check", { repo: REPO });
  const check = (asker = token) => api.call("POST", "/v1/repositories/check", { token: asker, body: { repo: REPO } });
  const refused = await check();
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "60"]);
  expect((await check(alice.accessToken)).status).toBe(200);
  await api.clock.advance(60_000);
  expect((await check()).status).toBe(200);
});
