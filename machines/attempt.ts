/**
 * The worker's chart: the stages of one attempt inside its sandbox. Pure, like the task's chart:
 * the worker runs the stage of the current state and sends its result as the next event.
 *
 * A1 Each stage that can take long accepts `cancel` and `deadline`; both lead to `winding_down`,
 *    where work in progress is saved.
 * A2 A failure before the report is reported: `failed` never skips `winding_down`.
 * A3 The first outcome counts: failures during `winding_down` do not change it.
 */
import { assign, initialTransition, setup, transition } from "xstate";

export const ATTEMPT_STAGES = [
  "clone",
  "setup",
  "agent",
  "verify",
  "commit",
  "winding_down",
  "report",
  "ended",
] as const;
export type AttemptStage = (typeof ATTEMPT_STAGES)[number];

export interface AttemptFailure {
  readonly code: string;
  readonly message: string;
  readonly evidence: string | null;
}

/** How the attempt ends. `cancelled` is not reported, because the coordinator asked for it. */
export type AttemptOutcome =
  | { readonly kind: "finished"; readonly sha: string }
  | ({ readonly kind: "failed" } & AttemptFailure)
  | { readonly kind: "cancelled" };

export interface AttemptContext {
  /** The agent's report. */
  readonly title: string;
  readonly summary: string;
  readonly outcome: AttemptOutcome | null;
}

export type AttemptEvent =
  | { readonly type: "ok" }
  | { readonly type: "worked"; readonly title: string; readonly summary: string }
  | { readonly type: "verified"; readonly note: string | null }
  | { readonly type: "committed"; readonly sha: string }
  | ({ readonly type: "failed" } & AttemptFailure)
  | { readonly type: "cancel" }
  | { readonly type: "deadline" };

export interface AttemptState {
  readonly value: AttemptStage;
  readonly context: AttemptContext;
}

const chart = setup({
  types: {} as { context: AttemptContext; events: AttemptEvent },
  actions: {
    fail: assign(({ event }) =>
      event.type === "failed"
        ? { outcome: { kind: "failed" as const, code: event.code, message: event.message, evidence: event.evidence } }
        : {},
    ),
    cancel: assign({ outcome: { kind: "cancelled" as const } }),
    expire: assign({
      outcome: { kind: "failed" as const, code: "deadline_exceeded", message: "", evidence: null },
    }),
    keepReport: assign(({ event }) => (event.type === "worked" ? { title: event.title, summary: event.summary } : {})),
    keepNote: assign(({ context, event }) =>
      event.type === "verified" && event.note !== null ? { summary: `${context.summary}\n\n${event.note}`.trim() } : {},
    ),
    keepCommit: assign(({ event }) =>
      event.type === "committed" ? { outcome: { kind: "finished" as const, sha: event.sha } } : {},
    ),
  },
});

const stops = {
  failed: { target: "winding_down", actions: "fail" },
  cancel: { target: "winding_down", actions: "cancel" },
  deadline: { target: "winding_down", actions: "expire" },
} as const;

export const attemptMachine = chart.createMachine({
  id: "attempt",
  context: { title: "", summary: "", outcome: null },
  initial: "clone",
  states: {
    clone: { on: { ok: "setup", ...stops } },
    setup: { on: { ok: "agent", ...stops } },
    agent: { on: { worked: { target: "verify", actions: "keepReport" }, ...stops } },
    verify: { on: { verified: { target: "commit", actions: "keepNote" }, ...stops } },
    commit: { on: { committed: { target: "report", actions: "keepCommit" }, ...stops } },
    winding_down: { on: { ok: "report", failed: "report" } },
    report: { on: { ok: "ended", failed: "ended" } },
    ended: { type: "final" },
  },
});

/** The first state of an attempt. */
export function startAttempt(): AttemptState {
  const [next] = initialTransition(attemptMachine);
  return { value: next.value, context: next.context };
}

/** The next state; the same object when the state does not accept the event. */
export function stepAttempt(state: AttemptState, event: AttemptEvent): AttemptState {
  if (state.value === "ended") return state;
  const current = attemptMachine.resolveState({ value: state.value, context: state.context });
  const [next] = transition(attemptMachine, current, event);
  return next === current ? state : { value: next.value, context: next.context };
}
