/**
 * A whole coordinator in this process: a real store, the simulated sandbox and repositories, fake
 * workers, and a manual clock.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { DiskSpace } from "../../../src/coordinator/scheduler/workspace-admission.ts";
import type { StoreReserve } from "../../../src/coordinator/services/operations.ts";
import type { Attachments } from "../../../src/core/ports/files/attachments.ts";
import type { Artifacts } from "../../../src/core/ports/files/artifacts.ts";
import { openAttachmentFiles } from "../../../src/store/attachments/attachment-files.ts";
import { openArtifactFiles } from "../../../src/store/artifacts/artifact-files.ts";
import { memoryBus } from "../../../src/app/memory-bus.ts";
import { noCrash } from "../../../src/core/lib/runtime/crashpoint.ts";
import { TaskFailure } from "../../../src/core/failure.ts";
import { openSimulatedRepositories } from "../../../src/git/simulated.ts";
import {
  createCoordinator,
  DEFAULT_SETTINGS,
  type Coordinator,
  type CoordinatorSettings,
} from "../../../src/coordinator/coordinator.ts";
import type { UsageLedger } from "../../../src/core/ports/records/usage-ledger.ts";
import type { Store } from "../../../src/core/ports/store.ts";
import type { Heartbeat } from "../../../src/coordinator/working-time.ts";
import { openSimulatedSandbox, type SimulatedFault, type SimulatedSandbox } from "../../../src/sandbox/simulated.ts";
import { openMemoryStore } from "../../../src/store/memory/store.ts";
import { parseSandboxName, DEFAULT_POLICY, type Policy, type Task } from "../../../src/core/task.ts";
import { createProviderRateLimit, type ProviderRateLimit } from "../../../src/broker/model/rate-limit.ts";
import type { SubmitRequest } from "../../../src/core/protocol/rest.ts";
import { createManualClock, seededIds, settle, type ManualClock } from "../manual-clock.ts";
import { findUndescribed } from "./wire-form.ts";
import { createFakeWorkers, type FakeWorkers } from "./fake-worker.ts";
import type { Bus, Log } from "../../../src/core/ports/runtime.ts";
import type { Forge, Repositories } from "../../../src/core/ports/repositories.ts";
import type { Broker } from "../../../src/core/ports/broker.ts";
import type { Identity } from "../../../src/core/ports/accounts.ts";

export const ALICE: Identity = { userId: "user_alice", role: "user" };
export const BOB: Identity = { userId: "user_bob", role: "user" };
export const REPO = "https://git.example.com/team/app";

export const quiet: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

interface LogLine {
  readonly level: "warn" | "error";
  readonly fields: object;
  readonly text: string;
}

function keepLog(logged: LogLine[]): Log {
  const keep =
    (level: LogLine["level"]): Log["warn"] =>
    (fields, text) =>
      void logged.push({ level, fields, text });
  return { ...quiet, warn: keep("warn"), error: keep("error") };
}

const UNTIL_MS = 60_000;
const BREAKER_STEP_MS = 20;

/** Blocks calls until the test lets one through or makes it fail. Open unless `closed`. */
export interface Latch {
  closed: boolean;
  pass(signal?: AbortSignal): Promise<void>;
  /** Lets one waiting (or the next) call through. */
  let(): void;
  fail(error: Error): void;
}

export function latch(): Latch {
  let waiting: { resolve: () => void; reject: (error: Error) => void }[] = [];
  let passes = 0;
  const failures: Error[] = [];
  return {
    closed: false,
    async pass(signal) {
      const failure = failures.shift();
      if (failure !== undefined) throw failure;
      signal?.throwIfAborted();
      if (!this.closed) return;
      if (passes > 0) {
        passes -= 1;
        return;
      }
      await new Promise<void>((resolve, reject) => {
        const waiter = { resolve, reject };
        waiting.push(waiter);
        signal?.addEventListener("abort", () => {
          waiting = waiting.filter((one) => one !== waiter);
          reject(new DOMException("aborted", "AbortError"));
        });
      });
    },
    let() {
      const next = waiting.shift();
      if (next === undefined) passes += 1;
      else next.resolve();
    },
    fail(error) {
      const next = waiting.shift();
      if (next === undefined) failures.push(error);
      else next.reject(error);
    },
  };
}

