/** The rules that hold at each moment, checked at each write and each effect. */
import { fold, holdsSlot, stateOf, step } from "../../../machines/fold.ts";
import type { TaskEvent } from "../../../src/core/event.ts";
import type { FailureCode } from "../../../src/core/failure.ts";
import type { Commit, NewTask } from "../../../src/core/ports/store.ts";
import { isSettledState } from "../../../src/core/task.ts";
import type { Plan } from "../plan.ts";
import type { Faults } from "../model/faults.ts";
import type { Trace } from "../model/trace.ts";
import type { Upstream } from "../model/upstream.ts";
import type { VirtualTime } from "../model/virtual-time.ts";
import { History, type TaskHistory } from "./history.ts";
import { findMistake } from "./justify.ts";

export interface Finding {
  readonly rule: string;
  readonly detail: string;
  /** Virtual ms. */
  readonly at: number;
}

export interface RulesDeps {
  readonly plan: Plan;
  readonly time: VirtualTime;
  readonly trace: Trace;
  readonly faults: Faults;
  readonly upstream: Upstream;
}

/** More lines of a coordinator's log in one second are a loop. */
const LOG_LINES = 150;

export class Rules {
  readonly findings: Finding[] = [];
  readonly history = new History();
  /** Branch of each task, `<repo>#<branch>`. */
  readonly branches = new Map<string, string>();
  readonly #deps: RulesDeps;
  #logged = { second: 0, lines: 0 };

  constructor(deps: RulesDeps) {
    this.#deps = deps;
  }

  break(rule: string, detail: string): void {
    const { time, trace } = this.#deps;
    if (this.findings.some((finding) => finding.rule === rule && finding.detail === detail)) return;
    trace.add(`BROKEN ${rule}: ${detail}`);
    this.findings.push({ rule, detail, at: time.now });
  }

  created({ id, parentId, spec, snapshot, state, event }: NewTask): void {
    const { time, trace } = this.#deps;
    trace.add(`${id} 1 task.submitted ${state} (${spec.prompt})`);
    this.history.add(id, parentId, snapshot, state, time.now);
    this.branches.set(id, `${spec.repo}#${spec.branch}`);
    if (JSON.stringify(fold([event])) !== JSON.stringify(snapshot))
      this.break("T1", `${id}: the first snapshot is wrong`);
  }

  committed({ taskId, events, snapshot, slot }: Commit): void {
    const task = this.history.tasks.get(taskId);
    if (task === undefined) return this.break("T4", `${taskId} has events and was never created`);
    for (const event of events) this.#checkEvent(task, event);
    if (JSON.stringify(task.snapshot) !== JSON.stringify(snapshot))
      this.break("T1", `${taskId} ${task.seq}: the snapshot is not the fold of the log`);
    if (slot !== holdsSlot(snapshot)) this.break("D5", `${taskId}: the row says slot ${slot}, the state another`);
    task.slot = slot;
    const held = this.history.slots();
    if (held > this.#deps.plan.maxConcurrent) this.break("D4", `${held} rows hold a slot`);
  }

  #checkEvent(task: TaskHistory, event: TaskEvent): void {
    const { time, trace } = this.#deps;
    const { seq, type, from, to, data, attempt } = event;
    const what = [data["reason"], data["code"], data["status"], data["id"] ?? data["name"]].filter(Boolean).join(" ");
    trace.add(`${task.id} ${seq} a${attempt} ${type} ${what} ${from === to ? to : `${from} -> ${to}`}`);
    if (seq !== task.seq + 1) this.break("T4", `${task.id}: seq ${seq} follows ${task.seq}`);
    if (from !== task.state) this.break("T4", `${task.id} ${seq}: from ${from}, but the task was ${task.state}`);
    if (isSettledState(task.state)) this.break("T2", `${task.id} ${seq}: an event after the end`);
    const failed = type === "task.state" && (data["reason"] === "failed" || data["reason"] === "timed_out");
    const isFailure = failed && (to === "retrying" || to === "failed") && typeof data["code"] === "string";
    if (isFailure) this.#checkFailure(task, event, data["code"] as FailureCode);
    if (type === "question" && data["parks"] === true) this.#checkFailure(task, event, "deadline_exceeded");
    const next = step(task.snapshot, event);
    if (next === null) this.break("T1", `${task.id} ${seq}: the chart does not accept the event`);
    else task.snapshot = next;
    if (next !== null && stateOf(next) !== to) this.break("T1", `${task.id} ${seq}: the event says ${to}`);
    this.history.note(task, event, time.now);
  }

  #checkFailure(task: TaskHistory, event: TaskEvent, code: FailureCode): void {
    const { plan, time, faults, upstream } = this.#deps;
    const branch = this.branches.get(task.id) ?? "";
    const { policy, livenessMs } = plan;
    const situation = { now: time.now, faults, upstream, policy, livenessMs, task, branch };
    const mistake = findMistake(event, code, situation);
    if (mistake !== null) this.break("T5", `${task.id}: ${mistake}`);
  }

  /** @param known settled tasks that this coordinator knows of. */
  effectBegan(what: string, taskId: string, known: ReadonlySet<string>): void {
    if (known.has(taskId)) this.break("D7", `${what} of ${taskId}, which is settled`);
  }

  sandboxCreated(taskId: string, name: string, running: readonly string[]): void {
    const other = running.find((one) => one !== name);
    if (other !== undefined) this.break("D1", `${name} is created for ${taskId} while ${other} runs`);
  }

  logged(level: string, fields: object, text: string): void {
    const { time, trace } = this.#deps;
    trace.add(`log ${level}: ${text} ${JSON.stringify(fields, toText).slice(0, 200)}`);
    const second = Math.floor(time.now / 1_000);
    this.#logged = { second, lines: this.#logged.second === second ? this.#logged.lines + 1 : 1 };
    if (this.#logged.lines > LOG_LINES) this.break("loop", `the coordinator logs without end: ${text}`);
  }
}

const toText = (_key: string, value: unknown): unknown => (value instanceof Error ? value.message : value);
