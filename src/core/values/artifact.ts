/**
 * An artifact: the workspace of a sandbox whose worker could not push its work. Opaque to Slipway:
 * never unpacked, never executed.
 */
import { z } from "zod";

/** First path segment of every name in a workspace tar. */
export const WORKSPACE = "workspace";

/** File name of an artifact in a URL; group 1 is the attempt. */
export const ARTIFACT_NAME = /^a(\d{1,6})-workspace\.tar\.gz$/;

export const artifactName = (attempt: number): string => `a${attempt}-workspace.tar.gz`;

export const artifactSchema = z.strictObject({
  name: z.string().regex(ARTIFACT_NAME),
  attempt: z.int().positive(),
  /** Size of the compressed file. */
  bytes: z.int().min(0),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  /** Epoch ms. */
  at: z.number(),
  /** Number of files inside. */
  files: z.int().min(0),
  /** A text for people: what is missing and why; null when only regenerable files were left out. */
  note: z.string().max(1_000).nullable(),
});

export type Artifact = z.infer<typeof artifactSchema>;
