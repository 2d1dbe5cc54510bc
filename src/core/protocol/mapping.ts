/** Maps stored tasks and events to their wire form. */
import { remainingBudget } from "../budget.ts";
import type { EventRow, TaskEvent } from "../event.ts";
import type { Task, Wait } from "../task.ts";
import type { WireEvent } from "./events.ts";
import type { WireTask } from "./rest.ts";

export function toIsoTime(epochMs: number): string {
  return new Date(epochMs).toISOString();
}

function isoOrNull(at: number | null): string | null {
  return at === null ? null : toIsoTime(at);
}

/** The data was checked, or made, before it was recorded: it has the form of its type. */
export function toWireEvent(event: TaskEvent): WireEvent {
  const { taskId, seq, at, attempt, type, from, to, data } = event;
  return { taskId, seq, at: toIsoTime(at), attempt, type, from, to, data } as WireEvent;
}

/**
 * The JSON of `toWireEvent` for the same event; the data is inserted as the text that is stored.
 */
export function toWireEventJson({ taskId, seq, at, attempt, type, from, to, data }: EventRow): string {
  const fields = JSON.stringify({ taskId, seq, at: toIsoTime(at), attempt, type, from, to });
  return `${fields.slice(0, -1)},"data":${data}}`;
}

/**
 * @param phase from machines/fold.ts.
 * @param wait why a queued task waits; null in other states.
 */
export function toWireTask(task: Task, phase: string | null, wait: Wait | null): WireTask {
  const { spec, snapshot } = task;
  const c = snapshot.context;
  const budget = remainingBudget(task);
  return {
    id: task.id,
    threadId: task.threadId,
    parentId: task.parentId,
    state: task.state,
    phase,
    attempt: c.attempt,
    maxAttempts: c.maxAttempts,
    repo: spec.repo,
    base: c.base ?? spec.base,
    baseSha: c.baseSha,
    branch: spec.branch,
    headSha: c.headSha ?? c.checkpoint?.sha ?? null,
    prompt: spec.prompt,
    title: spec.title,
    agent: spec.agent,
    model: spec.model,
    effort: spec.effort,
    image: spec.image ?? null,
    wait,
    steps: c.steps.map((s) => ({
      name: s.name,
      startedAt: toIsoTime(s.startedAt),
      endedAt: isoOrNull(s.endedAt),
      detail: s.detail,
    })),
    failure: c.failure,
    question: c.question && {
      id: c.question.id,
      question: c.question.question,
      options: c.question.options && [...c.question.options],
      askedAt: toIsoTime(c.question.askedAt),
    },
    budget: Object.keys(budget).length === 0 ? null : budget,
    usage: c.usage,
    outcome: c.outcome,
    summary: c.report?.summary ?? null,
    pullRequest: c.pullRequest,
    dueAt: isoOrNull(c.dueAt),
    createdAt: toIsoTime(task.createdAt),
    updatedAt: toIsoTime(task.updatedAt),
    startedAt: isoOrNull(c.startedAt),
    settledAt: isoOrNull(c.settledAt),
    seq: task.seq,
  };
}
