/**
 * Maps SQLite rows to the types of the store port. Data is validated before it is written, so the
 * casts of parsed JSON are safe.
 */
import type { EventData, EventRow, EventType, TaskEvent } from "../../../core/event.ts";
import type { AttemptRow, MessageRow, NewTask, ToolCallRow } from "../../../core/ports/store.ts";
import type { Snapshot, Task, TaskProgress, TaskState } from "../../../core/task.ts";
import { projectProgress } from "../../shared/progress.ts";
import { makeTask, searchableText, type TaskCore } from "../../shared/task-record.ts";
import {
  makeSubstitute,
  parseOr,
  readSpec,
  UNKNOWN_SPEC,
  UNREADABLE_EVENT,
  UNREADABLE_MESSAGE,
  type ExplainUnreadable,
} from "../../shared/unreadable.ts";

const MAX_CORES = 1_024;
const MAX_CHARACTERS = 8 * 1024 * 1024;

/**
 * An LRU cache of task cores, which saves parsing the spec with each event. Bounded
 * in entries and in characters.
 */
export class CoreCache {
  readonly #cores = new Map<string, TaskCore>();
  #text = 0;

  get(id: string): TaskCore | undefined {
    const core = this.#cores.get(id);
    if (core !== undefined) {
      this.#cores.delete(id);
      this.#cores.set(id, core);
    }
    return core;
  }

