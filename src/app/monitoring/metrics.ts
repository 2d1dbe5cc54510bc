/**
 * Metrics for Prometheus. docs/deploy/grafana-dashboard.json shows them; a test compares the two.
 *
 * Counters and histograms count from the start of the process; gauges are read at each scrape.
 */
import { statfs } from "node:fs/promises";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { OperationsService } from "../../coordinator/services/operations.ts";
import type { Listener } from "../../coordinator/task-log.ts";
import type { TaskEvent } from "../../core/event.ts";
import type { AnsweredRequest } from "../../http/route.ts";
import type { BackupStatus } from "../data-folder/backup-schedule.ts";
import { isSettledState, type Task } from "../../core/task.ts";
import type { Clock } from "../../core/ports/runtime.ts";
import type { Store } from "../../core/ports/store.ts";

export interface MetricSources {
  readonly store: Pick<Store, "counts">;
  readonly operations: Pick<OperationsService, "slots" | "queue" | "stuckTasks" | "setAside" | "boot">;
  readonly clock: Pick<Clock, "now">;
  /** Open WebSockets. */
  readonly sockets: () => number;
  /** Of scheduled backups; null = there are none. */
  readonly backup?: () => BackupStatus | null;
  readonly dataDir: string;
  readonly version: string;
}

export interface Metrics {
  /** The text of a scrape. */
  text(): Promise<string>;
  /** For `TaskLog.onCommit`. */
  readonly onCommit: Listener;
  noteRequest(request: AnsweredRequest): void;
  close(): void;
}

/** Seconds: a claim takes some ms, a run up to an hour. */
const TASK_SECONDS = [0.1, 0.5, 1, 5, 15, 60, 300, 900, 3_600, 14_400];
const REQUEST_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5];

export function openMetrics(sources: MetricSources): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const lag = monitorEventLoopDelay({ resolution: 20 });
  lag.enable();
  const gauges = addGauges(registers);
  const requests = new Histogram({
    name: "slipway_http_request_seconds",
    help: "Answered HTTP requests by method and class of status.",
    labelNames: ["method", "status"],
    buckets: REQUEST_SECONDS,
    registers,
  });
  const refused = new Counter({
    name: "slipway_http_problems_total",
    help: "Requests that were answered with a problem, by code.",
    labelNames: ["code"],
    registers,
  });
  return {
    onCommit: countTasks(registers),
    noteRequest({ method, status, seconds, code }) {
      requests.observe({ method, status: `${Math.floor(status / 100)}xx` }, seconds);
      if (code !== null) refused.inc({ code });
    },
    async text() {
      gauges.lag.set(lag.count === 0 ? 0 : lag.percentile(99) / 1e9);
      lag.reset();
      await gauges.read(sources);
      return await registry.metrics();
    },
    close: () => void lag.disable(),
  };
}

function addGauges(registers: Registry[]) {
  const gauge = <L extends string = never>(name: string, help: string, labelNames: L[] = []): Gauge<L> =>
    new Gauge({ name, help, labelNames, registers });
  const tasks = gauge("slipway_tasks", "Tasks by state.", ["state"]);
  const oldest = gauge("slipway_oldest_open_age_seconds", "Age of the oldest task that is not settled.");
  const used = gauge("slipway_slots_used", "Slots held by tasks.");
  const max = gauge("slipway_slots_max", "Slots in all.");
  const stuck = gauge("slipway_tasks_stuck", "Open tasks that do not go on by themselves.");
  const aside = gauge("slipway_tasks_set_aside", "Tasks that this version cannot read.");
  const boot = gauge("slipway_boot_incomplete", "1 for each part of the boot that is not complete.", ["part"]);
  const paused = gauge("slipway_queue_paused", "1 while an operator holds the queue.");
  const breaker = gauge("slipway_breaker_open", "1 while claiming rests after infrastructure failures.");
  const claims = gauge("slipway_claims_failing", "1 while claims cannot be stored.");
  const diskLow = gauge("slipway_disk_low", "1 while claiming waits for disk space.");
  const diskFree = gauge("slipway_disk_free_bytes", "Free on the disk of the data folder.");
  const sockets = gauge("slipway_sockets", "Open WebSockets.");
  const backupFailed = gauge("slipway_backup_failed", "1 while the last scheduled backup failed.");
  const backupAt = gauge(
    "slipway_backup_last_success_timestamp_seconds",
    "When the newest scheduled backup was begun, seconds of Unix time; 0 = there is none.",
  );
  const build = gauge("slipway_build_info", "1, with the versions as labels.", ["version", "node"]);
  const rss = gauge("process_resident_memory_bytes", "Resident memory.");
  const heap = gauge("nodejs_heap_used_bytes", "Heap in use.");
  const lag = gauge("nodejs_eventloop_lag_p99_seconds", "Lag of the event loop since the last scrape.");
  const uptime = gauge("process_uptime_seconds", "Time since the start.");
  const startedAt = gauge("process_start_time_seconds", "When the process started, seconds of Unix time.");
  const cpu = gauge("process_cpu_seconds_total", "Processor time that the process used.");

  async function read({ store, operations, clock, dataDir, version, ...other }: MetricSources): Promise<void> {
    const [{ byState, oldestOpenAt }, slots, stuckTasks, setAside, disk] = await Promise.all([
      store.counts(),
      operations.slots(),
      operations.stuckTasks(),
      operations.setAside(),
      statfs(dataDir),
    ]);
    const queue = operations.queue();
    for (const [state, count] of Object.entries(byState)) tasks.set({ state }, count);
    oldest.set(oldestOpenAt === null ? 0 : Math.max(0, (clock.now() - oldestOpenAt) / 1_000));
    used.set(slots.used);
    max.set(slots.max);
    stuck.set(stuckTasks.length - setAside);
    aside.set(setAside);
    boot.reset();
    for (const { part } of operations.boot()) boot.set({ part }, 1);
    paused.set(queue.paused ? 1 : 0);
    breaker.set(queue.breaker === "open" ? 1 : 0);
    claims.set(queue.store === "failing" ? 1 : 0);
    diskLow.set(queue.disk === "low" ? 1 : 0);
    diskFree.set(disk.bavail * disk.bsize);
    sockets.set(other.sockets());
    const backup = other.backup?.() ?? null;
    backupFailed.set(backup === null || backup.error === null ? 0 : 1);
    backupAt.set((backup?.lastAt ?? 0) / 1_000);
    build.set({ version, node: process.version }, 1);
    readProcess();
  }

  function readProcess(): void {
    const { user, system } = process.cpuUsage();
    const { rss: resident, heapUsed } = process.memoryUsage();
    rss.set(resident);
    heap.set(heapUsed);
    uptime.set(process.uptime());
    startedAt.set(Math.round(performance.timeOrigin / 1_000));
    cpu.set((user + system) / 1e6);
  }
  return { lag, read };
}

