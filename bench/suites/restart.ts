/**
 * What a start costs after much has happened: data folders with many parked tasks of long logs, and
 * with many settled ones, beside an empty one. Each figure is a real server process.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { phaseOf, stateOf } from "../../machines/fold.ts";
import { systemClock } from "../../src/core/lib/runtime/system-clock.ts";
import { packageRoot } from "../../src/core/lib/runtime/package-root.ts";
import type { Proposal } from "../../src/core/event.ts";
import { DEFAULT_POLICY, isSettledState, type Task } from "../../src/core/task.ts";
import { openSqliteStore } from "../../src/store/sqlite/store.ts";
import type { TaskLog } from "../../src/coordinator/task-log.ts";
import { startServer, startUpstream, type Upstream } from "../server.ts";
import { openBenchTaskLog, percentile, SPEC } from "../support.ts";

interface RestartSize {
  readonly parked: number;
  readonly parkedEvents: number;
  readonly settled: number;
  readonly settledEvents: number;
}

interface Start {
  /** From the start of the process to its line with the address. */
  readonly listeningMs: number;
  /** From the start of the process to the end of a task that was submitted at once. */
  readonly firstTaskMs: number;
}

export interface Restart {
  readonly empty: Start;
  readonly parked: Start;
  readonly settled: Start;
}

export const RESTART_SIZE: RestartSize = { parked: 500, parkedEvents: 2_000, settled: 10_000, settledEvents: 100 };

const ROUNDS = 5;
/** Proposals of one record, as a worker's batch. */
const BATCH = 250;
/** Tasks that are written at once: they share commits. */
const AT_ONCE = 50;
const LIMIT_MS = 60_000;
const WORDS = [{ type: "text", text: "It reads the next file and compares the two." }];

export async function restart(size: RestartSize = RESTART_SIZE): Promise<Restart> {
  const root = mkdtempSync(join(tmpdir(), "slipway-restart-"));
  const upstream = await startUpstream(join(root, "upstream"));
  try {
    const folders = ["empty", "parked", "settled"] as const;
    for (const name of folders)
      await fill(join(root, name), async (taskLog) => {
        if (name === "parked")
          await times(size.parked, (i) => writeTask(taskLog, `task_p${i}`, size.parkedEvents, PARKED));
        if (name === "settled")
          await times(size.settled, (i) => writeTask(taskLog, `task_s${i}`, size.settledEvents, SETTLED));
      });
    const found = { empty: [], parked: [], settled: [] } as Record<(typeof folders)[number], Start[]>;
    // In turns, so that a busy moment of the machine hits all of them.
    for (let round = 0; round < ROUNDS; round += 1)
      for (const name of folders) found[name].push(await measure(join(root, name), upstream));
    return { empty: middle(found.empty), parked: middle(found.parked), settled: middle(found.settled) };
  } finally {
    upstream.close();
    rmSync(root, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** A data folder with that many settled tasks. */
export function writeSettled(dir: string, tasks: number, events: number): Promise<void> {
  return fill(dir, (taskLog) => times(tasks, (i) => writeTask(taskLog, `task_s${i}`, events, SETTLED)));
}

async function fill(dir: string, write: (taskLog: TaskLog) => Promise<void>): Promise<void> {
  const migrations = join(packageRoot(), "migrations", "sqlite");
  const { store } = openSqliteStore({ dir, migrations, synchronous: "NORMAL" });
  await write(openBenchTaskLog(store));
  await store.close();
}

async function times(count: number, work: (i: number) => Promise<void>): Promise<void> {
  for (let i = 0; i < count; i += AT_ONCE)
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - i) }, (_, n) => work(i + n)));
}

const moved = (reason: string, data: object = {}): Proposal => ({ type: "task.state", data: { reason, ...data } });

/** How a task ends in a folder, and its phase (of a running task) or state then. */
interface End {
  readonly is: string;
  readonly proposals: readonly Proposal[];
}

const QUESTION = { id: "q1", question: "Which of the two?", options: null };
const PARKED: End = { is: "parked", proposals: [{ type: "question", data: QUESTION }, moved("timed_out")] };
const SETTLED: End = { is: "cancelled", proposals: [moved("cancel", { force: true }), moved("stopped")] };

/** @param events of the whole task, about. */
async function writeTask(taskLog: TaskLog, id: string, events: number, end: End): Promise<void> {
  // A question that is asked parks its task in the next moment.
  const data = { policy: { ...DEFAULT_POLICY, parkMs: 0 }, maxAttempts: 3 };
  const creation = { userId: "user_bench", parentId: null, spec: SPEC, data, inherits: null, idempotency: null };
  await taskLog.create({ ...creation, id, threadId: id });
  await taskLog.record(id, () => [{ ...moved("claimed"), attempt: 1 }]);
  let workerSeq = 0;
  const word = (type: Proposal["type"], data: Proposal["data"]): Proposal => ({
    attempt: 1,
    type,
    data,
    workerSeq: (workerSeq += 1),
  });
  await taskLog.record(id, () => [moved("ready")]);
  for (let left = events - 5; left > 0; left -= BATCH) {
    const words = Array.from({ length: Math.min(BATCH, left) }, (_, i) =>
      word("message", { id: `m${left - i}`, role: "assistant", content: WORDS }),
    );
    await taskLog.record(id, () => words);
  }
  const { task } = await taskLog.record(id, () => end.proposals);
  const found = phaseOf(task.snapshot) ?? stateOf(task.snapshot);
  if (found !== end.is) throw new Error(`${id} is ${found}, not ${end.is}`);
}

async function measure(dataDir: string, upstream: Upstream): Promise<Start> {
  const begun = performance.now();
  const settings = { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, SLIPWAY_MIN_FREE_MB: "0" };
  const server = await startServer(dataDir, { SLIPWAY_SANDBOX: "simulated", ...settings });
  try {
    const listeningMs = performance.now() - begun;
    const request = { repo: `${upstream.url}/app.git`, prompt: "Do it.", script: [{ say: "Done." }] };
    const { id } = (await server.call("POST", "/v1/tasks", request)) as { id: string };
    while (performance.now() - begun < LIMIT_MS) {
      const { state } = (await server.call("GET", `/v1/tasks/${id}`)) as { state: Task["state"] };
      if (state === "done") return { listeningMs, firstTaskMs: performance.now() - begun };
      // A retry's pause would be measured.
      if (state === "retrying" || isSettledState(state)) throw new Error(`the first task is ${state} (${dataDir})`);
      await systemClock.sleep(2);
    }
    throw new Error(`the first task does not end within ${LIMIT_MS} ms (${dataDir})`);
  } finally {
    await server.end("SIGTERM");
  }
}

const middle = (starts: readonly Start[]): Start => ({
  listeningMs: percentile(
    starts.map((one) => one.listeningMs),
    50,
  ),
  firstTaskMs: percentile(
    starts.map((one) => one.firstTaskMs),
    50,
  ),
});
