/**
 * Plays the task chart from stored events, as the coordinator does, with a clock that only the
 * player moves.
 */
import type { EventData, Proposal, TaskEvent } from "../../src/core/event.ts";
import type { FailureCode } from "../../src/core/failure.ts";
import { DEFAULT_POLICY, type Snapshot, type TaskState } from "../../src/core/task.ts";
import { budgetQuestion } from "../../src/core/budget.ts";
import { start, stateOf, step } from "../../machines/fold.ts";

export const EPOCH = Date.UTC(2026, 0, 1);
export const TASK_ID = "task_00000000000000000000000001";
export const sha = (n: number): string => n.toString(16).padStart(40, "0");

/** A task at some point: its log, its snapshot, and the time. */
export interface Play {
  readonly snapshot: Snapshot;
  readonly at: number;
  readonly log: readonly TaskEvent[];
}

export interface Timed extends Proposal {
  /** Ms that pass before it. */
  readonly after: number;
}

export function submission(data: EventData = {}): TaskEvent {
  return {
    taskId: TASK_ID,
    seq: 1,
    at: EPOCH,
    attempt: 0,
    type: "task.submitted",
    from: null,
    to: data["from"] === "push" ? "pushing" : "queued",
    data: { maxAttempts: 3, policy: DEFAULT_POLICY, pullRequest: "none", from: "start", ...data },
    workerSeq: null,
  };
}

export function begin(data: EventData = {}): Play {
  const event = submission(data);
  return { snapshot: start(event), at: event.at, log: [event] };
}

/**
 * The event that `record` would write; `offer` fills in `to` from the resulting snapshot.
 */
export function toEvent(play: Play, proposal: Timed): TaskEvent {
  const { context } = play.snapshot;
  const claim = proposal.type === "task.state" && proposal.data["reason"] === "claimed";
  return {
    taskId: TASK_ID,
    seq: context.seq + 1,
    at: play.at + proposal.after,
    attempt: proposal.attempt ?? context.attempt + (claim ? 1 : 0),
    type: proposal.type,
    from: stateOf(play.snapshot),
    to: stateOf(play.snapshot),
    data: proposal.data,
    workerSeq: proposal.workerSeq ?? null,
  };
}

/** The play after the proposal, or null when the chart refuses it. */
export function offer(play: Play, proposal: Timed): Play | null {
  const event = toEvent(play, proposal);
  const snapshot = step(play.snapshot, event);
  if (snapshot === null) return null;
  return { snapshot, at: event.at, log: [...play.log, { ...event, to: stateOf(snapshot) }] };
}

/** Plays moves in order; throws at the first that is refused. */
export function played(play: Play, ...moves: readonly MoveName[]): Play {
  return moves.reduce((now, name) => {
    const next = offer(now, MOVES[name](now));
    if (next === null) throw new Error(`${name} was refused in ${JSON.stringify(now.snapshot.value)}`);
    return next;
  }, play);
}

export const stateName = (play: Play): TaskState => stateOf(play.snapshot);
/** `running.working`, `pushing.branch`, `queued`, ... */
export function valueName(snapshot: Snapshot): string {
  return typeof snapshot.value === "string" ? snapshot.value : (Object.entries(snapshot.value)[0] ?? []).join(".");
}

type Mover = (play: Play) => Timed;
const SECOND = 1_000;
const state = (reason: string, data: EventData = {}): Mover => {
  return () => ({ type: "task.state", data: { reason, ...data }, after: SECOND });
};
const worker = (type: Proposal["type"], data: EventData | ((play: Play) => EventData)): Mover => {
  return (play) => ({
    type,
    data: typeof data === "function" ? data(play) : data,
    workerSeq: play.snapshot.context.workerSeq + 1,
    after: SECOND,
  });
};
const fault = (code: FailureCode): Mover =>
  state("failed", { code, detail: null, evidence: null, jitter: 0.5, retryAfterMs: null });
const untilDue = (play: Play, early: number): number =>
  Math.max(0, (play.snapshot.context.dueAt ?? play.at) - play.at - early);
const timeout = (early: number): Mover => {
  return (play) => ({ type: "task.state", data: { reason: "timed_out", jitter: 0.5 }, after: untilDue(play, early) });
};
const getQuestion = (play: Play): string => `q${play.snapshot.context.attempt}`;
const getOpen = ({ snapshot: { context } }: Play): string => context.question?.id ?? `q${context.attempt}`;
/** What the coordinator asks when the working time is used up. */
const getTimeQuestion = ({ snapshot }: Play) => ({
  ...budgetQuestion("minutes", snapshot.context.granted?.minutes ?? 60, 60),
  parks: true,
});
const usage = { inputTokens: 10, outputTokens: 5, cacheReadTokens: 1, cacheWriteTokens: 1, usd: 0.25, turns: 1 };
const report = { title: "A title", summary: "What was done." };

