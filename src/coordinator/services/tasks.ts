/**
 * What users do with tasks: submit, cancel, retry, send messages, answer questions, read the work.
 * A task of another user is `not_found`, except for operators (rule S2), who look and stop; who may
 * direct it is in the table of src/core/roles.ts (rule H12).
 */
import { createHash } from "node:crypto";
import type { Artifacts } from "../../core/ports/files/artifacts.ts";
import { isGuardQuestion } from "../../core/values/push-guard.ts";
import type { TaskCreation, TaskLog } from "../task-log.ts";
import { SlipwayError } from "../../core/error.ts";
import type { Proposal, TaskEvent } from "../../core/event.ts";
import { serverNotice } from "../../core/notices.ts";
import { readLog, readLogWithoutWorker } from "../read-lists.ts";
import type { MessageRow, Store } from "../../core/ports/store.ts";
import type { UsageLedger } from "../../core/ports/records/usage-ledger.ts";
import {
  describeCapabilities,
  createTaskSpec,
  nameThread,
  resolveOtherAgent,
  type ServerOptions,
} from "./tasks/task-spec.ts";
import { isSettledState, type Policy, type Task } from "../../core/task.ts";
import type { Capabilities } from "../../core/protocol/config.ts";
import type { CheckRequest, CredentialCheck, RepositoryCheck } from "../../core/protocol/repositories.ts";
import type { MessageRequest, RetryRequest, SubmitRequest, AnswerRequest } from "../../core/protocol/rest.ts";
import type { Bus, Clock, Ids } from "../../core/ports/runtime.ts";
import type { Diff, DiffFile, DiffSide } from "../../core/ports/diff.ts";
import type { Repositories } from "../../core/ports/repositories.ts";
import type { Identity } from "../../core/ports/accounts.ts";
import type { TaskAct } from "../../core/roles.ts";
import type { Artifact } from "../../core/values/artifact.ts";
import { attachmentsOf, TaskAttachments, toContent, type AttachmentDeps } from "./tasks/attachments.ts";
import { TaskDeletions, type DeletionDeps } from "./tasks/deletions.ts";
import { PersonRemovals, type PersonDeletionDeps } from "./people/person-deletions.ts";
import { planFollowUp, planRetry, toChild, toSubmittedData, type ChildPlan } from "./tasks/retry-and-follow-up.ts";
import { parseBudgetDecision, parseGuardDecision, readSpent } from "./tasks/decisions.ts";
import { readPermitted } from "./tasks/permit.ts";
import { PullRequestReader, type PullRequestReaderDeps, type PullRequestView } from "./tasks/pull-request-reader.ts";
import { findRecentRepositories, type UsedRepository } from "./tasks/pre-flight/recent-repositories.ts";
import { RepositoryChecker, type RepositoryCheckerDeps } from "./tasks/pre-flight/repository-checker.ts";
import { PersonQuotas, type QuotaDeps } from "./tasks/quotas.ts";
import { CredentialChecker, SKIPPED, type CredentialRequest } from "./tasks/pre-flight/credential-checker.ts";
import type { TaskService } from "./tasks/task-service.ts";

type OwnDeps = PullRequestReaderDeps &
  RepositoryCheckerDeps &
  QuotaDeps &
  Pick<AttachmentDeps, "attachments"> &
  DeletionDeps &
  PersonDeletionDeps;
export interface TaskServiceDeps extends ServerOptions, OwnDeps {
  readonly taskLog: TaskLog;
  readonly store: Store;
  readonly ledger: Pick<UsageLedger, "spentBy" | "spentSince">;
  readonly repos: Repositories;
  readonly artifacts: Artifacts;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly policy: Policy;
  readonly bus: Pick<Bus, "publishDeleted" | "publishRead">;
}

export function createTaskService(deps: TaskServiceDeps): TaskService {
  return new OwnedTaskService(deps);
}

class OwnedTaskService implements TaskService {
  readonly #deps: TaskServiceDeps;
  readonly #pullRequests: PullRequestReader;
  readonly #checker: RepositoryChecker;
  readonly #credentials: CredentialChecker;
  readonly attachments: TaskAttachments;
  readonly quotas: PersonQuotas;
  readonly deletions: TaskDeletions;
  readonly #people: PersonRemovals;

