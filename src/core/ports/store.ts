/** The store port: the log of every task, and the reads that the product needs. */
import type { EventData, EventRow, TaskEvent } from "../event.ts";
import type { Page } from "../lib/pagination.ts";
import type { Snapshot, Task, TaskState } from "../task.ts";
import type { PersonDeletions } from "./accounts.ts";
import type { Transcripts } from "./records/transcripts.ts";
import type { ModelUsage } from "./records/usage-ledger.ts";

/** A task to insert, with its first event: it has the rest of a Task once it is stored. */
export interface NewTask extends Pick<
  Task,
  "id" | "userId" | "threadId" | "parentId" | "spec" | "machineVersion" | "snapshot" | "state"
> {
  readonly slot: boolean;
  readonly event: TaskEvent;
  /** The task whose transcript is copied into this one; null = none. */
  readonly inherits: string | null;
  /** The same user and key mean the same task (rule R5). `fingerprint` is a digest of the body. */
  readonly idempotency: { readonly key: string; readonly fingerprint: string } | null;
}

export type CreateResult =
  | { readonly kind: "created"; readonly task: Task }
  /**
   * The key exists with the same fingerprint: its task in its current state; nothing was written.
   */
  | { readonly kind: "replayed"; readonly task: Task }
  /** The key exists with another fingerprint; nothing was written. */
  | { readonly kind: "mismatch" };

/** New events of one task, and the snapshot that the statechart computed from them. */
export interface Commit {
  readonly taskId: string;
  /** Compare-and-swap: written only if the stored seq equals this. */
  readonly expectedSeq: number;
  /** At least one; seq = expectedSeq + 1, + 2, ... */
  readonly events: readonly TaskEvent[];
  readonly snapshot: Snapshot;
  readonly state: TaskState;
  readonly slot: boolean;
  /** A row of the usage ledger that is recorded with these events, or not at all (rule G3). */
  readonly usage?: ModelUsage;
  /**
   * A task that begins because this one settles, inserted in the same transaction. One whose
   * idempotency key is known is not inserted again.
   */
  readonly followUp?: NewTask;
}

export interface TaskQuery {
  /** Null = tasks of all owners (operators). */
  readonly userId: string | null;
  readonly states?: readonly TaskState[];
  readonly threadId?: string;
  /** Only tasks of this repository, whether its address ends in `.git` or not. */
  readonly repo?: string;
  /** True = only tasks that wait for a person's answer. */
  readonly asking?: true;
  /** Case-insensitive substring of title, prompt or repository. */
  readonly text?: string;
  /** 1..200. */
  readonly limit: number;
  /** Only tasks whose id sorts before this one; the order is newest first. */
  readonly before?: string;
}

/** `down` = what has a smaller seq than the given one, newest first. */
export type Direction = "up" | "down";

/** Of what a page of a thread's conversation begins after; null = at the beginning. */
export interface ConversationPlace {
  readonly taskId: string;
  readonly seq: number;
}

export interface ConversationQuery {
  /** Null = tasks of all owners (operators). */
  readonly userId: string | null;
  readonly threadId: string;
  /** Absent = from the beginning; with `down`, from the end. */
  readonly from?: ConversationPlace;
  readonly direction: Direction;
  readonly limit: number;
}

/** Tasks of one owner (null = of all), also of one repository only. */
export type TallyQuery = Pick<TaskQuery, "userId" | "repo">;

/** How many tasks there are. */
export interface Tally {
  readonly byState: Readonly<Record<TaskState, number>>;
  /** Of these, those that wait for a person's answer. */
  readonly asking: number;
}

/** A repository that a person submitted tasks to. */
export interface RecentRepository {
  /** As the newest of its tasks has it; addresses with and without `.git` are one repository. */
  readonly repo: string;
  /** How many of the looked-at tasks were in it. */
  readonly tasks: number;
  /** Its newest task. */
  readonly taskId: string;
}

