/**
 * What is the same on every forge: which pull request of a branch counts, and when one is opened.
 * A dialect speaks the API of one kind of forge.
 */
import { TaskFailure } from "../../core/failure.ts";
import type { Forge, GitAuth, PullRequestChecks, PullRequestRequest } from "../../core/ports/repositories.ts";
import type { TokenAnswer } from "../../core/protocol/repositories.ts";
import type { PullRequest } from "../../core/task.ts";
import { ForgeRefusal } from "./forge-api.ts";

const FAILING = 10;

export interface FoundPull {
  readonly number: number;
  readonly state: "open" | "draft" | "closed" | "merged";
  readonly head: string;
  readonly headSha: string | null;
  readonly base: string;
  readonly body: string;
}

/** One check of a commit. */
export interface FoundCheck {
  readonly name: string;
  readonly result: "passed" | "failed" | "running";
}

export type ReadRequest = Parameters<Forge["readPullRequest"]>[0];

export interface Dialect {
  readonly name: string;
  readonly host: string;
  serves(repo: string): boolean;
  /** The newest pull requests of the head branch, and perhaps some of others. */
  list(request: PullRequestRequest, signal: AbortSignal): Promise<readonly FoundPull[]>;
  create(request: PullRequestRequest, signal: AbortSignal): Promise<FoundPull>;
  /**
   * Finds the pull request after `create` was refused: an existing one that the refusal names, or
   * one created with options that this repository allows. Null = neither is possible.
   */
  recover(refusal: ForgeRefusal, request: PullRequestRequest, signal: AbortSignal): Promise<FoundPull | null>;
  read(request: ReadRequest, signal: AbortSignal): Promise<FoundPull>;
  /** The checks of a commit; null when the credential may not read them. */
  readChecks(request: ReadRequest, sha: string, signal: AbortSignal): Promise<readonly FoundCheck[] | null>;
  readToken(auth: GitAuth, signal: AbortSignal): Promise<TokenAnswer>;
  /** Page of a pull request, from the repository's address: no answer chooses where people go. */
  link(repo: string, number: number): string;
}

export function toForge(dialect: Dialect): Forge {
  const { name, host, link } = dialect;
  const describe = (repo: string, { number, state }: FoundPull): PullRequest => ({
    url: link(repo.replace(/\.git$/, ""), number),
    number,
    state,
  });
  return {
    name,
    host,
    serves: (repo) => dialect.serves(repo),
    readToken: (auth, signal) => dialect.readToken(auth, signal),
    async openPullRequest(request, signal) {
      try {
        const found = choose(request, await dialect.list(request, signal));
        return describe(request.repo, found ?? (await create(dialect, request, signal)));
      } catch (error) {
        if (!(error instanceof ForgeRefusal)) throw error;
        throw new TaskFailure("pull_request_rejected", { detail: explain(dialect, error, request) });
      }
    },
    async readPullRequest(request, signal) {
      try {
        const { state, headSha } = await dialect.read(request, signal);
        const isCommit = headSha !== null && /^[0-9a-f]{40,64}$/.test(headSha);
        const checks = isCommit ? await dialect.readChecks(request, headSha, signal) : null;
        return { state, checks: checks === null ? null : countChecks(checks) };
      } catch (error) {
        if (!(error instanceof ForgeRefusal)) throw error;
        throw new TaskFailure("pull_request_rejected", { detail: `${name} answered ${error.status}. ${error.text}` });
      }
    },
  };
}

function countChecks(checks: readonly FoundCheck[]): PullRequestChecks {
  const count = (result: FoundCheck["result"]): number => checks.filter((one) => one.result === result).length;
  const failing = checks.filter(({ result }) => result === "failed").map(({ name }) => toLine(name));
  return {
    passed: count("passed"),
    failed: count("failed"),
    running: count("running"),
    failing: failing.slice(0, FAILING),
  };
}

const toLine = (text: string): string =>
  text
    .replaceAll(/[\p{Cc}\p{Cf}\s]+/gu, " ")
    .trim()
    .slice(0, 100);

/** Null for what the credential may not read: fine-grained tokens are often without checks. */
export async function unlessRefused<T>(reading: Promise<T>): Promise<T | null> {
  try {
    return await reading;
  } catch (error) {
    const isRefused = error instanceof TaskFailure && error.code === "pull_request_auth";
    if (isRefused || error instanceof ForgeRefusal) return null;
    throw error;
  }
}

async function create(dialect: Dialect, request: PullRequestRequest, signal: AbortSignal): Promise<FoundPull> {
  try {
    return await dialect.create(request, signal);
  } catch (error) {
    if (!(error instanceof ForgeRefusal)) throw error;
    const other = await dialect.recover(error, request, signal);
    if (other === null) throw error;
    return other;
  }
}

/** An open one first; else one that this task has opened, or that has merged this commit. */
function choose(request: PullRequestRequest, listed: readonly FoundPull[]): FoundPull | null {
  const all = listed.filter(({ head }) => head === request.head);
  const open = all.filter(({ state }) => state === "open" || state === "draft");
  return (
    open.find(({ base }) => base === request.base) ??
    open[0] ??
    all.find(({ body }) => body.includes(request.marker)) ??
    all.find(({ state, headSha }) => state === "merged" && headSha === request.headSha) ??
    null
  );
}

function explain({ name }: Dialect, { status, text }: ForgeRefusal, { head, base }: PullRequestRequest): string {
  const cause = /no commits between|no changes between/i.test(text)
    ? `${base} has everything that ${head} has, so there is nothing to merge.`
    : /base\W{1,5}invalid|target.branch\W{1,5}(?:does not exist|invalid)/i.test(text)
      ? `The base branch ${base} is no longer there.`
      : `${name} answered ${status}.`;
  return `${cause} ${text}`.trim();
}
