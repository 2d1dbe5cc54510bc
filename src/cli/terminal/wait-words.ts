/** Why a queued task waits, for people. */
import type { WireTask } from "../../core/protocol/rest.ts";

type Wait = NonNullable<WireTask["wait"]>;

const REASONS: Readonly<Record<Wait["reason"], string>> = {
  concurrency: "all slots are taken",
  thread_busy: "an earlier task of its thread is not settled",
  user_limit: "the owner holds as many slots as one user may",
  sandbox_unavailable: "no Docker engine answers; `slipway doctor` tells more",
  disk_low: "too little free disk space",
  paused: "an operator paused the queue",
  model_rate_limited: "the model provider asks to wait",
  budget: "the budget of the day is used up",
};

/** The reason, its code, and the position in the queue. */
export function formatWait({ reason, position }: Wait): string {
  const before = position === 0 ? "next in the queue" : `${position} before it`;
  return `${REASONS[reason]} (${reason}); ${before}`;
}
