/**
 * Saves the work in progress to the task repository, with the agent's cursor.
 *
 * K1 One checkpoint at a time: the workspace has a single index for it.
 * K2 Checkpoints take at most about a tenth of the time: the next one is due after ten times the
 *    duration of the last, and never before two seconds have passed.
 */
import { errorMessage, isAbort } from "../src/core/error.ts";
import type { Clock } from "../src/core/ports/runtime.ts";
import type { WorkerSpec } from "../src/core/protocol/worker.ts";
import type { CheckpointMode } from "./agents/agent.ts";
import { StaleAttempt, type CoordinatorLink } from "./connection/link.ts";
import { retryUnreachable } from "./connection/retry.ts";
import { Unreachable, type Workspace } from "./workspace/workspace.ts";

const INTERVAL_MS = 2_000;
const INTERVAL_FACTOR = 10;
/** The least time between two checkpoints that are made while a tool runs. */
const TOOL_INTERVAL_MS = 15_000;
/** The cursor of an agent that has not marked one. */
const START_CURSOR = "0";

export interface CheckpointerParts {
  readonly link: CoordinatorLink;
  readonly workspace: Workspace;
  readonly clock: Clock;
}

export class Checkpointer {
  readonly #parts: CheckpointerParts;
  readonly #baseSha: string;
  #dueAt = -Infinity;
  #savedSha: string;
  #savedCursor: string | null;
  #markedCursor: string | null;
  /** A tool has run since the last checkpoint that was reported. */
  #toolRan = false;
  /** Ends with the checkpoint that was asked for last; never rejects. */
  #lastSave: Promise<void> = Promise.resolve();

  /** @param cursor where the agent starts; null = from the beginning. */
  constructor(parts: CheckpointerParts, { baseSha }: Pick<WorkerSpec, "baseSha">, cursor: string | null) {
    this.#parts = parts;
    this.#baseSha = baseSha;
    this.#savedSha = baseSha;
    this.#savedCursor = cursor;
    this.#markedCursor = cursor;
  }

  /** Records the cursor for a restart of the worker and for `saveMarked`. */
  mark(cursor: string): void {
    this.#markedCursor = cursor;
    this.#parts.link.mark(cursor);
  }

  /** Call when a tool has ended: it may have changed the workspace. */
  noteToolEnd(): void {
    this.#toolRan = true;
  }

  /** Rejects only when the agent must stop; a failed checkpoint becomes a notice. */
  save(cursor: string, mode: CheckpointMode, signal: AbortSignal): Promise<void> {
    this.#markedCursor = cursor;
    const save = this.#lastSave.then(() => this.#save(cursor, mode, signal));
    this.#lastSave = save.catch(() => undefined);
    return save;
  }

  /** Saves with the cursor that was marked last, for when the agent itself does not ask for it. */
  async saveMarked(mode: CheckpointMode, signal: AbortSignal): Promise<void> {
    await this.save(this.#markedCursor ?? START_CURSOR, mode, signal);
  }

  /**
   * Saves while a tool runs, until `ended` is aborted: first what was not due before it started,
   * then what the tool does. The checkpoint after the tool stays due, because only that one moves
   * the cursor.
   */
  async saveWhileToolRuns(ended: AbortSignal): Promise<void> {
    const { clock } = this.#parts;
    try {
      for (let pause = INTERVAL_MS; ;) {
        await clock.sleep(Math.max(pause, this.#dueAt - clock.now()), ended);
        const [startedAt, dueAt] = [clock.now(), this.#dueAt];
        await this.saveMarked("due", ended);
        this.#dueAt = dueAt;
        pause = Math.max(TOOL_INTERVAL_MS, (clock.now() - startedAt) * INTERVAL_FACTOR);
      }
    } catch (thrown) {
      if (!ended.aborted) throw thrown;
    }
  }

  async #save(cursor: string, mode: CheckpointMode, signal: AbortSignal): Promise<void> {
    const { clock, link } = this.#parts;
    const startedAt = clock.now();
    if (mode === "due" && startedAt < this.#dueAt) return;
    const push = async (): Promise<void> => await this.#push(cursor, mode, signal);
    try {
      await (mode === "due" ? push() : retryUnreachable(this.#parts, signal, push));
      if (mode !== "due") await link.flush(signal);
    } catch (thrown) {
      if (signal.aborted || isAbort(thrown) || thrown instanceof StaleAttempt) throw thrown;
      // A due checkpoint that finds the coordinator away is made later.
      if (!(thrown instanceof Unreachable) || mode !== "due") this.#reportFailure(thrown);
    }
    const now = clock.now();
    this.#dueAt = now + Math.max(INTERVAL_MS, (now - startedAt) * INTERVAL_FACTOR);
  }

  /** Pushes the workspace and reports it, if there is anything new to report. */
  async #push(cursor: string, mode: CheckpointMode, signal: AbortSignal): Promise<void> {
    const saved = await this.#parts.workspace.checkpoint(signal);
    // The coordinator salvages the workspace unless a checkpoint follows the last tool, even when
    // that tool changed nothing.
    const isFinal = mode === "now" && this.#toolRan;
    const isNew = saved.sha !== this.#savedSha || (saved.sha !== this.#baseSha && cursor !== this.#savedCursor);
    const movesCursor = mode === "always" && cursor !== this.#savedCursor;
    if (!isFinal && !isNew && !movesCursor) return;
    [this.#savedSha, this.#savedCursor] = [saved.sha, cursor];
    this.#toolRan = false;
    this.#parts.link.emit("checkpoint", { ...saved, cursor });
  }

  /**
   * A checkpoint that cannot be made, for example because the agent broke its repository, does not
   * stop the attempt: the final commit fails with the reason.
   */
  #reportFailure(thrown: unknown): void {
    const text = `The work could not be saved: ${errorMessage(thrown)}`;
    this.#parts.link.emit("notice", { level: "warning", code: "checkpoint_failed", text });
  }
}
