/**
 * Compares one upstream branch with the commits of a task repository: its tip, what the tip
 * contains, and who pushed it.
 */
import { resolvePin } from "../host-pinning.ts";
import { GitError } from "../../core/lib/git/git-error.ts";
import type { Git, GitOutput } from "../git-process.ts";
import type { GitAuth } from "../../core/ports/repositories.ts";

export interface BranchCall {
  /** The task repository. */
  readonly cwd: string;
  readonly repo: string;
  readonly auth: GitAuth | null;
  readonly branch: string;
}

/** `refs/slipway/pushed/<sha>`: a push of that commit was begun here. Inherited by child tasks. */
export const PUSHED = "refs/slipway/pushed";
/** `refs/slipway/others/<sha>`: a tip that others made of the branch. Inherited by child tasks. */
const OTHERS = "refs/slipway/others";
/** `refs/slipway/merged/<sha>`: the base has all changes of that commit. Inherited as well. */
const MERGED = "refs/slipway/merged";
/** The upstream tip, fetched for a comparison. */
const UPSTREAM = "refs/slipway/upstream";

export class UpstreamBranch {
  readonly ref: string;
  readonly #git: Git;
  readonly #trustedHosts: readonly string[];
  readonly #call: BranchCall;
  readonly #signal: AbortSignal;

  constructor(git: Git, trustedHosts: readonly string[], call: BranchCall, signal: AbortSignal) {
    this.#git = git;
    this.#trustedHosts = trustedHosts;
    this.#call = call;
    this.#signal = signal;
    this.ref = `refs/heads/${call.branch}`;
  }

  /** The commit that the branch, or another one, points at; null = it does not exist. */
  async readTip(branch = this.#call.branch): Promise<string | null> {
    const ref = `refs/heads/${branch}`;
    const { text } = await this.network(["ls-remote", "--", this.#call.repo, ref]);
    const lines = text.split("\n").map((line) => line.split("\t"));
    return lines.find(([, name]) => name === ref)?.[0] ?? null;
  }

  /** Fetches the branch. @returns its commit, which is newer than `tip` if it moved meanwhile. */
  async fetch(tip: string): Promise<string> {
    await this.network(["fetch", "--quiet", "--no-tags", "--", this.#call.repo, `+${this.ref}:${UPSTREAM}`]);
    return (await this.resolve(UPSTREAM)) ?? tip;
  }

  /** Notes a tip that is here already, as `fetch` does. */
  async note(tip: string): Promise<string> {
    await this.local(["update-ref", UPSTREAM, tip]);
    return tip;
  }

  /** True when this task, or one that it continues, has begun a push of the commit. */
  async isOfLineage(tip: string): Promise<boolean> {
    // An unknown object was never pushed from here.
    if ((await this.resolve(tip)) === null) return false;
    const { text } = await this.local(["for-each-ref", "--format=%(refname)", "--points-at", tip, "refs/slipway/"]);
    return text.split("\n").some((name) => /^refs\/slipway\/(?:parent\/)*pushed\//.test(name));
  }

  /** A commit that this lineage has begun to push and that the tip contains; null = none. */
  async findPushed(tip: string): Promise<string | null> {
    const format = "--format=%(objectname) %(refname)";
    const { text } = await this.local([
      "for-each-ref",
      "--sort=-committerdate",
      `--merged=${tip}`,
      format,
      "refs/slipway/",
    ]);
    const line = text.split("\n").find((name) => /^\w+ refs\/slipway\/(?:parent\/)*pushed\//.test(name));
    return line?.split(" ")[0] ?? null;
  }

  /** Records a tip of the branch that no task of this thread pushed. Idempotent. */
  async noteOthers(tip: string): Promise<void> {
    await this.local(["update-ref", `${OTHERS}/${tip}`, tip]);
  }

  /** Notes that replacing the commit loses nothing, as after a squash. Idempotent. */
  async noteMerged(sha: string): Promise<void> {
    await this.local(["update-ref", `${MERGED}/${sha}`, sha]);
  }

  /**
   * True when a branch that goes from `tip` to `kept` loses commits of others that this lineage has
   * seen on it: its own later commits stand on them, so the author of the tip does not tell.
   */
  async losesOthers(tip: string, kept: string): Promise<boolean> {
    const format = "--format=%(objectname) %(refname)";
    const { text } = await this.local(["for-each-ref", `--merged=${tip}`, format, "refs/slipway/"]);
    const noted = (kind: string): string[] =>
      text.split("\n").flatMap((line) => line.match(`^(\\w+) refs/slipway/(?:parent/)*${kind}/`)?.[1] ?? []);
    const safe = [kept, ...noted("merged")];
    for (const other of new Set(noted("others"))) {
      const found = await Promise.all(safe.map((sha) => this.contains(sha, other)));
      if (!found.includes(true)) return true;
    }
    return false;
  }

  async contains(tip: string, sha: string): Promise<boolean> {
    return tip === sha || (await this.ask(["merge-base", "--is-ancestor", sha, tip])) !== null;
  }

  async resolve(ref: string): Promise<string | null> {
    return await this.ask(["rev-parse", "--quiet", "--verify", `${ref}^{commit}`]);
  }

  /** Git's answer; null when it is "no" (exit code 1). Any other failure is not an answer. */
  async ask(args: readonly string[]): Promise<string | null> {
    try {
      return (await this.local(args)).text.trim();
    } catch (error) {
      if (error instanceof GitError && error.exitCode === 1) return null;
      throw error;
    }
  }

  local(args: readonly string[], maxBytes?: number): Promise<GitOutput> {
    const limit = maxBytes === undefined ? {} : { maxBytes };
    return this.#git({ cwd: this.#call.cwd, signal: this.#signal, args, ...limit });
  }

  async network(args: readonly string[], maxBytes?: number): Promise<GitOutput> {
    const { cwd, auth, repo } = this.#call;
    const limit = maxBytes === undefined ? {} : { maxBytes };
    const pin = await resolvePin(repo, this.#trustedHosts, this.#signal);
    const kind = args[0] === "ls-remote" ? "remote" : "transfer";
    return this.#git({ cwd, auth, signal: this.#signal, pin, kind, args, ...limit });
  }
}
