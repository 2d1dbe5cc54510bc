/** What takes up space although no task needs it any more. */
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
  "transcript",
  "container",
  "image",
] as const;

export const garbageSchema = z.strictObject({
  kind: z.enum(GARBAGE_KINDS),
  name: z.string(),
  /** On disk; null when it is not known. */
  bytes: z.number().min(0).nullable(),
  /** Why it could not be removed; null when it was, or when it was only looked at. */
  error: z.string().nullable(),
});
export type Garbage = z.infer<typeof garbageSchema>;

export type GcMode = "dry-run" | "remove";

/**
 * True while an attempt needs what belongs to its sandbox. Asked after the thing was seen, so that
 * a new one is never judged by an older look.
 */
export type IsNeeded = (sandboxName: string) => Promise<boolean>;

/** Bytes in all, of what is known. */
export function totalBytes(leftovers: readonly Garbage[]): number {
  return leftovers.reduce((sum, { bytes }) => sum + (bytes ?? 0), 0);
}

/** Runs the removal unless it is only a look, and says how it went. */
export async function removeGarbage(
  mode: GcMode,
  what: Pick<Garbage, "kind" | "name" | "bytes">,
  remove: () => Promise<unknown>,
): Promise<Garbage> {
  try {
    if (mode === "remove") await remove();
    return { ...what, error: null };
  } catch (thrown) {
    return { ...what, error: (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, 300) };
  }
}
