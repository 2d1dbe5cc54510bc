/** Repositories without git: commits are digests in memory. For simulated lifecycles in tests and benches. */
import { createHash } from "node:crypto";
import { TaskFailure } from "../failure.ts";
import { checkpointRef, WORK_REF, type Diff, type Repos } from "../ports.ts";

export interface SimulatedRepos extends Repos {
  /** What a worker's commit and push would do: a new commit on that ref of the task repository. */
  commit(taskId: string, ref: string, content: string): Promise<string>;
  /** Branch tips of the simulated upstream, by `<repo>#<branch>`, with how often each was pushed. */
  readonly upstream: ReadonlyMap<string, { readonly sha: string; readonly pushes: number }>;
}

const digest = (...parts: readonly string[]): string => createHash("sha1").update(parts.join("\0")).digest("hex");

export function openSimulatedRepos(): SimulatedRepos {
  const tasks = new Map<string, Map<string, string>>();
  const upstream = new Map<string, { sha: string; pushes: number }>();
  const refsOf = (taskId: string): Map<string, string> => tasks.get(taskId) ?? new Map<string, string>();
  const holds = (taskId: string, sha: string): boolean => [...refsOf(taskId).values()].includes(sha);

  return {
    upstream,
    commit(taskId, ref, content) {
      const sha = digest(taskId, ref, content);
      const refs = refsOf(taskId);
      refs.set(ref, sha).set(`commit ${sha}`, sha);
      tasks.set(taskId, refs);
      return Promise.resolve(sha);
    },
    prepare({ taskId, repo, base, parentTaskId }) {
      const name = base ?? "main";
      const sha = digest(repo, name);
      const refs = new Map([...(parentTaskId === null ? [] : refsOf(parentTaskId)), ...refsOf(taskId)]);
      tasks.set(taskId, refs.set(`refs/heads/${name}`, sha));
      return Promise.resolve({ baseSha: sha, base: name });
    },
    path: (taskId) => `/simulated/${taskId}.git`,
    resolve: (taskId, ref) => Promise.resolve(refsOf(taskId).get(ref) ?? null),
    has: (taskId, sha) => Promise.resolve(holds(taskId, sha)),
    push({ repo, branch, sha, expect }) {
      const name = `${repo}#${branch}`;
      const tip = upstream.get(name);
      if (tip?.sha === sha) return Promise.resolve();
      if ((tip?.sha ?? null) !== expect) return Promise.reject(new TaskFailure("push_rejected", { detail: "The branch has moved." }));
      upstream.set(name, { sha, pushes: (tip?.pushes ?? 0) + 1 });
      return Promise.resolve();
    },
    diff: (_taskId, base, head): Promise<Diff> => Promise.resolve({ base, head, files: [], truncated: false }),
    patch: () => Promise.resolve(""),
    list: () => Promise.resolve([...tasks.keys()]),
    remove(taskId) {
      tasks.delete(taskId);
      return Promise.resolve();
    },
  };
}
void checkpointRef;
void WORK_REF;
