/** When a task usually starts and ends, from how long those of this server waited and worked. */
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { pluralize } from "../format.ts";

const MINUTE = 60_000;
const RECENT_MS = 7 * 24 * 60 * MINUTE;
/** Shorter is no wait. */
const SHORT_MS = 2_000;
/** Fewer say nothing. */
const SAMPLES = 5;

/** Waits of tasks that waited and started lately, ms, shortest first. */
export function collectWaits(tasks: readonly WireTask[], now: number): readonly number[] {
  const waits: number[] = [];
  for (const { attempt, createdAt, startedAt } of tasks) {
    // A later attempt starts after a retry's delay, not after a wait for a slot.
    if (attempt !== 1 || startedAt === null || now - Date.parse(startedAt) > RECENT_MS) continue;
    const wait = Date.parse(startedAt) - Date.parse(createdAt);
    if (wait >= SHORT_MS) waits.push(wait);
  }
  return waits.toSorted((a, b) => a - b);
}

/** How long tasks that are done worked here lately, ms, shortest first. */
export function collectRuns(tasks: readonly WireTask[], now: number): readonly number[] {
  const runs: number[] = [];
  for (const { state, attempt, startedAt, settledAt } of tasks) {
    if (state !== "done" || attempt !== 1 || startedAt === null || settledAt === null) continue;
    const end = Date.parse(settledAt);
    if (now - end <= RECENT_MS) runs.push(end - Date.parse(startedAt));
  }
  return runs.toSorted((a, b) => a - b);
}

/** The middle half of them: "Usually done in 4–9 min". @returns "" when too little is known. */
export function forecastEnd(runs: readonly number[]): string {
  if (runs.length < SAMPLES) return "";
  const [from, to] = [0.25, 0.75].map((share) => Math.round((runs[Math.floor(runs.length * share)] ?? 0) / MINUTE));
  if (from === undefined || to === undefined || to === 0) return "Usually done within a minute";
  return `Usually done in ${from === to ? to : `${from}–${to}`} min`;
}

/** @returns "" when too little is known, and when the task waits for longer than usual already. */
export function forecastStart(task: WireTask, waits: readonly number[], now: number): string {
  if (task.state !== "queued" || task.attempt > 0 || waits.length < SAMPLES) return "";
  const usual = waits[Math.floor(waits.length / 2)] ?? 0;
  const left = usual - (now - Date.parse(task.createdAt));
  if (left <= 0) return "";
  const minutes = Math.round(left / MINUTE);
  return minutes === 0 ? "usually starts within a minute" : `usually starts in ${pluralize(minutes, "min", "min")}`;
}
