/**
 * Keeps work that no checkpoint holds: the workspace of a sandbox becomes an artifact before the
 * sandbox is removed (decision 018).
 *
 * V1 An attempt that was ready is salvaged when a tool ran after its last checkpoint. An attempt
 *    that did not end in order is salvaged in any case, because its worker may have done more than
 *    it reported. It ended in order if its last event is a report or a question, or if its exit
 *    code is `reported`.
 * V2 One salvage per attempt. The artifact's notice, or the notice of a failed salvage, marks it as
 *    done. A settled task accepts no notice, so there its artifact is the only trace.
 * V3 Only a stopped sandbox is read, and only as a stream of bytes: nothing of it is run or
 *    unpacked.
 */
import type { Artifacts } from "../../core/ports/files/artifacts.ts";
import { readLog } from "../read-lists.ts";
import type { TaskLog } from "../task-log.ts";
import { isAbort, errorMessage } from "../../core/error.ts";
import { TaskFailure } from "../../core/failure.ts";
import type { Crashpoint } from "../../core/lib/runtime/crashpoint.ts";
import { KeyedMutex } from "../../core/lib/concurrency/keyed-mutex.ts";
import type { Store } from "../../core/ports/store.ts";
import { sandboxName } from "../../core/task.ts";
import { withTimeout } from "../../core/lib/concurrency/async.ts";
import { WORKER_EXIT } from "../../core/protocol/worker.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import type { Sandbox } from "../../core/ports/sandbox.ts";
import type { Artifact } from "../../core/values/artifact.ts";
import { serverNotice } from "../../core/notices.ts";

export interface SalvageDeps {
  readonly taskLog: TaskLog;
  readonly store: Pick<Store, "events">;
  readonly sandbox: Pick<Sandbox, "salvage" | "stop" | "wait">;
  readonly artifacts: Artifacts;
  readonly clock: Clock;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  /** Longest time for one salvage, ms. */
  readonly salvageMs: number;
}

/**
 * Stops the sandbox and keeps its workspace if that holds more than the last checkpoint. Ends
 * within `salvageMs`. Concurrent calls for one attempt run one after another, and the later ones
 * find the result of the first. Rejects only when aborted, and with `sandbox_unavailable` when the
 * engine does not answer: the sandbox can then be salvaged later.
 */
export type Salvage = (
  taskId: string,
  attempt: number,
  state: "stopped" | "perhaps_running",
  signal: AbortSignal,
) => Promise<void>;

/** What the log shows of an attempt's work (V1, V2). */
type WorkState = "saved" | "unsaved" | "unknown";

const CODE = { kept: "salvaged", failed: "salvage_failed" } as const;
/**
 * Share of the time in which the stream may run: the rest is for the stop and for closing the file.
 */
const STREAM_SHARE = 0.75;

export function createSalvage(deps: SalvageDeps): Salvage {
  const mutex = new KeyedMutex();
  const salvager = new Salvager(deps);
  return (taskId, attempt, state, signal) =>
    mutex.run(sandboxName(taskId, attempt), () => salvager.salvage(taskId, attempt, state, signal));
}

class Salvager {
  readonly #deps: SalvageDeps;

  constructor(deps: SalvageDeps) {
    this.#deps = deps;
  }

