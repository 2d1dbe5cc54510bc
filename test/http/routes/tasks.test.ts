import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LOCAL_TOKEN, openApiServer, REPO, type Asked, type ApiServer } from "../api-server.ts";
import { checkpointRef } from "../../../src/core/ports/repositories.ts";

let api: ApiServer;
let ada: string;
let bob: string;
let operator: string;
beforeAll(async () => {
  api = await openApiServer();
  ada = (await api.person("ada@example.com")).accessToken;
  bob = (await api.person("bob@example.com")).accessToken;
  operator = (await api.person("olga@example.com", "operator")).accessToken;
});
afterAll(() => api.close());

const submit = (asked: Asked = {}) =>
  api.call("POST", "/v1/tasks", { token: ada, body: { repo: REPO, prompt: "Do it." }, ...asked });
const submitted = async (asked: Asked = {}): Promise<string> => (await submit(asked)).body.id;
const get = (path: string, token = ada) => api.call("GET", path, { token });

async function running(): Promise<string> {
  const id = await submitted();
  await api.harness.untilWorker(id);
  await api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ["ready", {}]);
  await api.harness.until(id, "running.working");
  return id;
}

async function cancelled(): Promise<string> {
  const id = await submitted();
  expect((await api.call("POST", `/v1/tasks/${id}/cancel`, { token: ada })).status).toBe(202);
  await api.clock.advance(60_000);
  await api.harness.until(id, "cancelled");
  return id;
}

describe("submit", () => {
  it("[R1] 201 with the task and its Location; the store has it", async () => {
    const made = await submit({
      body: { repo: REPO, prompt: "Fix the <b>bug</b>", title: "Bug", budget: { usd: 1, minutes: 5 }, priority: 3 },
    });
    expect(made.status).toBe(201);
    expect(made.headers.get("location")).toBe(`/v1/tasks/${made.body.id}`);
    expect(made.body).toMatchObject({
      repo: REPO,
      title: "Bug",
      prompt: "Fix the <b>bug</b>",
      budget: { usd: 1, minutes: 5 },
      parentId: null,
    });
    expect((await api.store.task(made.body.id))?.spec.prompt).toBe("Fix the <b>bug</b>");
    expect((await get(`/v1/tasks/${made.body.id}`)).body.id).toBe(made.body.id);
  });

  it("[R5] the same key: 201, then 200 with the same task, also for many at once; another body is 422; another person's key is their own", async () => {
    const headers = { "idempotency-key": "k-1" };
    const many = await Promise.all(Array.from({ length: 10 }, () => submit({ headers })));
    expect(new Set(many.map((one) => one.body.id)).size).toBe(1);
    expect(many.map((one) => one.status).toSorted((a, b) => a - b)).toEqual([
      ...Array.from({ length: 9 }, () => 200),
      201,
    ]);
    expect((await submit({ headers })).status).toBe(200);
    const other = await submit({ headers, body: { repo: REPO, prompt: "Something else." } });
    expect([other.status, other.body.code]).toEqual([422, "idempotency_mismatch"]);
    const bobs = await submit({ headers, token: bob });
    expect(bobs.status).toBe(201);
    expect(bobs.body.id).not.toBe(many[0]!.body.id);
  });

  it("a malformed key is 400", async () => {
    for (const key of ["", "a b", "x".repeat(256), "a,\tb"]) {
      const answered = await submit({ headers: { "idempotency-key": key } });
      expect([answered.status, answered.body.errors[0].path]).toEqual([400, "Idempotency-Key"]);
    }
  });

  it("a refusal of the service has its code, and nothing is created", async () => {
    const before = (await get("/v1/tasks?limit=200")).body.items.length;
    const refusals: [object, string][] = [
      [{ repo: "ext::sh -c touch% /tmp/x" }, "invalid_repository"],
      [{ branch: "a..b" }, "invalid_branch"],
      [{ agent: "nobody" }, "agent_unavailable"],
      [{ agent: "anthropic", model: "claude-opus-5-5" }, "model_unavailable"],
      [{ egress: "open" }, "egress_unavailable"],
      [{ limits: { diskMb: 16_385 } }, "limits_unavailable"],
      [{ limits: { memoryMb: 8_193 } }, "limits_unavailable"],
      [{ limits: { diskMb: 63 } }, "invalid_request"],
      [{ limits: { cpus: 0 } }, "invalid_request"],
    ];
    for (const [change, code] of refusals) {
      const answered = await submit({ body: { repo: REPO, prompt: "x", ...change } });
      expect([answered.status, answered.body.code]).toEqual([400, code]);
    }
    expect((await get("/v1/tasks?limit=200")).body.items).toHaveLength(before);
  });
});

