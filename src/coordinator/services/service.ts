/** The verbs as the doors (http, cli) see them. Implemented by coordinator.ts and supervisor.ts, wired by main.ts. */
import type { Role } from "../../core/ports/accounts.ts";
import type { Artifact } from "../../core/ports/artifacts.ts";
import type { GcMode, Leftover } from "../../core/lib/garbage.ts";
import type { Diff, Warmth } from "../../core/ports/ports.ts";
import type { MessageRow } from "../../core/ports/store.ts";
import type { Task, TaskState, Wait } from "../../core/task.ts";
import type { AnswerRequest, MessageRequest, Offer, RetryRequest, SubmitRequest } from "../../core/protocol/rest.ts";

/** Who asks. Every verb shows a task only to its owner, operators and admins; to others it is `not_found` (rule S2). */
export interface Person {
  readonly userId: string;
  readonly role: Role;
}

export interface Service {
  /** What a submission may ask for; the same for everybody. */
  offer(): Offer;
  /**
   * Resolves after the task is durable (rule R1). With an idempotency key the same body gives the same task (`replayed`), another body throws `idempotency_mismatch`.
   * Throws invalid_repository, invalid_branch, agent_unavailable, model_unavailable, egress_unavailable, limits_unavailable, forge_unavailable,
   * invalid_image, image_not_allowed; nothing was written then.
   */
  submit(person: Person, request: SubmitRequest, idempotencyKey: string | null): Promise<{ task: Task; replayed: boolean }>;
  task(person: Person, taskId: string): Promise<Task>;
  /** Idempotent while the task is open; `task_settled` after. `force` = without grace (operators). */
  cancel(person: Person, taskId: string, force: boolean): Promise<Task>;
  /** A new task of the same thread. `task_open` while the old one is open; `nothing_to_push` for `push` without finished work; `limits_unavailable`. */
  retry(person: Person, taskId: string, request: RetryRequest): Promise<Task>;
  /** Queued for the agent; on a settled task a follow-up task of the thread instead. */
  message(
    person: Person,
    taskId: string,
    request: MessageRequest,
    idempotencyKey: string | null,
  ): Promise<{ message: MessageRow } | { task: Task }>;
  /** Takes back a message that was not delivered; `message_delivered` once it was; `not_found` for an unknown one. Idempotent. */
  withdraw(person: Person, taskId: string, messageId: string): Promise<void>;
  /**
   * First answer wins: `already_answered` for a second, `not_found` for a question that was never asked, `invalid_request` for an answer to a
   * question about the budget that is neither yes, no nor an amount.
   */
  answer(person: Person, taskId: string, request: AnswerRequest): Promise<Task>;
  /** Base to head (or to the last checkpoint). Works when the sandbox is gone; `not_found` when there is no work yet. */
  diff(person: Person, taskId: string): Promise<Diff>;
  patch(person: Person, taskId: string): Promise<string>;
  /** What was salvaged of its sandboxes. */
  artifacts(person: Person, taskId: string): Promise<Artifact[]>;
  /** `not_found` for a name that the list does not have. Whoever stops reading early must end the iteration. */
  artifact(person: Person, taskId: string, name: string): Promise<{ artifact: Artifact; content: AsyncIterable<Uint8Array> }>;
}

/** Why a task is stuck, for operators. */
export interface Stuck {
  readonly reason: string;
  readonly since: number;
}

export interface QueueState {
  readonly paused: boolean;
  readonly breaker: "closed" | "open";
  /** "low" while there is too little free disk space to claim. */
  readonly disk: "ok" | "low";
  /** Words for people when claiming does not go on; null when it does. */
  readonly reason: string | null;
}

/** What operators see and do. */
export interface Operations {
  /** Why this queued task waits; null when it is not queued. */
  wait(task: Task): Promise<Wait | null>;
  stuck(task: Task): Stuck | null;
  /** Every open task that is stuck. */
  stuckTasks(): Promise<{ id: string; state: TaskState; reason: string; since: number }[]>;
  queue(): QueueState;
  /** Durable: holds over restarts. Idempotent. */
  pauseQueue(paused: boolean): Promise<void>;
  /** What nobody needs any more; `remove` takes it away. Minutes long where much is left. */
  collect(mode: GcMode, signal: AbortSignal): Promise<Leftover[]>;
  slots(): Promise<{ used: number; max: number }>;
  /** `warm`: workers that wait for a task; null when this kind of sandbox has none. */
  sandbox(): Promise<{
    kind: string;
    isolates: boolean;
    containers: number;
    expected: number;
    warm: Warmth | null;
    error: string | null;
  }>;
}
