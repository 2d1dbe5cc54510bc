/**
 * One bare repository per task, which the task's workers access. It borrows the mirror's objects
 * through `alternates` instead of a copy. It is created under another name and renamed, so that a
 * crash leaves either a complete repository or none.
 */
import {
  appendFileSync,
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
import { GitError } from "../core/lib/git-error.ts";
import { removeStaleLocks, type Git } from "./git-process.ts";

export interface TaskRepositories {
  path(taskId: string): string;
  exists(taskId: string): boolean;
  /** Creates the repository if it is absent; an existing one keeps its base. */
  make(
    taskId: string,
    fetched: FetchedMirror,
    parentTaskId: string | null,
    signal: AbortSignal,
  ): Promise<{ base: string; baseSha: string }>;
  resolve(taskId: string, ref: string): Promise<string | null>;
  list(): string[];
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

export function openTaskRepositories(git: Git, dir: string): TaskRepositories {
  mkdirSync(dir, { recursive: true, mode: 0o700 });

  function path(taskId: string): string {
    if (!TASK_ID.test(taskId)) throw new Error("invalid task id");
    return join(dir, `${taskId}.git`);
  }
  const exists = (taskId: string): boolean => existsSync(path(taskId));

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

  async function create(taskId: string, fetched: FetchedMirror, signal: AbortSignal): Promise<void> {
    const draft = `${path(taskId)}.new`;
    rmSync(draft, { recursive: true, force: true });
    await git({
      cwd: dir,
      signal,
      args: ["init", "--quiet", "--bare", "--template=", `--initial-branch=${fetched.base}`, draft],
    });
    const objects = join(draft, "objects");
    // Relative, so that the data folder can be moved.
    writeFileSync(join(objects, "info", "alternates"), `${relative(objects, join(fetched.path, "objects"))}\n`);
    appendFileSync(join(draft, "config"), CONFIG);
    const refs = [`refs/heads/${fetched.base}`, BASE_REF].map((ref) => `create ${ref} ${fetched.baseSha}\n`);
    await git({ cwd: draft, signal, args: ["update-ref", "--stdin"], input: refs.join("") });
    renameSync(draft, path(taskId));
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
      const isNew = !exists(taskId);
      if (isNew) await create(taskId, fetched, signal);
      else removeStaleLocks(path(taskId));
      if (parentTaskId !== null) await inherit(taskId, parentTaskId, signal);
      if (isNew) return { base: fetched.base, baseSha: fetched.baseSha };
      const { text } = await git({ cwd: path(taskId), signal, args: ["symbolic-ref", "--short", "HEAD"] });
      return { base: text.trim(), baseSha: (await resolve(taskId, BASE_REF)) ?? fetched.baseSha };
    },
    list: () => readdirSync(dir).flatMap((name) => (name.endsWith(".git") ? [name.slice(0, -4)] : [])),
    borrowed() {
      const paths = new Set<string>();
      for (const name of readdirSync(dir)) {
        const objects = join(dir, name, "objects");
        const file = join(objects, "info", "alternates");
        if (!existsSync(file)) continue;
        for (const line of readFileSync(file, "utf8").split("\n"))
          if (line !== "") paths.add(dirname(resolvePath(objects, line)));
      }
      return paths;
    },
    async remove(taskId) {
      for (const folder of [path(taskId), `${path(taskId)}.new`])
        await rm(folder, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}
