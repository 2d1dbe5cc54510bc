/**
 * SIGKILL of a real coordinator around the end of a task with messages that its agent did not read
 * (rule R6): there is one follow-up task, whenever it is.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { checkInvariants } from "../../src/coordinator/invariants.ts";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { openSqliteReader } from "../../src/store/sqlite/store.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../support/process/server.ts";
import { sampled } from "../support/random.ts";

let upstream: GitServer;
let repo: { url: string };
let data: string;
let gate: string;
let server: RealServer | null = null;

beforeAll(async () => {
  upstream = await startGitServer();
  repo = upstream.createRepo("app");
  gate = join(upstream.root, "gate");
  upstream.hook("app", "pre-receive", `#!/bin/sh\nwhile [ -e "${gate}" ]; do sleep 0.05; done\n`);
});
afterAll(() => upstream.close());
beforeEach(() => {
  data = join(mkdtempSync(join(tmpdir(), "slipway-unread-")), "data");
});
afterEach(async () => {
  rmSync(gate, { force: true });
  await server?.kill("SIGTERM");
  server = null;
  rmSync(join(data, ".."), { recursive: true, force: true, maxRetries: 5 });
});

const options = (crash?: string) => ({
  dataDir: data,
  policy: { backoffMs: 200, backoffCapMs: 400, graceMs: 2_000 },
  env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, ...(crash === undefined ? {} : { SLIPWAY_CRASH: crash }) },
});
const SCRIPT = [{ bash: "date +%N > one.txt" }, { finish: { title: "One", summary: "One file." } }];

async function thread(on: RealServer, threadId: string): Promise<WireTask[]> {
  const { body } = await on.call("GET", `/v1/tasks?thread=${threadId}`);
  return (body as { items: WireTask[] }).items;
}

async function violations(): Promise<unknown> {
  const store = openSqliteReader({ dir: data, migrations: join(ROOT, "migrations/sqlite") });
  try {
    return (await checkInvariants({ store, sandbox: null, maxConcurrent: 4 })).violations;
  } finally {
    await store.close();
  }
}

for (const point of sampled(["push.after:1", "follow.before:1", "follow.after:1"], 1)) {
  it(`[R6] [D2] [R5] ${point}: the messages are one follow-up task, which runs`, async () => {
    writeFileSync(gate, "");
    const doomed = await startServer(options(point));
    const submission = {
      repo: repo.url,
      prompt: "Do it.",
      script: SCRIPT,
      branch: `slipway/${point.replace(":", "-")}`,
    };
    const made = (await doomed.call("POST", "/v1/tasks", submission)).body as WireTask;
    const say = (on: RealServer, text: string) =>
      on.call("POST", `/v1/tasks/${made.id}/messages`, { text }, { "idempotency-key": `say-${text}` });
    await eventually(async () => ((await doomed.task(made.id)).state === "pushing" ? true : null), "it pushes");
    expect([await say(doomed, "first"), await say(doomed, "second")].map(({ status }) => status)).toEqual([202, 202]);
    rmSync(gate);
    expect(await doomed.exited, doomed.stderr()).toBe("SIGKILL");

    const healthy = await startServer(options());
    server = healthy;
    expect((await say(healthy, "first")).status).toBe(202);
    const [child, parent, ...others] = await eventually(
      async () => {
        const tasks = await thread(healthy, made.threadId);
        return tasks.length > 1 && tasks.every(({ settledAt }) => settledAt !== null) ? tasks : null;
      },
      `both tasks settle; ${healthy.stderr().slice(-2_000)}`,
    );
    expect(others).toEqual([]);
    expect(parent).toMatchObject({ id: made.id, state: "done", outcome: "pushed" });
    expect(child).toMatchObject({ parentId: made.id, prompt: "first\n\nsecond", state: "done" });
    const messages = (await healthy.call("GET", `/v1/tasks/${made.id}/messages`)).body as {
      items: { status: string }[];
    };
    expect(messages.items.map(({ status }) => status)).toEqual(["moved", "moved"]);
    expect(await violations()).toEqual([]);
  });
}
