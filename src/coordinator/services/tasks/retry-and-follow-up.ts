/**
 * Tasks that continue a settled task: retries and follow-ups in its thread, and forks in one of
 * their own. A plan is what such a task is (`spec`) and what it takes over from its parent (`data`
 * of its first event).
 */
import { SlipwayError } from "../../../core/error.ts";
import type { EventData } from "../../../core/event.ts";
import type { NewTask, Store } from "../../../core/ports/store.ts";
import type { Attachment } from "../../../core/values/attachment.ts";
import type { MessageRequest, RetryRequest } from "../../../core/protocol/rest.ts";
import {
  isSettledState,
  MODEL_AGENTS,
  type Checkpoint,
  type Policy,
  type Task,
  type TaskSpec,
} from "../../../core/task.ts";
import { readTasks } from "../../read-lists.ts";
import { readEarlier, withFiles } from "./attachments.ts";
import {
  checkLimits,
  deriveTitle,
  nameBranch,
  nameThread,
  resolveOtherAgent,
  resolvePullRequest,
  resolveReview,
  type AgentOptions,
  type ServerOptions,
} from "./task-spec.ts";

export interface ChildPlan {
  readonly spec: TaskSpec;
  readonly data: EventData;
  /** True = in a thread and on a branch of its own. */
  readonly isFork?: boolean;
}

type TaskReader = Pick<Store, "tasks" | "eventsOfOthers">;

/** A message whose attachments are known, and the model that it asks for. */
export type FollowUpRequest = Pick<MessageRequest, "text" | "updateBase" | "fork"> & {
  readonly attachments?: readonly Attachment[];
  readonly model?: ReturnType<typeof resolveOtherAgent>;
};

/**
 * The data of `task.submitted`: all that the chart needs, so that folding the log reads nothing
 * else.
 */
export function toSubmittedData(spec: TaskSpec, policy: Policy, by: string): EventData {
  const { repo, base, branch, title, agent, model, effort, priority, maxAttempts, pullRequest, from } = spec;
  const wallMs = spec.budget.minutes === undefined ? policy.wallMs : Math.round(spec.budget.minutes * 60_000);
  return {
    repo,
    base,
    branch,
    title,
    agent,
    model,
    effort,
    priority,
    maxAttempts,
    pullRequest,
    from,
    policy: { ...policy, wallMs },
    by,
  };
}

/** The new task of a plan. @param by the user whose request it is. */
export function toChild(
  parent: Task,
  { spec: { submittedBy: _, ...planned }, data, isFork = false }: ChildPlan,
  { id, policy, by }: { readonly id: string; readonly policy: Policy; readonly by: string },
) {
  const spec: TaskSpec = {
    ...planned,
    ...(isFork ? { branch: nameBranch(id) } : {}),
    ...(by === parent.userId ? {} : { submittedBy: by }),
  };
  return {
    id,
    // The thread keeps its owner, also when an admin retries it.
    userId: parent.userId,
    threadId: isFork ? nameThread(id) : parent.threadId,
    parentId: parent.id,
    spec,
    data: { ...toSubmittedData(spec, policy, by), ...data },
    // The conversation is inherited with the work, also by a retry of the push alone. Another agent
    // could not read it.
    inherits: spec.from === "start" || spec.agent !== parent.spec.agent ? null : parent.id,
  } satisfies Partial<NewTask> & { readonly data: EventData };
}

/**
 * @throws SlipwayError `task_open`, `nothing_to_push`, `limits_unavailable`, `forge_unavailable`,
 * `invalid_branch`, `expired`, `agent_unavailable`, `model_unavailable`.
 */
export async function planRetry(
  store: TaskReader,
  parent: Task,
  request: RetryRequest,
  options: Pick<ServerOptions, "maxLimits" | "forges" | "review"> & AgentOptions,
): Promise<ChildPlan> {
  if (!isSettledState(parent.state)) throw new SlipwayError("task_open", "Cancel the task first, or wait for its end.");
  assertSpec(parent);
  const from = request.from ?? "start";
  const { headSha, baseSha } = parent.snapshot.context;
  if (from === "push" && (headSha === null || headSha === baseSha)) {
    throw new SlipwayError(
      "nothing_to_push",
      "The task ended before its work was finished. Retry from `checkpoint` or `start`.",
    );
  }
  const prompt = request.prompt ?? parent.spec.prompt;
  const budget = { ...parent.spec.budget, ...request.budget };
  const limits = { ...parent.spec.limits, ...checkLimits(request.limits ?? {}, options.maxLimits) };
  const { repo, branch, ...rest } = parent.spec;
  const base = parent.snapshot.context.base ?? rest.base;
  const pullRequest =
    request.pullRequest === undefined
      ? rest.pullRequest
      : resolvePullRequest(options, request.pullRequest, { repo, base, branch });
  const expectSha = await findPushedHead(store, parent);
  const branchOptions = {
    updateBase: request.updateBase ?? false,
    ...(request.checkPush === undefined ? {} : { checkPush: request.checkPush }),
  };
  const changed = { prompt, budget, limits, pullRequest, from, expectSha, ...branchOptions };
  const earlier = await readEarlier(store, parent);
  const withAgent = { ...parent.spec, ...resolveOtherAgent(options, parent.spec, request) };
  const asBefore = withReview(withAgent, request.review, options);
  const spec = withFiles({ ...asBefore, ...changed }, parent.spec.attachments ?? [], earlier);
  const data = inheritedData(parent, from);
  return { spec, data: spec.agent === parent.spec.agent ? data : withoutCursor(data) };
}

