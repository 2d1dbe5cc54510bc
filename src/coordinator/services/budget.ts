/**
 * Admits requests to the model within the budgets of the task, its owner and the installation.
 *
 * P1 A request reserves the most that it can be billed. It is admitted while all reservations fit
 *    into what is left of each budget, or when no other request draws on that budget; else it waits
 *    for those under way. A budget is therefore exceeded by less than one request, however many run
 *    at once. An answer is cut as soon as what has passed of it uses up a budget.
 * P2 A request is recorded with its reservation before it is sent, and again when it ends: a
 *    coordinator that dies in between does not lose it. The end is one transaction with the task's
 *    `usage` event.
 * P3 When the task's own budget refuses a request, a question is open before the refusal is
 *    returned. A daily budget opens none.
 * P4 Usage that the worker itself reports is not counted.
 */
import { holdsSlot, isSettled } from "../../../machines/fold.ts";
import {
  remainingBudget,
  budgetQuestion,
  isBudgetQuestion,
  type BudgetKind,
  type BudgetStanding,
} from "../../core/budget.ts";
import { readLogWithoutWorker } from "../read-lists.ts";
import type { TaskLog } from "../task-log.ts";
import { errorMessage } from "../../core/error.ts";
import type { Proposal } from "../../core/event.ts";
import type { UsageLedger, ModelUsage } from "../../core/ports/records/usage-ledger.ts";
import type { Store } from "../../core/ports/store.ts";
import type { Task } from "../../core/task.ts";
import type { Clock, Ids, Log } from "../../core/ports/runtime.ts";
import type { Admission, ModelBudget } from "../../core/ports/broker.ts";
import { assertMaySpend } from "./current-attempt.ts";
import { BudgetAccounts, findExceeded, type Limit, type Refusal } from "./budget/accounts.ts";
import { AdmissionQueue } from "./budget/admission-queue.ts";
import type { QuotaSettings } from "../../core/quotas.ts";
import { ThreadBudgets } from "./budget/threads.ts";
import { BudgetWarnings } from "./budget/warnings.ts";

export interface BudgetDeps extends QuotaSettings {
  readonly taskLog: TaskLog;
  readonly store: Pick<Store, "task" | "tasks" | "eventsOfOthers" | "setting">;
  readonly ledger: UsageLedger;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** Budget per UTC day of all users together, US dollars; null = no limit. */
  readonly dayUsd: number | null;
}

/** US dollars of the tasks of a thread together. */
export interface ThreadBudget {
  readonly spentUsd: number;
  readonly limitUsd: number;
}

export interface BudgetService extends ModelBudget {
  /** By thread, of the threads of these tasks that have a budget. */
  threads(tasks: readonly Pick<Task, "threadId">[]): Promise<ReadonlyMap<string, ThreadBudget>>;
  /** True while today's budget of this user, or of all users, is used up. */
  isExhausted(userId: string): Promise<boolean>;
  /** How the task continues after a refusal. A question that is due is open when it resolves. */
  standing(task: Task): Promise<BudgetStanding>;
}

export function createBudgetService(deps: BudgetDeps): BudgetService {
  return new LedgerBudgetService(deps);
}

class LedgerBudgetService implements BudgetService {
  readonly #deps: BudgetDeps;
  readonly #accounts: BudgetAccounts;
  readonly #threads: ThreadBudgets;
  readonly #warnings: BudgetWarnings;
  readonly #queue: AdmissionQueue;
  /** By task: the latest refusal. */
  readonly #refusals = new Map<string, Refusal>();

