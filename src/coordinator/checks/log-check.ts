/**
 * Checks one task's log, event by event, so that memory does not grow with the log. What the log
 * gives (the snapshot, the time for which a slot was held) is available at the end.
 */
import { start, step } from "../../../machines/fold.ts";
import { countedAttempts } from "../../../machines/retry-policy.ts";
import { errorMessage } from "../../core/error.ts";
import type { TaskEvent } from "../../core/event.ts";
import { isSettledState, type Snapshot } from "../../core/task.ts";
import { isLegalMove } from "./transitions.ts";

export interface LogFinding {
  readonly rule: string;
  readonly detail: string;
}

/** A change of the number of slots in use. */
export interface SlotChange {
  readonly at: number;
  readonly change: 1 | -1;
}

/** Findings kept per task: one damaged event usually breaks the rules for all that follow. */
const MAX_FINDINGS = 20;

export class LogCheck {
  readonly findings: LogFinding[] = [];
  readonly slotChanges: SlotChange[] = [];
  /** The number of events. */
  count = 0;
  #snapshot: Snapshot | null = null;
  #folds = true;
  #last: TaskEvent | null = null;
  #holdsSlot = false;
  #claims = 0;
  readonly #workerNumbers = new Map<number, number>();
  readonly #messageIds = new Set<string>();

  /** The fold of the log; null when the chart does not accept an event. */
  get snapshot(): Snapshot | null {
    return this.#folds ? this.#snapshot : null;
  }

  /** When the last event was recorded, epoch ms. */
  get lastAt(): number | null {
    return this.#last?.at ?? null;
  }

  /** The log is contiguous and the chart accepts it. */
  get isWhole(): boolean {
    return this.#folds && this.count > 0 && this.#last?.seq === this.count;
  }

  /** Call it in the order of `seq`. */
  add(event: TaskEvent): void {
    this.count += 1;
    this.#checkOrder(event);
    this.#checkAttempt(event);
    this.#checkWorkerNumber(event);
    this.#checkMessage(event);
    this.#fold(event);
    this.#followSlot(event);
    this.#last = event;
  }

  /** An event that cannot be read; nothing after it can be folded. */
  addUnreadable(seq: number, reason: string): void {
    this.count += 1;
    this.#folds = false;
    this.#report("T4", `event ${seq} cannot be read: ${reason}`);
  }

  /** Checks of the whole log, after its last event. */
  end(): void {
    if (this.#snapshot === null || !this.#folds) return;
    const { context } = this.#snapshot;
    if (countedAttempts(context) > context.maxAttempts)
      this.#report("T5", `more than ${context.maxAttempts} attempts count`);
  }

  #report(rule: string, detail: string): void {
    if (this.findings.length < MAX_FINDINGS) this.findings.push({ rule, detail });
  }

  #checkOrder(event: TaskEvent): void {
    const last = this.#last;
    if (event.seq !== this.count) this.#report("T4", `the event after ${this.count - 1} has seq ${event.seq}`);
    if (last === null && event.from !== null) this.#report("T4", `the first event comes from ${event.from}`);
    if (last !== null && event.from !== last.to)
      this.#report("T4", `event ${event.seq} comes from ${event.from}, but the one before went to ${last.to}`);
    if (last !== null && event.at < last.at)
      this.#report("T4", `event ${event.seq} is ${last.at - event.at} ms older than the one before`);
    if (event.from !== null && isSettledState(event.from)) this.#report("T2", `event ${event.seq} follows the end`);
    else if (!isLegalMove(event))
      this.#report("T7", `event ${event.seq} (${event.type}) moves the task from ${event.from} to ${event.to}`);
  }

  #checkAttempt(event: TaskEvent): void {
    if (event.type === "task.state" && event.data["reason"] === "claimed") {
      this.#claims += 1;
      if (event.attempt !== this.#claims) this.#report("T5", `claim ${this.#claims} opened attempt ${event.attempt}`);
    } else if (this.#last !== null && event.attempt !== this.#last.attempt)
      this.#report("T6", `event ${event.seq} carries attempt ${event.attempt} in attempt ${this.#last.attempt}`);
  }

  #checkWorkerNumber({ attempt, workerSeq }: TaskEvent): void {
    if (workerSeq === null) return;
    const last = this.#workerNumbers.get(attempt) ?? 0;
    if (workerSeq !== last + 1)
      this.#report("W1", `worker number ${workerSeq} follows ${last} in attempt ${attempt}: a hole or a double`);
    this.#workerNumbers.set(attempt, workerSeq);
  }

  #checkMessage({ type, seq, data }: TaskEvent): void {
    if (type !== "message" || data["role"] !== "user") return;
    const id = String(data["id"]);
    if (this.#messageIds.has(id)) this.#report("R5", `event ${seq} is the user's message ${id} again`);
    this.#messageIds.add(id);
  }

  #fold(event: TaskEvent): void {
    if (!this.#folds) return;
    try {
      const next: Snapshot | null = this.#snapshot === null ? start(event) : step(this.#snapshot, event);
      if (next === null) throw new Error("it is not accepted");
      this.#snapshot = next;
    } catch (error) {
      this.#folds = false;
      this.#report("T1", `the chart does not accept event ${event.seq}: ${errorMessage(error)}`);
    }
  }

  #followSlot(event: TaskEvent): void {
    const occupied = event.to === "provisioning" || event.to === "cancelling" || event.to === "running";
    const parked = event.to === "running" && (isParking(event) || (event.from === "running" && !this.#holdsSlot));
    const holds = occupied && !parked;
    if (holds !== this.#holdsSlot) this.slotChanges.push({ at: event.at, change: holds ? 1 : -1 });
    this.#holdsSlot = holds;
  }
}

/**
 * A time-out that leaves a task running can only have parked its question, as does a slot that is
 * yielded; the question for more time parks at once.
 */
function isParking({ type, from, data }: TaskEvent): boolean {
  if (type === "question") return data["parks"] === true;
  return type === "task.state" && from === "running" && ["timed_out", "yielded"].includes(String(data["reason"]));
}

/** When more slots were held than there are; null = never. */
export function findExcess(changes: readonly SlotChange[], max: number): LogFinding | null {
  let held = 0;
  // Within one millisecond releases come first: a slot is claimed only after its release was
  // committed.
  for (const { at, change } of [...changes].sort((a, b) => a.at - b.at || a.change - b.change)) {
    held += change;
    if (held > max)
      return { rule: "D4", detail: `${held} slots were held at ${new Date(at).toISOString()}, ${max} are allowed` };
  }
  return null;
}
