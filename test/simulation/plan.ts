/**
 * What happens to a simulated world from outside: drawn from a seed, plain JSON, and complete. The
 * same plan gives the same run, and a plan with some acts left out is a plan too.
 */
import type { Policy } from "../../src/core/task.ts";
import { Dice } from "./model/dice.ts";

/** A fault that lasts: `at` to `at + ms`. `p` is the share of calls that it hits. */
export const WINDOWS = [
  "store.fails",
  "store.answer_lost",
  "store.slow",
  "store.locked",
  "store.full",
  "store.reads_fail",
  "store.reads_slow",
  "engine.down",
  "engine.hangs",
  "engine.slow",
  "engine.answer_lost",
  "upstream.down",
  "fetch.breaks",
  "fetch.slow",
  "push.answer_lost",
  "push.slow",
  "disk.low",
  "disk.nearly_full",
  "network.cut",
  "network.lossy",
  "broker.fails",
] as const;
export type WindowKind = (typeof WINDOWS)[number];

/** A fault of a moment. */
export const MOMENTS = [
  "kill",
  "kill_in_boot",
  "stop",
  "reboot",
  "pause",
  "clock.jump",
  "sandbox.killed",
  "sandbox.vanishes",
  "upstream.commit",
  "upstream.deleted",
  "upstream.replaced",
] as const;
export type MomentKind = (typeof MOMENTS)[number];

export const REQUESTS = ["message", "cancel", "force", "retry", "withdraw", "pause_queue"] as const;
export type RequestKind = (typeof REQUESTS)[number];

export type Act =
  | {
      readonly do: "submit";
      readonly at: number;
      readonly name: string;
      readonly user: string;
      /** Null = a branch of its own. */
      readonly branch: string | null;
      readonly maxAttempts: number;
      readonly priority: number;
      /** Null = no budget; the agent is scripted then. */
      readonly turns: number | null;
      readonly twice: number | null;
    }
  | {
      readonly do: RequestKind;
      readonly at: number;
      /** The task that was submitted under this name, or the newest task of its thread. */
      readonly task: string;
      readonly newest: boolean;
      readonly choice: number;
      /** The same request again after this many ms; null = once. */
      readonly twice: number | null;
    }
  | { readonly do: WindowKind; readonly at: number; readonly ms: number; readonly p: number }
  | {
      readonly do: MomentKind;
      readonly at: number;
      /** Downtime, length of the pause, or size of the jump. */
      readonly ms: number;
      readonly choice: number;
    };

