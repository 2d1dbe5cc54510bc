/** Garbage: resources that take up disk space and that no task needs any more. */
import { z } from "zod";

export const GARBAGE_KINDS = [
  "sandbox",
  "volume",
  "network",
  "folder",
  "sockets",
  "repository",
  "mirror",
  "artifacts",
  "attachment",
  "transcript",
  "setup-cache",
  "container",
  "image",
] as const;

export const garbageSchema = z.strictObject({
  kind: z.enum(GARBAGE_KINDS),
  name: z.string(),
  /** Size on disk; null when unknown. */
  bytes: z.number().min(0).nullable(),
  /** Why the removal failed; null when it succeeded, and in a dry run. */
  error: z.string().nullable(),
});
export type Garbage = z.infer<typeof garbageSchema>;

/** `dry-run` lists what `remove` would remove. */
export type GcMode = "dry-run" | "remove";

/**
 * True while an attempt needs the resources of its sandbox. Call this after listing a resource, so
 * that a resource created later is never tested against a stale answer.
 */
export type IsNeeded = (sandboxName: string) => Promise<boolean>;

/** Sum of the known sizes. */
export function totalBytes(items: readonly Garbage[]): number {
  return items.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0);
}

/** Runs `remove` unless this is a dry run. Never rejects: a failure is reported in `error`. */
export async function removeGarbage(
  mode: GcMode,
  item: Pick<Garbage, "kind" | "name" | "bytes">,
  remove: () => Promise<unknown>,
): Promise<Garbage> {
  try {
    if (mode === "remove") await remove();
    return { ...item, error: null };
  } catch (thrown) {
    return { ...item, error: (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, 300) };
  }
}
