/** What `slipway doctor` finds, and the rules that it checks. */

/**
 * How `doctor --repair` corrects a finding:
 * - `task`: the task's columns, snapshot, messages, calls and attempts are derived from its log
 * - `schema`: triggers and indexes are made again, and tables that are derived from logs
 * - `index`: indexes are built again
 * - `pages`: the file is written again without pages that nothing uses
 * - `orphans`: rows of accounts and projections that belong to no row are deleted
 * - `ledger`: the missing row is derived from the `usage` event
 * - `search`: the search index is built again from the tasks' texts
 * - `mirror`: the mirror is marked, and its next use fetches it in full
 * - `lock`: the lock file of a git that has ended is removed
 */
export type Repair =
  | "task"
  | "schema"
  | "index"
  | "pages"
  | "revs"
  | "tallies"
  | "orphans"
  | "ledger"
  | "search"
  | "permissions"
  | "mirror"
  | "lock";

export interface Finding {
  /** The rule of docs/spec.md, or the part that was checked. */
  readonly rule: string;
  /** "-" = the installation. */
  readonly taskId: string;
  readonly detail: string;
  /** Null = it cannot be derived from what is stored. */
  readonly repair: Repair | null;
}

/** The rules that stored data can prove, in the order of the report. */
export const RULES = {
  T1: "each snapshot is the fold of its log",
  T2: "nothing follows the end of a task",
  T4: "each log is whole and in order",
  T5: "attempts grow by one and stay within their number",
  T6: "each event carries the attempt of its time",
  T7: "each change of state is one that a task may make",
  R7: "no task is half deleted",
  R9: "no person is half deleted",
  R5: "no user's message is in a log twice",
  W1: "each worker's events are whole",
  W4: "saved work is in the task's repository",
  W7: "mirrors and repositories of tasks have all objects, or are marked to be fetched again",
  D1: "one sandbox per attempt, one running per task",
  D3: "no sandbox outlives its task, no running task lacks one",
  D4: "the slots never exceeded their number, and are stored as the states give them",
  D6: "each deadline is stored as the snapshot gives it",
  G3: "each usage event has its row in the ledger",
  U4: "the attachments of tasks are there, whole",
  X1: "each transcript is whole and in order",
  M3: "each task has a machine version that this Slipway knows",
  M4: "lists and columns that repeat a log say what the log says",
  M5: "no two tasks share a revision",
  H9: "the audit log is whole and in order",
  M6: "the file is whole, its schema is that of the migrations, and every row belongs to one that exists",
} as const;
