/** What runs in the sandboxes of an installation, seen from beside its coordinator. */
import { setTimeout as delay } from "node:timers/promises";
import type { Sandbox } from "../../../src/core/ports/sandbox.ts";
import { listProcesses } from "./processes.ts";

const WATCH_MS = 250;

/** The most that was seen at once. */
export interface Seen {
  sandboxes: number;
  perTask: number;
  workers: number;
  perBox: number;
}

export interface EngineWatch {
  readonly most: Readonly<Seen>;
  /** Resolves when it looks no more. @throws what a look threw. */
  end(): Promise<void>;
}

export function watchEngine(sandbox: Pick<Sandbox, "list">, data: string): EngineWatch {
  const most: Seen = { sandboxes: 0, perTask: 0, workers: 0, perBox: 0 };
  let isWatching = true;
  async function watch(): Promise<void> {
    for (; isWatching; await delay(WATCH_MS)) {
      const running = (await sandbox.list()).filter(({ state }) => state === "running");
      const perTask = countBy(running, ({ taskId }) => taskId);
      const perBox = countBy(
        listProcesses(data).filter(({ isWorker }) => isWorker),
        ({ box }) => box,
      );
      most.sandboxes = Math.max(most.sandboxes, running.length);
      most.perTask = Math.max(most.perTask, ...perTask);
      most.perBox = Math.max(most.perBox, ...perBox);
      most.workers = Math.max(
        most.workers,
        perBox.reduce((sum, count) => sum + count, 0),
      );
    }
  }
  const watching = watch();
  // What it threw is thrown where it is awaited.
  watching.catch(() => undefined);
  return {
    most,
    end() {
      isWatching = false;
      return watching;
    },
  };
}

function countBy<T>(items: readonly T[], keyOf: (item: T) => string): number[] {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(keyOf(item), (counts.get(keyOf(item)) ?? 0) + 1);
  return [...counts.values()];
}
