/** When a waiting task usually starts, from how long the tasks of this installation waited. */
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

/** @returns "" when too little is known, and when the task waits for longer than usual already. */
export function forecastStart(task: WireTask, waits: readonly number[], now: number): string {
  if (task.state !== "queued" || task.attempt > 0 || waits.length < SAMPLES) return "";
  const usual = waits[Math.floor(waits.length / 2)] ?? 0;
  const left = usual - (now - Date.parse(task.createdAt));
  if (left <= 0) return "";
  const minutes = Math.round(left / MINUTE);
  return minutes === 0 ? "usually starts within a minute" : `usually starts in ${pluralize(minutes, "min", "min")}`;
}