  constructor(deps: BudgetDeps) {
    this.#deps = deps;
    this.#threads = new ThreadBudgets(deps.store, deps.ledger);
    this.#accounts = new BudgetAccounts({ ...deps, threads: this.#threads });
    this.#warnings = new BudgetWarnings(deps.store);
    this.#queue = new AdmissionQueue({
      ...deps,
      limits: (task) => this.#accounts.limits(task),
      onRefusal: (task, refusal) => this.#refuse(task, refusal),
    });
    deps.taskLog.onCommit((task) => {
      this.#threads.note(task);
      this.#queue.wake(task.id);
      if (!holdsSlot(task.snapshot)) this.#forget(task);
    });
  }

  /** Of a task that calls no model now. */
  #forget(task: Task): void {
    this.#accounts.forget(task);
    this.#warnings.forget(task.id);
    this.#refusals.delete(task.id);
  }

  async admit(
    taskId: string,
    attempt: number,
    model: string,
    mostUsd: number,
    signal?: AbortSignal,
  ): Promise<Admission> {
    const id = this.#deps.ids.next("req");
    const { task, limits } = await this.#queue.enter({ id, taskId, attempt, mostUsd, ...(signal && { signal }) });
    const { clock, ledger } = this.#deps;
    const usage: ModelUsage = {
      id,
      taskId,
      userId: task.userId,
      attempt,
      at: clock.now(),
      model,
      inputTokens: 0,
      outputTokens: 0,
      cacheReadTokens: 0,
      cacheWriteTokens: 0,
      usd: mostUsd,
      estimated: true,
    };
    const admission = this.#createAdmission(task, limits, usage);
    try {
      await ledger.record(usage);
    } catch (error) {
      await admission.cancel().catch(() => undefined);
      throw error;
    }
    return admission;
  }

  async admitFree(taskId: string, attempt: number): Promise<void> {
    assertMaySpend(await this.#deps.store.task(taskId), attempt);
  }

  async isExhausted(userId: string): Promise<boolean> {
    return findExceeded(await this.#accounts.dayLimits(userId)) !== null;
  }

  async threads(tasks: readonly Pick<Task, "threadId">[]): Promise<ReadonlyMap<string, ThreadBudget>> {
    const found = new Map<string, ThreadBudget>();
    for (const threadId of new Set(tasks.map((task) => task.threadId))) {
      const limitUsd = await this.#threads.limit({ threadId });
      if (limitUsd !== null) found.set(threadId, { spentUsd: await this.#accounts.threadSpentUsd(threadId), limitUsd });
    }
    return found;
  }

  async standing(task: Task): Promise<BudgetStanding> {
    const refusal = this.#refusals.get(task.id);
    const isDue = refusal !== undefined && (await this.#isQuestionDue(task, refusal));
    const now = isDue ? await this.#askForMore(task, refusal) : task;
    const { question } = now.snapshot.context;
    if (question !== null && isBudgetQuestion(question.id)) return { state: "asked", questionId: question.id };
    if (refusal === undefined || (refusal.scope !== "day" && !(await this.#isQuestionDue(now, refusal))))
      return { state: "continue" };
    return { state: "stop", reason: refusal.why };
  }

  #createAdmission(task: Task, limits: readonly Limit[], usage: ModelUsage): Admission {
    const { ledger } = this.#deps;
    let isClosed = false;
    let exceeded: Refusal | null = null;
    const close = (usd: number, requests: number): boolean => {
      if (isClosed) return false;
      isClosed = true;
      for (const { account } of limits) {
        account.open.delete(usage.id);
        account.spent = { usd: account.spent.usd + usd, requests: account.spent.requests + requests };
      }
      this.#queue.wake();
      return true;
    };
    return {
      update: (cost) => {
        if (isClosed) return null;
        const isLess = cost.mostUsd < (limits[0]?.account.open.get(usage.id)?.mostUsd ?? 0);
        for (const { account } of limits) account.open.set(usage.id, cost);
        if (isLess) this.#queue.wake();
        exceeded ??= findExceeded(limits);
        if (exceeded !== null) this.#refusals.set(task.id, exceeded);
        return exceeded?.why ?? null;
      },
      settle: async (end) => {
        if (!close(end.usd, 1)) return;
        const now = await this.#recordUsage(task, limits, { ...usage, ...end });
        if (exceeded !== null) await this.#refuse(task, exceeded);
        if (now !== null && isSettled(now.snapshot)) this.#forget(now);
      },
      cancel: async () => {
        if (!close(0, 0)) return;
        await ledger.record({ ...usage, inputTokens: 0, usd: 0, estimated: false });
        const now = await this.#deps.store.task(task.id);
        if (now !== null && isSettled(now.snapshot)) this.#forget(now);
      },
    };
  }

  /** @returns the task after it; null when nothing could be recorded. */
  async #recordUsage(task: Task, limits: readonly Limit[], row: ModelUsage): Promise<Task | null> {
    const { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, usd, model } = row;
    const data = { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, usd, turns: 1, model };
    const warnings = await this.#warnings.due(task.id, limits);
    const proposals: Proposal[] = [{ type: "usage", data }, ...warnings];
    try {
      const { task: now, events } = await this.#deps.taskLog.record(task.id, () => proposals, row);
      // A settled task takes no more events; what it used is paid for all the same.
      if (events.length === 0) await this.#deps.ledger.record(row);
      return now;
    } catch (error) {
      this.#deps.log.error({ task: task.id, error: errorMessage(error) }, "usage could not be recorded");
      return null;
    }
  }

  async #refuse(task: Task, refusal: Refusal): Promise<void> {
    this.#refusals.set(task.id, refusal);
    if (refusal.scope !== "day") await this.#askForMore(task, refusal);
  }

  /**
   * Opens the question for more, unless a person answered it with `stop`. @returns the task after
   * it.
   */
  async #askForMore(task: Task, { kind, limit }: Refusal): Promise<Task> {
    const { store, taskLog } = this.#deps;
    const question = budgetQuestion(kind, limit, task.spec.budget[kind] ?? limit);
    for await (const { type, data } of readLogWithoutWorker(store, task.id, 0))
      if (type === "answer" && data["questionId"] === question.id && data["decision"] === "stop") return task;
    const { attempt } = task.snapshot.context;
    const recorded = await taskLog.record(task.id, async (now) => {
      const isOpen = now.snapshot.context.question?.id === question.id;
      const isRaised = (await this.#limit(now, kind)) > limit;
      return isOpen || isRaised ? [] : [{ type: "question", data: { ...question }, attempt }];
    });
    return recorded.task;
  }

  /** True while the budget of the task or its thread is still at the limit that was refused. */
  async #isQuestionDue(task: Task, { scope, kind, limit }: Refusal): Promise<boolean> {
    return scope !== "day" && (await this.#limit(task, kind)) <= limit;
  }

  async #limit(task: Task, kind: BudgetKind): Promise<number> {
    const own = remainingBudget(task)[kind] ?? null;
    const of = kind === "threadUsd" ? await this.#threads.limit(task) : own;
    return of ?? Infinity;
  }
}
