/** Waits for the end of an attempt's sandbox, and records the failure that the end means. */
import type { Store } from "../../core/ports/store.ts";
import type { Sandbox, SandboxExit } from "../../core/ports/sandbox.ts";
import { WORKER_EXIT } from "../../core/protocol/worker.ts";
import type { FailureCode } from "../../core/failure.ts";
import { sandboxName, type Task } from "../../core/task.ts";
import type { FailureDetails } from "./failure-proposal.ts";
import type { Recorder } from "./recorder.ts";
import type { Salvage } from "./salvage.ts";

export interface WatchDeps {
  readonly store: Pick<Store, "recordExit">;
  readonly sandbox: Pick<Sandbox, "wait">;
  readonly salvage: Salvage;
  readonly recorder: Recorder;
}

/**
 * Exit codes that point to a stop from outside. A worker exits with `reported` only when it was
 * asked to end or has reported; 255 is what Docker notes for a container that ended while the
 * engine was away.
 */
const STOPPED_FROM_OUTSIDE: readonly number[] = [WORKER_EXIT.reported, 255];
/** A worker chooses its exit code, so the number of such ends that are not counted is limited. */
const MAX_EXCUSED = 3;

/** A report that arrived before the end has moved the task on and aborted this. */
export async function watch(deps: WatchDeps, task: Task, signal: AbortSignal): Promise<void> {
  const { attempt } = task.snapshot.context;
  const exit = await deps.sandbox.wait(sandboxName(task.id, attempt), signal);
  if (signal.aborted) return;
  await deps.store.recordExit(task.id, attempt, exit.exitCode);
  await deps.salvage(task.id, attempt, "stopped", signal);
  const { code, ...details } = classifyExit(task, exit);
  await deps.recorder.fail(task, code, details);
}

function classifyExit(task: Task, exit: SandboxExit): FailureDetails & { readonly code: FailureCode } {
  const evidence = exit.tail === "" ? null : exit.tail;
  if (exit.outOfMemory) return { code: "out_of_memory", evidence };
  if (exit.diskFull) return { code: "disk_full", detail: "Its workspace is full.", evidence };
  if (exit.exitCode === null) return { code: "interrupted", detail: "Its sandbox is gone.", evidence };
  if (STOPPED_FROM_OUTSIDE.includes(exit.exitCode) && task.snapshot.context.excused < MAX_EXCUSED) {
    const detail = "It was stopped from outside, as when the engine or the machine restarts.";
    return { code: "interrupted", detail, evidence };
  }
  return { code: "worker_lost", detail: `Its exit code was ${exit.exitCode}.`, evidence };
}
