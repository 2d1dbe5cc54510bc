/**
 * `slipway doctor --repair`: corrects what follows from the logs and specifications.
 *
 * P1 No coordinator runs meanwhile: the folder is locked.
 * P2 The database is copied before its first change.
 * P3 The log is never changed. A task whose log is damaged, or has lost its end, stays as it is.
 * P4 Idempotent: a second run finds nothing to repair.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { searchableText } from "../../store/shared/task-record.ts";
import { openRepairs, type Repairs } from "../../store/sqlite/inspection/repairs.ts";
import { lockFolder } from "../../store/sqlite/lock.ts";
import { checkDatabase, EXPENDABLE, type DatabaseReport } from "./checks/database.ts";
import { deriveColumns, FoldedLog, isDerivable, readSpec } from "./checks/task.ts";
import { repairFiles } from "./checks/files.ts";
import type { Finding } from "./finding.ts";
import { findCandidate, matchLedger } from "./checks/ledger-match.ts";

export interface RepairReport {
  /** The copy of the database from before; null = the database was not changed. */
  readonly backup: string | null;
  readonly repaired: readonly Finding[];
}

/** A repair may reveal what could not be checked before it, such as the rows of a missing table. */
const ROUNDS = 3;

/**
 * @param now epoch ms, for the name of the copy.
 * @throws SlipwayError `locked` while a coordinator uses the folder.
 */
export async function repairFolder(options: {
  readonly dir: string;
  readonly migrations: string;
  readonly maxConcurrent: number;
  readonly now: number;
  /** More repairs under the folder's lock; returns what it repaired. */
  readonly besides: () => Promise<readonly Finding[]>;
}): Promise<RepairReport> {
  const { dir, migrations, maxConcurrent, now, besides } = options;
  const lock = lockFolder(dir);
  try {
    const repairs = openRepairs(dir, migrations);
    try {
      const { backup, repaired } = await repairInRounds(repairs, maxConcurrent, () => backUp(repairs, dir, now));
      return { backup, repaired: [...repairFiles(dir), ...(await besides()), ...repaired] };
    } finally {
      repairs.close();
    }
  } finally {
    lock.release();
  }
}

async function repairInRounds(
  repairs: Repairs,
  maxConcurrent: number,
  copy: () => Promise<string>,
): Promise<RepairReport> {
  let backup: string | null = null;
  const repaired = new Map<string, Finding>();
  for (let round = 0; ; round += 1) {
    const report = checkDatabase(repairs.inspection, maxConcurrent);
    const due = findRepairable(report);
    const left = new Set(report.findings.map(keyOf));
    if (due.length === 0 || round === ROUNDS) {
      const gone = [...repaired].filter(([key]) => !left.has(key));
      return { backup, repaired: gone.map(([, finding]) => finding) };
    }
    backup ??= await copy();
    repairs.transaction(() => apply(repairs, due));
    if (due.some((finding) => finding.repair === "pages")) repairs.compact();
    for (const finding of due) repaired.set(keyOf(finding), finding);
  }
}

/** Nothing, when the file is damaged: only a backup helps then. */
function findRepairable({ findings, isDamaged }: DatabaseReport): Finding[] {
  return isDamaged ? [] : findings.filter(({ repair }) => repair !== null);
}

const keyOf = ({ rule, taskId, detail }: Finding): string => [rule, taskId, detail].join("\n");

async function backUp(repairs: Repairs, dir: string, now: number): Promise<string> {
  const folder = join(dir, "backups");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, `slipway-${new Date(now).toISOString().replaceAll(/[:.]/g, "-")}.db`);
  await repairs.backUp(path);
  return path;
}

/** The transaction itself brings the schema in order. */
function apply(repairs: Repairs, findings: readonly Finding[]): void {
  const idsFor = (kind: Finding["repair"]): Set<string> =>
    new Set(findings.filter(({ repair }) => repair === kind).map(({ taskId }) => taskId));
  if (idsFor("index").size > 0) repairs.reindex();
  if (idsFor("orphans").size > 0) for (const table of EXPENDABLE) repairs.deleteOrphans(table);
  for (const id of idsFor("task")) repairTask(repairs, id);
  for (const id of idsFor("revs")) repairs.renewRev(id);
  for (const id of idsFor("ledger")) repairLedger(repairs, id);
  repairs.countTallies();
  repairs.indexSearch();
}

function repairTask(repairs: Repairs, id: string): void {
  const task = repairs.inspection.task(id);
  if (task === null) return;
  const spec = readSpec(task);
  if (spec !== null) repairs.writeSearch(id, searchableText(spec));
  const log = new FoldedLog(repairs.inspection, task, (text) => text);
  const columns = deriveColumns(task, log);
  if (columns === null || !isDerivable(task, columns)) return;
  repairs.writeTask(id, { ...columns });
  repairs.writeLists(id, log.projections);
}

function repairLedger(repairs: Repairs, id: string): void {
  const task = repairs.inspection.task(id);
  if (task === null) return;
  const { usage } = new FoldedLog(repairs.inspection, task, (text) => text);
  const { missing, unmatched } = matchLedger(usage, repairs.inspection.ledger(id));
  const left = [...unmatched];
  for (const { seq, at, attempt, amounts } of missing) {
    const row = findCandidate(amounts, left);
    if (row === null) {
      const owner = { id: `req_${id}_${seq}`, task_id: id, user_id: task.user_id };
      repairs.insertRequest({ ...owner, ...amounts, attempt, at });
    } else {
      left.splice(left.indexOf(row), 1);
      repairs.writeRequest(row.id, amounts);
    }
  }
}
