/**
 * The contract between an agent and the harness that runs it. The harness owns git, verification,
 * time limits and the link to the coordinator.
 */
import type { Redaction } from "../../src/core/lib/json/redaction.ts";
import type { WorkerSpec } from "../../src/core/protocol/worker.ts";
import type { Picture } from "../workspace/attachments.ts";
import type { CoordinatorLink } from "../connection/link.ts";
import type { ToolInput, ToolResult } from "../tools/tool.ts";
import type { Verified } from "../workspace/verify.ts";

/** The agent's report; it becomes the text of the commit and of the pull request. */
export interface AgentResult {
  readonly title: string;
  readonly summary: string;
  /**
   * The results of the last `verify()`, if no work followed it: the harness then does not run the
   * checks again.
   */
  readonly verified?: readonly Verified[];
}

/** A message of a person, on its way to the agent. */
export interface ReceivedMessage {
  readonly id: string;
  /** With the names of its attachments. */
  readonly text: string;
  /** What the model can be shown; absent = nothing. */
  readonly pictures?: readonly Picture[];
}

/**
 * When a checkpoint is made.
 *
 * `due`: when the last one is some seconds old. `now`: at once, if there is work to save. `always`:
 * at once, and the cursor is saved even if there is no work yet. `now` and `always` wait while the
 * coordinator is away.
 */
export type CheckpointMode = "due" | "now" | "always";

/** One record of the transcript, as the agent wrote it. */
export interface TranscriptRecord {
  /** The attempt that wrote it; 0 = inherited from the task that this one continues. */
  readonly attempt: number;
  readonly data: Readonly<Record<string, unknown>>;
}

/**
 * The agent's append-only record of its work, stored by the coordinator. A later attempt or a
 * follow-up task continues from it.
 */
export interface Transcript {
  /** The records that existed when this worker process started, oldest first. */
  readonly records: readonly TranscriptRecord[];
  /**
   * Resolves when the record is durable at the coordinator; waits while the coordinator is away.
   * One call at a time, at most 1 MB of JSON each. Rejects only when the agent must stop.
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
  /** The text that describes the attachments of the prompt to the agent; empty = no attachments. */
  readonly attached: string;
  /** The pictures among them. */
  readonly pictures: readonly Picture[];
  /** What an earlier process received (`spec.delivered`), as `receiveMessages` has it. */
  readonly delivered: readonly ReceivedMessage[];
  /** The pictures of the prompt and of received messages that no earlier call returned. */
  takePictures(): readonly Picture[];
  /** The content of a picture, base64; null when it is no longer there. */
  pictureData(id: string): string | null;
  /**
   * The agent's position when the work was last saved; null = from the start. Opaque to the
   * harness.
   */
  readonly cursor: string | null;
  /** Aborted when the agent must stop at once. */
  readonly signal: AbortSignal;
  readonly emit: CoordinatorLink["emit"];
  readonly delta: CoordinatorLink["delta"];
  newId(prefix: string): string;
  /** Emits a message of the agent. */
  message(text: string): Promise<void>;
  /** Runs a tool and emits its events. Rejects only when the agent must stop. */
  tool(name: string, input: ToolInput): Promise<ToolResult>;
  /**
   * Asks a person and waits for the answer. Returns at once if an earlier attempt got the answer.
   * The wait does not count as working time.
   */
  ask(id: string, question: string, options: readonly string[] | null): Promise<string>;
  /**
   * The messages that have arrived, reported as delivered and not withdrawn. Call it at a point
   * where the agent can act on them. `end`: includes the messages for after the work.
   */
  receiveMessages(point: "step" | "end"): Promise<readonly ReceivedMessage[]>;
  /** True while a message that interrupts waits to be received. */
  readonly isInterrupted: boolean;
  /** Aborts the signal when such a message arrives, until `stop`; tools watch for it themselves. */
  watchInterrupt(): { readonly signal: AbortSignal; readonly stop: () => void };
  /** Records the cursor for a restart of the worker within this attempt. */
  mark(cursor: string): void;
  checkpoint(cursor: string, mode: CheckpointMode): Promise<void>;
  /** Commits everything. @returns the commit, or null when there was nothing to commit. */
  commit(message: string): Promise<string | null>;
  readonly transcript: Transcript;
  /**
   * The address of the gateway, which serves the Messages API, and its bearer token. Null where the
   * installation has no model.
   */
  readonly model: { readonly baseURL: string; readonly token: string } | null;
  /** The tools that `tool()` runs (built-in and MCP), as a model is given them. */
  readonly toolSchemas: readonly {
    readonly name: string;
    readonly description: string;
    readonly inputSchema: Readonly<Record<string, unknown>>;
  }[];
  /**
   * The instructions of the repository (AGENTS.md and the like), marked as text of the repository.
   */
  readonly instructions: string;
  /**
   * The changes since the base commit as a diff; bounded, by default to 30,000 characters. Empty =
   * there are none.
   */
  changes(limit?: number): Promise<string>;
  /** Runs the task's verify commands and emits an event for each. Empty = the task has none. */
  verify(): Promise<readonly Verified[]>;
  /**
   * Waits for the decision about a budget that is used up: `continue` after a person granted more,
   * else `stop`. Call it after the gateway answered 402 `budget_exceeded`.
   */
  budgetQuestion(): Promise<"continue" | "stop">;
  /** Removes secrets from texts of others, before they are cut: half of one is not known. */
  readonly secrets: Redaction;
  sleep(ms: number): Promise<void>;
  /**
   * Emits signs of life while the work runs: for work that has a limit of its own, or the
   * attempt's.
   * @param progress what each of them adds; empty = nothing.
   */
  alive<T>(what: string, work: () => Promise<T>, progress?: () => string): Promise<T>;
  /** For the script step `hang`: stops every heartbeat; rejects when the agent must stop. */
  hang(): Promise<never>;
}

export interface Agent {
  /**
   * Rejects with an AgentFailure when the agent gives up, with the signal's reason when stopped.
   */
  run(context: AgentContext): Promise<AgentResult>;
}

/** The agent gives up. The coordinator treats codes that it does not know as `agent_error`. */
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

/** The worker process must exit at once with this code and without a report. */
export class WorkerExit extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.name = "WorkerExit";
    this.exitCode = exitCode;
  }
}
