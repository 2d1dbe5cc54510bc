/**
 * The effect of each state. Effects are at-least-once and idempotent: each may run again from its
 * start after a crash.
 *
 * E1 An effect changes a task only through records of the attempt that it was started for (the
 *    fence).
 * E2 Names are derived from (task, attempt): what exists already is adopted, never created twice.
 * E3 The effect of a state without a slot begins by clearing the attempt's sandbox; only then is
 *    the slot given back (rule D5).
 * E4 Before a sandbox is removed, and before its end is recorded where that is possible, work that
 *    no checkpoint holds is salvaged (rule W6).
 */
import PQueue from "p-queue";
import { isAbort, errorMessage } from "../../core/error.ts";
import { effectOf } from "../../../machines/fold.ts";
import type { StateEffect } from "../../../machines/task-events.ts";
import type { TaskLog } from "../task-log.ts";
import { sandboxName, type Task } from "../../core/task.ts";
import type { Broker } from "../../core/ports/broker.ts";
import type { Ids } from "../../core/ports/runtime.ts";
import { classifyError } from "./classify-error.ts";
import { clear } from "./clear.ts";
import { provision, type ProvisionDeps } from "./provision.ts";
import { push, type PushDeps } from "./push.ts";
import { Recorder } from "./recorder.ts";
import { watch } from "./watch.ts";

export interface EffectDeps extends Omit<ProvisionDeps & PushDeps, "recorder"> {
  readonly taskLog: TaskLog;
  readonly broker: Broker;
  readonly ids: Ids;
}

type RunDeps = EffectDeps & {
  readonly recorder: Recorder;
  /** Limits the clears of tasks that go on without a slot: a start has one for each of them. */
  readonly clears: PQueue;
};

/** Clears at once: each may read every process of the machine, or call the engine. */
const CLEARS = 8;

/**
 * Runs until its state is left (the signal aborts it) or its work is recorded. Never rejects.
 * `release` gives the slot back.
 */
export type Effect = (task: Task, signal: AbortSignal, release: () => void) => Promise<void>;

type RunEffect = (deps: RunDeps, task: Task, signal: AbortSignal, release: () => void) => Promise<void>;

/** Queued tasks have no effect: the scheduler claims them. */
const EFFECTS: Readonly<Record<Exclude<StateEffect, "claim">, RunEffect>> = {
  provision,
  supervise,
  kill,
  push: async (deps, task, signal, release) => {
    // A person is asked, and the sandbox was cleared before that.
    if (task.snapshot.context.question !== null) return release();
    await clearInTurn(deps, task, signal, release);
    if (!signal.aborted) await push(deps, task, signal);
  },
  park: clearInTurn,
  wait: clearInTurn,
  retire: (deps, task, _signal, release) => clear(deps, task, release),
};

export function createEffects(given: EffectDeps): Effect {
  const deps: RunDeps = {
    ...given,
    recorder: new Recorder(given.taskLog, given.ids, given.variables),
    clears: new PQueue({ concurrency: CLEARS }),
  };
  return async (task, signal, release) => {
    const name = effectOf(task.snapshot);
    if (name === "claim") return;
    deps.crashpoint("effect.before");
    try {
      await EFFECTS[name](deps, task, signal, release);
      deps.crashpoint("effect.after");
    } catch (error) {
      if (signal.aborted || isAbort(error)) return;
      await recordFailure(deps, task, error).catch((recordError: unknown) =>
        deps.log.error({ task: task.id, error: errorMessage(recordError) }, "a failure could not be recorded"),
      );
    }
  };
}

function clearInTurn(deps: RunDeps, task: Task, _signal: AbortSignal, release: () => void): Promise<void> {
  return deps.clears.add(() => clear(deps, task, release));
}

async function supervise(deps: RunDeps, task: Task, signal: AbortSignal): Promise<void> {
  await deps.broker.open(task.id, task.snapshot.context.attempt);
  await watch(deps, task, signal);
}

async function kill(deps: RunDeps, task: Task, signal: AbortSignal): Promise<void> {
  const { attempt, forced, policy } = task.snapshot.context;
  const name = sandboxName(task.id, attempt);
  if (!forced) await deps.broker.open(task.id, attempt);
  await deps.sandbox.stop(name, forced ? 0 : policy.graceMs, signal);
  await deps.salvage(task.id, attempt, "stopped", signal);
  await deps.recorder.record(task, { type: "task.state", data: { reason: "stopped" } });
}

async function recordFailure({ recorder, log }: RunDeps, task: Task, error: unknown): Promise<void> {
  const { code, ...details } = classifyError(error);
  if (code === "internal") {
    const { attempt } = task.snapshot.context;
    log.error({ task: task.id, attempt, state: task.state, err: error }, "a defect of Slipway ended an attempt");
  }
  await recorder.fail(task, code, details);
}
