/** Lists of tasks and of what a task did, read with filters and from either end. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ServerConfig } from "../../../src/core/protocol/config.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { LOCAL_TOKEN, openApiServer, REPO, type ApiServer } from "../api-server.ts";

interface Listed<T> {
  readonly items: readonly T[];
  readonly next: string | null;
}

type Sent = Parameters<ApiServer["harness"]["fakeWorkers"]["send"]>[2];

let api: ApiServer;
let alice: { userId: string; accessToken: string };
let bob: { userId: string; accessToken: string };
/** A task that runs and asks, with 6 messages and 6 tool calls; its thread goes on in `second`. */
let asking: WireTask;
let second: WireTask;

const get = async <T>(path: string, token = alice.accessToken): Promise<T> =>
  (await api.call("GET", path, { token })).body as T;
const post = async <T>(path: string, body: object, token = alice.accessToken): Promise<T> =>
  (await api.call("POST", path, { token, body })).body as T;
const submit = (change: object = {}, token = alice.accessToken): Promise<WireTask> =>
  post("/v1/tasks", { repo: REPO, prompt: "x", ...change }, token);
const ids = ({ items }: Listed<{ id: string }>): string[] => items.map(({ id }) => id);

async function work(id: string, ...events: Sent[]): Promise<void> {
  await api.harness.until(id, "provisioning");
  await api.harness.untilWorker(id);
  await api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ...events);
}

beforeAll(async () => {
  api = await openApiServer();
  alice = await api.person("alice@example.com");
  bob = await api.person("bob@example.com");
  const first = await submit({ prompt: "the first" });
  await work(
    first.id,
    ["ready", {}],
    ["message", { id: "m", role: "assistant", content: [{ type: "text", text: "hi" }] }],
  );
  await post(`/v1/tasks/${first.id}/cancel`, {});
  await api.harness.until(first.id, "cancelled");
  second = await post(`/v1/tasks/${first.id}/retry`, { prompt: "the second" });
  asking = await submit({ repo: `${REPO}.git`, prompt: "ask me" });
  const steps = Array.from({ length: 6 }, (_, i): Sent[] => [
    ["message", { id: `m${i}`, role: "assistant", content: [{ type: "text", text: `say ${i}` }] }],
    ["tool.started", { id: `t${i}`, name: "bash", input: { command: `run ${i}` } }],
    ["tool.finished", { id: `t${i}`, name: "bash", output: `out ${i}`, exitCode: 0, ms: 1, truncated: false }],
  ]).flat();
  await work(asking.id, ["ready", {}], ...steps, ["question", { id: "q1", question: "Which?", options: null }]);
  await api.harness.until(asking.id, "running.awaiting_input");
  await submit({ repo: `${REPO}-two` });
  await submit({}, bob.accessToken);
});
afterAll(() => api.close());

/** FNV-1a of 64 bits, by its definition. */
function digestOf(events: readonly WireEvent[]): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(events.map((event) => `${JSON.stringify(event)}\n`).join("")))
    hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  return hash.toString(16).padStart(16, "0");
}

