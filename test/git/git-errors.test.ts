/** What the words of git and of the large hosts mean for a person. */
import { expect, it } from "vitest";
import type { TaskFailure } from "../../src/core/failure.ts";
import { GitError } from "../../src/core/lib/git-error.ts";
import { classifyPushError } from "../../src/git/git-errors.ts";

const REJECTED = [
  [
    "remote: error: GH006: Protected branch update failed for refs/heads/main.\n ! [remote rejected] main -> main (protected branch hook declined)",
    /rule of the host.*another branch/,
  ],
  [
    "remote: GitLab: You are not allowed to push code to protected branches on this project.\n ! [remote rejected] main -> main (pre-receive hook declined)",
    /rule of the host.*another branch/,
  ],
  [
    "remote: every commit needs a ticket\n ! [remote rejected] work -> work (pre-receive hook declined)",
    /declined the commits.*Retry from `checkpoint`/,
  ],
  [" ! [rejected] work -> work (stale info)", /has moved meanwhile.*Retry from `checkpoint`/],
  [" ! [rejected] work -> work (non-fast-forward)", /has moved meanwhile.*Retry from `checkpoint`/],
  [" ! [remote rejected] work -> work (refusing to update)", /^$/],
] as const;

it.each(REJECTED)("%s: a rejected push says what to do next", (output, words) => {
  const failure = classifyPushError(new GitError(output)) as TaskFailure;
  expect([failure.code, failure.message]).toEqual(["push_rejected", expect.stringMatching(words)]);
});