/** One example of every proposal to a task, including refused ones. */
const moves = {
  claim: state("claimed"),
  step_started: () => ({ type: "task.step", data: { name: "mirror", status: "started", detail: null }, after: SECOND }),
  step_ended: () => ({
    type: "task.step",
    data: { name: "mirror", status: "ended", detail: null, found: { base: "main", baseSha: sha(1) } },
    after: SECOND,
  }),
  ready: worker("task.state", { reason: "ready" }),
  user_message: () => ({
    type: "message",
    data: { id: "m1", role: "user", content: [{ type: "text", text: "hello" }] },
    after: SECOND,
  }),
  delivered: worker("message.status", { id: "m1", status: "delivered" }),
  says: worker("message", { id: "a1", role: "assistant", content: [{ type: "text", text: "working" }] }),
  tool: worker("tool.started", { id: "t1", name: "bash", input: { command: "ls" } }),
  notice: () => ({ type: "notice", data: { level: "info", code: "limits_near", text: "note" }, after: SECOND }),
  adopted: () => ({ type: "notice", data: { level: "info", code: "adopted", text: "found again" }, after: SECOND }),
  time_lost: () => ({
    type: "notice",
    data: { level: "info", code: "resumed", text: "away", lostMs: 60_000, graceMs: 30_000, aheadMs: 0 },
    after: SECOND,
  }),
  usage: worker("usage", usage),
  checkpoint: worker("checkpoint", { sha: sha(2), cursor: "c1", files: 1, additions: 2, deletions: 0 }),
  question: worker("question", (play) => ({ id: getQuestion(play), question: "Which?", options: ["a", "b"] })),
  time_reported: worker("question", (play) => ({ ...getTimeQuestion(play), by: "server" })),
  time_up: (play) => ({
    type: "question",
    data: getTimeQuestion(play),
    after: Math.max(0, (play.snapshot.context.wallAt ?? play.at) - play.at),
  }),
  time_up_early: (play) => ({ type: "question", data: getTimeQuestion(play), after: SECOND }),
  time_near: () => ({ type: "question", data: { ...budgetQuestion("minutes", 60, 60) }, after: SECOND }),
  answer_time: (play) => ({
    type: "answer",
    data: { questionId: getOpen(play), text: "30", decision: "continue", budget: { minutes: 90 } },
    after: SECOND,
  }),
  hold: (play) => ({
    type: "question",
    data: { id: getQuestion(play), question: "Push it?", options: ["push anyway", "stop"] },
    after: SECOND,
  }),
  answer_push: (play) => ({
    type: "answer",
    data: { questionId: getQuestion(play), text: "push anyway", decision: "continue", choice: "push" },
    after: SECOND,
  }),
  answer: (play) => ({ type: "answer", data: { questionId: getOpen(play), text: "a" }, after: SECOND }),
  answer_more: (play) => ({
    type: "answer",
    data: { questionId: getOpen(play), text: "yes", decision: "continue", budget: { usd: 10 } },
    after: SECOND,
  }),
  answer_stop: (play) => ({
    type: "answer",
    data: { questionId: getOpen(play), text: "no", decision: "stop" },
    after: SECOND,
  }),
  answer_other: () => ({ type: "answer", data: { questionId: "never_asked", text: "a" }, after: SECOND }),
  finished: worker("task.state", { reason: "finished", sha: sha(3), changed: true, ...report }),
  finished_unchanged: worker("task.state", { reason: "finished", sha: sha(1), changed: false, ...report }),
  fail_infra: fault("sandbox_unavailable"),
  fail_transient: fault("worker_lost"),
  fail_resource: fault("out_of_memory"),
  fail_agent: fault("agent_error"),
  fail_terminal: fault("budget_exceeded"),
  push: () => ({ type: "push", data: { branch: "slipway/x", sha: sha(3) }, after: SECOND }),
  pull_request: () => ({
    type: "pull_request",
    data: { url: "https://git.example/pull/7", number: 7, state: "open" },
    after: SECOND,
  }),
  cancel: state("cancel", { force: false }),
  cancel_force: state("cancel", { force: true }),
  stopped: state("stopped"),
  timed_out: timeout(0),
  yielded: state("yielded"),
  timed_out_early: timeout(1),
} as const satisfies Record<string, Mover>;
export type MoveName = keyof typeof moves;
export const MOVES: Readonly<Record<MoveName, Mover>> = moves;
export const MOVE_NAMES = Object.keys(MOVES) as MoveName[];
