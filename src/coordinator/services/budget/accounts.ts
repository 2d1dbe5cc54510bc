/**
 * What was spent on the model, per task and per day, and the limits on it. This process is the only
 * writer of the ledger, so each sum is read once and then updated in memory.
 */
import { formatLimit, remainingBudget, type BudgetKind } from "../../../core/budget.ts";
import type { UsageLedger, UsageTotal } from "../../../core/ports/usage-ledger.ts";
import type { Clock } from "../../../core/ports/runtime.ts";
import type { Task } from "../../../core/task.ts";

export interface Account {
  /** Of the requests that have ended. */
  spent: UsageTotal;
  /** Requests under way: id -> cost so far, US dollars. */
  readonly open: Map<string, number>;
}

export interface Limit {
  /** Only the task's own budget can be raised by an answer. */
  readonly scope: "task" | "day";
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

export interface BudgetAccountsDeps {
  readonly ledger: UsageLedger;
  readonly clock: Clock;
  readonly userDayUsd: number | null;
  readonly dayUsd: number | null;
}

const DAY_MS = 24 * 3_600_000;

export class BudgetAccounts {
  readonly #deps: BudgetAccountsDeps;
  readonly #accounts = new Map<string, Promise<Account>>();

  constructor(deps: BudgetAccountsDeps) {
    this.#deps = deps;
  }

  /** The task's own limit, then those of the day. */
  async limits(task: Task): Promise<Limit[]> {
    const { usd = null, turns = null } = remainingBudget(task);
    const account = await this.#account(`task ${task.id}`, () => this.#deps.ledger.spentBy(task.id));
    const own: Limit = { scope: "task", name: "The task's budget", account, usd, requests: turns };
    return [own, ...(await this.dayLimits(task.userId))];
  }

  async dayLimits(userId: string): Promise<Limit[]> {
    const { userDayUsd, dayUsd } = this.#deps;
    const [user, all] = [await this.#today(userId), await this.#today(null)];
    return [
      { scope: "day", name: "Your budget for today", account: user, usd: userDayUsd, requests: null },
      { scope: "day", name: "This server's budget for today", account: all, usd: dayUsd, requests: null },
    ];
  }

  forget(taskId: string): void {
    this.#accounts.delete(`task ${taskId}`);
  }

  /** @param userId null = all users together. */
  #today(userId: string | null): Promise<Account> {
    const day = Math.floor(this.#deps.clock.now() / DAY_MS);
    for (const key of this.#accounts.keys())
      if (key.startsWith("day ") && !key.startsWith(`day ${day} `)) this.#accounts.delete(key);
    return this.#account(`day ${day} ${userId ?? ""}`, () => this.#deps.ledger.spentSince(day * DAY_MS, userId));
  }

  #account(key: string, read: () => Promise<UsageTotal>): Promise<Account> {
    const known = this.#accounts.get(key);
    if (known !== undefined) return known;
    const fresh = read().then((spent) => ({ spent, open: new Map<string, number>() }));
    fresh.catch(() => this.#accounts.delete(key));
    this.#accounts.set(key, fresh);
    return fresh;
  }
}

/**
 * The first limit that is reached; null when none is.
 * @param moreUsd the least cost of a request that has not begun; 0 = no request is to begin.
 */
export function findExceeded(limits: readonly Limit[], moreUsd: number): Refusal | null {
  for (const { scope, name, account, usd, requests } of limits) {
    const { spent, open } = account;
    const used = spent.usd + [...open.values()].reduce((total, cost) => total + cost, 0) + moreUsd;
    const refuse = (kind: BudgetKind, limit: number): Refusal => ({
      scope,
      kind,
      limit,
      why: `${name} of ${formatLimit(kind, limit)} is used up.`,
    });
    if (usd !== null && (used > usd || spent.usd >= usd)) return refuse("usd", usd);
    if (moreUsd > 0 && requests !== null && spent.requests + open.size >= requests) return refuse("turns", requests);
  }
  return null;
}
