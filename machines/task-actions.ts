/**
 * The actions of the chart: the context after each transition, a pure function of the context and
 * the event. Every change goes through `put`, which stamps the event's seq (C3 of task.ts).
 */
import { assign } from "xstate";
import { makeFailure, type FailureCode, type FailureStage } from "../src/core/failure.ts";
import { DEFAULT_POLICY, NO_USAGE, type Step, type TaskContext, type Usage } from "../src/core/task.ts";
import type { TaskMachineEvent, AttemptFault, EventOf, TaskInput } from "./task-events.ts";
import { addedTime, grantedTime, timeLimit } from "./time-limit.ts";
import { isTimeQuestion } from "../src/core/budget.ts";
import { faultClass, finalFailure, retryDelay } from "./retry-policy.ts";
import {
  keepCalendar,
  shiftProvisioning,
  shiftPush,
  shiftQuestion,
  shiftWait,
  shiftWork,
  toWallTime,
} from "./working-time.ts";

export const NO_INPUT: TaskInput = {
  at: 0,
  maxAttempts: 1,
  policy: DEFAULT_POLICY,
  wantsPullRequest: false,
  from: "start",
  checkpoint: null,
  base: null,
  baseSha: null,
  headSha: null,
  report: null,
};

/**
 * Accepts undefined, because xstate also creates a context without input when it creates a scope;
 * an exception there would cost more than the step itself.
 */
export function initialContext(given: TaskInput | undefined): TaskContext {
  const input = given ?? NO_INPUT;
  const push = input.from === "push";
  return {
    seq: 1,
    attempt: 0,
    excused: 0,
    maxAttempts: input.maxAttempts,
    policy: input.policy,
    wantsPullRequest: input.wantsPullRequest,
    resume: push ? "pushing" : "provisioning",
    streak: 0,
    pushTries: 0,
    resourceTries: 0,
    agentTries: 0,
    memoryFactor: 1,
    workerSeq: 0,
    enteredAt: input.at,
    activeAt: input.at,
    wallAt: null,
    dueAt: input.at + (push ? input.policy.pushMs : input.policy.queueMs),
    forced: false,
    steps: [],
    failure: null,
    question: null,
    checkpoint: input.checkpoint,
    base: input.base,
    baseSha: input.baseSha,
    headSha: push ? input.headSha : null,
    report: input.report,
    outcome: null,
    pullRequest: null,
    usage: NO_USAGE,
    startedAt: push ? input.at : null,
    settledAt: null,
  };
}

/**
 * An action that stamps the event's seq and changes what `change` returns (invariant C3). `now` is
 * the time of the wall clock, which deadlines are counted from.
 */
function put<T extends TaskMachineEvent["type"]>(
  change: (context: TaskContext, event: EventOf<T>, now: number) => Partial<TaskContext>,
) {
  return assign<TaskContext, TaskMachineEvent, undefined, TaskMachineEvent, never>(({ context, event }) => ({
    seq: event.seq,
    workerSeq: event.workerSeq ?? context.workerSeq,
    ...change(context, event as EventOf<T>, toWallTime(context, event.at)),
  }));
}

const runningDue = (context: TaskContext, now: number): number =>
  Math.min(now + context.policy.silenceMs, context.wallAt ?? Infinity);
const bootDue = (context: TaskContext, now: number): number =>
  Math.min(now + context.policy.progressMs, toWallTime(context, context.enteredAt) + context.policy.bootMs);
const settle = (at: number): Partial<TaskContext> => ({ dueAt: null, settledAt: at, enteredAt: at, question: null });

/** Bounds the context: a worker may report any number of steps. */
const STEPS_LIMIT = 64;

/**
 * Empty without a grant, so that logs from before grants existed fold to the same bytes.
 */
const grant = ({ granted }: EventOf<"answer">): Partial<TaskContext> => (granted === null ? {} : { granted });

/** Absent until an attempt needs it, for the same reason. */
function startOf(context: TaskContext, { found }: EventOf<"step">): Partial<TaskContext> {
  const start = found?.start ?? null;
  return found === null || (start === null && context.start === undefined) ? {} : { start };
}

function nextSteps(steps: readonly Step[], event: EventOf<"step">): readonly Step[] {
  const open = steps.findIndex((step) => step.name === event.name && step.endedAt === null);
  if (event.status === "started") {
    return open >= 0 || steps.length >= STEPS_LIMIT
      ? steps
      : [...steps, { name: event.name, startedAt: event.at, endedAt: null, detail: event.detail }];
  }
  if (open < 0 && steps.length >= STEPS_LIMIT) return steps;
  if (open < 0)
    return [
      ...steps,
      { name: event.name, startedAt: event.startedAt ?? event.at, endedAt: event.at, detail: event.detail },
    ];
  return steps.map((step, i) =>
    i === open ? { ...step, endedAt: event.at, detail: event.detail ?? step.detail } : step,
  );
}

