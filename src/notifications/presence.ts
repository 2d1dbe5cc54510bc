/** Which tasks people look at, as their pages report. In memory: pages report again every 20 s. */

const TTL_MS = 45_000;
/** Pages of one person. */
const PAGES = 50;

export class Presence {
  readonly #now: () => number;
  readonly #people = new Map<string, Map<string, { readonly taskId: string; readonly until: number }>>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** @param taskId null = the page shows no task, or is hidden. */
  report(userId: string, page: string, taskId: string | null): void {
    const pages = this.#people.get(userId) ?? new Map<string, { taskId: string; until: number }>();
    for (const [id, { until }] of pages) if (until <= this.#now()) pages.delete(id);
    pages.delete(page);
    if (taskId !== null && pages.size < PAGES) pages.set(page, { taskId, until: this.#now() + TTL_MS });
    if (pages.size === 0) this.#people.delete(userId);
    else this.#people.set(userId, pages);
  }

  isLookedAt(userId: string, taskId: string): boolean {
    const pages = [...(this.#people.get(userId)?.values() ?? [])];
    return pages.some((page) => page.taskId === taskId && page.until > this.#now());
  }
}
