/**
 * The setup with its cache: what the first commands made in an earlier task is taken from there,
 * and is kept for later ones where they ran. A cache that fails costs time, never the attempt.
 */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errorMessage } from "../../../src/core/error.ts";
import type { WorkerSpec } from "../../../src/core/protocol/worker.ts";
import { runSetup, type SetupParts } from "./setup.ts";
import { SetupArchive } from "./setup-archive.ts";
import { SetupDisk } from "./setup-disk.ts";

export interface SetupOutcome {
  /** The failure message for the agent; null when nothing failed. */
  readonly failure: string | null;
  /** For people; null = there is nothing to say. */
  readonly detail: string | null;
  /** For the agent; null = there is nothing to say. */
  readonly note: string | null;
}

/** An earlier process of this attempt has begun: what it left may be half of something. */
const BEGUN = "setup-begun";

/** @param folders where the setup works. Rejects only when aborted. */
export async function runCachedSetup(
  parts: SetupParts & { readonly home: string; readonly stateDir: string },
  spec: WorkerSpec,
  signal: AbortSignal,
): Promise<SetupOutcome> {
  const { workspace, home, stateDir } = parts;
  const count = spec.setupCache ?? 0;
  const marker = join(stateDir, BEGUN);
  const archive = new SetupArchive({ root: workspace.root, home, stateDir });
  const disk = new SetupDisk(workspace.root);
  if (count === 0 || existsSync(marker)) {
    disk.discard();
    return outcome(await runSetup(parts, spec, signal), null);
  }
  mkdirSync(stateDir, { recursive: true });
  writeFileSync(marker, "");
  const savedAt = await restore(parts, archive, disk, signal);
  if (savedAt !== null) {
    const failure = await runSetup(parts, spec, signal, { skip: count });
    const when = new Date(savedAt).toISOString();
    const skipped = spec.setup.slice(0, count).map(({ command }) => command);
    return {
      failure,
      detail: `${failure === null ? "" : "failed; "}from the cache of ${when}; not run: ${skipped.join("; ")}`,
      note: `What this setup made comes from a cache of ${when}, so it did not run: ${skipped.join("; ")}. Where something that it makes is missing or out of date, run it again.`,
    };
  }
  let kept: string | null = null;
  const reached = async (): Promise<void> => void (kept = await save(parts, archive, signal));
  return outcome(await runSetup(parts, spec, signal, { milestone: { count, reached } }), kept);
}

function outcome(failure: string | null, kept: string | null): SetupOutcome {
  return { failure, detail: failure === null ? kept : "failed", note: null };
}

/** @returns when it was saved; null = nothing was restored, and nothing is left of trying. */
async function restore(
  { link }: SetupParts,
  archive: SetupArchive,
  disk: SetupDisk,
  signal: AbortSignal,
): Promise<number | null> {
  const found = await link.openSetup(signal);
  if (found?.isOnDisk !== true) disk.discard();
  if (found === null) return null;
  try {
    if (found.isOnDisk) await disk.moveIntoPlace(archive, signal);
    else await archive.unpack(found.content, signal);
    return found.savedAt;
  } catch (thrown) {
    signal.throwIfAborted();
    const text = `The cache of the setup could not be used: ${errorMessage(thrown).slice(0, 300)}`;
    link.emit("notice", { level: "warning", code: "setup_cache", text });
    disk.discard();
    await archive.clear(signal);
    return null;
  } finally {
    found.content.destroy();
  }
}

/** @returns what became of it, for people. */
async function save({ link }: SetupParts, archive: SetupArchive, signal: AbortSignal): Promise<string> {
  try {
    const changed = await archive.changedFile(signal);
    if (changed !== null) return `not kept for later tasks: it changes ${changed}, a file of the repository`;
    const { saved, reason } = await link.saveSetup(archive.pack(signal), signal);
    return saved ? "kept for later tasks" : `not kept for later tasks: ${reason}`;
  } catch (thrown) {
    signal.throwIfAborted();
    return `not kept for later tasks: ${errorMessage(thrown).slice(0, 200)}`;
  }
}
