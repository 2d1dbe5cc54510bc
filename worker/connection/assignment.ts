/**
 * The assignment of a pooled worker: a worker that was started before its task waits for a file in
 * the directory that it shares with the coordinator.
 */
import { watch } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { assignmentSchema, type Assignment } from "../../src/core/protocol/worker.ts";

/** File watches fail when the machine has no inotify instances left, so the file is polled too. */
const POLL_MS = 1_000;

/**
 * Waits without a limit until the file exists.
 * @returns null when the signal is aborted or the directory was removed.
 * @throws when the file is not an assignment.
 */
export async function waitForAssignment(file: string, signal: AbortSignal): Promise<Assignment | null> {
  const dir = dirname(file);
  while (!signal.aborted) {
    const stopWatching = new AbortController();
    // The watch starts before the read, so that no change between the two is missed.
    const changed = waitForChange(dir, AbortSignal.any([signal, stopWatching.signal]));
    try {
      const text = await readIfPresent(file);
      if (text !== null) return assignmentSchema.parse(JSON.parse(text));
      if (await isRemoved(dir)) return null;
      await changed;
    } finally {
      stopWatching.abort();
    }
  }
  return null;
}

/** Resolves at a change in the directory, after POLL_MS, or when the signal is aborted. */
async function waitForChange(dir: string, signal: AbortSignal): Promise<void> {
  const watched = new Promise<void>((resolve) => {
    try {
      watch(dir, { signal }, () => resolve()).on("error", () => undefined);
    } catch {
      // Polling is enough.
    }
  });
  await Promise.race([watched, delay(POLL_MS, undefined, { signal }).catch(() => undefined)]);
}

async function readIfPresent(file: string): Promise<string | null> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    // EACCES: a coordinator that restarts closes the directory briefly while it creates the socket.
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "EACCES")) return null;
    throw error;
  }
}

/** A directory that was removed outside stays mounted in the container, with a link count of 0. */
async function isRemoved(dir: string): Promise<boolean> {
  return await stat(dir).then(
    ({ nlink }) => nlink === 0,
    () => true,
  );
}
