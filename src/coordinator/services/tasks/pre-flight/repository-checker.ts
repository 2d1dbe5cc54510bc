/**
 * Checks a repository before a task is submitted: what the host says to the person's credential, as
 * sentences that say what to do.
 *
 * K1 A check starts processes and asks hosts that a person names: each person gets CHECKS of them
 *    per minute, and a few run at once.
 * K2 A check changes nothing, here or upstream.
 */
import PQueue from "p-queue";
import { RateLimited } from "../../../../core/error.ts";
import { TaskFailure, type FailureCode } from "../../../../core/failure.ts";
import type { Identity } from "../../../../core/ports/accounts.ts";
import type { Forge, GitAuth, Repositories, RepositoryProbe } from "../../../../core/ports/repositories.ts";
import type { Clock } from "../../../../core/ports/runtime.ts";
import type { CheckProblem, CheckRequest, RepositoryCheck } from "../../../../core/protocol/repositories.ts";
import { parseBranch, parseRepositoryUrl, type RepositoryUrl } from "../../../../core/values/repository-url.ts";
import type { GetAuth } from "../../../effects/upstream.ts";

export interface RepositoryCheckerDeps {
  readonly repos: Pick<Repositories, "probe">;
  readonly forges: readonly Forge[];
  readonly authFor: GetAuth;
  readonly trustedHosts: readonly string[];
  readonly clock: Pick<Clock, "monotonic">;
}

/** Per person and minute. */
const CHECKS = 30;
const MINUTE_MS = 60_000;
const AT_ONCE = 3;
const MAX_WAITING = 50;
/** A host that has not answered by then did not answer, ms. */
const CHECK_MS = 20_000;
/** A name like those that tasks get. */
const BRANCH = "slipway/check";
const SAID_LENGTH = 300;

interface Place extends Pick<RepositoryUrl, "host"> {
  readonly hasCredential: boolean;
}

export class RepositoryChecker {
  readonly #deps: RepositoryCheckerDeps;
  readonly #checks = new PQueue({ concurrency: AT_ONCE });
  /** Times of the checks of the last minute by person, ms of the monotonic clock. */
  readonly #times = new Map<string, number[]>();

  constructor(deps: RepositoryCheckerDeps) {
    this.#deps = deps;
  }

