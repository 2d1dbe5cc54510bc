/**
 * The budgets of threads: the most that any task of the thread was submitted with or was granted.
 * It is only raised, so it does not matter which task a person raised it in.
 */
import { remainingBudget } from "../../../core/budget.ts";
import type { UsageLedger, UsageTotal } from "../../../core/ports/records/usage-ledger.ts";
import type { Store } from "../../../core/ports/store.ts";
import type { Task } from "../../../core/task.ts";
import { readTasks } from "../../read-lists.ts";

interface Thread {
  readonly taskIds: readonly string[];
  /** US dollars; null = no limit. */
  readonly usd: number | null;
}

/** Threads that are remembered; others are read again. */
const MOST = 1_000;
const NONE: Thread = { taskIds: [], usd: null };

export class ThreadBudgets {
  readonly #store: Pick<Store, "tasks">;
  readonly #ledger: Pick<UsageLedger, "spentBy">;
  /** By thread, oldest first. */
  readonly #threads = new Map<string, Promise<Thread>>();

  constructor(store: Pick<Store, "tasks">, ledger: Pick<UsageLedger, "spentBy">) {
    this.#store = store;
    this.#ledger = ledger;
  }

  /** @returns US dollars; null = no limit. */
  async limit({ threadId }: Pick<Task, "threadId">): Promise<number | null> {
    return (await this.#thread(threadId)).usd;
  }

  async spent(threadId: string): Promise<UsageTotal> {
    let total: UsageTotal = { usd: 0, requests: 0 };
    for (const id of (await this.#thread(threadId)).taskIds) {
      const { usd, requests } = await this.#ledger.spentBy(id);
      total = { usd: total.usd + usd, requests: total.requests + requests };
    }
    return total;
  }

  /** A task was committed. Only adds, so it may come before the thread is read, or after. */
  note(task: Task): void {
    const known = this.#threads.get(task.threadId);
    if (known !== undefined)
      void this.#put(
        task.threadId,
        known.then((thread) => withTask(thread, task)),
      );
  }

  #thread(id: string): Promise<Thread> {
    return this.#threads.get(id) ?? this.#put(id, this.#read(id));
  }

  #put(id: string, thread: Promise<Thread>): Promise<Thread> {
    this.#threads.set(id, thread);
    thread.catch(() => this.#threads.delete(id));
    for (const oldest of this.#threads.keys()) {
      if (this.#threads.size <= MOST) break;
      this.#threads.delete(oldest);
    }
    return thread;
  }

  async #read(threadId: string): Promise<Thread> {
    let thread = NONE;
    for await (const task of readTasks(this.#store, { userId: null, threadId })) thread = withTask(thread, task);
    return thread;
  }
}

function withTask(thread: Thread, task: Task): Thread {
  const { threadUsd } = task.setAside === undefined ? remainingBudget(task) : {};
  const usd = threadUsd === undefined ? thread.usd : Math.max(thread.usd ?? 0, threadUsd);
  const isKnown = thread.taskIds.includes(task.id);
  return isKnown && usd === thread.usd
    ? thread
    : { usd, taskIds: isKnown ? thread.taskIds : [...thread.taskIds, task.id] };
}
