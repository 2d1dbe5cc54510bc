import type { EventData, WorkerEventType } from "../../../src/core/event.ts";
import type { WorkerAck } from "../../../src/core/protocol/worker.ts";
import type { SandboxSpec } from "../../../src/core/ports/sandbox.ts";
import type { WorkerApi } from "../../../src/core/ports/broker.ts";

interface Strings {
  readonly spec: SandboxSpec;
  readonly exit: (code: number) => void;
  seq: number;
}

export interface FakeWorkers {
  readonly run: (spec: SandboxSpec, signal: AbortSignal) => Promise<number>;
  /** Says these events as the newest worker of the task. */
  say(
    workerApi: WorkerApi,
    taskId: string,
    ...events: readonly (readonly [WorkerEventType, EventData])[]
  ): Promise<WorkerAck>;
  exit(taskId: string, code: number): void;
  has(taskId: string): boolean;
}

export function createFakeWorkers(): FakeWorkers {
  const strings = new Map<string, Strings>();
  return {
    run: (spec, signal) =>
      new Promise((resolve) => {
        strings.set(spec.taskId, { spec, exit: resolve, seq: 0 });
        signal.addEventListener("abort", () => resolve(143), { once: true });
      }),
    has: (taskId) => strings.has(taskId),
    exit: (taskId, code) => strings.get(taskId)?.exit(code),
    say(workerApi, taskId, ...events) {
      const puppet = strings.get(taskId);
      if (puppet === undefined) throw new Error(`no worker runs for ${taskId}`);
      const at = new Date().toISOString();
      const batch = events.map(([type, data]) => ({ seq: (puppet.seq += 1), at, type, data: { ...data } }));
      return workerApi.accept(taskId, { attempt: puppet.spec.attempt, events: batch });
    },
  };
}
