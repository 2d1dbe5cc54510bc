/**
 * Real coordinators that are away for longer than a deadline, stopped for longer than one, and
 * whose wall clock is set: nothing that happened meanwhile may cost a task its work (rules D11,
 * D12). All clocks are short, so each test is bounded by its own downtime.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect } from "vitest";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import type { Policy } from "../../src/core/task.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { createServerClock, type ServerClock } from "../support/process/clock.ts";
import { killProcess } from "../support/process/running.ts";
import { eventually, startServer, type RealServer } from "../support/process/server.ts";
import { sampled } from "../support/random.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(6);

const SECOND = 1_000;
/** A bound for hangs: five installations run at once. */
const TIMEOUT_MS = 300_000;
const MINUTE = 60 * SECOND;
const WALL_MS = 45 * SECOND;
const SILENCE_MS = 20 * SECOND;
const PUSH_MS = 45 * SECOND;
const POLICY = { wallMs: WALL_MS, silenceMs: SILENCE_MS, backoffMs: 200, backoffCapMs: 400 };

let upstream: GitServer;
let repo: { url: string };
beforeAll(async () => {
  upstream = await startGitServer();
  repo = upstream.createRepo("app");
});
afterAll(() => upstream.close());

interface World {
  server: RealServer;
  readonly clock: ServerClock;
  readonly data: string;
  /** A step that lasts until `letGo`, so that no look misses the work. */
  readonly waits: object;
  letGo(): void;
  start(crash?: string): Promise<RealServer>;
  submit(script: readonly object[], maxAttempts?: number): Promise<string>;
  until(id: string, what: string, holds: (task: WireTask) => boolean): Promise<WireTask>;
}

async function inWorld(run: (world: World) => Promise<void>, policy: Partial<Policy> = POLICY): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-downtime-"));
  const data = join(dir, "data");
  const gate = join(dir, "gate");
  const clock = createServerClock(dir);
  const env = { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, SLIPWAY_MAX_CONCURRENT: "4", ...clock.env };
  const options = (crash?: string) => ({
    dataDir: data,
    policy,
    env: { ...env, ...(crash === undefined ? {} : { SLIPWAY_CRASH: crash }) },
  });
  const world: World = {
    server: await startServer(options()),
    clock,
    data,
    waits: { bash: `while [ -d ${data} ] && [ ! -e ${gate} ]; do sleep 0.1; done` },
    letGo: () => writeFileSync(gate, ""),
    async start(crash) {
      world.server = await startServer(options(crash));
      return world.server;
    },
    async submit(script, maxAttempts = 1) {
      const body = { repo: repo.url, prompt: "Do it.", script, maxAttempts };
      const { status, body: task } = await world.server.call("POST", "/v1/tasks", body);
      expect(status).toBe(201);
      return (task as WireTask).id;
    },
    until: (id, what, holds) =>
      eventually(
        async () => {
          const task = await world.server.task(id);
          return holds(task) ? task : null;
        },
        `${what}: ${world.server.stderr().slice(-2_000)}`,
      ),
  };
  try {
    await run(world);
  } finally {
    world.server.process.kill("SIGCONT");
    world.server.process.kill("SIGTERM");
    await world.server.exited;
    workersOf(data).forEach(killProcess);
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Processes of the installation's sandboxes. */
function workersOf(data: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "utf8").includes(`SLIPWAY_BOX=${data}/`);
      } catch {
        return false;
      }
    })
    .map(Number);
}

const isRunning = ({ state }: WireTask): boolean => state === "running";
const isSettled = ({ settledAt }: WireTask): boolean => settledAt !== null;

/** Talks each second, then finishes with one file. */
const work = (seconds: number): object[] => [
  ...Array.from({ length: seconds }, (_, i) => [{ say: `second ${i}` }, { wait: SECOND }]).flat(),
  { write: { path: "one.txt", content: "one\n" } },
  { finish: { title: "One", summary: "One file." } },
];

function expectDelivered(task: WireTask): void {
  expect({ state: task.state, failure: task.failure }).toEqual({ state: "done", failure: null });
  expect(upstream.git("app", "show", `${task.branch}:one.txt`)).toBe("one");
}

