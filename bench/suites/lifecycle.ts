/**
 * Whole lifecycles, submit to done, every transition durable (synchronous=FULL), with a worker that
 * does nothing; and how long a submit waits for its start.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openArtifactFiles } from "../../src/store/artifacts/artifact-files.ts";
import { memoryBus } from "../../src/app/memory-bus.ts";
import { noCrash } from "../../src/core/lib/runtime/crashpoint.ts";
import { openSimulatedRepositories } from "../../src/git/simulated.ts";
import { createCoordinator, DEFAULT_SETTINGS, type Coordinator } from "../../src/coordinator/coordinator.ts";
import { type Store } from "../../src/core/ports/store.ts";
import { openSimulatedSandbox } from "../../src/sandbox/simulated.ts";
import { MemoryLedger } from "../../src/store/memory/usage-ledger.ts";
import { systemClock } from "../../src/core/lib/runtime/system-clock.ts";
import { systemIds } from "../../src/app/system.ts";
import { DEFAULT_POLICY } from "../../src/core/task.ts";
import { openBenchStore, percentile, quiet } from "../support.ts";
import type { SandboxSpec } from "../../src/core/ports/sandbox.ts";
import { WORK_REF } from "../../src/core/ports/repositories.ts";
import type { Broker, WorkerApi } from "../../src/core/ports/broker.ts";
import type { WorkerEvent } from "../../src/core/protocol/worker.ts";

const PERSON = { userId: "user_bench", role: "user" } as const;
const REQUEST = { repo: "https://git.example.com/team/app", prompt: "Do nothing, and do it well." };

export interface Bench {
  readonly coordinator: Coordinator;
  readonly store: Store;
  close(): Promise<void>;
}

/**
 * A coordinator on a real SQLite store; its workers commit one simulated change and report at once.
 */
export async function openBenchCoordinator(
  maxConcurrent: number,
  from?: { store: Store; close: () => Promise<void> },
): Promise<Bench> {
  const { store, close } = from ?? (await openBenchStore());
  const repos = openSimulatedRepositories();
  let workerApi: WorkerApi;
  const broker = (given: { worker: WorkerApi }): Broker => {
    workerApi = given.worker;
    return {
      open: () => Promise.resolve({ socketDir: "", token: "" }),
      revoke: () => Promise.resolve(),
      reclaim: () => Promise.resolve([]),
      close: () => Promise.resolve(),
    };
  };
  async function run({ taskId, attempt }: SandboxSpec): Promise<number> {
    const at = new Date().toISOString();
    const sha = await repos.commit(taskId, WORK_REF, taskId);
    const events: WorkerEvent[] = [
      { seq: 1, at, type: "ready", data: {} },
      { seq: 2, at, type: "finished", data: { sha, title: "Nothing", summary: "Done." } },
    ];
    await workerApi.accept(taskId, { attempt, events }, 0);
    return 0;
  }
  const coordinator = await createCoordinator({
    store,
    ledger: new MemoryLedger(),
    bus: memoryBus(),
    sandbox: openSimulatedSandbox({ run }),
    repos,
    artifacts: openArtifactFiles({
      dir: join(tmpdir(), "slipway-bench-artifacts"),
      maxBytes: 2 ** 20,
      now: () => Date.now(),
    }),
    broker,
    forges: [],
    authFor: () => Promise.resolve(null),
    shortage: () => Promise.resolve(null),
    rateLimitedUntil: () => null,
    clock: systemClock,
    ids: systemIds(),
    log: quiet,
    crashpoint: noCrash,
    settings: { ...DEFAULT_SETTINGS, policy: DEFAULT_POLICY, maxConcurrent },
  });
  return {
    coordinator,
    store,
    async close() {
      await coordinator.close();
      await close();
    },
  };
}

export interface Lifecycles {
  readonly perSecond: number;
  readonly eventsPerTask: number;
}

/**
 * @param inFlight tasks that are open at once. @param warmUp lives before the measured ones: a
 * server that has just begun is compiled as it goes.
 */
export async function lifecycles(count = 10_000, inFlight = 128, warmUp = 2_000): Promise<Lifecycles> {
  const bench = await openBenchCoordinator(inFlight);
  await bench.coordinator.boot();
  let submitted = 0;
  let done = 0;
  let events = 0;
  let begun = performance.now();
  await new Promise<void>((resolve) => {
    const next = (): void => {
      submitted += 1;
      void bench.coordinator.tasks.submit(PERSON, REQUEST, null);
    };
    bench.coordinator.taskLog.onCommit((task) => {
      if (task.state !== "done") return;
      done += 1;
      if (done === warmUp) begun = performance.now();
      if (done > warmUp) events += task.seq;
      if (done === warmUp + count) resolve();
      else if (submitted < warmUp + count) next();
    });
    while (submitted < Math.min(inFlight, warmUp + count)) next();
  });
  const perSecond = count / ((performance.now() - begun) / 1_000);
  await bench.close();
  return { perSecond, eventsPerTask: events / count };
}

export interface Latencies {
  readonly p50: number;
  readonly p99: number;
}

/** From the call of submit until the worker's first event is stored, one task at a time, ms. */
export async function submitToStart(count = 300): Promise<Latencies> {
  const bench = await openBenchCoordinator(4);
  await bench.coordinator.boot();
  const waits: number[] = [];
  for (let i = 0; i < count; i += 1) {
    const begun = performance.now();
    await new Promise<void>((resolve) => {
      const off = bench.coordinator.taskLog.onCommit((task) => {
        // The worker's first and last event arrive in one batch, so "running" is not seen.
        if (task.state === "pushing") waits.push(performance.now() - begun);
        if (task.state !== "done") return;
        off();
        resolve();
      });
      void bench.coordinator.tasks.submit(PERSON, REQUEST, null);
    });
  }
  await bench.close();
  return { p50: percentile(waits, 50), p99: percentile(waits, 99) };
}
