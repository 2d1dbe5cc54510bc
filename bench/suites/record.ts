/**
 * `record` per second against the same rows written by bare better-sqlite3, both durable
 * (synchronous=FULL), in one run.
 */
import Database from "../../src/store/sqlite/driver.ts";
import { join } from "node:path";
import type { Store } from "../../src/core/ports/store.ts";
import { DEFAULT_POLICY } from "../../src/core/task.ts";
import { openBenchStore, openBenchTaskLog, SPEC } from "../support.ts";

export interface Rates {
  readonly ours: number;
  readonly floor: number;
}

/**
 * @param tasks tasks that record at once; a transaction of the floor has as many rows.
 * @param rounds enough to warm up a new thread.
 */
export async function record(tasks = 100, rounds = 240): Promise<Rates> {
  const ours: number[] = [];
  const floor: number[] = [];
  // Interleaved, so that a noisy neighbour hits both.
  for (let i = 0; i < 3; i += 1) {
    floor.push(await bare(tasks, rounds));
    ours.push(await through(tasks, rounds));
  }
  return { ours: Math.max(...ours), floor: Math.max(...floor) };
}

/** The seq of a task that was submitted, claimed and is running. */
const READY_SEQ = 3;

export async function runningTasks(store: Store, tasks: number): Promise<string[]> {
  const taskLog = openBenchTaskLog(store);
  const ids = Array.from({ length: tasks }, (_, i) => `task_${String(i).padStart(26, "0")}`);
  const data = { policy: DEFAULT_POLICY, maxAttempts: 3 };
  const submission = { userId: "user_bench", parentId: null, spec: SPEC, data, inherits: null, idempotency: null };
  const claim = { type: "task.state", data: { reason: "claimed" }, attempt: 1 } as const;
  for (const id of ids) await taskLog.create({ ...submission, id, threadId: id });
  for (const id of ids) await taskLog.record(id, () => [claim]);
  for (const id of ids) await taskLog.record(id, () => [{ type: "task.state", data: { reason: "ready" } }]);
  return ids;
}

async function through(tasks: number, rounds: number): Promise<number> {
  const { store, close } = await openBenchStore();
  const ids = await runningTasks(store, tasks);
  const taskLog = openBenchTaskLog(store);
  const begun = performance.now();
  await Promise.all(
    ids.map(async (id) => {
      for (let n = 1; n <= rounds; n += 1) {
        const data = { id: `m${n}`, name: "bash", input: { command: "npm test" } };
        await taskLog.record(id, () => [{ type: "tool.started", data, workerSeq: n }]);
      }
    }),
  );
  const rate = (tasks * rounds) / ((performance.now() - begun) / 1_000);
  await close();
  return rate;
}

/**
 * The floor: the same rows into the same tables, with their indexes and triggers, in batches of
 * `tasks`, by prepared statements and ready-made text; no chart, no promises, nothing else around.
 */
async function bare(tasks: number, rounds: number): Promise<number> {
  const { store, dir, close } = await openBenchStore();
  const ids = await runningTasks(store, tasks);
  const snapshot = JSON.stringify((await store.task(ids[0] ?? ""))?.snapshot);
  await store.close();
  const db = new Database(join(dir, "slipway.db"));
  db.pragma("synchronous = FULL");
  db.pragma("temp_store = MEMORY");
  db.pragma("cache_size = -65536");
  db.pragma("wal_autocheckpoint = 8192");
  const update = db.prepare(
    "UPDATE tasks SET seq = seq + 1, rev = ?, due_at = ?, updated_at = ?, snapshot = ? WHERE id = ? AND seq = ?",
  );
  const insert = db.prepare(
    `INSERT INTO task_events (task_id, seq, at, attempt, type, from_state, to_state, worker_seq, data)
     VALUES (?, ?, ?, 1, 'tool.started', 'running', 'running', ?, ?)`,
  );
  const tool = db.prepare(
    "INSERT INTO tool_calls (task_id, id, attempt, seq, name, input, started_at, truncated) VALUES (?, ?, 1, ?, 'bash', ?, ?, 0)",
  );
  const now = Date.now();
  const batch = db.transaction((round: number) => {
    ids.forEach((id, i) => {
      const seq = READY_SEQ + round;
      update.run(10_000_000 + round * tasks + i, now + 600_000 + round, now + round, snapshot, id, seq - 1);
      insert.run(id, seq, now + round, round, eventData(round));
      tool.run(id, `m${round}`, seq, '{"command":"npm test"}', now + round);
    });
  });
  const begun = performance.now();
  for (let round = 1; round <= rounds; round += 1) batch.immediate(round);
  const rate = (tasks * rounds) / ((performance.now() - begun) / 1_000);
  db.close();
  await close();
  return rate;
}

const eventData = (n: number): string => JSON.stringify({ id: `m${n}`, name: "bash", input: { command: "npm test" } });
