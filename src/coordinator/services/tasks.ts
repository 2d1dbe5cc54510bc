/**
 * What people ask for: submit, cancel, retry, talk, answer, look at the work. Every verb is
 * owner-scoped (rule S2).
 */
import { createHash } from "node:crypto";
import type { Artifacts } from "../../core/ports/artifacts.ts";
import { isBudgetQuestion, readBudgetAnswer, type BudgetDecision } from "../../core/budget.ts";
import type { TaskLog } from "../task-log.ts";
import { SlipwayError } from "../../core/error.ts";
import type { EventData, Proposal, TaskEvent } from "../../core/event.ts";
import { readLog, readTasks } from "../read-lists.ts";
import type { MessageRow, Store } from "../../core/ports/store.ts";
import { checkLimits, describeCapabilities, createTaskSpec, deriveTitle, type ServerOptions } from "./task-spec.ts";
import { isSettledState, type Policy, type Task, type TaskSpec } from "../../core/task.ts";
import type {
  MessageRequest,
  RetryRequest,
  SubmitRequest,
  AnswerRequest,
  Capabilities,
} from "../../core/protocol/rest.ts";
import type { Clock, Ids } from "../../core/ports/runtime.ts";
import type { Repositories, Diff } from "../../core/ports/repositories.ts";
import type { Identity } from "../../core/ports/accounts.ts";
import type { Artifact } from "../../core/values/artifact.ts";

export interface TaskServiceDeps extends ServerOptions {
  readonly taskLog: TaskLog;
  readonly store: Store;
  readonly repos: Repositories;
  readonly artifacts: Artifacts;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly policy: Policy;
}

/** What a child task carries on from its parent. */
interface Inheritance {
  readonly parent: Task;
  readonly data: EventData;
}

