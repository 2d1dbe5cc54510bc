/**
 * The git of a simulated world: the upstream with its history, the mirrors and the task
 * repositories. Outlives the coordinator, and knows nothing of faults.
 */
import { createHash } from "node:crypto";

interface Commit {
  readonly parent: string | null;
  /** A task id, or `base`, or `bot` for people and programs outside of Slipway. */
  readonly by: string;
}

export interface RefUpdate {
  readonly at: number;
  /** The task that pushed; null = somebody outside of Slipway. */
  readonly taskId: string | null;
  readonly branch: string;
  readonly from: string | null;
  readonly to: string | null;
}

export interface TaskRefs {
  readonly repo: string;
  readonly base: string;
  readonly baseSha: string;
  readonly refs: Map<string, string>;
}

export class Upstream {
  readonly commits = new Map<string, Commit>();
  /** `<repo>#<branch>` -> tip. */
  readonly tips = new Map<string, string>();
  readonly updates: RefUpdate[] = [];
  readonly repositories = new Map<string, TaskRefs>();
  /** `<user>\n<repo>`. */
  readonly mirrors = new Set<string>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  commit(parent: string | null, by: string): string {
    const sha = createHash("sha1").update(`${this.commits.size} ${parent} ${by}`).digest("hex");
    this.commits.set(sha, { parent, by });
    return sha;
  }

  /** The commit and all before it, newest first. */
  history(sha: string | null): string[] {
    const found: string[] = [];
    for (let at = sha; at !== null; at = this.commits.get(at)?.parent ?? null) found.push(at);
    return found;
  }

  holds(tip: string | null, sha: string): boolean {
    return this.history(tip).includes(sha);
  }

  baseTip(repo: string, branch: string): string {
    const key = `${repo}#${branch}`;
    const tip = this.tips.get(key) ?? this.commit(null, "base");
    this.tips.set(key, tip);
    return tip;
  }

  set(taskId: string | null, repo: string, branch: string, to: string | null): void {
    const key = `${repo}#${branch}`;
    this.updates.push({ at: this.#now(), taskId, branch: key, from: this.tips.get(key) ?? null, to });
    if (to === null) this.tips.delete(key);
    else this.tips.set(key, to);
  }

  /** What a worker's push to its task repository does. @returns the new commit. */
  work(taskId: string, ref: string, parent: string): string {
    const sha = this.commit(parent, taskId);
    this.repositories.get(taskId)?.refs.set(ref, sha);
    return sha;
  }
}