function addUsage(a: Usage, b: Usage): Usage {
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    cacheReadTokens: a.cacheReadTokens + b.cacheReadTokens,
    cacheWriteTokens: a.cacheWriteTokens + b.cacheWriteTokens,
    usd: a.usd + b.usd,
    turns: a.turns + b.turns,
  };
}

/** The failure that a deadline means in each stage. */
export function describeFault(
  context: TaskContext,
  stage: FailureStage,
  event: EventOf<"failed"> | EventOf<"timed_out">,
): AttemptFault {
  if (event.type === "failed") return event;
  const fault = (code: FailureCode, detail: string | null): AttemptFault => ({
    code,
    detail,
    evidence: null,
    jitter: event.jitter,
    retryAfterMs: null,
    counted: false,
  });
  switch (stage) {
    case "queued":
      return fault("queue_expired", null);
    case "provisioning":
      return fault("boot_timeout", context.steps.find((step) => step.endedAt === null)?.name ?? null);
    case "running":
      return context.question !== null || (context.wallAt !== null && toWallTime(context, event.at) >= context.wallAt)
        ? fault("deadline_exceeded", null)
        : fault("stalled", null);
    case "pushing":
      if (context.question !== null) return fault("push_held", "Nobody decided in time.");
      return fault("remote_unreachable", "The push took too long.");
  }
}

function giveUp(stage: FailureStage) {
  return put<"failed" | "timed_out">((context, event) => ({
    ...settle(event.at),
    failure: finalFailure(context, stage, describeFault(context, stage, event)),
  }));
}

function retryLater(stage: FailureStage) {
  return put<"failed" | "timed_out">((context, event, now) => {
    const fault = describeFault(context, stage, event);
    const cls = faultClass(fault);
    const infra = cls === "infra";
    const pushing = stage === "pushing";
    return {
      failure: makeFailure(fault.code, stage, fault.detail, fault.evidence),
      enteredAt: event.at,
      dueAt: now + retryDelay(context, fault),
      streak: context.streak + 1,
      question: null,
      wallAt: null,
      resume: pushing ? "pushing" : "provisioning",
      excused: context.excused + (infra && !pushing ? 1 : 0),
      pushTries: context.pushTries + (pushing && !infra ? 1 : 0),
      resourceTries: context.resourceTries + (cls === "resource" ? 1 : 0),
      agentTries: context.agentTries + (cls === "agent" ? 1 : 0),
      memoryFactor: fault.code === "out_of_memory" ? 2 : context.memoryFactor,
    };
  });
}