export interface MessageRow {
  readonly id: string;
  readonly taskId: string;
  readonly seq: number;
  readonly at: number;
  readonly role: "user" | "assistant";
  readonly content: readonly EventData[];
  readonly mode: "steer" | "follow_up" | null;
  /**
   * Null for messages of the assistant. `moved`: it is part of the prompt of the follow-up task;
   * `undelivered`: the task settled before the agent read it.
   */
  readonly status: "queued" | "delivered" | "withdrawn" | "moved" | "undelivered" | null;
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

/** What is left of a deleted task. Times are epoch ms. */
export interface DeletedTask {
  readonly id: string;
  readonly userId: string;
  readonly threadId: string;
  readonly state: TaskState;
  /** Of the deletion, in the order of the revs of tasks. */
  readonly rev: number;
  readonly createdAt: number;
  readonly settledAt: number;
  readonly deletedAt: number;
  /** Null = the policy of the installation. */
  readonly deletedBy: string | null;
  /** Null = its rows are not all removed yet. */
  readonly purgedAt: number | null;
}

export interface DeletionRequest {
  readonly taskId: string;
  readonly at: number;
  readonly by: string | null;
}

/**
 * Deletion of settled tasks; contract in test/contract/store/deletions.ts.
 *
 * E1 A deletion begins with one durable row. From then on no read of the store returns the task.
 * E2 What the task had is removed in parts, each a write of its own. A deletion that was broken off
 *    stays in `openDeletions`, and each part may be removed again.
 * E3 The row of the deletion stays. Usage and the audit log are no part of a task.
 */
export interface Deletions {
  /**
   * Hides the task (E1). @returns false, with nothing written, when the task is unknown or open,
   * when another task of its thread is open, or when its deletion has begun before.
   */
  beginDeletion(request: DeletionRequest): Promise<boolean>;
  /**
   * Removes some rows of a task whose deletion has begun (E2). Idempotent. @returns true when none
   * are left.
   */
  purgeDeletion(taskId: string, at: number): Promise<boolean>;
  /** Null for a task that was not deleted. */
  deletedTask(taskId: string): Promise<DeletedTask | null>;
  /** Deletions that have begun and not ended, the oldest tasks first. */
  openDeletions(limit: number): Promise<DeletedTask[]>;
  /** @param at when it was wished, epoch ms; null = no more. An unknown task is ignored. */
  setKept(taskId: string, at: number | null): Promise<void>;
  isKept(taskId: string): Promise<boolean>;
  /**
   * Tasks that settled before `before` (epoch ms), are not kept, and of whose thread none is open;
   * those that settled first come first.
   */
  tasksToExpire(before: number, limit: number): Promise<string[]>;
  /** Deletions of one owner (null = of all) with a rev above `afterRev`, in their order. */
  deletedSince(userId: string | null, afterRev: number, limit: number): Promise<DeletedTask[]>;
}

/**
 * Up to where people have read their own tasks; contract in test/contract/store/read-marks.ts.
 * A task is unread while its `progress.notable` is above the mark of its owner; without a mark 0.
 */
export interface ReadMarks {
  /**
   * Moves the mark up to `seq`, at most to the end of the log, and gives it a rev of its own.
   * @returns false, with nothing written, when that changes nothing: the task was not unread, stays
   * unread, is another person's, or is not there. So a client may call it as often as it likes.
   */
  markRead(userId: string, taskId: string, seq: number): Promise<boolean>;
  /** The marks of these tasks' owners. Tasks without a mark are left out. */
  readSeqs(taskIds: readonly string[]): Promise<ReadonlyMap<string, number>>;
}

/**
 * Stores tasks. Contract in test/contract/store.ts, one suite for every adapter.
 * - Durability: every write is atomic and resolves after it is durable. Every later read sees it.
 * - Order: writes happen in the order of their calls. Calls of one turn of the event loop may share
 *   a transaction (group commit); a write that fails does not affect the others.
 * - Projections: messages, tool calls and attempts are derived from events and written in the same
 *   transaction (src/store/shared/projection.ts). A second message of a user with a taken id
 *   rejects.
 * - Reads of an unknown id return null or an empty list.
 * - Memory: a page ends at `limit` items, or earlier when the items are large (PAGE_BYTES in
 *   src/core/lib/pagination.ts).
 * - Rows that this version cannot read never make a read reject (rule M11): such a task is returned
 *   as set aside, and is neither due nor claimable; a list shows a placeholder for an item.
 * - One writer: opening a data folder that another process has open throws SlipwayError `locked`.
 * - After `close`, writes reject with SlipwayError `unavailable`.
 */
export interface Store extends Transcripts, Deletions, ReadMarks, PersonDeletions {
  /** Inserts a task. Idempotent by idempotency key; without a key, a taken id rejects. */
  create(task: NewTask): Promise<CreateResult>;
  /**
   * Appends events. @returns the stored task, or null, with nothing written, when `expectedSeq`
   * does not match or the task is settled.
   */
  commit(commit: Commit): Promise<Task | null>;

