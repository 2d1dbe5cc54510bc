/**
 * The order in which model requests are admitted (rule P1 of the budget service). A request that
 * waits holds nothing, so requests of one budget never wait for those of another in a circle.
 */
import { SlipwayError } from "../../../core/error.ts";
import type { Clock } from "../../../core/ports/runtime.ts";
import type { Store } from "../../../core/ports/store.ts";
import type { Task } from "../../../core/task.ts";
import { assertMaySpend } from "../current-attempt.ts";
import { findCrowded, findRefusing, type Account, type Limit, type Refusal } from "./accounts.ts";

/** Longest wait for the requests under way, ms. Below the worker's limit of silence. */
const LONGEST_WAIT_MS = 60_000;

export interface AdmissionQueueDeps {
  readonly store: Pick<Store, "task">;
  readonly clock: Clock;
  limits(task: Task): Promise<readonly Limit[]>;
  /** Called before a request is refused. */
  onRefusal(task: Task, refusal: Refusal): Promise<void>;
}

export interface Applicant {
  readonly id: string;
  readonly taskId: string;
  readonly attempt: number;
  readonly mostUsd: number;
  readonly signal?: AbortSignal;
}

export interface Admitted {
  readonly task: Task;
  readonly limits: readonly Limit[];
}

export class AdmissionQueue {
  readonly #deps: AdmissionQueueDeps;
  /** Of the requests that wait: the task, and what makes it look again. */
  readonly #sleepers = new Map<() => void, string>();
  #tickets = 0;

  constructor(deps: AdmissionQueueDeps) {
    this.#deps = deps;
  }

  /**
   * Resolves once the request holds its reservation in each account.
   * @throws SlipwayError as `ModelBudget.admit`; the signal's reason when it is aborted.
   */
  async enter(applicant: Applicant): Promise<Admitted> {
    const { id, taskId, attempt, mostUsd, signal } = applicant;
    const ticket = ++this.#tickets;
    const end = this.#deps.clock.monotonic() + LONGEST_WAIT_MS;
    let crowded: Account | null = null;
    try {
      for (;;) {
        const task = await this.#deps.store.task(taskId);
        assertMaySpend(task, attempt);
        const limits = await this.#deps.limits(task);
        signal?.throwIfAborted();
        const refusal = findRefusing(limits);
        if (refusal !== null) {
          await this.#deps.onRefusal(task, refusal);
          throw new SlipwayError("budget_exceeded", refusal.why);
        }
        const next = findCrowded(limits, mostUsd, ticket);
        if (next !== crowded) this.#leave(crowded, ticket);
        crowded = next;
        if (crowded === null) {
          for (const { account } of limits) account.open.set(id, { usd: 0, mostUsd });
          return { task, limits };
        }
        crowded.waiting.add(ticket);
        await this.#sleep(taskId, end, signal);
      }
    } finally {
      this.#leave(crowded, ticket);
    }
  }

  /** Lets those behind this request look again. */
  #leave(account: Account | null, ticket: number): void {
    if (account?.waiting.delete(ticket) === true) this.wake();
  }

  /** @param taskId absent = all that wait. */
  wake(taskId?: string): void {
    for (const [wake, of] of this.#sleepers) if (taskId === undefined || taskId === of) wake();
  }

  async #sleep(taskId: string, end: number, signal: AbortSignal | undefined): Promise<void> {
    const leftMs = end - this.#deps.clock.monotonic();
    if (leftMs <= 0)
      throw new SlipwayError(
        "rate_limited",
        "Other requests hold what is left of the budget. Retry when one of them has ended.",
      );
    let wake = (): void => undefined;
    const woken = new Promise<void>((resolve) => (wake = resolve));
    this.#sleepers.set(wake, taskId);
    const stopTimer = this.#deps.clock.timer(leftMs, wake);
    signal?.addEventListener("abort", wake, { once: true });
    try {
      await woken;
    } finally {
      stopTimer();
      signal?.removeEventListener("abort", wake);
      this.#sleepers.delete(wake);
    }
  }
}
