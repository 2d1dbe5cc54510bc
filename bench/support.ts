/**
 * Shared by the benches: a store in a temporary folder, a task whose log a bench writes, a silent
 * log, a plain spec, percentiles.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { start, step } from "../machines/fold.ts";
import type { TaskEvent } from "../src/core/event.ts";
import type { Accounts } from "../src/core/ports/accounts.ts";
import type { UsageLedger } from "../src/core/ports/records/usage-ledger.ts";
import type { Store } from "../src/core/ports/store.ts";
import { packageRoot } from "../src/core/lib/runtime/package-root.ts";
import { openSqliteStore } from "../src/store/sqlite/store.ts";
import { DEFAULT_POLICY, type TaskSpec } from "../src/core/task.ts";
import type { Bus, Log } from "../src/core/ports/runtime.ts";
import { createTaskLog, noUnread, type TaskLog } from "../src/coordinator/task-log.ts";
import { memoryBus } from "../src/app/memory-bus.ts";
import { noCrash } from "../src/core/lib/runtime/crashpoint.ts";
import { systemClock } from "../src/core/lib/runtime/system-clock.ts";

export const quiet: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

export const SPEC: TaskSpec = {
  repo: "https://git.example.com/team/app",
  base: null,
  branch: "slipway/bench",
  prompt: "Rename the function and run the tests.",
  title: "Rename the function",
  agent: "scripted",
  model: null,
  effort: null,
  script: null,
  budget: {},
  limits: {},
  egress: "none",
  pullRequest: "none",
  verify: [],
  priority: 0,
  maxAttempts: 3,
  from: "start",
  expectSha: null,
};

export async function openBenchStore(): Promise<{
  store: Store;
  accounts: Accounts;
  ledger: UsageLedger;
  dir: string;
  close: () => Promise<void>;
}> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-bench-"));
  const { store, accounts, ledger } = openSqliteStore({ dir, migrations: join(packageRoot(), "migrations", "sqlite") });
  return {
    store,
    accounts,
    ledger,
    dir,
    async close() {
      await store.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** The one task of a bench's store. */
export const BENCH_TASK = "task_00000000000000000000000001";

export type BenchEvent = Pick<TaskEvent, "type" | "from" | "to" | "data">;

interface BenchTask {
  /** Number of the last event. */
  seq(): number;
  /** Commits the events as one; they are a millisecond apart. */
  append(events: readonly BenchEvent[]): Promise<void>;
}

/** A queued task of user_1, unless another person is given. */
export async function createBenchTask(
  store: Store,
  { userId = "user_1", title = SPEC.title }: { readonly userId?: string; readonly title?: string } = {},
): Promise<BenchTask> {
  const id = BENCH_TASK;
  const data = { maxAttempts: 3, policy: DEFAULT_POLICY, pullRequest: "none", from: "start" };
  const head = { taskId: id, attempt: 0, workerSeq: null };
  const first: TaskEvent = { ...head, seq: 1, at: Date.now(), type: "task.submitted", from: null, to: "queued", data };
  const identity = { id, userId, threadId: id, parentId: null, machineVersion: 1, inherits: null, idempotency: null };
  let snapshot = start(first);
  const spec = { ...SPEC, title };
  await store.create({ ...identity, spec, snapshot, state: "queued", slot: false, event: first });
  return {
    seq: () => snapshot.context.seq,
    async append(added) {
      const expectedSeq = snapshot.context.seq;
      const events = added.map((event, i): TaskEvent => {
        const seq = expectedSeq + 1 + i;
        const attempt = event.to === "queued" ? 0 : 1;
        return { ...head, attempt, seq, at: first.at + seq, ...event };
      });
      for (const event of events) {
        const next = step(snapshot, event);
        if (next === null) throw new Error(`the chart refused ${event.type} in ${event.from}`);
        snapshot = next;
      }
      const state = events.at(-1)?.to ?? "queued";
      await store.commit({ taskId: id, expectedSeq, events, snapshot, state, slot: false });
    },
  };
}

export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * p) / 100))] ?? NaN;
}

/** A task log without support for messages of people. */
export function openBenchTaskLog(store: Store, bus: Bus = memoryBus()): TaskLog {
  return createTaskLog({ store, bus, clock: systemClock, log: quiet, crashpoint: noCrash, planUnread: noUnread });
}
