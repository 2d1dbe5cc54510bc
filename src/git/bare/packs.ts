/**
 * The packs of a bare repository. Each fetch and each push leaves one more, and every read looks
 * into each of them, so small ones are merged into larger ones.
 *
 * P1 A merge holds every object of its packs, reachable or not: task repositories borrow objects
 *    that no ref of their mirror reaches any more.
 * P2 The new pack is made in a repository beside this one, without a lock. Killed there, nothing
 *    has changed; `openMirrors` and the next merge remove what is left.
 * P3 The exchange is one turn of the event loop: first the new pack, on disk, then the proof
 *    without the old packs, then the removal of these. Killed between two steps, every object is
 *    still there once or twice.
 * P4 A git that reads meanwhile keeps the files that it has open, and looks for the others again.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { setImmediate } from "node:timers/promises";
import { errorMessage } from "../../core/error.ts";
import type { Crashpoint } from "../../core/lib/runtime/crashpoint.ts";
import type { MergedPacks } from "../../core/ports/repositories.ts";
import { isProven, listPacks, writeProof } from "./completeness.ts";
import type { Git } from "../git-process.ts";
import type { TransferWatch } from "../transfer-watch.ts";

/** With fewer packs nothing is merged. */
const MOST_PACKS = 8;
/** Each pack that stays has at least this many times the bytes of all smaller ones together. */
const FACTOR = 2;
/** Larger packs stay as they are, bytes: a first fetch makes them, and a merge would copy them. */
const LARGE = 2 ** 30;
const ERROR_LENGTH = 300;
/** Ending of the folder in which a merge is made. */
const MERGE_ENDING = ".merge";

const FOLDER = join("objects", "pack");

export interface PackMergeDeps {
  readonly git: Git;
  /** Null = the room on the disk is not watched. */
  readonly watch: TransferWatch | null;
  readonly crashpoint: Crashpoint;
}

/** The sizes of packs by file name, without their indexes. */
type Packs = Readonly<Record<string, number>>;

/**
 * The packs to merge into one, so that the sizes of the rest grow geometrically: their number is
 * bounded by a logarithm of the bytes, and a byte is copied as often at most.
 */
export function chooseMerge(packs: Packs): string[] {
  const sorted = Object.entries(packs).toSorted(([, a], [, b]) => a - b);
  if (sorted.length <= MOST_PACKS) return [];
  let smaller = 0;
  let merged = 0;
  for (const [index, [, bytes]] of sorted.entries()) {
    if (bytes > LARGE) break;
    if (bytes < FACTOR * smaller) merged = index + 1;
    smaller += bytes;
  }
  return sorted.slice(0, merged).map(([name]) => name);
}

function readPacks(repository: string): Packs {
  return Object.fromEntries(Object.entries(listPacks(repository)).filter(([name]) => name.endsWith(".pack")));
}

/**
 * Merges small packs when there are many. Nothing happens in a mirror that is not known to be
 * complete: its next use fetches or walks it.
 * @returns the number of packs that became one; 0 = nothing was to be done.
 */