  constructor(deps: TaskServiceDeps) {
    this.#deps = deps;
    this.attachments = new TaskAttachments(deps);
    this.quotas = new PersonQuotas(deps);
    this.deletions = new TaskDeletions(deps);
    this.#people = new PersonRemovals(deps, this.deletions);
    this.#pullRequests = new PullRequestReader(deps);
    this.#checker = new RepositoryChecker(deps);
    this.#credentials = new CredentialChecker({ ...deps, repositories: this.#checker });
  }

  async resumeDeletions(signal: AbortSignal): Promise<void> {
    await this.deletions.resume(signal);
    await this.#people.resume(signal);
  }

  capabilities(): Capabilities {
    return describeCapabilities(this.#deps, this.attachments.limits);
  }

  checkRepository(person: Identity, request: CheckRequest): Promise<RepositoryCheck> {
    return this.#checker.check(person, request);
  }

  checkCredential(person: Identity, request: CredentialRequest | null): Promise<CredentialCheck> {
    return request === null ? Promise.resolve(SKIPPED) : this.#credentials.check(person, request);
  }

  recentRepositories(person: Identity, limit: number): Promise<UsedRepository[]> {
    return findRecentRepositories(this.#deps.store, person.userId, limit);
  }

  async submit(
    person: Identity,
    request: SubmitRequest,
    key: string | null,
  ): Promise<{ task: Task; replayed: boolean }> {
    const { ids, policy } = this.#deps;
    const id = ids.next("task");
    const wanted = createTaskSpec(this.#deps, request, id);
    const { attachments: files = [] } = request;
    const spec =
      files.length === 0 ? wanted : { ...wanted, attachments: await this.attachments.give(person, files, id) };
    return await this.#begin({
      id,
      userId: person.userId,
      threadId: nameThread(id),
      parentId: null,
      spec,
      data: toSubmittedData(spec, policy, person.userId),
      inherits: null,
      idempotency: key === null ? null : { key, fingerprint: digest(["submit", request]) },
    });
  }

  async task(person: Identity, taskId: string): Promise<Task> {
    return await this.#permit(person, taskId, "look");
  }

  #permit(person: Identity, taskId: string, act: TaskAct): Promise<Task> {
    return readPermitted(this.#deps.store, person, taskId, act);
  }

  async markRead(person: Identity, taskId: string, seq: number): Promise<Task> {
    const { store, bus } = this.#deps;
    const task = await this.#permit(person, taskId, "look");
    if (task.userId !== person.userId)
      throw new SlipwayError("forbidden", "The task belongs to somebody else. Only they mark it as read.");
    if (await store.markRead(person.userId, taskId, seq)) bus.publishRead(person.userId);
    return task;
  }

  async cancel(person: Identity, taskId: string, force: boolean, key: string | null = null): Promise<Task> {
    await this.#permit(person, taskId, "stop");
    const request = requestOf(person, "cancel", key);
    const cancel = { type: "task.state", data: { reason: "cancel", force, by: person.userId, ...request } } as const;
    const { task, events } = await this.#deps.taskLog.record(taskId, (current) => [...tellOfPush(current), cancel]);
    if (events.length === 0 && isSettledState(task.state) && !(await this.#isRecorded(taskId, request)))
      throw new SlipwayError("task_settled", `It ended as ${task.state}.`);
    return task;
  }

  async retry(person: Identity, taskId: string, request: RetryRequest, key: string | null = null): Promise<Task> {
    const parent = await this.#permit(person, taskId, "direct");
    const plan = await planRetry(this.#deps.store, parent, request, this.#deps);
    const idempotency = key === null ? null : { key, fingerprint: digest(["retry", taskId, person.userId, request]) };
    return await this.#createChild(person, parent, plan, idempotency);
  }

  async message(
    person: Identity,
    taskId: string,
    request: MessageRequest,
    key: string | null,
  ): Promise<{ message: MessageRow } | { task: Task }> {
    const { taskLog, store, ids } = this.#deps;
    const { state } = await this.#permit(person, taskId, "direct");
    const isOther = (request.model ?? request.effort) !== undefined || request.fork === true;
    if (isOther && !isSettledState(state))
      throw new SlipwayError("task_open", "Only a follow-up task can have another model or effort, or be a fork.");
    const given = await this.attachments.give(person, request.attachments ?? [], taskId);
    // The id is derived from the key, so that a repeated request finds its own message.
    const id = key === null ? ids.next("msg") : `msg_${digest([person.userId, key, taskId]).slice(0, 26)}`;
    const data = {
      id,
      role: "user",
      content: toContent(request.text, given),
      mode: request.mode ?? "steer",
      ...(request.interrupt === true ? { interrupt: true } : {}),
      status: "queued",
      by: person.userId,
    };
    let known: MessageRow | null = null;
    const { events, task } = await taskLog.record(taskId, async (): Promise<Proposal[]> => {
      known = key === null ? null : await store.message(taskId, id);
      return known === null ? [{ type: "message", data }] : [];
    });
    if (known !== null) return { message: checkSameMessage(known, request) };
    const event = events[0];
    if (event !== undefined) return { message: toMessageRow(event) };
    // Not accepted: the task is settled.
    const idempotency = key === null ? null : { key, fingerprint: digest(["message", taskId, request]) };
    const model = resolveOtherAgent(this.#deps, task.spec, request);
    const plan = await planFollowUp(store, task, { ...request, model, attachments: given });
    return { task: await this.#createChild(person, task, plan, idempotency) };
  }

  async withdraw(person: Identity, taskId: string, messageId: string): Promise<void> {
    await this.#permit(person, taskId, "direct");
    const isQueued = async (): Promise<boolean> => {
      const row = await this.#deps.store.message(taskId, messageId);
      if (row === null || row.role !== "user") throw new SlipwayError("not_found", "There is no such message.");
      if (row.status === "delivered") throw new SlipwayError("message_delivered", "The agent has read it already.");
      if (row.status === "moved")
        throw new SlipwayError("message_delivered", "It is part of the follow-up task. Cancel that one.");
      return row.status !== "withdrawn";
    };
    let wasQueued = false;
    const { events } = await this.#deps.taskLog.record(taskId, async (): Promise<Proposal[]> => {
      wasQueued = await isQueued();
      if (!wasQueued) return [];
      return [{ type: "message.status", data: { id: messageId, status: "withdrawn", by: person.userId } }];
    });
    // Not accepted: the task is settled, and a message that was not delivered never will be.
    if (wasQueued && events.length === 0)
      throw new SlipwayError("task_settled", "The task is settled; the message was never delivered.");
  }

  async answer(
    person: Identity,
    taskId: string,
    { questionId, text }: AnswerRequest,
    key: string | null = null,
  ): Promise<Task> {
    const asked = await this.#permit(person, taskId, "direct");
    const { question } = asked.snapshot.context;
    const request = requestOf(person, `answer ${questionId}`, key);
    const guard = isGuardQuestion(questionId) ? parseGuardDecision(question?.options ?? [], text) : {};
    const spent = await readSpent(this.#deps, asked, questionId);
    const { events, task } = await this.#deps.taskLog.record(taskId, (now): Proposal[] => {
      const decision = spent === null ? {} : parseBudgetDecision(now, questionId, text, spent);
      return [{ type: "answer", data: { questionId, text, by: person.userId, ...decision, ...guard, ...request } }];
    });
    if (events.length > 0 || (await this.#isRecorded(taskId, request))) return task;
    const { isAsked, isAnswered } = await this.#findQuestion(taskId, questionId);
    if (isAnswered) throw new SlipwayError("already_answered", "The first answer counts.");
    if (isAsked)
      throw new SlipwayError("question_expired", "The task ended, or went on, without an answer to this question.");
    throw new SlipwayError("not_found", "There is no such question.");
  }

  async diff(person: Identity, taskId: string): Promise<Diff> {
    const { base, head } = await this.#savedRange(person, taskId);
    return await this.#deps.repos.diff(taskId, base, head);
  }

  async diffFile(person: Identity, taskId: string, path: string): Promise<DiffFile> {
    const { base, head } = await this.#savedRange(person, taskId);
    return await this.#deps.repos.diffFile(taskId, base, head, path);
  }

  async diffContent(person: Identity, taskId: string, path: string, side: DiffSide): Promise<Buffer> {
    const { base, head } = await this.#savedRange(person, taskId);
    return await this.#deps.repos.diffContent(taskId, base, head, path, side);
  }

  async patch(person: Identity, taskId: string): Promise<string> {
    const { base, head } = await this.#savedRange(person, taskId);
    return await this.#deps.repos.patch(taskId, base, head);
  }

  async pullRequest(person: Identity, taskId: string): Promise<PullRequestView> {
    return await this.#pullRequests.read(await this.task(person, taskId));
  }

  async artifacts(person: Identity, taskId: string): Promise<Artifact[]> {
    return await this.#deps.artifacts.list((await this.task(person, taskId)).id);
  }

  async artifact(
    person: Identity,
    taskId: string,
    name: string,
  ): Promise<{ artifact: Artifact; content: AsyncIterable<Uint8Array> }> {
    const found = await this.#deps.artifacts.open((await this.task(person, taskId)).id, name);
    if (found === null) throw new SlipwayError("not_found", "The task has no artifact of that name.");
    return found;
  }

  async #createChild(
    person: Identity,
    parent: Task,
    plan: ChildPlan,
    idempotency: TaskCreation["idempotency"],
  ): Promise<Task> {
    const { ids, policy } = this.#deps;
    const child = toChild(parent, plan, { id: ids.next("task"), policy, by: person.userId });
    return (await this.deletions.inThread(parent, () => this.#begin({ ...child, idempotency }))).task;
  }

  /** Within the quotas of the owner, whoever begins it. @throws QuotaExceeded */
  #begin(creation: TaskCreation): Promise<{ task: Task; replayed: boolean }> {
    const { taskLog } = this.#deps;
    const { attachments, earlierAttachments } = creation.spec;
    const hasFiles = (attachments ?? earlierAttachments) !== undefined;
    const begin = () => (hasFiles ? this.attachments.create(taskLog, creation) : taskLog.create(creation));
    return this.quotas.admit(creation.userId, creation.idempotency?.key ?? null, begin);
  }

  async #findQuestion(taskId: string, questionId: string): Promise<{ isAsked: boolean; isAnswered: boolean }> {
    let isAsked = false;
    for await (const { type, data } of readLog(this.#deps.store, taskId)) {
      if (type === "question" && data["id"] === questionId) isAsked = true;
      if (type === "answer" && data["questionId"] === questionId) return { isAsked: true, isAnswered: true };
    }
    return { isAsked, isAnswered: false };
  }

  /** True when an event of this request is in the log: the request was sent again (rule R5). */
  async #isRecorded(taskId: string, { request }: RequestMark): Promise<boolean> {
    if (request === undefined) return false;
    for await (const { data } of readLogWithoutWorker(this.#deps.store, taskId, 0))
      if (data["request"] === request) return true;
    return false;
  }

  /** Commits of the saved work. @throws SlipwayError `not_found`. */
  async #savedRange(person: Identity, taskId: string): Promise<{ base: string; head: string }> {
    const { baseSha, headSha, checkpoint } = (await this.task(person, taskId)).snapshot.context;
    const head = headSha ?? checkpoint?.sha ?? null;
    if (baseSha === null || head === null) throw new SlipwayError("not_found", "There is no saved work yet.");
    return { base: baseSha, head };
  }
}

/**
 * A push that is cut off may have reached the branch all the same, and nothing is recorded of a
 * task after its end.
 */
function tellOfPush({ state, snapshot, spec }: Task): Proposal[] {
  const { question, resume } = snapshot.context;
  const isPushing = state === "pushing" && question === null;
  const isBetween = state === "retrying" && resume === "pushing";
  if (!isPushing && !isBetween) return [];
  const text = `The push to \`${spec.branch}\` had begun, so its commit may be there. A retry or a follow-up goes on from it.`;
  return [serverNotice("warning", "push_unfinished", text)];
}

/** Of what was asked: the same key must come with the same request (rule R5). */
function digest(asked: unknown): string {
  return createHash("sha256").update(JSON.stringify(asked)).digest("hex");
}

/** Part of the event of a request that came with a key. */
interface RequestMark {
  readonly request?: string;
}

function requestOf(person: Identity, what: string, key: string | null): RequestMark {
  return key === null ? {} : { request: digest([person.userId, what, key]).slice(0, 26) };
}

function checkSameMessage(known: MessageRow, request: MessageRequest): MessageRow {
  const ids = attachmentsOf(known.content).map(({ id }) => id);
  const isSame =
    known.content[0]?.["text"] === request.text &&
    known.mode === (request.mode ?? "steer") &&
    ids.join() === (request.attachments ?? []).join();
  if (!isSame) throw new SlipwayError("idempotency_mismatch", "Use a new Idempotency-Key for a new message.");
  return known;
}

function toMessageRow(event: TaskEvent): MessageRow {
  return {
    id: String(event.data["id"]),
    taskId: event.taskId,
    seq: event.seq,
    at: event.at,
    role: "user",
    content: event.data["content"] as MessageRow["content"],
    mode: event.data["mode"] as MessageRow["mode"],
    status: "queued",
  };
}