export function createTaskService(deps: TaskServiceDeps): TaskService {
  const { taskLog, store, repos, ids } = deps;

  async function owned(person: Identity, taskId: string): Promise<Task> {
    const task = await store.task(taskId);
    if (task === null || (task.userId !== person.userId && person.role === "user"))
      throw new SlipwayError("not_found", "There is no such task.");
    return task;
  }

  /** The first event holds all that the chart needs, so that folding the log asks nothing else. */
  function submitted(spec: TaskSpec, person: Identity): EventData {
    const { repo, base, branch, title, agent, model, effort, priority, maxAttempts, pullRequest, from } = spec;
    const wallMs = spec.budget.minutes === undefined ? deps.policy.wallMs : Math.round(spec.budget.minutes * 60_000);
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
      policy: { ...deps.policy, wallMs },
      by: person.userId,
    };
  }

  async function submit(person: Identity, request: SubmitRequest, key: string | null) {
    const id = ids.next("task");
    const spec = createTaskSpec(deps, request, id);
    return taskLog.create({
      id,
      userId: person.userId,
      threadId: id.replace("task_", "thread_"),
      parentId: null,
      spec,
      data: submitted(spec, person),
      inherits: null,
      idempotency: key === null ? null : { key, fingerprint: digest(["submit", request]) },
    });
  }

  async function child(
    person: Identity,
    { parent, data }: Inheritance,
    spec: TaskSpec,
    idempotency: { key: string; fingerprint: string } | null,
  ): Promise<Task> {
    const { task } = await taskLog.create({
      id: ids.next("task"),
      // The thread stays its owner's, whoever retries it.
      userId: parent.userId,
      threadId: parent.threadId,
      parentId: parent.id,
      spec,
      data: { ...submitted(spec, person), ...data },
      // The conversation goes along wherever the work does, also past a retry of the push alone.
      inherits: spec.from === "start" ? null : parent.id,
      idempotency,
    });
    return task;
  }

  /** The upstream branch as this thread last left it, for the lease of the next push. */
  async function lease(parent: Task): Promise<string | null> {
    for await (const { spec, snapshot } of readTasks(store, { userId: null, threadId: parent.threadId }))
      if (spec.branch === parent.spec.branch && snapshot.context.outcome === "pushed") return snapshot.context.headSha;
    return null;
  }

  function savedWork(parent: Task): EventData {
    const { base, baseSha, headSha, checkpoint, report } = parent.snapshot.context;
    const saved = headSha !== null && headSha !== baseSha ? { sha: headSha, cursor: null } : checkpoint;
    return { base, baseSha, checkpoint: saved, headSha, report };
  }

  async function retry(person: Identity, taskId: string, request: RetryRequest): Promise<Task> {
    const parent = await owned(person, taskId);
    if (!isSettledState(parent.state))
      throw new SlipwayError("task_open", "Cancel the task first, or wait for its end.");
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
    const limits = { ...parent.spec.limits, ...checkLimits(request.limits ?? {}, deps.maxLimits) };
    const spec: TaskSpec = { ...parent.spec, prompt, budget, limits, from, expectSha: await lease(parent) };
    // A retry from the checkpoint goes on where the agent stood; finished work is not a place to
    // stand.
    const { checkpoint, base } = parent.snapshot.context;
    const data = from === "start" ? {} : from === "push" ? savedWork(parent) : { base, baseSha, checkpoint };
    return child(person, { parent, data }, spec, null);
  }

  async function message(person: Identity, taskId: string, request: MessageRequest, key: string | null) {
    const task = await owned(person, taskId);
    const fingerprint = digest(["message", taskId, request]);
    // The id follows from the key, so that the same request again finds its own message.
    const id = key === null ? ids.next("msg") : `msg_${digest([person.userId, key, taskId]).slice(0, 26)}`;
    const known = await store.message(taskId, id);
    if (known !== null) return replayed(known, request);
    if (isSettledState(task.state)) return followUp(person, task, request, key === null ? null : { key, fingerprint });
    const mode = request.mode ?? "steer";
    const data = {
      id,
      role: "user",
      content: [{ type: "text", text: request.text }],
      mode,
      status: "queued",
      by: person.userId,
    };
    const { events, task: now } = await taskLog.record(taskId, () => [{ type: "message", data }]);
    const event = events[0];
    if (event === undefined) return followUp(person, now, request, key === null ? null : { key, fingerprint });
    return { message: rowOf(event, request) };
  }

  function replayed(known: MessageRow, request: MessageRequest): { message: MessageRow } {
    const same = known.content[0]?.["text"] === request.text && known.mode === (request.mode ?? "steer");
    if (!same) throw new SlipwayError("idempotency_mismatch", "Use a new Idempotency-Key for a new message.");
    return { message: known };
  }

  async function followUp(
    person: Identity,
    parent: Task,
    request: MessageRequest,
    idempotency: { key: string; fingerprint: string } | null,
  ) {
    const spec: TaskSpec = {
      ...parent.spec,
      prompt: request.text,
      title: deriveTitle(request.text),
      script: null,
      from: "checkpoint",
      expectSha: await lease(parent),
    };
    return {
      task: await child(
        person,
        { parent, data: { ...savedWork(parent), headSha: null, report: null } },
        spec,
        idempotency,
      ),
    };
  }

  async function withdraw(person: Identity, taskId: string, messageId: string): Promise<void> {
    await owned(person, taskId);
    for (;;) {
      const row = await store.message(taskId, messageId);
      if (row === null || row.role !== "user") throw new SlipwayError("not_found", "There is no such message.");
      if (row.status === "withdrawn") return;
      if (row.status === "delivered") throw new SlipwayError("message_delivered", "The agent has read it already.");
      let seq = 0;
      const { events, task } = await taskLog.record(taskId, (now) => {
        seq = now.seq;
        return [{ type: "message.status", data: { id: messageId, status: "withdrawn", by: person.userId } }];
      });
      if (events.length > 0) return;
      // Refused: the task settled meanwhile; what was not delivered will not be.
      if (isSettledState(task.state) || seq === 0)
        throw new SlipwayError("task_settled", "The task is settled; the message was never delivered.");
    }
  }

  async function answer(
    person: Identity,
    taskId: string,
    request: { questionId: string; text: string },
  ): Promise<Task> {
    await owned(person, taskId);
    const data = { questionId: request.questionId, text: request.text, by: person.userId };
    const { events, task } = await taskLog.record(taskId, (now): Proposal[] => [
      { type: "answer", data: isBudgetQuestion(data.questionId) ? { ...data, ...decisionOf(now, data) } : data },
    ]);
    if (events.length > 0) return task;
    if (await wasAsked(taskId, request.questionId))
      throw new SlipwayError("already_answered", "The first answer counts.");
    throw new SlipwayError("not_found", "There is no such question.");
  }

  async function wasAsked(taskId: string, questionId: string): Promise<boolean> {
    for await (const event of readLog(store, taskId))
      if (event.type === "question" && event.data["id"] === questionId) return true;
    return false;
  }

  async function cancel(person: Identity, taskId: string, force: boolean): Promise<Task> {
    await owned(person, taskId);
    const { task, events } = await taskLog.record(taskId, () => [
      { type: "task.state", data: { reason: "cancel", force, by: person.userId } },
    ]);
    if (events.length === 0 && isSettledState(task.state))
      throw new SlipwayError("task_settled", `It ended as ${task.state}.`);
    return task;
  }

  async function range(person: Identity, taskId: string): Promise<{ base: string; head: string }> {
    const { baseSha, headSha, checkpoint } = (await owned(person, taskId)).snapshot.context;
    const head = headSha ?? checkpoint?.sha ?? null;
    if (baseSha === null || head === null) throw new SlipwayError("not_found", "There is no saved work yet.");
    return { base: baseSha, head };
  }

  return {
    capabilities: () => describeCapabilities(deps),
    submit,
    task: owned,
    cancel,
    retry,
    message,
    withdraw,
    answer,
    async diff(person, taskId) {
      const { base, head } = await range(person, taskId);
      return repos.diff(taskId, base, head);
    },
    async patch(person, taskId) {
      const { base, head } = await range(person, taskId);
      return repos.patch(taskId, base, head);
    },
    artifacts: async (person, taskId) => deps.artifacts.list((await owned(person, taskId)).id),
    async artifact(person, taskId, name) {
      const found = await deps.artifacts.open((await owned(person, taskId)).id, name);
      if (found === null) throw new SlipwayError("not_found", "The task has no artifact of that name.");
      return found;
    },
  };
}

