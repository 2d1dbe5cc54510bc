/**
 * One bare repository per task, which the task's workers access. It borrows the mirror's objects
 * through `alternates` instead of a copy. It is created under another name and renamed, so that a
 * crash leaves either a complete repository or none.
 */
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { rm } from "node:fs/promises";
import { dirname, join, relative, resolve as resolvePath } from "node:path";
import type { FetchedMirror } from "./mirrors.ts";
import { GitError } from "../core/lib/git/git-error.ts";
import type { IncompleteRepository } from "../core/ports/repositories.ts";
import { BareRepositories, writeRef } from "./bare/bare-repository.ts";
import { findMissing, isSuspect, setSuspect } from "./bare/completeness.ts";
import { removeStaleLocks, type Git } from "./git-process.ts";

export interface TaskRepositories {
  path(taskId: string): string;
  exists(taskId: string): boolean;
  /**
   * Creates the repository if it is absent; an existing one keeps its base. One whose base cannot
   * be read, or that is suspect and has holes, is created anew with the saved work that it has.
   */
  make(
    taskId: string,
    fetched: FetchedMirror,
    parentTaskId: string | null,
    signal: AbortSignal,
  ): Promise<{ base: string; baseSha: string }>;
  /** The task repositories that lack objects which their mirrors do not lack. */
  check(signal: AbortSignal): Promise<IncompleteRepository[]>;
  resolve(taskId: string, ref: string): Promise<string | null>;
  list(): string[];
  /** Marks the repository; `make` then looks for holes. @returns the paths of its mirrors. */
  distrust(taskId: string): readonly string[];
  /** True when git cannot enumerate what the base reaches. */
  isBaseUnreadable(taskId: string, signal: AbortSignal): Promise<boolean>;
  /** Paths of the mirrors that this one borrows from; none when it is gone. */
  mirrorsOf(taskId: string): readonly string[];
  /** Paths of the mirrors that task repositories borrow from. */
  borrowed(): ReadonlySet<string>;
  remove(taskId: string): Promise<void>;
}

const TASK_ID = /^task_[0-9a-z]{1,64}$/i;
/**
 * Rules for pushes to the repository; the broker checks the ref updates first. New objects are
 * checked; borrowed objects are not, so that old history with known faults stays usable. Each push
 * stays one pack, because git syncs packs to disk but not loose objects.
 */
const CONFIG = `[receive]
	denyDeletes = true
	autogc = false
	unpackLimit = 1
	fsckObjects = true
[receive "fsck"]
	missingSpaceBeforeDate = ignore
	zeroPaddedFilemode = ignore
	badTimezone = ignore
[uploadpack]
	allowReachableSHA1InWant = true
	allowFilter = true
[core]
	alternateRefsPrefixes = refs/slipway/
`;
const BASE_REF = "refs/slipway/base";

/** Paths of the repositories that this one borrows from. */
function readAlternates(repository: string): string[] {
  const objects = join(repository, "objects");
  const file = join(objects, "info", "alternates");
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, "utf8").split("\n");
  return lines.flatMap((line) => (line === "" ? [] : [dirname(resolvePath(objects, line))]));
}

function orNothing(error: unknown): { text: string } {
  if (error instanceof GitError) return { text: "" };
  throw error;
}

async function isBaseUnreadable(git: Git, repository: string, signal: AbortSignal): Promise<boolean> {
  const args = ["pack-objects", "--revs", "--stdout", "--quiet"];
  try {
    // Git writes its first byte when it has found all objects.
    await git({ cwd: repository, signal, args, input: `${BASE_REF}\n`, maxBytes: 1 });
    return false;
  } catch (error) {
    if (error instanceof GitError) return true;
    throw error;
  }
}

