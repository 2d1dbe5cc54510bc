/** Maps stored tasks and events to their wire form. */
import { remainingBudget } from "../budget.ts";
import type { EventData, EventRow, EventType, TaskEvent } from "../event.ts";
import { withBetterAdvice } from "../failure.ts";
import type { Task, TaskContext, TaskSpec, Wait } from "../task.ts";
import type { WireEvent } from "./events.ts";
import type { WireTask } from "./rest.ts";

export function toIsoTime(epochMs: number): string {
  return new Date(epochMs).toISOString();
}

export function isoOrNull(at: number | null): string | null {
  return at === null ? null : toIsoTime(at);
}

type Author = NonNullable<WireEvent["by"]>;

/** Events of these types name the person in `by`, unless the coordinator itself makes them. */
const BY_PEOPLE: ReadonlySet<string> = new Set<EventType>([
  "task.submitted",
  "task.state",
  "message",
  "message.status",
  "answer",
]);
/** What the coordinator may record in place of a worker's event. */
const INSTEAD: ReadonlySet<string> = new Set<EventType>(["notice", "question"]);
/** Of these only people are the authors; old logs do not always say who. */
const ONLY_BY_PEOPLE: ReadonlySet<string> = new Set<EventType>(["task.submitted", "message", "answer"]);

/**
 * Who said it; undefined when an old log does not tell.
 * @param readData called only when the data decides.
 */
function authorOf(
  { type, workerSeq }: Pick<TaskEvent, "type" | "workerSeq">,
  readData: () => EventData,
): Author | undefined {
  if (workerSeq !== null) return { kind: INSTEAD.has(type) && readData()["by"] === "server" ? "server" : "worker" };
  if (!BY_PEOPLE.has(type)) return { kind: "server" };
  const { by } = readData();
  if (typeof by === "string") return { kind: "person", id: by };
  return ONLY_BY_PEOPLE.has(type) ? undefined : { kind: "server" };
}

/** The data was checked, or made, before it was recorded: it has the form of its type. */
export function toWireEvent(event: TaskEvent): WireEvent {
  const { taskId, seq, at, attempt, type, from, to, data } = event;
  const by = authorOf(event, () => data);
  const author = by === undefined ? {} : { by };
  return { taskId, seq, at: toIsoTime(at), ...author, attempt, type, from, to, data } as WireEvent;
}

/**
 * The JSON of `toWireEvent` for the same event; the data is inserted as the text that is stored.
 */
export function toWireEventJson(event: EventRow): string {
  const { taskId, seq, at, attempt, type, from, to, data } = event;
  const by = authorOf(event, () => JSON.parse(data) as EventData);
  const fields = JSON.stringify({ taskId, seq, at: toIsoTime(at), by, attempt, type, from, to });
  return `${fields.slice(0, -1)},"data":${data}}`;
}

/** The path of a repository's address: `owner/name`. */
export function toRepoName(repo: string): string {
  return repo.replace(/^https?:\/\/[^/]+\//, "").replace(/\.git$/, "");
}

const toPerson = (id: string, emailOf: (userId: string) => string | null) => ({ id, email: emailOf(id) });

function toQuestion(asked: TaskContext["question"]): WireTask["question"] {
  if (asked === null) return null;
  const { id, question, options, askedAt } = asked;
  return { id, question, options: options && [...options], askedAt: toIsoTime(askedAt) };
}

/** The options of the submission, as they were after defaults. */
function toSubmission({ base, budget, limits, egress, verify, priority, pullRequest, maxAttempts }: TaskSpec) {
  return { base, budget, limits, egress, verify: [...verify], priority, pullRequest, maxAttempts };
}

/**
 * @param phase from machines/fold.ts.
 * @param wait why a queued task waits; null in other states.
 * @param emailOf the e-mail of a person by id; null when there is no such account.
 * @param threadBudget null = the thread has none.
 * @param readSeq the mark of its owner.
 */
export function toWireTask(
  task: Task,
  phase: string | null,
  wait: Wait | null,
  emailOf: (userId: string) => string | null = () => null,
  threadBudget: WireTask["threadBudget"] = null,
  readSeq = 0,
): WireTask {
  const { spec, snapshot, progress } = task;
  const c = snapshot.context;
  const budget = remainingBudget(task);
  return {
    id: task.id,
    threadId: task.threadId,
    parentId: task.parentId,
    owner: toPerson(task.userId, emailOf),
    submittedBy: toPerson(spec.submittedBy ?? task.userId, emailOf),
    state: task.state,
    phase,
    attempt: c.attempt,
    maxAttempts: c.maxAttempts,
    repo: spec.repo,
    repoName: toRepoName(spec.repo),
    base: c.base ?? spec.base,
    baseSha: c.baseSha,
    branch: spec.branch,
    headSha: c.headSha ?? c.checkpoint?.sha ?? null,
    prompt: spec.prompt,
    attachments: [...(spec.attachments ?? [])],
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
    failure: c.failure && withBetterAdvice(c.failure),
    question: toQuestion(c.question),
    budget: Object.keys(budget).length === 0 ? null : budget,
    usage: c.usage,
    threadBudget,
    outcome: c.outcome,
    summary: c.report?.summary ?? null,
    pullRequest: c.pullRequest,
    todo: progress.todo,
    changes: progress.changes,
    activity: progress.activity && { at: toIsoTime(progress.activity.at), text: progress.activity.text },
    submission: toSubmission(spec),
    dueAt: isoOrNull(c.dueAt),
    createdAt: toIsoTime(task.createdAt),
    updatedAt: toIsoTime(task.updatedAt),
    startedAt: isoOrNull(c.startedAt),
    settledAt: isoOrNull(c.settledAt),
    seq: task.seq,
    notableSeq: progress.notable ?? 0,
    readSeq,
  };
}
