/**
 * The lifecycle of a task as a pure chart: no invoke, no after, no spawn, no clock, no randomness.
 *
 * C1 Every open state hears `cancel` and `timed_out` itself (pure transitions do not stop at final states, so nothing stands on the root).
 * C2 Time arrives in the event (`at`); a `timed_out` before `dueAt` is not accepted.
 * C3 Each accepted event writes its own seq into the context, so "not accepted" is exactly "same snapshot".
 * C4 The meta of each state names the one effect that drives it and whether the state holds a slot.
 */
import { assign, setup } from "xstate";
import { makeFailure, type FailureCode, type FailureStage } from "../src/failure.ts";
import {
  NO_USAGE,
  type Checkpoint,
  type Policy,
  type PullRequest,
  type RetryFrom,
  type Step,
  type StepName,
  type TaskContext,
  type Usage,
} from "../src/task.ts";
import { finalFailure, retryDelay, willRetry, type Fault } from "./policy.ts";

export const TASK_MACHINE_VERSION = 1;

/** `claim` gate, `provision`, `supervise`, `park`, `push`, `wait`, `kill` the effect of an open state; `retire` clears up after a settled one. */
export type Drive = "claim" | "provision" | "supervise" | "park" | "push" | "wait" | "kill" | "retire";

export interface StateMeta {
  readonly drive: Drive;
  /** The state occupies one of the slots that `SLIPWAY_MAX_CONCURRENT` counts. */
  readonly slot: boolean;
}

interface Stamp {
  readonly seq: number;
  readonly at: number;
  readonly workerSeq: number | null;
}

/** What an event means to the chart (fold.ts derives it from the stored event). */
export type Cause = Stamp &
  (
    | { readonly type: "claimed" }
    | { readonly type: "step"; readonly name: StepName; readonly status: "started" | "ended"; readonly detail: string | null }
    | { readonly type: "ready"; readonly baseSha: string | null }
    | { readonly type: "note" }
    | { readonly type: "progress" }
    | { readonly type: "usage"; readonly usage: Usage }
    | { readonly type: "checkpoint"; readonly checkpoint: Checkpoint }
    | { readonly type: "question"; readonly id: string; readonly question: string; readonly options: readonly string[] | null }
    | { readonly type: "answer"; readonly questionId: string }
    | { readonly type: "finished"; readonly sha: string; readonly changed: boolean; readonly title: string; readonly summary: string }
    | ({ readonly type: "failed" } & Fault)
    | { readonly type: "push"; readonly sha: string }
    | ({ readonly type: "pull_request" } & PullRequest)
    | { readonly type: "cancel"; readonly force: boolean }
    | { readonly type: "stopped" }
    | { readonly type: "timed_out"; readonly jitter: number }
  );

/** What `task.submitted` brings. */
export interface TaskInput {
  readonly at: number;
  readonly maxAttempts: number;
  readonly policy: Policy;
  readonly wantsPullRequest: boolean;
  readonly from: RetryFrom;
  /** Work that an earlier task of the thread saved; null for a fresh start. */
  readonly checkpoint: Checkpoint | null;
  readonly baseSha: string | null;
  readonly headSha: string | null;
  readonly report: { readonly title: string; readonly summary: string } | null;
}

type Of<T extends Cause["type"]> = Extract<Cause, { type: T }>;