  set(id: string, core: TaskCore): void {
    this.drop(id);
    this.#cores.set(id, core);
    this.#text += core.size;
    for (const oldest of this.#cores.keys()) {
      if (this.#cores.size <= MAX_CORES && this.#text <= MAX_CHARACTERS) return;
      this.drop(oldest);
    }
  }

  drop(id: string): void {
    this.#text -= this.#cores.get(id)?.size ?? 0;
    this.#cores.delete(id);
  }
}

export interface CoreRow {
  user_id: string;
  thread_id: string;
  parent_id: string | null;
  machine_version: number;
  created_at: number;
  /** Null = there is none. */
  spec: string | null;
}

/** A task to insert, with its specification as JSON: it goes to the writer thread as a text. */
export interface NewTaskRow extends Omit<NewTask, "spec"> {
  readonly spec: string;
  readonly search: string;
  readonly priority: number;
  readonly notable: number | null;
}

export function toNewTaskRow({ spec, ...task }: NewTask): NewTaskRow {
  const { notable } = projectProgress([task.event], task.userId);
  return { ...task, spec: JSON.stringify(spec), search: searchableText(spec), priority: spec.priority, notable };
}

export function toTaskCore(row: CoreRow): TaskCore {
  const spec = readSpec(row.spec);
  return {
    userId: row.user_id,
    threadId: row.thread_id,
    parentId: row.parent_id,
    spec: spec ?? UNKNOWN_SPEC,
    lacksSpec: spec === null,
    machineVersion: row.machine_version,
    createdAt: row.created_at,
    size: row.spec?.length ?? 0,
  };
}

/** The columns of a StateRow, selected from `tasks AS t`. */
export const STATE_COLUMNS =
  "t.id, t.state, t.seq, t.rev, t.updated_at, t.snapshot, t.todo, t.changes, t.activity, t.notable";

/**
 * JSON; null = nothing yet. `activity` and `notable` are null too for what an earlier version
 * recorded.
 */
export interface ProgressRow {
  todo: string | null;
  changes: string | null;
  activity: string | null;
  notable: number | null;
}

/** What cannot be read is unknown. */
export function toProgress({ todo, changes, activity, notable }: ProgressRow): TaskProgress {
  return { todo: parseOr(todo, null), changes: parseOr(changes, null), activity: parseOr(activity, null), notable };
}

export function toProgressRow({ todo, changes, activity, notable }: TaskProgress): ProgressRow {
  const toJson = (value: object | null): string | null => (value === null ? null : JSON.stringify(value));
  return { todo: toJson(todo), changes: toJson(changes), activity: toJson(activity), notable };
}

/** The part of a task that changes with its log. */
export interface StateRow extends ProgressRow {
  id: string;
  state: TaskState;
  seq: number;
  rev: number;
  updated_at: number;
  snapshot: string;
}

/** A task of a row that cannot be read is set aside (rule M11). */
export function toTask(row: StateRow, core: TaskCore, explain: ExplainUnreadable): Task {
  const { id, state, seq, rev, updated_at: updatedAt } = row;
  const snapshot = parseOr<Snapshot | null>(row.snapshot, null);
  const reason = core.lacksSpec
    ? "what was submitted is damaged or missing (its specification)"
    : explain(core.machineVersion, snapshot);
  if (reason === null && snapshot !== null)
    return makeTask(id, core, snapshot, toProgress(row), state, seq, rev, updatedAt);
  const setAside = { reason: reason ?? "its snapshot is damaged", hasSpec: core.lacksSpec !== true };
  const substitute = makeSubstitute(row, setAside.reason);
  return { ...makeTask(id, core, substitute, toProgress(row), "failed", seq, rev, updatedAt), setAside };
}

export interface EventRecord {
  task_id: string;
  seq: number;
  at: number;
  attempt: number;
  type: EventType;
  from_state: TaskState | null;
  to_state: TaskState;
  worker_seq: number | null;
  data: string;
}

/**
 * The columns of an EventRecord, with the bytes of `data`, which SQLite knows without reading it.
 */
export const EVENT_COLUMNS = "*, octet_length(data) AS data_bytes, json_valid(data) AS is_valid";

export type EventTextRecord = EventRecord & { data_bytes: number; is_valid: 0 | 1 };

/** An event that cannot be read becomes a notice that says so. */
export function toEventRow({ is_valid: isValid, data_bytes: dataBytes, ...found }: EventTextRecord): EventRow {
  const row = isValid === 1 ? found : { ...found, ...UNREADABLE_EVENT };
  return {
    taskId: row.task_id,
    seq: row.seq,
    at: row.at,
    attempt: row.attempt,
    type: row.type,
    from: row.from_state,
    to: row.to_state,
    data: row.data,
    dataBytes: isValid === 1 ? dataBytes : row.data.length,
    workerSeq: row.worker_seq,
  };
}

/** The same as toTaskEvent, but for an event that cannot be read: a notice that says so. */
export function toReadableEvent(row: EventRecord): TaskEvent {
  try {
    return toTaskEvent(row);
  } catch {
    return toTaskEvent({ ...row, ...UNREADABLE_EVENT });
  }
}

/** @throws SyntaxError when the data cannot be read. */
export function toTaskEvent(row: EventRecord): TaskEvent {
  return {
    taskId: row.task_id,
    seq: row.seq,
    at: row.at,
    attempt: row.attempt,
    type: row.type,
    from: row.from_state,
    to: row.to_state,
    data: JSON.parse(row.data) as EventData,
    workerSeq: row.worker_seq,
  };
}

export interface MessageRecord {
  task_id: string;
  seq: number;
  id: string;
  at: number;
  role: MessageRow["role"];
  mode: MessageRow["mode"];
  status: MessageRow["status"];
  content: string;
}

export function toMessageRow(row: MessageRecord): MessageRow {
  const { id, task_id: taskId, seq, at, role, mode, status } = row;
  return { id, taskId, seq, at, role, content: parseOr(row.content, UNREADABLE_MESSAGE), mode, status };
}

export interface ToolCallRecord {
  task_id: string;
  seq: number;
  attempt: number;
  id: string;
  name: string;
  input: string;
  started_at: number;
  ended_at: number | null;
  output: string | null;
  exit_code: number | null;
  truncated: 0 | 1;
}

export function toToolCallRow(row: ToolCallRecord): ToolCallRow {
  return {
    id: row.id,
    taskId: row.task_id,
    attempt: row.attempt,
    seq: row.seq,
    name: row.name,
    input: parseOr<EventData>(row.input, {}),
    startedAt: row.started_at,
    endedAt: row.ended_at,
    output: row.output,
    exitCode: row.exit_code,
    truncated: row.truncated === 1,
  };
}

export interface AttemptRecord {
  task_id: string;
  number: number;
  container: string;
  started_at: number;
  ended_at: number | null;
  exit_code: number | null;
  failure: string | null;
}

export function toAttemptRow(row: AttemptRecord): AttemptRow {
  return {
    taskId: row.task_id,
    number: row.number,
    container: row.container,
    startedAt: row.started_at,
    endedAt: row.ended_at,
    exitCode: row.exit_code,
    failure: row.failure,
  };
}
