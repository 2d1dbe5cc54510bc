/**
 * Worker event -> proposal. The data is parsed against its schema, commits are looked up in the
 * task repository, and messages in the store; the worker's claims about either are not trusted.
 */
import { failureProposal } from "../../effects/failure-proposal.ts";
import { SlipwayError } from "../../../core/error.ts";
import { WORKER_DATA, type Proposal, type WorkerEventType } from "../../../core/event.ts";
import { WORKER_FAILURES, type FailureCode } from "../../../core/failure.ts";
import { checkpointRef, WORK_REF, type Repositories } from "../../../core/ports/repositories.ts";
import type { Clock, Ids } from "../../../core/ports/runtime.ts";
import type { Store } from "../../../core/ports/store.ts";
import type { WorkerEvent } from "../../../core/protocol/worker.ts";
import type { StepName, Task } from "../../../core/task.ts";
import { proposeMoreTime } from "../budget/time.ts";
import { FOREIGN_NOTICE, insteadNotice, isReservedNotice, type ServerNoticeCode } from "../../../core/notices.ts";

export interface WorkerEventDeps {
  readonly store: Pick<Store, "message">;
  readonly repos: Pick<Repositories, "has" | "resolve">;
  readonly ids: Ids;
  readonly clock: Pick<Clock, "now">;
  /** True when the model gateway counts what the task uses; its worker's figures do not count. */
  countsUsage(task: Task): boolean;
}

/** Steps that the coordinator takes and reports. */
const OWN_STEPS: ReadonlySet<string> = new Set(["mirror", "image", "container"] satisfies StepName[]);

/** @throws SlipwayError `invalid_request` for data that does not fit the event's type. */
export async function toProposal(
  deps: WorkerEventDeps,
  task: Task,
  attempt: number,
  event: WorkerEvent,
): Promise<Proposal> {
  const data = parseData(event.type, event.data);
  const stamp = { attempt, workerSeq: event.seq };
  const toNotice = (code: ServerNoticeCode, text: string): Proposal => ({
    ...insteadNotice("warning", code, text),
    ...stamp,
  });
  switch (event.type) {
    case "ready":
      return { type: "task.state", data: { reason: "ready" }, ...stamp };
    case "failed":
      return { ...toEnd(deps, task, data), ...stamp };
    case "finished":
      return { ...(await toFinished(deps, task, data)), ...stamp };
    case "checkpoint":
      if (await isSaved(deps.repos, task.id, attempt, String(data["sha"])))
        return { type: "checkpoint", data, ...stamp };
      return toNotice("checkpoint_missing", "The worker named a checkpoint that is not in the task repository.");
    case "message.status": {
      const message = await deps.store.message(task.id, String(data["id"]));
      if (message?.status === "withdrawn")
        return toNotice("message_withdrawn", "The message was taken back before it was delivered.");
      return { type: "message.status", data, ...stamp };
    }
    case "task.step":
      if (!OWN_STEPS.has(String(data["name"]))) return { type: "task.step", data, ...stamp };
      return toNotice("event_ignored", "The worker reported a step that the coordinator takes.");
    case "notice": {
      // People and programs act on the coordinator's codes (rule S15).
      const code = isReservedNotice(String(data["code"])) ? FOREIGN_NOTICE : data["code"];
      return { type: "notice", data: { ...data, code }, ...stamp };
    }
    case "usage":
      if (!deps.countsUsage(task)) return { type: "usage", data, ...stamp };
      return toNotice("usage_ignored", "The worker reported what it has used; the model gateway counts that itself.");
    case "message":
    case "tool.started":
    case "tool.finished":
    case "todo":
    case "question":
    case "verify":
      return { type: event.type, data, ...stamp };
  }
}

/** The end of the working time is a question, asked in place of the worker's event. */
/** Also an earlier checkpoint of the attempt, whose event was sent again. */
async function isSaved(
  repos: WorkerEventDeps["repos"],
  taskId: string,
  attempt: number,
  sha: string,
): Promise<boolean> {
  return (await repos.resolve(taskId, checkpointRef(attempt))) === sha || (await repos.has(taskId, sha));
}

function toEnd(deps: WorkerEventDeps, task: Task, data: Record<string, unknown>): Proposal {
  const question = data["code"] === "deadline_exceeded" ? proposeMoreTime(task, deps.clock.now()) : null;
  if (question === null) return toFailure(deps, data);
  return { ...question, data: { ...question.data, by: "server" } };
}

function toFailure({ ids }: WorkerEventDeps, data: Record<string, unknown>): Proposal {
  const code = String(data["code"]);
  const isKnown = WORKER_FAILURES.has(code);
  const detail = isKnown ? String(data["message"]) : `${code}: ${String(data["message"])}`;
  const evidence = data["evidence"] === null ? null : String(data["evidence"]);
  return failureProposal(isKnown ? (code as FailureCode) : "agent_error", ids.random(), { detail, evidence });
}

async function toFinished(
  { repos, ids }: WorkerEventDeps,
  task: Task,
  data: Record<string, unknown>,
): Promise<Proposal> {
  const sha = String(data["sha"]);
  const { baseSha } = task.snapshot.context;
  if (sha !== baseSha && (await repos.resolve(task.id, WORK_REF)) !== sha)
    return failureProposal("agent_error", ids.random(), {
      detail: "The reported commit is not in the task repository.",
    });
  const [title, summary] = [String(data["title"]), String(data["summary"])];
  return { type: "task.state", data: { reason: "finished", sha, changed: sha !== baseSha, title, summary } };
}

function parseData(type: WorkerEventType, data: unknown): Record<string, unknown> {
  const result = WORKER_DATA[type].safeParse(data);
  if (result.success) return result.data;
  const errors = result.error.issues.map((issue) => ({ path: issue.path.join("."), message: issue.message }));
  throw new SlipwayError("invalid_request", `The data of a "${type}" event is not valid.`, { errors });
}
