/** `record` per second against the same rows written by bare better-sqlite3, both durable (synchronous=FULL), in one run. */
import Database from "better-sqlite3";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createCoordinator } from "../src/coordinator.ts";
import { noCrash } from "../src/crash.ts";
import { memoryBus } from "../src/bus/memory.ts";
import { systemClock } from "../src/system.ts";
import { DEFAULT_POLICY } from "../src/task.ts";
import { openBenchStore, quiet, SPEC } from "./support.ts";

export interface Rates {
  readonly ours: number;
  readonly floor: number;
}

/** @param tasks how many record at once: that many rows share a transaction, on both sides. */
export async function record(tasks = 100, rounds = 60): Promise<Rates> {
  const ours: number[] = [];
  const floor: number[] = [];
  // Interleaved, so that a noisy neighbour hits both.
  for (let i = 0; i < 3; i += 1) {
    floor.push(bare(tasks, rounds));
    ours.push(await through(tasks, rounds));
  }
  return { ours: Math.max(...ours), floor: Math.max(...floor) };
}

async function through(tasks: number, rounds: number): Promise<number> {
  const { store, close } = await openBenchStore();
  const coordinator = createCoordinator({ store, bus: memoryBus(), clock: systemClock, log: quiet, crashpoint: noCrash });
  const ids = Array.from({ length: tasks }, (_, i) => `task_${String(i).padStart(26, "0")}`);
  await Promise.all(
    ids.map((id) =>
      coordinator.create({
        id,
        userId: "user_bench",
        threadId: id,
        parentId: null,
        spec: SPEC,
        data: { policy: DEFAULT_POLICY, maxAttempts: 3 },
        idempotency: null,
      }),
    ),
  );
  const claim = { type: "task.state", data: { reason: "claimed" }, attempt: 1 } as const;
  await Promise.all(ids.map((id) => coordinator.record(id, () => [claim])));
  await Promise.all(ids.map((id) => coordinator.record(id, () => [{ type: "task.state", data: { reason: "ready" } }])));
  const begun = performance.now();
  await Promise.all(
    ids.map(async (id) => {
      for (let n = 1; n <= rounds; n += 1) {
        const data = { id: `m${n}`, name: "bash", input: { command: "npm test" } };
        await coordinator.record(id, () => [{ type: "tool.started", data, workerSeq: n }]);
      }
    }),
  );
  const rate = (tasks * rounds) / ((performance.now() - begun) / 1_000);
  await close();
  return rate;
}

/** The floor: the event row, the task row and the tool row, in batches of `tasks`, with nothing else around. */
function bare(tasks: number, rounds: number): number {
  const dir = mkdtempSync(join(tmpdir(), "slipway-bench-"));
  const db = new Database(join(dir, "floor.db"));
  db.pragma("journal_mode = WAL");
  db.pragma("synchronous = FULL");
  db.exec(`CREATE TABLE task (id TEXT PRIMARY KEY, seq INTEGER, state TEXT, snapshot TEXT, updated_at INTEGER) STRICT;
    CREATE TABLE event (task_id TEXT, seq INTEGER, at INTEGER, attempt INTEGER, type TEXT, "from" TEXT, "to" TEXT, data TEXT, PRIMARY KEY (task_id, seq)) STRICT, WITHOUT ROWID;
    CREATE TABLE tool (task_id TEXT, id TEXT, name TEXT, input TEXT, PRIMARY KEY (task_id, id)) STRICT, WITHOUT ROWID;`);
  const snapshot = JSON.stringify({ value: { running: "working" }, context: { filler: "x".repeat(1_100) } });
  const insertTask = db.prepare("INSERT INTO task VALUES (?, 1, 'running', ?, 0)");
  const update = db.prepare("UPDATE task SET seq = seq + 1, snapshot = ?, updated_at = ? WHERE id = ? AND seq = ?");
  const insert = db.prepare("INSERT INTO event VALUES (?, ?, ?, 1, 'tool.started', 'running', 'running', ?)");
  const tool = db.prepare("INSERT INTO tool VALUES (?, ?, 'bash', ?)");
  const ids = Array.from({ length: tasks }, (_, i) => `task_${String(i).padStart(26, "0")}`);
  for (const id of ids) insertTask.run(id, snapshot);
  const batch = db.transaction((round: number) => {
    for (const id of ids) {
      update.run(snapshot, round, id, round);
      insert.run(id, round + 1, round, JSON.stringify({ id: `m${round}`, name: "bash", input: { command: "npm test" } }));
      tool.run(id, `m${round}`, '{"command":"npm test"}');
    }
  });
  const begun = performance.now();
  for (let round = 1; round <= rounds; round += 1) batch.immediate(round);
  const rate = (tasks * rounds) / ((performance.now() - begun) / 1_000);
  db.close();
  rmSync(dir, { recursive: true });
  return rate;
}
