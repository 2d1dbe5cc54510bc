/**
 * Checks a whole database: SQLite's own check, the schema, each task against its log, and what
 * concerns all tasks. Memory does not grow with the length of the logs.
 */
import { holdsSlot } from "../../../../machines/fold.ts";
import { findExcess, type SlotChange } from "../../../coordinator/checks/log-check.ts";
import { errorMessage } from "../../../core/error.ts";
import { isSettledState, type Snapshot, type TaskState } from "../../../core/task.ts";
import type { Inspection } from "../../../store/sqlite/inspection/inspection.ts";
import { DERIVED_TABLES } from "../../../store/sqlite/inspection/schema.ts";
import { checkTask } from "./task.ts";
import type { Finding } from "../finding.ts";

/** A task, and the commits that its repository must contain. */
export interface SavedWork {
  readonly taskId: string;
  readonly commits: readonly string[];
  /** Null = the task is open. */
  readonly settledAt: number | null;
}

export interface DatabaseReport {
  readonly tasks: number;
  readonly events: number;
  readonly findings: readonly Finding[];
  readonly savedWork: readonly SavedWork[];
  /** Tasks that hold a slot. */
  readonly active: ReadonlyMap<string, Snapshot>;
  readonly newestTaskAt: number;
  /** The file itself is damaged: what it holds cannot be relied upon. */
  readonly isDamaged: boolean;
}

/**
 * Tables whose orphaned rows may be deleted. Orphaned specifications, transcripts and logs are
 * kept.
 */
export const EXPENDABLE: ReadonlySet<string> = new Set([
  ...DERIVED_TABLES,
  "idempotency_keys",
  "sessions",
  "tokens",
  "credentials",
  "repository_variables",
  "task_reads",
]);

/** @throws SqliteError when the file is not a database. */
export function checkDatabase(inspection: Inspection, maxConcurrent: number): DatabaseReport {
  const check = new DatabaseCheck(inspection);
  check.file();
  if (!check.schema()) check.rows(maxConcurrent);
  return check;
}

class DatabaseCheck implements DatabaseReport {
  tasks = 0;
  events = 0;
  newestTaskAt = 0;
  isDamaged = false;
  readonly findings: Finding[] = [];
  readonly savedWork: SavedWork[] = [];
  readonly active = new Map<string, Snapshot>();
  readonly #inspection: Inspection;
  readonly #slotChanges: SlotChange[] = [];

  constructor(inspection: Inspection) {
    this.#inspection = inspection;
  }

  #report(rule: string, taskId: string, detail: string, repair: Finding["repair"]): void {
    this.findings.push({ rule, taskId, detail, repair });
  }

  file(): void {
    for (const line of this.#inspection.damage()) {
      const repair = / index |^fts5: /.test(line) ? "index" : isLostPages(line) ? "pages" : null;
      // Of a row: "CHECK constraint failed in tasks", "NULL value in tasks.seq".
      this.isDamaged ||= repair === null && !/constraint failed in|value in/.test(line);
      this.#report("M6", "-", `SQLite reports: ${line.replaceAll("\n", ", ")}`, repair);
    }
  }

  /** @returns true when a table is missing, so that rows cannot be checked. */
  schema(): boolean {
    let isTableMissing = false;
    for (const { kind, type, name } of this.#inspection.schema()) {
      const isTable = type === "table";
      const repairable = isTable ? kind === "missing" && DERIVED_TABLES.has(name) : type !== "view";
      if (isTable && kind === "unknown") continue;
      isTableMissing ||= isTable && kind === "missing";
      const detail = `the ${type} ${name} is ${kind === "unknown" ? "not one of the migrations'" : kind}`;
      this.#report("M6", "-", detail, repairable ? "schema" : null);
    }
    return isTableMissing;
  }

  rows(maxConcurrent: number): void {
    for (const id of this.#inspection.taskIds()) this.#inspection.within(() => this.#task(id));
    this.#inspection.within(() => this.#whole(maxConcurrent));
  }

  #task(id: string): void {
    const task = this.#inspection.task(id);
    if (task === null) return;
    this.tasks += 1;
    this.newestTaskAt = Math.max(this.newestTaskAt, task.created_at);
    try {
      const { findings, slotChanges, events, snapshot, commits } = checkTask(this.#inspection, task);
      this.events += events;
      this.findings.push(...findings);
      this.#slotChanges.push(...slotChanges);
      if (snapshot !== null && holdsSlot(snapshot)) this.active.set(id, snapshot);
      const settledAt = isSettledState(task.state as TaskState) ? task.updated_at : null;
      if (commits.length > 0) this.savedWork.push({ taskId: id, commits, settledAt });
    } catch (error) {
      this.#report("M6", id, `its rows cannot be read: ${errorMessage(error)}`, null);
    }
  }

  #whole(maxConcurrent: number): void {
    const excess = findExcess(this.#slotChanges, maxConcurrent);
    if (excess !== null) this.#report(excess.rule, "-", excess.detail, null);
    for (const { id, rev } of this.#inspection.repeatedRevs())
      this.#report("M5", id, `another task has its revision ${rev} too`, "revs");
    for (const { state, tally, tasks } of this.#inspection.wrongTallies())
      this.#report("M4", "-", `the tally of ${state} is ${tally}, but ${tasks} tasks are`, "tallies");
    this.#searchIndex();
    for (const { table, parent, rows } of this.#inspection.orphans())
      this.#report(
        "M6",
        "-",
        `${rows} ${table === "task_events" ? "logs" : `rows of ${table}`} belong to no row of ${parent}`,
        EXPENDABLE.has(table) ? "orphans" : null,
      );
    for (const id of this.#inspection.halfDeleted())
      this.#report("R7", id, "its deletion has begun and not ended: a running server goes on with it", null);
    for (const id of this.#inspection.halfDeletedPeople())
      this.#report("R9", "-", `the deletion of ${id} has begun and not ended: a running server goes on with it`, null);
    for (const { taskId, detail } of this.#inspection.transcriptFaults()) this.#report("X1", taskId, detail, null);
    const fault = this.#inspection.auditFault();
    if (fault !== null) this.#report("H9", "-", fault, null);
    for (const id of this.#inspection.foreignKeys())
      this.#report("R5", id, "an idempotency key of another user leads to it", null);
  }

  #searchIndex(): void {
    try {
      const { missing, left } = this.#inspection.searchFaults();
      const [first] = missing;
      if (first !== undefined)
        this.#report("M4", "-", `the search index lacks ${countTasks(missing.length)}, ${first} first`, "search");
      if (left > 0) this.#report("M4", "-", `the search index has ${countTasks(left)} that do not exist`, "search");
    } catch (error) {
      this.#report("M4", "-", `the search index cannot be read: ${errorMessage(error)}`, "search");
    }
  }
}

/** Of tasks that an index does not find, or that are gone. */
const countTasks = (n: number): string => (n === 1 ? "one task" : `${n} tasks`);

/** Pages that hold nothing and are not free either: only space is lost. */
function isLostPages(line: string): boolean {
  const [head = "", ...pages] = line.split("\n");
  return head.startsWith("***") && pages.every((page) => /^Page \d+: never used$/.test(page));
}
