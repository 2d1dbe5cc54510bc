/**
 * Checks what is stored about one task against its log: the snapshot, each column, the lists of
 * messages, tool calls and attempts, and the usage ledger. The log is read once, row by row.
 */
import { createHash } from "node:crypto";
import { holdsSlot, stateOf } from "../../../../machines/fold.ts";
import { TASK_MACHINE_VERSION } from "../../../../machines/task.ts";
import { LogCheck, type SlotChange } from "../../../coordinator/checks/log-check.ts";
import { errorMessage } from "../../../core/error.ts";
import type { TaskEvent } from "../../../core/event.ts";
import { isSettledState, NO_PROGRESS, type Snapshot, type TaskProgress, type TaskSpec } from "../../../core/task.ts";
import { computeRank } from "../../../store/shared/fair-queue.ts";
import type { Inspection, RawTask } from "../../../store/sqlite/inspection/inspection.ts";
import { LogProjections } from "../../../store/sqlite/inspection/log-projections.ts";
import { mergeProgress, projectProgress } from "../../../store/shared/progress.ts";
import { toProgressRow, toTaskEvent } from "../../../store/sqlite/tables/rows.ts";
import { searchableText } from "../../../store/shared/task-record.ts";
import { readSpec as readStoredSpec } from "../../../store/shared/unreadable.ts";
import type { Finding } from "../finding.ts";
import { matchLedger, toRequestUsage, type RequestUsage } from "./ledger-match.ts";

export interface TaskReport {
  readonly findings: readonly Finding[];
  readonly slotChanges: readonly SlotChange[];
  readonly events: number;
  /** The fold of the log; null when the log is damaged. */
  readonly snapshot: Snapshot | null;
  /** Commits that the task's own worker saved. */
  readonly commits: readonly string[];
}

/** The columns of `tasks` that follow from the log and the specification. */
export type DerivedColumns = Omit<RawTask, "id" | "user_id" | "machine_version" | "turn" | "rev" | "spec" | "search">;

/** The rule that a wrong column breaks. */
const COLUMN_RULES: Readonly<Record<keyof DerivedColumns, string>> = {
  snapshot: "T1",
  state: "T1",
  seq: "T4",
  attempt: "T5",
  excused: "T5",
  slot: "D4",
  due_at: "D6",
  priority: "M4",
  rank: "M4",
  created_at: "M4",
  updated_at: "M4",
  started_at: "M4",
  settled_at: "M4",
  todo: "M4",
  changes: "M4",
  activity: "M4",
  notable: "M4",
};

/** Characters of a task's lists that are kept as they are. The rest is kept as digests. */
const KEPT_CHARACTERS = 16 * 1024 * 1024;
/** Longer texts have a digest. */
const DIGESTED_FROM = 64;

/** Idempotent. Half a surrogate pair, which a worker may send, is not stored as it came. */
function digest(text: string): string {
  const comparable = text.replaceAll(/[\p{Surrogate}\ufffd]+/gu, "\ufffd");
  return comparable.length <= DIGESTED_FROM ? comparable : createHash("sha1").update(comparable).digest("base64");
}

/** Bounds the memory for the lists of one task, however long its log is. */
function createShortener(): (text: string) => string {
  let left = KEPT_CHARACTERS;
  return (text) => {
    left -= text.length;
    return left > 0 ? text : digest(text);
  };
}

export function checkTask(inspection: Inspection, task: RawTask): TaskReport {
  return new TaskCheck(inspection, task).run();
}

const PROGRESS = new Set<keyof DerivedColumns>(["todo", "changes", "activity"]);

/**
 * Migration 6 wrote `todo` and `changes` of earlier logs as SQLite writes JSON, and no `activity`;
 * migration 23 nothing notable: all of it is read.
 */
function isSameProgress(name: keyof DerivedColumns, stored: unknown, derived: unknown): boolean {
  if (name === "notable") return stored === null;
  if (!PROGRESS.has(name) || typeof derived !== "string") return false;
  if (typeof stored !== "string") return name === "activity";
  try {
    return isSame(JSON.stringify(JSON.parse(stored)), derived);
  } catch {
    return false;
  }
}