  task(id: string): Promise<Task | null>;
  tasks(query: TaskQuery): Promise<Page<Task>>;
  tally(query: TallyQuery): Promise<Tally>;
  /** Of the person's newest `among` tasks: their repositories, the last used first. */
  recentRepositories(userId: string, among: number): Promise<RecentRepository[]>;
  /**
   * Tasks of one owner (null = of all) with a rev above `afterRev`, oldest change first.
   * @param reader also those that this person marked read since, with the rev of the mark where
   * that is the later one.
   */
  changes(userId: string | null, afterRev: number, limit: number, reader?: string): Promise<Page<Task>>;
  /** Events with a seq above `seq`, in order. */
  events(taskId: string, seq: number, limit: number, direction?: Direction): Promise<Page<TaskEvent>>;
  /**
   * With these and the end of a log a reader knows where the task is: the events that change the
   * state or whose type is in OUTLINE_TYPES, and the begin of each tool call that has no end.
   */
  outline(taskId: string, afterSeq: number, limit: number): Promise<Page<TaskEvent>>;
  /** The events of a thread's tasks for which `isOfConversation` is true, by task and seq. */
  conversation(query: ConversationQuery): Promise<Page<TaskEvent>>;
  /**
   * The same events, their data as JSON text that was not parsed. A page is bounded by the bytes of
   * that text.
   */
  eventRows(taskId: string, afterSeq: number, limit: number): Promise<Page<EventRow>>;
  /** The events without those that workers sent. */
  eventsOfOthers(taskId: string, afterSeq: number, limit: number): Promise<Page<TaskEvent>>;
  /** Messages with a seq above `seq`, in order. */
  messages(taskId: string, seq: number, limit: number, direction?: Direction): Promise<Page<MessageRow>>;
  /** The user's message with this id, else the assistant's first one. */
  message(taskId: string, messageId: string): Promise<MessageRow | null>;
  /** The user's messages with the status `queued`, in order. */
  queuedMessages(taskId: string): Promise<MessageRow[]>;
  /** Tool calls with a seq above `seq`, in order. */
  toolCalls(taskId: string, seq: number, limit: number, direction?: Direction): Promise<Page<ToolCallRow>>;
  /** The tool call that began with the event of this seq. */
  toolCall(taskId: string, seq: number): Promise<ToolCallRow | null>;
  /** In order of their numbers. */
  attempts(taskId: string): Promise<AttemptRow[]>;
  /**
   * Records the exit code that the coordinator observed. Idempotent: the first known code stays. An
   * unknown attempt is ignored.
   */
  recordExit(taskId: string, attempt: number, exitCode: number | null): Promise<void>;

  /** Ids of all open (not settled) tasks, oldest first. */
  openIds(): Promise<string[]>;
  /** Ids of open tasks whose `dueAt` is at most `now` (epoch ms), most overdue first. */
  due(now: number, limit: number): Promise<string[]>;
  /** The earliest `dueAt` of an open task, epoch ms; null when none has one. */
  nextDue(): Promise<number | null>;
  /**
   * Ids of the queued tasks that get the next `limit` slots, in fair order (rule D8), as many per
   * user as `userLimit` minus the slots the user holds. Null = no limit. Without tasks that
   * `threadAhead` holds back.
   */
  claimable(limit: number, userLimit: number | null): Promise<string[]>;
  /** The oldest task of the same thread that is older than this one and not settled; or null. */
  threadAhead(taskId: string): Promise<string | null>;
  /**
   * By id, how many queued tasks are before each of these while all owners hold equally many slots;
   * 0 = next. Tasks that are not queued are left out. The cost is bounded by the length of the
   * queue, however many ids.
   */
  positions(taskIds: readonly string[]): Promise<ReadonlyMap<string, number>>;
  /**
   * When the user's n-th newest task was created, epoch ms; null when there are fewer. n >= 1.
   * Deleted tasks count, here and in `taskLoad`.
   */
  newestTaskAt(userId: string, n: number): Promise<number | null>;
  /** Number of a user's tasks that are not settled, and that are newer than `since` (epoch ms). */
  taskLoad(userId: string, since: number): Promise<{ readonly open: number; readonly since: number }>;
  /** The owners of these tasks. Unknown tasks, and those whose deletion has ended, are omitted. */
  taskOwners(taskIds: readonly string[]): Promise<ReadonlyMap<string, string>>;
  /** True when a task was created with this key. */
  hasIdempotencyKey(userId: string, key: string): Promise<boolean>;
  /** Number of tasks that hold a slot, of one user or of all. */
  slotsHeld(userId?: string): Promise<number>;
  /** Number of tasks per state, and when the oldest open task was created (epoch ms). */
  counts(): Promise<{ readonly byState: Readonly<Record<TaskState, number>>; readonly oldestOpenAt: number | null }>;

  /** Open tasks that this version cannot read, and settled ones that were read since the start. */
  setAside(): Promise<readonly { readonly id: string; readonly reason: string }[]>;
  /** A small durable setting, such as "the queue is paused"; null when it is not set. */
  setting(key: string): Promise<string | null>;
  /** Null deletes the setting. */
  setSetting(key: string, value: string | null): Promise<void>;
  /** Does one small write and one read; rejects when the store does not work. */
  ping(): Promise<void>;
  /** Completes pending writes and releases the data folder. Idempotent. */
  close(): Promise<void>;
}
