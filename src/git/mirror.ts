/**
 * The upstream's cache: one bare mirror per credential owner and repository. Task repositories borrow its objects, so nothing in it is ever
 * pruned while it lives (gc and maintenance are off).
 *
 * M1 Fetches of one mirror run one after another; other mirrors do not wait.
 * M2 What is there is not fetched again: the base's commit is asked for first.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import PQueue from "p-queue";
import { TaskFailure } from "../failure.ts";
import type { GitAuth } from "../ports.ts";
import { pinOf } from "./address.ts";
import { GitError, type Git } from "./run.ts";
import { fetchVerdict } from "./verdict.ts";

export interface Source {
  readonly userId: string;
  readonly repo: string;
  readonly auth: GitAuth | null;
  /** Null = the default branch. */
  readonly base: string | null;
}

export interface Fetched {
  /** Absolute path of the mirror. */
  readonly path: string;
  readonly base: string;
  readonly baseSha: string;
}

export interface Mirrors {
  fetch(source: Source, signal: AbortSignal): Promise<Fetched>;
}

export function openMirrors(git: Git, dir: string, trustedHosts: readonly string[]): Mirrors {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const lines = new Map<string, PQueue>();

  function pathOf({ userId, repo }: Source): string {
    const name = createHash("sha256")
      .update(`${userId}\n${repo.replace(/\.git$/, "")}`)
      .digest("hex")
      .slice(0, 32);
    return join(dir, `${name}.git`);
  }

  /** Whole or not at all: a folder under the final name is a repository. */
  async function make(path: string): Promise<void> {
    if (existsSync(path)) return;
    const draft = `${path}.new`;
    rmSync(draft, { recursive: true, force: true });
    await git({ cwd: dir, args: ["init", "--quiet", "--bare", draft] });
    renameSync(draft, path);
  }

  async function holds(path: string, sha: string): Promise<boolean> {
    try {
      await git({ cwd: path, args: ["cat-file", "-e", `${sha}^{commit}`] });
      return true;
    } catch (error) {
      if (error instanceof GitError) return false;
      throw error;
    }
  }

  async function fetchNow(source: Source, signal: AbortSignal): Promise<Fetched> {
    const path = pathOf(source);
    const { repo, auth } = source;
    await make(path);
    const pin = await pinOf(repo, trustedHosts);
    const ask = { cwd: path, auth, pin, signal };
    const wanted = source.base === null ? "HEAD" : `refs/heads/${source.base}`;
    const { text } = await git({ ...ask, args: ["ls-remote", "--symref", "--", repo, wanted] });
    const { base, baseSha } = readTip(text, source.base);
    if (!(await holds(path, baseSha))) {
      // Another's branch can vanish at any time; only its name is forgotten, its objects stay for those who borrow them.
      await git({ ...ask, args: ["fetch", "--quiet", "--prune", "--no-tags", "--force", "--", repo, "+refs/heads/*:refs/heads/*"] });
    }
    return { path, base, baseSha };
  }

  return {
    fetch(source, signal) {
      const path = pathOf(source);
      const line = lines.get(path) ?? new PQueue({ concurrency: 1 });
      lines.set(path, line);
      return line.add(() => fetchNow(source, signal).catch((error: unknown) => Promise.reject(fetchVerdict(error) as Error)));
    },
  };
}

/** The tip in the answer of `ls-remote --symref`. */
function readTip(text: string, asked: string | null): { base: string; baseSha: string } {
  const base = asked ?? /^ref: refs\/heads\/(\S+)\tHEAD$/m.exec(text)?.[1] ?? null;
  const line = asked === null ? /^([0-9a-f]{40,64})\tHEAD$/m : /^([0-9a-f]{40,64})\trefs\/heads\/\S+$/m;
  const baseSha = line.exec(text)?.[1];
  if (base !== null && baseSha !== undefined) return { base, baseSha };
  throw new TaskFailure("branch_not_found", {
    detail: asked === null ? "The repository is empty: it has no default branch yet." : `It was looked for as "${asked}".`,
  });
}
