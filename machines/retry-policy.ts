/**
 * The retry policy as pure functions of (context, failure): which failures are tried again, when,
 * and at whose cost.
 *
 * P1 infra failures are tried for ever and never counted (`excused`); the supervisor's breaker
 *    stops a storm.
 * P2 transient failures are tried until `maxAttempts` counted attempts; resource and agent failures
 *    once more.
 * P3 the delay doubles from `backoffMs` to `backoffCapMs` with full jitter (the jitter arrives in
 *    the event: no randomness here); a wait that the other side asked for is honoured up to the
 *    same cap.
 */
import { failureClass, makeFailure, type Failure, type FailureStage } from "../src/core/failure.ts";
import type { TaskContext } from "../src/core/task.ts";
import type { AttemptFault } from "./task-events.ts";

/** Attempts that count against `maxAttempts`. */
export function countedAttempts(context: TaskContext): number {
  return context.attempt - context.excused;
}

export function willRetry(context: TaskContext, stage: FailureStage, fault: AttemptFault): boolean {
  const room =
    stage === "pushing" ? context.pushTries + 1 < context.maxAttempts : countedAttempts(context) < context.maxAttempts;
  switch (failureClass(fault.code)) {
    case "infra":
      return true;
    case "transient":
      return room;
    case "resource":
      return room && context.resourceTries === 0;
    case "agent":
      return room && context.agentTries === 0;
    case "terminal":
      return false;
  }
}

/**
 * The failure to show when it is final: one that used up every attempt says so and keeps the last
 * one's words.
 */
export function finalFailure(context: TaskContext, stage: FailureStage, fault: AttemptFault): Failure {
  const last = makeFailure(fault.code, stage, fault.detail, fault.evidence);
  if (failureClass(fault.code) === "terminal") return last;
  const all = makeFailure("attempts_exhausted", stage, `The last one: ${fault.code}. ${last.message}`, fault.evidence);
  return { ...all, advice: `${all.advice} ${last.advice}` };
}

export function retryDelay(context: TaskContext, fault: AttemptFault): number {
  const { backoffMs, backoffCapMs } = context.policy;
  const ceiling = Math.min(backoffCapMs, backoffMs * 2 ** Math.min(context.streak, 30));
  const asked = Math.min(fault.retryAfterMs ?? 0, backoffCapMs);
  return Math.max(asked, Math.round(ceiling * fault.jitter));
}
