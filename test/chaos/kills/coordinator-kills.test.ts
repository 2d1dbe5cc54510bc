/**
 * Installations under random kills of coordinators and workers, and what else happens to them,
 * while people submit tasks and speak. When enough was killed, the tasks that are open settle, and
 * every rule is checked from the store, the processes and the upstream.
 */
import { expect } from "vitest";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { createRandom, SEED, sized } from "../../support/random.ts";
import { killsPerMinute, strikeOnce, type Counts } from "./faults.ts";
import { openKilled, SLOTS, type Killed } from "./installation.ts";
import { runTask } from "./people.ts";
import { inTurnTogether } from "../../support/vitest/full-run.ts";

const it = inTurnTogether(3, 2);

const KILLS = Number(process.env["SLIPWAY_CHAOS_KILLS"] ?? sized(10, 40));
/** A lone one waits more than it works, so a long run has more of them. */
const INSTALLATIONS = Math.min(3, Math.ceil(KILLS / 100));
/** Some wait in the queue. */
const PEOPLE = SLOTS + 2;
/** A bound for hangs. */
const LIMIT_MS = 300_000 + (KILLS / INSTALLATIONS) * 6_000;
const RULES = "[T1] [T2] [T4] [T5] [T6] [R1] [R5] [R6] [D1] [D2] [D3] [D4] [D5] [D7] [D11] [D12] [W1] [W5]";

/** Returns when `kills` were made and every task has settled and was judged. */
async function underKills(killed: Killed, kills: number, counts: Counts, seed: number): Promise<void> {
  const random = createRandom(seed);
  let isCalm = false;
  let next = 0;
  const begun: string[] = [];
  const open = new Set<number>();
  async function person(): Promise<void> {
    while (!isCalm) {
      const i = next++;
      open.add(i);
      begun.push(await runTask(killed, i));
      open.delete(i);
    }
  }
  async function strike(): Promise<void> {
    const common = { killed, random, open, spoilt: new Set<number>(), deaths: new Map<string, number>() };
    const mine: Counts = { coordinators: 0, workers: 0, faults: counts.faults };
    while (!isCalm && mine.coordinators + mine.workers < kills) await strikeOnce({ ...common, counts: mine });
    counts.coordinators += mine.coordinators;
    counts.workers += mine.workers;
  }
  const everybody = Array.from({ length: PEOPLE }, person);
  // A task that is judged as wrong ends the kills, and a fault that fails ends the tasks.
  const striking = strike().catch((error: unknown) => {
    killed.giveUp();
    throw error;
  });
  const all = [striking, Promise.all(everybody)].map((part) => part.finally(() => (isCalm = true)));
  for (const end of await Promise.allSettled(all)) if (end.status === "rejected") throw end.reason;
  expect(new Set(begun).size, "[R5] each submission is one task").toBe(next);
}

it(
  `${RULES} ${KILLS} kills in ${INSTALLATIONS} installations, at random moments (seed ${SEED})`,
  { timeout: LIMIT_MS },
  async () => {
    const begunAt = systemClock.monotonic();
    const counts: Counts = { coordinators: 0, workers: 0, faults: new Map() };
    const opening = Array.from({ length: INSTALLATIONS }, (_, n) =>
      openKilled({ mayGoBack: (SEED + n) % 2 === 1, hasDisk: (SEED + n) % 3 !== 0 }),
    );
    const installations = await Promise.all(opening);
    let [tasks, events] = [0, 0];
    try {
      const share = Math.ceil(KILLS / INSTALLATIONS);
      const runs = installations.map((killed, n) => underKills(killed, share, counts, SEED + n));
      for (const end of await Promise.allSettled(runs)) if (end.status === "rejected") throw end.reason;
      const rate = killsPerMinute(counts, begunAt);
      for (const killed of installations) {
        const { most, ...report } = await killed.expectInvariants();
        // That one was seen shows that this looks at the right engine.
        expect(most.sandboxes).toBeGreaterThan(0);
        expect(most.sandboxes).toBeLessThanOrEqual(SLOTS);
        expect(most.perTask).toBe(1);
        if (process.platform === "linux") {
          expect(most.workers).toBeGreaterThan(0);
          expect(most.workers).toBeLessThanOrEqual(SLOTS);
          expect(most.perBox).toBe(1);
        }
        tasks += report.tasks;
        events += report.events;
      }
      const faults = [...counts.faults].map(([name, count]) => `  ${count} x ${name}\n`).join("");
      const failures = installations.flatMap((killed) => [...killed.failures].map(([code, n]) => `${n} x ${code}`));
      const killedText = `${counts.coordinators} kills of coordinators and ${counts.workers} of workers`;
      process.stdout.write(
        `${killedText} at ${rate} a minute, ${tasks} tasks, ${events} events (seed ${SEED})\n${faults}  attempts that failed: ${failures.join(", ")}\n`,
      );
      expect(counts.coordinators + counts.workers).toBeGreaterThanOrEqual(KILLS);
    } finally {
      await Promise.all(installations.map((killed) => killed.close()));
    }
  },
);
