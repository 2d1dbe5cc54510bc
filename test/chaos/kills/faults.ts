/**
 * What happens to an installation under kills. Each fault ends with a coordinator that serves, and
 * adds what it killed to the counts.
 */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import Database from "../../../src/store/sqlite/driver.ts";
import { killProcess } from "../../support/process/running.ts";
import type { SmallDisk } from "../../support/process/small-disk.ts";
import { POLICY, REPO, START_MS, type Killed } from "./installation.ts";
import { listProcesses } from "./processes.ts";

export type Random = () => number;

export interface Counts {
  coordinators: number;
  workers: number;
  /** How often each fault happened. */
  readonly faults: Map<string, number>;
}

export interface Strike {
  readonly killed: Killed;
  readonly random: Random;
  readonly counts: Counts;
  /** Kills of workers by task: each costs the task one of its attempts. */
  readonly deaths: Map<string, number>;
  /** Numbers of the tasks that people wait for. */
  readonly open: ReadonlySet<number>;
  /** Those that met a full disk: it costs a task the one retry that it has for such a failure. */
  readonly spoilt: Set<number>;
}

interface Fault {
  readonly name: string;
  /** Its share of all faults. */
  readonly weight: number;
  /** @returns false when it could not happen. */
  readonly strike: (strike: Strike) => Promise<unknown>;
}

/**
 * Lives from listening to the kill, ms. As many are below 150 ms as above it: a task is provisioned
 * in about 600 ms within one life, so the longer ones are those that get tasks on.
 */
const SHORTEST_MS = 20;
const LONGEST_MS = 1_200;
/** A task has ten attempts: the other ones are left for failures that follow from the faults. */
const DEATHS_PER_TASK = 5;
const MAX_CLOCK_MS = 2 * 3_600_000;
const SHRINK_MS = 100;

const between = (random: Random, least: number, most: number): number => least + random() * (most - least);

/** On a machine so busy that a start takes long, what follows it takes as much longer. */
async function live({ killed, random }: Strike): Promise<void> {
  const slowness = Math.max(1, killed.startMs() / START_MS);
  await delay(SHORTEST_MS * (LONGEST_MS / SHORTEST_MS) ** random() * slowness);
}

async function killCoordinator({ killed, counts }: Strike): Promise<void> {
  await killed.kill();
  counts.coordinators += 1;
}

async function killAndStart(strike: Strike): Promise<void> {
  await live(strike);
  await killCoordinator(strike);
  await strike.killed.start();
}

async function killStarts(strike: Strike): Promise<void> {
  const { killed, random, counts } = strike;
  await live(strike);
  await killCoordinator(strike);
  for (let more = 1 + Math.floor(random() * 3); more > 0; more -= 1) {
    await killed.startFor(random() * killed.startMs());
    counts.coordinators += 1;
  }
  await killed.start();
}

/** As when the machine loses power: nothing of the installation goes on. */
async function killEverything(strike: Strike): Promise<void> {
  await live(strike);
  await killCoordinator(strike);
  for (const { pid } of listProcesses(strike.killed.data)) killProcess(pid);
  await strike.killed.start();
}

async function killWorker(strike: Strike): Promise<boolean> {
  const { killed, random, counts, deaths } = strike;
  await live(strike);
  const candidates = listProcesses(killed.data)
    .filter(({ isWorker }) => isWorker)
    .map(({ pid, box }) => ({ pid, task: box.replace(/-a\d+$/, "") }))
    .filter(({ task }) => (deaths.get(task) ?? 0) < DEATHS_PER_TASK);
  const victim = candidates[Math.floor(random() * candidates.length)];
  if (victim === undefined || !killProcess(victim.pid)) return false;
  deaths.set(victim.task, (deaths.get(victim.task) ?? 0) + 1);
  counts.workers += 1;
  return true;
}

async function stopAndStart(strike: Strike): Promise<void> {
  await live(strike);
  await strike.killed.kill("SIGTERM");
  await strike.killed.start();
}

/** The downtime passes on the clock of the coordinator. */
async function beAway(strike: Strike): Promise<void> {
  const { killed, random } = strike;
  await live(strike);
  await killCoordinator(strike);
  const deadlines = [POLICY.pushMs, POLICY.silenceMs, POLICY.wallMs];
  const deadline = deadlines[Math.floor(random() * deadlines.length)] ?? POLICY.wallMs;
  killed.moveClock(random() * 3 * deadline);
  await killed.start();
}

