/** Quotas of people: their defaults, who may change them, and the text of a refusal. */
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Usage } from "../../../src/client/types.ts";
import { openApiServer, REPO, type Answered, type ApiServer } from "../api-server.ts";

let api: ApiServer;
let admin: string;
beforeAll(async () => {
  api = await openApiServer();
  admin = (await api.person("admin@example.com", "admin")).accessToken;
});
afterAll(() => api.close());

let people = 0;
async function personWith(quotas: object): Promise<{ userId: string; accessToken: string }> {
  const person = await api.person(`person-${++people}@example.com`);
  const set = await api.call("POST", `/v1/users/${person.userId}/quotas`, { token: admin, body: quotas });
  expect([set.status, set.body.quotas]).toEqual([200, expect.objectContaining(quotas)]);
  return person;
}
const submit = (token: string, key?: string): Promise<Answered> =>
  api.call("POST", "/v1/tasks", {
    token,
    body: { repo: REPO, prompt: "x" },
    headers: key === undefined ? {} : { "Idempotency-Key": key },
  });
const usageOf = async (token: string): Promise<Usage[]> =>
  (await api.call("GET", "/v1/usage", { token })).body.items as Usage[];

it("[S14] of many submissions at once the quota passes; the rest is told what, how much and until when", async () => {
  const { accessToken } = await personWith({ tasksPerMinute: 3 });
  const first = await submit(accessToken, "first");
  const answers = await Promise.all(Array.from({ length: 8 }, () => submit(accessToken)));
  expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([
    201, 201, 429, 429, 429, 429, 429, 429,
  ]);
  const refused = answers.find(({ status }) => status === 429);
  expect(refused?.body).toMatchObject({
    code: "quota_exceeded",
    detail: expect.stringMatching(/quota of 3 tasks that a person may begin in a minute .* after 20\d\d-/) as string,
    errors: [{ path: "tasksPerMinute" }],
  });
  expect(Number(refused?.headers.get("retry-after"))).toBeGreaterThan(0);
  // Sent again, a request that was accepted is answered as before.
  const again = await submit(accessToken, "first");
  expect([again.status, again.body.id]).toEqual([200, first.body.id]);
  const other = await api.person("other@example.com");
  expect((await submit(other.accessToken)).status).toBe(201);
  await api.clock.jump(60_001);
  expect((await submit(accessToken)).status).toBe(201);
});

it("[S14] retries and follow-ups count; a quota of open tasks has room again when one has ended", async () => {
  const { accessToken } = await personWith({ openTasks: 1, tasksPerDay: 3 });
  const { body: task } = await submit(accessToken);
  expect((await submit(accessToken)).body).toMatchObject({ code: "quota_exceeded", errors: [{ path: "openTasks" }] });
  await api.call("POST", `/v1/tasks/${task.id}/cancel`, { token: accessToken });
  await api.harness.until(task.id, "cancelled");
  const retry = await api.call("POST", `/v1/tasks/${task.id}/retry`, { token: accessToken, body: {} });
  expect(retry.status).toBe(201);
  const followUp = { token: accessToken, body: { text: "And this." } };
  expect((await api.call("POST", `/v1/tasks/${task.id}/messages`, followUp)).body.code).toBe("quota_exceeded");
  await api.call("POST", `/v1/tasks/${retry.body.id}/cancel`, { token: accessToken });
  await api.harness.until(retry.body.id, "cancelled");
  expect((await api.call("POST", `/v1/tasks/${task.id}/messages`, followUp)).status).toBe(201);
  const { tasks } = (await usageOf(accessToken))[0] as Usage;
  expect(tasks).toEqual({ open: 1, day: 3 });
});

it("[S14] searches are counted, and lists without a search are not", async () => {
  const { accessToken: token } = await personWith({ searchesPerMinute: 2 });
  const list = async (query: string): Promise<number> => (await api.call("GET", `/v1/tasks${query}`, { token })).status;
  expect([await list("?q=a"), await list("?q=b"), await list("?q=c"), await list("")]).toEqual([200, 200, 429, 200]);
  await api.clock.jump(60_001);
  expect(await list("?q=c")).toBe(200);
});