function decisionOf(task: Task, { questionId, text }: { questionId: string; text: string }): BudgetDecision {
  const decision = readBudgetAnswer(task, questionId, text);
  if (decision !== null) return decision;
  throw new SlipwayError("invalid_request", "Answer continue, stop, or how much more to grant.", {
    errors: [{ path: "text", message: "must be continue, stop or an amount" }],
  });
}

function digest(value: unknown): string {
  return createHash("sha256").update(JSON.stringify(value)).digest("hex");
}

function rowOf(event: TaskEvent, request: MessageRequest): MessageRow {
  return {
    id: String(event.data["id"]),
    taskId: event.taskId,
    seq: event.seq,
    at: event.at,
    role: "user",
    content: [{ type: "text", text: request.text }],
    mode: request.mode ?? "steer",
    status: "queued",
  };
}

export interface TaskService {
  /** What a submission may ask for; the same for everybody. */
  capabilities(): Capabilities;
  /**
   * Resolves after the task is durable (rule R1). With an idempotency key the same body gives the
   * same task (`replayed`), another body throws `idempotency_mismatch`. Throws invalid_repository,
   * invalid_branch, agent_unavailable, model_unavailable, egress_unavailable, limits_unavailable,
   * forge_unavailable, invalid_image, image_not_allowed; nothing was written then.
   */
  submit(
    person: Identity,
    request: SubmitRequest,
    idempotencyKey: string | null,
  ): Promise<{ task: Task; replayed: boolean }>;
  task(person: Identity, taskId: string): Promise<Task>;
  /**
   * Idempotent while the task is open; `task_settled` after. `force` = without grace (operators).
   */
  cancel(person: Identity, taskId: string, force: boolean): Promise<Task>;
  /**
   * A new task of the same thread. `task_open` while the old one is open; `nothing_to_push` for
   * `push` without finished work; `limits_unavailable`.
   */
  retry(person: Identity, taskId: string, request: RetryRequest): Promise<Task>;
  /** Queued for the agent; on a settled task a follow-up task of the thread instead. */
  message(
    person: Identity,
    taskId: string,
    request: MessageRequest,
    idempotencyKey: string | null,
  ): Promise<{ message: MessageRow } | { task: Task }>;
  /**
   * Takes back a message that was not delivered; `message_delivered` once it was; `not_found` for
   * an unknown one. Idempotent.
   */
  withdraw(person: Identity, taskId: string, messageId: string): Promise<void>;
  /**
   * First answer wins: `already_answered` for a second, `not_found` for a question that was never
   * asked, `invalid_request` for an answer to a question about the budget that is neither yes, no
   * nor an amount.
   */
  answer(person: Identity, taskId: string, request: AnswerRequest): Promise<Task>;
  /**
   * Base to head (or to the last checkpoint). Works when the sandbox is gone; `not_found` when
   * there is no work yet.
   */
  diff(person: Identity, taskId: string): Promise<Diff>;
  patch(person: Identity, taskId: string): Promise<string>;
  /** What was salvaged of its sandboxes. */
  artifacts(person: Identity, taskId: string): Promise<Artifact[]>;
  /**
   * `not_found` for a name that the list does not have. Whoever stops reading early must end the
   * iteration.
   */
  artifact(
    person: Identity,
    taskId: string,
    name: string,
  ): Promise<{ artifact: Artifact; content: AsyncIterable<Uint8Array> }>;
}
