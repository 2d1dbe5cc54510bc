/** Routes for operators and for monitoring. */
import { statfs } from "node:fs/promises";
import { availableParallelism, freemem, loadavg, totalmem } from "node:os";
import { z } from "zod";
import { SlipwayError, type FieldError } from "../../core/error.ts";
import { totalBytes } from "../../core/lib/garbage.ts";
import type { Task } from "../../core/task.ts";
import { phaseOf } from "../../../machines/fold.ts";
import { isoOrNull, toIsoTime } from "../../core/protocol/mapping.ts";
import { queueSchema } from "../../core/protocol/usage.ts";
import { withTimeout } from "../../core/lib/concurrency/async.ts";
import { gcSchema, garbageReportSchema, overviewSchema, taskSchema, type Overview } from "../../core/protocol/rest.ts";
import { json, nothing, route, type ApiDeps, type Route } from "../route.ts";
import { toTaskView } from "./tasks.ts";

const MB = 1024 * 1024;
/** Below this, writes of the store may fail. */
const DISK_MIN_MB = 200;
const READY_TIMEOUT_MS = 3_000;
/** The result of a readiness check is reused for this long. */
const READY_CACHE_MS = 1_000;
/** Time limit of one collection; the next one continues. */
const GC_MS = 15 * 60_000;

const healthSchema = z.strictObject({ status: z.literal("alive"), version: z.string() });
const readySchema = z.strictObject({
  status: z.literal("ready"),
  /** Parts that are not complete and hold nothing up; absent = none. */
  incomplete: z.array(z.enum([...overviewSchema.shape.boot.element.shape.part.options, "backup"])).optional(),
});
/** Most running tasks that a drain lists. */
const DRAIN_LIST = 100;

async function readDisk(deps: ApiDeps): Promise<{ totalMb: number; freeMb: number }> {
  const { blocks, bavail, bsize } = await statfs(deps.dataDir);
  return { totalMb: Math.floor((blocks * bsize) / MB), freeMb: Math.floor((bavail * bsize) / MB) };
}

async function readStorage({ operations }: ApiDeps): Promise<Omit<Overview["storage"], "totalMb" | "freeMb">> {
  const { repositories, reserve, workspaces, ...bounds } = await operations.storage();
  return {
    ...bounds,
    reserve: reserve && { ...reserve },
    workspaces: workspaces && { ...workspaces, largest: workspaces.largest.map((one) => ({ ...one })) },
    repositories:
      repositories?.map(({ kind, owner, repo, bytes }) => {
        const whose = kind === "mirror" ? { userId: owner, taskId: null } : { userId: null, taskId: owner };
        return { kind, repo, bytes, ...whose };
      }) ?? null,
  };
}

/** The parts of the boot that are not complete, with the tasks that are set aside. */
async function listIncomplete({ operations }: ApiDeps): Promise<Overview["boot"]> {
  const boot = operations.boot().map((item) => ({ ...item }));
  const aside = await operations.setAside();
  if (aside === 0) return boot;
  const reason = `${aside} tasks cannot be read by this version; slipway doctor names them.`;
  return [...boot, { part: "set_aside", reason }];
}

async function readQueue({ operations }: ApiDeps): Promise<Overview["queue"]> {
  const drain = await operations.drain();
  const queue = { ...operations.queue() };
  if (drain === null) return { ...queue, drain: null };
  const { running, clearing, since } = drain;
  const tasks = running.slice(0, DRAIN_LIST).map(({ id, state, spec, snapshot }) => {
    const { startedAt } = snapshot.context;
    return { id, title: spec.title, state, phase: phaseOf(snapshot), startedAt: isoOrNull(startedAt) };
  });
  const state = running.length === 0 && clearing === 0 ? ("drained" as const) : ("draining" as const);
  return { ...queue, drain: { state, since: toIsoTime(since), running: running.length, clearing, tasks } };
}

function readBackup({ backup }: ApiDeps): Overview["backup"] {
  const status = backup?.() ?? null;
  if (status === null) return null;
  return { lastAt: status.lastAt === null ? null : toIsoTime(status.lastAt), error: status.error };
}

async function overview(deps: ApiDeps): Promise<Overview> {
  const { store, operations, clock } = deps;
  const [{ byState, oldestOpenAt }, stuck, slots, queue, sandbox, disk, storage] = await Promise.all([
    store.counts(),
    operations.stuckTasks(),
    operations.slots(),
    readQueue(deps),
    operations.sandbox(),
    readDisk(deps),
    readStorage(deps),
  ]);
  return {
    counts: { ...byState },
    oldestOpenSeconds: oldestOpenAt === null ? null : Math.max(0, (clock.now() - oldestOpenAt) / 1_000),
    stuck: stuck.map((item) => ({ ...item, since: toIsoTime(item.since) })),
    slots,
    queue,
    boot: await listIncomplete(deps),
    backup: readBackup(deps),
    host: {
      cpus: availableParallelism(),
      load1: loadavg()[0] ?? 0,
      memoryTotalMb: Math.floor(totalmem() / MB),
      memoryFreeMb: Math.floor(freemem() / MB),
      diskFreeMb: disk.freeMb,
      rssMb: Math.floor(process.memoryUsage.rss() / MB),
    },
    sandbox,
    storage: { ...disk, ...storage },
  };
}

