/**
 * SIGKILL of a real coordinator after it committed the effect of a request and before it answered:
 * the request that is sent again with its key has no second effect (rule R5).
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { WireEvent } from "../../src/core/protocol/events.ts";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { startServer, type RealServer } from "../support/process/server.ts";
import { sampled } from "../support/random.ts";

let data: string;
let server: RealServer | null = null;
beforeEach(() => {
  data = join(mkdtempSync(join(tmpdir(), "slipway-repeat-")), "data");
});
afterEach(async () => {
  await server?.kill("SIGTERM");
  server = null;
  rmSync(join(data, ".."), { recursive: true, force: true, maxRetries: 5 });
});

const open = (crash?: string): Promise<RealServer> =>
  startServer({
    dataDir: data,
    sandbox: "simulated",
    env: {
      SLIPWAY_TRUSTED_REPO_HOSTS: "127.0.0.1:1",
      ...(crash === undefined ? {} : { SLIPWAY_CRASH: crash }),
    },
  });
const send = (on: RealServer, path: string, body: object, key: string) =>
  on.call("POST", path, body, { "idempotency-key": key });

/** The queue is paused, so each commit of a task is one of these requests. */
async function submitted(on: RealServer): Promise<WireTask> {
  await send(on, "/v1/ops/queue/pause", {}, "pause");
  return (await send(on, "/v1/tasks", { repo: "http://127.0.0.1:1/app", prompt: "Do it." }, "submit")).body as WireTask;
}

const CALLS = [
  { name: "message", before: [], body: { text: "Also the docs." }, other: { text: "No." }, status: 202, hits: 2 },
  { name: "cancel", before: [], body: {}, other: null, status: 202, hits: 2 },
  { name: "retry", before: ["cancel"], body: {}, other: { from: "checkpoint" }, status: 201, hits: 3 },
] as const;

for (const { name, before, body, other, status, hits } of sampled(CALLS, 1)) {
  it(`[R5] [R1] killed after the commit of a ${name}, its repeat is the same ${name}`, async () => {
    const doomed = await open(`record.committed:${hits}`);
    const task = await submitted(doomed);
    for (const first of before) await send(doomed, `/v1/tasks/${task.id}/${first}`, {}, first);
    const path = `/v1/tasks/${task.id}/${name === "message" ? "messages" : name}`;
    await expect(send(doomed, path, body, "the-one")).rejects.toThrow();
    expect(await doomed.exited, doomed.stderr()).toBe("SIGKILL");

    const healthy = await open();
    server = healthy;
    const log = async (): Promise<WireEvent[]> => await healthy.events(task.id);
    const seen = (await log()).length;
    const [again, twice] = await Promise.all([
      send(healthy, path, body, "the-one"),
      send(healthy, path, body, "the-one"),
    ]);
    expect(again.status).toBe(status);
    expect(twice).toEqual(again);
    expect(await log()).toHaveLength(seen);
    const { items } = (await healthy.call("GET", `/v1/tasks?thread=${task.threadId}`)).body as { items: WireTask[] };
    expect(items).toHaveLength(name === "retry" ? 2 : 1);
    if (other === null) return;
    expect(await send(healthy, path, other, "the-one")).toMatchObject({
      status: 422,
      body: { code: "idempotency_mismatch" },
    });
  });
}
