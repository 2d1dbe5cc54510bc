/** Options that limit a task: its budget, and the resources of its sandbox. */
import type { Command } from "commander";
import type { Budget, Limits } from "../core/task.ts";
import { parseDecimal, parseWholeNumber } from "./io.ts";

export interface LimitOptions {
  readonly usd?: number;
  readonly threadUsd?: number;
  readonly minutes?: number;
  readonly turns?: number;
  readonly memory?: number;
  readonly cpus?: number;
  readonly disk?: number;
}

export function addLimitOptions(command: Command): Command {
  return command
    .option("--usd <amount>", "budget in US dollars", parseDecimal)
    .option("--thread-usd <amount>", "budget in US dollars of all tasks of the thread", parseDecimal)
    .option("--minutes <number>", "budget in minutes of work", parseDecimal)
    .option("--turns <number>", "budget in turns of the model", parseWholeNumber)
    .option("--memory <MiB>", "memory of the sandbox", parseWholeNumber)
    .option("--cpus <number>", "CPU cores of the sandbox", parseDecimal)
    .option("--disk <MiB>", "size of the workspace", parseWholeNumber);
}

/** Only what was given; the server applies the defaults. */
export function readLimitOptions({ usd, threadUsd, minutes, turns, memory, cpus, disk }: LimitOptions): {
  budget?: Budget;
  limits?: Limits;
} {
  const budget: Budget = withoutUndefined({ usd, threadUsd, minutes, turns });
  const limits: Limits = withoutUndefined({ memoryMb: memory, cpus, diskMb: disk });
  return {
    ...(Object.keys(budget).length === 0 ? {} : { budget }),
    ...(Object.keys(limits).length === 0 ? {} : { limits }),
  };
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** The properties that are not undefined. */
export function withoutUndefined<T extends object>(fields: T): Present<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Present<T>;
}
