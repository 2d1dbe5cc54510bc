/**
 * What takes the place of stored data that this version cannot read (rule M11). Nothing of it is
 * written.
 */
import type { EventData } from "../../core/event.ts";
import { makeFailure } from "../../core/failure.ts";
import { DEFAULT_POLICY, NO_USAGE, type Snapshot, type TaskSpec } from "../../core/task.ts";

/**
 * Why this version cannot go on with a snapshot, for operators; null when it can.
 * @param snapshot anything; null when the stored text is no JSON.
 */
export type ExplainUnreadable = (machineVersion: number, snapshot: unknown) => string | null;

/** The parsed text; `otherwise` when it is null or not JSON. */
export function parseOr<T>(json: string | null, otherwise: T): T {
  if (json === null) return otherwise;
  try {
    return JSON.parse(json) as T;
  } catch {
    return otherwise;
  }
}

const DAMAGED = "An event cannot be read here. An operator sees more with `slipway doctor`.";
export const UNREADABLE_EVENT = {
  type: "notice",
  data: JSON.stringify({ level: "warn", code: "unreadable", text: DAMAGED }),
} as const;
export const UNREADABLE_MESSAGE: EventData[] = [{ type: "text", text: "This message cannot be read." }];

export const UNKNOWN_SPEC: TaskSpec = {
  repo: "unknown",
  base: null,
  branch: "unknown",
  prompt: "What was submitted cannot be read.",
  title: "A task that cannot be read",
  agent: "unknown",
  model: null,
  effort: null,
  script: null,
  budget: {},
  limits: {},
  egress: "none",
  pullRequest: "none",
  verify: [],
  priority: 0,
  maxAttempts: 1,
  from: "start",
  expectSha: null,
};

/** The specification; null when it is missing, damaged, or lacks what a task needs. */
export function readSpec(json: string | null): TaskSpec | null {
  const spec = parseOr<Partial<TaskSpec> | null>(json, null);
  if (typeof spec !== "object" || spec === null) return null;
  const { repo, branch, prompt, title, agent, budget, limits, verify, priority, maxAttempts } = spec;
  const areTexts = [repo, branch, prompt, title, agent].every((text) => typeof text === "string");
  const areObjects = [budget, limits].every((value) => typeof value === "object" && value !== null);
  const areNumbers = [priority, maxAttempts].every((value) => typeof value === "number");
  // Specifications written before `effort` existed do not have it.
  return areTexts && areObjects && areNumbers && Array.isArray(verify) ? ({ effort: null, ...spec } as TaskSpec) : null;
}

/** The snapshot that a task that is set aside shows: failed, for the given reason. */
export function makeSubstitute(row: { readonly seq: number; readonly updated_at: number }, reason: string): Snapshot {
  const at = row.updated_at;
  return {
    value: "failed",
    context: {
      seq: row.seq,
      attempt: 0,
      excused: 0,
      maxAttempts: 1,
      policy: DEFAULT_POLICY,
      wantsPullRequest: false,
      resume: "provisioning",
      streak: 0,
      pushTries: 0,
      resourceTries: 0,
      agentTries: 0,
      memoryFactor: 1,
      workerSeq: 0,
      enteredAt: at,
      activeAt: at,
      wallAt: null,
      dueAt: null,
      forced: false,
      steps: [],
      failure: makeFailure("set_aside", "queued", `The cause: ${reason}.`),
      question: null,
      checkpoint: null,
      base: null,
      baseSha: null,
      headSha: null,
      report: null,
      outcome: null,
      pullRequest: null,
      usage: NO_USAGE,
      startedAt: null,
      settledAt: at,
    },
  };
}