  async salvage(...[taskId, attempt, state, signal]: Parameters<Salvage>): Promise<void> {
    const { sandbox, clock, log, salvageMs, crashpoint } = this.#deps;
    const work = attempt === 0 ? "saved" : await this.#readWorkState(taskId, attempt);
    if (work === "saved") return;
    const timedOut = new AbortController();
    const stop = AbortSignal.any([signal, timedOut.signal]);
    try {
      const keep = async (): Promise<Artifact | null> => {
        if (state === "perhaps_running") await sandbox.stop(sandboxName(taskId, attempt), 0, stop);
        return await this.#keepIfNeeded(taskId, attempt, work, stop);
      };
      const artifact = await withTimeout(salvageMs, keep(), clock);
      crashpoint("salvage.kept");
      if (artifact !== null) await this.#recordKept(taskId, attempt, artifact);
    } catch (error) {
      if (isAbort(error) || signal.aborted) throw error;
      if (error instanceof TaskFailure && error.code === "sandbox_unavailable") throw error;
      log.warn({ task: taskId, attempt, error: errorMessage(error) }, "a workspace could not be salvaged");
      const text = `What was done after the last checkpoint could not be kept: ${errorMessage(error)}.`;
      await this.#recordNotice(taskId, attempt, CODE.failed, text, null);
    } finally {
      timedOut.abort();
    }
  }

  async #readWorkState(taskId: string, attempt: number): Promise<WorkState> {
    const openTools = new Set<unknown>();
    let [isReady, isUnsaved, endedInOrder] = [false, false, false];
    for await (const event of readLog(this.#deps.store, taskId)) {
      if (event.attempt !== attempt) continue;
      // Not the worker's own word for it: that would keep its work from being salvaged.
      const isOwnNotice = event.type === "notice" && event.workerSeq === null;
      if (isOwnNotice && (event.data["code"] === CODE.kept || event.data["code"] === CODE.failed)) return "saved";
      if (event.workerSeq !== null) endedInOrder = event.type === "question" || event.data["reason"] === "failed";
      if (event.data["reason"] === "ready") isReady = true;
      if (event.data["reason"] === "finished") return "saved";
      if (event.type === "checkpoint") isUnsaved = false;
      if (event.type === "tool.started") openTools.add(event.data["id"]);
      if (event.type === "tool.finished") {
        openTools.delete(event.data["id"]);
        isUnsaved = true;
      }
    }
    if (!isReady) return "saved";
    if (isUnsaved || openTools.size > 0) return "unsaved";
    return endedInOrder ? "saved" : "unknown";
  }

  /** Null when the exit code shows that the worker ended in order, so there is nothing to keep. */
  async #keepIfNeeded(
    taskId: string,
    attempt: number,
    work: Exclude<WorkState, "saved">,
    signal: AbortSignal,
  ): Promise<Artifact | null> {
    const { sandbox, artifacts, salvageMs } = this.#deps;
    const name = sandboxName(taskId, attempt);
    if (work === "unknown" && (await sandbox.wait(name, signal)).exitCode === WORKER_EXIT.reported) return null;
    const tar = await sandbox.salvage(name, signal);
    if (tar === null) throw new Error("its sandbox is gone");
    return await artifacts.keep({ taskId, attempt, tar, maxMs: Math.ceil(salvageMs * STREAM_SHARE) }, signal);
  }

  async #recordKept(taskId: string, attempt: number, artifact: Artifact): Promise<void> {
    const { name, bytes, files, sha256, note } = artifact;
    this.#deps.log.info({ task: taskId, attempt, bytes }, "work that no checkpoint holds was kept as an artifact");
    const size = `${files} files, ${Math.ceil(bytes / 1_024)} KB, sha256 ${sha256.slice(0, 12)}…`;
    const content = `What attempt ${attempt} did after its last checkpoint is in ${name} (${size}).`;
    const command = `Get it with: slipway artifacts ${taskId} --out ${name}`;
    const text = [content, note, command].filter(Boolean).join(" ");
    await this.#recordNotice(taskId, attempt, CODE.kept, text, artifact);
  }

  async #recordNotice(
    taskId: string,
    attempt: number,
    code: (typeof CODE)[keyof typeof CODE],
    text: string,
    artifact: Artifact | null,
  ): Promise<void> {
    const level = artifact !== null && artifact.note === null ? "info" : "warning";
    const notice = serverNotice(level, code, text, artifact === null ? {} : { artifact });
    await this.#deps.taskLog.record(taskId, () => [{ ...notice, attempt }]);
  }
}