export interface Harness {
  /** Warnings and errors of the log, oldest first. */
  readonly logged: readonly LogLine[];
  readonly store: Store;
  readonly bus: Bus;
  readonly sandbox: SimulatedSandbox;
  readonly repos: ReturnType<typeof openSimulatedRepositories>;
  readonly clock: ManualClock;
  readonly fakeWorkers: FakeWorkers;
  readonly latches: { readonly push: Latch; readonly forge: Latch; readonly stop: Latch; readonly prepare: Latch };
  readonly faults: Map<string, SimulatedFault>;
  readonly rate: ProviderRateLimit;
  /** Artifacts, and the folders of simulated workers. */
  readonly dir: string;
  readonly artifacts: Artifacts;
  readonly attachments: Attachments;
  /** While `check` is true, health checks of the engine fail. */
  readonly engine: { check: boolean };
  /** While `shortage` is set, no task is claimed; `space` null = workspaces are not bounded. */
  readonly disks: { shortage: string | null; space: DiskSpace | null; reserve: StoreReserve | null };
  readonly ledger: UsageLedger;
  coordinator: Coordinator;
  submit(request?: Partial<SubmitRequest>, person?: Identity): Promise<Task>;
  task(id: string): Promise<Task>;
  /**
   * Waits until the task is in that state or chart value (`running.parked`); rejects after
   * UNTIL_MS.
   */
  until(id: string, value: string): Promise<Task>;
  /** Waits until the worker of the task's attempt runs; rejects after UNTIL_MS. */
  untilWorker(id: string): Promise<void>;
  /**
   * Advances the clock in small steps, with real time in between, until the breaker opens; rejects
   * after UNTIL_MS. Counted steps would end too early where files are slow.
   */
  untilBreakerOpens(): Promise<void>;
  /** Closes the coordinator and starts another one on the same store and engine. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export interface HarnessOptions {
  readonly store?: Store;
  /** Of the same store, so that a commit and its usage are one; by default the memory store's. */
  readonly ledger?: UsageLedger;
  readonly settings?: Partial<CoordinatorSettings>;
  readonly policy?: Partial<Policy>;
  readonly run?: FakeWorkers["run"];
  /** Simulated workers have folders, `<dir>/sandboxes/<name>/workspace`. */
  readonly files?: boolean;
}

/** Endpoints without listeners: fake workers call the worker service directly. */
function noBroker(): Broker {
  return {
    open: (taskId, attempt) => Promise.resolve({ socketDir: `/nowhere/${taskId}/${attempt}`, token: "att_test" }),
    revoke: () => Promise.resolve(),
    reclaim: () => Promise.resolve([]),
    close: () => Promise.resolve(),
  };
}

export function valueOf(task: Task): string {
  const { value } = task.snapshot;
  return typeof value === "string" ? value : (Object.entries(value)[0] ?? []).join(".");
}

/** Each pass has turns of the event loop, and real time for files and other threads. */
async function waitUntil(what: string, isDone: () => boolean, pass: () => Promise<void>): Promise<void> {
  for (const end = Date.now() + UNTIL_MS; !isDone(); await delay(1)) {
    if (Date.now() > end) throw new Error(`it did not happen in ${UNTIL_MS} ms: ${what}`);
    await pass();
  }
}

