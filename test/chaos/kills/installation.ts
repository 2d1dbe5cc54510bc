/**
 * An installation with the process sandbox whose coordinator is killed and started again, what is
 * seen of it from outside, and requests that are sent until they are answered.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { runDoctor } from "../../../src/app/checker/doctor.ts";
import { readConfig } from "../../../src/app/config.ts";
import { checkInvariants, type InvariantReport } from "../../../src/coordinator/invariants.ts";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import type { Policy } from "../../../src/core/task.ts";
import { openProcessSandbox } from "../../../src/sandbox/process/sandbox.ts";
import { openSqliteReader } from "../../../src/store/sqlite/store.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { createServerClock } from "../../support/process/clock.ts";
import { killProcess } from "../../support/process/running.ts";
import { eventually, hasEnded, launch, ROOT, startServer, type RealServer } from "../../support/process/server.ts";
import { openSmallDisk, type SmallDisk } from "../../support/process/small-disk.ts";
import { watchEngine, type Seen } from "./engine-watch.ts";
import { listProcesses, WORKER } from "./processes.ts";

export const SLOTS = 4;
export const REPO = "app";
/** What a start takes on a machine that has little else to do, ms. */
export const START_MS = 400;
const POLL_MS = 150;
/** Of the disk that can be full: far more than a long run writes, and it takes none of it ahead. */
const DISK_MB = 4_096;
/** With less free than this no task begins. */
const MIN_FREE_MB = 64;
/** Clocks of work that are short for the downtimes, and long for a busy machine. */
export const POLICY = {
  backoffMs: 100,
  backoffCapMs: 1_000,
  graceMs: 1_000,
  cancelMs: 5_000,
  silenceMs: 60_000,
  pushMs: 60_000,
  wallMs: 300_000,
} satisfies Partial<Policy>;

export interface Answer {
  readonly status: number;
  readonly body: unknown;
}

export interface Killed {
  readonly data: string;
  readonly upstream: GitServer;
  readonly repo: { readonly url: string };
  /** Where `data` lies, when nothing else lies there. */
  readonly disk: SmallDisk | null;
  /** How many attempts ended with each failure. */
  readonly failures: Map<string, number>;
  /**
   * Moves the wall clock of the coordinator; a time that is below zero becomes one above it where
   * the clock may not be set back.
   */
  moveClock(ms: number): void;
  /** The coordinator that runs, or ran last. */
  server(): RealServer;
  /** How long the last start took until it listened, ms. */
  startMs(): number;
  /** How many times as long as on an idle machine all starts took on average; at least 1. */
  slowness(): number;
  /** Starts a coordinator that is killed after `ms`, whatever it has come to. */
  startFor(ms: number): Promise<void>;
  start(): Promise<void>;
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** Sends the request until a coordinator answers it. @throws when `giveUp` was called. */
  call(method: string, path: string, body?: unknown, key?: string): Promise<Answer>;
  /** No coordinator will be started any more. */
  giveUp(): void;
  /** Ends what watches, and expects that nothing is left behind and every rule held. */
  expectInvariants(): Promise<Omit<InvariantReport, "violations"> & { readonly most: Readonly<Seen> }>;
  close(): Promise<void>;
}

export interface KilledOptions {
  /**
   * Its clock may be set back: times of different tasks can then not be compared, so logs do not
   * show how many slots were held at once.
   */
  readonly mayGoBack: boolean;
  /** Where this user may mount one, its data is on a disk of its own. */
  readonly hasDisk: boolean;
}

