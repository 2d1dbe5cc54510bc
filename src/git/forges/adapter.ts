/**
 * What is the same on every forge: which pull request of a branch counts, and when one is opened.
 * A dialect speaks the API of one kind of forge.
 */
import { TaskFailure } from "../../core/failure.ts";
import type { Forge, PullRequestRequest } from "../../core/ports/repositories.ts";
import type { PullRequest } from "../../core/task.ts";
import { ForgeRefusal } from "./forge-api.ts";

export interface FoundPull {
  readonly number: number;
  readonly state: "open" | "draft" | "closed" | "merged";
  readonly head: string;
  readonly headSha: string | null;
  readonly base: string;
  readonly body: string;
}

export interface Dialect {
  readonly name: string;
  readonly host: string;
  serves(repo: string): boolean;
  /** The newest pull requests of the head branch, and perhaps some of others. */
  list(request: PullRequestRequest, signal: AbortSignal): Promise<readonly FoundPull[]>;
  create(request: PullRequestRequest, signal: AbortSignal): Promise<FoundPull>;
  /**
   * Another way to the pull request after `create` was refused: the existing one that the refusal
   * is about, or a request that this repository allows. Null = there is none.
   */
  recover(refusal: ForgeRefusal, request: PullRequestRequest, signal: AbortSignal): Promise<FoundPull | null>;
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
    async openPullRequest(request, signal) {
      try {
        const found = choose(request, await dialect.list(request, signal));
        return describe(request.repo, found ?? (await create(dialect, request, signal)));
      } catch (error) {
        if (!(error instanceof ForgeRefusal)) throw error;
        throw new TaskFailure("pull_request_rejected", { detail: explain(dialect, error, request) });
      }
    },
  };
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
