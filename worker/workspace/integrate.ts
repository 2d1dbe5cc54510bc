/**
 * Brings other work into a new checkout, before the agent begins: saved changes onto a branch that
 * others have moved, and the base branch into the work. Conflicts stay in the files, with git's
 * markers, and are named to the agent.
 */
import { GitError } from "../../src/core/lib/git/git-error.ts";
import type { WorkerSpec } from "../../src/core/protocol/worker.ts";
import { git } from "./git.ts";

/** Conflicts that are named; more are counted. */
const NAMED = 50;
const SAVED_WORK = "Work so far";

export interface Integration {
  /** For the agent, in order; empty = there is nothing to say. */
  readonly notes: readonly string[];
}

/** @param root a checkout whose index holds no conflicts. */
export async function integrate(root: string, spec: WorkerSpec, signal: AbortSignal): Promise<Integration> {
  const run = (...args: string[]): Promise<string> => git(args, { cwd: root, signal });
  const notes: string[] = [];
  const { carry, mergeBase } = spec;
  const carried = carry === undefined ? [] : await applyChanges(run, carry);
  if (carry !== undefined) notes.push(describeCarry(carried));
  if (mergeBase !== undefined && carried.length === 0) notes.push(await merge(run, mergeBase));
  else if (mergeBase !== undefined)
    notes.push(`Then commit, and merge the base with \`git merge ${mergeBase.sha}\`: a person asked for it.`);
  return { notes };
}

type Run = (...args: string[]) => Promise<string>;

/** Applies the changes to the files and leaves them uncommitted. @returns the files in conflict. */
async function applyChanges(run: Run, { base, sha }: NonNullable<WorkerSpec["carry"]>): Promise<readonly string[]> {
  const conflicts = await unlessConflicts(run, () => run("merge-recursive", base, "--", "HEAD", sha));
  await run("reset", "--quiet", "--mixed");
  return conflicts;
}

async function merge(run: Run, base: NonNullable<WorkerSpec["mergeBase"]>): Promise<string> {
  if (await isMerging(run))
    return `An earlier attempt began to merge the newest ${base.name}. Look for conflict markers (\`git diff --check\`) and resolve them; the merge is committed with your work.`;
  // Uncommitted work would stop the merge where both change a file.
  if ((await run("status", "--porcelain", "--untracked-files=all")) !== "") {
    await run("add", "--all");
    await run("commit", "--quiet", "--no-verify", "-m", SAVED_WORK);
  }
  const before = await run("rev-parse", "HEAD");
  const title = `Merge branch '${base.name}'`;
  let conflicts: readonly string[];
  try {
    conflicts = await unlessConflicts(run, () => run("merge", "--no-verify", "-m", title, base.sha));
  } catch (thrown) {
    // For example histories without a common commit.
    if (!(thrown instanceof GitError)) throw thrown;
    return `The newest ${base.name} could not be merged into the branch: ${thrown.output.trim().split("\n").at(-1)}`;
  }
  if (conflicts.length > 0)
    return (
      `The newest ${base.name} is being merged into the branch, and these files are in conflict: ${list(conflicts)}. ` +
      "Resolve the conflict markers first and keep what both sides meant; the merge is committed with your work."
    );
  return (await run("rev-parse", "HEAD")) === before
    ? `The branch has all of ${base.name} already.`
    : `The newest ${base.name} was merged into the branch without conflicts. Check that both still fit together.`;
}

/** True when a merge is not committed yet. */
async function isMerging(run: Run): Promise<boolean> {
  try {
    await run("rev-parse", "--quiet", "--verify", "MERGE_HEAD");
    return true;
  } catch (thrown) {
    if (thrown instanceof GitError) return false;
    throw thrown;
  }
}

/** @returns the files in conflict when the command ends with any; rejects with its error else. */
async function unlessConflicts(run: Run, command: () => Promise<string>): Promise<readonly string[]> {
  try {
    await command();
    return [];
  } catch (thrown) {
    if (!(thrown instanceof GitError)) throw thrown;
    const unmerged = await run("diff", "--name-only", "--diff-filter=U", "-z");
    if (unmerged === "") throw thrown;
    return unmerged.split("\0").filter((name) => name !== "");
  }
}

function describeCarry(conflicts: readonly string[]): string {
  const applied = "Saved work that was not pushed yet is applied to the checkout as uncommitted changes.";
  return conflicts.length === 0
    ? applied
    : `${applied} It is in conflict with what others pushed in: ${list(conflicts)}. Resolve the conflict markers first; keep what others did.`;
}

const list = (names: readonly string[]): string =>
  names.length <= NAMED ? names.join(", ") : `${names.slice(0, NAMED).join(", ")} and ${names.length - NAMED} more`;
