/**
 * Compares the upstream branch of a task with the work that it begins from, before the work begins:
 * what has come in, and whether a push has a chance. Nothing is changed upstream.
 */
import { TaskFailure, type FailureCode } from "../../core/failure.ts";
import { GitError } from "../../core/lib/git/git-error.ts";
import type { BranchComparison, BranchCommit, RepositoryProbe } from "../../core/ports/repositories.ts";
import { classifyFetchError, classifyPushError } from "../git-errors.ts";
import type { Git } from "../git-process.ts";
import { UpstreamBranch, type BranchCall } from "./upstream-branch.ts";

export interface ComparisonRequest extends BranchCall {
  readonly baseSha: string;
  /** The work to begin from; null = only the base. */
  readonly work: string | null;
  /** The commit of the lineage that was pushed last; null = none. */
  readonly expect: string | null;
}

/** Commits and files that are listed; more are only counted. */
const LISTED = 20;
const LIST_BYTES = 256 * 1024;
const NAME_LENGTH = 80;
const TITLE_LENGTH = 120;
/** Refusals that another try, or work in between, does not change. */
const FINAL: ReadonlySet<FailureCode> = new Set(["push_auth", "push_rejected", "push_workflow_scope"]);

/** @throws TaskFailure of a fetch; the signal's reason when aborted. */
export async function compareBranch(
  git: Git,
  trustedHosts: readonly string[],
  call: ComparisonRequest,
  signal: AbortSignal,
): Promise<BranchComparison> {
  const branch = new UpstreamBranch(git, trustedHosts, call, signal);
  try {
    const [tip, answer] = await Promise.all([branch.readTip(), askToPush(branch, call)]);
    const compared = await compareTip(branch, call, tip);
    const { baseSha, work } = call;
    const { pushed } = compared;
    const wasMerged = pushed !== null && (await isMerged(branch, baseSha, pushed));
    if (wasMerged) await branch.noteMerged(pushed);
    const isWorkMerged = wasMerged && work !== null && (work === pushed || (await isMerged(branch, baseSha, work)));
    const isOurs = tip !== null && (await isReplaceable(branch, call, compared));
    const refusal = answer.kind === "refused" ? answer.failure : null;
    return { ...compared, isOurs, refusal, wasMerged, isMerged: isWorkMerged };
  } catch (error) {
    throw classifyFetchError(error);
  }
}

/**
 * Asks the upstream whether this credential may push, without pushing. What only a hook of the
 * upstream decides, such as the protection of a branch, shows at the real push.
 */
export async function askToPush(
  branch: UpstreamBranch,
  { repo, baseSha }: Pick<ComparisonRequest, "repo" | "baseSha">,
): Promise<RepositoryProbe["push"]> {
  try {
    const args = ["push", "--dry-run", "--quiet", "--no-verify", "--", repo, `+${baseSha}:${branch.ref}`];
    await branch.network(args);
    return { kind: "allowed" };
  } catch (error) {
    const found = classifyPushError(error);
    const failure = found instanceof TaskFailure ? found : new TaskFailure("remote_unreachable", { cause: error });
    return { kind: FINAL.has(failure.code) ? "refused" : "unknown", failure };
  }
}

/**
 * This lineage has pushed the tip, and no commit of others would be lost with it. Both are known
 * from the refs alone: without the repositories of the earlier tasks nothing is replaced.
 */
async function isReplaceable(
  branch: UpstreamBranch,
  { baseSha, work }: ComparisonRequest,
  { tip, relation }: TipComparison,
): Promise<boolean> {
  if (tip === null) return false;
  if (await branch.isOfLineage(tip)) return !(await branch.losesOthers(tip, work ?? baseSha));
  if (relation !== "behind") await branch.noteOthers(tip);
  return false;
}

type TipComparison = Omit<BranchComparison, "refusal" | "isOurs" | "isMerged" | "wasMerged">;

async function compareTip(
  branch: UpstreamBranch,
  { baseSha, work, expect }: ComparisonRequest,
  listed: string | null,
): Promise<TipComparison> {
  const mine = work ?? baseSha;
  const workFork = await findFork(branch, baseSha, mine);
  const nothing = { tip: null, relation: "absent", keepsPushed: false, tipFork: null } as const;
  if (listed === null)
    return { ...nothing, pushed: expect, carryFrom: expect, commits: [], commitCount: 0, files: [], workFork };
  const tip = (await branch.resolve(listed)) === null ? await branch.fetch(listed) : await branch.note(listed);
  const relation = await relate(branch, tip, mine);
  const pushed = expect ?? (await branch.findPushed(tip));
  const keepsPushed =
    pushed !== null && (await branch.resolve(pushed)) !== null && (await branch.contains(tip, pushed));
  return {
    tip,
    relation,
    pushed,
    keepsPushed,
    carryFrom: keepsPushed ? await findFork(branch, tip, mine) : pushed,
    ...(await listNews(branch, tip, [mine, baseSha], keepsPushed ? pushed : null)),
    workFork,
    tipFork: await findFork(branch, baseSha, tip),
  };
}

async function relate(branch: UpstreamBranch, tip: string, work: string): Promise<"behind" | "ahead" | "apart"> {
  if (await branch.contains(work, tip)) return "behind";
  return (await branch.contains(tip, work)) ? "ahead" : "apart";
}

/** The newest commit that both contain; null for histories without a common commit. */
async function findFork(branch: UpstreamBranch, one: string, other: string): Promise<string | null> {
  if (one === other) return one;
  const found = await branch.ask(["merge-base", one, other]);
  return found?.split("\n")[0] || null;
}

/**
 * True when the base has all changes of the work, also when they were squashed: merging the work
 * into the base would change nothing. False before git 2.38, which cannot tell.
 */
async function isMerged(branch: UpstreamBranch, baseSha: string, work: string): Promise<boolean> {
  if ((await branch.resolve(work)) === null) return false;
  if (await branch.contains(baseSha, work)) return true;
  try {
    const { text } = await branch.local(["merge-tree", "--write-tree", "--no-messages", baseSha, work]);
    return text.trim() === (await branch.ask(["rev-parse", `${baseSha}^{tree}`]));
  } catch (error) {
    if (error instanceof GitError) return false;
    throw error;
  }
}

/** What the tip has beyond the known commits. */
async function listNews(
  branch: UpstreamBranch,
  tip: string,
  known: readonly string[],
  pushed: string | null,
): Promise<Pick<BranchComparison, "commits" | "commitCount" | "files">> {
  const range = [tip, "--not", ...known, ...(pushed === null ? [] : [pushed])];
  const format = "--format=%H%x00%an%x00%s";
  const log = await branch.local(["log", "--no-show-signature", `--max-count=${LISTED}`, format, ...range], LIST_BYTES);
  const commits = log.text.split("\n").flatMap(readCommit);
  if (commits.length === 0) return { commits, commitCount: 0, files: [] };
  const count = await branch.ask(["rev-list", "--count", ...range]);
  const since = pushed ?? (await findFork(branch, tip, known[0] ?? tip));
  const plain = ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--no-textconv"];
  const names = since === null ? null : await branch.local([...plain, since, tip], LIST_BYTES);
  const files = (names?.text.split("\0") ?? []).filter((name) => name !== "");
  return { commits, commitCount: Number(count ?? commits.length), files: files.slice(0, LISTED) };
}

function readCommit(line: string): BranchCommit[] {
  const [sha = "", author = "", title = ""] = line.split("\0");
  return sha === "" ? [] : [{ sha, author: author.slice(0, NAME_LENGTH), title: title.slice(0, TITLE_LENGTH) }];
}
