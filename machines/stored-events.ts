/**
 * Stored event -> event of the chart. The coordinator checks `data` before it writes it, so the
 * casts here hold.
 */
import type { TaskEvent } from "../src/core/event.ts";
import type { GuardChoice } from "../src/core/values/push-guard.ts";
import type { FailureCode } from "../src/core/failure.ts";
import {
  DEFAULT_POLICY,
  type Budget,
  type Checkpoint,
  type Policy,
  type StepName,
  type TaskContext,
  type Usage,
} from "../src/core/task.ts";
import type { Continuation, ResolvedBase, TaskInput, TaskMachineEvent } from "./task-events.ts";

/** The input of the chart from the event `task.submitted`. */
export function toMachineInput(event: Pick<TaskEvent, "at" | "data">): TaskInput {
  const d = event.data;
  return {
    at: event.at,
    maxAttempts: (d["maxAttempts"] as number | undefined) ?? 3,
    policy: (d["policy"] as Policy | undefined) ?? DEFAULT_POLICY,
    wantsPullRequest: d["pullRequest"] !== undefined && d["pullRequest"] !== "none",
    from: (d["from"] as TaskInput["from"] | undefined) ?? "start",
    checkpoint: (d["checkpoint"] as Checkpoint | null | undefined) ?? null,
    base: (d["base"] as string | null | undefined) ?? null,
    baseSha: (d["baseSha"] as string | null | undefined) ?? null,
    headSha: (d["headSha"] as string | null | undefined) ?? null,
    report: (d["report"] as TaskContext["report"] | undefined) ?? null,
  };
}

interface Stamp {
  readonly seq: number;
  readonly at: number;
  readonly workerSeq: number | null;
}

/**
 * The stamp is spread last: properties that follow a spread are added to the object one by one, at
 * 0.5 us each (measured on Node 20).
 */
export function toMachineEvent(event: TaskEvent): TaskMachineEvent {
  const stamp: Stamp = { seq: event.seq, at: event.at, workerSeq: event.workerSeq };
  const d = event.data;
  switch (event.type) {
    case "task.submitted":
      return { type: "note", ...stamp };
    case "task.state":
      return toStateEvent(stamp, d);
    case "message":
      return { type: d["role"] === "user" ? "note" : "progress", ...stamp };
    case "message.status":
      return { type: event.workerSeq === null ? "note" : "progress", ...stamp };
    case "notice":
      if (typeof d["lostMs"] === "number" && event.workerSeq === null) return toTimeLost(stamp, d);
      return { type: event.workerSeq !== null || isProgress(d["code"]) ? "progress" : "note", ...stamp };
    case "tool.started":
    case "tool.finished":
    case "todo":
    case "verify":
      return { type: "progress", ...stamp };
    case "usage":
      return { type: "usage", usage: d as unknown as Usage, ...stamp };
    case "task.step":
    case "checkpoint":
    case "question":
    case "answer":
    case "push":
    case "pull_request":
      return toDetailedEvent(event.type, stamp, d);
  }
}

type DetailedType = "task.step" | "checkpoint" | "question" | "answer" | "push" | "pull_request";

/** The event types of which the chart reads several fields. */
function toDetailedEvent(type: DetailedType, stamp: Stamp, d: TaskEvent["data"]): TaskMachineEvent {
  switch (type) {
    case "task.step":
      return {
        type: "step",
        name: d["name"] as StepName,
        status: d["status"] as "started" | "ended",
        detail: (d["detail"] as string | null) ?? null,
        found: (d["found"] as ResolvedBase | undefined) ?? null,
        startedAt: (d["startedAt"] as number | undefined) ?? null,
        ...stamp,
      };
    case "checkpoint":
      return {
        type: "checkpoint",
        checkpoint: { sha: d["sha"] as string, cursor: (d["cursor"] as string | null) ?? null },
        ...stamp,
      };
    case "question":
      return {
        type: "question",
        id: d["id"] as string,
        question: d["question"] as string,
        options: (d["options"] as string[] | null) ?? null,
        parks: d["parks"] === true,
        ...stamp,
      };
    case "answer":
      return {
        type: "answer",
        questionId: d["questionId"] as string,
        decision: d["decision"] === "stop" ? "stop" : "continue",
        choice: (d["choice"] as GuardChoice | undefined) ?? null,
        granted: (d["budget"] as Budget | undefined) ?? null,
        ...stamp,
      };
    case "push":
      return { type: "push", sha: d["sha"] as string, ...stamp };
    case "pull_request":
      return {
        type: "pull_request",
        url: d["url"] as string,
        number: d["number"] as number,
        state: d["state"] as string,
        ...stamp,
      };
  }
}

function toTimeLost(stamp: Stamp, d: TaskEvent["data"]): TaskMachineEvent {
  return {
    type: "time_lost",
    lostMs: d["lostMs"] as number,
    graceMs: (d["graceMs"] as number | undefined) ?? 0,
    aheadMs: (d["aheadMs"] as number | undefined) ?? 0,
    ...stamp,
  };
}

/**
 * Notices of the coordinator that count as progress: a worker was adopted, or a step continues (an
 * image is being pulled).
 */
function isProgress(code: unknown): boolean {
  return code === "adopted" || (typeof code === "string" && code.startsWith("step."));
}

function toStateEvent(stamp: Stamp, d: TaskEvent["data"]): TaskMachineEvent {
  switch (d["reason"]) {
    case "claimed":
      return { type: "claimed", continues: (d["continues"] as Continuation | undefined) ?? null, ...stamp };
    case "stopped":
      return { type: "stopped", ...stamp };
    case "ready":
      return { type: "ready", ...stamp };
    case "finished":
      return {
        type: "finished",
        sha: d["sha"] as string,
        changed: d["changed"] === true,
        title: (d["title"] as string) ?? "",
        summary: (d["summary"] as string) ?? "",
        ...stamp,
      };
    case "failed":
      return {
        type: "failed",
        code: d["code"] as FailureCode,
        detail: (d["detail"] as string | null) ?? null,
        evidence: (d["evidence"] as string | null) ?? null,
        jitter: (d["jitter"] as number | undefined) ?? 0.5,
        retryAfterMs: (d["retryAfterMs"] as number | null) ?? null,
        counted: d["counted"] === true,
        ...stamp,
      };
    case "cancel":
      return { type: "cancel", force: d["force"] === true, ...stamp };
    case "timed_out":
      return { type: "timed_out", jitter: (d["jitter"] as number | undefined) ?? 0.5, ...stamp };
    case "yielded":
      return { type: "yielded", ...stamp };
    default:
      throw new Error(`unknown reason ${String(d["reason"])}`);
  }
}
