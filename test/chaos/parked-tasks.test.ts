/**
 * A real server that starts with 200 parked tasks whose sandboxes a crash has left, and may open as
 * many files as a shell of most systems allows: an earlier version opened 20,000 and died.
 */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect } from "vitest";
import { openBenchTaskLog, SPEC } from "../../bench/support.ts";
import type { Proposal } from "../../src/core/event.ts";
import { deriveInstanceId } from "../../src/core/lib/runtime/instance-id.ts";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { DEFAULT_POLICY, sandboxName } from "../../src/core/task.ts";
import { createProcessDir } from "../../src/sandbox/process/process-dir.ts";
import { openSqliteStore } from "../../src/store/sqlite/store.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../support/process/server.ts";
import { inTurnTogether } from "../support/vitest/full-run.ts";

const it = inTurnTogether(3, 0);

const PARKED = 200;
const DESCRIPTORS = 4_096;
/** A bound for hangs: each removal reads every process of the machine. */
const LIMIT_MS = 240_000;

let dir = "";
let upstream: GitServer | null = null;
let server: RealServer | null = null;
afterEach(async () => {
  await server?.kill("SIGTERM");
  await upstream?.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

const moved = (reason: string, data: object = {}): Proposal => ({ type: "task.state", data: { reason, ...data } });

async function fill(data: string): Promise<void> {
  const { store } = openSqliteStore({ dir: data, migrations: join(ROOT, "migrations/sqlite") });
  const taskLog = openBenchTaskLog(store);
  const instance = deriveInstanceId(data);
  // A question that is asked parks its task in the next moment.
  const submitted = { policy: { ...DEFAULT_POLICY, parkMs: 0 }, maxAttempts: 3 };
  await Promise.all(
    Array.from({ length: PARKED }, async (_, i) => {
      const id = `task_p${i}`;
      const who = { id, userId: "user_a", threadId: id, parentId: null, inherits: null, idempotency: null };
      await taskLog.create({ ...who, spec: SPEC, data: submitted });
      await taskLog.record(id, () => [{ ...moved("claimed"), attempt: 1 }]);
      await taskLog.record(id, () => [moved("ready")]);
      await taskLog.record(id, () => [{ type: "question", data: { id: "q1", question: "Which?", options: null } }]);
      await taskLog.record(id, () => [moved("timed_out")]);
      await createProcessDir(join(data, "sandboxes"), sandboxName(id, 1), { instance, taskId: id, attempt: 1 });
    }),
  );
  await store.close();
}

it.runIf(process.platform === "linux")(
  `[Y3] [D3] [D13] a start with ${PARKED} parked tasks and their left sandboxes needs few of ${DESCRIPTORS} descriptors`,
  async () => {
    dir = mkdtempSync(join(tmpdir(), "slipway-parked-"));
    const data = join(dir, "data");
    await fill(data);
    upstream = await startGitServer();
    const { url } = upstream.createRepo("app");
    const running = await startServer({
      dataDir: data,
      descriptors: DESCRIPTORS,
      env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host },
    });
    server = running;
    const sandboxes = (): string[] => readdirSync(join(data, "sandboxes")).filter((name) => name.includes("task_p"));
    expect(sandboxes().length).toBeGreaterThan(0);
    const asked = { repo: url, prompt: "Do it.", script: [{ say: "Done." }] };
    const { id } = (await running.call("POST", "/v1/tasks", asked)).body as WireTask;
    let most = 0;
    await eventually(
      async () => {
        most = Math.max(most, readdirSync(`/proc/${running.pid}/fd`).length);
        return sandboxes().length === 0 && (await running.task(id)).state === "done" ? true : null;
      },
      "the sandboxes are gone and the new task is done",
      LIMIT_MS,
    );
    expect(running.process.exitCode, running.stderr()).toBeNull();
    expect(most).toBeLessThan(DESCRIPTORS / 4);
    const { body } = await running.call("GET", "/v1/ops/overview");
    expect(body).toMatchObject({ boot: [] });
  },
  LIMIT_MS + 60_000,
);
