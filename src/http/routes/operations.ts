/** Doors for operators and for machines that watch machines. */
import { statfs } from "node:fs/promises";
import { availableParallelism, freemem, loadavg, totalmem } from "node:os";
import { z } from "zod";
import { SlipwayError, type FieldError } from "../../core/error.ts";
import { totalBytes } from "../../core/lib/garbage.ts";
import type { Task } from "../../core/task.ts";
import { isoTime } from "../../core/protocol/mapping.ts";
import { within } from "../../core/lib/async.ts";
import { gcSchema, leftoversSchema, overviewSchema, taskSchema, type Overview } from "../../core/protocol/rest.ts";
import { metricsText } from "./metrics.ts";
import { json, nothing, route, type Doors, type Route } from "../route.ts";
import { showTask } from "./tasks.ts";

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

async function diskFreeMb(doors: Doors): Promise<number> {
  const { bavail, bsize } = await statfs(doors.dataDir);
  return Math.floor((bavail * bsize) / MB);
}

async function overview(doors: Doors): Promise<Overview> {
  const { store, operations, clock } = doors;
  const [{ byState, oldestOpenAt }, stuck, slots, sandbox, disk] = await Promise.all([
    store.counts(),
    operations.stuckTasks(),
    operations.slots(),
    operations.sandbox(),
    diskFreeMb(doors),
  ]);
  return {
    counts: { ...byState },
    oldestOpenSeconds: oldestOpenAt === null ? null : Math.max(0, (clock.now() - oldestOpenAt) / 1_000),
    stuck: stuck.map((one) => ({ ...one, since: isoTime(one.since) })),
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
async function complaints(doors: Doors): Promise<FieldError[]> {
  const parts: [string, () => Promise<unknown>][] = [
    ["store", () => doors.store.ping()],
    ["sandbox", () => doors.checkSandbox(AbortSignal.timeout(READY_TIMEOUT_MS))],
    [
      "disk",
      async () => {
        if ((await diskFreeMb(doors)) < DISK_MIN_MB || doors.operations.queue().disk === "low") throw new Error("too full");
      },
    ],
  ];
  const found = await Promise.all(
    parts.map(async ([path, check]) => {
      try {
        await within(READY_TIMEOUT_MS, check(), doors.clock);
        return [];
      } catch (error) {
        doors.log.warn({ part: path, err: error }, "not ready");
        return [{ path, message: "is not usable" }];
      }
    }),
  );
  return found.flat();
}

const looks = new WeakMap<Doors, { readonly at: number; readonly found: Promise<FieldError[]> }>();

function lookOnce(doors: Doors): Promise<FieldError[]> {
  const now = doors.clock.now();
  const last = looks.get(doors);
  if (last !== undefined && now - last.at < READY_CACHE_MS) return last.found;
  const found = complaints(doors);
  looks.set(doors, { at: now, found });
  return found;
}

function queueRoute(word: "pause" | "resume"): Route {
  return route({
    method: "post",
    path: `/v1/ops/queue/${word}`,
    access: "operator",
    summary: word === "pause" ? "Claim no more tasks; holds over restarts" : "Claim tasks again",
    answers: { 200: json(queueSchema) },
    async handle({ doors, person }) {
      await doors.operations.pauseQueue(word === "pause");
      doors.log.info({ by: person.userId, queue: word }, "an operator changed the queue");
      return { status: 200, body: { ...doors.operations.queue() } };
    },
  });
}

export const opsRoutes = [
  route({
    method: "get",
    path: "/v1/ops/overview",
    access: "operator",
    summary: "Everything at a glance",
    answers: { 200: json(overviewSchema) },
    async handle({ doors }) {
      return { status: 200, body: await overview(doors) };
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
    answers: { 200: json(leftoversSchema) },
    async handle({ doors, person, body }) {
      doors.log.info({ by: person.userId, dryRun: body.dryRun ?? false }, "an operator collects what nobody needs");
      const items = await doors.operations.collect(body.dryRun === true ? "look" : "remove", AbortSignal.timeout(GC_MS));
      return { status: 200, body: { dryRun: body.dryRun ?? false, bytes: totalBytes(items), items: items.map((one) => ({ ...one })) } };
    },
  }),
  route({
    method: "post",
    path: "/v1/ops/tasks/:id/kill",
    access: "operator",
    summary: "Cancel without grace",
    answers: { 202: json(taskSchema) },
    problems: ["not_found", "task_settled"],
    async handle({ doors, person, params }) {
      const task: Task = await doors.service.cancel(person, params["id"] ?? "", true);
      return { status: 202, body: await showTask(doors, task) };
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
    async handle({ doors }) {
      return { status: 200, body: { status: "alive", version: doors.version } };
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
    async handle({ doors }) {
      const errors = await lookOnce(doors);
      if (errors.length > 0) throw new SlipwayError("unavailable", "Some parts are not usable: see errors.", { errors });
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
    async handle({ doors }) {
      return { status: 200, media: "text/plain; version=0.0.4", body: await metricsText(doors) };
    },
  }),
];
