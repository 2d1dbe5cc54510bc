/**
 * The log at `info` tells what happened to tasks: submissions, attempts, questions, ends. Ids,
 * codes and numbers only: titles, prompts, answers and addresses of repositories may hold secrets.
 */
import type { Listener } from "../../coordinator/task-log.ts";
import type { TaskEvent } from "../../core/event.ts";
import type { Log } from "../../core/ports/runtime.ts";
import { isSettledState, type Task } from "../../core/task.ts";

export function logTasks(log: Log): Listener {
  return (task, events) => {
    for (const event of events) tell(log, task, event);
  };
}

function tell(log: Log, task: Task, event: TaskEvent): void {
  const { id, userId, spec, snapshot } = task;
  const { type, from, to, at, attempt, data } = event;
  const code = typeof data["code"] === "string" ? data["code"] : null;
  if (type === "task.submitted") {
    const { agent, model } = spec;
    return log.info({ task: id, user: userId, agent, ...(model === null ? {} : { model }) }, "a task was submitted");
  }
  if (type === "question") return log.info({ task: id, attempt }, "a task asks a person");
  if (from === null || from === to) return;
  if (isSettledState(to)) {
    const { failure, outcome, usage } = snapshot.context;
    const seconds = Math.round((at - task.createdAt) / 1_000);
    const cause = failure === null ? {} : { code: failure.code, stage: failure.stage };
    const fields = { task: id, user: userId, state: to, ...cause, outcome, attempts: attempt, seconds, usd: usage.usd };
    return log.info(fields, "a task ended");
  }
  if (to === "provisioning") return log.info({ task: id, attempt }, "an attempt begins");
  if (to === "retrying") return log.info({ task: id, attempt, code }, "an attempt failed, and is tried again");
  if (to === "pushing") return log.info({ task: id, attempt }, "the agent has finished; its work is pushed");
}