describe("[V8] lists of tasks", () => {
  it("are filtered by repository, by what needs the caller, and by owner for operators", async () => {
    expect(await get<Listed<WireTask>>(`/v1/tasks?repository=${REPO}-two`)).toMatchObject({
      items: [{ repo: `${REPO}-two` }],
    });
    const own = await get<Listed<WireTask>>(`/v1/tasks?repository=${REPO}/`);
    expect(own.items.map(({ prompt }) => prompt)).toEqual(["ask me", "the second", "the first"]);
    expect(ids(await get(`/v1/tasks?repository=${REPO}.git&limit=2`))).toEqual(ids(own).slice(0, 2));
    const rest = await get<Listed<WireTask>>(`/v1/tasks?repository=${REPO}&limit=2&cursor=${ids(own)[1]}`);
    expect([ids(rest), rest.next]).toEqual([ids(own).slice(2), null]);
    expect(ids(await get(`/v1/tasks?repository=${REPO}&state=cancelled&q=FIRST`))).toEqual(ids(own).slice(2));
    for (const path of ["/v1/tasks?needs=me", `/v1/tasks?needs=me&repository=${REPO}&state=running,done`])
      expect(ids(await get(path)), path).toEqual([asking.id]);
    expect(ids(await get("/v1/tasks?needs=me&state=done"))).toEqual([]);
    expect(ids(await get("/v1/tasks?needs=me", bob.accessToken))).toEqual([]);
    expect(ids(await get("/v1/tasks?needs=me", LOCAL_TOKEN))).toEqual([]);
    expect(await get<Listed<WireTask>>(`/v1/tasks?owner=${bob.userId}`, LOCAL_TOKEN)).toMatchObject({
      items: [{ owner: { id: bob.userId } }],
    });
    expect((await get<Listed<WireTask>>(`/v1/tasks?repository=${REPO}`, LOCAL_TOKEN)).items).toHaveLength(4);
    expect(ids(await get("/v1/tasks?owner=me", LOCAL_TOKEN))).toEqual([]);
    expect(ids(await get("/v1/tasks?owner=me"))).toEqual(ids(await get("/v1/tasks")));
    const foreign = await api.call("GET", `/v1/tasks?owner=${bob.userId}`, { token: alice.accessToken });
    expect([foreign.status, foreign.body.code]).toEqual([403, "forbidden"]);
  });

  it("are counted by whose move it is", async () => {
    const nothing = { needs: 0, running: 0, waiting: 0, done: 0, failed: 0, cancelled: 0 };
    const expected = { ...nothing, needs: 1, running: 2, cancelled: 1 };
    await expect.poll(() => get("/v1/tasks/counts")).toEqual(expected);
    expect(await get(`/v1/tasks/counts?repository=${REPO}`)).toEqual({ ...expected, running: 1 });
    await expect.poll(() => get("/v1/tasks/counts", LOCAL_TOKEN)).toEqual({ ...expected, running: 3 });
    expect(await get(`/v1/tasks/counts?repository=${REPO}`, LOCAL_TOKEN)).toEqual(expected);
    expect(await get(`/v1/tasks/counts?owner=${bob.userId}`, LOCAL_TOKEN)).toEqual({ ...nothing, running: 1 });
    expect((await api.call("GET", `/v1/tasks/counts?owner=${bob.userId}`, { token: alice.accessToken })).status).toBe(
      403,
    );
  });
});

describe("[V8] what a task did", () => {
  it("is read from the end, page by page, without a hole and without a double", async () => {
    for (const list of ["events", "messages", "tool-calls"]) {
      const path = `/v1/tasks/${asking.id}/${list}`;
      const whole = (await get<Listed<{ seq: number }>>(path)).items.map(({ seq }) => seq);
      const found: number[] = [];
      for (let before: string | null = "latest"; before !== null;) {
        const page: Listed<{ seq: number }> = await get(`${path}?limit=4&before=${before}`);
        found.push(...page.items.map(({ seq }) => seq));
        before = page.next;
      }
      expect(found, list).toEqual(whole.toReversed());
    }
    const bad = await api.call("GET", `/v1/tasks/${asking.id}/events?before=x`, { token: alice.accessToken });
    expect([bad.status, bad.body.code]).toEqual([400, "invalid_request"]);
  });

  it("[P12] has a digest for any seq: that of the events up to it, in any order of the questions", async () => {
    const path = `/v1/tasks/${asking.id}`;
    const { items } = await get<Listed<WireEvent>>(`${path}/events?limit=1000`);
    const digests = ["cbf29ce484222325", ...items.map((_, i) => digestOf(items.slice(0, i + 1)))];
    for (const seq of [items.length, 3, 0, items.length - 1, 4, items.length])
      expect(await get(`${path}/digest?seq=${seq}`)).toEqual({ seq, digest: digests[seq] });
    expect(await get(`${path}/digest`)).toEqual({ seq: items.length, digest: digests.at(-1) });
    for (const [query, token, status] of [
      [`?seq=${items.length + 1}`, alice.accessToken, 404],
      ["?seq=-1", alice.accessToken, 400],
      ["", bob.accessToken, 404],
    ] as const)
      expect((await api.call("GET", `${path}/digest${query}`, { token })).status, query).toBe(status);
  });

  it("has one tool call by the seq of its event", async () => {
    const { items } = await get<Listed<WireEvent>>(`/v1/tasks/${asking.id}/events`);
    const started = items.find(({ type, data }) => type === "tool.started" && (data as { id: string }).id === "t3");
    const path = `/v1/tasks/${asking.id}/tool-calls/${started?.seq}`;
    expect(await get(path)).toMatchObject({ id: "t3", output: "out 3", exitCode: 0 });
    for (const [wrong, token] of [
      [path, bob.accessToken],
      [`/v1/tasks/${asking.id}/tool-calls/1`, alice.accessToken],
    ] as const)
      expect((await api.call("GET", wrong, { token })).status).toBe(404);
  });
});

