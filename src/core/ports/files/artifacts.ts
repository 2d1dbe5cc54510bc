/** The artifact port: files salvaged from sandboxes. */
import type { Artifact } from "../../values/artifact.ts";

export interface Salvaged {
  readonly taskId: string;
  readonly attempt: number;
  /** The result of `Sandbox.salvage`; its content is hostile. */
  readonly tar: AsyncIterable<Uint8Array>;
  /** Reading stops after this many ms; what was read by then is kept. */
  readonly maxMs: number;
}

/**
 * Stores at most one artifact per attempt. An artifact appears whole or not at all, never changes,
 * and stays until `remove`. The adapter bounds its size: files that do not fit are left out and
 * listed in `note`.
 */
export interface Artifacts {
  /**
   * Stores the artifact. Idempotent: returns the existing artifact of the attempt without reading
   * `tar`. Rejects with the signal's reason, or when writing fails; nothing is stored then.
   */
  keep(salvaged: Salvaged, signal: AbortSignal): Promise<Artifact>;
  /** Sorted by attempt, oldest first. Empty for an unknown task. */
  list(taskId: string): Promise<Artifact[]>;
  /**
   * Null when the task has no artifact of that name. Leaving the iteration of `content` early
   * closes the file.
   */
  open(
    taskId: string,
    name: string,
  ): Promise<{ readonly artifact: Artifact; readonly content: AsyncIterable<Uint8Array> } | null>;
  /** Every task with artifacts: their bytes on disk, and the newest change in epoch ms. */
  usage(): Promise<{ readonly taskId: string; readonly bytes: number; readonly at: number }[]>;
  /** Removes all artifacts of a task. Idempotent. */
  remove(taskId: string): Promise<void>;
}
