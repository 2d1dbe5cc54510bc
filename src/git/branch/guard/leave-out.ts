/**
 * The change without some files, as one commit on what the upstream has: a commit on top would
 * still bring the files with the history below it. Gives the same commit each time.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { TaskFailure } from "../../../core/failure.ts";
import { GitError } from "../../../core/lib/git/git-error.ts";
import type { Git } from "../../git-process.ts";

export interface LeaveOutCall {
  readonly cwd: string;
  readonly base: string;
  readonly head: string;
  /** The commit of the lineage that was pushed last; null = none. */
  readonly expect: string | null;
  /** Files, or folders with all that is in them. */
  readonly paths: readonly string[];
}

/** @throws TaskFailure `push_held` when nothing would be left. */
export async function leaveOut(git: Git, call: LeaveOutCall, signal: AbortSignal): Promise<string> {
  const { cwd, base, head, paths } = call;
  const index = join(cwd, `slipway-guard-index-${process.pid}`);
  const env = { GIT_INDEX_FILE: index };
  const run = async (args: readonly string[], more: object = {}): Promise<string> =>
    (await git({ cwd, signal, args, ...more })).text;
  const onto = await findOnto(run, call);
  try {
    await run(["read-tree", head], { env });
    for (const path of paths) {
      const names = await run([...LIST, "--name-only", head, "--", path]);
      const gone = names.split("\0").flatMap((name) => (name === "" ? [] : [`0 ${"0".repeat(40)}\t${name}\0`]));
      const before = await run([...LIST, onto, "--", path]);
      await run(["update-index", "-z", "--index-info"], { env, input: gone.join("") + before });
    }
    const tree = (await run(["write-tree"], { env })).trim();
    if (tree === (await run(["rev-parse", `${onto}^{tree}`])).trim())
      throw new TaskFailure("push_held", { detail: "Nothing is left of the change without these files." });
    return await commit(run, { tree, head, parents: await findParents(run, onto, base) });
  } finally {
    rmSync(index, { force: true });
  }
}

type Run = (args: readonly string[], more?: object) => Promise<string>;

const LIST = ["--literal-pathspecs", "ls-tree", "-r", "-z", "--full-tree"];

/** The newest commit below the work that the upstream has. */
async function findOnto(run: Run, { base, head, expect }: LeaveOutCall): Promise<string> {
  const below: string[] = [];
  for (const name of [base, "refs/slipway/upstream", ...(expect === null ? [] : [expect])]) {
    const sha = await answer(run, ["rev-parse", "--quiet", "--verify", `${name}^{commit}`]);
    if (sha !== null && (await answer(run, ["merge-base", "--is-ancestor", sha, head])) !== null) below.push(sha);
  }
  if (below.length < 2) return below[0] ?? base;
  return (await run(["merge-base", "--independent", ...below])).split("\n")[0] ?? base;
}

/** The base is a parent too where it was merged into the work. */
async function findParents(run: Run, onto: string, base: string): Promise<readonly string[]> {
  const isBelow = (await answer(run, ["merge-base", "--is-ancestor", base, onto])) !== null;
  return isBelow ? [onto] : [onto, base];
}

/** Author, dates and message are those of the commit that it replaces. */
async function commit(
  run: Run,
  { tree, head, parents }: { tree: string; head: string; parents: readonly string[] },
): Promise<string> {
  const format = ["%an", "%ae", "%aI", "%cn", "%ce", "%cI", "%B"].join("%x00");
  const shown = await run(["log", "-1", "--no-show-signature", `--format=${format}`, head]);
  const [an = "", ae = "", at = "", cn = "", ce = "", ct = "", ...message] = shown.split("\0");
  const env = {
    GIT_AUTHOR_NAME: an,
    GIT_AUTHOR_EMAIL: ae,
    GIT_AUTHOR_DATE: at,
    GIT_COMMITTER_NAME: cn,
    GIT_COMMITTER_EMAIL: ce,
    GIT_COMMITTER_DATE: ct,
  };
  const args = ["commit-tree", tree, ...parents.flatMap((parent) => ["-p", parent]), "-F", "-"];
  const sha = (await run(args, { env, input: message.join("\0") })).trim();
  await run(["update-ref", `refs/slipway/left-out/${sha}`, sha]);
  return sha;
}

/** Null when the answer is "no". */
async function answer(run: Run, args: readonly string[]): Promise<string | null> {
  try {
    return (await run(args)).trim();
  } catch (error) {
    if (error instanceof GitError && error.exitCode === 1) return null;
    throw error;
  }
}
