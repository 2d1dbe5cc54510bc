/**
 * How a worker that was started ahead learns whom it works for: a file appears in the folder that
 * it shares with its coordinator.
 */
import { watch } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { assignmentSchema, type Assignment } from "../../src/core/protocol/worker.ts";

/** The watch may be deaf (no inotify left); this bounds what that costs, ms. */
const LOOK_MS = 1_000;

/**
 * Waits for as long as it takes, without using the processor.
 * @returns null when it is not wanted any more: the signal is aborted, or the folder was removed.
 * @throws when the file is there and is not an assignment.
 */
export async function waitForAssignment(file: string, signal: AbortSignal): Promise<Assignment | null> {
  const dir = dirname(file);
  while (!signal.aborted) {
    const hint = new AbortController();
    // Watching begins before looking, so that nothing falls between the two.
    const changed = change(dir, AbortSignal.any([signal, hint.signal]));
    try {
      const text = await textOf(file);
      if (text !== null) return assignmentSchema.parse(JSON.parse(text));
      if (await isGone(dir)) return null;
      await changed;
    } finally {
      hint.abort();
    }
  }
  return null;
}

async function change(dir: string, signal: AbortSignal): Promise<void> {
  const heard = new Promise<void>((resolve) => {
    try {
      watch(dir, { signal }, () => resolve()).on("error", () => undefined);
    } catch {
      // Looking now and then is enough.
    }
  });
  await Promise.race([heard, delay(LOOK_MS, undefined, { signal }).catch(() => undefined)]);
}

async function textOf(file: string): Promise<string | null> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    // EACCES: a coordinator that starts again closes the folder for a moment while it makes the
    // socket anew.
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "EACCES")) return null;
    throw error;
  }
}

/** A mounted folder that was removed outside stays, without a name. */
async function isGone(dir: string): Promise<boolean> {
  return await stat(dir).then(
    ({ nlink }) => nlink === 0,
    () => true,
  );
}
