/** The log of tasks, and what is read off it: what a database has to do for the coordinator. */
import type { EventData, TaskEvent } from "../event.ts";
import type { Page } from "../lib/pagination.ts";
import type { Snapshot, Task, TaskSpec, TaskState } from "../task.ts";
import type { Transcripts } from "./transcripts.ts";

/** A task that is about to exist, with its first event. */
export interface NewTask {
  readonly id: string;
  readonly userId: string;
  readonly threadId: string;
  readonly parentId: string | null;
  readonly spec: TaskSpec;
  readonly machineVersion: number;
  readonly snapshot: Snapshot;
  readonly state: TaskState;
  readonly slot: boolean;
  readonly event: TaskEvent;
  /** The task whose transcript this one begins with, if any. */
  readonly inherits: string | null;
  /** Same user + same key = same task (rule R5). `fingerprint` is a digest of the body. */
  readonly idempotency: { readonly key: string; readonly fingerprint: string } | null;
}

export type CreateResult =
  | { readonly kind: "created"; readonly task: Task }
  /** The key is known with the same fingerprint: the task as it is now; nothing was written. */
  | { readonly kind: "replayed"; readonly task: Task }
  /** The key is known with another fingerprint; nothing was written. */
  | { readonly kind: "mismatch" };

/** One step of one task: its new events and what the chart made of them. */
export interface Commit {
  readonly taskId: string;
  /** Compare-and-swap: written only while the stored seq is this. */
  readonly expectedSeq: number;
  /** At least one; seq = expectedSeq + 1, + 2, ... */
  readonly events: readonly TaskEvent[];
  readonly snapshot: Snapshot;
  readonly state: TaskState;
  readonly slot: boolean;
}

export interface TaskQuery {
  /** Null = every owner's (operators). */
  readonly userId: string | null;
  readonly states?: readonly TaskState[];
  readonly threadId?: string;
  /** Case-insensitive substring of title, prompt or repository. */
  readonly text?: string;
  /** 1..200. */
  readonly limit: number;
  /** Newest first: only tasks whose id sorts before this one. */
  readonly before?: string;
}

export interface MessageRow {
  readonly id: string;
  readonly taskId: string;
  readonly seq: number;
  readonly at: number;
  readonly role: "user" | "assistant";
  readonly content: readonly EventData[];
  readonly mode: "steer" | "follow_up" | null;
  /** Of user messages; null for the assistant's. */
  readonly status: "queued" | "delivered" | "withdrawn" | null;
}

export interface ToolCallRow {
  readonly id: string;
  readonly taskId: string;
  readonly attempt: number;
  readonly seq: number;
  readonly name: string;
  readonly input: EventData;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly output: string | null;
  readonly exitCode: number | null;
  readonly truncated: boolean;
}

export interface AttemptRow {
  readonly taskId: string;
  readonly number: number;
  /** The sandbox's name. */
  readonly container: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly exitCode: number | null;
  readonly failure: string | null;
}

/**
 * Where tasks live. Contract (test/contract/store.ts, one suite for every adapter):
 * - `create` and `commit` are atomic and resolve after the data is durable; what they wrote is seen
 *   by every later read. Calls made in one turn of the event loop may share one transaction (group
 *   commit).
 * - `commit` returns the task as stored, or null when `expectedSeq` does not match or the task is
 *   settled: nothing was written.
 * - messages, tool calls and attempts are projections of events, written in the same transaction
 *   (src/store/projection.ts).
 * - Reads of an unknown id return null or an empty list; they never throw for that.
 * - A page ends at `limit` items, or before that where they are large (page.ts): what one read
 *   holds in memory is bounded.
 * - One writer: a second process that opens the same data folder gets the error `locked`.
 */
export interface Store extends Transcripts {
  create(task: NewTask): Promise<CreateResult>;
  commit(commit: Commit): Promise<Task | null>;

  task(id: string): Promise<Task | null>;
  tasks(query: TaskQuery): Promise<Page<Task>>;
  /** Tasks of one owner (null = all) with rev > `afterRev`, oldest change first. */
  changes(userId: string | null, afterRev: number, limit: number): Promise<Page<Task>>;
  /** The log with seq > `afterSeq`, in order. */
  events(taskId: string, afterSeq: number, limit: number): Promise<Page<TaskEvent>>;
  /** The same without what workers said, however much that is. */
  eventsOfOthers(taskId: string, afterSeq: number, limit: number): Promise<Page<TaskEvent>>;
  /** The conversation with seq > `afterSeq`, in order. */
  messages(taskId: string, afterSeq: number, limit: number): Promise<Page<MessageRow>>;
  message(taskId: string, messageId: string): Promise<MessageRow | null>;
  /** What the agent ran with seq > `afterSeq`, in order. */
  toolCalls(taskId: string, afterSeq: number, limit: number): Promise<Page<ToolCallRow>>;
  attempts(taskId: string): Promise<AttemptRow[]>;
  /**
   * What the coordinator itself observed of an attempt's end. Idempotent; an unknown attempt is
   * ignored.
   */
  recordExit(taskId: string, attempt: number, exitCode: number | null): Promise<void>;

  /** Ids of every task that is not settled, oldest first. */
  openIds(): Promise<string[]>;
  /** Ids of open tasks with dueAt <= now, most overdue first. */
  due(now: number, limit: number): Promise<string[]>;
  /** When the next deadline is, or null. */
  nextDue(): Promise<number | null>;
  /**
   * Queued tasks in fair order (rule D8) without the users that hold `userLimit` slots already.
   * Null = no limit.
   */
  claimable(limit: number, userLimit: number | null): Promise<string[]>;
  /** Queued tasks before this one in fair order; 0 = next. */
  position(taskId: string): Promise<number>;
  /** Tasks that hold a slot: of one user, or of all. */
  slotsHeld(userId?: string): Promise<number>;
  counts(): Promise<{ readonly byState: Readonly<Record<TaskState, number>>; readonly oldestOpenAt: number | null }>;

  /** Small durable settings (the queue is paused, ...). */
  setting(key: string): Promise<string | null>;
  setSetting(key: string, value: string | null): Promise<void>;
  /** The cheapest proof that reads and writes work; rejects when they do not. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

// ---------------------------------------------------------------- bus
