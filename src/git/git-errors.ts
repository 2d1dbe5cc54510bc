/**
 * Maps git's error output to failure codes. The patterns match git 2.30 to 2.50 (remote-curl.c,
 * transport.c) and the large hosts.
 */
import { TaskFailure, type FailureCode } from "../core/failure.ts";
import { GitError, isLocalDiskFull, DISK_FULL } from "../core/lib/git/git-error.ts";

/**
 * True when git exceeded a limit (git-process.ts). The end of a helper is in the words of its
 * parent: signals 24 and 25 are SIGXCPU and SIGXFSZ.
 */
export function exceedsLimit({ output }: GitError): boolean {
  return /^git exceeded the limit of |died of signal 2[45]$|^fatal: (?:Out of memory, |mmap failed: Cannot allocate)/m.test(
    output,
  );
}

/** Git's words (2.30 to 2.50) for a repository that it cannot read. */
const DAMAGED =
  /not a git repository|bad object|bad config|did not send all necessary objects|unable to (read|parse|get type)|could not read [0-9a-f]{40}|missing (blob|tree|commit|object)|(object|packfile) .*(corrupt|empty)|cannot be accessed/i;

/**
 * True when git could not read a local repository. Messages about the remote repository do not
 * count.
 */
export function isDamaged({ output }: GitError): boolean {
  return output.split("\n").some((line) => !line.startsWith("remote: ") && DAMAGED.test(line));
}

interface Rule {
  readonly pattern: RegExp;
  readonly code: FailureCode;
  readonly detail?: string;
}

/**
 * Patterns name git's whole phrase: a broken transfer says `error: 4049 bytes of body are still
 * expected`, and a branch may contain any one word.
 */
const status = (...codes: number[]): string => `returned error: (?:${codes.join("|")})\\b`;

const MOVED = {
  pattern: new RegExp(`${status(301, 302, 303, 307, 308)}|unable to update url base from redirection`, "i"),
  detail: "The host redirects to another address. Redirects are not followed; use the repository's current address.",
} as const;
const AUTH = new RegExp(
  `authentication failed|could not read (?:username|password)|access denied|${status(401, 403)}`,
  "i",
);
const GONE = `repository .*not found|${status(404, 410)}`;

const FETCH: readonly Rule[] = [
  { pattern: AUTH, code: "repo_auth" },
  { pattern: new RegExp(`${GONE}|not found: did you run`, "i"), code: "repo_not_found" },
  { pattern: /couldn't find remote ref/i, code: "branch_not_found" },
  { ...MOVED, code: "repo_not_found" },
];

const PUSH: readonly Rule[] = [
  { pattern: /refusing to allow .*workflow|workflow.* scope/i, code: "push_workflow_scope" },
  // The host accepted the commits and then failed internally: a retry of the push may succeed.
  {
    pattern:
      /\[remote rejected\].*\((internal server error|fatal error in commit_refs|failed to update ref|unpacker error|.*time.?out)/i,
    code: "remote_unreachable",
  },
  {
    pattern: /protected branch|branch protection|GH006|GH013|repository rule/i,
    code: "push_rejected",
    detail:
      "A rule of the host protects it. Submit with another branch, or let the credential push to it, then retry from `push`.",
  },
  {
    pattern: /hook declined/i,
    code: "push_rejected",
    detail:
      "A check of the host declined the commits; its words are below. Retry from `checkpoint` with what it wants.",
  },
  {
    pattern: /\[rejected\]|stale info|non-fast-forward/i,
    code: "push_rejected",
    detail: "It has moved meanwhile. Retry from `checkpoint`: the work then goes on top of what is there.",
  },
  { pattern: /\[remote rejected\]/i, code: "push_rejected" },
  { pattern: AUTH, code: "push_auth" },
  { pattern: new RegExp(`permission (to .* )?denied|${GONE}`, "i"), code: "push_auth" },
  { ...MOVED, code: "push_rejected" },
];

function classify(rules: readonly Rule[], otherwise: FailureCode, error: unknown): unknown {
  if (!(error instanceof GitError)) return error;
  if (exceedsLimit(error)) return new TaskFailure("repo_too_large", { evidence: error.output.trim(), cause: error });
  if (isLocalDiskFull(error))
    return new TaskFailure("interrupted", { detail: DISK_FULL, evidence: error.output.trim(), cause: error });
  const words = error.output.replace(/https?:\/\/\S+/g, "<address>");
  const rule = rules.find(({ pattern }) => pattern.test(words));
  return new TaskFailure(rule?.code ?? (rules === PUSH && isDamaged(error) ? "repo_incomplete" : otherwise), {
    evidence: error.output.trim(),
    cause: error,
    ...(rule?.detail === undefined ? {} : { detail: rule.detail }),
  });
}

/** Converts a GitError of a fetch to a TaskFailure; returns any other error unchanged. */
export const classifyFetchError = (error: unknown): unknown => classify(FETCH, "repo_unreachable", error);
export const classifyPushError = (error: unknown): unknown => classify(PUSH, "remote_unreachable", error);
