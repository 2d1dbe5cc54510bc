/**
 * Shared by the benches: a store in a temporary folder, a silent log, a plain spec, percentiles.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Accounts } from "../src/core/ports/accounts.ts";
import type { UsageLedger } from "../src/core/ports/usage-ledger.ts";
import type { Store } from "../src/core/ports/store.ts";
import { packageRoot } from "../src/core/lib/runtime/package-root.ts";
import { openSqliteStore } from "../src/store/sqlite/store.ts";
import type { TaskSpec } from "../src/core/task.ts";
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

export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * p) / 100))] ?? NaN;
}

/** A task log whose tasks get no messages from people. */
export function openBenchTaskLog(store: Store, bus: Bus = memoryBus()): TaskLog {
  return createTaskLog({ store, bus, clock: systemClock, log: quiet, crashpoint: noCrash, planUnread: noUnread });
}
