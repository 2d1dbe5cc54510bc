/**
 * Pushes one commit to one upstream branch.
 *
 * Q1 A push replaces only a commit of its own lineage: `expect`, or one that this task or a task
 *    that it continues has pushed before, with or without an answer. Each attempt is noted in the
 *    task repository before it begins.
 * Q2 A commit that the tip contains is delivered, also when others have built on it.
 * Q3 A branch from which a delivered commit has gone is not created again by the same push.
 */
import { TaskFailure } from "../core/failure.ts";
import { resolvePin } from "./host-pinning.ts";
import { GitError } from "../core/lib/git-error.ts";
import type { Git } from "./git-process.ts";
import { classifyPushError } from "./git-errors.ts";
import type { GitAuth } from "../core/ports/repositories.ts";

export interface PushRequest {
  /** The task repository. */
  readonly cwd: string;
  readonly repo: string;
  readonly auth: GitAuth | null;
  readonly sha: string;
  readonly branch: string;
  /** A commit of the lineage that the branch may point at; null = none is known. */
  readonly expect: string | null;
}

/** `refs/slipway/pushed/<sha>`: a push of that commit was begun here. Inherited by child tasks. */
const PUSHED = "refs/slipway/pushed";
/** `refs/slipway/delivered/<branch>`: the commit of ours that the branch last contained. */
const DELIVERED = "refs/slipway/delivered";
/** The upstream tip, fetched for a comparison. */
const UPSTREAM = "refs/slipway/upstream";

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
  readonly #git: Git;
  readonly #trustedHosts: readonly string[];
  readonly #call: PushRequest;
  readonly #signal: AbortSignal;
  readonly #ref: string;

  constructor(git: Git, trustedHosts: readonly string[], call: PushRequest, signal: AbortSignal) {
    this.#git = git;
    this.#trustedHosts = trustedHosts;
    this.#call = call;
    this.#signal = signal;
    this.#ref = `refs/heads/${call.branch}`;
  }

  async run(): Promise<void> {
    const { sha, branch } = this.#call;
    const delivered = `${DELIVERED}/${branch}`;
    await this.#local(["update-ref", `${PUSHED}/${sha}`, sha]);
    const tip = await this.#readTip();
    // Merged and deleted, for example. Only the same commit is held back: new work is pushed.
    if (tip === null && (await this.#resolve(delivered)) === sha) return;
    if (tip !== sha && !(tip !== null && (await this.#isDelivered(tip)))) await this.#send(tip);
    await this.#local(["update-ref", delivered, sha]);
  }

  /** True when the tip contains the commit. @throws `push_rejected` for a tip of others' work. */
  async #isDelivered(tip: string): Promise<boolean> {
    const { sha, branch, expect } = this.#call;
    if (tip === expect || (await this.#isOfLineage(tip))) return false;
    await this.#network(["fetch", "--quiet", "--no-tags", "--", this.#call.repo, `+${this.#ref}:${UPSTREAM}`]);
    const current = (await this.#resolve(UPSTREAM)) ?? tip;
    if (await this.#contains(current, sha)) return true;
    if (await this.#contains(sha, current)) return false;
    throw new TaskFailure("push_rejected", {
      detail:
        `The branch ${branch} exists upstream with other work (${tip.slice(0, 8)}), which this push would remove. ` +
        "Pushing again gives the same answer. Submit the change again with that branch as its base, or with a branch of its own.",
    });
  }

  async #send(tip: string | null): Promise<void> {
    const { repo, sha } = this.#call;
    const lease = `--force-with-lease=${this.#ref}:${tip ?? ""}`;
    const args = ["push", "--progress", "--no-verify", lease, "--", repo, `${sha}:${this.#ref}`];
    await this.#network(args).catch(async (error: unknown) => {
      // The push of a killed coordinator may still have run and won the race: the call succeeds if
      // the branch points at the commit.
      if ((await this.#readTip().catch(() => null)) !== sha) throw error;
    });
  }

  /** True when this task, or one that it continues, has begun a push of the commit. */
  async #isOfLineage(tip: string): Promise<boolean> {
    // An unknown object: nobody here has pushed it.
    if ((await this.#resolve(tip)) === null) return false;
    const { text } = await this.#local(["for-each-ref", "--format=%(refname)", "--points-at", tip, "refs/slipway/"]);
    return text.split("\n").some((name) => /^refs\/slipway\/(?:parent\/)*pushed\//.test(name));
  }

  async #contains(tip: string, sha: string): Promise<boolean> {
    return (await this.#ask(["merge-base", "--is-ancestor", sha, tip])) !== null;
  }

  async #readTip(): Promise<string | null> {
    const { text } = await this.#network(["ls-remote", "--", this.#call.repo, this.#ref]);
    const lines = text.split("\n").map((line) => line.split("\t"));
    return lines.find(([, name]) => name === this.#ref)?.[0] ?? null;
  }

  async #resolve(ref: string): Promise<string | null> {
    return await this.#ask(["rev-parse", "--quiet", "--verify", `${ref}^{commit}`]);
  }

  /** Git's answer; null when it is "no" (exit code 1). Any other failure is not an answer. */
  async #ask(args: readonly string[]): Promise<string | null> {
    try {
      return (await this.#local(args)).text.trim();
    } catch (error) {
      if (error instanceof GitError && error.exitCode === 1) return null;
      throw error;
    }
  }

  #local(args: readonly string[]): ReturnType<Git> {
    return this.#git({ cwd: this.#call.cwd, signal: this.#signal, args });
  }

  async #network(args: readonly string[]): ReturnType<Git> {
    const { cwd, auth, repo } = this.#call;
    const pin = await resolvePin(repo, this.#trustedHosts, this.#signal);
    return this.#git({ cwd, auth, signal: this.#signal, pin, args });
  }
}
