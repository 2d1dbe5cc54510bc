/** What an agent is to the harness, and what the harness gives it. The harness owns git, verification, time limits and the line home. */
import type { WorkerSpec } from "../../src/worker-wire.ts";
import type { Link } from "../link.ts";
import type { ToolInput, ToolResult } from "../tools/tool.ts";

/** What the agent says about its work; becomes the commit's and the pull request's words. */
export interface AgentResult {
  readonly title: string;
  readonly summary: string;
}

/** A message of a person that is being shown to the agent now. */
export interface HeardMessage {
  readonly id: string;
  readonly text: string;
}

/**
 * When a checkpoint is made: `due` = when the last one is some seconds old, `now` = in any case when there is work,
 * `always` = the cursor is saved even when there is no work yet. `now` and `always` wait for a coordinator that is away.
 */
export type CheckpointMode = "due" | "now" | "always";

export interface AgentContext {
  readonly spec: WorkerSpec;
  /** Where this agent stood when the work was last saved; null = from the beginning. Only the agent knows what is in it. */
  readonly cursor: string | null;
  /** Aborted when the agent must stop at once. */
  readonly signal: AbortSignal;
  readonly emit: Link["emit"];
  readonly delta: Link["delta"];
  newId(prefix: string): string;
  /** Says a message of the agent. */
  say(text: string): Promise<void>;
  /** Runs a tool and tells about it. Rejects only when the agent must stop. */
  tool(name: string, input: ToolInput): Promise<ToolResult>;
  /** Asks a person. An answer that was given to an earlier attempt is returned at once. Waiting does not count as working time. */
  ask(id: string, question: string, options: readonly string[] | null): Promise<string>;
  /** A safe point: the messages that have arrived, proven to be delivered and not taken back. `end`: those for after the work too. */
  heard(at: "step" | "end"): Promise<readonly HeardMessage[]>;
  /** Remembers the cursor for a later life of this attempt. */
  mark(cursor: string): void;
  checkpoint(cursor: string, mode: CheckpointMode): Promise<void>;
  /** Commits everything. @returns the commit, or null when there was nothing to commit. */
  commit(message: string): Promise<string | null>;
  sleep(ms: number): Promise<void>;
  /** No sign of life any more; rejects when the agent must stop. */
  hang(): Promise<never>;
}

export interface Agent {
  /** Rejects with an AgentFailure when the agent gives up, with the signal's reason when it was stopped. */
  run(context: AgentContext): Promise<AgentResult>;
}

/** The agent gives up. Codes that the coordinator does not know count as `agent_error`. */
export class AgentFailure extends Error {
  readonly code: string;
  readonly evidence: string | null;

  constructor(code: string, message: string, evidence: string | null = null) {
    super(message);
    this.name = "AgentFailure";
    this.code = code;
    this.evidence = evidence;
  }
}

/** The worker process must end at once with this code, without a report. */
export class WorkerExit extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.name = "WorkerExit";
    this.exitCode = exitCode;
  }
}
