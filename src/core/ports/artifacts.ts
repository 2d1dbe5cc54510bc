import type { Artifact } from "../values/artifact.ts";

export interface Salvaged {
  readonly taskId: string;
  readonly attempt: number;
  /** As `Sandbox.salvage` gives it; its content is hostile. */
  readonly tar: AsyncIterable<Uint8Array>;
  /** The stream is cut after this, ms; what was read until then is kept. */
  readonly maxMs: number;
}

/**
 * Where artifacts are kept. One artifact per attempt; it appears whole or not at all, and stays
 * until `remove`. Sizes are bounded by the adapter; what does not fit is left out and `note` says
 * so.
 */
export interface Artifacts {
  /**
   * Keeps it, or gives the one that this attempt has already. Rejects with the signal's reason, or
   * when nothing could be written.
   */
  keep(salvaged: Salvaged, signal: AbortSignal): Promise<Artifact>;
  /** Oldest attempt first. An unknown task has none. */
  list(taskId: string): Promise<Artifact[]>;
  /** Null when there is none of that name. Whoever stops reading early closes the file. */
  open(
    taskId: string,
    name: string,
  ): Promise<{ readonly artifact: Artifact; readonly content: AsyncIterable<Uint8Array> } | null>;
  /**
   * Tasks that have something here, with its size in bytes and the time of the newest change, epoch
   * ms.
   */
  usage(): Promise<{ readonly taskId: string; readonly bytes: number; readonly at: number }[]>;
  /** Idempotent. */
  remove(taskId: string): Promise<void>;
}
