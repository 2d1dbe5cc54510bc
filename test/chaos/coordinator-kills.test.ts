/**
 * Many tasks under random SIGKILLs of the coordinator until everything is quiet; then every rule is
 * checked from the store, the engine and the upstream.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import { checkInvariants } from "../../src/coordinator/invariants.ts";
import { deriveInstanceId } from "../../src/core/lib/runtime/instance-id.ts";
import { openProcessSandbox } from "../../src/sandbox/process/sandbox.ts";
import { openSqliteReader } from "../../src/store/sqlite/store.ts";
import { isSettledState, type Task } from "../../src/core/task.ts";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { startGitServer } from "../support/git-server.ts";
import { createRandom, SEED } from "../support/random.ts";
import { eventually, ROOT, startServer, type RealServer } from "../support/process/server.ts";

const TASKS = Number(process.env["SLIPWAY_CHAOS_TASKS"] ?? 8);
const SLOTS = 4;
/** A lone coordinator does several tasks a second; under kills it may take seconds for one. */
const LIMIT_MS = 180_000 + TASKS * 5_000;
const WORKER = join(ROOT, "dist/worker.mjs");

/**
 * Worker processes of this machine by the folder of their sandbox: a sandbox that is counted once
 * may still hold two. Linux only. A child between fork and exec looks like its parent and is none.
 */
function workersByBox(): Map<string, number> {
  const found = new Map<string, { box: string; parent: string }>();
  if (process.platform !== "linux") return new Map();
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[1] !== WORKER) continue;
      const box = /(?:^|\0)SLIPWAY_BOX=([^\0]*)/.exec(readFileSync(`/proc/${pid}/environ`, "utf8"))?.[1];
      const parent = /^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
      if (box !== undefined && parent !== undefined) found.set(pid, { box, parent });
    } catch {
      // It ended while it was looked at.
    }
  }
  const boxes = [...found.values()].filter(({ parent }) => !found.has(parent)).map(({ box }) => box);
  return new Map(boxes.map((box) => [box, boxes.filter((one) => one === box).length]));
}

/** Every tenth task fails on purpose: its end must be the same under kills. */
const fails = (i: number): boolean => i % 10 === 9;
const scriptOf = (i: number): object[] =>
  fails(i)
    ? [{ fail: { code: "refused", message: "no" } }]
    : [{ write: { path: `task-${i}.txt`, content: `${i}\n` } }, { finish: { title: `Task ${i}`, summary: "" } }];

/** What a start takes on a machine that has little else to do, ms. */
const START_MS = 400;
/**
 * A life of a server, from listening to its end, ms. A task is provisioned in about 600 ms and
 * pushed in about 400 ms, each within one life: the longer lives are those that get tasks on.
 */
const SHORTEST_MS = 50;
const LONGEST_MS = 1_000;