export function openTaskRepositories(git: Git, dir: string): TaskRepositories {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const bare = new BareRepositories(git, dir);

  function path(taskId: string): string {
    if (!TASK_ID.test(taskId)) throw new Error("invalid task id");
    return join(dir, `${taskId}.git`);
  }
  const exists = (taskId: string): boolean => existsSync(path(taskId));
  const setAside = (taskId: string): string => `${path(taskId)}.gone`;
  const list = (): string[] => readdirSync(dir).flatMap((name) => (name.endsWith(".git") ? [name.slice(0, -4)] : []));

  async function resolve(taskId: string, ref: string): Promise<string | null> {
    if (!exists(taskId)) return null;
    try {
      const args = ["rev-parse", "--verify", "--quiet", "--end-of-options", `${ref}^{commit}`];
      const { text } = await git({ cwd: path(taskId), args });
      return text.trim() || null;
    } catch (error) {
      if (error instanceof GitError) return null;
      throw error;
    }
  }

  async function makeDraft(taskId: string, fetched: FetchedMirror, signal: AbortSignal): Promise<string> {
    const draft = `${path(taskId)}.new`;
    rmSync(draft, { recursive: true, force: true });
    signal.throwIfAborted();
    await bare.make(draft, fetched.base);
    const objects = join(draft, "objects");
    // Relative, so that the data folder can be moved.
    writeFileSync(join(objects, "info", "alternates"), `${relative(objects, join(fetched.path, "objects"))}\n`);
    appendFileSync(join(draft, "config"), CONFIG);
    // The mirror has the commit (M2 of mirrors.ts).
    for (const ref of [`refs/heads/${fetched.base}`, BASE_REF]) await writeRef(draft, ref, fetched.baseSha);
    return draft;
  }

  /** Replaces a damaged repository. Its objects, and its refs whose commits exist, are kept. */
  async function rebuild(taskId: string, fetched: FetchedMirror, signal: AbortSignal): Promise<void> {
    const draft = await makeDraft(taskId, fetched, signal);
    const damaged = path(taskId);
    const alternates = join(damaged, "objects", "info");
    if (existsSync(join(damaged, "objects")))
      cpSync(join(damaged, "objects"), join(draft, "objects"), {
        recursive: true,
        filter: (source) => source !== alternates,
      });
    const args = ["for-each-ref", "--format=%(refname) %(objectname)", "refs/slipway/"];
    const { text } = await git({ cwd: damaged, signal, args }).catch(orNothing);
    for (const line of text.split("\n")) {
      const [ref = "", sha = ""] = line.split(" ");
      if (ref === "" || ref === BASE_REF) continue;
      await git({ cwd: draft, signal, args: ["update-ref", ref, sha] }).catch(orNothing);
    }
    // Killed between the two, the next call finds the damaged one under its other name.
    renameSync(damaged, setAside(taskId));
    renameSync(draft, damaged);
    await rm(setAside(taskId), { recursive: true, force: true, maxRetries: 3 });
  }

  async function isSound(taskId: string, signal: AbortSignal): Promise<boolean> {
    if ((await resolve(taskId, BASE_REF)) === null) return false;
    return !isSuspect(path(taskId)) || (await findMissing(git, path(taskId), "alternates", signal)) === null;
  }

  /**
   * Fetches the parent's saved work into `refs/slipway/parent/`; work that the parent inherited is
   * nested one level deeper.
   */
  async function inherit(taskId: string, parentTaskId: string, signal: AbortSignal): Promise<void> {
    if (!exists(parentTaskId)) return;
    const args = ["fetch", "--quiet", "--no-tags", "--", path(parentTaskId), "+refs/slipway/*:refs/slipway/parent/*"];
    await git({ cwd: path(taskId), local: true, signal, args });
  }

  return {
    path,
    exists,
    resolve,
    async make(taskId, fetched, parentTaskId, signal) {
      if (exists(taskId)) rmSync(setAside(taskId), { recursive: true, force: true });
      else if (existsSync(setAside(taskId))) renameSync(setAside(taskId), path(taskId));
      const isNew = !exists(taskId);
      if (isNew) renameSync(await makeDraft(taskId, fetched, signal), path(taskId));
      else {
        removeStaleLocks(path(taskId));
        if (!(await isSound(taskId, signal))) await rebuild(taskId, fetched, signal);
        setSuspect(path(taskId), false);
      }
      if (parentTaskId !== null) await inherit(taskId, parentTaskId, signal);
      if (isNew) return { base: fetched.base, baseSha: fetched.baseSha };
      const { text } = await git({ cwd: path(taskId), signal, args: ["symbolic-ref", "--short", "HEAD"] });
      return { base: text.trim(), baseSha: (await resolve(taskId, BASE_REF)) ?? fetched.baseSha };
    },
    list,
    async check(signal) {
      const found: IncompleteRepository[] = [];
      for (const name of list()) {
        const problem = await findMissing(git, path(name), "alternates", signal);
        if (problem !== null) found.push({ kind: "task", name, problem });
      }
      return found;
    },
    distrust(taskId) {
      setSuspect(path(taskId), true);
      return readAlternates(path(taskId));
    },
    isBaseUnreadable: async (taskId, signal) => exists(taskId) && (await isBaseUnreadable(git, path(taskId), signal)),
    mirrorsOf: (taskId) => readAlternates(path(taskId)),
    borrowed: () => new Set(readdirSync(dir).flatMap((name) => readAlternates(join(dir, name)))),
    async remove(taskId) {
      for (const folder of [path(taskId), `${path(taskId)}.new`, setAside(taskId)])
        await rm(folder, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}
