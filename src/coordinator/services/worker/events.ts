/**
 * Worker event -> proposal. The data is parsed against its schema, commits are looked up in the
 * task repository, and messages in the store; the worker's claims about either are not trusted.
 */
import { failureProposal } from "../../effects/failure-proposal.ts";
import { SlipwayError } from "../../../core/error.ts";
import { WORKER_DATA, type Proposal, type WorkerEventType } from "../../../core/event.ts";
import { WORKER_FAILURES, type FailureCode } from "../../../core/failure.ts";
import { WORK_REF, type Repositories } from "../../../core/ports/repositories.ts";
import type { Ids } from "../../../core/ports/runtime.ts";
import type { Store } from "../../../core/ports/store.ts";
import type { WorkerEvent } from "../../../core/protocol/worker.ts";
import type { Task } from "../../../core/task.ts";

export interface WorkerEventDeps {
  readonly store: Pick<Store, "message">;
  readonly repos: Pick<Repositories, "has" | "resolve">;
  readonly ids: Ids;
}

/** @throws SlipwayError `invalid_request` for data that does not fit the event's type. */
export async function toProposal(
  deps: WorkerEventDeps,
  task: Task,
  attempt: number,
  event: WorkerEvent,
): Promise<Proposal> {
  const data = parseData(event.type, event.data);
  const stamp = { attempt, workerSeq: event.seq };
  const toNotice = (code: string, text: string): Proposal => ({
    type: "notice",
    data: { level: "warning", code, text },
    ...stamp,
  });
  switch (event.type) {
    case "ready":
      return { type: "task.state", data: { reason: "ready" }, ...stamp };
    case "failed":
      return { ...toFailure(deps, data), ...stamp };
    case "finished":
      return { ...(await toFinished(deps, task, data)), ...stamp };
    case "checkpoint":
      if (await deps.repos.has(task.id, String(data["sha"]))) return { type: "checkpoint", data, ...stamp };
      return toNotice("checkpoint_missing", "The worker named a checkpoint that is not in the task repository.");
    case "message.status": {
      const message = await deps.store.message(task.id, String(data["id"]));
      if (message?.status === "withdrawn")
        return toNotice("message_withdrawn", "The message was taken back before it was delivered.");
      return { type: "message.status", data, ...stamp };
    }
    case "task.step":
    case "message":
    case "tool.started":
    case "tool.finished":
    case "todo":
    case "usage":
    case "question":
    case "notice":
    case "verify":
      return { type: event.type, data, ...stamp };
  }
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
