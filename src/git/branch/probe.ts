/**
 * Asks a host about a repository before there is a task: its branches, and whether a credential may
 * push. Nothing is fetched and nothing is changed upstream.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { TaskFailure } from "../../core/failure.ts";
import type { GitAuth, RepositoryProbe } from "../../core/ports/repositories.ts";
import { classifyFetchError } from "../git-errors.ts";
import type { Git } from "../git-process.ts";
import { isBranchName } from "./branch-name.ts";
import { askToPush } from "./compare.ts";
import { UpstreamBranch } from "./upstream-branch.ts";

export interface ProbeRequest {
  readonly repo: string;
  readonly auth: GitAuth | null;
  /** The branch to start from; null = the default branch. */
  readonly base: string | null;
  /** The branch that would receive the work. */
  readonly branch: string;
}

const LISTED = 500;
const LIST_BYTES = 1024 * 1024;
const HEAD_BYTES = 64 * 1024;
/** A host that reads fast and does not say whether it takes pushes, ms. */
const PUSH_MS = 10_000;
/** Branches that Slipway makes come last. */
const OWN = "slipway/";
const AUTHOR = {
  GIT_AUTHOR_NAME: "Slipway",
  GIT_AUTHOR_EMAIL: "slipway@localhost",
  GIT_COMMITTER_NAME: "Slipway",
  GIT_COMMITTER_EMAIL: "slipway@localhost",
} as const;

export class RepositoryProber {
  readonly #git: Git;
  readonly #trustedHosts: readonly string[];
  readonly #dir: string;
  #made: Promise<{ cwd: string; baseSha: string }> | null = null;

  /** @param dir the folder of the installation's repositories. */
  constructor(git: Git, trustedHosts: readonly string[], dir: string) {
    this.#git = git;
    this.#trustedHosts = trustedHosts;
    this.#dir = dir;
  }

  /** @throws TaskFailure when it cannot be read; the signal's reason when aborted. */
  async probe({ repo, auth, base, branch }: ProbeRequest, signal: AbortSignal): Promise<RepositoryProbe> {
    this.#made ??= this.#make().catch((error: unknown) => {
      this.#made = null;
      throw error;
    });
    const { cwd, baseSha } = await this.#made;
    const call = { cwd, repo, auth, branch };
    const stop = new AbortController();
    const asking = AbortSignal.any([signal, stop.signal]);
    const upstream = new UpstreamBranch(this.#git, this.#trustedHosts, call, asking);
    const patient = AbortSignal.any([asking, AbortSignal.timeout(PUSH_MS)]);
    const receiver = new UpstreamBranch(this.#git, this.#trustedHosts, call, patient);
    try {
      const [head, heads, push] = await Promise.all([
        upstream.network(["ls-remote", "--symref", "--", repo, "HEAD"], HEAD_BYTES),
        upstream.network(["ls-remote", "--heads", "--", repo], LIST_BYTES),
        askToPush(receiver, { repo, baseSha }),
      ]);
      signal.throwIfAborted();
      const defaultBranch = readDefault(head.text);
      const names = readNames(heads.text, heads.truncated);
      const wanted = base ?? defaultBranch;
      const hasBase =
        wanted !== null && (names.includes(wanted) || (heads.truncated && (await upstream.readTip(wanted)) !== null));
      const branches = arrange(names, defaultBranch);
      const isTruncated = heads.truncated || branches.length > LISTED;
      return { defaultBranch, branches: branches.slice(0, LISTED), isTruncated, hasBase, push };
    } catch (error) {
      throw classifyFetchError(error);
    } finally {
      stop.abort();
    }
  }

  /** A repository with one empty commit: git asks to push only what it has. */
  async #make(): Promise<{ cwd: string; baseSha: string }> {
    const cwd = join(this.#dir, "probe.git");
    rmSync(cwd, { recursive: true, force: true });
    await this.#git({ cwd: this.#dir, args: ["init", "--quiet", "--bare", "--template=", cwd] });
    const tree = (await this.#git({ cwd, args: ["mktree"] })).text.trim();
    const commit = await this.#git({ cwd, args: ["commit-tree", tree, "-m", "probe"], env: AUTHOR });
    return { cwd, baseSha: commit.text.trim() };
  }
}

const OBJECT_ID = /^[0-9a-f]{40}(?:[0-9a-f]{24})?$/;
const SHA1_LENGTH = 40;

/** @throws TaskFailure for object names that are not supported. */
function readNames(text: string, truncated: boolean): string[] {
  const lines = text.split("\n").map((line) => line.split("\t"));
  // The last line of a cut text is not whole.
  if (truncated) lines.pop();
  const found = lines.filter(([sha = "", name = ""]) => OBJECT_ID.test(sha) && name.startsWith("refs/heads/"));
  if (found.some(([sha = ""]) => sha.length !== SHA1_LENGTH))
    throw new TaskFailure("repo_not_found", { detail: "It uses SHA-256 object names, which are not supported." });
  return found.map(([, name = ""]) => name.slice("refs/heads/".length)).filter(isBranchName);
}

function readDefault(text: string): string | null {
  const lines = text.split("\n").map((line) => line.split("\t"));
  const target = lines.find(([value = "", name]) => name === "HEAD" && value.startsWith("ref: refs/heads/"))?.[0];
  const name = target?.slice("ref: refs/heads/".length) ?? "";
  return isBranchName(name) ? name : null;
}

/** The default branch, then those of people, then ours. */
function arrange(names: readonly string[], first: string | null): string[] {
  const rank = (name: string): number => (name === first ? 0 : name.startsWith(OWN) ? 2 : 1);
  return names.toSorted((a, b) => rank(a) - rank(b));
}