it(
  `[T1] [T2] [T4] [T5] [T6] [R1] [R5] [D1] [D2] [D3] [D4] [D5] [W1] [W5] ${TASKS} tasks under random kills (seed ${SEED})`,
  { timeout: LIMIT_MS + 60_000 },
  async () => {
    const random = createRandom();
    const dir = mkdtempSync(join(tmpdir(), "slipway-kills-"));
    const data = join(dir, "data");
    const upstream = await startGitServer();
    const repo = upstream.createRepo("app");
    const policy = { backoffMs: 100, backoffCapMs: 1_000, graceMs: 1_000, cancelMs: 5_000 };
    const env = {
      SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
      SLIPWAY_MAX_CONCURRENT: String(SLOTS),
      SLIPWAY_LOG_LEVEL: "error",
    };
    const begin = (): Promise<RealServer> => startServer({ dataDir: data, policy, env });
    let server = await begin();
    const sandbox = openProcessSandbox({ dir: data, workerFile: WORKER, instance: deriveInstanceId(data) });
    const store = openSqliteReader({ dir: data, migrations: join(ROOT, "migrations/sqlite") });
    const promised = new Map<number, string>();
    const mostRunning = { tasks: 0, perTask: 0, workers: 0, perBox: 0 };
    let kills = 0;
    let quiet = false;

    /** Sends until it is acknowledged; the same key must give the same task. */
    async function submitAll(): Promise<void> {
      for (let i = 0; i < TASKS; i += 1) {
        const body = { repo: repo.url, prompt: `Task ${i}`, branch: `work/${i}`, script: scriptOf(i) };
        for (;;) {
          const answer = await server
            .call("POST", "/v1/tasks", body, { "idempotency-key": `key-${i}` })
            .catch(() => null);
          if (answer !== null && answer.status < 300) {
            promised.set(i, (answer.body as WireTask).id);
            break;
          }
          if (answer !== null && answer.status < 500)
            throw new Error(`submit was refused: ${JSON.stringify(answer.body)}`);
          await delay(20);
        }
      }
    }

    /** On a machine so busy that a start takes long, what follows it takes as much longer. */
    async function killAll(): Promise<void> {
      for (let slowness = 1; !quiet;) {
        await delay((SHORTEST_MS + random() * (LONGEST_MS - SHORTEST_MS)) * slowness);
        await server.kill("SIGKILL");
        kills += 1;
        const begun = Date.now();
        server = await begin();
        slowness = Math.max(1, (Date.now() - begun) / START_MS);
      }
    }

    async function watchEngine(): Promise<void> {
      while (!quiet) {
        const running = (await sandbox.list()).filter((box) => box.state === "running");
        const perTask = new Map<string, number>();
        for (const box of running) perTask.set(box.taskId, (perTask.get(box.taskId) ?? 0) + 1);
        mostRunning.perTask = Math.max(mostRunning.perTask, ...perTask.values());
        mostRunning.tasks = Math.max(mostRunning.tasks, running.length);
        const perBox = [...workersByBox()].filter(([box]) => box.startsWith(data)).map(([, count]) => count);
        mostRunning.perBox = Math.max(mostRunning.perBox, ...perBox);
        mostRunning.workers = Math.max(
          mostRunning.workers,
          perBox.reduce((sum, count) => sum + count, 0),
        );
        await delay(100);
      }
    }

    async function waitForQuiet(): Promise<void> {
      await submitAll();
      await eventually(
        async () => {
          const { byState } = await store.counts();
          const settled = byState.done + byState.failed + byState.cancelled;
          return settled === TASKS ? true : null;
        },
        "every task settles",
        LIMIT_MS,
      );
    }

    try {
      const [calm, ...others] = await Promise.allSettled([
        waitForQuiet().finally(() => (quiet = true)),
        killAll(),
        watchEngine(),
      ]);
      for (const end of [calm, ...others]) if (end.status === "rejected") throw end.reason;
      await eventually(
        async () => ((await sandbox.list()).length === 0 ? true : null),
        "[D3] no sandbox is left",
        30_000,
      );
      const { tasks, events, violations } = await checkInvariants({ store, sandbox, maxConcurrent: SLOTS });
      process.stdout.write(
        `${tasks} tasks, ${events} events, ${kills} kills, at most ${mostRunning.tasks} sandboxes and ${mostRunning.workers} workers at once (seed ${SEED})\n`,
      );
      expect(violations).toEqual([]);
      expect(tasks).toBe(TASKS);
      expect(kills).toBeGreaterThan(5);
      // That one was seen shows that this looks at the right engine.
      expect(mostRunning.tasks).toBeGreaterThan(0);
      expect(mostRunning.tasks).toBeLessThanOrEqual(SLOTS);
      expect(mostRunning.perTask).toBe(1);
      if (process.platform === "linux") {
        expect(mostRunning.workers).toBeGreaterThan(0);
        expect(mostRunning.workers).toBeLessThanOrEqual(SLOTS);
        expect(mostRunning.perBox).toBe(1);
      }
      for (const [i, id] of promised) judge(i, await store.task(id));
    } finally {
      await server.kill("SIGTERM");
      await store.close();
      await sandbox.close();
      await upstream.close();
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    }

    function judge(i: number, task: Task | null): void {
      expect(task, `task ${i} was promised`).not.toBeNull();
      if (task === null) return;
      expect(isSettledState(task.state)).toBe(true);
      const { failure, headSha, attempt, excused } = task.snapshot.context;
      expect([i, task.state, failure?.code ?? null]).toEqual([
        i,
        fails(i) ? "failed" : "done",
        fails(i) ? "refused" : null,
      ]);
      expect(attempt - excused).toBeLessThanOrEqual(task.spec.maxAttempts);
      if (fails(i)) return;
      expect(upstream.git("app", "rev-parse", `refs/heads/work/${i}`)).toBe(headSha);
      expect(upstream.git("app", "rev-list", "--count", `main..work/${i}`)).toBe("1");
      expect(upstream.git("app", "show", `work/${i}:task-${i}.txt`)).toBe(String(i));
    }
  },
);