  /**
   * @param given in place of the person's saved credential.
   * @throws SlipwayError `invalid_repository`, `invalid_branch`, `rate_limited`.
   */
  async check({ userId }: Identity, request: CheckRequest, given?: GitAuth): Promise<RepositoryCheck> {
    const { trustedHosts } = this.#deps;
    const address = parseRepositoryUrl(request.repo, { trustedHosts });
    const base = request.base === undefined ? null : parseBranch(request.base);
    const branch = request.branch === undefined ? BRANCH : parseBranch(request.branch);
    const findAuth = () => given ?? this.#deps.authFor(userId, address.url, "check");
    return await this.admit(userId, () => this.#ask(findAuth, address, base, branch));
  }

  /** Runs a check of the person when it is its turn. @throws RateLimited. */
  async admit<T>(userId: string, check: () => Promise<T>): Promise<T> {
    this.#count(userId);
    return await this.#checks.add(check);
  }

  /** @throws RateLimited. */
  #count(userId: string): void {
    const now = this.#deps.clock.monotonic();
    for (const [id, times] of this.#times) if ((times.at(-1) ?? 0) <= now - MINUTE_MS) this.#times.delete(id);
    const recent = (this.#times.get(userId) ?? []).filter((time) => time > now - MINUTE_MS);
    const [oldest = now] = recent;
    if (recent.length >= CHECKS) throw new RateLimited(oldest + MINUTE_MS - now);
    if (this.#checks.size >= MAX_WAITING) throw new RateLimited(1_000);
    this.#times.set(userId, [...recent, now]);
  }

  async #ask(
    findAuth: () => GitAuth | Promise<GitAuth | null>,
    address: RepositoryUrl,
    base: string | null,
    branch: string,
  ): Promise<RepositoryCheck> {
    const { url: repo, host, path: name } = address;
    const forge = this.#deps.forges.find((candidate) => candidate.serves(repo))?.name ?? null;
    const known = { repo, name, host, forge };
    const unread = { canRead: false, canPush: null, defaultBranch: null, branches: [], branchesTruncated: false };
    // One that cannot be opened is there too.
    let hasCredential = true;
    try {
      const auth = await findAuth();
      hasCredential = auth !== null;
      const probe = await this.#deps.repos.probe({ repo, auth, base, branch }, AbortSignal.timeout(CHECK_MS));
      const { defaultBranch, branches, isTruncated, push } = probe;
      const place = { host, hasCredential };
      return {
        ...known,
        hasCredential,
        canRead: true,
        canPush: push.kind === "unknown" ? null : push.kind === "allowed",
        defaultBranch,
        branches: [...branches],
        branchesTruncated: isTruncated,
        problems: [...findBaseProblems(probe, base), ...findPushProblems(probe, place)],
      };
    } catch (error) {
      return { ...known, ...unread, hasCredential, problems: [toReadProblem(error, { host, hasCredential })] };
    }
  }
}

function findBaseProblems({ hasBase, defaultBranch, branches }: RepositoryProbe, base: string | null): CheckProblem[] {
  if (hasBase) return [];
  const about = "base" as const;
  if (branches.length === 0) {
    const message = "The repository has no branch yet. Push a first commit to it, then check again.";
    return [{ code: "repo_empty", about, message, said: null }];
  }
  const otherwise = defaultBranch === null ? "" : `, or leave it out for ${defaultBranch}`;
  const message =
    base === null
      ? "The repository has no default branch that can be used. Name the branch to start from."
      : `There is no branch ${base}. Choose one of the repository's branches${otherwise}.`;
  return [{ code: "branch_not_found", about, message, said: null }];
}

function findPushProblems({ push }: RepositoryProbe, { host, hasCredential }: Place): CheckProblem[] {
  if (push.kind === "allowed") return [];
  const about = "push" as const;
  const said = readSaid(push.failure);
  if (push.kind === "unknown") {
    const message = `${host} did not say whether Slipway may push. You can submit; the task says so before it begins.`;
    return [{ code: "push_unknown", about, message, said }];
  }
  if (push.failure.code !== "push_auth") {
    const message = `${host} refuses pushes to this repository. Look at what it said, or choose another branch.`;
    return [{ code: "push_rejected", about, message, said }];
  }
  const message = hasCredential
    ? `Your credential for ${host} may not push to this repository. Save one with write access (contents: write), then check again.`
    : `Slipway can read this repository, but pushing needs a credential. Save a git credential for ${host} with write access (contents: write), then check again.`;
  return [{ code: "push_auth", about, message, said }];
}

/** What a person does about a repository that cannot be read. */
const READ: Partial<Record<FailureCode, (place: Place) => string>> = {
  repo_auth: ({ host, hasCredential }) =>
    hasCredential
      ? `${host} refused your credential. Save a new git credential for ${host} that may read this repository, then check again.`
      : `${host} shows this repository to nobody without a credential. Save a git credential for ${host}, then check again.`,
  repo_not_found: ({ host, hasCredential }) =>
    hasCredential
      ? `${host} has no such repository, or your credential may not see it. Check the address, or save a credential that may read it.`
      : `${host} has no such repository, or it is private. Check the address; for a private one save a git credential for ${host}.`,
  repo_too_large: ({ host }) =>
    `${host} sends more about this repository than this server allows. Ask an operator to raise SLIPWAY_GIT_MEMORY_MB.`,
};

function toReadProblem(error: unknown, place: Place): CheckProblem {
  const isTimeout = error instanceof Error && error.name === "TimeoutError";
  if (!(error instanceof TaskFailure) && !isTimeout) throw error;
  const code =
    error instanceof TaskFailure && error.code in READ ? (error.code as keyof typeof READ) : "repo_unreachable";
  const text = READ[code]?.(place) ?? `${place.host} did not answer. Check the address, then try again in a minute.`;
  const detail = error instanceof TaskFailure && error.message !== "" ? ` ${error.message}` : "";
  const said = error instanceof TaskFailure ? readSaid(error) : null;
  return { code: code as CheckProblem["code"], about: "read", message: `${text}${detail}`, said };
}

/** The last line of the host's or of git's own words. */
function readSaid({ evidence }: TaskFailure): string | null {
  return evidence?.trim().split("\n").at(-1)?.slice(0, SAID_LENGTH) || null;
}
