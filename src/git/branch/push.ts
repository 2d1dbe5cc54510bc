/**
 * Pushes one commit to one upstream branch.
 *
 * Q1 A push replaces only a commit of its own lineage: `expect`, or one that this task or a task
 *    that it continues has pushed before, with or without an answer. Each attempt is noted in the
 *    task repository before it begins. Commits of others below such a commit are kept as well.
 * Q2 A commit that the tip contains is delivered, also when others have built on it.
 * Q3 A branch from which a delivered commit has gone is not created again by the same push.
 */
import { TaskFailure } from "../../core/failure.ts";
import { readRef, writeRef } from "../bare/bare-repository.ts";
import type { Git } from "../git-process.ts";
import { classifyPushError } from "../git-errors.ts";
import { PUSHED, UpstreamBranch, type BranchCall } from "./upstream-branch.ts";

export interface PushRequest extends BranchCall {
  readonly sha: string;
  /** A commit of the lineage that the branch may point at; null = none is known. */
  readonly expect: string | null;
}

/** `refs/slipway/delivered/<branch>`: the commit of ours that the branch last contained. */
const DELIVERED = "refs/slipway/delivered";

/**
 * Resolves when the commit is delivered. Idempotent.
 * @throws TaskFailure; the signal's reason when aborted.
 */
export async function push(
  git: Git,
  trustedHosts: readonly string[],
  call: PushRequest,
  signal: AbortSignal,
): Promise<void> {
  try {
    await new Push(git, trustedHosts, call, signal).run();
  } catch (error) {
    const failure = classifyPushError(error);
    // `repo_unreachable` is a failure of the fetch; an unreachable host fails a push with its own
    // code.
    throw failure instanceof TaskFailure && failure.code === "repo_unreachable"
      ? new TaskFailure("remote_unreachable", { detail: failure.message, cause: failure })
      : failure;
  }
}

class Push {
  readonly #call: PushRequest;
  readonly #branch: UpstreamBranch;

  constructor(git: Git, trustedHosts: readonly string[], call: PushRequest, signal: AbortSignal) {
    this.#call = call;
    this.#branch = new UpstreamBranch(git, trustedHosts, call, signal);
  }

  async run(): Promise<void> {
    const { cwd, sha, branch } = this.#call;
    const delivered = `${DELIVERED}/${branch}`;
    await this.#branch.local(["update-ref", `${PUSHED}/${sha}`, sha]);
    const tip = await this.#branch.readTip();
    // Merged and deleted, for example. Only the same commit is held back: new work is pushed.
    if (tip === null && readRef(cwd, delivered) === sha) return;
    if (tip !== sha && !(tip !== null && (await this.#isDelivered(tip)))) await this.#send(tip);
    await writeRef(cwd, delivered, sha);
  }

  /** True when the tip contains the commit. @throws `push_rejected` for a tip of others' work. */
  async #isDelivered(tip: string): Promise<boolean> {
    const { sha, branch, expect } = this.#call;
    const isOurs = tip === expect || (await this.#branch.isOfLineage(tip));
    if (isOurs && !(await this.#branch.losesOthers(tip, sha))) return false;
    const current = await this.#branch.fetch(tip);
    if (await this.#branch.contains(current, sha)) return true;
    if (await this.#branch.contains(sha, current)) return false;
    throw new TaskFailure("push_rejected", {
      detail:
        `The branch ${branch} got other work upstream (${tip.slice(0, 8)}) while the agent worked, which this push would remove. ` +
        "Retry from `checkpoint`: the work then goes on top of it.",
    });
  }

  async #send(tip: string | null): Promise<void> {
    const { repo, sha } = this.#call;
    const { ref } = this.#branch;
    const lease = `--force-with-lease=${ref}:${tip ?? ""}`;
    const args = ["push", "--progress", "--no-verify", lease, "--", repo, `${sha}:${ref}`];
    await this.#branch.network(args).catch(async (error: unknown) => {
      // The push of a killed coordinator may still have run and won the race: the call succeeds if
      // the branch points at the commit.
      if ((await this.#branch.readTip().catch(() => null)) !== sha) throw error;
    });
  }
}
