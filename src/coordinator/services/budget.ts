/**
 * Who may still spend what on the model.
 *
 * P1 A budget is checked against what is booked plus what the requests under way have cost up to
 *    now, before each request and as its answer passes. So a budget is exceeded by less than one
 *    request, however many run at once.
 * P2 A request is booked when it begins, with the least that it can cost, and booked again at its
 *    end: a coordinator that dies in between has not forgotten it.
 * P3 A request that the task's own budget does not allow opens a question, before the refusal is
 *    told; a day's budget opens none.
 * P4 What the worker itself says about usage never counts here.
 */
import { holdsSlot } from "../../../machines/fold.ts";
import {
  remainingBudget,
  budgetQuestion,
  formatLimit,
  isBudgetQuestion,
  type BudgetKind,
  type BudgetStanding,
} from "../../core/budget.ts";
import { readLogWithoutWorker } from "../read-lists.ts";
import type { TaskLog } from "../task-log.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import type { Proposal } from "../../core/event.ts";
import type { UsageLedger, ModelUsage, UsageTotal } from "../../core/ports/usage-ledger.ts";
import type { Store } from "../../core/ports/store.ts";
import type { Task } from "../../core/task.ts";
import type { Clock, Ids, Log } from "../../core/ports/runtime.ts";
import type { Admission, ModelBudget } from "../../core/ports/broker.ts";

export interface BudgetDeps {
  readonly taskLog: TaskLog;
  readonly store: Pick<Store, "task" | "eventsOfOthers">;
  readonly ledger: UsageLedger;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** US dollars that one user, and that all together, may spend per UTC day; null = no limit. */
  readonly userDayUsd: number | null;
  readonly dayUsd: number | null;
}

export interface BudgetService extends ModelBudget {
  /** True while the budget of all, or of this user, is used up for today. */
  isExhausted(userId: string): Promise<boolean>;
  /** Where the task stands after a refusal. A question that is due is open when it resolves. */
  standing(task: Task): Promise<BudgetStanding>;
}

const DAY_MS = 24 * 3_600_000;
/** A person hears once that so much of a budget is used. */
const WARN_SHARE = 0.8;

interface Account {
  spent: UsageTotal;
  /** Requests under way and what they have cost up to now. */
  readonly open: Map<string, number>;
}

/** Why a request is refused. */
interface Refusal {
  /** Only the task's own budget may be raised by an answer. */
  readonly of: "task" | "day";
  readonly kind: BudgetKind;
  readonly limit: number;
  readonly why: string;
}

interface Limit {
  readonly of: Refusal["of"];
  readonly what: string;
  readonly account: Account;
  readonly usd: number | null;
  readonly requests: number | null;
}

const NEAR = "budget_near";
const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);

