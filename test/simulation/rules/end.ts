/**
 * The rules that hold when faults have ceased and time has passed: nothing waits for ever, nothing
 * is lost, nothing happened twice.
 */
import { checkInvariants } from "../../../src/coordinator/invariants.ts";
import type { TaskEvent } from "../../../src/core/event.ts";
import { isSettledState, type Task } from "../../../src/core/task.ts";
import { findUndescribed } from "../../support/coordinator/wire-form.ts";
import type { Simulation } from "../model/simulation.ts";

export async function checkEnd(world: Simulation): Promise<void> {
  const tasks = await readTasks(world);
  checkSettled(world, tasks);
  await checkSlots(world);
  checkUpstream(world, tasks);
  const logs = new Map<string, TaskEvent[]>();
  for (const task of tasks)
    logs.set(task.id, (await world.base.store.events(task.id, 0, 100_000)).items as TaskEvent[]);
  checkPromises(world, tasks, logs);
  await checkMessages(world, tasks);
  for (const text of await findUndescribed(world.base.store)) world.rules.break("V1", text);
  const { maxConcurrent } = world.plan;
  const { violations } = await checkInvariants({ store: world.base.store, sandbox: world.engine, maxConcurrent });
  // The checker orders the slots of different tasks by the wall clock. After that was set back the
  // order is not the true one; the rows are counted at each write as well.
  const isSetBack = world.plan.acts.some((act) => act.do === "clock.jump" && act.ms < 0);
  for (const { rule, taskId, detail } of violations)
    if (rule !== "D4" || !isSetBack) world.rules.break(rule, `doctor: ${taskId}: ${detail}`);
}

export async function readTasks(world: Simulation): Promise<readonly Task[]> {
  return (await world.base.store.tasks({ userId: null, limit: 10_000 })).items;
}

function checkSettled({ rules }: Simulation, tasks: readonly Task[]): void {
  for (const { id, state, snapshot } of tasks)
    if (!isSettledState(state))
      rules.break("D2", `${id} is ${JSON.stringify(snapshot.value)} for ever (due at ${snapshot.context.dueAt})`);
}

async function checkSlots({ rules, base, engine, process }: Simulation): Promise<void> {
  const rows = await base.store.slotsHeld();
  const used = process?.coordinator?.scheduler.slotsUsed() ?? 0;
  if (rows !== 0 || used !== 0) rules.break("D5", `${rows} rows hold a slot, the scheduler counts ${used}`);
  for (const { name, state } of await engine.list()) rules.break("D3", `${name} (${state}) is there at the end`);
}

/** The tasks whose work this task continues or replaces: its parents, and what they began from. */
function lineage(tasks: readonly Task[], taskId: string): Set<string> {
  const found = new Set<string>();
  const open = [taskId];
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    if (found.has(id)) continue;
    found.add(id);
    const task = tasks.find((candidate) => candidate.id === id);
    for (const next of [task?.parentId, task?.snapshot.context.continues])
      if (next !== undefined && next !== null) open.push(next);
  }
  return found;
}

function checkUpstream(world: Simulation, tasks: readonly Task[]): void {
  const { upstream, rules } = world;
  for (const { taskId, from, to, branch } of upstream.updates) {
    if (taskId === null) continue;
    const own = lineage(tasks, taskId);
    const kept = new Set(upstream.history(to));
    for (const sha of upstream.history(from)) {
      const by = upstream.commits.get(sha)?.by ?? "";
      if (!kept.has(sha) && !own.has(by))
        rules.break("W5", `the push of ${taskId} to ${branch} lost a commit of ${by}`);
    }
  }
  for (const { id, state, snapshot } of tasks) {
    const { outcome, headSha } = snapshot.context;
    if (outcome !== "pushed" && state !== "done") continue;
    if (outcome === "no_changes" || headSha === null) continue;
    const arrivals = upstream.updates.filter(({ taskId, to }) => taskId !== null && to === headSha);
    // A task that continues another pushes the other's commits below its own.
    const reached = arrivals.length > 0 || upstream.updates.some(({ to }) => upstream.history(to).includes(headSha));
    if (!reached) rules.break("W5", `${id} is done, and its commit never reached the upstream`);
    const branch = rules.branches.get(id);
    const isMoved = upstream.updates.some((update) => update.taskId === null && update.branch === branch);
    if (arrivals.length > 1 && !isMoved) rules.break("W5", `the commit of ${id} was pushed ${arrivals.length} times`);
  }
}

/** Each key had one effect, and what was promised is there. */
function checkPromises({ people, rules }: Simulation, tasks: readonly Task[], logs: Map<string, TaskEvent[]>): void {
  const ids = new Set(tasks.map(({ id }) => id));
  const events = [...logs.values()].flat();
  for (const { key, kind, text, results } of people.promises.values()) {
    const made = tasks.filter(({ spec }) => spec.prompt === text);
    const heard = events.filter(
      ({ type, data }) => type === "message" && JSON.stringify(data["content"])?.includes(`"${text}"`),
    );
    if (kind !== "message" && results.size > 1) rules.break("R5", `${kind} ${key} gave ${[...results].join(", ")}`);
    if (made.length > 1) rules.break("R5", `${kind} ${key} made ${made.length} tasks`);
    if (heard.length > 1) rules.break("R5", `${kind} ${key} is ${heard.length} messages`);
    for (const id of results)
      if (!ids.has(id) && !heard.some(({ data }) => data["id"] === id))
        rules.break("R1", `${kind} ${key}: ${id} is gone`);
  }
}

/** A message that was accepted is delivered, taken back, or a task of its own. */
async function checkMessages({ base, rules }: Simulation, tasks: readonly Task[]): Promise<void> {
  const prompts = new Set(tasks.map(({ spec }) => spec.prompt));
  for (const { id, state } of tasks) {
    const { items } = await base.store.messages(id, 0, 10_000);
    for (const { role, status, content, id: messageId } of items) {
      const text = String(content[0]?.["text"]);
      if (role !== "user" || status !== "queued" || prompts.has(text)) continue;
      rules.break("W4", `message ${messageId} (${text}) of ${id} (${state}) was accepted and never heard`);
    }
  }
}