/** @param wanted absent = as before, where the agent's work can be reviewed. */
function withReview(spec: TaskSpec, wanted: boolean | undefined, options: Pick<ServerOptions, "review">): TaskSpec {
  const { reviewModel: _, ...unreviewed } = spec;
  if (wanted === undefined) return (MODEL_AGENTS as readonly string[]).includes(spec.agent) ? spec : unreviewed;
  return { ...unreviewed, ...resolveReview(options, spec.agent, wanted) };
}

/** @throws SlipwayError `expired`. */
export async function planFollowUp(store: TaskReader, parent: Task, request: FollowUpRequest): Promise<ChildPlan> {
  assertSpec(parent);
  const isFork = request.fork === true;
  const spec: TaskSpec = {
    ...withFiles(parent.spec, request.attachments ?? [], await readEarlier(store, parent)),
    ...request.model,
    prompt: request.text,
    title: deriveTitle(request.text),
    script: null,
    from: "checkpoint",
    // The branch of a fork is new.
    expectSha: isFork ? null : await findPushedHead(store, parent),
    updateBase: request.updateBase ?? false,
  };
  return { spec, data: { ...savedWork(parent), headSha: null, report: null }, isFork };
}

function assertSpec({ setAside }: Task): void {
  if (setAside?.hasSpec === false)
    throw new SlipwayError("expired", "What was submitted cannot be read any more. Submit a new task.");
}

/** A retry from the checkpoint continues where the agent was, not from work that was finished. */
function inheritedData(parent: Task, from: TaskSpec["from"]): EventData {
  const { base, baseSha, checkpoint } = parent.snapshot.context;
  switch (from) {
    case "start":
      return {};
    case "push":
      return savedWork(parent);
    case "checkpoint":
      return { base, baseSha, checkpoint };
  }
}

/** The place in its work that an agent named is of no use to another. */
function withoutCursor({ checkpoint, ...data }: EventData): EventData {
  if (checkpoint === undefined) return data;
  return { ...data, checkpoint: checkpoint === null ? null : { ...(checkpoint as Checkpoint), cursor: null } };
}

/**
 * The newest pushed work of the thread, when a task that began after the parent's has pushed since
 * this task was planned; null = the plan is current.
 */
export async function findNewerWork(
  store: Pick<Store, "tasks">,
  task: Task,
): Promise<{ readonly taskId: string; readonly checkpoint: Checkpoint } | null> {
  const { id, parentId, threadId, spec, snapshot } = task;
  if (parentId === null || spec.from !== "checkpoint" || snapshot.context.attempt > 0) return null;
  for await (const other of readTasks(store, { userId: null, threadId })) {
    const { outcome, headSha } = other.snapshot.context;
    if (other.id >= id || outcome !== "pushed" || headSha === null || other.spec.branch !== spec.branch) continue;
    // Newest first: the first one decides.
    return other.id > parentId ? { taskId: other.id, checkpoint: { sha: headSha, cursor: null } } : null;
  }
  return null;
}

function savedWork(parent: Task): EventData {
  const { base, baseSha, headSha, checkpoint, report } = parent.snapshot.context;
  const saved = headSha !== null && headSha !== baseSha ? { sha: headSha, cursor: null } : checkpoint;
  return { base, baseSha, checkpoint: saved, headSha, report };
}

/**
 * The upstream branch as the work that this task continues was pushed last: the lease of the next
 * push. A sibling's commit is not part of that work, so a push over it is rejected (rule W5).
 */
async function findPushedHead(store: Pick<Store, "tasks">, parent: Task): Promise<string | null> {
  const thread = new Map<string, Task>();
  for await (const task of readTasks(store, { userId: null, threadId: parent.threadId })) thread.set(task.id, task);
  for (let task: Task | undefined = parent; task !== undefined; task = thread.get(task.parentId ?? "")) {
    const { outcome, headSha } = task.snapshot.context;
    if (task.spec.branch === parent.spec.branch && outcome === "pushed") return headSha;
  }
  return null;
}