export const taskActions = {
  note: put(() => ({})),
  shiftWait: put<"time_lost">(shiftWait),
  shiftProvisioning: put<"time_lost">(shiftProvisioning),
  shiftWork: put<"time_lost">(shiftWork),
  shiftQuestion: put<"time_lost">(shiftQuestion),
  shiftPush: put<"time_lost">(shiftPush),
  keepCalendar: put<"time_lost">(keepCalendar),
  claim: put<"claimed">((context, event, now) => ({
    ...(event.continues === null ? {} : { continues: event.continues.taskId, checkpoint: event.continues.checkpoint }),
    attempt: context.attempt + 1,
    workerSeq: 0,
    steps: [],
    question: null,
    enteredAt: event.at,
    activeAt: event.at,
    dueAt: Math.min(now + context.policy.progressMs, now + context.policy.bootMs),
    startedAt: context.startedAt ?? event.at,
  })),
  step: put<"step">((context, event, now) => ({
    steps: nextSteps(context.steps, event),
    base: event.found?.base ?? context.base,
    baseSha: event.found?.baseSha ?? context.baseSha,
    ...startOf(context, event),
    activeAt: event.at,
    dueAt: bootDue(context, now),
  })),
  lateStep: put<"step">((context, event) => ({ steps: nextSteps(context.steps, event) })),
  bootProgress: put((context, event, now) => ({ activeAt: event.at, dueAt: bootDue(context, now) })),
  ready: put<"ready">((context, event, now) => {
    const wallAt = now + timeLimit(context);
    return {
      enteredAt: event.at,
      activeAt: event.at,
      wallAt,
      dueAt: runningDue({ ...context, wallAt }, now),
      failure: null,
    };
  }),
  progress: put((context, event, now) => ({ activeAt: event.at, dueAt: runningDue(context, now) })),
  use: put<"usage">((context, event, now) => ({
    activeAt: event.at,
    dueAt: runningDue(context, now),
    usage: addUsage(context.usage, event.usage),
  })),
  useQuietly: put<"usage">((context, event) => ({ usage: addUsage(context.usage, event.usage) })),
  save: put<"checkpoint">((context, event, now) => ({
    activeAt: event.at,
    dueAt: runningDue(context, now),
    checkpoint: event.checkpoint,
  })),
  saveQuietly: put<"checkpoint">((_context, event) => ({ checkpoint: event.checkpoint })),
  ask: put<"question">((context, event, now) => ({
    question: { id: event.id, question: event.question, options: event.options, askedAt: event.at },
    activeAt: event.at,
    dueAt: now + context.policy.parkMs,
  })),
  /** The attempt has ended, and its worker is not heard any more. */
  askForTime: put<"question">((context, event, now) => ({
    question: { id: event.id, question: event.question, options: event.options, askedAt: event.at },
    activeAt: event.at,
    enteredAt: event.at,
    dueAt: now + context.policy.answerMs,
  })),
  acceptAnswer: put<"answer">((context, event, now) => {
    const addedMs = addedTime(context, event);
    const waitedMs = event.at - (context.question?.askedAt ?? event.at);
    const wallAt = context.wallAt === null ? null : context.wallAt + waitedMs + addedMs;
    return {
      ...grant(event),
      ...(addedMs === 0 ? {} : { wallMs: timeLimit(context) + addedMs }),
      question: null,
      activeAt: event.at,
      wallAt,
      dueAt: runningDue({ ...context, wallAt }, now),
    };
  }),
  park: put((context, event, now) => ({ enteredAt: event.at, dueAt: now + context.policy.answerMs })),
  unpark: put<"answer">((context, event, now) => ({
    ...grant(event),
    ...grantedTime(context, event),
    question: null,
    enteredAt: event.at,
    dueAt: now + context.policy.queueMs,
    wallAt: null,
    excused: context.excused + 1,
  })),
  denyMore: put<"answer">((_context, event) => ({
    ...settle(event.at),
    failure: makeFailure(
      isTimeQuestion(event.questionId) ? "deadline_exceeded" : "budget_exceeded",
      "running",
      "More was not granted.",
    ),
  })),
  finishChanged: put<"finished">((context, event, now) => ({
    headSha: event.sha,
    report: { title: event.title, summary: event.summary },
    enteredAt: event.at,
    dueAt: now + context.policy.pushMs,
    question: null,
    wallAt: null,
    streak: 0,
  })),
  finishUnchanged: put<"finished">((_context, event) => ({
    ...settle(event.at),
    headSha: event.sha,
    report: { title: event.title, summary: event.summary },
    outcome: "no_changes",
  })),
  holdPush: put<"question">((context, event, now) => ({
    question: { id: event.id, question: event.question, options: event.options, askedAt: event.at },
    dueAt: now + context.policy.answerMs,
  })),
  releasePush: put<"answer">((context, event, now) => ({
    question: null,
    ...(event.choice === null ? {} : { guard: { questionId: event.questionId, choice: event.choice } }),
    dueAt: now + context.policy.pushMs,
  })),
  stopPush: put((_context, event) => ({
    ...settle(event.at),
    failure: makeFailure("push_held", "pushing", "A person stopped it."),
  })),
  pushed: put<"push">((_context, event) => ({
    ...settle(event.at),
    headSha: event.sha,
    outcome: "pushed",
    failure: null,
  })),
  branchPushed: put<"push">((context, event, now) => ({
    headSha: event.sha,
    question: null,
    enteredAt: event.at,
    dueAt: now + context.policy.pushMs,
  })),
  opened: put<"pull_request">((_context, event) => ({
    ...settle(event.at),
    outcome: "pushed",
    failure: null,
    pullRequest: { url: event.url, number: event.number, state: event.state },
  })),
  again: put((context, event, now) => ({
    enteredAt: event.at,
    dueAt: now + (context.resume === "pushing" ? context.policy.pushMs : context.policy.queueMs),
  })),
  settle: put((_context, event) => settle(event.at)),
  startCancel: put<"cancel">((context, event, now) => ({
    enteredAt: event.at,
    dueAt: now + context.policy.cancelMs,
    forced: event.force,
    question: null,
  })),
  force: put(() => ({ forced: true })),
  expire: giveUp("queued"),
  giveUpProvisioning: giveUp("provisioning"),
  giveUpRunning: giveUp("running"),
  giveUpPushing: giveUp("pushing"),
  retryProvisioning: retryLater("provisioning"),
  retryRunning: retryLater("running"),
  retryPushing: retryLater("pushing"),
};