export async function openHarness(options: HarnessOptions = {}): Promise<Harness> {
  const memory = openMemoryStore();
  const store = options.store ?? memory.store;
  const ledger = options.ledger ?? memory.ledger;
  const bus = memoryBus();
  const clock = createManualClock();
  const ids = seededIds();
  const logged: LogLine[] = [];
  const fakeWorkers = createFakeWorkers();
  const faults = new Map<string, SimulatedFault>();
  const engineFaults = { check: false };
  const latches = { push: latch(), forge: latch(), stop: latch(), prepare: latch() };
  const dir = mkdtempSync(join(tmpdir(), "slipway-harness-"));
  const artifacts = openArtifactFiles({ dir: join(dir, "artifacts"), maxBytes: 2 ** 20, now: () => clock.now() });
  const attachments = openAttachmentFiles({
    dir: join(dir, "attachments"),
    limits: { fileBytes: 2 ** 20, personBytes: 4 * 2 ** 20 },
    now: () => clock.now(),
  });
  const rate = createProviderRateLimit({ clock, longestMs: 3_600_000 });
  const disks: Harness["disks"] = { shortage: null, space: null, reserve: null };
  let beatAt: number | null = null;
  const heartbeat: Heartbeat = { last: () => beatAt, beat: (at) => (beatAt = at) };
  const engine = openSimulatedSandbox({
    ...(options.files === true ? { dir: join(dir, "sandboxes") } : {}),
    run: options.run ?? fakeWorkers.run,
    fault: (spec) => faults.get(spec.taskId) ?? null,
  });
  const sandbox: SimulatedSandbox = {
    ...engine,
    check: (signal) =>
      engineFaults.check
        ? Promise.reject(new TaskFailure("sandbox_unavailable", { detail: "Down." }))
        : engine.check(signal),
    async stop(name, graceMs, signal) {
      // Only the stop of a cancel is blocked, not the one that clears up after an attempt.
      const task = await store.task(parseSandboxName(name)?.taskId ?? "");
      if (task?.state === "cancelling") await latches.stop.pass(signal);
      await engine.stop(name, graceMs, signal);
    },
  };
  const simulated = openSimulatedRepositories();
  const repos: Repositories = {
    ...simulated,
    // Looked up at each call, so that a test can replace it.
    mergePacks: (signal) => simulated.mergePacks(signal),
    async prepare(task, signal) {
      await latches.prepare.pass(signal);
      return simulated.prepare(task, signal);
    },
    async push(task, signal) {
      await latches.push.pass(signal);
      await simulated.push(task, signal);
    },
  };
  const forge: Forge = {
    name: "Test forge",
    host: "git.example.com",
    serves: (repo) => repo.startsWith("https://git.example.com/"),
    readToken: () => Promise.resolve({ kind: "unreadable" }),
    async openPullRequest(request, signal) {
      await latches.forge.pass(signal);
      return { url: `${request.repo}/pull/1`, number: 1, state: "open" };
    },
    async readPullRequest(_request, signal) {
      await latches.forge.pass(signal);
      return { state: "merged", checks: null };
    },
  };

  /** @param onCreated called before the boot begins. */
  async function begin(onCreated: (coordinator: Coordinator) => void = () => undefined): Promise<Coordinator> {
    const coordinator = await createCoordinator({
      store,
      ledger,
      bus,
      heartbeat,
      sandbox,
      repos,
      artifacts,
      attachments,
      broker: noBroker,
      forges: [forge],
      authFor: () => Promise.resolve(null),
      shortage: () => Promise.resolve(disks.shortage),
      readSpace: () => Promise.resolve(disks.space),
      readReserve: () => Promise.resolve(disks.reserve),
      clock,
      ids,
      log: keepLog(logged),
      crashpoint: noCrash,
      rateLimitedUntil: (model) => rate.until(model),
      settings: {
        ...DEFAULT_SETTINGS,
        livenessMs: 1e15,
        // A jump of the clock is time that passes while the coordinator works.
        pauseMs: 1e15,
        policy: { ...DEFAULT_POLICY, ...options.policy },
        ...options.settings,
      },
    });
    onCreated(coordinator);
    await coordinator.boot();
    return coordinator;
  }

  const harness: Harness = {
    dir,
    logged,
    rate,
    artifacts,
    attachments,
    engine: engineFaults,
    disks,
    store,
    ledger,
    bus,
    sandbox,
    repos: simulated,
    clock,
    fakeWorkers,
    latches,
    faults,
    coordinator: await begin(),
    async submit(request = {}, person = ALICE) {
      const { task } = await harness.coordinator.tasks.submit(
        person,
        { repo: REPO, prompt: "Do it.", ...request },
        null,
      );
      return task;
    },
    async task(id) {
      const task = await store.task(id);
      if (task === null) throw new Error(`no task ${id}`);
      return task;
    },
    async until(id, value) {
      // Turns of the event loop are enough for this thread; files and other threads need real time.
      for (const end = Date.now() + UNTIL_MS; Date.now() < end; await delay(1)) {
        await settle(5);
        const task = await harness.task(id);
        if (task.state === value || valueOf(task) === value) return task;
      }
      const task = await harness.task(id);
      throw new Error(
        `task ${id} is ${valueOf(task)}, not ${value}; last failure: ${JSON.stringify(task.snapshot.context.failure)}`,
      );
    },
    async untilWorker(id) {
      const { attempt } = (await harness.task(id)).snapshot.context;
      await waitUntil(`the worker of ${id} runs`, () => fakeWorkers.has(id, Math.max(1, attempt)), settle);
    },
    untilBreakerOpens: () =>
      waitUntil(
        "the breaker opens",
        () => harness.coordinator.scheduler.state().breaker === "open",
        () => clock.advance(BREAKER_STEP_MS),
      ),
    async restart() {
      await harness.coordinator.close();
      await begin((coordinator) => (harness.coordinator = coordinator));
    },
    async close() {
      await harness.coordinator.close();
      rmSync(dir, { recursive: true, force: true });
      const undescribed = await findUndescribed(store);
      if (undescribed.length > 0)
        throw new Error(`[V1] not as src/core/protocol/events.ts says:\n${undescribed.join("\n")}`);
    },
  };
  return harness;
}
