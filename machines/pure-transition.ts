/**
 * Pure transitions at the speed of such: xstate's `transition()` and `initialTransition()` build an
 * actor for each call (measured: 3.5 times the cost of the step itself). The scope here is built
 * once and runs nothing: every action of the chart is an `assign`, which the step has done already.
 */
import { createActor, type SnapshotFrom } from "xstate";
import type { TaskMachineEvent, TaskInput } from "./task-events.ts";
import { taskMachine } from "./task.ts";

type Scope = Parameters<typeof taskMachine.transition>[2];
type TaskSnapshot = SnapshotFrom<typeof taskMachine>;

export interface Stepper {
  first(input: TaskInput): TaskSnapshot;
  next(current: TaskSnapshot, cause: TaskMachineEvent): TaskSnapshot;
}

/** @param input any valid input: the scope needs an actor to point at, which is never started. */
export function createStepper(input: TaskInput): Stepper {
  const self = createActor(taskMachine, { input });
  const nothing = (): void => undefined;
  const scope = {
    self: self as Scope["self"],
    id: self.id,
    sessionId: self.sessionId,
    system: self.system,
    logger: nothing,
    defer: nothing,
    emit: nothing,
    stopChild: nothing,
    actionExecutor: nothing,
  } satisfies Scope;
  return {
    first: (given) => taskMachine.getInitialSnapshot(scope, given),
    next: (current, cause) => taskMachine.transition(current, cause, scope),
  };
}