describe("the agent and its model", () => {
  it("the options for submissions are returned, and a task shows what was submitted", async () => {
    const offer = (await get("/v1/config")).body;
    expect(offer).toMatchObject({
      agents: ["scripted", "anthropic"],
      model: "claude-sonnet-5-5",
      models: ["claude-sonnet-*"],
    });
    const plain = await submit({ body: { repo: REPO, prompt: "x", agent: "anthropic" } });
    expect(plain.body).toMatchObject({ agent: "anthropic", model: "claude-sonnet-5-5", effort: null });
    const chosen = { agent: "anthropic", model: "claude-sonnet-4-6", effort: offer.efforts.at(-1) };
    expect((await submit({ body: { repo: REPO, prompt: "x", ...chosen } })).body).toMatchObject(chosen);
    expect((await submit({ body: { repo: REPO, prompt: "x" } })).body).toMatchObject({
      agent: "scripted",
      model: null,
    });
    expect((await submit({ body: { repo: REPO, prompt: "x", effort: "extreme" } })).status).toBe(400);
  });
});

it("each limit above the operator's maximum is reported with its setting; the maximum itself is accepted", async () => {
  const asks = (limits: object) => submit({ body: { repo: REPO, prompt: "x", limits } });
  const answered = await asks({ diskMb: 20_000, memoryMb: 64, cpus: 64.5 });
  expect([answered.status, answered.body.code]).toEqual([400, "invalid_request"]);
  const refused = await asks({ diskMb: 20_000, memoryMb: 9_000, cpus: 64 });
  expect(refused.body.errors).toEqual([
    { path: "limits.memoryMb", message: "at most 8192 (SLIPWAY_MAX_MEMORY_MB)" },
    { path: "limits.diskMb", message: "at most 16384 (SLIPWAY_MAX_DISK_MB)" },
  ]);
  expect((await asks({ diskMb: 16_384, memoryMb: 8_192, cpus: 64 })).status).toBe(201);
});

describe("[S2] another's task", () => {
  it("is 404 on every route, for reads and writes, and in no list", async () => {
    const id = await running();
    const path = `/v1/tasks/${id}`;
    for (const suffix of [
      "",
      "/events",
      "/messages",
      "/tool-calls",
      "/attempts",
      "/diff",
      "/diff?format=patch",
      "/machine",
    ]) {
      const answered = await get(path + suffix, bob);
      expect([answered.status, answered.body.code], suffix).toEqual([404, "not_found"]);
    }
    const deeds: [string, string, unknown?][] = [
      ["POST", "/cancel"],
      ["POST", "/retry", {}],
      ["POST", "/messages", { text: "hello" }],
      ["DELETE", "/messages/msg_1"],
      ["POST", "/answer", { questionId: "q", text: "x" }],
    ];
    for (const [method, suffix, body] of deeds) {
      expect((await api.call(method, path + suffix, { token: bob, body })).status, suffix).toBe(404);
    }
    expect((await api.call("POST", `/v1/ops/tasks/${id}/kill`, { token: bob })).status).toBe(403);
    const list = await get("/v1/tasks?limit=200", bob);
    expect(list.text).not.toContain(id);
    expect((await get(`/v1/tasks?thread=${id.replace("task_", "thread_")}`, bob)).body.items).toEqual([]);
    expect((await get(path)).body.state).toBe("running");
  });

  it("returns the same error as an unknown task", async () => {
    const id = await submitted();
    const never = await get(`/v1/tasks/task_${"9".repeat(26)}`, bob);
    expect((await get(`/v1/tasks/${id}`, bob)).body).toEqual(never.body);
  });

  it("is open to operators", async () => {
    const id = await submitted();
    expect((await get(`/v1/tasks/${id}`, operator)).body.id).toBe(id);
    expect((await get(`/v1/tasks/${id}/machine`, LOCAL_TOKEN)).status).toBe(200);
    expect((await get("/v1/tasks?limit=200", operator)).text).toContain(id);
  });
});

