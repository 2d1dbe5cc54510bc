/** How the worker of an attempt behaves: drawn from the seed, the task's prompt and the attempt. */
import type { Policy } from "../../../src/core/task.ts";
import type { Dice } from "./dice.ts";

/** What goes wrong with a worker. Each justifies the failure that follows from it. */
export const MISDEEDS = [
  "reports_failure",
  "exits",
  "out_of_memory",
  "dies",
  "falls_silent",
  "overruns",
  "never_ready",
] as const;
export type Misdeed = (typeof MISDEEDS)[number];

export type Step = { readonly ms: number } & (
  | { readonly do: "tool" | "checkpoint" | "talk" | "model" }
  | { readonly do: "ask"; readonly id: string }
);

export interface Behaviour {
  readonly bootMs: number;
  readonly cloneMs: number;
  readonly steps: readonly Step[];
  /** From the agent's end to the report. */
  readonly checksMs: number;
  readonly changes: boolean;
  /** Null = it does what it should. */
  readonly misdeed: Misdeed | null;
  /** The step before which it goes wrong. */
  readonly misdeedAt: number;
}

export function drawBehaviour(dice: Dice, policy: Policy, badShare: number, hasModel: boolean): Behaviour {
  const isLong = dice.chance(0.2);
  const count = dice.int(1, isLong ? 20 : 8);
  const longest = isLong ? policy.wallMs / 40 : policy.silenceMs / dice.pick([6, 20]);
  const steps = Array.from({ length: count }, (_, i): Step => {
    const ms = dice.int(20, longest);
    const kind = dice.pick(["tool", "tool", "talk", "checkpoint", hasModel ? "model" : "tool", "ask"] as const);
    if (kind !== "ask") return { do: kind, ms };
    return dice.chance(0.5) ? { do: "ask", ms, id: `q${i}` } : { do: "tool", ms };
  });
  const isBad = dice.chance(badShare);
  return {
    bootMs: dice.log(10, 2_000),
    cloneMs: dice.log(10, 3_000),
    steps,
    checksMs: dice.log(10, policy.silenceMs / 3),
    changes: dice.chance(0.9),
    misdeed: isBad ? dice.pick(MISDEEDS) : null,
    misdeedAt: dice.int(0, count),
  };
}
