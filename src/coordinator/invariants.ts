/**
 * Checks the rules of docs/spec.md that stored data can prove, on a running or a stopped
 * installation: for `slipway doctor`, and for the crash tests after each kill. A violation names
 * the rule and the task.
 */
import { fold, holdsSlot, stateOf } from "../../machines/fold.ts";
import { countedAttempts } from "../../machines/retry-policy.ts";
import type { TaskEvent } from "../core/event.ts";
import { readLog, readTasks } from "./read-lists.ts";
import type { Store } from "../core/ports/store.ts";
import { isSettledState, sandboxName, type Task } from "../core/task.ts";
import type { Sandbox } from "../core/ports/sandbox.ts";

export interface Violation {
  readonly rule: string;
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
  const spans: Span[] = [];
  let tasks = 0;
  let events = 0;
  for await (const listed of readTasks(deps.store, { userId: null })) {
    const { task, log } = await readConsistent(deps.store, listed);
    violations.push(...checkTask(task, log), ...(await checkAttempts(deps.store, task)));
    spans.push(...slotSpans(log));
    tasks += 1;
    events += log.length;
  }
  violations.push(...checkCaps(spans, deps.maxConcurrent));
  if (deps.sandbox !== null) violations.push(...(await checkSandboxes(deps.sandbox, deps.store)));
  return { tasks, events, violations };
}

/**
 * The task and its whole log, read until both agree: a running server may write between the two
 * reads.
 */
async function readConsistent(store: InvariantDeps["store"], listed: Task): Promise<{ task: Task; log: TaskEvent[] }> {
  let task = listed;
  for (let round = 0; ; round += 1) {
    const log: TaskEvent[] = [];
    for await (const event of readLog(store, task.id)) log.push(event);
    const again = (await store.task(task.id)) ?? task;
    if (again.seq === task.seq || round === 20)
      return { task: again, log: log.filter((event) => event.seq <= again.seq) };
    task = again;
  }
}

function checkTask(task: Task, log: readonly TaskEvent[]): Violation[] {
  const found: Violation[] = [];
  const broken = (rule: string, detail: string): void => void found.push({ rule, taskId: task.id, detail });
  const folded = fold(log);
  if (folded === null) broken("T1", "the chart does not accept the stored log");
  else if (JSON.stringify(folded) !== JSON.stringify(task.snapshot))
    broken("T1", "the stored snapshot is not the fold of the stored events");
  if (stateOf(task.snapshot) !== task.state)
    broken("T1", `the column says ${task.state}, the snapshot ${stateOf(task.snapshot)}`);
  if (log.length !== task.seq) broken("T4", `seq is ${task.seq}, but the log has ${log.length} events`);
  log.forEach((event, i) => {
    if (event.seq !== i + 1) broken("T4", `the event after ${i} has seq ${event.seq}`);
    if (i > 0 && event.from !== log[i - 1]?.to)
      broken("T4", `event ${event.seq} comes from ${event.from}, but the one before went to ${log[i - 1]?.to}`);
    if (event.from !== null && isSettledState(event.from)) broken("T2", `event ${event.seq} follows the end`);
  });
  const { maxAttempts } = task.snapshot.context;
  if (countedAttempts(task.snapshot.context) > maxAttempts) broken("T5", `more than ${maxAttempts} attempts count`);
  const claims = log.filter((event) => event.type === "task.state" && event.data["reason"] === "claimed");
  claims.forEach(
    (event, i) => event.attempt !== i + 1 && broken("T5", `claim ${i + 1} opened attempt ${event.attempt}`),
  );
  for (const [attempt, numbers] of workerNumbers(log)) {
    if (numbers.some((n, i) => n !== i + 1))
      broken("W1", `the worker numbers of attempt ${attempt} have a hole or a double`);
  }
  return found;
}

function workerNumbers(log: readonly TaskEvent[]): Map<number, number[]> {
  const found = new Map<number, number[]>();
  for (const { attempt, workerSeq } of log) {
    if (workerSeq === null) continue;
    const numbers = found.get(attempt);
    if (numbers === undefined) found.set(attempt, [workerSeq]);
    else numbers.push(workerSeq);
  }
  return found;
}

async function checkAttempts(store: InvariantDeps["store"], task: Task): Promise<Violation[]> {
  const rows = await store.attempts(task.id);
  const right = rows.length === task.snapshot.context.attempt && rows.every((row, i) => row.number === i + 1);
  return right
    ? []
    : [
        {
          rule: "T5",
          taskId: task.id,
          detail: `${rows.length} attempt rows for ${task.snapshot.context.attempt} attempts`,
        },
      ];
}

interface Span {
  readonly at: number;
  readonly change: 1 | -1;
}

/** When the task took a slot and gave it back, derived from its log alone. */
function slotSpans(log: readonly TaskEvent[]): Span[] {
  const spans: Span[] = [];
  let held = false;
  for (const event of log) {
    const occupied = event.to === "provisioning" || event.to === "cancelling" || event.to === "running";
    const holds: boolean =
      occupied && !(event.to === "running" && (isParking(event) || (event.from === "running" && !held)));
    if (holds !== held) spans.push({ at: event.at, change: holds ? 1 : -1 });
    held = holds;
  }
  return spans;
}

/** A time-out that leaves a task running can only have parked its question. */
function isParking({ type, from, data }: TaskEvent): boolean {
  return type === "task.state" && from === "running" && data["reason"] === "timed_out";
}

function checkCaps(spans: readonly Span[], max: number): Violation[] {
  let held = 0;
  // Within one millisecond releases come first: a slot is claimed only after its release was
  // committed.
  for (const { at, change } of [...spans].sort((a, b) => a.at - b.at || a.change - b.change)) {
    held += change;
    if (held > max)
      return [
        {
          rule: "D4",
          taskId: "-",
          detail: `${held} slots were held at ${new Date(at).toISOString()}, ${max} are allowed`,
        },
      ];
  }
  return [];
}

async function checkSandboxes(sandbox: Pick<Sandbox, "list">, store: InvariantDeps["store"]): Promise<Violation[]> {
  const found: Violation[] = [];
  const running = new Map<string, string>();
  for (const { name, taskId, attempt, state } of await sandbox.list()) {
    const task = await store.task(taskId);
    if (name !== sandboxName(taskId, attempt))
      found.push({ rule: "D1", taskId, detail: `sandbox ${name} is not named after its attempt` });
    if (task === null || !holdsSlot(task.snapshot))
      found.push({ rule: "D3", taskId, detail: `sandbox ${name} (${state}) outlived its task` });
    if (state !== "running") continue;
    const other = running.get(taskId);
    if (other !== undefined) found.push({ rule: "D1", taskId, detail: `${other} and ${name} run at once` });
    running.set(taskId, name);
  }
  return found;
}
