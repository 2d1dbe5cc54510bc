/** The proposal that ends an attempt with a failure. */
import type { Proposal } from "../../core/event.ts";
import type { FailureCode } from "../../core/failure.ts";

/**
 * A mistake of the coordinator uses up an attempt: whatever brought it about is there again the
 * next time.
 */
const COUNTED: FailureCode = "internal";

export interface FailureDetails {
  readonly detail?: string | undefined;
  readonly evidence?: string | null;
  /** Shortest wait before the next attempt, as the other side asked for it, ms. */
  readonly retryAfterMs?: number | null;
}

/** The end of the evidence is kept, in characters. */
const EVIDENCE_LENGTH = 4_000;

/** @param jitter 0..1, for the delay of a retry. */
export function failureProposal(code: FailureCode, jitter: number, details: FailureDetails = {}): Proposal {
  const { detail, evidence, retryAfterMs } = details;
  return {
    type: "task.state",
    data: {
      reason: "failed",
      code,
      detail: detail || null,
      evidence: evidence?.slice(-EVIDENCE_LENGTH) ?? null,
      jitter,
      retryAfterMs: retryAfterMs ?? null,
      ...(code === COUNTED ? { counted: true } : {}),
    },
  };
}
