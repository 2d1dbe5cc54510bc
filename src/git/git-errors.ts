/**
 * What git's words mean. The texts are those of git 2.30 to 2.50 (remote-curl.c, transport.c) and
 * of the large hosts.
 */
import { TaskFailure, type FailureCode } from "../core/failure.ts";
import { GitError } from "../core/lib/git-error.ts";

interface Rule {
  readonly words: RegExp;
  readonly code: FailureCode;
  readonly detail?: string;
}

const MOVED = {
  words: /returned error: 30[12378]|redirect/i,
  detail: "The host redirects elsewhere, which is not followed; use the repository's present address.",
} as const;
const AUTH = /authentication failed|error: 401|could not read (username|password)|error: 403|access denied/i;

const FETCH: readonly Rule[] = [
  { words: AUTH, code: "repo_auth" },
  { words: /repository .*not found|error: 404|error: 410|not found: did you run/i, code: "repo_not_found" },
  { words: /couldn't find remote ref/i, code: "branch_not_found" },
  { ...MOVED, code: "repo_not_found" },
];

const PUSH: readonly Rule[] = [
  { words: /refusing to allow .*workflow|workflow.* scope/i, code: "push_workflow_scope" },
  // The host took the commits and then failed on its own account: the same push may pass the next
  // time.
  {
    words:
      /\[remote rejected\].*\((internal server error|fatal error in commit_refs|failed to update ref|unpacker error|.*time.?out)/i,
    code: "remote_unreachable",
  },
  {
    words: /\[remote rejected\]|\[rejected\]|stale info|non-fast-forward|hook declined|protected branch/i,
    code: "push_rejected",
  },
  { words: AUTH, code: "push_auth" },
  { words: /permission (to .* )?denied|repository .*not found|error: 404|error: 410/i, code: "push_auth" },
  { ...MOVED, code: "push_rejected" },
];

function verdict(rules: readonly Rule[], otherwise: FailureCode, error: unknown): unknown {
  if (!(error instanceof GitError)) return error;
  const rule = rules.find(({ words }) => words.test(error.output));
  return new TaskFailure(rule?.code ?? otherwise, {
    evidence: error.output.trim(),
    cause: error,
    ...(rule?.detail === undefined ? {} : { detail: rule.detail }),
  });
}

/** The failure that a failed fetch means; anything that is not git's passes unchanged. */
export const classifyFetchError = (error: unknown): unknown => verdict(FETCH, "repo_unreachable", error);
export const classifyPushError = (error: unknown): unknown => verdict(PUSH, "remote_unreachable", error);
