/**
 * The effect of `pushing`: the finished commit goes from the task's repository to the upstream
 * branch, then the pull request is opened if the task asked for one. Needs no sandbox, so it can be
 * repeated without running the agent again.
 */
import { phaseOf } from "../../../machines/fold.ts";
import type { Crashpoint } from "../../core/lib/runtime/crashpoint.ts";
import { TaskFailure } from "../../core/failure.ts";
import { GitError } from "../../core/lib/git/git-error.ts";
import type { Forge, Repositories } from "../../core/ports/repositories.ts";
import type { Task } from "../../core/task.ts";
import { describePullRequest, type DescriptionDeps } from "./pull-request-text.ts";
import { passGuard, type GuardDeps } from "./branch/push-guard.ts";
import type { Recorder } from "./recorder.ts";
import { findSource, resolveUpstream, type GetAuth, type Upstream } from "./upstream.ts";

export interface PushDeps extends DescriptionDeps, GuardDeps {
  readonly recorder: Recorder;
  readonly repos: Pick<Repositories, "has" | "prepare" | "push" | "distrust" | "inspect" | "leaveOut" | "sign">;
  readonly forges: readonly Forge[];
  readonly authFor: GetAuth;
  readonly crashpoint: Crashpoint;
}

export async function push(deps: PushDeps, task: Task, signal: AbortSignal): Promise<void> {
  const { headSha } = task.snapshot.context;
  if (headSha === null) return deps.recorder.fail(task, "internal", { detail: "There is nothing to push." });
  const isBranch = phaseOf(task.snapshot) === "branch";
  const upstream = await resolveUpstream(deps.authFor, task, isBranch ? "push" : "pull_request");
  if (isBranch) await pushBranch(deps, task, upstream, headSha, signal);
  else await openPullRequest(deps, task, upstream, signal);
}

async function pushBranch(
  deps: PushDeps,
  task: Task,
  upstream: Upstream,
  head: string,
  signal: AbortSignal,
): Promise<void> {
  await ensureCommit(deps, task, upstream, head, signal);
  try {
    await deliver(deps, task, upstream, head, signal);
  } catch (error) {
    if (!lacksObjects(error)) throw error;
    // What is missing can be fetched again; the saved work is kept (rule W7).
    await deps.repos.distrust({ kind: "task", name: task.id });
    await prepareAgain(deps, task, upstream, signal);
    await deliver(deps, task, upstream, head, signal);
  }
}

const lacksObjects = (error: unknown): boolean =>
  error instanceof GitError || (error instanceof TaskFailure && error.code === "repo_incomplete");

async function deliver(
  deps: PushDeps,
  task: Task,
  upstream: Upstream,
  head: string,
  signal: AbortSignal,
): Promise<void> {
  const { branch, expectSha } = task.spec;
  const passed = await passGuard(deps, task, head, signal);
  if (passed === null) return;
  const sha = await signWork(deps, task, passed, signal);
  deps.crashpoint("push.before");
  await deps.repos.push({ ...upstream, sha, branch, expect: expectSha }, signal);
  deps.crashpoint("push.after");
  await deps.recorder.record(task, { type: "push", data: { branch, sha } });
}

async function signWork({ repos }: PushDeps, task: Task, head: string, signal: AbortSignal): Promise<string> {
  const { baseSha: base } = task.snapshot.context;
  if (base === null) return head;
  return await repos.sign({ taskId: task.id, base, head, expect: task.spec.expectSha }, signal);
}

async function openPullRequest(deps: PushDeps, task: Task, upstream: Upstream, signal: AbortSignal): Promise<void> {
  const { base, headSha } = task.snapshot.context;
  const { branch, repo, pullRequest } = task.spec;
  const forge = deps.forges.find((candidate) => candidate.serves(repo));
  if (forge === undefined || headSha === null) {
    const detail = "No forge is set up for this repository any more; an operator adds it with SLIPWAY_FORGES.";
    return deps.recorder.fail(task, "pull_request_rejected", { detail });
  }
  const text = await describePullRequest(deps, task);
  const opened = await forge.openPullRequest(
    {
      repo,
      auth: upstream.auth,
      head: branch,
      headSha,
      base: base ?? "main",
      ...text,
      draft: pullRequest === "draft",
      marker: task.id,
    },
    signal,
  );
  deps.crashpoint("pull_request.after");
  await deps.recorder.record(task, { type: "pull_request", data: { ...opened } });
}

async function prepareAgain(
  { store, repos }: Pick<PushDeps, "store" | "repos">,
  task: Task,
  upstream: Upstream,
  signal: AbortSignal,
): Promise<void> {
  const parentTaskId = await findSource({ store, repos }, task);
  await repos.prepare({ ...upstream, base: task.spec.base, parentTaskId }, signal);
}

/**
 * A retry of the push alone has no task repository yet: it is created from the parent's.
 * @throws TaskFailure `push_rejected` when the commit is no longer there.
 */
async function ensureCommit(
  { store, repos }: PushDeps,
  task: Task,
  upstream: Upstream,
  sha: string,
  signal: AbortSignal,
): Promise<void> {
  if (await repos.has(task.id, sha)) return;
  await prepareAgain({ store, repos }, task, upstream, signal);
  if (await repos.has(task.id, sha)) return;
  throw new TaskFailure("push_rejected", { detail: "The saved work is no longer on this server." });
}