/** The task's log, folded in several ways at once. */
export class FoldedLog {
  readonly check = new LogCheck();
  readonly projections: LogProjections;
  readonly usage: RequestUsage[] = [];
  readonly saved = new Set<string>();
  progress: TaskProgress = NO_PROGRESS;
  createdAt: number | null = null;

  readonly #ownerId: string;

  constructor(inspection: Inspection, task: Pick<RawTask, "id" | "user_id">, text: (text: string) => string) {
    this.projections = new LogProjections(text);
    this.#ownerId = task.user_id;
    for (const row of inspection.events(task.id)) {
      let event: TaskEvent;
      try {
        event = toTaskEvent(row);
        this.projections.add(event);
      } catch (error) {
        this.check.addUnreadable(row.seq, errorMessage(error));
        continue;
      }
      this.check.add(event);
      this.createdAt ??= event.at;
      this.#note(event);
    }
    this.check.end();
  }

  #note(event: TaskEvent): void {
    const { type, data, workerSeq } = event;
    this.progress = mergeProgress(this.progress, projectProgress([event], this.#ownerId));
    if (type === "usage" && workerSeq === null) this.usage.push(toRequestUsage(event));
    if (type === "checkpoint" || (type === "task.state" && data["reason"] === "finished"))
      this.saved.add(String(data["sha"]));
  }
}

/** Null when the log is damaged, or the specification cannot be read. */
export function deriveColumns(task: RawTask, log: FoldedLog): DerivedColumns | null {
  const { snapshot, lastAt, count, isWhole } = log.check;
  const spec = readSpec(task);
  if (snapshot === null || lastAt === null || log.createdAt === null || spec === null || !isWhole) return null;
  const { context } = snapshot;
  const state = stateOf(snapshot);
  return {
    snapshot: JSON.stringify(snapshot),
    state,
    seq: count,
    attempt: context.attempt,
    excused: context.excused,
    slot: holdsSlot(snapshot) ? 1 : 0,
    due_at: isSettledState(state) ? null : context.dueAt,
    priority: spec.priority,
    rank: computeRank(task.turn, spec.priority),
    created_at: log.createdAt,
    updated_at: lastAt,
    started_at: context.startedAt,
    settled_at: context.settledAt,
    ...toProgressRow(log.progress),
  };
}

export const readSpec = ({ spec }: RawTask): TaskSpec | null => readStoredSpec(spec);

/**
 * True when the row may be derived from the log. A log that lost its end is shorter than the row
 * says: deriving the row from it would lose what only the row still has.
 */
export function isDerivable(task: RawTask, columns: DerivedColumns): boolean {
  return columns.seq >= task.seq || columns.snapshot === task.snapshot;
}

class TaskCheck {
  readonly #inspection: Inspection;
  readonly #task: RawTask;
  readonly #findings: Finding[] = [];
  readonly #log: FoldedLog;

  constructor(inspection: Inspection, task: RawTask) {
    this.#inspection = inspection;
    this.#task = task;
    this.#log = new FoldedLog(inspection, task, createShortener());
  }

