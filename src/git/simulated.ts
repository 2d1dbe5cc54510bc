/**
 * Repositories without git: commits are digests in memory. For simulated lifecycles in tests and
 * benches.
 */
import { createHash } from "node:crypto";
import { SlipwayError } from "../core/error.ts";
import { TaskFailure, type FailureCode } from "../core/failure.ts";
import type { Diff } from "../core/ports/diff.ts";
import type { FileId, Repositories, RepositoryFile, RepositoryProbe } from "../core/ports/repositories.ts";
import type { Finding } from "../core/values/push-guard.ts";

/** Failure codes for the next calls of a task. */
export interface SimulatedFault {
  readonly prepare?: FailureCode;
  readonly push?: FailureCode;
  /** Number of calls of each kind that fail before one succeeds. */
  readonly times: number;
}

export interface SimulatedRepositories extends Repositories {
  /** Simulates a worker's commit and push: a new commit on that ref of the task repository. */
  commit(taskId: string, ref: string, content: string): Promise<string>;
  /** Sets the file at the base of every task on that repository; null removes it. */
  write(repo: string, path: string, text: string | null): void;
  /** What the guard finds in each change of a task. */
  find(taskId: string, findings: readonly Finding[]): void;
  /** Sets the fault of a task; a later fault replaces an earlier one. */
  fail(taskId: string, fault: SimulatedFault): void;
  /**
   * Branch tips of the simulated upstream by `<repo>#<branch>`, with the number of pushes. Deleting
   * an entry deletes the branch.
   */
  readonly upstream: Map<string, { readonly sha: string; readonly pushes: number }>;
}

const digest = (...parts: readonly string[]): string => createHash("sha1").update(parts.join("\0")).digest("hex");

interface Repository {
  readonly repo: string;
  readonly base: string;
  readonly refs: Map<string, string>;
}

const isPushed = (refs: ReadonlyMap<string, string>, tip: string | null): boolean =>
  [...refs].some(([ref, pushed]) => /^(?:parent )*pushed /.test(ref) && pushed === tip);

function probe(upstream: SimulatedRepositories["upstream"], repo: string, base: string): RepositoryProbe {
  const pushed = [...upstream.keys()].filter((name) => name.startsWith(`${repo}#`));
  const branches = ["main", ...pushed.map((name) => name.slice(repo.length + 1))];
  const hasBase = branches.includes(base);
  return { defaultBranch: "main", branches, isTruncated: false, hasBase, push: { kind: "allowed" } };
}

