/**
 * The worst of each endpoint that reads, on a real server that has much: how long one request holds
 * the event loop and when its answer is here, and the memory that the process takes when one person
 * sends as many as are taken. Each endpoint has a server that has just begun: memory that others
 * needed does not count. Linux only: the peak of another process is read from /proc.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/core/lib/runtime/system-clock.ts";
import { isSettledState, type TaskState } from "../../src/core/task.ts";
import { writeLongLog } from "../long-log.ts";
import { probeLoop, readLoopDelays, startServer, startUpstream, type Server, type Upstream } from "../server.ts";
import { percentile } from "../support.ts";
import { writeSettled } from "./restart.ts";

export interface Endpoint {
  readonly what: string;
  /** Longest time without a turn of the event loop, the middle of the rounds, ms. */
  readonly holdMs: number;
  /** Until the whole answer is here, the middle of the rounds, ms. */
  readonly ms: number;
  /** Highest resident memory beyond that of the server at rest, MB. */
  readonly memoryMb: number;
}

export interface Endpoints {
  readonly tasks: number;
  readonly events: number;
  /** Requests at once for the memory. */
  readonly atOnce: number;
  readonly found: readonly Endpoint[];
}

const TASKS = 10_000;
const TASK_EVENTS = 6;
const LOG_EVENTS = 20_000;
/** The most that an event carries. */
const OUTPUT_BYTES = 64 * 1_024;
const FILES = 3_000;
const ROUNDS = 5;
/** Large answers of one person that are made or wait. */
const AT_ONCE = 20;
const LIMIT_MS = 180_000;
const MIB = 2 ** 20;

export async function endpoints(): Promise<Endpoints> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-endpoints-"));
  const [data, delays] = [join(dir, "data"), join(dir, "delays.json")];
  const upstream = await startUpstream(join(dir, "upstream"));
  const env = { SLIPWAY_SANDBOX: "process", SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, SLIPWAY_LOG_LEVEL: "error" };
  /** Runs `work` with a server that has just begun. */
  async function withServer<T>(work: (server: Server) => Promise<T>): Promise<T> {
    const node = ["--import", probeLoop(delays)];
    const server = await startServer(data, { ...env, SLIPWAY_MIN_FREE_MB: "0" }, node);
    try {
      return await work(server);
    } finally {
      await server.end("SIGTERM");
    }
  }
  try {
    await writeSettled(data, TASKS, TASK_EVENTS);
    const long = await writeLongLog(data, "user_bench", { events: LOG_EVENTS, outputBytes: OUTPUT_BYTES });
    const changed = await withServer((server) => change(server, upstream));
    const found: Endpoint[] = [];
    for (const call of listCalls(long, changed))
      found.push(...(await withServer((server) => measure(server, delays, call))));
    return { tasks: TASKS, events: LOG_EVENTS, atOnce: AT_ONCE, found };
  } finally {
    upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** @returns the id of a task that has added FILES files. */
async function change(server: Server, upstream: Upstream): Promise<string> {
  const write = `for i in $(seq ${FILES}); do mkdir -p d$((i / 50)); echo "line $i" > d$((i / 50))/f$i.txt; done`;
  const request = { repo: `${upstream.url}/app.git`, prompt: "Add files.", script: [{ bash: write }] };
  const { id } = (await server.call("POST", "/v1/tasks", request)) as { id: string };
  for (const until = performance.now() + LIMIT_MS; performance.now() < until; await systemClock.sleep(200)) {
    const { state } = (await server.call("GET", `/v1/tasks/${id}`)) as { state: TaskState };
    if (state === "done") return id;
    if (isSettledState(state)) throw new Error(`the task that adds files is ${state}`);
  }
  throw new Error("the task that adds files does not end");
}

type Call = readonly [what: string, path: string, isKept?: "kept"];

/** @param long a task with a long log. @param changed a task with a large change. */
function listCalls(long: string, changed: string): readonly Call[] {
  const whole = `a change of ${FILES} files`;
  return [
    // The first request computes the diff, the others read it from the cache.
    [whole, `/v1/tasks/${changed}/diff`, "kept"],
    [`${whole} as one patch`, `/v1/tasks/${changed}/diff?format=patch`, "kept"],
    ["200 tasks", "/v1/tasks?limit=200"],
    ["a search without a result", "/v1/tasks?limit=200&q=no%20such%20text%20anywhere"],
    ["a search of two letters", "/v1/tasks?limit=200&q=zq"],
    ["the counts of tasks", "/v1/tasks/counts"],
    ["one task", `/v1/tasks/${long}`],
    ["its first 1,000 events", `/v1/tasks/${long}/events?limit=1000`],
    ["its last 1,000 events", `/v1/tasks/${long}/events?limit=1000&before=latest`],
    ["1,000 tool calls", `/v1/tasks/${long}/tool-calls?limit=1000`],
    ["1,000 entries of a conversation", `/v1/threads/${long}/conversation?limit=1000`],
    ["the attempts", `/v1/tasks/${long}/attempts`],
    ["the state chart", `/v1/tasks/${long}/machine`],
    ["the overview", "/v1/ops/overview"],
    ["what people use", "/v1/usage"],
    ["the audit log", "/v1/audit"],
    ["the metrics", "/metrics"],
    ["the OpenAPI document", "/openapi.json"],
  ];
}

async function measure(server: Server, delays: string, [what, path, isKept]: Call): Promise<Endpoint[]> {
  const get = async (): Promise<number> => {
    const begun = performance.now();
    const answer = await fetch(server.url + path, { headers: { authorization: `Bearer ${server.token}` } });
    const bytes = await answer.arrayBuffer();
    if (!answer.ok) throw new Error(`GET ${path}: ${answer.status} ${Buffer.from(bytes).toString("utf8", 0, 200)}`);
    return performance.now() - begun;
  };
  const once = async (): Promise<Pick<Endpoint, "ms" | "holdMs">> => {
    await readLoopDelays(server, delays);
    const ms = await get();
    return { ms, holdMs: (await readLoopDelays(server, delays)).max };
  };
  const restMb = readMemory(server.pid).nowMb;
  // proc(5): this makes the highest resident memory the present one.
  writeFileSync(`/proc/${server.pid}/clear_refs`, "5");
  const memoryMb = (): number => Math.max(0, readMemory(server.pid).mostMb - restMb);
  const found: Endpoint[] = [];
  if (isKept === "kept") found.push({ what: `${what}, cold`, ...(await once()), memoryMb: memoryMb() });
  const all: Awaited<ReturnType<typeof once>>[] = [];
  for (let round = 0; round < ROUNDS; round += 1) all.push(await once());
  await Promise.all(Array.from({ length: AT_ONCE }, get));
  const middle = (name: "ms" | "holdMs"): number =>
    percentile(
      all.map((one) => one[name]),
      50,
    );
  const name = isKept === "kept" ? `${what}, kept` : what;
  return [...found, { what: name, holdMs: middle("holdMs"), ms: middle("ms"), memoryMb: memoryMb() }];
}

function readMemory(pid: number): { readonly nowMb: number; readonly mostMb: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const read = (field: string): number =>
    (Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1]) * 1_024) / MIB;
  return { nowMb: read("VmRSS"), mostMb: read("VmHWM") };
}