/** Counts what is committed. Memory: one entry for each open task that has moved. */
function countTasks(registers: Registry[]): Listener {
  const counter = <L extends string = never>(name: string, help: string, labelNames: L[] = []): Counter<L> =>
    new Counter({ name, help, labelNames, registers });
  const seconds = (name: string, help: string): Histogram =>
    new Histogram({ name, help, buckets: TASK_SECONDS, registers });
  const events = counter("slipway_events_total", "Events committed since the start.");
  const submitted = counter("slipway_tasks_submitted_total", "Submitted tasks.");
  const ended = counter("slipway_tasks_ended_total", "Settled tasks by state.", ["state"]);
  const failures = counter("slipway_task_failures_total", "Failed tasks by code.", ["code"]);
  const attempts = counter("slipway_attempts_total", "Attempts that began.");
  const failedAttempts = counter("slipway_attempt_failures_total", "Attempts that failed, by code.", ["code"]);
  const cost = counter("slipway_cost_usd_total", "Model cost in US dollars.");
  const tokens = counter("slipway_tokens_total", "Tokens of models by kind.", ["kind"]);
  const wait = seconds("slipway_queue_wait_seconds", "From submission to the first claim.");
  const provisioning = seconds("slipway_provisioning_seconds", "From a claim to the agent's begin.");
  const running = seconds("slipway_running_seconds", "Time in running, with questions.");
  const total = seconds("slipway_task_seconds", "From submission to the end.");
  const entered = new Map<string, number>();

  function countUsage({ data }: TaskEvent): void {
    const amount = (name: string): number => Math.max(0, Number(data[name] ?? 0)) || 0;
    cost.inc(amount("usd"));
    for (const kind of ["input", "output", "cacheRead", "cacheWrite"]) tokens.inc({ kind }, amount(`${kind}Tokens`));
  }

  function countMove(task: Task, { from, to, at, attempt, data }: TaskEvent): void {
    const before = entered.get(task.id);
    entered.set(task.id, at);
    if (to === "provisioning") attempts.inc();
    if (from === "queued" && to === "provisioning" && attempt === 1) wait.observe((at - task.createdAt) / 1_000);
    if (from === "provisioning" && to === "running" && before !== undefined)
      provisioning.observe((at - before) / 1_000);
    if (from === "running" && before !== undefined) running.observe((at - before) / 1_000);
    const code = typeof data["code"] === "string" ? data["code"] : null;
    if (code !== null && (to === "retrying" || to === "failed")) failedAttempts.inc({ code });
    if (!isSettledState(to)) return;
    ended.inc({ state: to });
    total.observe((at - task.createdAt) / 1_000);
    if (to === "failed") failures.inc({ code: task.snapshot.context.failure?.code ?? "unknown" });
    entered.delete(task.id);
  }

  return (task, committed) => {
    events.inc(committed.length);
    for (const event of committed) {
      if (event.type === "task.submitted") submitted.inc();
      if (event.type === "usage") countUsage(event);
      if (event.from !== null && event.from !== event.to) countMove(task, event);
    }
  };
}
