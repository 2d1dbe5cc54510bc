/**
 * The repositories port over the simulated git, with faults: unreachable and slow hosts, fetches
 * that break off, pushes that arrive without an answer.
 */
import { SlipwayError } from "../../../../src/core/error.ts";
import { TaskFailure } from "../../../../src/core/failure.ts";
import type { Repositories } from "../../../../src/core/ports/repositories.ts";
import { Dice } from "../dice.ts";
import type { Faults } from "../faults.ts";
import type { Trace } from "../trace.ts";
import type { Upstream } from "../upstream.ts";
import type { Domain, VirtualTime } from "../virtual-time.ts";

export interface RepositoriesDeps {
  readonly seed: number;
  readonly time: VirtualTime;
  readonly trace: Trace;
  readonly faults: Faults;
  readonly upstream: Upstream;
  readonly domain: Domain;
  readonly policy: { readonly progressMs: number; readonly pushMs: number };
  /** Called when a fetch or a push begins. */
  readonly onBegin: (what: string, taskId: string) => void;
}

/** Time between two lines of progress. */
const PROGRESS_MS = 1_000;

type Prepare = Parameters<Repositories["prepare"]>[0];
type Compare = Parameters<Repositories["compareBranch"]>[0];
type Push = Parameters<Repositories["push"]>[0];

class Transfers {
  readonly #deps: RepositoriesDeps;
  readonly #dice: Dice;

  constructor(deps: RepositoriesDeps) {
    this.#deps = deps;
    this.#dice = new Dice(deps.seed, `git of ${deps.domain.name}`);
  }

  async prepare(
    task: Prepare,
    signal: AbortSignal,
    progress?: (text: string) => void,
  ): Promise<{ base: string; baseSha: string }> {
    const { time, trace, faults, upstream, domain, policy, onBegin } = this.#deps;
    const { taskId, userId, repo, parentTaskId } = task;
    signal.throwIfAborted();
    onBegin("fetch", taskId);
    const base = task.base ?? "main";
    const ms = faults.hits("fetch.slow") ? this.#dice.log(1_000, policy.progressMs * 2) : this.#dice.log(5, 500);
    for (let left = ms; left > 0; left -= PROGRESS_MS) {
      await time.wait(domain, Math.min(left, PROGRESS_MS), signal);
      if (left > PROGRESS_MS) progress?.("Receiving objects");
    }
    if (faults.hits("upstream.down") || faults.hits("fetch.breaks")) {
      trace.add(`fetch of ${taskId} failed`);
      throw new TaskFailure("repo_unreachable", { detail: "Simulated." });
    }
    upstream.mirrors.add(`${userId}\n${repo}`);
    const known = upstream.repositories.get(taskId);
    const made = known ?? { repo, base, baseSha: upstream.baseTip(repo, base), refs: new Map<string, string>() };
    upstream.repositories.set(taskId, made);
    const parent = parentTaskId === null ? undefined : upstream.repositories.get(parentTaskId);
    for (const [ref, sha] of parent?.refs ?? [])
      if (!made.refs.has(`parent ${ref}`)) made.refs.set(`parent ${ref}`, sha);
    return { base: made.base, baseSha: made.baseSha };
  }

  async compare({ taskId, repo, branch, baseSha, work, expect }: Compare, signal: AbortSignal) {
    const { time, faults, upstream, domain } = this.#deps;
    await time.wait(domain, this.#dice.log(5, 200), signal);
    if (faults.hits("upstream.down")) throw new TaskFailure("repo_unreachable", { detail: "Simulated." });
    const tip = upstream.tips.get(`${repo}#${branch}`) ?? null;
    const refs = upstream.repositories.get(taskId)?.refs ?? new Map<string, string>();
    const mine = work ?? baseSha;
    const begun = [...refs].flatMap(([ref, sha]) => (/^(?:parent )*pushed /.test(ref) ? [sha] : []));
    const pushed = expect ?? upstream.history(tip).find((sha) => begun.includes(sha)) ?? null;
    const wasOurs = tip !== null && begun.includes(tip);
    if (tip !== null && !wasOurs && !upstream.holds(mine, tip)) refs.set(`others ${tip}`, tip);
    const isApart = upstream.holds(tip, mine) ? "ahead" : "apart";
    const relation = tip === null ? "absent" : upstream.holds(mine, tip) ? "behind" : isApart;
    return {
      tip,
      relation,
      isOurs: wasOurs && !this.#losesOthers(refs, tip, mine),
      pushed,
      keepsPushed: pushed !== null && upstream.holds(tip, pushed),
      isMerged: false,
      wasMerged: false,
      carryFrom: pushed,
      commits: [],
      commitCount: 0,
      files: [],
      workFork: baseSha,
      tipFork: baseSha,
      refusal: null,
    } as const;
  }

  /** What `losesOthers` of src/git/branch/upstream-branch.ts finds. */
  #losesOthers(refs: ReadonlyMap<string, string>, tip: string, kept: string): boolean {
    const { upstream } = this.#deps;
    return [...refs].some(
      ([ref, sha]) => /^(?:parent )*others /.test(ref) && upstream.holds(tip, sha) && !upstream.holds(kept, sha),
    );
  }

