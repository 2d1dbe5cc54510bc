/** What users do with tasks, as callers of the coordinator see it. */
import type { Identity } from "../../../core/ports/accounts.ts";
import type { Diff, DiffFile, DiffSide } from "../../../core/ports/diff.ts";
import type { MessageRow } from "../../../core/ports/store.ts";
import type { Capabilities } from "../../../core/protocol/config.ts";
import type { CheckRequest, CredentialCheck, RepositoryCheck } from "../../../core/protocol/repositories.ts";
import type { AnswerRequest, MessageRequest, RetryRequest, SubmitRequest } from "../../../core/protocol/rest.ts";
import type { Task } from "../../../core/task.ts";
import type { Artifact } from "../../../core/values/artifact.ts";
import type { AttachmentService } from "./attachments.ts";
import type { CredentialRequest } from "./pre-flight/credential-checker.ts";
import type { TaskDeletions } from "./deletions.ts";
import type { PullRequestView } from "./pull-request-reader.ts";
import type { PersonQuotas } from "./quotas.ts";
import type { UsedRepository } from "./pre-flight/recent-repositories.ts";

export interface TaskService {
  readonly attachments: AttachmentService;
  /** Submit, retry and follow-ups throw QuotaExceeded when those of the owner are used up. */
  readonly quotas: Pick<PersonQuotas, "noteSearch" | "usage" | "change">;
  readonly deletions: Pick<TaskDeletions, "delete" | "keep">;
  /** Goes on with what is being deleted: tasks, and people with theirs. */
  resumeDeletions(signal: AbortSignal): Promise<void>;
  /** What a submission may ask for; the same for all users. */
  capabilities(): Capabilities;
  /**
   * What the host says to the person's credential, before there is a task. Throws
   * invalid_repository, invalid_branch and rate_limited; whatever else is wrong is in the answer.
   */
  checkRepository(person: Identity, request: CheckRequest): Promise<RepositoryCheck>;
  /**
   * What the host says to a credential that is to be saved; null = it is not asked. Throws
   * credential_refused, invalid_repository and rate_limited.
   */
  checkCredential(person: Identity, request: CredentialRequest | null): Promise<CredentialCheck>;
  /** The last used first. */
  recentRepositories(person: Identity, limit: number): Promise<UsedRepository[]>;
  /**
   * Resolves after the task is durable (rule R1). With an idempotency key the same body gives the
   * same task (`replayed`), another body throws `idempotency_mismatch`. Throws `not_found` for an
   * attachment that is not the person's, and invalid_repository,
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
   * Records that the owner has seen the task up to `seq` (rule V11). Idempotent. A change is
   * published to the owner's other pages only. `forbidden` for other people.
   */
  markRead(person: Identity, taskId: string, seq: number): Promise<Task>;
  /**
   * Idempotent while the task is open; `task_settled` after, except for the key that cancelled it.
   * `force` = without grace (operators).
   */
  cancel(person: Identity, taskId: string, force: boolean, idempotencyKey?: string | null): Promise<Task>;
  /**
   * A new task of the same thread. `task_open` while the old one is open; `nothing_to_push` for
   * `push` without finished work; `limits_unavailable`, `forge_unavailable`, `invalid_branch`. The
   * same key and body give the same task.
   */
  retry(person: Identity, taskId: string, request: RetryRequest, idempotencyKey?: string | null): Promise<Task>;
  /**
   * Queued for the agent; on a settled task a follow-up task of the thread instead. A message that
   * the agent has not read when the task ends as `done` becomes a follow-up task (rule R6).
   */
  message(
    person: Identity,
    taskId: string,
    request: MessageRequest,
    idempotencyKey: string | null,
  ): Promise<{ message: MessageRow } | { task: Task }>;
  /**
   * Withdraws a message that was not delivered; `message_delivered` once it was, or is part of a
   * follow-up task; `not_found` for an unknown one. Idempotent.
   */
  withdraw(person: Identity, taskId: string, messageId: string): Promise<void>;
  /**
   * The first answer counts: `already_answered` for a second, except for the key of the first;
   * `question_expired` for a question that closed without an answer, `not_found` for one that was
   * never asked, `invalid_request` for an answer to a budget question that is neither `continue`,
   * `stop` nor an amount.
   */
  answer(person: Identity, taskId: string, request: AnswerRequest, idempotencyKey?: string | null): Promise<Task>;
  /**
   * Base to head, or to the last checkpoint. Needs no sandbox; `not_found` before the first saved
   * work.
   */
  diff(person: Identity, taskId: string): Promise<Diff>;
  /** One file of it, by its new path; `not_found` when it did not change. */
  diffFile(person: Identity, taskId: string, path: string): Promise<DiffFile>;
  /** Its bytes on one side; `not_found` where it is no file, `payload_too_large` above 10 MiB. */
  diffContent(person: Identity, taskId: string, path: string, side: DiffSide): Promise<Buffer>;
  patch(person: Identity, taskId: string): Promise<string>;
  /**
   * Its pull request as the forge has it now, or the reason why that is not known; `not_found`
   * without one.
   */
  pullRequest(person: Identity, taskId: string): Promise<PullRequestView>;
  /** The salvaged workspaces of its attempts. */
  artifacts(person: Identity, taskId: string): Promise<Artifact[]>;
  /**
   * `not_found` for a name that is not in the list. A caller that stops reading early must end the
   * iteration, which closes the file.
   */
  artifact(
    person: Identity,
    taskId: string,
    name: string,
  ): Promise<{ artifact: Artifact; content: AsyncIterable<Uint8Array> }>;
}