  run(): TaskReport {
    const { check } = this.#log;
    for (const { rule, detail } of check.findings) this.#report(rule, detail, null);
    this.#checkFixed();
    const columns = deriveColumns(this.#task, this.#log);
    if (columns === null) this.#checkWithoutFold();
    else this.#checkDerived(columns);
    this.#checkLedger();
    const { snapshot, slotChanges, count: events } = check;
    return { findings: this.#findings, slotChanges, events, snapshot, commits: this.#commits(snapshot) };
  }

  #report(rule: string, detail: string, repair: Finding["repair"]): void {
    this.#findings.push({ rule, taskId: this.#task.id, detail, repair });
  }

  #checkFixed(): void {
    const { machine_version: version, spec, search } = this.#task;
    if (version < 1 || version > TASK_MACHINE_VERSION)
      this.#report("M3", `its machine version is ${version}, this Slipway knows 1 to ${TASK_MACHINE_VERSION}`, null);
    const read = readSpec(this.#task);
    if (read === null)
      this.#report("M6", spec === null ? "it has no specification" : "its specification is damaged", null);
    else if (!isSame(search, searchableText(read)))
      this.#report("M4", "the text that lists search is not its own", "task");
  }

  #checkDerived(columns: DerivedColumns): void {
    const repair = isDerivable(this.#task, columns) ? "task" : null;
    for (const name of Object.keys(COLUMN_RULES) as (keyof DerivedColumns)[]) {
      const stored = this.#task[name];
      const derived = columns[name];
      if (stored === derived || isSameProgress(name, stored, derived)) continue;
      const detail =
        name === "snapshot"
          ? "the stored snapshot is not the fold of the stored events"
          : `the column ${name} says ${stored}, the log ${derived}`;
      this.#report(COLUMN_RULES[name], detail, repair);
    }
    const { id } = this.#task;
    const { messages, toolCalls, attempts, doubles } = this.#log.projections;
    const compare = (rule: string, table: string, differences: string | null): void => {
      if (differences !== null) this.#report(rule, `${table}: ${differences}`, repair);
    };
    const seqOf = ({ seq }: { readonly seq: number }): number => seq;
    const calls = this.#inspection.toolCalls(id);
    compare("M4", "messages", findDifferences(messages, this.#inspection.messages(id), seqOf, doubles.messages));
    compare("M4", "tool_calls", findDifferences(toolCalls, calls, seqOf, doubles.toolCalls));
    const rows = this.#inspection.attempts(id).map((row) => ({ ...row, exit_code: null }));
    compare(
      "T5",
      "attempts",
      findDifferences(attempts, rows, ({ number }) => number, NONE),
    );
  }

  /** The log is damaged, so only the columns of the row are compared with each other. */
  #checkWithoutFold(): void {
    const { seq, state, snapshot } = this.#task;
    const { count } = this.#log.check;
    if (count !== seq) this.#report("T4", `seq is ${seq}, but the log has ${count} events`, null);
    try {
      const stored = stateOf(JSON.parse(snapshot) as Snapshot);
      if (stored !== state) this.#report("T1", `the column says ${state}, the snapshot ${stored}`, null);
    } catch {
      this.#report("T1", "the stored snapshot cannot be read", null);
    }
  }

  /** Rows without an event are no finding: usage after the attempt is not in the log. */
  #checkLedger(): void {
    if (this.#log.usage.length === 0) return;
    const { missing } = matchLedger(this.#log.usage, this.#inspection.ledger(this.#task.id));
    if (missing.length === 0) return;
    const usd = missing.reduce((total, { amounts }) => total + amounts.usd, 0);
    this.#report("G3", `${missing.length} usage events (${usd} US dollars) have no row in the ledger`, "ledger");
  }

  #commits(snapshot: Snapshot | null): string[] {
    const { checkpoint = null, headSha = null } = snapshot?.context ?? {};
    return [checkpoint?.sha ?? null, headSha].filter((sha): sha is string => sha !== null && this.#log.saved.has(sha));
  }
}

const NONE: ReadonlySet<number> = new Set();

/** @param optional keys of rows that may be there or not. */
function findDifferences<R extends object>(
  expected: ReadonlyMap<number, R>,
  stored: Iterable<R>,
  keyOf: (row: R) => number,
  optional: ReadonlySet<number>,
): string | null {
  let found = 0;
  let unknown = 0;
  const changed = new Set<string>();
  let columns: (keyof R & string)[] | null = null;
  for (const row of stored) {
    const want = expected.get(keyOf(row));
    if (want === undefined) {
      if (!optional.has(keyOf(row))) unknown += 1;
      continue;
    }
    found += 1;
    columns ??= Object.keys(want) as (keyof R & string)[];
    for (const column of columns) if (!isSame(row[column], want[column])) changed.add(`${column} of ${keyOf(row)}`);
  }
  const parts = [
    expected.size > found ? `${expected.size - found} rows are missing` : null,
    unknown > 0 ? `${unknown} rows are not in the log` : null,
    changed.size > 0
      ? `changed are ${[...changed].slice(0, 3).join(", ")}${changed.size > 3 ? " and more" : ""}`
      : null,
  ].filter((part) => part !== null);
  return parts.length === 0 ? null : parts.join("; ");
}

const isSame = (stored: unknown, want: unknown): boolean =>
  stored === want || (typeof stored === "string" && typeof want === "string" && digest(stored) === digest(want));