async function mergePacks(
  deps: PackMergeDeps,
  repository: string,
  kind: "mirror" | "task",
  signal: AbortSignal,
): Promise<number> {
  if (kind === "mirror" && !isProven(repository)) return 0;
  const packs = readPacks(repository);
  const merged = chooseMerge(packs);
  if (merged.length === 0) return 0;
  const draft = `${repository}${MERGE_ENDING}`;
  try {
    await makePack(deps, { repository, draft, merged }, signal);
    deps.crashpoint("merge.packed");
    const isSame = merged.every((name) => readPacks(repository)[name] === packs[name]);
    if (!isSame || (kind === "mirror" && !isProven(repository))) return 0;
    exchange(deps.crashpoint, { repository, draft, merged }, kind);
    return merged.length;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** Merges in one repository after the other. Rejects only when aborted. */
export async function mergeAll(
  deps: PackMergeDeps,
  repositories: readonly { readonly kind: "mirror" | "task"; readonly path: string }[],
  signal: AbortSignal,
): Promise<MergedPacks[]> {
  const found: MergedPacks[] = [];
  for (const { kind, path } of repositories) {
    signal.throwIfAborted();
    // There may be thousands, and most need nothing.
    await setImmediate();
    const name = basename(path, ".git");
    try {
      const packs = existsSync(path) ? await mergePacks(deps, path, kind, signal) : 0;
      if (packs > 0) found.push({ kind, name, packs, error: null });
    } catch (error) {
      signal.throwIfAborted();
      found.push({ kind, name, packs: 0, error: errorMessage(error).slice(0, ERROR_LENGTH) });
    }
  }
  return found;
}

interface Merge {
  readonly repository: string;
  readonly draft: string;
  readonly merged: readonly string[];
}

async function makePack(
  { git, watch }: PackMergeDeps,
  { repository, draft, merged }: Merge,
  signal: AbortSignal,
): Promise<void> {
  rmSync(draft, { recursive: true, force: true });
  await git({ cwd: dirname(draft), signal, args: ["init", "--quiet", "--bare", "--template=", draft] });
  writeFileSync(join(draft, "objects", "info", "alternates"), `${resolve(repository, "objects")}\n`);
  mkdirSync(join(draft, FOLDER), { recursive: true });
  const args = ["-c", "pack.threads=1", "pack-objects", "--stdin-packs", "--delta-base-offset", "--progress"];
  const pack = (stop: AbortSignal): ReturnType<Git> =>
    git({
      cwd: draft,
      signal: stop,
      args: [...args, join(resolve(draft), FOLDER, "pack")],
      input: `${merged.join("\n")}\n`,
      // Keeps a long merge from exceeding the idle timeout.
      progress: () => undefined,
    });
  await (watch === null ? pack(signal) : watch.run(draft, signal, pack));
}

/** No `await` in it (P3). */
function exchange(crashpoint: Crashpoint, { repository, draft, merged }: Merge, kind: "mirror" | "task"): void {
  const made = new Set(readdirSync(join(draft, FOLDER)));
  // Packs are named by their content: one that held all of the others already is its own merge.
  const old = merged.filter((name) => !made.has(name)).map((name) => stemOf(name));
  movePacks(draft, repository);
  syncFolder(join(repository, FOLDER));
  crashpoint("merge.moved");
  if (kind === "mirror") writeProof(repository, old);
  crashpoint("merge.proved");
  for (const name of readdirSync(join(repository, FOLDER)).toSorted(byIndex(0, 1))) {
    if (!old.includes(stemOf(name))) continue;
    rmSync(join(repository, FOLDER, name), { force: true });
    crashpoint("merge.half");
  }
}

/** Moves packs. A pack is found by its index, so that comes last. */
function movePacks(from: string, to: string): void {
  mkdirSync(join(to, FOLDER), { recursive: true });
  for (const name of readdirSync(join(from, FOLDER)).toSorted(byIndex(1, 0)))
    renameSync(join(from, FOLDER, name), join(to, FOLDER, name));
}

/**
 * Moves the packs, refs and configuration of a complete repository into a damaged one. Packs are
 * read before loose objects, so that damaged ones of those no longer matter.
 */
export function adoptContents(from: string, to: string): void {
  movePacks(from, to);
  for (const name of ["refs", "packed-refs", "HEAD", "config"]) {
    rmSync(join(to, name), { recursive: true, force: true });
    if (existsSync(join(from, name))) renameSync(join(from, name), join(to, name));
  }
}

/**
 * Removes packs without an index, which a killed process left. No writer may use the repository at
 * the same time, because an arriving pack has no index for a moment.
 */
export function removeHalfPacks(repository: string): void {
  const folder = join(repository, FOLDER);
  if (!existsSync(folder)) return;
  const names = new Set(readdirSync(folder));
  for (const name of names)
    if (/^pack-.*\.(?:pack|rev)$/.test(name) && !names.has(`${stemOf(name)}.idx`))
      rmSync(join(folder, name), { force: true });
}

const stemOf = (name: string): string => name.replace(/\.[a-z]+$/, "");

const byIndex = (index: number, other: number) => {
  const rank = (name: string): number => (name.endsWith(".idx") ? index : other);
  return (a: string, b: string): number => rank(a) - rank(b);
};

/** Makes renames durable before what they replace is removed. */
function syncFolder(folder: string): void {
  const file = openSync(folder, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
