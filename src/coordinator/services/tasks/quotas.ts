/**
 * Keeps people within their quotas (rule S14), and says how much of them is used.
 *
 * Q1 Tasks of one person are admitted one after another: many at once do not pass together. Without
 *    a limit on tasks they are admitted side by side, and their writes share transactions.
 * Q2 A request that is sent again is never refused: its task exists (rule R5).
 */
import { QuotaExceeded } from "../../../core/error.ts";
import { KeyedMutex } from "../../../core/lib/concurrency/keyed-mutex.ts";
import type { Clock } from "../../../core/ports/runtime.ts";
import type { Store } from "../../../core/ports/store.ts";
import type { UsageLedger } from "../../../core/ports/records/usage-ledger.ts";
import { describeExcess, sumOf, type PersonStorage, type StoredBytes } from "../people/person-storage.ts";
import {
  quotaKey,
  readOwnQuotas,
  readQuotas,
  startOfDay,
  startOfMonth,
  type QuotaName,
  type Quotas,
  type QuotaSettings,
  type SomeQuotas,
} from "../../../core/quotas.ts";

export interface QuotaDeps extends QuotaSettings {
  readonly store: Pick<Store, "setting" | "setSetting" | "newestTaskAt" | "taskLoad" | "hasIdempotencyKey">;
  readonly ledger: Pick<UsageLedger, "spentSince">;
  readonly clock: Clock;
  readonly storage: Pick<PersonStorage, "of" | "excess">;
}

type QuotaChange = SomeQuotas & { readonly reset?: boolean | undefined };

export interface PersonUsage {
  readonly tasks: { readonly open: number; readonly day: number };
  /** US dollars of this UTC day and month. */
  readonly usd: { readonly day: number; readonly month: number };
  readonly storage: StoredBytes & { readonly total: number };
  readonly quotas: Quotas;
}

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
/** People whose searches are remembered. */
const SEARCHERS = 10_000;

export class PersonQuotas {
  readonly #deps: QuotaDeps;
  readonly #mutex = new KeyedMutex();
  /** Times of each person's searches of the last minute, oldest first. */
  readonly #searches = new Map<string, number[]>();

  constructor(deps: QuotaDeps) {
    this.#deps = deps;
  }

  /**
   * Runs `begin`, which begins a task of this person.
   * @throws QuotaExceeded without running it.
   */
  async admit<T>(userId: string, key: string | null, begin: () => Promise<T>): Promise<T> {
    const isLimited = await this.#limitsTasks(userId);
    const assertAndBegin = async (): Promise<T> => {
      if (key === null || !(await this.#deps.store.hasIdempotencyKey(userId, key))) await this.#assertRoom(userId);
      return await begin();
    };
    return await (isLimited ? this.#mutex.run(userId, assertAndBegin) : assertAndBegin());
  }

  /** Counts one search. @throws QuotaExceeded */
  async noteSearch(userId: string): Promise<void> {
    const { searchesPerMinute: limit } = await readQuotas(this.#deps.store, this.#deps, userId);
    if (limit === null) return;
    const now = this.#deps.clock.now();
    const recent = (this.#searches.get(userId) ?? []).filter((at) => at > now - MINUTE_MS && at <= now);
    if (recent.length >= limit) throw toRefusal("searchesPerMinute", limit, (recent[0] ?? now) + MINUTE_MS, now);
    if (this.#searches.size >= SEARCHERS) this.#searches.clear();
    this.#searches.set(userId, [...recent, now]);
  }

  async usage(userId: string): Promise<PersonUsage> {
    const { store, ledger, clock } = this.#deps;
    const now = clock.now();
    const load = await store.taskLoad(userId, now - DAY_MS);
    const day = await ledger.spentSince(startOfDay(now), userId);
    const month = await ledger.spentSince(startOfMonth(now), userId);
    const stored = await this.#deps.storage.of(userId);
    return {
      tasks: { open: load.open, day: load.since },
      usd: { day: day.usd, month: month.usd },
      storage: { total: sumOf(stored), ...stored },
      quotas: await readQuotas(store, this.#deps, userId),
    };
  }

  /** Sets the named quotas of the person; `reset` first takes back what was set. */
  async change(userId: string, { reset, ...change }: QuotaChange): Promise<void> {
    const { store } = this.#deps;
    await this.#mutex.run(userId, async () => {
      const own = { ...(reset === true ? {} : await readOwnQuotas(store, userId)), ...change };
      await store.setSetting(quotaKey(userId), Object.keys(own).length === 0 ? null : JSON.stringify(own));
    });
  }

  async #limitsTasks(userId: string): Promise<boolean> {
    const { tasksPerMinute, tasksPerDay, openTasks } = await readQuotas(this.#deps.store, this.#deps, userId);
    return tasksPerMinute !== null || tasksPerDay !== null || openTasks !== null;
  }

  async #assertRoom(userId: string): Promise<void> {
    const { store, clock } = this.#deps;
    const quotas = await readQuotas(store, this.#deps, userId);
    const now = clock.now();
    for (const [name, windowMs] of [
      ["tasksPerMinute", MINUTE_MS],
      ["tasksPerDay", DAY_MS],
    ] as const) {
      const limit = quotas[name];
      if (limit === null) continue;
      if (limit === 0) throw toRefusal(name, limit, null, now);
      // The task that has to be older than the window before one more fits into it.
      const at = await store.newestTaskAt(userId, limit);
      if (at !== null && at > now - windowMs && at <= now) throw toRefusal(name, limit, at + windowMs, now);
    }
    const { openTasks: limit } = quotas;
    if (limit !== null && (await store.taskLoad(userId, now)).open >= limit)
      throw toRefusal("openTasks", limit, null, now);
    const excess = await this.#deps.storage.excess(userId);
    if (excess !== null) throw new QuotaExceeded("storageMb", describeExcess(excess.stored, excess.limitMb), null);
  }
}

const WORDS: Partial<Record<QuotaName, string>> = {
  tasksPerMinute: "tasks that a person may begin in a minute",
  tasksPerDay: "tasks that a person may begin in a day",
  openTasks: "tasks that a person may have open at once",
  searchesPerMinute: "searches that a person may make in a minute",
};

/** @param until when it has room again, epoch ms; null = no time brings that about. */
function toRefusal(name: QuotaName, limit: number, until: number | null, now: number): QuotaExceeded {
  const what = `The quota of ${limit} ${WORDS[name] ?? name} is used up`;
  const next =
    until === null
      ? limit === 0
        ? "An admin can raise it."
        : "Wait until one has ended, or cancel one."
      : `Try again after ${new Date(until).toISOString()}.`;
  return new QuotaExceeded(name, `${what}. ${next}`, until === null ? null : until - now);
}
