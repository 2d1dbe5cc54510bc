/** Runs a plan: the world, then the time after the faults, then the rules of the end. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isSettledState } from "../../src/core/task.ts";
import { openMemoryStore } from "../../src/store/memory/store.ts";
import { openSqliteStore } from "../../src/store/sqlite/store.ts";
import type { Act, MomentKind, Plan, WindowKind } from "./plan.ts";
import { REQUESTS, WINDOWS } from "./plan.ts";
import type { Finding } from "./rules/during.ts";
import { checkEnd, readTasks } from "./rules/end.ts";
import { REPO } from "./model/people.ts";
import { Simulation, type Base } from "./model/simulation.ts";

export interface Outcome {
  readonly plan: Plan;
  readonly findings: readonly Finding[];
  /** Of the trace. */
  readonly digest: string;
  readonly trace: readonly string[];
  readonly virtualMs: number;
  readonly steps: number;
  readonly counts: ReadonlyMap<string, number>;
  readonly tasks: Readonly<Record<string, number>>;
}

/** After everything is settled, the ticks get this long to clear up. */
const REST_MS = 45_000;
/** More steps than any run needs. */
const MOST_STEPS = 400_000;

export async function run(plan: Plan): Promise<Outcome> {
  const { base, close } = openBase(plan);
  const world = new Simulation(plan, base);
  const watch = (error: unknown): void =>
    world.rules.break("crash", `nobody handles: ${error instanceof Error ? error.stack : String(error)}`);
  process.on("unhandledRejection", watch);
  try {
    await play(world);
    await checkEnd(world);
  } finally {
    process.off("unhandledRejection", watch);
    world.process?.kill("the run is over");
    await close();
  }
  const tasks: Record<string, number> = {};
  for (const { state } of world.rules.history.tasks.values()) tasks[state] = (tasks[state] ?? 0) + 1;
  return {
    plan,
    findings: world.rules.findings,
    digest: world.trace.digest(),
    trace: world.trace.lines,
    virtualMs: world.time.now,
    steps: world.time.steps,
    counts: world.faults.counts,
    tasks,
  };
}

function openBase({ store }: Plan): { base: Base; close: () => Promise<void> } {
  if (store === "memory") return { base: openMemoryStore(), close: () => Promise.resolve() };
  const dir = mkdtempSync(join(tmpdir(), "slipway-simulation-"));
  const migrations = join(process.cwd(), "migrations", "sqlite");
  const base = openSqliteStore({ dir, migrations, synchronous: "NORMAL" });
  const close = async (): Promise<void> => {
    await base.store.close();
    rmSync(dir, { recursive: true, force: true });
  };
  return { base, close };
}

async function play(world: Simulation): Promise<void> {
  const { plan, time, machine, faults, trace, people } = world;
  world.start();
  for (const act of plan.acts) time.schedule(machine, act.at, () => perform(world, act));
  const last = plan.acts.at(-1)?.at ?? 0;
  await runUntil(world, () => time.now > last);
  const windows = plan.acts.flatMap((act) => ("p" in act ? [act.at + act.ms] : []));
  const end = Math.min(Math.max(last, ...windows), last + 3 * plan.policy.wallMs);
  await runUntil(world, () => time.now > end);
  faults.closeAll();
  trace.add("the faults have ceased");
  people.resumeQueue();
  await settle(world);
}

/** Until everything is settled, and for REST_MS more; or until every deadline has passed. */
async function settle(world: Simulation): Promise<void> {
  const { time, plan, rules } = world;
  const { queueMs, wallMs, answerMs, parkMs, bootMs, pushMs } = plan.policy;
  const awake = Math.max(time.now, world.process?.domain.pausedUntil ?? 0);
  const longest = awake + queueMs + 3 * (wallMs + answerMs + parkMs + bootMs + pushMs);
  let restAt = Infinity;
  await runUntil(world, () => {
    const isSettled = [...rules.history.tasks.values()].every(({ state }) => isSettledState(state));
    // The ticks that clear up need a coordinator that runs.
    const isAtWork = world.process?.isListening === true && world.process.domain.pausedUntil <= time.now;
    if (!isSettled || !isAtWork) restAt = Infinity;
    else if (restAt === Infinity) restAt = time.now + REST_MS;
    return time.now >= restAt || time.now > longest;
  });
  // Tasks that people made in the last moment are settled too.
  await readTasks(world);
}

async function runUntil({ time, rules }: Simulation, isOver: () => boolean): Promise<void> {
  let [at, steps] = [time.now, time.steps];
  while (!isOver() && (await time.step())) {
    if (time.steps > MOST_STEPS) return rules.break("loop", "the run does not end");
    if (time.now > at) [at, steps] = [time.now, time.steps];
    if (time.steps - steps > 20_000) return rules.break("loop", "time stands still");
  }
}

const isRequest = (act: Act): act is Extract<Act, { readonly do: (typeof REQUESTS)[number] }> =>
  (REQUESTS as readonly string[]).includes(act.do);
const isWindow = (act: Act): act is Extract<Act, { readonly do: WindowKind }> =>
  (WINDOWS as readonly string[]).includes(act.do);

function perform(world: Simulation, act: Act): void {
  const { faults, people, trace, rules } = world;
  if (act.do === "submit") return people.submit(act);
  if (isRequest(act)) return void people.request(act).catch((error: unknown) => rules.break("people", String(error)));
  trace.add(`fault: ${act.do} ${act.ms} ms`);
  if (isWindow(act)) return faults.open(act.do, act.ms, act.p);
  faults.count(act.do);
  performMoment(world, act.do, act.ms, act.choice);
}

function performMoment(world: Simulation, kind: MomentKind, ms: number, choice: number): void {
  const { time, machine, faults, upstream } = world;
  const running = world.runningSandboxes();
  switch (kind) {
    case "kill":
      return world.kill(ms, "killed");
    case "kill_in_boot":
      world.kill(ms, "killed");
      return void time.schedule(machine, ms + (choice % 40), () => world.kill(ms, "killed in its boot"));
    case "stop":
      return world.stop(ms);
    case "reboot":
      world.kill(ms, "the machine restarts");
      return world.endSandboxes(running, [null, 0, 255, 137][choice % 4] ?? null);
    case "pause":
      faults.open("paused", ms);
      if (world.process !== null) world.process.domain.pause(time.now + ms);
      return;
    case "clock.jump":
      world.wall.offset += ms;
      return;
    case "sandbox.killed":
      return world.endSandboxes(pickOne(running, choice), 137);
    case "sandbox.vanishes":
      return world.endSandboxes(pickOne(running, choice), null);
    case "upstream.commit":
    case "upstream.deleted":
    case "upstream.replaced": {
      const [branch] = pickOne(
        [...upstream.tips.keys()].filter((key) => !key.endsWith("#main")),
        choice,
      );
      if (branch === undefined) return;
      const tip = upstream.tips.get(branch) ?? null;
      const parent = kind === "upstream.commit" ? tip : upstream.baseTip(REPO, "main");
      const to = kind === "upstream.deleted" ? null : upstream.commit(parent, "bot");
      return upstream.set(null, REPO, branch.slice(REPO.length + 1), to);
    }
  }
}

const pickOne = <T>(list: readonly T[], choice: number): T[] =>
  list.length === 0 ? [] : [list[choice % list.length]!];
