/**
 * Admits requests to the model within the budgets of the task, its owner and the installation.
 *
 * P1 A budget is checked against the recorded usage plus the cost so far of the requests under way,
 *    before each request and while its answer is streamed. A budget is therefore exceeded by less
 *    than one request, however many run at once.
 * P2 A request is recorded when it starts, with the least that it can cost, and again when it ends:
 *    a coordinator that dies in between does not lose it. The end is one transaction with the
 *    task's `usage` event.
 * P3 When the task's own budget refuses a request, a question is open before the refusal is
 *    returned. A daily budget opens none.
 * P4 Usage that the worker itself reports is not counted.
 */
import { holdsSlot } from "../../../machines/fold.ts";
import { remainingBudget, budgetQuestion, isBudgetQuestion, type BudgetStanding } from "../../core/budget.ts";
import { readLogWithoutWorker } from "../read-lists.ts";
import type { TaskLog } from "../task-log.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import type { Proposal } from "../../core/event.ts";
import type { UsageLedger, ModelUsage } from "../../core/ports/usage-ledger.ts";
import type { Store } from "../../core/ports/store.ts";
import type { Task } from "../../core/task.ts";
import type { Clock, Ids, Log } from "../../core/ports/runtime.ts";
import type { Admission, ModelBudget } from "../../core/ports/broker.ts";
import { assertCurrentAttempt } from "./current-attempt.ts";
import { BudgetAccounts, findExceeded, type Limit, type Refusal } from "./budget/accounts.ts";
import { BudgetWarnings } from "./budget/warnings.ts";

export interface BudgetDeps {
  readonly taskLog: TaskLog;
  readonly store: Pick<Store, "task" | "eventsOfOthers">;
  readonly ledger: UsageLedger;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** Budget per UTC day of each user, US dollars; null = no limit. */
  readonly userDayUsd: number | null;
  /** Budget per UTC day of all users together, US dollars; null = no limit. */
  readonly dayUsd: number | null;
}

export interface BudgetService extends ModelBudget {
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
  readonly #warnings: BudgetWarnings;
  /** By task: the latest refusal. */
  readonly #refusals = new Map<string, Refusal>();

  constructor(deps: BudgetDeps) {
    this.#deps = deps;
    this.#accounts = new BudgetAccounts(deps);
    this.#warnings = new BudgetWarnings(deps.store);
    deps.taskLog.onCommit((task) => {
      if (holdsSlot(task.snapshot)) return;
      this.#accounts.forget(task.id);
      this.#warnings.forget(task.id);
      this.#refusals.delete(task.id);
    });
  }

  async admit(taskId: string, attempt: number, model: string, usd: number): Promise<Admission> {
    const task = await this.#deps.store.task(taskId);
    assertCurrentAttempt(task, attempt);
    const limits = await this.#accounts.limits(task);
    const refusal = findExceeded(limits, Math.max(usd, Number.MIN_VALUE));
    if (refusal !== null) {
      await this.#refuse(task, refusal);
      throw new SlipwayError("budget_exceeded", refusal.why);
    }
    const usage: ModelUsage = {
      id: this.#deps.ids.next("req"),
      taskId,
      userId: task.userId,
      attempt,
      at: this.#deps.clock.now(),
      model,
      inputTokens: 0,
      outputTokens: 0,
      cacheReadTokens: 0,
      cacheWriteTokens: 0,
      usd,
      estimated: true,
    };
    for (const { account } of limits) account.open.set(usage.id, usd);
    this.#deps.ledger
      .record(usage)
      .catch((error: unknown) =>
        this.#deps.log.error(
          { task: taskId, error: errorMessage(error) },
          "the usage of a request could not be recorded",
        ),
      );
    return this.#createAdmission(task, limits, usage);
  }

  async isExhausted(userId: string): Promise<boolean> {
    return findExceeded(await this.#accounts.dayLimits(userId), 0) !== null;
  }

  async standing(task: Task): Promise<BudgetStanding> {
    const refusal = this.#refusals.get(task.id);
    const now = refusal !== undefined && isQuestionDue(task, refusal) ? await this.#askForMore(task, refusal) : task;
    const { question } = now.snapshot.context;
    if (question !== null && isBudgetQuestion(question.id)) return { state: "asked", questionId: question.id };
    if (refusal === undefined || (refusal.scope === "task" && !isQuestionDue(now, refusal)))
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
      return true;
    };
    return {
      update: (usd) => {
        if (isClosed) return null;
        for (const { account } of limits) account.open.set(usage.id, Math.max(usd, usage.usd));
        exceeded ??= findExceeded(limits, 0);
        if (exceeded !== null) this.#refusals.set(task.id, exceeded);
        return exceeded?.why ?? null;
      },
      settle: async (end) => {
        if (!close(end.usd, 1)) return;
        await this.#recordUsage(task, limits, { ...usage, ...end });
        if (exceeded !== null) await this.#refuse(task, exceeded);
      },
      cancel: async () => {
        if (close(0, 0)) await ledger.record({ ...usage, inputTokens: 0, usd: 0, estimated: false });
      },
    };
  }

  async #recordUsage(task: Task, limits: readonly Limit[], row: ModelUsage): Promise<void> {
    const { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, usd, model } = row;
    const data = { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, usd, turns: 1, model };
    const own = limits.find(({ scope }) => scope === "task");
    const warnings = own === undefined ? [] : await this.#warnings.due(task.id, own);
    const proposals: Proposal[] = [{ type: "usage", data }, ...warnings];
    try {
      const { events } = await this.#deps.taskLog.record(task.id, () => proposals, row);
      // A settled task takes no more events; what it used is paid for all the same.
      if (events.length === 0) await this.#deps.ledger.record(row);
    } catch (error) {
      this.#deps.log.error({ task: task.id, error: errorMessage(error) }, "usage could not be recorded");
    }
  }

  async #refuse(task: Task, refusal: Refusal): Promise<void> {
    this.#refusals.set(task.id, refusal);
    if (refusal.scope === "task") await this.#askForMore(task, refusal);
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
    const recorded = await taskLog.record(task.id, (now) => {
      const isOpen = now.snapshot.context.question?.id === question.id;
      const isRaised = (remainingBudget(now)[kind] ?? Infinity) > limit;
      return isOpen || isRaised ? [] : [{ type: "question", data: { ...question }, attempt }];
    });
    return recorded.task;
  }
}

/** True while the task's own budget is still at the limit that was refused. */
function isQuestionDue(task: Task, { scope, kind, limit }: Refusal): boolean {
  return scope === "task" && (remainingBudget(task)[kind] ?? Infinity) <= limit;
}