describe.skipIf(process.platform !== "linux").concurrent("a coordinator that is away", { timeout: TIMEOUT_MS }, () => {
  it("[D2] [D12] longer than the wall clock of a worker that finished in its time: the work is delivered", () =>
    inWorld(async (world) => {
      const id = await world.submit([world.waits, ...work(2)]);
      await world.until(id, "runs", isRunning);
      await world.server.kill("SIGTERM");
      world.letGo();
      await delay(WALL_MS + 2 * SECOND);
      await world.start();
      const task = await world.until(id, "settles", isSettled);
      expectDelivered(task);
      expect(task.attempt).toBe(1);
    }));

  const lengths = [
    ["the silence", SILENCE_MS],
    ["the wall clock", WALL_MS],
  ] as const;
  it.each(sampled(lengths, 1))(
    "[T5] [D12] longer than %s, and whose worker died with it: the attempt does not count",
    (_, ms) =>
      inWorld(async (world) => {
        const id = await world.submit([world.waits, ...work(3)]);
        await world.until(id, "runs", isRunning);
        await world.server.kill("SIGKILL");
        workersOf(world.data).forEach(killProcess);
        world.letGo();
        await delay(ms + 2 * SECOND);
        await world.start();
        const task = await world.until(id, "settles", isSettled);
        expectDelivered(task);
        expect(task.attempt).toBe(2);
      }),
  );

  it("[D12] longer than a push may take, and that died before it: the push is tried", () =>
    inWorld(
      async (world) => {
        await world.server.kill("SIGTERM");
        const server = await world.start("push.before");
        const id = await world.submit(work(0));
        expect(await server.exited).toBe("SIGKILL");
        await delay(PUSH_MS + 3 * SECOND);
        await world.start();
        expectDelivered(await world.until(id, "settles", isSettled));
      },
      { ...POLICY, pushMs: PUSH_MS },
    ));
});

describe
  .skipIf(process.platform !== "linux")
  .concurrent("a coordinator that is stopped", { timeout: TIMEOUT_MS }, () => {
    const lengths = [
      ["the silence", SILENCE_MS + 3 * SECOND],
      ["the wall clock", WALL_MS + 3 * SECOND],
    ] as const;
    it.each(sampled(lengths, 1))(
      "[D11] [D12] by SIGSTOP for longer than %s, and goes on: its tasks are done in their first attempt",
      (_, ms) =>
        inWorld(async (world) => {
          const script = [world.waits, ...work(4)];
          const ids = [await world.submit(script), await world.submit(script), await world.submit(script)];
          for (const id of ids) await world.until(id, "runs", isRunning);
          world.server.process.kill("SIGSTOP");
          world.letGo();
          await delay(ms);
          world.server.process.kill("SIGCONT");
          for (const id of ids) {
            const task = await world.until(id, "settles", isSettled);
            expectDelivered(task);
            expect(task.attempt).toBe(1);
          }
        }),
    );
  });

describe.skipIf(process.platform !== "linux").concurrent("a wall clock that is set", { timeout: TIMEOUT_MS }, () => {
  const jumps = [
    ["forward by two minutes", 2 * MINUTE],
    ["forward by 61 minutes", 61 * MINUTE],
    ["back by 61 minutes", -61 * MINUTE],
  ] as const;
  it.each(sampled(jumps, 1))("[D11] %s costs a running task nothing", (_, ms) =>
    inWorld(async (world) => {
      const script = [world.waits, ...work(5)];
      const ids = [await world.submit(script), await world.submit(script)];
      for (const id of ids) await world.until(id, "runs", isRunning);
      world.clock.set(ms);
      world.letGo();
      for (const id of ids) {
        const task = await world.until(id, "settles", isSettled);
        expectDelivered(task);
        expect(task.attempt).toBe(1);
      }
    }),
  );

  it("[D11] back by 61 minutes does not let a silent task wait as much longer, over a restart as well", () =>
    inWorld(
      async (world) => {
        const id = await world.submit([{ say: "one" }, { wait: 600_000 }]);
        await world.until(id, "runs", isRunning);
        const again = await world.submit([{ say: "one" }, { wait: 600_000 }]);
        await world.until(again, "runs", isRunning);
        world.clock.set(-61 * MINUTE);
        // Not a limit of time: that is far away, because starts take long on a busy machine.
        const stalled = { state: "failed", failure: { message: expect.stringContaining("stalled") as unknown } };
        expect(await world.until(id, "settles", isSettled)).toMatchObject(stalled);
        expect(await world.until(again, "settles", isSettled)).toMatchObject(stalled);
        const third = await world.submit([{ say: "one" }, { wait: 600_000 }]);
        await world.until(third, "runs", isRunning);
        await world.server.kill("SIGKILL");
        world.clock.set(-122 * MINUTE);
        await world.start();
        expect(await world.until(third, "settles", isSettled)).toMatchObject(stalled);
      },
      { ...POLICY, wallMs: 30 * MINUTE },
    ));
});
