/** The options that bound a task: what it may spend, and what its sandbox may use. */
import type { Command } from "commander";
import type { Budget, Limits } from "../core/task.ts";
import { decimal, wholeNumber } from "./io.ts";

export interface BoundOptions {
  readonly usd?: number;
  readonly minutes?: number;
  readonly turns?: number;
  readonly memory?: number;
  readonly cpus?: number;
  readonly disk?: number;
}

export function withBounds(command: Command): Command {
  return command
    .option("--usd <amount>", "stop after this much money", decimal)
    .option("--minutes <number>", "stop after this much time", decimal)
    .option("--turns <number>", "stop after this many turns of the model", wholeNumber)
    .option("--memory <MiB>", "memory of the sandbox", wholeNumber)
    .option("--cpus <number>", "CPU cores of the sandbox", decimal)
    .option("--disk <MiB>", "size of the workspace", wholeNumber);
}

/** Only what was given; the server knows the defaults. */
export function boundsOf({ usd, minutes, turns, memory, cpus, disk }: BoundOptions): { budget?: Budget; limits?: Limits } {
  const budget: Budget = present({ usd, minutes, turns });
  const limits: Limits = present({ memoryMb: memory, cpus, diskMb: disk });
  return { ...(Object.keys(budget).length === 0 ? {} : { budget }), ...(Object.keys(limits).length === 0 ? {} : { limits }) };
}

type Present<T> = { [K in keyof T]?: Exclude<T[K], undefined> };

/** Leaves out what is undefined. */
export function present<T extends object>(fields: T): Present<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Present<T>;
}
