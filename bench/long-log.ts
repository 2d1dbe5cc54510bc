/** Writes a settled task with a long log into a store: its server does not run meanwhile. */
import { join } from "node:path";
import { packageRoot } from "../src/core/lib/runtime/package-root.ts";
import type { TaskState } from "../src/core/task.ts";
import { openSqliteStore } from "../src/store/sqlite/store.ts";
import { BENCH_TASK, createBenchTask, type BenchEvent } from "./support.ts";

const BATCH = 200;

interface LogSize {
  readonly events: number;
  /** Of the last tool's output. */
  readonly outputBytes: number;
}

/** @returns the id of the task, which was cancelled after its last tool. */
export async function writeLongLog(dir: string, userId: string, size: LogSize): Promise<string> {
  const { store } = openSqliteStore({ dir, migrations: join(packageRoot(), "migrations", "sqlite") });
  const task = await createBenchTask(store, { userId, title: "A long log" });
  const events = [...eventsOf(size)];
  for (let at = 0; at < events.length; at += BATCH) await task.append(events.slice(at, at + BATCH));
  await store.close();
  return BENCH_TASK;
}

function* eventsOf({ events, outputBytes }: LogSize): Generator<BenchEvent> {
  const move = (reason: string, from: TaskState, to: TaskState, more: object = {}): BenchEvent => ({
    type: "task.state",
    from,
    to,
    data: { reason, ...more },
  });
  const running = (type: BenchEvent["type"], data: BenchEvent["data"]): BenchEvent => ({
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
