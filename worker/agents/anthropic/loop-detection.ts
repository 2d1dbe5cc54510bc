/**
 * Detects an agent that repeats itself: the same call with the same result, or a cycle of a few
 * calls. Pure.
 *
 * A call with a different result is progress: waiting for a job whose output grows is not
 * repetition.
 */
import { createHash } from "node:crypto";
import { canonicalJson } from "../../../src/core/lib/json/canonical-json.ts";
import type { Call, Trace } from "./conversation/conversation.ts";
import type { Result } from "./conversation/records.ts";

/** Equal calls with equal results that count as a loop; failing ones count sooner. */
const REPEATS = 4;
const FAILED_REPEATS = 3;
/** Rounds of a cycle of two to four calls that count as a loop. */
const ROUNDS = 3;
const MAX_PERIOD = 4;
/** Further repetitions after the nudge that stop the agent. */
const REPEATS_AFTER_NUDGE = 2;
/** Only the last calls are examined. */
const WINDOW = 200;

export type LoopCheck = { readonly kind: "fine" } | { readonly kind: "nudge" | "stop"; readonly what: string };

/** How a command ended, for the model. @param exitCode null = a signal or a limit ended it. */
export function describeEnd(exitCode: number | null, ms: number): string {
  const seconds = ms < 60_000 ? (ms / 1_000).toFixed(1) : String(Math.round(ms / 1_000));
  return `[${exitCode === null ? "ended by a signal or a limit" : `exit code ${exitCode}`}, ${seconds} s]`;
}

/** The duration differs each time, also when nothing else does. */
const withoutDuration = (output: string): string => output.replace(/, [\d.]+ s\]$/, "]");

const hashCall = ({ name, input }: Call, { output, status }: Result): string =>
  createHash("sha256")
    .update(canonicalJson([name, input, withoutDuration(output), status]))
    .digest("base64");

/** The call in one line, for notices and for the model: its name and its first text argument. */
export function describeCall({ name, input }: Call): string {
  const [first] = Object.values(input).filter((value) => typeof value === "string");
  const argument = (first ?? "").replaceAll(/\s+/g, " ").trim();
  return `${name}${argument === "" ? "" : ` ${argument.slice(0, 100)}${argument.length > 100 ? "…" : ""}`}`;
}

export function detectLoop(trace: readonly Trace[]): LoopCheck {
  const calls = trace.filter((entry) => entry !== "nudge").slice(-WINDOW);
  const last = calls.at(-1);
  if (last === undefined) return { kind: "fine" };
  const lastNudge = trace.lastIndexOf("nudge");
  const callsSinceNudge = lastNudge === -1 ? Infinity : trace.length - 1 - lastNudge;
  const hashes = calls.map(({ call, result }) => hashCall(call, result));
  for (let period = 1; period <= MAX_PERIOD; period += 1) {
    const length = countPeriodicTail(hashes, period);
    const limit = period > 1 ? ROUNDS * period : last.result.status === "failed" ? FAILED_REPEATS : REPEATS;
    if (length < limit) continue;
    const what =
      period === 1
        ? `the same call had the same result ${length} times (${describeCall(last.call)})`
        : `the same ${period} calls had the same results ${Math.floor(length / period)} times (the last: ${describeCall(last.call)})`;
    if (callsSinceNudge >= length) return { kind: "nudge", what };
    return callsSinceNudge >= REPEATS_AFTER_NUDGE ? { kind: "stop", what } : { kind: "fine" };
  }
  return { kind: "fine" };
}

/** The number of hashes at the end that repeat with this period. */
function countPeriodicTail(hashes: readonly string[], period: number): number {
  let length = Math.min(period, hashes.length);
  for (let i = hashes.length - 1; i >= period && hashes[i] === hashes[i - period]; i -= 1) length += 1;
  return length;
}
