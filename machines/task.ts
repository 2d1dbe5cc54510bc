/**
 * The lifecycle of a task as a pure chart: no invoke, no after, no spawn, no clock, no randomness.
 *
 * C1 Every open state accepts `cancel` and `timed_out` itself. They do not stand on the root,
 *    because pure transitions do not stop at final states.
 * C2 Time arrives in the event (`at`); a `timed_out` before `dueAt` is not accepted. Time that
 *    nobody could use arrives as `time_lost` and moves the deadlines (working-time.ts).
 * C3 Each accepted event writes its own seq into the context, so an event was accepted if and only
 *    if the snapshot changed.
 * C4 The meta of each state names the effect of the state, and whether the state holds a slot.
 */
import { setup } from "xstate";
import type { FailureStage } from "../src/core/failure.ts";
import type { TaskContext } from "../src/core/task.ts";
import type { TaskMachineEvent, StateMeta, TaskInput } from "./task-events.ts";
import { taskActions, describeFault, initialContext } from "./task-actions.ts";
import { willRetry } from "./retry-policy.ts";
import { toWallTime } from "./working-time.ts";
import { isTimeQuestion } from "../src/core/budget.ts";

export const TASK_MACHINE_VERSION = 1;

const isTimeUp = (context: TaskContext, at: number): boolean =>
  context.wallAt !== null && toWallTime(context, at) >= context.wallAt;
const due = ({ context, event }: { context: TaskContext; event: TaskMachineEvent }): boolean =>
  context.dueAt !== null && toWallTime(context, event.at) >= context.dueAt;
const retries =
  (stage: FailureStage) =>
  ({ context, event }: { context: TaskContext; event: TaskMachineEvent }): boolean =>
    (event.type === "failed" || event.type === "timed_out") &&
    willRetry(context, stage, describeFault(context, stage, event));

const chart = setup({
  types: {} as { context: TaskContext; events: TaskMachineEvent; input: TaskInput; meta: StateMeta },
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
    // While the work is pushed, a question of the worker has no effect.
    asksItself: ({ context, event }) =>
      event.type === "question" && event.workerSeq === null && !event.parks && context.question === null,
    answersOpen: ({ context, event }) => event.type === "answer" && event.questionId === context.question?.id,
    stopsOpen: ({ context, event }) =>
      event.type === "answer" && event.questionId === context.question?.id && event.decision === "stop",
    // The worker has reported the end of its time, or the clock of the task has run out.
    parksAtOnce: ({ context, event }) =>
      event.type === "question" && event.parks && (event.workerSeq !== null || isTimeUp(context, event.at)),
    waitsInPlace: ({ event }) => event.type === "question" && !event.parks,
    // The working time is used up, so later results of the worker do not count.
    deniesTime: ({ context, event }) =>
      event.type === "answer" &&
      event.questionId === context.question?.id &&
      event.decision === "stop" &&
      isTimeQuestion(event.questionId),
    firstForce: ({ context, event }) => event.type === "cancel" && event.force && !context.forced,
  },
  actions: taskActions,
});

const cancelNow = { target: "#task.cancelled", actions: "settle" } as const;
const cancelGracefully = { target: "#task.cancelling", actions: "startCancel" } as const;
/**
 * Not for `parked`: its sandbox is stopped on purpose, and a failure that the stop causes must not
 * end the open question.
 */
const runFails = [
  { guard: "retriesRunning", target: "#task.retrying", actions: "retryRunning" },
  { target: "#task.failed", actions: "giveUpRunning" },
] as const;

/** The source of `getNextTransitions`, of the tested paths, and of the drawing in README.md. */
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
        time_lost: { actions: "shiftWait" },
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
        time_lost: { actions: "shiftProvisioning" },
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
        timed_out: [
          { guard: "dueRetriesRunning", target: "retrying", actions: "retryRunning" },
          { guard: "due", target: "failed", actions: "giveUpRunning" },
        ],
      },
      states: {
        working: {
          meta: { drive: "supervise", slot: true },
          on: {
            step: { actions: "lateStep" },
            time_lost: { actions: "shiftWork" },
            progress: { actions: "progress" },
            usage: { actions: "use" },
            checkpoint: { actions: "save" },
            question: [
              { guard: "parksAtOnce", target: "parked", actions: "askForTime" },
              { guard: "waitsInPlace", target: "awaiting_input", actions: "ask" },
            ],
            failed: runFails,
            finished: [
              { guard: "changed", target: "#task.pushing", actions: "finishChanged" },
              { target: "#task.done", actions: "finishUnchanged" },
            ],
          },
        },
        awaiting_input: {
          meta: { drive: "supervise", slot: true },
          on: {
            step: { actions: "lateStep" },
            time_lost: { actions: "shiftQuestion" },
            progress: { actions: "note" },
            usage: { actions: "useQuietly" },
            checkpoint: { actions: "saveQuietly" },
            failed: runFails,
            answer: [
              { guard: "deniesTime", target: "#task.failed", actions: "denyMore" },
              { guard: "answersOpen", target: "working", actions: "acceptAnswer" },
            ],
            timed_out: { guard: "due", target: "parked", actions: "park" },
            yielded: { target: "parked", actions: "park" },
          },
        },
        parked: {
          meta: { drive: "park", slot: false },
          on: {
            time_lost: { actions: "keepCalendar" },
            answer: [
              { guard: "stopsOpen", target: "#task.failed", actions: "denyMore" },
              { guard: "answersOpen", target: "#task.queued", actions: "unpark" },
            ],
            cancel: cancelNow,
            timed_out: { guard: "due", target: "#task.failed", actions: "giveUpRunning" },
          },
        },
      },
    },
    pushing: {
      initial: "branch",
      on: {
        note: { actions: "note" },
        time_lost: { actions: "shiftPush" },
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
            question: { guard: "asksItself", actions: "holdPush" },
            answer: [
              { guard: "stopsOpen", target: "#task.failed", actions: "stopPush" },
              { guard: "answersOpen", actions: "releasePush" },
            ],
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
        time_lost: { actions: "shiftWait" },
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
        time_lost: { actions: "shiftWait" },
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
