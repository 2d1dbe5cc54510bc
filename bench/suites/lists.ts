/**
 * How long lists of many tasks hold the event loop: SQLite reads in the main thread, so the longest
 * time without a turn is what everybody waits.
 */
import { openBenchCoordinator } from "./lifecycle.ts";
import { openBenchStore } from "../support.ts";
import { toTaskViews } from "../../src/http/routes/tasks.ts";

export interface Lists {
  readonly tasks: number;
  /** A page of waiting tasks with their positions, the last in the queue. */
  readonly waitingMs: number;
}

/** The largest page of `GET /v1/tasks`. */
const PAGE = 200;
const ROUNDS = 5;

export async function lists(tasks = 10_000): Promise<Lists> {
  const { store, accounts, close } = await openBenchStore();
  const { coordinator } = await openBenchCoordinator(1, { store, close: () => Promise.resolve() });
  await coordinator.operations.pauseQueue(true);
  for (let i = 0; i < tasks; i += 500) {
    const submits = Array.from({ length: 500 }, (_, n) =>
      coordinator.tasks.submit(
        { userId: `user_${n % 20}`, role: "user" },
        { repo: "https://git.example.com/team/app", prompt: `Wait, ${i + n}.` },
        null,
      ),
    );
    await Promise.all(submits);
  }
  const waitingMs = await longestHold(async () => {
    const { items } = await store.tasks({ userId: null, states: ["queued"], limit: PAGE });
    await toTaskViews({ operations: coordinator.operations, accounts }, items);
  });
  await coordinator.close();
  await close();
  return { tasks, waitingMs };
}

/** Longest time between two turns of the event loop while `act` runs, ms; the median of some. */
async function longestHold(act: () => Promise<void>): Promise<number> {
  const found: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    let [last, longest] = [performance.now(), 0];
    const tick = (): void => {
      const now = performance.now();
      longest = Math.max(longest, now - last);
      last = now;
    };
    const timer = setInterval(tick, 0);
    await act();
    tick();
    clearInterval(timer);
    found.push(longest);
  }
  return found.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? NaN;
}
