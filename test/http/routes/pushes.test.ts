/** What people read of pushes that did not end well. Over HTTP, on a real database. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TaskFailure } from "../../../src/core/failure.ts";
import { WORK_REF } from "../../../src/core/ports/repositories.ts";
import { LOCAL_TOKEN, openApiServer, REPO, type ApiServer } from "../api-server.ts";

let api: ApiServer;
beforeAll(async () => {
  api = await openApiServer();
});
afterAll(() => api.close());

const get = (path: string) => api.call("GET", path, { token: LOCAL_TOKEN });
const post = (path: string, body: object, key?: string) =>
  api.call("POST", path, {
    token: LOCAL_TOKEN,
    body,
    ...(key === undefined ? {} : { headers: { "idempotency-key": key } }),
  });

async function running(): Promise<string> {
  const { id } = (await post("/v1/tasks", { repo: REPO, prompt: "Do it." })).body;
  await api.harness.untilWorker(id);
  await api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ["ready", {}]);
  await api.harness.until(id, "running.working");
  return id;
}

async function finish(id: string): Promise<void> {
  const sha = await api.harness.repos.commit(id, WORK_REF, `work of ${id}`);
  const finished = { sha, title: "A title", summary: "Done." };
  await api.harness.fakeWorkers.send(api.harness.coordinator.workerApi, id, ["finished", finished]);
}

describe("a push that is cancelled", () => {
  const told = async (id: string): Promise<{ data: object }[]> => {
    const { items } = (await get(`/v1/tasks/${id}/events?limit=1000`)).body as { items: { data: { code?: string } }[] };
    return items.filter(({ data }) => data.code === "push_unfinished");
  };

  it("[D7] [W5] while it runs or waits for another try, the log says that its commit may have arrived", async () => {
    const runs = await running();
    api.harness.latches.push.closed = true;
    await finish(runs);
    await api.harness.until(runs, "pushing.branch");
    await post(`/v1/tasks/${runs}/cancel`, {}, "c-1");
    await post(`/v1/tasks/${runs}/cancel`, {}, "c-1");
    api.harness.latches.push.closed = false;
    api.harness.latches.push.let();
    const waits = await running();
    api.harness.latches.push.fail(new TaskFailure("remote_unreachable", {}));
    await finish(waits);
    await api.harness.until(waits, "retrying");
    await post(`/v1/tasks/${waits}/cancel`, {});
    for (const id of [runs, waits]) {
      expect((await get(`/v1/tasks/${id}`)).body.state).toBe("cancelled");
      expect(await told(id)).toMatchObject([{ data: { level: "warning" } }]);
    }
  });

  it("[D7] before it has begun, the log says nothing of it", async () => {
    const id = await running();
    await post(`/v1/tasks/${id}/cancel`, {});
    await api.clock.advance(60_000);
    await api.harness.until(id, "cancelled");
    expect(await told(id)).toEqual([]);
  });
});

it("[T1] [W5] a push that was rejected is advised to go on on top of the branch; what is stored stays as it was", async () => {
  const id = await running();
  api.harness.latches.push.fail(new TaskFailure("push_rejected", {}));
  await finish(id);
  await api.harness.until(id, "failed");
  const { failure } = (await get(`/v1/tasks/${id}`)).body;
  expect(failure).toMatchObject({ code: "push_rejected", advice: expect.stringContaining("retry from `checkpoint`") });
  // The text of the catalogue: a log of any age folds to it.
  const stored = (await api.store.task(id))?.snapshot.context.failure?.advice;
  expect(stored).toBe(
    "The work is safe: see the diff. The branch may be protected or may have moved; retry from `push`, or with another branch.",
  );
});
