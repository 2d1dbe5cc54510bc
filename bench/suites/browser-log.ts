/** Writes a settled task with a long log into a store: its server does not run meanwhile. */
import { start, step } from "../../machines/fold.ts";
import type { TaskEvent } from "../../src/core/event.ts";
import { packageRoot } from "../../src/core/lib/runtime/package-root.ts";
import { DEFAULT_POLICY, type TaskState } from "../../src/core/task.ts";
import { openSqliteStore } from "../../src/store/sqlite/store.ts";
import { join } from "node:path";
import { SPEC } from "../support.ts";

const ID = "task_00000000000000000000000001";
const BATCH = 200;

type Part = Pick<TaskEvent, "type" | "from" | "to" | "data">;

interface LogSize {
  readonly events: number;
  /** Of the last tool's output. */
  readonly outputBytes: number;
}

/** @returns the id of the task, which was cancelled after its last tool. */
export async function writeLongLog(dir: string, userId: string, size: LogSize): Promise<string> {
  const { store } = openSqliteStore({ dir, migrations: join(packageRoot(), "migrations", "sqlite") });
  const at = Date.now();
  const first: TaskEvent = {
    taskId: ID,
    seq: 1,
    at,
    attempt: 0,
    type: "task.submitted",
    from: null,
    to: "queued",
    data: { maxAttempts: 3, policy: DEFAULT_POLICY, pullRequest: "none", from: "start" },
    workerSeq: null,
  };
  let snapshot = start(first);
  await store.create({
    id: ID,
    userId,
    threadId: ID,
    parentId: null,
    machineVersion: 1,
    spec: { ...SPEC, title: "A long log" },
    snapshot,
    state: "queued",
    slot: false,
    event: first,
    inherits: null,
    idempotency: null,
  });
  let seq = 1;
  let state: TaskState = "queued";
  let batch: TaskEvent[] = [];
  const flush = async (): Promise<void> => {
    const expectedSeq = seq - batch.length;
    await store.commit({ taskId: ID, expectedSeq, events: batch, snapshot, state, slot: false });
    batch = [];
  };
  for (const part of toParts(size)) {
    seq += 1;
    const event: TaskEvent = { ...first, ...part, seq, attempt: 1, at: at + seq };
    const next = step(snapshot, event);
    if (next === null) throw new Error(`the chart refused ${part.type} in ${state}`);
    snapshot = next;
    state = part.to;
    batch.push(event);
    if (batch.length === BATCH) await flush();
  }
  if (batch.length > 0) await flush();
  await store.close();
  return ID;
}

function* toParts({ events, outputBytes }: LogSize): Generator<Part> {
  const move = (reason: string, from: TaskState, to: TaskState, more: object = {}): Part => ({
    type: "task.state",
    from,
    to,
    data: { reason, ...more },
  });
  const running = (type: TaskEvent["type"], data: TaskEvent["data"]): Part => ({
    type,
    from: "running",
    to: "running",
    data,
  });
  yield move("claimed", "queued", "provisioning");
  yield move("ready", "provisioning", "running");
  const line = "src/app/main.ts: ok\n";
  for (let n = 0; n < events - 5; n += 3) {
    const id = `tool_${n}`;
    const isLast = n + 3 >= events - 5;
    const output = line.repeat(Math.ceil((isLast ? outputBytes : 400) / line.length));
    yield running("message", {
      id: `message_${n}`,
      role: "assistant",
      content: [{ type: "text", text: `I look at part ${n} of \`src/app\`, then run its **tests**.` }],
    });
    yield running("tool.started", { id, name: "bash", input: { command: `npm test -- part-${n}` } });
    yield running("tool.finished", { id, name: "bash", output, exitCode: 0, ms: 120, truncated: false });
  }
  yield move("cancel", "running", "cancelling", { force: false });
  yield move("stopped", "cancelling", "cancelled");
}
