/**
 * What was spent on the model, per task and per day, and the limits on it. This process is the only
 * writer of the ledger, so each sum is read once and then updated in memory.
 */
import { isSettled } from "../../../../machines/fold.ts";
import { formatLimit, remainingBudget, type BudgetKind } from "../../../core/budget.ts";
import type { UsageLedger, UsageTotal } from "../../../core/ports/records/usage-ledger.ts";
import type { Clock } from "../../../core/ports/runtime.ts";
import type { Store } from "../../../core/ports/store.ts";
import type { Task } from "../../../core/task.ts";
import type { ThreadBudgets } from "./threads.ts";
import { readQuotas, startOfDay, startOfMonth, type QuotaSettings } from "../../../core/quotas.ts";

export interface Account {
  /** Of the requests that have ended. */
  spent: UsageTotal;
  /** Requests under way, by id. */
  readonly open: Map<string, OpenRequest>;
  /** Requests that wait for those under way, in order of arrival: their tickets. */
  readonly waiting: Set<number>;
}

/** US dollars. */
export interface OpenRequest {
  /** Of the part of the answer that has passed. */
  readonly usd: number;
  /** The most that the request can still cost in all. */
  readonly mostUsd: number;
}

export interface Limit {
  /** The budgets of the task and of its thread can be raised by an answer. */
  readonly scope: "task" | "thread" | "day";
  /** For people: whose budget. */
  readonly name: string;
  readonly account: Account;
  readonly usd: number | null;
  readonly requests: number | null;
}

/** Why a request is refused. */
export interface Refusal {
  readonly scope: Limit["scope"];
  readonly kind: BudgetKind;
  readonly limit: number;
  readonly why: string;
}

export interface BudgetAccountsDeps extends QuotaSettings {
  readonly ledger: UsageLedger;
  readonly store: Pick<Store, "setting">;
  readonly threads: ThreadBudgets;
  readonly clock: Clock;
  readonly dayUsd: number | null;
}

export class BudgetAccounts {
  readonly #deps: BudgetAccountsDeps;
  readonly #accounts = new Map<string, Promise<Account>>();

  constructor(deps: BudgetAccountsDeps) {
    this.#deps = deps;
  }

  /** The task's own limit, that of its thread, then those of the day. */
  async limits(task: Task): Promise<Limit[]> {
    const { usd = null, turns = null } = remainingBudget(task);
    const account = await this.#account(`task ${task.id}`, () => this.#deps.ledger.spentBy(task.id));
    const own: Limit = { scope: "task", name: "The task's budget", account, usd, requests: turns };
    return [own, await this.#threadLimit(task), ...(await this.dayLimits(task.userId))];
  }

  /** Also without a limit: a later task of the thread may bring one. */
  async #threadLimit(task: Task): Promise<Limit> {
    const { threads } = this.#deps;
    const account = await this.#account(`thread ${task.threadId}`, () => threads.spent(task.threadId));
    return { scope: "thread", name: "The thread's budget", account, usd: await threads.limit(task), requests: null };
  }

  /** The cost of the thread's ended requests, US dollars. Creates no account. */
  async threadSpentUsd(threadId: string): Promise<number> {
    const known = await this.#accounts.get(`thread ${threadId}`);
    return (known?.spent ?? (await this.#deps.threads.spent(threadId))).usd;
  }

  async dayLimits(userId: string): Promise<Limit[]> {
    const { dayUsd, store, clock } = this.#deps;
    const own = await readQuotas(store, this.#deps, userId);
    const [day, month] = [startOfDay(clock.now()), startOfMonth(clock.now())];
    const [user, all] = [await this.#since("day", day, userId), await this.#since("day", day, null)];
    const limits: Limit[] = [
      { scope: "day", name: "Your budget for today", account: user, usd: own.dayUsd, requests: null },
      { scope: "day", name: "This server's budget for today", account: all, usd: dayUsd, requests: null },
    ];
    if (own.monthUsd === null) return limits;
    const account = await this.#since("month", month, userId);
    return [
      ...limits,
      { scope: "day", name: "Your budget for this month", account, usd: own.monthUsd, requests: null },
    ];
  }

  /**
   * The account of the thread is kept while a request draws on it, and while the task is open: it
   * may be parked, and go on.
   */
  forget(task: Task): void {
    this.#accounts.delete(`task ${task.id}`);
    const key = `thread ${task.threadId}`;
    const account = this.#accounts.get(key);
    if (!isSettled(task.snapshot) || account === undefined) return;
    const drop = ({ open, waiting }: Account): void => {
      if (open.size + waiting.size === 0 && this.#accounts.get(key) === account) this.#accounts.delete(key);
    };
    // One that cannot be read is not kept either.
    account.then(drop, () => undefined);
  }

  /** @param userId null = all users together. */
  #since(period: "day" | "month", since: number, userId: string | null): Promise<Account> {
    for (const key of this.#accounts.keys())
      if (key.startsWith(`${period} `) && !key.startsWith(`${period} ${since} `)) this.#accounts.delete(key);
    return this.#account(`${period} ${since} ${userId ?? ""}`, () => this.#deps.ledger.spentSince(since, userId));
  }

  #account(key: string, read: () => Promise<UsageTotal>): Promise<Account> {
    const known = this.#accounts.get(key);
    if (known !== undefined) return known;
    const fresh = read().then((spent) => ({ spent, open: new Map<string, OpenRequest>(), waiting: new Set<number>() }));
    fresh.catch(() => this.#accounts.delete(key));
    this.#accounts.set(key, fresh);
    return fresh;
  }
}

/** The first limit that is reached by what was spent so far; null when none is. */
export function findExceeded(limits: readonly Limit[]): Refusal | null {
  for (const limit of limits)
    if (limit.usd !== null && sum(limit.account, "usd") >= limit.usd)
      return toRefusal(limit, limit.scope === "thread" ? "threadUsd" : "usd", limit.usd);
  return null;
}

/** The first limit that admits no further request; null when none does. */
export function findRefusing(limits: readonly Limit[]): Refusal | null {
  for (const limit of limits) {
    const { requests, account } = limit;
    const exceeded = findExceeded([limit]);
    if (exceeded !== null) return exceeded;
    if (requests !== null && account.spent.requests + account.open.size >= requests)
      return toRefusal(limit, "turns", requests);
  }
  return null;
}

/**
 * The account that has no room for the request beside those under way, or for which others wait
 * longer; null when every account has room. A request alone always has room: it exceeds the limit
 * by less than itself.
 * @param ticket the place of the request in the order of arrival.
 */
export function findCrowded(limits: readonly Limit[], mostUsd: number, ticket: number): Account | null {
  for (const { account, usd } of limits) {
    if (usd === null) continue;
    const isFirst = [...account.waiting].every((other) => other >= ticket);
    const fits = account.open.size === 0 || sum(account, "mostUsd") + mostUsd <= usd;
    if (!isFirst || !fits) return account;
  }
  return null;
}

const sum = ({ spent, open }: Account, part: keyof OpenRequest): number =>
  [...open.values()].reduce((total, request) => total + request[part], spent.usd);

function toRefusal({ scope, name }: Limit, kind: BudgetKind, limit: number): Refusal {
  return { scope, kind, limit, why: `${name} of ${formatLimit(kind, limit)} is used up.` };
}