export function openSimulatedRepositories(): SimulatedRepositories {
  const tasks = new Map<string, Repository>();
  const upstream: SimulatedRepositories["upstream"] = new Map();
  const reached = new Set<string>();
  const findings = new Map<string, readonly Finding[]>();
  const files = new Map<string, string>();
  const faults = new Map<string, { fault: SimulatedFault; left: { prepare: number; push: number } }>();
  const getRefs = (taskId: string): ReadonlyMap<string, string> => tasks.get(taskId)?.refs ?? new Map();

  function getOrCreate(taskId: string, repo: string, base: string): Repository {
    const made = tasks.get(taskId) ?? { repo, base, refs: new Map([[`refs/heads/${base}`, digest(repo, base)]]) };
    tasks.set(taskId, made);
    return made;
  }

  /** Throws the fault that is set for this kind of call, up to `times` times. */
  function throwFault(taskId: string, kind: "prepare" | "push", signal: AbortSignal): void {
    signal.throwIfAborted();
    const known = faults.get(taskId);
    const code = known?.fault[kind];
    if (known === undefined || code === undefined || known.left[kind] === 0) return;
    known.left[kind] -= 1;
    throw new TaskFailure(code, { detail: "Simulated." });
  }

  return {
    upstream,
    find: (taskId, found) => void findings.set(taskId, found),
    fail(taskId, fault) {
      faults.set(taskId, { fault, left: { prepare: fault.times, push: fault.times } });
    },
    write(repo, path, text) {
      if (text === null) files.delete(`${repo} ${path}`);
      else files.set(`${repo} ${path}`, text);
    },
    commit(taskId, ref, content) {
      const sha = digest(taskId, ref, content);
      getOrCreate(taskId, "", "main").refs.set(ref, sha).set(`commit ${sha}`, sha);
      return Promise.resolve(sha);
    },
    async prepare({ taskId, userId, repo, base, parentTaskId }, signal) {
      throwFault(taskId, "prepare", signal);
      reached.add(`${userId}\n${repo}`);
      const made = getOrCreate(taskId, repo, base ?? "main");
      if (parentTaskId !== null) for (const [name, sha] of getRefs(parentTaskId)) made.refs.set(`parent ${name}`, sha);
      return { base: made.base, baseSha: made.refs.get(`refs/heads/${made.base}`) ?? "" };
    },
    probe: async ({ repo, base }, signal) => {
      signal.throwIfAborted();
      return probe(upstream, repo, base ?? "main");
    },
    hasMirror: (userId, repo) => Promise.resolve(reached.has(`${userId}\n${repo}`)),
    path: (taskId) => `/simulated/${taskId}.git`,
    resolve: (taskId, ref) => Promise.resolve(getRefs(taskId).get(ref) ?? null),
    file: (taskId, _sha, path) => Promise.resolve(toFile(files.get(`${tasks.get(taskId)?.repo ?? ""} ${path}`))),
    sign: ({ head }) => Promise.resolve(head),
    fileIds: (taskId) => Promise.resolve(listIds(files, `${tasks.get(taskId)?.repo ?? ""} `)),
    has: (taskId, sha) => Promise.resolve([...getRefs(taskId).values()].includes(sha)),
    compareBranch({ taskId, repo, branch, baseSha, work, expect }, signal) {
      signal.throwIfAborted();
      const tip = upstream.get(`${repo}#${branch}`)?.sha ?? null;
      const mine = work ?? baseSha;
      if (tip !== null) getOrCreate(taskId, repo, "main").refs.set("upstream", tip);
      const isOurs = tip === expect || isPushed(getRefs(taskId), tip);
      return Promise.resolve({
        tip,
        relation: tip === null ? "absent" : tip === mine ? "behind" : isOurs || expect === null ? "apart" : "ahead",
        isOurs: tip !== null && isOurs,
        pushed: expect,
        keepsPushed: tip !== null && expect !== null,
        isMerged: false,
        wasMerged: false,
        carryFrom: expect,
        commits: [],
        commitCount: 0,
        files: [],
        workFork: baseSha,
        tipFork: baseSha,
        refusal: null,
      });
    },
    inspect: (taskId) => Promise.resolve([...(findings.get(taskId) ?? [])]),
    leaveOut({ taskId, head }) {
      const sha = digest(head, "without");
      getOrCreate(taskId, "", "main").refs.set(`commit ${sha}`, sha);
      return Promise.resolve(sha);
    },
    async push({ taskId, repo, branch, sha, expect }, signal) {
      throwFault(taskId, "push", signal);
      const name = `${repo}#${branch}`;
      const tip = upstream.get(name);
      const { refs } = getOrCreate(taskId, repo, "main");
      const isOurs = isPushed(refs, tip?.sha ?? null);
      const isGone = tip === undefined && refs.get(`delivered ${branch}`) === sha;
      refs.set(`pushed ${sha}`, sha);
      if (isGone) return;
      if (tip !== undefined && tip.sha !== sha && tip.sha !== expect && !isOurs)
        throw new TaskFailure("push_rejected", { detail: "The branch has moved." });
      if (tip?.sha !== sha) upstream.set(name, { sha, pushes: (tip?.pushes ?? 0) + 1 });
      refs.set(`delivered ${branch}`, sha);
    },
    diff: (_taskId, base, head): Promise<Diff> => Promise.resolve({ base, head, files: [], truncated: false }),
    diffFile: () => Promise.reject(new SlipwayError("not_found", "A simulated change has no files.")),
    diffContent: () => Promise.reject(new SlipwayError("not_found", "A simulated change has no files.")),
    patch: () => Promise.resolve(""),
    list: () => Promise.resolve([...tasks.keys()]),
    ...storage(tasks, reached),
    size: () => Promise.resolve(0),
    remove(taskId) {
      tasks.delete(taskId);
      return Promise.resolve();
    },
    reclaim: () => Promise.resolve([]),
    mergePacks: () => Promise.resolve([]),
    check: () => Promise.resolve([]),
    distrust: () => Promise.resolve(),
    isBaseUnreadable: () => Promise.resolve(false),
    close: () => Promise.resolve(),
  };
}

/** @param reached person and repository of each mirror. */
function storage(
  tasks: ReadonlyMap<string, Repository>,
  reached: Set<string>,
): Pick<Repositories, "usage" | "removePerson"> {
  return {
    async usage() {
      const mirrors = [...reached].map((key) => {
        const [owner = null, repo = null] = key.split("\n");
        return { kind: "mirror" as const, owner, repo };
      });
      const repositories = [...tasks.keys()].map((owner) => ({ kind: "task" as const, owner, repo: null }));
      return [...mirrors, ...repositories].map((one) => ({ ...one, bytes: 1_024 }));
    },
    async removePerson(userId) {
      for (const key of reached) if (key.startsWith(`${userId}\n`)) reached.delete(key);
      return true;
    },
  };
}

/** The files below a prefix, with paths relative to it. */
function listIds(files: ReadonlyMap<string, string>, prefix: string): FileId[] {
  const own = [...files].filter(([key]) => key.startsWith(prefix));
  return own.map(([key, text]) => ({ path: key.slice(prefix.length), id: digest(text) }));
}

const toFile = (text: string | undefined): RepositoryFile =>
  text === undefined ? { kind: "absent" } : { kind: "text", text };
