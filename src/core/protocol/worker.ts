/**
 * The worker protocol (served by the broker of one attempt; not for people).
 * Every request carries `Authorization: Bearer <attempt token>`; git may send it as the password of
 * basic authentication.
 *
 * GET  /worker/v1/spec                     -> WorkerSpec
 * POST /worker/v1/events  WorkerBatch      -> WorkerAck   (409 with `{ack}` on a hole, 410 when the attempt is over)
 * GET  /worker/v1/commands?after=&wait=    -> { commands } (long poll, at most 25 s)
 * GET  /worker/v1/transcript?after=        -> WorkerTranscript, a page of it
 * POST /worker/v1/transcript               -> { last }    (409 with `{last}` when `n` is not the next number, 413 when there is no room, 410)
 * GET  /worker/v1/budget                   -> WorkerBudget, after the gateway answered 402
 *      /anthropic/v1/messages               -> the Messages API, by way of the coordinator
 *      /git/repo.git/...                   -> git smart HTTP on the task repository
 */
import { z } from "zod";
import { WORKER_EVENT_TYPES } from "../event.ts";
import { mcpServersSchema } from "../values/mcp-servers.ts";
import { EFFORTS } from "../task.ts";
import { budgetSchema, scriptStepSchema } from "../task-schema.ts";

/** A batch holds at most this many events and bytes. */
export const BATCH_EVENTS = 200;
export const BATCH_BYTES = 1_000_000;
/**
 * The longest long poll in seconds, and the longest time between two signs of life of a worker in
 * ms.
 */
export const POLL_SECONDS = 25;
export const LIVENESS_MS = 90_000;
/** A worker that could not reach its coordinator for this long gives up, ms. */
export const ABANDON_MS = 24 * 3_600_000;

/** Messages of people that a worker is told again when it starts. */
export const DELIVERED = 50;

/**
 * Longest time for all setup commands: they are a part of provisioning, and end before its 15
 * minutes do.
 */
export const SETUP_MINUTES = 14;

export const workerEventSchema = z.strictObject({
  /** 1, 2, 3, ... per attempt, without holes. */
  seq: z.int().positive(),
  /** When the worker's clock says that it happened, ISO 8601. */
  at: z.iso.datetime(),
  type: z.enum(WORKER_EVENT_TYPES),
  /** Checked against WORKER_DATA[type]. */
  data: z.record(z.string(), z.unknown()),
});
export type WorkerEvent = z.infer<typeof workerEventSchema>;

export const workerBatchSchema = z.strictObject({
  attempt: z.int().positive(),
  /** May be empty: a heartbeat. Each event's `seq` is the one before it plus one. */
  events: z
    .array(workerEventSchema)
    .max(BATCH_EVENTS)
    .refine(
      (events) => events.every(({ seq }, i) => seq === (events[0]?.seq ?? 0) + i),
      "the numbers must follow one another",
    ),
  /** Ephemeral text; never stored. */
  deltas: z
    .array(z.strictObject({ messageId: z.string().max(64), text: z.string().max(16_384) }))
    .max(100)
    .optional(),
});
export type WorkerBatch = z.infer<typeof workerBatchSchema>;

const record = z.custom<Readonly<Record<string, unknown>>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "must be an object",
);

/**
 * One more record of the agent's transcript; `n` = 1, 2, 3, ... per task. The same again is
 * answered alike.
 */
export const transcriptAppendSchema = z.strictObject({ attempt: z.int().positive(), n: z.int().positive(), record });
/**
 * Records after the number that was asked for, in order; none at the end. `attempt` 0 = inherited
 * from the task that this one goes on from.
 */
export const workerTranscriptSchema = z.strictObject({
  records: z.array(z.strictObject({ n: z.int().positive(), attempt: z.int().min(0), record })),
});
export type WorkerTranscript = z.infer<typeof workerTranscriptSchema>;

/** Where the task's money stands: a question to wait for, or how it was decided. */
export const workerBudgetSchema = z.discriminatedUnion("state", [
  z.strictObject({ state: z.literal("asked"), questionId: z.string() }),
  z.strictObject({ state: z.literal("continue") }),
  z.strictObject({ state: z.literal("stop"), reason: z.string() }),
]);

/**
 * What a person said, in the order of the log; `id` is the seq of the event behind it: the cursor
 * of the poll.
 */
