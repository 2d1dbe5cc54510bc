/**
 * An artifact: what was salvaged from a sandbox whose worker could not save it itself. Opaque:
 * never unpacked, never executed.
 */
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
  /**
   * What is missing and why, in words for people; null when only what can be made again was left
   * out.
   */
  note: z.string().max(1_000).nullable(),
});

export type Artifact = z.infer<typeof artifactSchema>;
