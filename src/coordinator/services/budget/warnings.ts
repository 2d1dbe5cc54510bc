/**
 * Notices that the budget of a task or its thread is nearly used up: one per task, kind and limit.
 * The log is the record of those that were given, so that a restart does not repeat them.
 */
import { formatLimit, type BudgetKind } from "../../../core/budget.ts";
import type { Proposal } from "../../../core/event.ts";
import type { Store } from "../../../core/ports/store.ts";
import { serverNotice } from "../../../core/notices.ts";
import { readLogWithoutWorker } from "../../read-lists.ts";
import type { Limit } from "./accounts.ts";

/** Share of a budget from which its owner is warned. */
const WARN_SHARE = 0.8;
const CODE = "budget_near";

export class BudgetWarnings {
  readonly #store: Pick<Store, "eventsOfOthers">;
  /** By task: `kind limit` of the notices that were given. */
  readonly #given = new Map<string, Promise<Set<string>>>();

  constructor(store: Pick<Store, "eventsOfOthers">) {
    this.#store = store;
  }

  /** The notices that are due now; each is returned once. */
  async due(taskId: string, limits: readonly Limit[]): Promise<Proposal[]> {
    const near = limits.flatMap(toUses).filter(({ used, limit }) => used >= limit * WARN_SHARE);
    if (near.length === 0) return [];
    const given = await this.#readGiven(taskId);
    return near.flatMap(({ kind, used, limit }): Proposal[] => {
      const key = `${kind} ${limit}`;
      if (given.has(key)) return [];
      given.add(key);
      const whose = kind === "threadUsd" ? "the thread's budget" : "the budget";
      const text = `${formatLimit(kind, used)} of ${whose} of ${formatLimit(kind, limit)} are used.`;
      return [serverNotice("warning", CODE, text, { kind, limit })];
    });
  }

  forget(taskId: string): void {
    this.#given.delete(taskId);
  }

  #readGiven(taskId: string): Promise<Set<string>> {
    const known = this.#given.get(taskId);
    if (known !== undefined) return known;
    const read = this.#readLog(taskId);
    this.#given.set(taskId, read);
    return read;
  }

  async #readLog(taskId: string): Promise<Set<string>> {
    const found = new Set<string>();
    for await (const { type, data } of readLogWithoutWorker(this.#store, taskId, 0))
      if (type === "notice" && data["code"] === CODE) found.add(`${String(data["kind"])} ${String(data["limit"])}`);
    return found;
  }
}

interface Use {
  readonly kind: BudgetKind;
  readonly used: number;
  readonly limit: number;
}

/** Daily budgets give no warning: they are not the task's. */
function toUses({ scope, account: { spent }, usd, requests }: Limit): Use[] {
  if (scope === "day") return [];
  const dollars = scope === "thread" ? "threadUsd" : "usd";
  return [
    ...(usd === null ? [] : [{ kind: dollars, used: spent.usd, limit: usd } as const]),
    ...(requests === null ? [] : [{ kind: "turns", used: spent.requests, limit: requests } as const]),
  ];
}