export function createBudgetService(deps: BudgetDeps): BudgetService {
  const { taskLog, store, ledger, clock } = deps;
  const accounts = new Map<string, Promise<Account>>();
  /** By task: the limits that it was warned of. */
  const warned = new Map<string, Promise<Set<string>>>();
  const refusals = new Map<string, Refusal>();
  taskLog.onCommit((task) => {
    if (holdsSlot(task.snapshot)) return;
    accounts.delete(`task ${task.id}`);
    warned.delete(task.id);
    refusals.delete(task.id);
  });

  /** This process alone writes the books, so that each sum is read once and then counted on. */
  function account(key: string, read: () => Promise<UsageTotal>): Promise<Account> {
    const known = accounts.get(key);
    if (known !== undefined) return known;
    const fresh = read().then((spent) => ({ spent, open: new Map<string, number>() }));
    fresh.catch(() => accounts.delete(key));
    accounts.set(key, fresh);
    return fresh;
  }

  function today(userId: string | null): Promise<Account> {
    const day = Math.floor(clock.now() / DAY_MS);
    for (const key of accounts.keys())
      if (key.startsWith("day ") && !key.startsWith(`day ${day} `)) accounts.delete(key);
    return account(`day ${day} ${userId ?? ""}`, () => ledger.spentSince(day * DAY_MS, userId));
  }

  async function limitsOf(task: Task): Promise<Limit[]> {
    const { usd = null, turns = null } = remainingBudget(task);
    const mine = await account(`task ${task.id}`, () => ledger.spentBy(task.id));
    return [
      { of: "task", what: "The task's budget", account: mine, usd, requests: turns },
      {
        of: "day",
        what: "Your budget for today",
        account: await today(task.userId),
        usd: deps.userDayUsd,
        requests: null,
      },
      {
        of: "day",
        what: "This server's budget for today",
        account: await today(null),
        usd: deps.dayUsd,
        requests: null,
      },
    ];
  }

  /** The first limit that is reached. `more`: what a request that has not begun would add. */
  function reached(limits: readonly Limit[], more: number): Refusal | null {
    for (const { of, what, account: one, usd, requests } of limits) {
      const used = one.spent.usd + sum(one.open.values()) + more;
      const hit = (kind: BudgetKind, limit: number): Refusal => ({
        of,
        kind,
        limit,
        why: `${what} of ${formatLimit(kind, limit)} is used up.`,
      });
      if (usd !== null && (used > usd || one.spent.usd >= usd)) return hit("usd", usd);
      if (more > 0 && requests !== null && one.spent.requests + one.open.size >= requests)
        return hit("turns", requests);
    }
    return null;
  }

  async function current(taskId: string, attempt: number): Promise<Task> {
    const task = await store.task(taskId);
    if (task !== null && task.snapshot.context.attempt === attempt && holdsSlot(task.snapshot)) return task;
    throw new SlipwayError("stale_attempt", "This attempt is over. Stop, and push nothing more.");
  }

  function tell(taskId: string, ...proposals: Proposal[]): Promise<void> {
    return taskLog
      .record(taskId, () => proposals)
      .then(
        () => undefined,
        (error: unknown) => deps.log.error({ task: taskId, error: errorMessage(error) }, "usage could not be recorded"),
      );
  }

  /** What the log says that the task was warned of: once is enough, also over a restart. */
  function warnedOf(taskId: string): Promise<Set<string>> {
    const known = warned.get(taskId);
    if (known !== undefined) return known;
    const read = (async () => {
      const found = new Set<string>();
      for await (const { type, data } of readLogWithoutWorker(store, taskId, 0))
        if (type === "notice" && data["code"] === NEAR) found.add(`${String(data["kind"])} ${String(data["limit"])}`);
      return found;
    })();
    warned.set(taskId, read);
    return read;
  }

  async function warnings(task: Task, { account: one, usd, requests }: Limit): Promise<Proposal[]> {
    const near = (
      [
        { kind: "usd", used: one.spent.usd, limit: usd },
        { kind: "turns", used: one.spent.requests, limit: requests },
      ] as const
    ).flatMap(({ kind, used, limit }) => (limit !== null && used >= limit * WARN_SHARE ? [{ kind, used, limit }] : []));
    if (near.length === 0) return [];
    const told = await warnedOf(task.id);
    return near.flatMap(({ kind, used, limit }) => {
      const key = `${kind} ${limit}`;
      if (told.has(key)) return [];
      told.add(key);
      const text = `${formatLimit(kind, used)} of the budget of ${formatLimit(kind, limit)} are used.`;
      return [{ type: "notice", data: { level: "warning", code: NEAR, text, kind, limit } }] as const;
    });
  }

  /** Asks for more, unless a person said no already. @returns the task as it is then. */
  async function askForMore(task: Task, { kind, limit }: Refusal): Promise<Task> {
    const question = budgetQuestion(kind, limit, task.spec.budget[kind] ?? limit);
    for await (const { type, data } of readLogWithoutWorker(store, task.id, 0))
      if (type === "answer" && data["questionId"] === question.id && data["decision"] === "stop") return task;
    const { attempt } = task.snapshot.context;
    const recorded = await taskLog.record(task.id, (now) => {
      const asked = now.snapshot.context.question?.id === question.id;
      return asked || (remainingBudget(now)[kind] ?? Infinity) > limit
        ? []
        : [{ type: "question", data: { ...question }, attempt }];
    });
    return recorded.task;
  }

  async function refuse(task: Task, refusal: Refusal): Promise<void> {
    refusals.set(task.id, refusal);
    if (refusal.of === "task") await askForMore(task, refusal);
  }

  async function standing(given: Task): Promise<BudgetStanding> {
    const refusal = refusals.get(given.id);
    const due = (task: Task): boolean =>
      refusal?.of === "task" && (remainingBudget(task)[refusal.kind] ?? Infinity) <= refusal.limit;
    const task = refusal !== undefined && due(given) ? await askForMore(given, refusal) : given;
    const { question } = task.snapshot.context;
    if (question !== null && isBudgetQuestion(question.id)) return { state: "asked", questionId: question.id };
    return refusal === undefined || (refusal.of === "task" && !due(task))
      ? { state: "continue" }
      : { state: "stop", reason: refusal.why };
  }

  function admission(task: Task, limits: readonly Limit[], row: ModelUsage): Admission {
    let over = false;
    let cut: Refusal | null = null;
    const estimate = ledger.record(row);
    estimate.catch((error: unknown) =>
      deps.log.error({ task: task.id, error: errorMessage(error) }, "a request could not be booked"),
    );
    const close = (usd: number, requests: number): boolean => {
      if (over) return false;
      over = true;
      for (const { account: one } of limits) {
        one.open.delete(row.id);
        one.spent = { usd: one.spent.usd + usd, requests: one.spent.requests + requests };
      }
      return true;
    };
    return {
      update(usd) {
        if (over) return null;
        for (const { account: one } of limits) one.open.set(row.id, Math.max(usd, row.usd));
        cut ??= reached(limits, 0);
        if (cut !== null) refusals.set(task.id, cut);
        return cut?.why ?? null;
      },
      async settle(end) {
        if (!close(end.usd, 1)) return;
        const { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, usd, model } = end;
        const data = { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, usd, turns: 1, model };
        const near = limits[0] === undefined ? [] : await warnings(task, limits[0]);
        await Promise.all([ledger.record({ ...row, ...end }), tell(task.id, { type: "usage", data }, ...near)]);
        if (cut !== null) await refuse(task, cut);
      },
      async cancel() {
        if (!close(0, 0)) return;
        await ledger.record({ ...row, inputTokens: 0, usd: 0, estimated: false });
      },
    };
  }

  return {
    standing,
    async admit(taskId, attempt, model, usd) {
      const task = await current(taskId, attempt);
      const limits = await limitsOf(task);
      const refusal = reached(limits, Math.max(usd, Number.MIN_VALUE));
      if (refusal !== null) {
        await refuse(task, refusal);
        throw new SlipwayError("budget_exceeded", refusal.why);
      }
      const row: ModelUsage = {
        id: deps.ids.next("req"),
        taskId,
        userId: task.userId,
        attempt,
        at: clock.now(),
        model,
        inputTokens: 0,
        outputTokens: 0,
        cacheReadTokens: 0,
        cacheWriteTokens: 0,
        usd,
        estimated: true,
      };
      for (const { account: one } of limits) one.open.set(row.id, usd);
      return admission(task, limits, row);
    },
    async isExhausted(userId) {
      const days: Limit[] = [
        { of: "day", what: "", account: await today(userId), usd: deps.userDayUsd, requests: null },
        { of: "day", what: "", account: await today(null), usd: deps.dayUsd, requests: null },
      ];
      return reached(days, 0) !== null;
    },
  };
}
