/**
 * Does the agent go in circles? A pure look at its last calls: the same call with the same result,
 * or the same few calls in turn.
 *
 * A result that differs is progress, so waiting for a job whose output grows is no circle.
 */
import { createHash } from "node:crypto";
import { canonicalJson } from "../../../src/core/lib/canonical-json.ts";
import type { Call, Trace } from "./conversation/conversation.ts";
import type { Result } from "./conversation/records.ts";

/** The same call with the same result so often; with an error it is noticed sooner. */
const SAME = 4;
const SAME_ERROR = 3;
/** Rounds of a circle of two to four calls. */
const ROUNDS = 3;
const LONGEST_CIRCLE = 4;
/** So many more after the nudge, and it is over. */
const AFTER_NUDGE = 2;

export type LoopCheck = { readonly kind: "fine" } | { readonly kind: "nudge" | "stop"; readonly what: string };

const signature = ({ name, input }: Call, { output, status }: Result): string =>
  createHash("sha256")
    .update(canonicalJson([name, input, output, status]))
    .digest("base64");

/** A call in one line, as people are told about it. */
export function describeCall({ name, input }: Call): string {
  const [first] = Object.values(input).filter((value) => typeof value === "string");
  const words = (first ?? "").replaceAll(/\s+/g, " ").trim();
  return `${name}${words === "" ? "" : ` ${words.slice(0, 100)}${words.length > 100 ? "…" : ""}`}`;
}

export function detectLoop(trace: readonly Trace[]): LoopCheck {
  const calls = trace.filter((one) => one !== "nudge").slice(-SAME_WINDOW);
  const last = calls.at(-1);
  if (last === undefined) return { kind: "fine" };
  const lastNudge = trace.lastIndexOf("nudge");
  const sinceNudge = lastNudge === -1 ? Infinity : trace.length - 1 - lastNudge;
  const marks = calls.map(({ call, result }) => signature(call, result));
  for (let period = 1; period <= LONGEST_CIRCLE; period += 1) {
    const length = circleLength(marks, period);
    const enough = period > 1 ? ROUNDS * period : last.result.status === "failed" ? SAME_ERROR : SAME;
    if (length < enough) continue;
    const what =
      period === 1
        ? `the same call had the same result ${length} times (${describeCall(last.call)})`
        : `the same ${period} calls had the same results ${Math.floor(length / period)} times (the last: ${describeCall(last.call)})`;
    const nudged = sinceNudge < length;
    if (!nudged) return { kind: "nudge", what };
    return sinceNudge >= AFTER_NUDGE ? { kind: "stop", what } : { kind: "fine" };
  }
  return { kind: "fine" };
}

const SAME_WINDOW = 200;

/** How many of the last marks repeat with this period. */
function circleLength(marks: readonly string[], period: number): number {
  let length = Math.min(period, marks.length);
  for (let at = marks.length - 1; at >= period && marks[at] === marks[at - period]; at -= 1) length += 1;
  return length;
}
