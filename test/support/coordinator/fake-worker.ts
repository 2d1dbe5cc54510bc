/** Workers without a process: a test sends their events and ends them. */
import type { EventData, WorkerEventType } from "../../../src/core/event.ts";
import type { WorkerAck } from "../../../src/core/protocol/worker.ts";
import type { SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import type { WorkerApi } from "../../../src/core/ports/broker.ts";

interface FakeWorker {
  readonly spec: SandboxSpec;
  readonly exit: (code: number) => void;
  seq: number;
}

export interface FakeWorkers {
  readonly run: (spec: SandboxSpec, signal: AbortSignal) => Promise<number>;
  /** Sends the events as the newest worker of the task. */
  send(
    workerApi: WorkerApi,
    taskId: string,
    ...events: readonly (readonly [WorkerEventType, EventData])[]
  ): Promise<WorkerAck>;
  exit(taskId: string, code: number): void;
  /** Whether a worker of that attempt or a later one was started. */
  has(taskId: string, attempt?: number): boolean;
}

export function createFakeWorkers(): FakeWorkers {
  /** By task: the worker of its newest attempt. */
  const workers = new Map<string, FakeWorker>();
  return {
    run: (spec, signal) =>
      new Promise((resolve) => {
        workers.set(spec.taskId, { spec, exit: resolve, seq: 0 });
        signal.addEventListener("abort", () => resolve(143), { once: true });
      }),
    has: (taskId, attempt = 1) => (workers.get(taskId)?.spec.attempt ?? 0) >= attempt,
    exit: (taskId, code) => workers.get(taskId)?.exit(code),
    send(workerApi, taskId, ...events) {
      const worker = workers.get(taskId);
      if (worker === undefined) throw new Error(`no worker runs for ${taskId}`);
      const at = new Date().toISOString();
      const numbered = events.map(([type, data]) => ({ seq: (worker.seq += 1), at, type, data: { ...data } }));
      const batch = { attempt: worker.spec.attempt, events: numbered };
      return workerApi.accept(taskId, batch, Buffer.byteLength(JSON.stringify(batch)));
    },
  };
}