describe("lists", () => {
  it("newest first, in pages without gaps or duplicates, by state, thread and text", async () => {
    const cleo = (await api.person("cleo@example.com")).accessToken;
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) ids.push(await submitted({ token: cleo, body: { repo: REPO, prompt: `Number ${i}` } }));
    const seen: string[] = [];
    for (let cursor: string | null = ""; cursor !== null;) {
      const page: { body: { items: { id: string }[]; next: string | null } } = await get(
        `/v1/tasks?limit=2${cursor && `&cursor=${cursor}`}`,
        cleo,
      );
      seen.push(...page.body.items.map((task) => task.id));
      cursor = page.body.next;
    }
    expect(seen).toEqual([...ids].reverse());
    const { watchAfter } = (await get("/v1/tasks", cleo)).body;
    const revs = await Promise.all(ids.map(async (id) => (await api.store.task(id))?.rev ?? 0));
    expect(watchAfter).toBe(Math.max(...revs));
    expect((await get("/v1/tasks?state=done", cleo)).body.watchAfter).toBeNull();
    const only = async (query: string) =>
      (await get(`/v1/tasks?${query}`, cleo)).body.items.map((task: { id: string }) => task.id);
    expect(await only("q=nUMBER%203")).toEqual([ids[3]]);
    expect(await only(`thread=${ids[1]!.replace("task_", "thread_")}`)).toEqual([ids[1]]);
    expect(await only("state=done,failed")).toEqual([]);
    expect(await only("state=queued,provisioning,running&limit=200")).toHaveLength(5);
  });

  it("a malformed query is 400 with the field", async () => {
    for (const [query, path] of [
      ["limit=0", "limit"],
      ["limit=201", "limit"],
      ["limit=x", "limit"],
      ["state=open", "state.0"],
      ["cursor=%27", "cursor"],
      ["cursor=task_1", "cursor"],
    ] as const) {
      const answered = await get(`/v1/tasks?${query}`);
      expect([answered.status, answered.body.errors?.[0]?.path], query).toEqual([400, path]);
    }
    const id = await submitted();
    for (const query of ["after=-1", "after=1e99", "after=NaN", "limit=1001", "after=1.5"]) {
      expect((await get(`/v1/tasks/${id}/events?${query}`)).status, query).toBe(400);
    }
  });
});