async function setClock({ killed, random }: Strike): Promise<void> {
  killed.moveClock(between(random, -MAX_CLOCK_MS, MAX_CLOCK_MS));
  await delay(random() * 1_000);
}

async function pause({ killed, random }: Strike): Promise<void> {
  killed.server().process.kill("SIGSTOP");
  await delay(between(random, 100, 2_000));
  killed.server().process.kill("SIGCONT");
}

/** Another program holds the write lock; half of the time the coordinator starts into it. */
async function lockDatabase(strike: Strike): Promise<void> {
  const { killed, random } = strike;
  const db = new Database(join(killed.data, "slipway.db"), { timeout: 5_000 });
  db.exec("BEGIN IMMEDIATE");
  const held = delay(between(random, 50, 2_000)).then(() => db.close());
  try {
    if (random() >= 0.5) return;
    await killCoordinator(strike);
    await killed.start();
  } finally {
    await held;
  }
}

async function cutUpstream({ killed, random }: Strike): Promise<void> {
  if (random() < 0.5) killed.upstream.refuse(REPO, { status: 503 });
  else killed.upstream.shape(REPO, { cutAfter: Math.floor(random() * 2_000) });
  await delay(between(random, 200, 1_500));
  killed.upstream.refuse(REPO, null);
  killed.upstream.shape(REPO, null);
}

/** No program of the installation can write; half of the time the coordinator starts into it. */
async function fillDisk(strike: Strike): Promise<boolean> {
  const { killed, random, open, spoilt } = strike;
  const { disk } = killed;
  if (disk === null || [...open].some((task) => spoilt.has(task))) return false;
  await live(strike);
  const spoil = (): void => open.forEach((task) => spoilt.add(task));
  spoil();
  const full = keepFull(disk, between(random, 200, 3_000));
  try {
    if (random() < 0.5) {
      await killCoordinator(strike);
      await killed.start();
    }
  } finally {
    await full;
  }
  // Those that were submitted meanwhile.
  spoil();
  return true;
}

/** What is deleted meanwhile makes no room for others. */
async function keepFull(disk: SmallDisk, ms: number): Promise<void> {
  const endAt = systemClock.monotonic() + ms;
  try {
    for (; systemClock.monotonic() < endAt; await delay(SHRINK_MS)) disk.shrink();
  } finally {
    disk.clear();
  }
}

const FAULTS: readonly Fault[] = [
  { name: "coordinator killed", weight: 40, strike: killAndStart },
  { name: "coordinator killed, and again in its starts", weight: 20, strike: killStarts },
  { name: "coordinator and workers killed", weight: 6, strike: killEverything },
  { name: "worker killed", weight: 16, strike: killWorker },
  { name: "coordinator stopped by SIGTERM", weight: 3, strike: stopAndStart },
  { name: "coordinator killed, and away for up to three times a deadline", weight: 5, strike: beAway },
  { name: "wall clock set by up to two hours", weight: 3, strike: setClock },
  { name: "coordinator paused by SIGSTOP", weight: 2, strike: pause },
  { name: "database locked by another program", weight: 2, strike: lockDatabase },
  { name: "network to the upstream cut", weight: 3, strike: cutUpstream },
  { name: "disk full", weight: 3, strike: fillDisk },
];
const TOTAL = FAULTS.reduce((sum, { weight }) => sum + weight, 0);

/** One fault, which `random` chooses. */
export async function strikeOnce(strike: Strike): Promise<void> {
  let rest = strike.random() * TOTAL;
  const fault = FAULTS.find(({ weight }) => (rest -= weight) < 0) ?? FAULTS[0];
  if (fault === undefined) return;
  if ((await fault.strike(strike)) === false) return;
  strike.counts.faults.set(fault.name, (strike.counts.faults.get(fault.name) ?? 0) + 1);
}

/** For reports: kills per minute since `begunAt`, on the monotonic clock. */
export function killsPerMinute({ coordinators, workers }: Counts, begunAt: number): number {
  return Math.round((coordinators + workers) / ((systemClock.monotonic() - begunAt) / 60_000));
}
