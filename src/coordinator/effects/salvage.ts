/**
 * Work that no checkpoint holds: taken out of the sandbox as an artifact before the sandbox is
 * removed (decision 018).
 *
 * V1 An attempt that was ready is salvaged when a tool was at work after its last checkpoint. A
 *    worker that ended in disorder may have done more than it could tell: its attempt is salvaged
 *    in any case. Order is a report or a question as its last word, or exit code 0.
 * V2 It is tried once per attempt. The artifact, or a notice that it failed, is the note of it; a
 *    task that has settled hears no notice any more.
 * V3 Only a sandbox that was stopped is read, and only as a stream of bytes: nothing of it runs,
 *    and nothing is unpacked.
 */
import type { Artifacts } from "../../core/ports/artifacts.ts";
import { readLog } from "../read-lists.ts";
import type { TaskLog } from "../task-log.ts";
import { isAbort, errorMessage } from "../../core/error.ts";
import { TaskFailure } from "../../core/failure.ts";
import type { Store } from "../../core/ports/store.ts";
import { sandboxName } from "../../core/task.ts";
import { withTimeout } from "../../core/lib/async.ts";
import { WORKER_EXIT } from "../../core/protocol/worker.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import type { Sandbox } from "../../core/ports/sandbox.ts";
import type { Artifact } from "../../core/values/artifact.ts";

export interface SalvageDeps {
  readonly taskLog: TaskLog;
  readonly store: Store;
  readonly sandbox: Sandbox;
  readonly artifacts: Artifacts;
  readonly clock: Clock;
  readonly log: Log;
  /** Longest time for one salvage, ms. */
  readonly salvageMs: number;
}

/**
 * Stops the sandbox and keeps its workspace if that holds more than the last checkpoint. Bounded by
 * `salvageMs`. Rejects only when aborted, and with `sandbox_unavailable` when the engine does not
 * answer: then the sandbox is still there to be salvaged later.
 */
export type Salvage = (
  taskId: string,
  attempt: number,
  state: "stopped" | "perhaps_running",
  signal: AbortSignal,
) => Promise<void>;

const CODE = { kept: "salvaged", failed: "salvage_failed" } as const;
/**
 * Of the time for all, the part in which the stream may run: the rest is for what it takes to stop,
 * and to finish the file.
 */
const STREAM_SHARE = 0.75;

export function createSalvage(deps: SalvageDeps): Salvage {
  const { taskLog, store, sandbox, artifacts, clock, log } = deps;
  const running = new Map<string, Promise<void>>();

  /** V1, as far as the log goes. */
  async function look(taskId: string, attempt: number): Promise<"saved" | "unsaved" | "disorder"> {
    const open = new Set<unknown>();
    let [ready, unsaved, order] = [false, false, false];
    for await (const event of readLog(store, taskId)) {
      if (event.attempt !== attempt) continue;
      if (event.type === "notice" && (event.data["code"] === CODE.kept || event.data["code"] === CODE.failed))
        return "saved";
      if (event.workerSeq !== null) order = event.type === "question" || event.data["reason"] === "failed";
      if (event.data["reason"] === "ready") ready = true;
      if (event.data["reason"] === "finished") return "saved";
      if (event.type === "checkpoint") unsaved = false;
      if (event.type === "tool.started") open.add(event.data["id"]);
      if (event.type === "tool.finished") {
        open.delete(event.data["id"]);
        unsaved = true;
      }
    }
    if (!ready) return "saved";
    if (unsaved || open.size > 0) return "unsaved";
    return order ? "saved" : "disorder";
  }

  /** Null when the worker has ended in order and there is nothing to take. */
  async function takeIfNeeded(
    taskId: string,
    attempt: number,
    seen: "unsaved" | "disorder",
    signal: AbortSignal,
  ): Promise<Artifact | null> {
    const name = sandboxName(taskId, attempt);
    if (seen === "disorder" && (await sandbox.wait(name, signal)).exitCode === WORKER_EXIT.reported) return null;
    return await take(taskId, attempt, signal);
  }

  async function take(taskId: string, attempt: number, signal: AbortSignal): Promise<Artifact> {
    const tar = await sandbox.salvage(sandboxName(taskId, attempt), signal);
    if (tar === null) throw new Error("its sandbox is gone");
    return await artifacts.keep({ taskId, attempt, tar, maxMs: Math.ceil(deps.salvageMs * STREAM_SHARE) }, signal);
  }

  async function tell(
    taskId: string,
    attempt: number,
    code: string,
    text: string,
    artifact: Artifact | null,
  ): Promise<void> {
    const level = artifact !== null && artifact.note === null ? "info" : "warning";
    await taskLog.record(taskId, () => [
      { type: "notice", attempt, data: { level, code, text, ...(artifact === null ? {} : { artifact }) } },
    ]);
  }

  async function salvage(
    taskId: string,
    attempt: number,
    state: "stopped" | "perhaps_running",
    signal: AbortSignal,
  ): Promise<void> {
    const seen = attempt === 0 ? "saved" : await look(taskId, attempt);
    if (seen === "saved") return;
    const ours = new AbortController();
    const stop = AbortSignal.any([signal, ours.signal]);
    try {
      const work = async (): Promise<Artifact | null> => {
        if (state === "perhaps_running") await sandbox.stop(sandboxName(taskId, attempt), 0, stop);
        return await takeIfNeeded(taskId, attempt, seen, stop);
      };
      const artifact = await withTimeout(deps.salvageMs, work(), clock);
      if (artifact === null) return;
      log.info(
        { task: taskId, attempt, bytes: artifact.bytes },
        "work that no checkpoint holds was kept as an artifact",
      );
      const size = `${artifact.files} files, ${Math.ceil(artifact.bytes / 1_024)} KB, sha256 ${artifact.sha256.slice(0, 12)}…`;
      const get = `Get it with: slipway artifacts ${taskId} --out ${artifact.name}`;
      const words = `What attempt ${attempt} did after its last checkpoint is in ${artifact.name} (${size}).`;
      await tell(taskId, attempt, CODE.kept, [words, artifact.note, get].filter(Boolean).join(" "), artifact);
    } catch (error) {
      if (isAbort(error) || signal.aborted) throw error;
      if (error instanceof TaskFailure && error.code === "sandbox_unavailable") throw error;
      log.warn({ task: taskId, attempt, error: errorMessage(error) }, "a workspace could not be salvaged");
      await tell(
        taskId,
        attempt,
        CODE.failed,
        `What was done after the last checkpoint could not be kept: ${errorMessage(error)}.`,
        null,
      );
    } finally {
      ours.abort();
    }
  }

  /** An effect and the janitor may want the same one: the second finds what the first has done. */
  return async (taskId, attempt, state, signal) => {
    const name = sandboxName(taskId, attempt);
    for (let other = running.get(name); other !== undefined; other = running.get(name)) await other;
    const mine = salvage(taskId, attempt, state, signal);
    const settled = mine.then(
      () => undefined,
      () => undefined,
    );
    running.set(name, settled);
    try {
      await mine;
    } finally {
      running.delete(name);
    }
  };
}
