/**
 * Where an attempt's work begins, decided from the upstream branch before anything is paid for
 * (decision 045). Pure.
 *
 * B1 Commits of others on the branch are kept: the work begins on top of them.
 * B2 A push that would be refused, or that would remove the work of others, ends the task here.
 */
import { TaskFailure } from "../../../core/failure.ts";
import type { BranchCommit, BranchComparison } from "../../../core/ports/repositories.ts";
import type { StartPoint, TaskSpec } from "../../../core/task.ts";

export interface StartRequest {
  readonly spec: Pick<TaskSpec, "branch" | "from" | "updateBase" | "checkPush">;
  readonly base: { readonly name: string; readonly sha: string };
  /** The saved work; null = there is none. */
  readonly work: string | null;
}

export interface ChosenStart {
  /** Null = the saved work, or the base where there is none. */
  readonly start: StartPoint | null;
  /** The commit of the base that the work contains, for its diff. */
  readonly baseSha: string;
  /** What people and the agent are told; null = nothing has changed. */
  readonly news: News | null;
}

interface News {
  readonly code: BranchNews;
  readonly text: string;
  /** Of people, on top of which the work begins: the newest, and how many there are. */
  readonly commits?: readonly BranchCommit[];
  readonly commitCount?: number;
}

/** Codes of notices that the worker gets as notes as well. */
export const BRANCH_NEWS = ["branch_updated", "branch_rewritten", "branch_merged", "branch_gone", "work_gone"] as const;
type BranchNews = (typeof BRANCH_NEWS)[number];

/** @throws TaskFailure `push_forbidden`, `branch_conflict`. */
export function chooseStart(request: StartRequest, found: BranchComparison): ChosenStart {
  const { spec, base } = request;
  if (found.refusal !== null && spec.checkPush !== false) throw toForbidden(found.refusal);
  const chosen = request.work === null ? startFresh(request, found) : continueWork(request, request.work, found);
  const fork = chosen.start === null && request.work !== null ? found.workFork : null;
  const tipFork = chosen.start !== null && chosen.start.sha !== null ? found.tipFork : null;
  return { ...chosen, baseSha: spec.updateBase === true ? base.sha : (fork ?? tipFork ?? base.sha) };
}

type Choice = Pick<ChosenStart, "start" | "news">;

const AS_PLANNED: Choice = { start: null, news: null };

function startFresh(request: StartRequest, found: BranchComparison): Choice {
  const { spec } = request;
  if (found.tip === null || found.relation === "behind" || found.isOurs) return AS_PLANNED;
  // A follow-up of a task that ended before it saved anything.
  if (spec.from === "checkpoint" && found.keepsPushed) return startAtTip(request, found.tip, found);
  throw toConflict(request, found);
}

function continueWork(request: StartRequest, work: string, found: BranchComparison): Choice {
  const { tip, pushed } = found;
  if (found.isMerged && (tip === null || found.isOurs)) return startAtBase(request, tip);
  if (tip === null) return pushed === null ? AS_PLANNED : { start: null, news: gone(request, found) };
  if (found.relation === "behind") return AS_PLANNED;
  if (found.relation === "ahead") return startAtTip(request, tip, found);
  if (found.isOurs) return AS_PLANNED;
  if (pushed === null) throw toConflict(request, found);
  const carry = found.carryFrom === null || work === pushed ? null : { base: found.carryFrom, sha: work };
  return startAtTip(request, tip, found, carry);
}

function startAtBase({ spec, base }: StartRequest, tip: string | null): Choice {
  const [how, push] =
    tip === null ? [" and deleted", "makes the branch again"] : ["", "replaces what the branch still holds"];
  const text =
    `The work on ${spec.branch} was merged into ${base.name}${how}. ` +
    `The new work begins from ${base.name} at ${base.sha.slice(0, 8)}, and its push ${push}.`;
  return { start: { sha: null, carry: null }, news: { code: "branch_merged", text } };
}

function startAtTip(
  { spec }: StartRequest,
  tip: string,
  found: BranchComparison,
  carry: StartPoint["carry"] = null,
): Choice {
  const kept = carry === null ? "" : " Work that was saved but not pushed is applied to it as uncommitted changes.";
  const begin = `The work begins from there (${tip.slice(0, 8)}).${kept}`;
  const isRewritten = found.relation === "apart" && !found.keepsPushed;
  const text = isRewritten
    ? `The branch ${spec.branch} was rewritten upstream since the last push: commits may have been changed or removed on purpose. ${begin}${describeCommits(found)}`
    : `The branch ${spec.branch} has ${count(found.commitCount, "new commit")} upstream since the last push. ${begin}${describeCommits(found)}`;
  const { commits, commitCount } = found;
  const code = isRewritten ? "branch_rewritten" : "branch_updated";
  return { start: { sha: tip, carry }, news: { code, text, commits, commitCount } };
}

function gone({ spec, base }: StartRequest, { wasMerged }: BranchComparison): Choice["news"] {
  const what = wasMerged
    ? `The pushed work on ${spec.branch} was merged into ${base.name}, and the branch was deleted.`
    : `The branch ${spec.branch} was deleted upstream, and its work is not in ${base.name}.`;
  const text = `${what} The work goes on from what was saved, and the push makes the branch again.`;
  return { code: "branch_gone", text };
}

const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;

function describeCommits({ commits, commitCount, files }: BranchComparison): string {
  if (commits.length === 0) return "";
  const lines = commits.map(({ sha, author, title }) => `- ${sha.slice(0, 8)} ${author}: ${title}`);
  const more = commitCount > commits.length ? `\n- and ${commitCount - commits.length} more` : "";
  const changed = files.length === 0 ? "" : `\nThey change: ${files.join(", ").slice(0, 1_000)}`;
  return `\n${lines.join("\n").slice(0, 2_000)}${more}${changed}`;
}

function toForbidden(refusal: TaskFailure): TaskFailure {
  const said = refusal.evidence?.trim().split("\n").at(-1)?.slice(0, 300) ?? "";
  return new TaskFailure("push_forbidden", {
    ...(said === "" ? {} : { detail: `The host said: ${said}` }),
    ...(refusal.evidence === null ? {} : { evidence: refusal.evidence }),
    cause: refusal,
  });
}

function toConflict({ spec }: StartRequest, found: BranchComparison): TaskFailure {
  const detail =
    found.pushed === null
      ? `The branch ${spec.branch} exists upstream with other work (${found.tip?.slice(0, 8)}). To go on on top of it, submit with \`base\` and \`branch\` both ${spec.branch}; otherwise name another branch.`
      : `The branch ${spec.branch} has newer work (${found.tip?.slice(0, 8)}) that a fresh start would remove. Retry from \`checkpoint\` to go on on top of it, or submit the task again.`;
  return new TaskFailure("branch_conflict", { detail, evidence: describeCommits(found).trim() });
}