describe("[V8] the conversation of a thread", () => {
  interface Said extends Listed<WireEvent> {
    readonly tasks: readonly WireTask[];
  }

  it("has all its tasks in order, from either end, with the prompts and without the output of tools", async () => {
    const path = `/v1/threads/${second.threadId}/conversation`;
    const whole = await get<Said>(path);
    expect(whole.tasks.map(({ prompt }) => prompt)).toEqual(["the first", "the second"]);
    expect(whole.items[0]).toMatchObject({ type: "task.submitted", taskId: whole.tasks[0]?.id });
    expect(whole.items.map(({ type }) => type)).toContain("message");
    const places = whole.items.map(({ taskId, seq }) => `${taskId}.${seq}`);
    expect(places).toEqual(places.toSorted((a, b) => a.localeCompare(b, "en", { numeric: true })));
    for (const [query, expected] of [
      ["after", places],
      ["before", places.toReversed()],
    ] as const) {
      const found: string[] = [];
      for (let next: string | null = query === "before" ? "latest" : ""; next !== null;) {
        const page: Said = await get(`${path}?limit=2${next === "" ? "" : `&${query}=${next}`}`);
        found.push(...page.items.map(({ taskId, seq }) => `${taskId}.${seq}`));
        next = page.next;
      }
      expect(found).toEqual(expected);
    }
    const ofTools = await get<Said>(`/v1/threads/${asking.threadId}/conversation`);
    expect(new Set(ofTools.items.map(({ type }) => type))).toEqual(
      new Set(["task.submitted", "task.state", "message", "question"]),
    );
    expect(await get<Said>(`${path}?after=${places.at(-1)}`)).toEqual({ tasks: [], items: [], next: null });
  });

  it("[S2] is not there for others", async () => {
    const path = `/v1/threads/${second.threadId}/conversation`;
    for (const [wrong, token] of [
      [path, bob.accessToken],
      [`/v1/threads/thread_${"z".repeat(26)}/conversation`, LOCAL_TOKEN],
    ] as const)
      expect((await api.call("GET", wrong, { token })).status).toBe(404);
    expect((await get<Said>(path, LOCAL_TOKEN)).tasks).toHaveLength(2);
    expect((await api.call("GET", `${path}?after=7`, { token: LOCAL_TOKEN })).status).toBe(400);
  });
});

it("[G6] a task and its row have the budget of the thread, whichever task of it brought one", async () => {
  const first = await submit({ prompt: "dear" }, bob.accessToken);
  expect(first.threadBudget).toBeNull();
  await post(`/v1/tasks/${first.id}/cancel`, {}, bob.accessToken);
  await api.harness.until(first.id, "cancelled");
  const budget = { threadUsd: 7.5 };
  const retried = await post<WireTask>(`/v1/tasks/${first.id}/retry`, { budget }, bob.accessToken);
  const { items } = await get<Listed<WireTask>>(`/v1/tasks?thread=${first.threadId}`, bob.accessToken);
  const rows = items.map((row) => [row.id, row.threadBudget]);
  const shown = { spentUsd: 0, limitUsd: 7.5 };
  expect(rows).toEqual([
    [retried.id, shown],
    [first.id, shown],
  ]);
  expect((await get<WireTask>(`/v1/tasks/${first.id}`, bob.accessToken)).threadBudget).toEqual(shown);
});

it("[V8] the options of a server have its bounds, defaults, version and time", async () => {
  const config = await get<ServerConfig>("/v1/config");
  expect(config).toMatchObject({
    version: "0.0.0-test",
    serverTime: new Date(api.clock.now()).toISOString(),
    images: null,
    features: ["pull_requests", "models", "web_push"],
    commits: { author: "Slipway <agent@slipway.invalid>", signed: false },
    defaults: { maxAttempts: 3, minutes: 60, threadUsd: null },
    limits: { memoryMb: 8_192, cpus: 64, diskMb: 16_384, maxAttempts: 10, promptLength: 65_536, bodyBytes: 262_144 },
    prices: {
      "claude-sonnet-5-5": [{ upToPromptTokens: null, input: 3, output: 15, cacheWrite: 3.75, cacheRead: 0.3 }],
    },
  });
});