/** The parts that are not usable, without internal details. Empty = ready. */
async function findUnusable(deps: ApiDeps): Promise<FieldError[]> {
  const parts: [string, () => Promise<unknown>][] = [
    ["store", () => deps.store.ping()],
    ["sandbox", () => deps.checkSandbox(AbortSignal.timeout(READY_TIMEOUT_MS))],
    [
      "disk",
      async () => {
        if ((await readDisk(deps)).freeMb < DISK_MIN_MB || deps.operations.queue().disk === "low")
          throw new Error("too full");
      },
    ],
  ];
  const claiming: FieldError[] = [];
  // Both end by themselves. The reasons are for operators.
  if (deps.operations.boot().some(({ part }) => part === "tasks"))
    claiming.push({ path: "tasks", message: "are not adopted yet" });
  if (deps.operations.queue().store === "failing") claiming.push({ path: "claims", message: "cannot be stored" });
  const found = await Promise.all(
    parts.map(async ([path, check]) => {
      try {
        await withTimeout(READY_TIMEOUT_MS, check(), deps.clock);
        return [];
      } catch (error) {
        deps.log.warn({ part: path, err: error }, "not ready");
        return [{ path, message: "is not usable" }];
      }
    }),
  );
  return [...found.flat(), ...claiming];
}

const readyChecks = new WeakMap<ApiDeps, { readonly at: number; readonly found: Promise<FieldError[]> }>();

function checkReady(deps: ApiDeps): Promise<FieldError[]> {
  const now = deps.clock.now();
  const last = readyChecks.get(deps);
  if (last !== undefined && now - last.at < READY_CACHE_MS) return last.found;
  const found = findUnusable(deps);
  readyChecks.set(deps, { at: now, found });
  return found;
}

const QUEUE_WORDS = {
  pause: { state: "paused", summary: "Stop claiming tasks; persists across restarts" },
  drain: { state: "draining", summary: "Stop claiming tasks, and say what still runs; persists across restarts" },
  resume: { state: "open", summary: "Resume claiming tasks; ends a pause and a drain" },
} as const;

function queueRoute(word: keyof typeof QUEUE_WORDS): Route {
  const { state, summary } = QUEUE_WORDS[word];
  return route({
    method: "post",
    path: `/v1/ops/queue/${word}`,
    access: "operator",
    operation: `${word}Queue`,
    summary,
    answers: { 200: json(queueSchema) },
    async handle({ deps, identity }) {
      await deps.operations.setQueueMode(state);
      deps.log.info({ by: identity.userId, queue: word }, "an operator changed the queue");
      return { status: 200, body: await readQueue(deps) };
    },
  });
}

export const operationsRoutes = [
  route({
    method: "get",
    path: "/v1/ops/overview",
    access: "operator",
    operation: "getOverview",
    summary: "Overview of tasks, queue, slots, host, storage and sandbox",
    answers: { 200: json(overviewSchema) },
    async handle({ deps }) {
      return { status: 200, body: await overview(deps) };
    },
  }),
  queueRoute("pause"),
  queueRoute("drain"),
  queueRoute("resume"),
  route({
    method: "post",
    path: "/v1/ops/gc",
    access: "operator",
    operation: "collectGarbage",
    summary: "Remove garbage that no task needs, or list it",
    body: gcSchema,
    answers: { 200: json(garbageReportSchema) },
    async handle({ deps, identity, body }) {
      deps.log.info({ by: identity.userId, dryRun: body.dryRun ?? false }, "an operator started a garbage collection");
      const items = await deps.operations.collect(
        body.dryRun === true ? "dry-run" : "remove",
        AbortSignal.timeout(GC_MS),
      );
      return {
        status: 200,
        body: { dryRun: body.dryRun ?? false, bytes: totalBytes(items), items: items.map((item) => ({ ...item })) },
      };
    },
  }),
  route({
    method: "post",
    path: "/v1/ops/tasks/:id/kill",
    access: "operator",
    operation: "killTask",
    summary: "Cancel without grace",
    answers: { 202: json(taskSchema) },
    problems: ["not_found", "task_settled"],
    async handle({ deps, identity, params, idempotencyKey }) {
      const task: Task = await deps.tasks.cancel(identity, params["id"] ?? "", true, idempotencyKey);
      return { status: 202, body: await toTaskView(deps, task) };
    },
  }),
];

export const probeRoutes = [
  route({
    method: "get",
    path: "/healthz",
    access: "none",
    operation: "getHealth",
    summary: "Alive",
    query: nothing.loose(),
    answers: { 200: json(healthSchema) },
    async handle({ deps }) {
      return { status: 200, body: { status: "alive", version: deps.version } };
    },
  }),
  route({
    method: "get",
    path: "/readyz",
    access: "none",
    operation: "getReadiness",
    summary: "Store, sandbox and disk are usable, and open tasks are adopted",
    query: nothing.loose(),
    answers: { 200: json(readySchema) },
    problems: ["unavailable"],
    async handle({ deps }) {
      const errors = await checkReady(deps);
      if (errors.length > 0)
        throw new SlipwayError("unavailable", "Some parts are not usable: see errors.", { errors });
      const failedBackup = (readBackup(deps)?.error ?? null) === null ? [] : (["backup"] as const);
      const incomplete = [...(await listIncomplete(deps)).map(({ part }) => part), ...failedBackup];
      return { status: 200, body: { status: "ready", ...(incomplete.length === 0 ? {} : { incomplete }) } };
    },
  }),
  route({
    method: "get",
    path: "/metrics",
    access: "metrics",
    operation: "getMetrics",
    summary: "Prometheus text, for operators and for this machine",
    query: nothing.loose(),
    answers: { 200: [{ media: "text/plain; version=0.0.4" }] },
    async handle({ deps }) {
      return { status: 200, media: "text/plain; version=0.0.4", body: await deps.metrics.text() };
    },
  }),
];