describe("a task's life", () => {
  it("[D7] cancel is 202 and may be repeated; once settled it is 409", async () => {
    const id = await running();
    const cancel = () => api.call("POST", `/v1/tasks/${id}/cancel`, { token: ada });
    expect((await cancel()).status).toBe(202);
    const again = await cancel();
    expect([202, 409]).toContain(again.status);
    await api.clock.advance(60_000);
    await api.harness.until(id, "cancelled");
    expect((await cancel()).body.code).toBe("task_settled");
  });

  it("retry makes a task of the same thread; an open one is 409", async () => {
    const open = await running();
    expect((await api.call("POST", `/v1/tasks/${open}/retry`, { token: ada })).body.code).toBe("task_open");
    const id = await cancelled();
    const push = await api.call("POST", `/v1/tasks/${id}/retry`, { token: ada, body: { from: "push" } });
    expect([push.status, push.body.code]).toEqual([409, "nothing_to_push"]);
    const made = await api.call("POST", `/v1/tasks/${id}/retry`, {
      token: ada,
      body: { from: "start", prompt: "Again." },
    });
    expect(made.status).toBe(201);
    expect(made.body).toMatchObject({ parentId: id, threadId: id.replace("task_", "thread_"), prompt: "Again." });
    expect((await api.call("POST", `/v1/tasks/${id}/retry`, { token: ada })).status).toBe(201);
    expect((await api.call("POST", `/v1/tasks/${id}/retry`, { token: ada, body: { from: "middle" } })).status).toBe(
      400,
    );
  });

  it("messages: queued, listed, withdrawn once, and a follow-up when the task is settled", async () => {
    const id = await running();
    const said = await api.call("POST", `/v1/tasks/${id}/messages`, { token: ada, body: { text: "Use tabs." } });
    expect([said.status, said.body.status, said.body.mode]).toEqual([202, "queued", "steer"]);
    const list = await get(`/v1/tasks/${id}/messages`);
    expect(list.body.items).toMatchObject([
      { id: said.body.id, role: "user", content: [{ type: "text", text: "Use tabs." }] },
    ]);
    const path = `/v1/tasks/${id}/messages/${said.body.id}`;
    expect((await api.call("DELETE", path, { token: ada })).status).toBe(204);
    expect((await get(`/v1/tasks/${id}/messages`)).body.items[0].status).toBe("withdrawn");
    expect((await api.call("DELETE", `/v1/tasks/${id}/messages/msg_none`, { token: ada })).status).toBe(404);
    const read = await api.call("POST", `/v1/tasks/${id}/messages`, { token: ada, body: { text: "And spaces." } });
    await api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, [
      "message.status",
      { id: read.body.id, status: "delivered" },
    ]);
    const late = await api.call("DELETE", `/v1/tasks/${id}/messages/${read.body.id}`, { token: ada });
    expect([late.status, late.body.code]).toEqual([409, "message_delivered"]);
    const over = await cancelled();
    const follow = await api.call("POST", `/v1/tasks/${over}/messages`, {
      token: ada,
      body: { text: "One more thing." },
    });
    expect(follow.status).toBe(201);
    expect(follow.body).toMatchObject({ parentId: over, prompt: "One more thing." });
  });

  it("[R11] a fork of a settled task is in a thread and on a branch of its own; a task that runs is not forked", async () => {
    const fork = (id: string, text = "Another way.") =>
      api.call("POST", `/v1/tasks/${id}/messages`, { token: ada, body: { text, fork: true } });
    const open = await running();
    expect([(await fork(open)).status, (await fork(open)).body.code]).toEqual([409, "task_open"]);
    expect((await get(`/v1/tasks/${open}/messages`)).body.items).toEqual([]);
    const id = await cancelled();
    const before = (await get(`/v1/tasks/${id}`)).body;
    const { status, body } = await fork(id);
    expect(status).toBe(201);
    expect(body).toMatchObject({ parentId: id, prompt: "Another way.", threadId: body.id.replace("task_", "thread_") });
    expect([body.threadId, body.branch]).not.toEqual([before.threadId, before.branch]);
    expect((await get(`/v1/tasks?thread=${before.threadId}`)).body.items).toHaveLength(1);
    expect((await get(`/v1/tasks/${id}`)).body).toEqual(before);
  });

  it("[R5] the same key sends a message once", async () => {
    const id = await running();
    const say = (text: string) =>
      api.call("POST", `/v1/tasks/${id}/messages`, {
        token: ada,
        body: { text },
        headers: { "idempotency-key": "m-1" },
      });
    const first = await say("Once.");
    expect((await say("Once.")).body.id).toBe(first.body.id);
    expect((await say("Twice.")).body.code).toBe("idempotency_mismatch");
    expect((await get(`/v1/tasks/${id}/messages`)).body.items).toHaveLength(1);
  });

  it("a question shows, the first answer counts, the second is 409", async () => {
    const id = await running();
    await api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, [
      "question",
      { id: "q1", question: "Tabs?", options: ["yes", "no"] },
    ]);
    const asked = await get(`/v1/tasks/${id}`);
    expect(asked.body).toMatchObject({
      state: "running",
      phase: "awaiting_input",
      question: { id: "q1", options: ["yes", "no"] },
    });
    const answer = (questionId: string) =>
      api.call("POST", `/v1/tasks/${id}/answer`, { token: ada, body: { questionId, text: "yes" } });
    expect((await answer("q9")).status).toBe(404);
    expect((await answer("q1")).body).toMatchObject({ id, question: null });
    expect((await answer("q1")).body.code).toBe("already_answered");
  });

  it("a question that closed without an answer is 409 `question_expired`", async () => {
    const id = await running();
    const question = { id: "q1", question: "Tabs?", options: ["yes"] };
    await api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ["question", question]);
    await api.call("POST", `/v1/tasks/${id}/cancel`, { token: ada });
    await api.clock.advance(60_000);
    await api.harness.until(id, "cancelled");
    const body = { questionId: "q1", text: "yes" };
    const late = await api.call("POST", `/v1/tasks/${id}/answer`, { token: ada, body });
    expect([late.status, late.body.code]).toEqual([409, "question_expired"]);
  });

  it("[T4] the log, the tool calls, the attempts and the machine", async () => {
    const id = await running();
    await api.harness.fakeWorkers.send(
      api.harness.coordinator.workerApi,
      id,
      ["tool.started", { id: "t1", name: "bash", input: { cmd: "ls" } }],
      ["tool.finished", { id: "t1", name: "bash", output: "a\n\u001b[31mb", exitCode: 0, ms: 5, truncated: false }],
    );
    const all = (await get(`/v1/tasks/${id}/events`)).body.items as { seq: number; type: string }[];
    expect(all.map((event) => event.seq)).toEqual(all.map((_, i) => i + 1));
    expect(all[0]!.type).toBe("task.submitted");
    const pages: number[] = [];
    for (let after: string | null = "0"; after !== null;) {
      const page: { body: { items: { seq: number }[]; next: string | null } } = await get(
        `/v1/tasks/${id}/events?after=${after}&limit=2`,
      );
      pages.push(...page.body.items.map((event) => event.seq));
      after = page.body.next;
    }
    expect(pages).toEqual(all.map((event) => event.seq));
    expect((await get(`/v1/tasks/${id}/tool-calls`)).body.items).toMatchObject([
      { id: "t1", attempt: 1, output: "a\n\u001b[31mb", exitCode: 0 },
    ]);
    expect((await get(`/v1/tasks/${id}/attempts`)).body.items).toMatchObject([
      { number: 1, container: `slipway-${id}-a1`, endedAt: null },
    ]);
    const machine = (await get(`/v1/tasks/${id}/machine`)).body;
    expect(machine).toMatchObject({
      state: "running",
      container: `slipway-${id}-a1`,
      snapshot: { value: { running: "working" } },
    });
    expect(machine.can).toContain("cancel");
  });

  it("[W4] saved work is readable after its checkpoint, as JSON and as a patch", async () => {
    const id = await running();
    const { repos, coordinator, fakeWorkers } = api.harness;
    const sha = await repos.commit(id, checkpointRef(1), "half of it");
    await fakeWorkers.send(coordinator.workerApi, id, [
      "checkpoint",
      { sha, cursor: null, files: 1, additions: 2, deletions: 0 },
    ]);
    const task = (await get(`/v1/tasks/${id}`)).body;
    expect(task.headSha).toBe(sha);
    const diff = await get(`/v1/tasks/${id}/diff`);
    expect(diff.body).toMatchObject({ base: task.baseSha, head: sha, truncated: false });
    const patch = await get(`/v1/tasks/${id}/diff?format=patch`);
    expect([patch.status, patch.headers.get("content-type")]).toEqual([200, "text/x-diff; charset=utf-8"]);
  });

  it("a patch is returned byte for byte, for any content", async () => {
    const text = 'diff --git a/ä b/ä\n@@ -1 +1 @@\n-<script>\r\n+"\u2028\u001b[31m\n';
    const service = { ...api.harness.coordinator.tasks, patch: () => Promise.resolve(text) };
    const mine = await openApiServer({ deps: { tasks: service } });
    try {
      const token = (await mine.person("x@example.com")).accessToken;
      const patch = await mine.call("GET", `/v1/tasks/task_${"1".repeat(26)}/diff?format=patch`, { token });
      expect(patch.text).toBe(text);
      expect(patch.headers.get("x-content-type-options")).toBe("nosniff");
    } finally {
      await mine.close();
    }
  });

  it("a diff before there is work is 404", async () => {
    const id = await submitted();
    expect((await get(`/v1/tasks/${id}/diff`)).body.code).toBe("not_found");
    expect((await get(`/v1/tasks/${id}/diff?format=xml`)).status).toBe(400);
  });

  it("an operator's kill is a cancel without grace", async () => {
    const id = await running();
    const killed = await api.call("POST", `/v1/ops/tasks/${id}/kill`, { token: operator });
    expect(killed.status).toBe(202);
    const event = (await api.store.events(id, 0, 1_000)).items.find((one) => one.data["reason"] === "cancel");
    expect(event?.data).toMatchObject({ force: true, by: (await get("/v1/me", operator)).body.id });
  });

  it("a queued task shows why it waits", async () => {
    expect((await api.call("POST", "/v1/ops/queue/pause", { token: operator })).body.paused).toBe(true);
    const made = await submit();
    expect(made.body).toMatchObject({ state: "queued", wait: { reason: "paused" } });
    expect((await api.call("POST", "/v1/ops/queue/resume", { token: operator })).body.paused).toBe(false);
  });
});

