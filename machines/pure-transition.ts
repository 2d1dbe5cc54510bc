/**
 * Pure transitions without an actor per call: xstate's `transition()` and `initialTransition()`
 * create one each time (measured: 3.5 times the cost of the step itself). The scope here is created
 * once and executes nothing, because every action of the chart is an `assign`, which the step
 * itself applies.
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

/** @param input any valid input, for the actor that the scope refers to and that never starts. */
export function createStepper(input: TaskInput): Stepper {
  const self = createActor(taskMachine, { input });
  const ignore = (): void => undefined;
  const scope = {
    self: self as Scope["self"],
    id: self.id,
    sessionId: self.sessionId,
    system: self.system,
    logger: ignore,
    defer: ignore,
    emit: ignore,
    stopChild: ignore,
    actionExecutor: ignore,
  } satisfies Scope;
  return {
    first: (given) => taskMachine.getInitialSnapshot(scope, given),
    next: (current, cause) => taskMachine.transition(current, cause, scope),
  };
}
