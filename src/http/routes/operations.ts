/** Doors for operators and for machines that watch machines. */
import { statfs } from "node:fs/promises";
import { availableParallelism, freemem, loadavg, totalmem } from "node:os";
import { z } from "zod";
import { SlipwayError, type FieldError } from "../../core/error.ts";
import { totalBytes } from "../../core/lib/garbage.ts";
import type { Task } from "../../core/task.ts";
import { toIsoTime } from "../../core/protocol/mapping.ts";
import { withTimeout } from "../../core/lib/async.ts";
import { gcSchema, garbageReportSchema, overviewSchema, taskSchema, type Overview } from "../../core/protocol/rest.ts";
import { metricsText } from "./metrics.ts";
import { json, nothing, route, type ApiDeps, type Route } from "../route.ts";
import { toTaskView } from "./tasks.ts";

const MB = 1024 * 1024;
/** With less the store could fail to write. */
const DISK_MIN_MB = 200;
const READY_TIMEOUT_MS = 3_000;
/** One look at the parts serves everybody who asks within this time. */
const READY_CACHE_MS = 1_000;
/** Longest collection; what is left then, the next one finds. */
const GC_MS = 15 * 60_000;

const healthSchema = z.strictObject({ status: z.literal("alive"), version: z.string() });
const readySchema = z.strictObject({ status: z.literal("ready") });
const queueSchema = overviewSchema.shape.queue;

async function diskFreeMb(deps: ApiDeps): Promise<number> {
  const { bavail, bsize } = await statfs(deps.dataDir);
  return Math.floor((bavail * bsize) / MB);
}

async function overview(deps: ApiDeps): Promise<Overview> {
  const { store, operations, clock } = deps;
  const [{ byState, oldestOpenAt }, stuck, slots, sandbox, disk] = await Promise.all([
    store.counts(),
    operations.stuckTasks(),
    operations.slots(),
    operations.sandbox(),
    diskFreeMb(deps),
  ]);
  return {
    counts: { ...byState },
    oldestOpenSeconds: oldestOpenAt === null ? null : Math.max(0, (clock.now() - oldestOpenAt) / 1_000),
    stuck: stuck.map((one) => ({ ...one, since: toIsoTime(one.since) })),
    slots,
    queue: { ...operations.queue() },
    host: {
      cpus: availableParallelism(),
      load1: loadavg()[0] ?? 0,
      memoryTotalMb: Math.floor(totalmem() / MB),
      memoryFreeMb: Math.floor(freemem() / MB),
      diskFreeMb: disk,
      rssMb: Math.floor(process.memoryUsage.rss() / MB),
    },
    sandbox,
  };
}

/** What is not usable, in words that may be public. Empty = ready. */
async function complaints(deps: ApiDeps): Promise<FieldError[]> {
  const parts: [string, () => Promise<unknown>][] = [
    ["store", () => deps.store.ping()],
    ["sandbox", () => deps.checkSandbox(AbortSignal.timeout(READY_TIMEOUT_MS))],
    [
      "disk",
      async () => {
        if ((await diskFreeMb(deps)) < DISK_MIN_MB || deps.operations.queue().disk === "low")
          throw new Error("too full");
      },
    ],
  ];
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
  return found.flat();
}

const looks = new WeakMap<ApiDeps, { readonly at: number; readonly found: Promise<FieldError[]> }>();

function lookOnce(deps: ApiDeps): Promise<FieldError[]> {
  const now = deps.clock.now();
  const last = looks.get(deps);
  if (last !== undefined && now - last.at < READY_CACHE_MS) return last.found;
  const found = complaints(deps);
  looks.set(deps, { at: now, found });
  return found;
}

function queueRoute(word: "pause" | "resume"): Route {
  return route({
    method: "post",
    path: `/v1/ops/queue/${word}`,
    access: "operator",
    summary: word === "pause" ? "Claim no more tasks; holds over restarts" : "Claim tasks again",
    answers: { 200: json(queueSchema) },
    async handle({ deps, identity }) {
      await deps.operations.pauseQueue(word === "pause");
      deps.log.info({ by: identity.userId, queue: word }, "an operator changed the queue");
      return { status: 200, body: { ...deps.operations.queue() } };
    },
  });
}

export const operationsRoutes = [
  route({
    method: "get",
    path: "/v1/ops/overview",
    access: "operator",
    summary: "Everything at a glance",
    answers: { 200: json(overviewSchema) },
    async handle({ deps }) {
      return { status: 200, body: await overview(deps) };
    },
  }),
  queueRoute("pause"),
  queueRoute("resume"),
  route({
    method: "post",
    path: "/v1/ops/gc",
    access: "operator",
    summary: "Remove what no task needs any more, or only list it",
    body: gcSchema,
    answers: { 200: json(garbageReportSchema) },
    async handle({ deps, identity, body }) {
      deps.log.info({ by: identity.userId, dryRun: body.dryRun ?? false }, "an operator collects what nobody needs");
      const items = await deps.operations.collect(
        body.dryRun === true ? "dry-run" : "remove",
        AbortSignal.timeout(GC_MS),
      );
      return {
        status: 200,
        body: { dryRun: body.dryRun ?? false, bytes: totalBytes(items), items: items.map((one) => ({ ...one })) },
      };
    },
  }),
  route({
    method: "post",
    path: "/v1/ops/tasks/:id/kill",
    access: "operator",
    summary: "Cancel without grace",
    answers: { 202: json(taskSchema) },
    problems: ["not_found", "task_settled"],
    async handle({ deps, identity, params }) {
      const task: Task = await deps.tasks.cancel(identity, params["id"] ?? "", true);
      return { status: 202, body: await toTaskView(deps, task) };
    },
  }),
];

export const probeRoutes = [
  route({
    method: "get",
    path: "/healthz",
    access: "none",
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
    summary: "Store, sandbox and disk are usable",
    query: nothing.loose(),
    answers: { 200: json(readySchema) },
    problems: ["unavailable"],
    async handle({ deps }) {
      const errors = await lookOnce(deps);
      if (errors.length > 0)
        throw new SlipwayError("unavailable", "Some parts are not usable: see errors.", { errors });
      return { status: 200, body: { status: "ready" } };
    },
  }),
  route({
    method: "get",
    path: "/metrics",
    access: "metrics",
    summary: "Prometheus text, for operators and for this machine",
    query: nothing.loose(),
    answers: { 200: [{ media: "text/plain; version=0.0.4" }] },
    async handle({ deps }) {
      return { status: 200, media: "text/plain; version=0.0.4", body: await metricsText(deps) };
    },
  }),
];