it("[S14] the dollars of a day and of a month are a person's own, over the installation's", async () => {
  const { coordinator, ledger, clock } = api.harness;
  const rich = await personWith({ dayUsd: null });
  const poor = await personWith({ monthUsd: 5 });
  for (const { userId } of [rich, poor])
    await ledger.record({
      id: `req_${userId}`,
      taskId: "task_1",
      userId,
      attempt: 1,
      at: clock.now(),
      model: "claude-sonnet-5-5",
      inputTokens: 1,
      outputTokens: 1,
      cacheReadTokens: 0,
      cacheWriteTokens: 0,
      usd: 6,
      estimated: false,
    });
  expect(await coordinator.budget.isExhausted(rich.userId)).toBe(false);
  expect(await coordinator.budget.isExhausted(poor.userId)).toBe(true);
  expect((await usageOf(poor.accessToken))[0]?.usd).toEqual({ day: 6, month: 6 });
  await api.call("POST", `/v1/users/${poor.userId}/quotas`, { token: admin, body: { reset: true } });
  expect(await coordinator.budget.isExhausted(poor.userId)).toBe(false);
});

it("[S14] people see what they use, operators what everybody uses", async () => {
  const { accessToken } = await personWith({ openTasks: 7 });
  const operator = await api.person("operator@example.com", "operator");
  expect((await usageOf(accessToken)).map(({ quotas }) => quotas.openTasks)).toEqual([7]);
  const all = await usageOf(operator.accessToken);
  expect(all.map(({ user }) => user.email)).toEqual(
    expect.arrayContaining(["admin@example.com", "operator@example.com"]),
  );
  const refused = await api.call("POST", `/v1/users/${operator.userId}/quotas`, {
    token: operator.accessToken,
    body: { openTasks: null },
  });
  expect(refused.status).toBe(403);
});

it("[S14] what is stored has a quota: beyond it nothing begins, and the refusal says what is stored and what to do", async () => {
  const { accessToken: token, userId } = await personWith({ storageMb: 1 });
  const { body: task } = await submit(token, "before");
  const size = 700_000;
  for (const name of ["a", "b"]) {
    const upload = { token, raw: Buffer.alloc(size, name), headers: { "content-type": "application/octet-stream" } };
    expect((await api.call("POST", `/v1/attachments?name=${name}.bin`, upload)).status).toBe(201);
  }
  // Measured when it is asked for, at the latest half a minute after it was written.
  await api.clock.jump(30_001);
  const [usage] = await usageOf(token);
  expect(usage?.storage).toMatchObject({ attachments: 2 * size, transcripts: 0, repositories: 1_024 });
  expect(usage?.storage.total).toBe(2 * size + 2 * 1_024);
  const refused = await submit(token);
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, null]);
  expect(refused.body).toMatchObject({
    code: "quota_exceeded",
    detail: expect.stringMatching(/^2 of 1 MB are stored for you \(attachments 2\)\. Delete tasks .*ask an admin/),
    errors: [{ path: "storageMb" }],
  });
  // Running tasks continue, a repeated request still succeeds, and other people are not affected.
  expect((await submit(token, "before")).body.id).toBe(task.id);
  expect((await api.call("GET", `/v1/tasks/${task.id}`, { token })).body.state).not.toBe("failed");
  expect((await submit((await personWith({ storageMb: 1 })).accessToken)).status).toBe(201);
  const operator = (await api.person("looker@example.com", "operator")).accessToken;
  const one = await api.call("GET", `/v1/usage?user=${userId}`, { token: operator });
  expect((one.body.items as Usage[]).map(({ user }) => user.id)).toEqual([userId]);
  await api.call("POST", `/v1/users/${userId}/quotas`, { token: admin, body: { storageMb: 2 } });
  expect((await submit(token)).status).toBe(201);
});