describe("delete", () => {
  const remove = (id: string, token = ada) => api.call("DELETE", `/v1/tasks/${id}`, { token });

  it("[R7] a settled task goes with its files; again is the same, and what it cost stays", async () => {
    const upload = await api.call("POST", "/v1/attachments?name=a.txt", { token: ada, raw: "hello" });
    const id = await submitted({ body: { repo: REPO, prompt: "Do it.", attachments: [upload.body.id] } });
    expect(await remove(id)).toMatchObject({ status: 409, body: { code: "task_open" } });
    await api.call("POST", `/v1/tasks/${id}/cancel`, { token: ada });
    await api.clock.advance(60_000);
    const { threadId } = await api.harness.until(id, "cancelled");
    const salvaged = { taskId: id, attempt: 1, maxMs: 9_000, tar: (async function* () {})() };
    await api.harness.artifacts.keep(salvaged, new AbortController().signal).catch(() => undefined);
    expect((await remove(id)).status).toBe(204);
    expect((await remove(id)).status).toBe(204);
    for (const path of ["", "/events", "/messages", "/artifacts", "/diff", "/machine"])
      expect((await get(`/v1/tasks/${id}${path}`)).status, path).toBe(404);
    expect((await get(`/v1/threads/${threadId}/conversation`)).status).toBe(404);
    expect((await get("/v1/tasks?q=Do it.")).body.items.map((task: { id: string }) => task.id)).not.toContain(id);
    expect(await api.harness.attachments.find(upload.body.id)).toBeNull();
    expect(await api.harness.artifacts.list(id)).toEqual([]);
    expect(await api.store.openDeletions(9)).toEqual([]);
    expect((await remove(id, bob)).status).toBe(404);
  });

  it("[R7] an open follower keeps the whole thread; a settled one keeps its own", async () => {
    const first = await cancelled();
    const next = (await api.call("POST", `/v1/tasks/${first}/retry`, { token: ada, body: {} })).body.id;
    const refused = await remove(first);
    expect(refused).toMatchObject({ status: 409, body: { code: "task_open" } });
    expect(refused.body.detail).toContain(next);
    await api.call("POST", `/v1/tasks/${next}/cancel`, { token: ada });
    await api.clock.advance(60_000);
    await api.harness.until(next, "cancelled");
    expect((await remove(first)).status).toBe(204);
    expect((await get(`/v1/tasks/${next}`)).body).toMatchObject({ parentId: first, state: "cancelled" });
    expect((await api.call("POST", `/v1/tasks/${first}/retry`, { token: ada, body: {} })).status).toBe(404);
    expect((await api.call("POST", `/v1/tasks/${next}/retry`, { token: ada, body: {} })).status).toBe(201);
  });

  it("[R7] [H9] an operator may not; an admin may, which is a row of the audit log", async () => {
    const id = await cancelled();
    expect((await remove(id, operator)).status).toBe(403);
    const admin = await api.person("adele@example.com", "admin");
    expect((await remove(id, admin.accessToken)).status).toBe(204);
    expect(await api.audit.rows({ action: "deleteTask", limit: 9 })).toMatchObject([
      { actor: admin.userId, target: id, outcome: "ok" },
      { target: id, outcome: "forbidden" },
    ]);
    expect(await api.store.deletedTask(id)).toMatchObject({ deletedBy: admin.userId });
  });
});
