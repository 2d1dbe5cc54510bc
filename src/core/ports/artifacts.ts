/** An artifact: what was taken out of a sandbox whose worker could not save it itself. Opaque to Slipway: never unpacked, never executed. */
import { z } from "zod";

/** Every name in the tar of a workspace begins with this. */
export const WORKSPACE = "workspace";

/** A file name in an address, and which attempt it comes from. */
export const ARTIFACT_NAME = /^a(\d{1,6})-workspace\.tar\.gz$/;
export const artifactName = (attempt: number): string => `a${attempt}-workspace.tar.gz`;

export const artifactSchema = z.strictObject({
  name: z.string().regex(ARTIFACT_NAME),
  attempt: z.int().positive(),
  /** Size of the file. */
  bytes: z.int().min(0),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Epoch ms. */
  at: z.number(),
  /** Files that are in it. */
  files: z.int().min(0),
  /** What is missing and why, in words for people; null when only what can be made again was left out. */
  note: z.string().max(1_000).nullable(),
});
export type Artifact = z.infer<typeof artifactSchema>;

export interface Salvaged {
  readonly taskId: string;
  readonly attempt: number;
  /** As `Sandbox.salvage` gives it; its content is hostile. */
  readonly tar: AsyncIterable<Uint8Array>;
  /** The stream is cut after this, ms; what was read until then is kept. */
  readonly maxMs: number;
}

/**
 * Where artifacts are kept. One artifact per attempt; it appears whole or not at all, and stays until `remove`.
 * Sizes are bounded by the adapter; what does not fit is left out and `note` says so.
 */
export interface Artifacts {
  /** Keeps it, or gives the one that this attempt has already. Rejects with the signal's reason, or when nothing could be written. */
  keep(salvaged: Salvaged, signal: AbortSignal): Promise<Artifact>;
  /** Oldest attempt first. An unknown task has none. */
  list(taskId: string): Promise<Artifact[]>;
  /** Null when there is none of that name. Whoever stops reading early closes the file. */
  open(taskId: string, name: string): Promise<{ readonly artifact: Artifact; readonly content: AsyncIterable<Uint8Array> } | null>;
  /** Tasks that have something here, with its size in bytes and the time of the newest change, epoch ms. */
  stock(): Promise<{ readonly taskId: string; readonly bytes: number; readonly at: number }[]>;
  /** Idempotent. */
  remove(taskId: string): Promise<void>;
}
