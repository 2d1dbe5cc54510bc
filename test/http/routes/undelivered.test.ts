/**
 * Messages that the agent can no longer read: posted during the checks, a push, a wait or a cancel.
 * Over HTTP, on a real database.
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TaskFailure } from "../../../src/core/failure.ts";
import { WORK_REF } from "../../../src/core/ports/repositories.ts";
import { LOCAL_USER_ID } from "../../../src/auth/sessions.ts";
import Database from "../../../src/store/sqlite/driver.ts";
import { LOCAL_TOKEN, openApiServer, REPO, type ApiServer } from "../api-server.ts";

let api: ApiServer;
let ada: string;
beforeAll(async () => {
  api = await openApiServer();
  ada = LOCAL_TOKEN;
});
afterAll(() => api.close());

const get = (path: string) => api.call("GET", path, { token: ada });
const post = (path: string, body: object, key?: string) =>
  api.call("POST", path, { token: ada, body, ...(key === undefined ? {} : { headers: { "idempotency-key": key } }) });
const say = (id: string, text: string, key?: string) => post(`/v1/tasks/${id}/messages`, { text }, key);

interface Row {
  readonly id: string;
  readonly seq: number;
  readonly status: string;
}
const messages = async (id: string): Promise<Row[]> => (await get(`/v1/tasks/${id}/messages`)).body.items;
const events = async (id: string): Promise<{ type: string; data: Record<string, unknown> }[]> =>
  (await get(`/v1/tasks/${id}/events?limit=1000`)).body.items;
const children = async (id: string): Promise<{ id: string; parentId: string; prompt: string }[]> => {
  const thread = (await get(`/v1/tasks/${id}`)).body.threadId;
  const { items } = (await get(`/v1/tasks?thread=${thread}`)).body;
  return items.filter((task: { parentId: string | null }) => task.parentId === id);
};

async function running(): Promise<string> {
  const { id } = (await post("/v1/tasks", { repo: REPO, prompt: "Do it." })).body;
  await api.harness.untilWorker(id);
  await send(id, ["ready", {}]);
  await api.harness.until(id, "running.working");
  return id;
}
const send = (id: string, ...given: readonly (readonly [never, object])[] | readonly unknown[]) =>
  api.harness.fakeWorkers.send(
    api.harness.coordinator.workerApi,
    id,
    ...(given as Parameters<typeof api.harness.fakeWorkers.send> extends [unknown, unknown, ...infer Rest]
      ? Rest
      : never),
  );
async function finished(id: string): Promise<readonly [string, object]> {
  const sha = await api.harness.repos.commit(id, WORK_REF, `work of ${id}`);
  return ["finished", { sha, title: "A title", summary: "Done." }];
}

describe("a message that the agent did not read", () => {
  it("[R6] posted during the checks and the push, it is one follow-up task, in order", async () => {
    const id = await running();
    const heard = (await say(id, "Before.")).body.id;
    const first = await say(id, "First: also the docs.", "k-1");
    expect(first.status).toBe(202);
    api.harness.latches.push.closed = true;
    await send(id, ["message.status", { id: heard, status: "delivered" }], await finished(id));
    await api.harness.until(id, "pushing.branch");
    const second = await say(id, "Second: and the tests.");
    expect(second.status).toBe(202);
    api.harness.latches.push.closed = false;
    api.harness.latches.push.let();
    await api.harness.until(id, "done");

    expect((await messages(id)).map(({ status }) => status)).toEqual(["delivered", "moved", "moved"]);
    const found = await children(id);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ prompt: "First: also the docs.\n\nSecond: and the tests." });
    const moved = (await events(id)).filter(
      ({ type, data }) => type === "message.status" && data["status"] === "moved",
    );
    expect(moved.map(({ data }) => [data["id"], data["taskId"]])).toEqual([
      [first.body.id, found[0]!.id],
      [second.body.id, found[0]!.id],
    ]);
    expect((await events(id)).at(-1)).toMatchObject({ type: "push", to: "done" });
    // The follow-up starts from the pushed work, and a worker comes for it.
    await api.harness.untilWorker(found[0]!.id);
    const task = await api.store.task(found[0]!.id);
    const parent = await api.store.task(id);
    expect(task?.spec.expectSha).toBe(parent?.snapshot.context.headSha);
    expect(task?.snapshot.context.checkpoint?.sha).toBe(parent?.snapshot.context.headSha);
    // The message that is sent again with its key is still the one that was accepted.
    const again = await say(id, "First: also the docs.", "k-1");
    expect([again.status, again.body.id]).toEqual([202, first.body.id]);
    expect(await children(id)).toHaveLength(1);
  });

  it("[R6] posted while a push is retried, it is the follow-up of the push that succeeds", async () => {
    const id = await running();
    api.harness.latches.push.fail(new TaskFailure("remote_unreachable", {}));
    await send(id, await finished(id));
    await api.harness.until(id, "retrying");
    expect((await say(id, "While it waits.")).status).toBe(202);
    await api.clock.advance(10 * 60_000);
    await api.harness.until(id, "done");
    expect((await messages(id)).map(({ status }) => status)).toEqual(["moved"]);
    expect(await children(id)).toMatchObject([{ prompt: "While it waits." }]);
  });

  it("[R6] of a task that is cancelled or fails, it is undelivered, with a notice, and no task begins", async () => {
    const ended = await running();
    await say(ended, "Too late.");
    await post(`/v1/tasks/${ended}/cancel`, {});
    await api.clock.advance(60_000);
    await api.harness.until(ended, "cancelled");
    const failed = await running();
    await say(failed, "Too late as well.");
    await send(failed, ["failed", { code: "refused", message: "No.", evidence: null }]);
    const done = await api.harness.until(failed, "failed");
    expect(done.state).toBe("failed");
    for (const id of [ended, failed]) {
      expect((await messages(id)).map(({ status }) => status)).toEqual(["undelivered"]);
      expect(await children(id)).toEqual([]);
      const notices = (await events(id)).filter(({ data }) => data["code"] === "messages_undelivered");
      expect(notices).toMatchObject([{ data: { level: "warning" } }]);
    }
    // A task of an older version has settled with its messages queued.
    const db = new Database(join(api.dir, "slipway.db"));
    db.prepare("UPDATE messages SET status = 'queued' WHERE task_id = ?").run(ended);
    db.close();
    expect((await messages(ended)).map(({ status }) => status)).toEqual(["undelivered"]);
    const again = await say(ended, "Too late.");
    expect([again.status, again.body.parentId]).toEqual([201, ended]);
  });

  it("[R6] taken back while the worker reports it as delivered, it is one of the two", async () => {
    const id = await running();
    const { tasks } = api.harness.coordinator;
    const person = { userId: LOCAL_USER_ID, role: "admin" } as const;
    for (let n = 0; n < 30; n++) {
      const mid = (await say(id, `Message ${n}.`)).body.id as string;
      const turns = async (): Promise<void> => {
        for (let turn = 0; turn < n; turn++) await Promise.resolve();
      };
      const [withdrawn] = await Promise.all([
        turns().then(() =>
          tasks.withdraw(person, id, mid).then(
            () => true,
            () => false,
          ),
        ),
        send(id, ["message.status", { id: mid, status: "delivered" }]),
      ]);
      expect([n, (await api.store.message(id, mid))?.status]).toEqual([n, withdrawn ? "withdrawn" : "delivered"]);
    }
  });

  it("[R6] withdrawn messages are not moved", async () => {
    const id = await running();
    const { id: mid } = (await say(id, "Never mind.")).body;
    expect((await api.call("DELETE", `/v1/tasks/${id}/messages/${mid}`, { token: ada })).status).toBe(204);
    await send(id, await finished(id));
    await api.harness.until(id, "done");
    expect((await messages(id)).map(({ status }) => status)).toEqual(["withdrawn"]);
    expect(await children(id)).toEqual([]);
  });
});

describe("the same key, sent twice at once", () => {
  it("[R5] is one message", async () => {
    const id = await running();
    const before = (await events(id)).length;
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) => [
        say(id, `Text ${n}.`, `twice-${n}`),
        say(id, `Text ${n}.`, `twice-${n}`),
      ]).flat(),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]));
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(20);
    expect((await events(id)).length - before).toBe(20);
  });

  it("[R5] is one retry", async () => {
    const id = await running();
    await send(id, ["failed", { code: "refused", message: "No.", evidence: null }]);
    await api.harness.until(id, "failed");
    const retry = (from: string) => post(`/v1/tasks/${id}/retry`, { from }, "retry-1");
    const answers = await Promise.all([retry("start"), retry("start"), retry("start")]);
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    expect(await children(id)).toHaveLength(1);
    expect((await retry("checkpoint")).body.code).toBe("idempotency_mismatch");
  });
});
