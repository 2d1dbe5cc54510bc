/**
 * The repository that one task's workers see: bare, ours, with the mirror's objects borrowed through `alternates` instead of copied.
 * It is made under another name and renamed, so that a crash leaves a whole one or none.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join, relative } from "node:path";
import { WORK_REF } from "../ports.ts";
import type { Fetched } from "./mirror.ts";
import { GitError, type Git } from "./run.ts";

export interface TaskRepos {
  path(taskId: string): string;
  /** Makes it if it is not there; one that is there keeps its base. */
  make(taskId: string, fetched: Fetched, parentTaskId: string | null): Promise<{ base: string; baseSha: string }>;
  resolve(taskId: string, ref: string): Promise<string | null>;
  list(): string[];
  remove(taskId: string): Promise<void>;
}

const TASK_ID = /^task_[0-9a-z]{1,64}$/i;
/** What the repository itself says about what may be pushed to it; the broker guards the refs before that. */
const CONFIG: readonly (readonly [string, string])[] = [
  ["receive.denyDeletes", "true"],
  ["receive.autogc", "false"],
  // New objects are checked; old history with known faults must still be usable, so what is borrowed is not.
  ["receive.fsckObjects", "true"],
  ["receive.fsck.missingSpaceBeforeDate", "ignore"],
  ["receive.fsck.zeroPaddedFilemode", "ignore"],
  ["receive.fsck.badTimezone", "ignore"],
  ["uploadpack.allowReachableSHA1InWant", "true"],
  ["uploadpack.allowFilter", "true"],
  ["http.receivepack", "true"],
];
const BASE_REF = "refs/slipway/base";

export function openTaskRepos(git: Git, dir: string): TaskRepos {
  mkdirSync(dir, { recursive: true, mode: 0o700 });

  function path(taskId: string): string {
    if (!TASK_ID.test(taskId)) throw new Error("this is not the id of a task");
    return join(dir, `${taskId}.git`);
  }

  async function resolve(taskId: string, ref: string): Promise<string | null> {
    const cwd = path(taskId);
    if (!existsSync(cwd)) return null;
    try {
      const { text } = await git({ cwd, args: ["rev-parse", "--verify", "--quiet", "--end-of-options", `${ref}^{commit}`] });
      return text.trim() || null;
    } catch (error) {
      if (error instanceof GitError) return null;
      throw error;
    }
  }

  async function create(taskId: string, fetched: Fetched): Promise<void> {
    const draft = `${path(taskId)}.new`;
    rmSync(draft, { recursive: true, force: true });
    await git({ cwd: dir, args: ["init", "--quiet", "--bare", draft] });
    const objects = join(draft, "objects");
    // Relative, so that the data folder can be moved.
    writeFileSync(join(objects, "info", "alternates"), `${relative(objects, join(fetched.path, "objects"))}\n`);
    for (const [name, value] of CONFIG) await git({ cwd: draft, args: ["config", name, value] });
    await git({ cwd: draft, args: ["update-ref", `refs/heads/${fetched.base}`, fetched.baseSha] });
    await git({ cwd: draft, args: ["symbolic-ref", "HEAD", `refs/heads/${fetched.base}`] });
    await git({ cwd: draft, args: ["update-ref", BASE_REF, fetched.baseSha] });
    renameSync(draft, path(taskId));
  }

  /** The parent's saved work, under names of its own. */
  async function inherit(taskId: string, parentTaskId: string): Promise<void> {
    const from = path(parentTaskId);
    if (!existsSync(from)) return;
    const saved = ["+refs/slipway/*:refs/slipway/parent/*", `+${WORK_REF}:refs/slipway/parent/work`];
    const found = (await resolve(parentTaskId, WORK_REF)) === null ? saved.slice(0, 1) : saved;
    await git({ cwd: path(taskId), local: true, args: ["fetch", "--quiet", "--no-tags", "--", from, ...new Set(found)] });
  }

  return {
    path,
    resolve,
    async make(taskId, fetched, parentTaskId) {
      if (!existsSync(path(taskId))) await create(taskId, fetched);
      if (parentTaskId !== null) await inherit(taskId, parentTaskId);
      const { text } = await git({ cwd: path(taskId), args: ["symbolic-ref", "--short", "HEAD"] });
      return { base: text.trim(), baseSha: (await resolve(taskId, BASE_REF)) ?? fetched.baseSha };
    },
    list: () => readdirSync(dir).flatMap((name) => (name.endsWith(".git") ? [name.slice(0, -4)] : [])),
    async remove(taskId) {
      await rm(path(taskId), { recursive: true, force: true, maxRetries: 3 });
    },
  };
}
