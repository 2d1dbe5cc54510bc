/**
 * Checks the rules of docs/spec.md that the ports of the store and of the sandbox can prove, on a
 * running or a stopped installation: for the crash tests after each kill. `slipway doctor` checks
 * the rows themselves as well (src/app/checker/). A violation names the rule and the task.
 */
import { stateOf } from "../../machines/fold.ts";
import { readLog, readTasks } from "./read-lists.ts";
import { findExcess, LogCheck, type SlotChange } from "./checks/log-check.ts";
import { checkSandboxes } from "./checks/sandbox-check.ts";
import type { Store } from "../core/ports/store.ts";
import type { Task } from "../core/task.ts";
import type { Sandbox } from "../core/ports/sandbox.ts";

export interface Violation {
  readonly rule: string;
  /** "-" = the installation. */
  readonly taskId: string;
  readonly detail: string;
}

export interface InvariantDeps {
  readonly store: Pick<Store, "tasks" | "task" | "events" | "attempts" | "slotsHeld">;
  /** Null = the engine is not checked. */
  readonly sandbox: Pick<Sandbox, "list"> | null;
  readonly maxConcurrent: number;
}

export interface InvariantReport {
  readonly tasks: number;
  readonly events: number;
  readonly violations: readonly Violation[];
}

export async function checkInvariants(deps: InvariantDeps): Promise<InvariantReport> {
  const violations: Violation[] = [];
  const slotChanges: SlotChange[] = [];
  let tasks = 0;
  let events = 0;
  for await (const task of readTasks(deps.store, { userId: null })) {
    const check = await checkTask(deps.store, task);
    const found = [...check.findings, ...(await checkAttempts(deps.store, task))];
    violations.push(...found.map((one) => ({ taskId: task.id, ...one })));
    slotChanges.push(...check.slotChanges);
    tasks += 1;
    events += check.count;
  }
  const excess = findExcess(slotChanges, deps.maxConcurrent);
  if (excess !== null) violations.push({ taskId: "-", ...excess });
  const snapshotOf = async (id: string) => (await deps.store.task(id))?.snapshot ?? null;
  if (deps.sandbox !== null) violations.push(...(await checkSandboxes(deps.sandbox, snapshotOf)));
  return { tasks, events, violations };
}

/** Events that a running server records after `task` was read are left out. */
async function checkTask(store: InvariantDeps["store"], task: Task): Promise<LogCheck> {
  const check = new LogCheck();
  for await (const event of readLog(store, task.id)) {
    if (event.seq > task.seq) break;
    check.add(event);
  }
  check.end();
  const broken = (rule: string, detail: string): void => void check.findings.push({ rule, detail });
  if (check.snapshot !== null && JSON.stringify(check.snapshot) !== JSON.stringify(task.snapshot))
    broken("T1", "the stored snapshot is not the fold of the stored events");
  if (stateOf(task.snapshot) !== task.state)
    broken("T1", `the column says ${task.state}, the snapshot ${stateOf(task.snapshot)}`);
  if (check.count !== task.seq) broken("T4", `seq is ${task.seq}, but the log has ${check.count} events`);
  return check;
}

async function checkAttempts(store: InvariantDeps["store"], task: Task) {
  const { attempt } = task.snapshot.context;
  const rows = (await store.attempts(task.id)).filter(({ number }) => number <= attempt);
  const right = rows.length === attempt && rows.every((row, i) => row.number === i + 1);
  return right ? [] : [{ rule: "T5", detail: `${rows.length} attempt rows for ${attempt} attempts` }];
}