export const workerCommandSchema = z.discriminatedUnion("type", [
  z.strictObject({
    id: z.int(),
    type: z.literal("message"),
    messageId: z.string(),
    text: z.string(),
    mode: z.enum(["steer", "follow_up"]),
  }),
  z.strictObject({ id: z.int(), type: z.literal("withdraw"), messageId: z.string() }),
  z.strictObject({ id: z.int(), type: z.literal("answer"), questionId: z.string(), text: z.string() }),
  z.strictObject({ id: z.int(), type: z.literal("cancel"), graceMs: z.number() }),
]);
export type WorkerCommand = z.infer<typeof workerCommandSchema>;

export const workerAckSchema = z.strictObject({
  /** Every event up to this seq is durable. */
  ack: z.int().min(0),
  /** True when the worker should ask for commands. */
  commands: z.boolean(),
});
export type WorkerAck = z.infer<typeof workerAckSchema>;

export const workerSpecSchema = z.strictObject({
  taskId: z.string(),
  attempt: z.int().positive(),
  prompt: z.string(),
  /** What the agent must know beside the prompt; absent = nothing. Never part of the prompt itself. */
  notes: z.array(z.string()).optional(),
  agent: z.string(),
  model: z.string().nullable(),
  /** Null = the agent's own default. */
  effort: z.enum(EFFORTS).nullable(),
  /** Whether `/anthropic` leads to a model. */
  gateway: z.enum(["open", "none"]),
  script: z.array(scriptStepSchema).nullable(),
  /**
   * The command of an agent program that speaks the Agent Client Protocol; absent for agents that
   * the worker has itself.
   */
  acpCommand: z.string().min(1).max(4_000).optional(),
  /** Servers of tools; started by the worker once the setup is done. */
  mcpServers: mcpServersSchema.optional(),
  /** Commands of the repository that make the checkout ready, in order. */
  setup: z.array(z.strictObject({ command: z.string(), timeoutMs: z.number().positive() })),
  /** Commands that the harness runs after the agent. */
  verify: z.array(z.string()),
  budget: budgetSchema,
  /** The branch that the upstream calls the base, and the commit to start from. */
  base: z.string(),
  baseSha: z.string(),
  /** Push the work to `workRef` and checkpoints to `checkpointRef`, nothing else. */
  workRef: z.string(),
  checkpointRef: z.string(),
  /**
   * Go on from here instead of from baseSha: the commit is in the task repository, the cursor is
   * the agent's own.
   */
  resume: z.strictObject({ sha: z.string(), cursor: z.string().nullable() }).nullable(),
  /** The number of the transcript's last record; 0 = there is none. */
  transcript: z.int().min(0),
  /** Answers that were given to questions of earlier attempts: question id -> text. */
  answers: z.record(z.string(), z.string()),
  /**
   * What people said that an earlier life of the worker was shown, oldest first, the last DELIVERED
   * at most: it may have ended before it wrote them down.
   */
  delivered: z.array(z.strictObject({ id: z.string(), text: z.string() })),
  /**
   * Ask for commands after this id. Messages that no earlier attempt was shown come as commands.
   */
  commandsAfter: z.int().min(0),
  /**
   * Events of this attempt up to this seq are durable already (a worker that restarts goes on from
   * here).
   */
  ack: z.int().min(0),
  /**
   * Stop by yourself (checkpoint, then fail with deadline_exceeded) this many ms after the agent
   * began.
   */
  wallMs: z.number().positive(),
  /** Give up when nothing was answered for this many ms. */
  abandonMs: z.number().positive(),
});
export type WorkerSpec = z.infer<typeof workerSpecSchema>;

/**
 * Environment of a worker process: the broker's unix socket, the attempt's token, the folder for
 * the checkout, and a folder for the journal. `assignment` stands in place of token and attempt:
 * the file in which a worker that was started ahead will find them (Assignment).
 */
export const WORKER_ENV = {
  socket: "SLIPWAY_SOCKET",
  assignment: "SLIPWAY_ASSIGNMENT",
  token: "SLIPWAY_TOKEN",
  attempt: "SLIPWAY_ATTEMPT",
  workspace: "SLIPWAY_WORKSPACE",
  state: "SLIPWAY_STATE",
} as const;

/**
 * Whom a worker that was started ahead works for. The file appears whole, after the socket beside
 * it.
 */
export const assignmentSchema = z.strictObject({ token: z.string().min(1), attempt: z.int().positive() });
export type Assignment = z.infer<typeof assignmentSchema>;

/**
 * Exit codes of the worker process: 0 = its report was acknowledged, 1 = it could not report, 3 =
 * told that its attempt is over.
 */
export const WORKER_EXIT = { reported: 0, lost: 1, stale: 3 } as const;