function initialContext(input: TaskInput): TaskContext {
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

/** An action that stamps the event's seq and changes what `change` returns (invariant C3). */
function put<T extends Cause["type"]>(change: (context: TaskContext, event: Of<T>) => Partial<TaskContext>) {
  return assign<TaskContext, Cause, undefined, Cause, never>(({ context, event }) => ({
    seq: event.seq,
    workerSeq: event.workerSeq ?? context.workerSeq,
    ...change(context, event as Of<T>),
  }));
}

const runningDue = (context: TaskContext, at: number): number => Math.min(at + context.policy.silenceMs, context.wallAt ?? Infinity);
const bootDue = (context: TaskContext, at: number): number =>
  Math.min(at + context.policy.progressMs, context.enteredAt + context.policy.bootMs);
const settle = (at: number): Partial<TaskContext> => ({ dueAt: null, settledAt: at, enteredAt: at, question: null });

function nextSteps(steps: readonly Step[], event: Of<"step">): readonly Step[] {
  const open = steps.findIndex((step) => step.name === event.name && step.endedAt === null);
  if (event.status === "started") {
    return open >= 0 ? steps : [...steps, { name: event.name, startedAt: event.at, endedAt: null, detail: event.detail }];
  }
  if (open < 0) return [...steps, { name: event.name, startedAt: event.at, endedAt: event.at, detail: event.detail }];
  return steps.map((step, i) => (i === open ? { ...step, endedAt: event.at, detail: event.detail ?? step.detail } : step));
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
function faultOf(context: TaskContext, stage: FailureStage, event: Of<"failed"> | Of<"timed_out">): Fault {
  if (event.type === "failed") return event;
  const fault = (code: FailureCode, detail: string | null): Fault => ({
    code,
    detail,
    evidence: null,
    jitter: event.jitter,
    retryAfterMs: null,
  });
  switch (stage) {
    case "queued":
      return fault("queue_expired", null);
    case "provisioning":
      return fault("boot_timeout", context.steps.find((step) => step.endedAt === null)?.name ?? null);
    case "running":
      return context.question !== null || (context.wallAt !== null && event.at >= context.wallAt)
        ? fault("deadline_exceeded", null)
        : fault("stalled", null);
    case "pushing":
      return fault("remote_unreachable", "The push took too long.");
  }
}

function giveUp(stage: FailureStage) {
  return put<"failed" | "timed_out">((context, event) => ({
    ...settle(event.at),
    failure: finalFailure(context, stage, faultOf(context, stage, event)),
  }));
}

function retryLater(stage: FailureStage) {
  return put<"failed" | "timed_out">((context, event) => {
    const fault = faultOf(context, stage, event);
    const cls = makeFailure(fault.code, stage, fault.detail, fault.evidence);
    const infra = fault.code === "sandbox_unavailable" || fault.code === "interrupted" || fault.code === "internal";
    const pushing = stage === "pushing";
    return {
      failure: cls,
      enteredAt: event.at,
      dueAt: event.at + retryDelay(context, fault),
      streak: context.streak + 1,
      question: null,
      wallAt: null,
      resume: pushing ? "pushing" : "provisioning",
      excused: context.excused + (infra && !pushing ? 1 : 0),
      pushTries: context.pushTries + (pushing && !infra ? 1 : 0),
      resourceTries: context.resourceTries + (fault.code === "out_of_memory" || fault.code === "disk_full" ? 1 : 0),
      agentTries: context.agentTries + (fault.code === "agent_error" ? 1 : 0),
      memoryFactor: fault.code === "out_of_memory" ? 2 : context.memoryFactor,
    };
  });
}

const due = ({ context, event }: { context: TaskContext; event: Cause }): boolean => context.dueAt !== null && event.at >= context.dueAt;
const retries =
  (stage: FailureStage) =>
  ({ context, event }: { context: TaskContext; event: Cause }): boolean =>
    (event.type === "failed" || event.type === "timed_out") && willRetry(context, stage, faultOf(context, stage, event));

const chart = setup({
  types: {} as { context: TaskContext; events: Cause; input: TaskInput; meta: StateMeta },
  guards: {
    due,
    retriesProvisioning: retries("provisioning"),
    retriesRunning: retries("running"),
    retriesPushing: retries("pushing"),
    dueRetriesProvisioning: (args) => due(args) && retries("provisioning")(args),
    dueRetriesRunning: (args) => due(args) && retries("running")(args),
    dueRetriesPushing: (args) => due(args) && retries("pushing")(args),
    dueToPush: (args) => due(args) && args.context.resume === "pushing",
    resumesPushing: ({ context }) => context.resume === "pushing",
    changed: ({ event }) => event.type === "finished" && event.changed,
    wantsPullRequest: ({ context }) => context.wantsPullRequest,
    answersOpen: ({ context, event }) => event.type === "answer" && event.questionId === context.question?.id,
    firstForce: ({ context, event }) => event.type === "cancel" && event.force && !context.forced,
  },
  actions: {
    note: put(() => ({})),
    claim: put((context, event) => ({
      attempt: context.attempt + 1,
      workerSeq: 0,
      steps: [],
      question: null,
      enteredAt: event.at,
      activeAt: event.at,
      dueAt: Math.min(event.at + context.policy.progressMs, event.at + context.policy.bootMs),
      startedAt: context.startedAt ?? event.at,
    })),
    step: put<"step">((context, event) => ({
      steps: nextSteps(context.steps, event),
      activeAt: event.at,
      dueAt: bootDue(context, event.at),
    })),
    bootProgress: put((context, event) => ({ activeAt: event.at, dueAt: bootDue(context, event.at) })),
    ready: put<"ready">((context, event) => {
      const wallAt = event.at + context.policy.wallMs;
      return {
        baseSha: event.baseSha ?? context.baseSha,
        enteredAt: event.at,
        activeAt: event.at,
        wallAt,
        dueAt: runningDue({ ...context, wallAt }, event.at),
        failure: null,
      };
    }),
    progress: put((context, event) => ({ activeAt: event.at, dueAt: runningDue(context, event.at) })),
    use: put<"usage">((context, event) => ({
      activeAt: event.at,
      dueAt: runningDue(context, event.at),
      usage: addUsage(context.usage, event.usage),
    })),
    useQuietly: put<"usage">((context, event) => ({ usage: addUsage(context.usage, event.usage) })),
    save: put<"checkpoint">((context, event) => ({
      activeAt: event.at,
      dueAt: runningDue(context, event.at),
      checkpoint: event.checkpoint,
    })),
    saveQuietly: put<"checkpoint">((_context, event) => ({ checkpoint: event.checkpoint })),
    ask: put<"question">((context, event) => ({
      question: { id: event.id, question: event.question, options: event.options, askedAt: event.at },
      activeAt: event.at,
      dueAt: event.at + context.policy.parkMs,
    })),
    hearAnswer: put((context, event) => {
      const wallAt = context.wallAt === null ? null : context.wallAt + (event.at - (context.question?.askedAt ?? event.at));
      return { question: null, activeAt: event.at, wallAt, dueAt: runningDue({ ...context, wallAt }, event.at) };
    }),
    park: put((context, event) => ({ enteredAt: event.at, dueAt: event.at + context.policy.answerMs })),
    unpark: put((context, event) => ({
      question: null,
      enteredAt: event.at,
      dueAt: event.at + context.policy.queueMs,
      wallAt: null,
      excused: context.excused + 1,
    })),
    finishChanged: put<"finished">((context, event) => ({
      headSha: event.sha,
      report: { title: event.title, summary: event.summary },
      enteredAt: event.at,
      dueAt: event.at + context.policy.pushMs,
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
    pushed: put((_context, event) => ({ ...settle(event.at), outcome: "pushed", failure: null })),
    branchPushed: put((context, event) => ({ enteredAt: event.at, dueAt: event.at + context.policy.pushMs })),
    opened: put<"pull_request">((_context, event) => ({
      ...settle(event.at),
      outcome: "pushed",
      failure: null,
      pullRequest: { url: event.url, number: event.number, state: event.state },
    })),
    again: put((context, event) => ({
      enteredAt: event.at,
      dueAt: event.at + (context.resume === "pushing" ? context.policy.pushMs : context.policy.queueMs),
    })),
    settle: put((_context, event) => settle(event.at)),
    startCancel: put<"cancel">((context, event) => ({
      enteredAt: event.at,
      dueAt: event.at + context.policy.cancelMs,
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
  },
});

const cancelNow = { target: "#task.cancelled", actions: "settle" } as const;
const cancelGracefully = { target: "#task.cancelling", actions: "startCancel" } as const;

/** `getNextTransitions`, paths and the drawing in README.md all come from this one chart. */
export const taskMachine = chart.createMachine({
  id: "task",
  context: ({ input }) => initialContext(input),
  initial: "queued",
  states: {
    queued: {
      meta: { drive: "claim", slot: false },
      always: { guard: "resumesPushing", target: "pushing" },
      on: {
        claimed: { target: "provisioning", actions: "claim" },
        note: { actions: "note" },
        cancel: cancelNow,
        timed_out: { guard: "due", target: "failed", actions: "expire" },
      },
    },
    provisioning: {
      meta: { drive: "provision", slot: true },
      on: {
        step: { actions: "step" },
        ready: { target: "running", actions: "ready" },
        note: { actions: "note" },
        progress: { actions: "bootProgress" },
        usage: { actions: "useQuietly" },
        failed: [
          { guard: "retriesProvisioning", target: "retrying", actions: "retryProvisioning" },
          { target: "failed", actions: "giveUpProvisioning" },
        ],
        cancel: cancelGracefully,
        timed_out: [
          { guard: "dueRetriesProvisioning", target: "retrying", actions: "retryProvisioning" },
          { guard: "due", target: "failed", actions: "giveUpProvisioning" },
        ],
      },
    },
    running: {
      initial: "working",
      on: {
        note: { actions: "note" },
        cancel: cancelGracefully,
        usage: { actions: "use" },
        failed: [
          { guard: "retriesRunning", target: "retrying", actions: "retryRunning" },
          { target: "failed", actions: "giveUpRunning" },
        ],
        timed_out: [
          { guard: "dueRetriesRunning", target: "retrying", actions: "retryRunning" },
          { guard: "due", target: "failed", actions: "giveUpRunning" },
        ],
      },
      states: {
        working: {
          meta: { drive: "supervise", slot: true },
          on: {
            progress: { actions: "progress" },
            checkpoint: { actions: "save" },
            question: { target: "awaiting_input", actions: "ask" },
            finished: [
              { guard: "changed", target: "#task.pushing", actions: "finishChanged" },
              { target: "#task.done", actions: "finishUnchanged" },
            ],
          },
        },
        awaiting_input: {
          meta: { drive: "supervise", slot: true },
          on: {
            progress: { actions: "note" },
            usage: { actions: "useQuietly" },
            checkpoint: { actions: "saveQuietly" },
            answer: { guard: "answersOpen", target: "working", actions: "hearAnswer" },
            timed_out: { guard: "due", target: "parked", actions: "park" },
          },
        },
        parked: {
          meta: { drive: "park", slot: false },
          on: {
            answer: { guard: "answersOpen", target: "#task.queued", actions: "unpark" },
            cancel: cancelNow,
          },
        },
      },
    },
    pushing: {
      initial: "branch",
      on: {
        note: { actions: "note" },
        failed: [
          { guard: "retriesPushing", target: "retrying", actions: "retryPushing" },
          { target: "failed", actions: "giveUpPushing" },
        ],
        cancel: cancelNow,
        timed_out: [
          { guard: "dueRetriesPushing", target: "retrying", actions: "retryPushing" },
          { guard: "due", target: "failed", actions: "giveUpPushing" },
        ],
      },
      states: {
        branch: {
          meta: { drive: "push", slot: false },
          on: {
            push: [
              { guard: "wantsPullRequest", target: "pull_request", actions: "branchPushed" },
              { target: "#task.done", actions: "pushed" },
            ],
          },
        },
        pull_request: {
          meta: { drive: "push", slot: false },
          on: { pull_request: { target: "#task.done", actions: "opened" } },
        },
      },
    },
    retrying: {
      meta: { drive: "wait", slot: false },
      on: {
        note: { actions: "note" },
        cancel: cancelNow,
        timed_out: [
          { guard: "dueToPush", target: "pushing", actions: "again" },
          { guard: "due", target: "queued", actions: "again" },
        ],
      },
    },
    cancelling: {
      meta: { drive: "kill", slot: true },
      on: {
        note: { actions: "note" },
        progress: { actions: "note" },
        usage: { actions: "useQuietly" },
        checkpoint: { actions: "saveQuietly" },
        cancel: { guard: "firstForce", actions: "force" },
        stopped: { target: "cancelled", actions: "settle" },
        timed_out: { guard: "due", target: "cancelled", actions: "settle" },
      },
    },
    done: { type: "final", meta: { drive: "retire", slot: false } },
    failed: { type: "final", meta: { drive: "retire", slot: false } },
    cancelled: { type: "final", meta: { drive: "retire", slot: false } },
  },
});
