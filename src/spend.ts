/**
 * Who may still spend what on the model.
 *
 * P1 A budget is checked against what is booked plus what the requests under way have cost up to now, before each request and as its answer
 *    passes. So a budget is exceeded by less than one request, however many run at once.
 * P2 A request is booked when it begins, with the least that it can cost, and booked again at its end: a coordinator that dies in between has
 *    not forgotten it.
 * P3 What the worker itself says about usage never counts here.
 */
import { holdsSlot } from "../machines/fold.ts";
import type { Coordinator } from "./coordinator.ts";
import { messageOf, SlipwayError } from "./error.ts";
import type { Proposal } from "./event.ts";
import type { Admission, Ledger, ModelDesk, Spending, Spent } from "./ledger.ts";
import type { Clock, Ids, Log } from "./ports.ts";
import type { Store } from "./store-port.ts";
import type { Task } from "./task.ts";

export interface SpendDeps {
  readonly coordinator: Coordinator;
  readonly store: Pick<Store, "task">;
  readonly ledger: Ledger;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  /** US dollars that one user, and that all together, may spend per UTC day; null = no limit. */
  readonly userDayUsd: number | null;
  readonly dayUsd: number | null;
}

export interface Spend extends ModelDesk {
  /** True while the budget of all, or of this user, is used up for today. */
  exhausted(userId: string): Promise<boolean>;
}

const DAY_MS = 24 * 3_600_000;
/** A person hears once that so much of a budget is used. */
const WARN_SHARE = 0.8;

interface Account {
  spent: Spent;
  /** Requests under way and what they have cost up to now. */
  readonly open: Map<string, number>;
}

interface Limit {
  readonly what: string;
  readonly account: Account;
  readonly usd: number | null;
  readonly requests: number | null;
}

const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);
const dollars = (usd: number): string => `$${usd.toFixed(2)}`;

export function createSpend(deps: SpendDeps): Spend {
  const { coordinator, store, ledger, clock } = deps;
  const accounts = new Map<string, Promise<Account>>();
  const warned = new Set<string>();
  coordinator.onCommit((task) => {
    if (holdsSlot(task.snapshot)) return;
    accounts.delete(`task ${task.id}`);
    warned.delete(task.id);
  });

  /** This process alone writes the books, so that each sum is read once and then counted on. */
  function account(key: string, read: () => Promise<Spent>): Promise<Account> {
    const known = accounts.get(key);
    if (known !== undefined) return known;
    const fresh = read().then((spent) => ({ spent, open: new Map<string, number>() }));
    fresh.catch(() => accounts.delete(key));
    accounts.set(key, fresh);
    return fresh;
  }

  function today(userId: string | null): Promise<Account> {
    const day = Math.floor(clock.now() / DAY_MS);
    for (const key of accounts.keys()) if (key.startsWith("day ") && !key.startsWith(`day ${day} `)) accounts.delete(key);
    return account(`day ${day} ${userId ?? ""}`, () => ledger.spentSince(day * DAY_MS, userId));
  }

  async function limitsOf(task: Task): Promise<Limit[]> {
    const { usd = null, turns = null } = task.spec.budget;
    const mine = await account(`task ${task.id}`, () => ledger.spentBy(task.id));
    return [
      { what: "The task's budget", account: mine, usd, requests: turns },
      { what: "Your budget for today", account: await today(task.userId), usd: deps.userDayUsd, requests: null },
      { what: "This server's budget for today", account: await today(null), usd: deps.dayUsd, requests: null },
    ];
  }

  /** The first limit that is reached. `more`: what a request that has not begun would add. */
  function reached(limits: readonly Limit[], more: number): string | null {
    for (const { what, account: one, usd, requests } of limits) {
      const used = one.spent.usd + sum(one.open.values()) + more;
      if (usd !== null && (used > usd || one.spent.usd >= usd)) return `${what} of ${dollars(usd)} is used up.`;
      if (more > 0 && requests !== null && one.spent.requests + one.open.size >= requests)
        return `${what} of ${requests} turns is used up.`;
    }
    return null;
  }

  async function current(taskId: string, attempt: number): Promise<Task> {
    const task = await store.task(taskId);
    if (task !== null && task.snapshot.context.attempt === attempt && holdsSlot(task.snapshot)) return task;
    throw new SlipwayError("stale_attempt", "This attempt is over. Stop, and push nothing more.");
  }

  function tell(taskId: string, ...proposals: Proposal[]): Promise<void> {
    return coordinator
      .record(taskId, () => proposals)
      .then(
        () => undefined,
        (error: unknown) => deps.log.error({ task: taskId, error: messageOf(error) }, "usage could not be recorded"),
      );
  }

  function warning(task: Task, { account: one, usd }: Limit): Proposal[] {
    if (usd === null || one.spent.usd < usd * WARN_SHARE || warned.has(task.id)) return [];
    warned.add(task.id);
    const text = `${dollars(one.spent.usd)} of the budget of ${dollars(usd)} are used.`;
    return [{ type: "notice", data: { level: "warning", code: "budget_near", text } }];
  }

  function admission(task: Task, limits: readonly Limit[], row: Spending): Admission {
    let over = false;
    const estimate = ledger.book(row);
    estimate.catch((error: unknown) => deps.log.error({ task: task.id, error: messageOf(error) }, "a request could not be booked"));
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
      passes(usd) {
        if (over) return null;
        for (const { account: one } of limits) one.open.set(row.id, Math.max(usd, row.usd));
        return reached(limits, 0);
      },
      async settle(end) {
        if (!close(end.usd, 1)) return;
        const { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, usd, model } = end;
        const data = { inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, usd, turns: 1, model };
        const warnings = limits[0] === undefined ? [] : warning(task, limits[0]);
        await Promise.all([ledger.book({ ...row, ...end }), tell(task.id, { type: "usage", data }, ...warnings)]);
      },
      async cancel() {
        if (!close(0, 0)) return;
        await ledger.book({ ...row, inputTokens: 0, usd: 0, estimated: false });
      },
    };
  }

  return {
    async admit(taskId, attempt, model, usd) {
      const task = await current(taskId, attempt);
      const limits = await limitsOf(task);
      const why = reached(limits, Math.max(usd, Number.MIN_VALUE));
      if (why !== null) throw new SlipwayError("budget_exceeded", why);
      const row: Spending = {
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
    async exhausted(userId) {
      const days: Limit[] = [
        { what: "", account: await today(userId), usd: deps.userDayUsd, requests: null },
        { what: "", account: await today(null), usd: deps.dayUsd, requests: null },
      ];
      return reached(days, 0) !== null;
    },
  };
}
