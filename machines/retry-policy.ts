/**
 * The retry policy as pure functions of (context, failure): which failures are retried, when, and
 * which of them count as attempts.
 *
 * P1 Infrastructure failures are retried without a limit and are not counted (`excused`); the
 *    scheduler's breaker limits their rate. A failure that is `counted` is retried like a transient
 *    one, because a fault of the coordinator (`internal`) would repeat. Older logs lack the field
 *    and fold as before.
 * P2 Transient failures are retried until `maxAttempts` counted attempts; resource and agent
 *    failures once.
 * P3 The delay doubles from `backoffMs` to `backoffCapMs` with full jitter, which arrives in the
 *    event: there is no randomness here. A Retry-After is honoured up to the same cap, one of a
 *    forge up to FORGE_WAIT_MS, because the limits of forges last up to an hour.
 */
import { failureClass, makeFailure, type Failure, type FailureClass, type FailureStage } from "../src/core/failure.ts";
import type { TaskContext } from "../src/core/task.ts";
import type { AttemptFault } from "./task-events.ts";

const FORGE_WAIT_MS = 3_600_000;

/** Attempts that count against `maxAttempts`. */
export function countedAttempts(context: TaskContext): number {
  return context.attempt - context.excused;
}

export function faultClass({ code, counted }: AttemptFault): FailureClass {
  const cls = failureClass(code);
  return cls === "infra" && counted ? "transient" : cls;
}

export function willRetry(context: TaskContext, stage: FailureStage, fault: AttemptFault): boolean {
  const isUnderLimit =
    stage === "pushing" ? context.pushTries + 1 < context.maxAttempts : countedAttempts(context) < context.maxAttempts;
  switch (faultClass(fault)) {
    case "infra":
      return true;
    case "transient":
      return isUnderLimit;
    case "resource":
      return isUnderLimit && context.resourceTries === 0;
    case "agent":
      return isUnderLimit && context.agentTries === 0;
    case "terminal":
      return false;
  }
}

/**
 * The failure to show when it is final. When all attempts are used up it is `attempts_exhausted`,
 * with the message of the last failure.
 */
export function finalFailure(context: TaskContext, stage: FailureStage, fault: AttemptFault): Failure {
  const last = makeFailure(fault.code, stage, fault.detail, fault.evidence);
  if (failureClass(fault.code) === "terminal") return last;
  const exhausted = makeFailure(
    "attempts_exhausted",
    stage,
    `The last one: ${fault.code}. ${last.message}`,
    fault.evidence,
  );
  return { ...exhausted, advice: `${exhausted.advice} ${last.advice}` };
}

export function retryDelay(context: TaskContext, fault: AttemptFault): number {
  const { backoffMs, backoffCapMs } = context.policy;
  const ceiling = Math.min(backoffCapMs, backoffMs * 2 ** Math.min(context.streak, 30));
  const longest = fault.code === "forge_rate_limited" ? Math.max(FORGE_WAIT_MS, backoffCapMs) : backoffCapMs;
  const requested = Math.min(fault.retryAfterMs ?? 0, longest);
  return Math.max(requested, Math.round(ceiling * fault.jitter));
}
