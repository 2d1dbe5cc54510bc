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
  /** The worst search: longest hold of the event loop, and until its answer. */
  readonly search: { readonly holdMs: number; readonly totalMs: number };
}

/** The largest page of `GET /v1/tasks`. */
const PAGE = 200;
const ROUNDS = 5;
/** Characters of a prompt. */
const PROMPT = 2_000;
/** Texts that fill no page early: rare, absent, too short for the index, costly to compare. */
const PATTERNS = [
  "q9 unique",
  "no such text anywhere",
  "zq",
  "~",
  "a".repeat(200),
  `${"a".repeat(199)}b`,
  "the of the of the",
];

export async function lists(tasks = 10_000): Promise<Lists> {
  const { store, accounts, close } = await openBenchStore();
  const { coordinator } = await openBenchCoordinator(1, { store, close: () => Promise.resolve() });
  await coordinator.operations.setQueueMode("paused");
  for (let i = 0; i < tasks; i += 500) {
    const submits = Array.from({ length: 500 }, (_, n) =>
      coordinator.tasks.submit(
        { userId: `user_${n % 20}`, role: "user" },
        { repo: "https://git.example.com/team/app", prompt: makePrompt(i + n) },
        null,
      ),
    );
    await Promise.all(submits);
  }
  const waitingMs = await longestHold(async () => {
    const { items } = await store.tasks({ userId: null, states: ["queued"], limit: PAGE });
    const { operations, budget } = coordinator;
    await toTaskViews({ operations, budget, accounts, store }, items);
  });
  const search = { holdMs: 0, totalMs: 0 };
  for (const text of PATTERNS) {
    const begun = performance.now();
    const holdMs = await longestHold(async () => void (await store.tasks({ userId: null, text, limit: PAGE })));
    search.totalMs = Math.max(search.totalMs, (performance.now() - begun) / ROUNDS);
    search.holdMs = Math.max(search.holdMs, holdMs);
  }
  await coordinator.close();
  await close();
  return { tasks, waitingMs, search };
}

const WORDS = "the of fix add test login page button error retry queue docker parser token aaaa empty list".split(" ");

/** Words in an order that looks arbitrary; some prompts are one letter, over and over. */
function makePrompt(i: number): string {
  if (i % 10 === 0) return "a".repeat(PROMPT);
  const words: string[] = [i === 77 ? "q9 unique" : `task ${i}`];
  for (let n = i, size = 0; size < PROMPT; n = (n * 1_103_515_245 + 12_345) % 2_147_483_648) {
    const word = WORDS[(n >> 8) % WORDS.length] ?? "";
    words.push(word);
    size += word.length + 1;
  }
  return words.join(" ");
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
