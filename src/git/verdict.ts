/** What git's words mean. The texts are those of git 2.30 to 2.50 (remote-curl.c, transport.c) and of the large hosts. */
import { TaskFailure, type FailureCode } from "../failure.ts";
import { GitError } from "./run.ts";

type Rule = readonly [RegExp, FailureCode];

const FETCH: readonly Rule[] = [
  [/authentication failed|error: 401|could not read (username|password)|error: 403|access denied|HTTP Basic: Access denied/i, "repo_auth"],
  [/repository .*not found|error: 404|not found: did you run/i, "repo_not_found"],
  [/couldn't find remote ref/i, "branch_not_found"],
  [/redirect/i, "repo_not_found"],
];

const PUSH: readonly Rule[] = [
  [/refusing to allow .*workflow|workflow.* scope/i, "push_workflow_scope"],
  [/\[remote rejected\]|\[rejected\]|stale info|non-fast-forward|hook declined|protected branch/i, "push_rejected"],
  [/authentication failed|error: 401|could not read (username|password)|error: 403|access denied|permission (to .* )?denied/i, "push_auth"],
  [/repository .*not found|error: 404/i, "push_auth"],
];

function verdict(rules: readonly Rule[], otherwise: FailureCode, error: unknown): unknown {
  if (!(error instanceof GitError)) return error;
  const code = rules.find(([words]) => words.test(error.output))?.[1] ?? otherwise;
  const redirected = /redirect/i.test(error.output) ? "The host redirects elsewhere; use the repository's present address." : undefined;
  return new TaskFailure(code, {
    evidence: error.output.trim(),
    cause: error,
    ...(redirected === undefined ? {} : { detail: redirected }),
  });
}

/** The failure that a failed fetch means; anything that is not git's passes unchanged. */
export const fetchVerdict = (error: unknown): unknown => verdict(FETCH, "repo_unreachable", error);
export const pushVerdict = (error: unknown): unknown => verdict(PUSH, "remote_unreachable", error);