export interface Plan {
  readonly seed: number;
  readonly store: "memory" | "sqlite";
  readonly policy: Policy;
  readonly maxConcurrent: number;
  readonly userLimit: number | null;
  readonly livenessMs: number;
  /** Share of attempts whose worker misbehaves. */
  readonly badWorkers: number;
  readonly acts: readonly Act[];
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** The proportions of the defaults at a smaller scale, so that a run is short. */
const SHORT_POLICY: Policy = {
  queueMs: 40 * MINUTE,
  progressMs: 20 * SECOND,
  bootMs: 90 * SECOND,
  silenceMs: 60 * SECOND,
  wallMs: 5 * MINUTE,
  parkMs: 40 * SECOND,
  answerMs: 12 * MINUTE,
  pushMs: 40 * SECOND,
  graceMs: 3 * SECOND,
  cancelMs: 10 * SECOND,
  backoffMs: SECOND,
  backoffCapMs: 20 * SECOND,
};
const LIVENESS_MS = 15 * SECOND;

export function createPlan(seed: number, store: Plan["store"] = "memory"): Plan {
  const dice = new Dice(seed, "plan");
  const policy = SHORT_POLICY;
  const spanMs = dice.int(policy.wallMs / 2, policy.wallMs * 2);
  const people = drawPeople(dice, spanMs);
  const faults = drawFaults(dice, policy, spanMs);
  const acts = [...people, ...faults, ...drawDuringBoots(dice, people, faults)];
  return {
    seed,
    store,
    policy,
    maxConcurrent: dice.pick([1, 2, 2, 3, 4, 8]),
    userLimit: dice.pick([null, null, 1, 2]),
    livenessMs: LIVENESS_MS,
    badWorkers: dice.pick([0, 0, 0.1, 0.3]),
    acts: acts.toSorted((a, b) => a.at - b.at),
  };
}

function drawPeople(dice: Dice, spanMs: number): Act[] {
  const acts: Act[] = [];
  const names = Array.from({ length: dice.int(1, 9) }, (_, i) => `t${i + 1}`);
  const shares = dice.chance(0.3);
  for (const name of names)
    acts.push({
      do: "submit",
      at: dice.int(0, spanMs * dice.pick([0.1, 0.7])),
      name,
      user: dice.pick(["user_alice", "user_bob"]),
      branch: shares && dice.chance(0.5) ? "shared" : null,
      maxAttempts: dice.pick([1, 1, 2, 3]),
      priority: dice.pick([0, 0, 0, 1, -1]),
      turns: dice.chance(0.2) ? dice.int(1, 4) : null,
      twice: drawRepeat(dice),
    });
  const requests = dice.int(0, names.length * 3);
  for (let i = 0; i < requests; i += 1) acts.push(drawRequest(dice, names, dice.int(0, spanMs * 1.1)));
  return acts;
}

const drawRequest = (dice: Dice, names: readonly string[], at: number): Extract<Act, { readonly do: RequestKind }> => ({
  do: dice.pick(["message", "message", "message", "retry", "retry", ...REQUESTS]),
  at,
  task: dice.pick(names),
  newest: dice.chance(0.6),
  choice: dice.int(0, 999),
  twice: drawRepeat(dice),
});

/** People who have waited for a coordinator speak while it boots. */
function drawDuringBoots(dice: Dice, people: readonly Act[], faults: readonly Act[]): Act[] {
  const names = people.flatMap((act) => (act.do === "submit" ? [act.name] : []));
  const starts = faults.flatMap((act) => (isStop(act) && dice.chance(0.6) ? [act.at + act.ms] : []));
  return starts.flatMap((at): Act[] => [
    // A slow boot is longer than the time between two requests.
    ...(dice.chance(0.4) ? [{ do: "store.slow", at, ms: 6_000, p: 1 } as const] : []),
    // People act between a read of the boot and its answer.
    ...(dice.chance(0.4) ? [{ do: "store.reads_slow", at, ms: 6_000, p: dice.pick([0.3, 1]) } as const] : []),
    ...Array.from({ length: dice.int(1, 4) }, () => {
      const request = drawRequest(dice, names, at + dice.log(1, 300));
      return dice.chance(0.5) ? { ...request, do: dice.pick(["cancel", "force"] as const) } : request;
    }),
  ]);
}

const isStop = (act: Act): act is Extract<Act, { readonly do: MomentKind }> =>
  (["kill", "kill_in_boot", "stop", "reboot"] as readonly string[]).includes(act.do);

const drawRepeat = (dice: Dice): number | null => (dice.chance(0.25) ? dice.pick([0, 0, 1, 5, 50, 3_000]) : null);

/** A run has few kinds of faults, so that each is also seen without the noise of the others. */
function drawFaults(dice: Dice, policy: Policy, spanMs: number): Act[] {
  const acts: Act[] = [];
  const limits = [policy.progressMs, policy.silenceMs, policy.wallMs, policy.pushMs, policy.cancelMs, policy.parkMs];
  const drawLength = (): number => {
    const limit = dice.pick(limits);
    return dice.pick([dice.log(1, 500), dice.log(500, 5_000), dice.int(0, limit), dice.int(limit, limit * 3)]);
  };
  for (const kind of dice.sample(WINDOWS, dice.pick([0, 1, 1, 2, 5])))
    for (let left = dice.int(2, 8); left > 0; left -= 1) {
      const ms = dice.chance(0.5) ? dice.log(100, 10_000) : drawLength();
      acts.push({ do: kind, at: dice.int(0, spanMs), ms, p: dice.pick([0.1, 0.3, 1, 1]) });
    }
  for (const kind of dice.sample(MOMENTS, dice.pick([0, 1, 1, 2, 4])))
    for (let left = dice.int(1, 6); left > 0; left -= 1) {
      const sign = kind === "clock.jump" && dice.chance(0.4) ? -1 : 1;
      acts.push({ do: kind, at: dice.int(0, spanMs), ms: sign * drawLength(), choice: dice.int(0, 999) });
    }
  return acts;
}