export async function openKilled({ mayGoBack, hasDisk }: KilledOptions): Promise<Killed> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-kills-"));
  const disk = hasDisk ? openSmallDisk(DISK_MB) : null;
  const data = join(disk?.dir ?? dir, "data");
  const minFree = disk === null ? {} : { SLIPWAY_MIN_FREE_MB: String(MIN_FREE_MB) };
  const upstream = await startGitServer();
  const clock = createServerClock(dir);
  const options = {
    dataDir: data,
    policy: POLICY,
    env: {
      SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
      SLIPWAY_MAX_CONCURRENT: String(SLOTS),
      SLIPWAY_LOG_LEVEL: "error",
      SLIPWAY_USER_TASKS_PER_MINUTE: "0",
      SLIPWAY_USER_TASKS_PER_DAY: "0",
      ...minFree,
      ...clock.env,
    },
  };
  const sandbox = openProcessSandbox({ dir: data, workerFile: WORKER, instance: deriveInstanceId(data) });
  let isGivenUp = false;
  let startMs = 0;
  const starts = { count: 0, ms: 0 };
  let offsetMs = 0;
  let current: RealServer;

  async function start(): Promise<void> {
    const begun = performance.now();
    current = await startServer(options);
    startMs = performance.now() - begun;
    starts.count += 1;
    starts.ms += startMs;
  }

  /** An attempt that fails as `internal` is tried again, so the ends of tasks do not show it. */
  function expectSound(errors: string): void {
    expect(errors.split("\n").filter((line) => line.includes("a defect of Slipway"))).toEqual([]);
  }

  async function kill(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    expect(hasEnded(current), `the coordinator ended by itself: ${current.stderr().slice(-2_000)}`).toBe(false);
    await current.kill(signal);
    expectSound(current.stderr());
  }

  /** The clock of the coordinator was set, that of the doctor was not. */
  const isJudged = (rule: string): boolean => rule !== "clock" && (rule !== "D4" || !mayGoBack);

  await start();
  const engine = watchEngine(sandbox, data);
  return {
    data,
    upstream,
    repo: upstream.createRepo(REPO),
    disk,
    failures: new Map(),
    moveClock(ms) {
      offsetMs += mayGoBack ? ms : Math.abs(ms);
      clock.set(offsetMs);
    },
    server: () => current,
    startMs: () => startMs,
    slowness: () => Math.max(1, starts.ms / starts.count / START_MS),
    start,
    kill,
    async startFor(ms) {
      const doomed = launch(options);
      await delay(ms);
      await doomed.kill("SIGKILL");
      expectSound(doomed.stderr());
    },
    async call(method, path, body, key) {
      const headers = key === undefined ? {} : { "idempotency-key": key };
      for (;;) {
        const asked = current;
        const answer = await asked.call(method, path, body, headers).catch(() => null);
        // The port of a coordinator that has ended may be another server's by now.
        if (answer !== null && answer.status < 500 && !hasEnded(asked)) return answer;
        if (isGivenUp) throw new Error(`${method} ${path} was not answered`);
        await delay(POLL_MS);
      }
    },
    giveUp() {
      isGivenUp = true;
    },
    async expectInvariants() {
      const isEmpty = async (): Promise<true | null> => ((await sandbox.list()).length === 0 ? true : null);
      await eventually(isEmpty, "[D3] no sandbox is left");
      await engine.end();
      await kill("SIGTERM");
      const store = openSqliteReader({ dir: data, migrations: join(ROOT, "migrations/sqlite") });
      try {
        const { violations, ...report } = await checkInvariants({ store, sandbox, maxConcurrent: SLOTS });
        expect(violations.filter(({ rule }) => isJudged(rule))).toEqual([]);
        const config = readConfig({ SLIPWAY_DATA_DIR: data, SLIPWAY_SANDBOX: "process", ...minFree }, {});
        const broken = (await runDoctor({ config })).filter(({ ok }) => !ok);
        expect(broken.filter(({ rule }) => isJudged(rule))).toEqual([]);
        return { ...report, most: engine.most };
      } finally {
        await store.close();
      }
    },
    async close() {
      const watched = engine.end();
      current.process.kill("SIGCONT");
      await current.kill("SIGKILL");
      for (const { pid } of listProcesses(data)) killProcess(pid);
      await watched.catch(() => undefined);
      await sandbox.close();
      await upstream.close();
      disk?.close();
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
