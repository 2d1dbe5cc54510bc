/**
 * What an agent is to the harness, and what the harness gives it. The harness owns git,
 * verification, time limits and the line home.
 */
import type { WorkerSpec } from "../../src/core/protocol/worker.ts";
import type { CoordinatorLink } from "../connection/link.ts";
import type { ToolInput, ToolResult } from "../tools/tool.ts";
import type { Verified } from "../workspace/verify.ts";

/** What the agent says about its work; becomes the commit's and the pull request's words. */
export interface AgentResult {
  readonly title: string;
  readonly summary: string;
  /**
   * What the last `verify()` said, if nothing was done after it: the harness need not run the
   * checks again.
   */
  readonly verified?: readonly Verified[];
}

/** A message of a person that is being shown to the agent now. */
export interface ReceivedMessage {
  readonly id: string;
  readonly text: string;
}

/**
 * When a checkpoint is made: `due` = when the last one is some seconds old, `now` = in any case
 * when there is work, `always` = the cursor is saved even when there is no work yet. `now` and
 * `always` wait for a coordinator that is away.
 */
export type CheckpointMode = "due" | "now" | "always";

/** One line of the transcript, as the agent wrote it. */
export interface TranscriptRecord {
  /** The attempt that wrote it; 0 = inherited from the task that this one goes on from. */
  readonly attempt: number;
  readonly data: Readonly<Record<string, unknown>>;
}

/**
 * The agent's append-only memory, held by the coordinator: what a later attempt (or a follow-up
 * task) goes on from.
 */
export interface Transcript {
  /** Everything written before this life of the worker, oldest first. */
  readonly records: readonly TranscriptRecord[];
  /**
   * Durable at the coordinator when it resolves; waits for one that is away. One call at a time, at
   * most 1 MB of JSON each. Rejects only when the agent must stop.
   */
  append(data: Readonly<Record<string, unknown>>): Promise<void>;
}

export interface AgentContext {
  readonly spec: WorkerSpec;
  /**
   * What the agent must know beside the prompt, such as a setup that failed. It belongs to this
   * attempt: the next one may have other notes or none.
   */
  readonly notes: readonly string[];
  /**
   * Where this agent stood when the work was last saved; null = from the beginning. Only the agent
   * knows what is in it.
   */
  readonly cursor: string | null;
  /** Aborted when the agent must stop at once. */
  readonly signal: AbortSignal;
  readonly emit: CoordinatorLink["emit"];
  readonly delta: CoordinatorLink["delta"];
  newId(prefix: string): string;
  /** Says a message of the agent. */
  message(text: string): Promise<void>;
  /** Runs a tool and tells about it. Rejects only when the agent must stop. */
  tool(name: string, input: ToolInput): Promise<ToolResult>;
  /**
   * Asks a person. An answer that was given to an earlier attempt is returned at once. Waiting does
   * not count as working time.
   */
  ask(id: string, question: string, options: readonly string[] | null): Promise<string>;
  /**
   * A safe point: the messages that have arrived, proven to be delivered and not taken back. `end`:
   * those for after the work too.
   */
  receiveMessages(at: "step" | "end"): Promise<readonly ReceivedMessage[]>;
  /** Remembers the cursor for a later life of this attempt. */
  mark(cursor: string): void;
  checkpoint(cursor: string, mode: CheckpointMode): Promise<void>;
  /** Commits everything. @returns the commit, or null when there was nothing to commit. */
  commit(message: string): Promise<string | null>;
  readonly transcript: Transcript;
  /**
   * The Messages API as the coordinator's gateway serves it; `token` goes out as the Bearer. Null
   * where the installation has no model.
   */
  readonly model: { readonly baseURL: string; readonly token: string } | null;
  /** Names and JSON schemas of the tools that `tool()` knows (built-in and MCP), for the model. */
  readonly toolSchemas: readonly {
    readonly name: string;
    readonly description: string;
    readonly inputSchema: Readonly<Record<string, unknown>>;
  }[];
  /**
   * Text that the repository and the operator want the agent to know (AGENTS.md and the like),
   * already trusted or fenced as its source deserves.
   */
  readonly instructions: string;
  /**
   * Runs the task's verify commands now; each is an event with its exit code. Empty = the task has
   * none.
   */
  verify(): Promise<readonly Verified[]>;
  /**
   * Hooks of the budget: resolves to how the person decided when the coordinator paused this task
   * for money ("continue" after more was granted, "stop"). Called by the loop after the gateway
   * answered 402 `budget_exceeded`.
   */
  budgetQuestion(): Promise<"continue" | "stop">;
  sleep(ms: number): Promise<void>;
  /** No sign of life any more; rejects when the agent must stop. */
  hang(): Promise<never>;
}

export interface Agent {
  /**
   * Rejects with an AgentFailure when the agent gives up, with the signal's reason when it was
   * stopped.
   */
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
