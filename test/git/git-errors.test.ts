/** What the words of git and of the large hosts mean for a person. */
import { expect, it } from "vitest";
import type { TaskFailure } from "../../src/core/failure.ts";
import { GitError } from "../../src/core/lib/git/git-error.ts";
import { classifyFetchError, classifyPushError } from "../../src/git/git-errors.ts";

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

/** What git 2.30 to 2.50 print when the other side goes away, with the numbers left open. */
const BROKEN_OFF = (bytes: number): string =>
  `error: RPC failed; curl 18 transfer closed with outstanding read data remaining
error: ${bytes} bytes of body are still expected
fetch-pack: unexpected disconnect while reading sideband packet
fatal: early EOF
fatal: fetch-pack: invalid index-pack output`;

it("[W7] a transfer that breaks off is an unreachable host, however many bytes were left", () => {
  const codes = new Set<string>();
  for (let first = 1; first < 1000; first++)
    for (const bytes of [first, first * 10 + 7, first * 1000 + 13])
      codes.add((classifyFetchError(new GitError(BROKEN_OFF(bytes))) as TaskFailure).code);
  expect([...codes]).toEqual(["repo_unreachable"]);
});

const NAMES = ["redirect", "redirects.git", "404", "error:404", "not-found", "authentication-failed", "GH006", "GH013"];
it.each(NAMES)("[W7] an unreachable host is one also when the repository is called %s", (name) => {
  const error = new GitError(
    `fatal: unable to access 'https://git.example.com/acme/${name}/': Failed to connect to git.example.com port 443 after 2 ms: Couldn't connect to server`,
  );
  expect((classifyFetchError(error) as TaskFailure).code).toBe("repo_unreachable");
  expect((classifyPushError(error) as TaskFailure).code).toBe("remote_unreachable");
});

it.each([
  [301, "repo_not_found", "push_rejected"],
  [302, "repo_not_found", "push_rejected"],
  [307, "repo_not_found", "push_rejected"],
  [308, "repo_not_found", "push_rejected"],
  [401, "repo_auth", "push_auth"],
  [403, "repo_auth", "push_auth"],
  [404, "repo_not_found", "push_auth"],
  [410, "repo_not_found", "push_auth"],
  [429, "repo_unreachable", "remote_unreachable"],
  [500, "repo_unreachable", "remote_unreachable"],
  [503, "repo_unreachable", "remote_unreachable"],
])("a host that answers %i", (status, fetch, push) => {
  const error = new GitError(
    `fatal: unable to access 'https://git.example.com/a/': The requested URL returned error: ${status}`,
  );
  expect((classifyFetchError(error) as TaskFailure).code).toBe(fetch);
  expect((classifyPushError(error) as TaskFailure).code).toBe(push);
});

const FULL = "No space left on device";
it.each([
  `fatal: write error: ${FULL}`,
  `fatal: unable to create temporary file '/data/git/mirrors/a/objects/pack/tmp_pack_x': ${FULL}\nfatal: fetch-pack: invalid index-pack output`,
  `error: cannot lock ref 'refs/remotes/origin/x': Unable to create '/data/git/x.lock': ${FULL}`,
  `remote: Counting objects: 3, done.\nfatal: sha1 file '/data/x' write error: ${FULL}\nfatal: index-pack failed`,
  "fatal: cannot create directory '/data/git/x': Disk quota exceeded",
])("[Y5] %s: it is the server's disk that is full, not the host that fails", (output) => {
  const error = new GitError(output);
  for (const failure of [classifyFetchError(error), classifyPushError(error)])
    expect(failure).toMatchObject({ code: "interrupted", message: "The server's disk is full." });
});

it.each([
  `remote: error: ${FULL}`,
  `remote: fatal: write error: ${FULL}\nerror: remote unpack failed: index-pack abnormal exit`,
  `error: remote unpack failed: ${FULL}\n ! [remote rejected] work -> work (unpacker error)`,
  ` ! [remote rejected] work -> work (failed to update ref: ${FULL})`,
  `fatal: remote error: try later\nfatal: write error: ${FULL}`,
])("[Y5] %s: it is the host's disk", (output) => {
  const error = new GitError(output);
  expect((classifyFetchError(error) as TaskFailure).code).toBe("repo_unreachable");
  expect((classifyPushError(error) as TaskFailure).code).toMatch(/^(?:remote_unreachable|push_rejected)$/);
});