  async push({ taskId, repo, branch, sha, expect }: Push, signal: AbortSignal): Promise<void> {
    const { time, trace, faults, upstream, domain, policy, onBegin } = this.#deps;
    signal.throwIfAborted();
    onBegin("push", taskId);
    const ms = faults.hits("push.slow") ? this.#dice.log(1_000, policy.pushMs * 1.5) : this.#dice.log(5, 500);
    await time.wait(domain, ms, signal);
    if (faults.hits("upstream.down")) throw new TaskFailure("remote_unreachable", { detail: "Simulated." });
    const tip = upstream.tips.get(`${repo}#${branch}`) ?? null;
    const refs = upstream.repositories.get(taskId)?.refs ?? new Map<string, string>();
    const wasPushed = [...refs].some(([ref, pushed]) => /^(?:parent )*pushed /.test(ref) && pushed === tip);
    const isOurs = tip !== null && (wasPushed || tip === expect) && !this.#losesOthers(refs, tip, sha);
    refs.set(`pushed ${sha}`, sha);
    if (tip === null && refs.get(`delivered ${branch}`) === sha) return;
    const isDelivered = tip !== null && !isOurs && upstream.holds(tip, sha);
    if (tip === sha || isDelivered) return void refs.set(`delivered ${branch}`, sha);
    if (tip !== null && !isOurs && !upstream.holds(sha, tip)) {
      trace.add(`push of ${taskId} refused: ${tip.slice(0, 8)} is there, ${String(expect).slice(0, 8)} was expected`);
      throw new TaskFailure("push_rejected", { detail: "The branch has moved." });
    }
    upstream.set(taskId, repo, branch, sha);
    refs.set(`delivered ${branch}`, sha);
    trace.add(`push of ${taskId}: ${branch} is ${sha.slice(0, 8)}`);
    await time.wait(domain, this.#dice.log(1, 50), signal);
    if (faults.hits("push.answer_lost")) throw new TaskFailure("remote_unreachable", { detail: "No answer." });
  }
}

export function openRepositories(deps: RepositoriesDeps): Repositories {
  const { upstream } = deps;
  const transfers = new Transfers(deps);
  const holds = (taskId: string, sha: string): boolean => {
    const found = upstream.repositories.get(taskId);
    return (
      found !== undefined &&
      (found.baseSha === sha ||
        [...found.refs.values(), ...upstream.tips.values()].some((tip) => upstream.holds(tip, sha)))
    );
  };
  return {
    prepare: (task, signal, progress) => transfers.prepare(task, signal, progress),
    compareBranch: (task, signal) => transfers.compare(task, signal),
    inspect: async () => [],
    leaveOut: async ({ head }) => head,
    push: (task, signal) => transfers.push(task, signal),
    probe: async () => ({
      defaultBranch: "main",
      branches: ["main"],
      isTruncated: false,
      hasBase: true,
      push: { kind: "allowed" },
    }),
    usage: async () => [],
    removePerson: async () => true,
    hasMirror: async (userId, repo) => upstream.mirrors.has(`${userId}\n${repo}`),
    path: (taskId) => `/simulated/${taskId}.git`,
    resolve: async (taskId, ref) => upstream.repositories.get(taskId)?.refs.get(ref) ?? null,
    file: async () => ({ kind: "absent" }),
    fileIds: async () => [],
    sign: async ({ head }) => head,
    has: async (taskId, sha) => holds(taskId, sha),
    diff: async (_taskId, base, head) => ({ base, head, files: [], truncated: false }),
    diffFile: async () => {
      throw new SlipwayError("not_found");
    },
    diffContent: async () => {
      throw new SlipwayError("not_found");
    },
    patch: async () => {
      throw new SlipwayError("not_found");
    },
    list: async () => [...upstream.repositories.keys()],
    size: async () => 0,
    remove: async (taskId) => void upstream.repositories.delete(taskId),
    reclaim: async () => [],
    mergePacks: async () => [],
    check: async () => [],
    distrust: async () => undefined,
    isBaseUnreadable: async () => false,
    close: async () => undefined,
  };
}
