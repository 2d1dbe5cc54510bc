/**
 * The worker protocol: internal, served by the broker, one listener per attempt.
 * Every request carries `Authorization: Bearer <attempt token>`; git may send the token as the
 * password of basic authentication. Every request answers 410 once the attempt is over.
 *
 * GET  /worker/v1/spec                   -> WorkerSpec
 * POST /worker/v1/events  WorkerBatch    -> WorkerAck; 409 with `{ack}` when events are missing
 * GET  /worker/v1/commands?after=&wait=  -> { commands }; long poll, at most 25 s
 * GET  /worker/v1/transcript?after=      -> WorkerTranscript, one page
 * POST /worker/v1/transcript             -> { last }; 409 with `{last}` when `n` is not the next
 *                                           number, 413 when the transcript or record is too large
 * POST /worker/v1/inspect                -> { findings } of the guard before the push
 * GET  /worker/v1/attachment?id=         -> the bytes of one of the task's attachments
 * GET  /worker/v1/variables              -> WorkerVariables of the phase
 * GET  /worker/v1/setup                  -> the archive of an earlier setup; 404 = there is none
 * PUT  /worker/v1/setup                  -> WorkerSetupSaved; the body is such an archive
 * GET  /worker/v1/budget                 -> WorkerBudget; requested after a 402 of the gateway
 *      /anthropic/v1/messages            -> the Messages API, through the coordinator
 *      /git/repo.git/...                 -> git smart HTTP on the task repository
 */
import { z } from "zod";
import { attachmentSchema } from "../values/attachment.ts";
import { WORKER_EVENT_TYPES } from "../event.ts";
import { agentProgramSchema } from "../values/agent-program.ts";
import { findingSchema } from "../values/push-guard.ts";
import { gitIdentitySchema } from "../values/git-identity.ts";
import { mcpServersSchema } from "../values/mcp-servers.ts";
import { EFFORTS, EGRESS_POLICIES } from "../task.ts";
import { budgetSchema, scriptStepSchema } from "../task-schema.ts";

/** Maximum number of events and bytes of a batch. */
export const BATCH_EVENTS = 200;
export const BATCH_BYTES = 1_000_000;
/** Maximum long poll in seconds; maximum time between two requests of a live worker in ms. */
export const POLL_SECONDS = 25;
export const LIVENESS_MS = 90_000;
/** A worker that cannot reach the coordinator for this long exits, ms. */
export const ABANDON_MS = 24 * 3_600_000;

/** Why a push is refused that the worker sends again later, as git prints it. */
export const PUSH_LATER = "the server's disk has too little room for this push";

/** Maximum number of messages in `WorkerSpec.delivered`. */
export const DELIVERED = 50;

/**
 * Maximum total time of the setup commands. They are part of provisioning and must end before its
 * limit of 15 minutes.
 */
export const SETUP_MINUTES = 14;

export const workerEventSchema = z.strictObject({
  /** 1, 2, 3, ... per attempt, without gaps. */
  seq: z.int().positive(),
  /** Time of the worker's clock, ISO 8601. */
  at: z.iso.datetime(),
  type: z.enum(WORKER_EVENT_TYPES),
  /** Validated against WORKER_DATA[type]. */
  data: z.record(z.string(), z.unknown()),
});
export type WorkerEvent = z.infer<typeof workerEventSchema>;

export const workerBatchSchema = z.strictObject({
  attempt: z.int().positive(),
  /** Consecutive `seq` numbers. An empty batch is a heartbeat. */
  events: z
    .array(workerEventSchema)
    .max(BATCH_EVENTS)
    .refine(
      (events) => events.every(({ seq }, i) => seq === (events[0]?.seq ?? 0) + i),
      "the numbers must follow one another",
    ),
  /** Streamed text that comes after the events of the batch; never stored. */
  deltas: z
    .array(z.strictObject({ messageId: z.string().max(64), text: z.string().max(16_384) }))
    .max(100)
    .optional(),
});
export type WorkerBatch = z.infer<typeof workerBatchSchema>;

/** Events with a whole text: deltas of their `id` come before them or not at all (rule F4). */
export const TEXT_ENDS: ReadonlySet<string> = new Set(["message", "tool.finished"]);

const record = z.custom<Readonly<Record<string, unknown>>>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "must be an object",
);

/** The next record of the transcript; `n` = 1, 2, 3, ... per task. Idempotent. */
export const transcriptAppendSchema = z.strictObject({ attempt: z.int().positive(), n: z.int().positive(), record });
export type TranscriptAppend = z.infer<typeof transcriptAppendSchema>;

/**
 * Records after the requested number, in order; empty at the end. `attempt` 0 = inherited from the
 * parent task.
 */
export const workerTranscriptSchema = z.strictObject({
  records: z.array(z.strictObject({ n: z.int().positive(), attempt: z.int().min(0), record })),
});
export type WorkerTranscript = z.infer<typeof workerTranscriptSchema>;

/** State of the task's budget: a question is open, or the user's decision. */
export const workerBudgetSchema = z.discriminatedUnion("state", [
  z.strictObject({ state: z.literal("asked"), questionId: z.string() }),
  z.strictObject({ state: z.literal("continue") }),
  z.strictObject({ state: z.literal("stop"), reason: z.string() }),
]);

/**
 * A user's message, withdrawal, answer or cancellation, in the order of the log. `id` is the seq of
 * its event and the cursor of the poll.
 */
export const workerCommandSchema = z.discriminatedUnion("type", [
  z.strictObject({
    id: z.int(),
    type: z.literal("message"),
    messageId: z.string(),
    text: z.string(),
    mode: z.enum(["steer", "follow_up"]),
    /** What runs ends now; its output so far is its result. */
    interrupt: z.literal(true).optional(),
    /** Absent = none. */
    attachments: z.array(attachmentSchema).optional(),
  }),
  z.strictObject({ id: z.int(), type: z.literal("withdraw"), messageId: z.string() }),
  z.strictObject({ id: z.int(), type: z.literal("answer"), questionId: z.string(), text: z.string() }),
  z.strictObject({ id: z.int(), type: z.literal("cancel"), graceMs: z.number() }),
]);
export type WorkerCommand = z.infer<typeof workerCommandSchema>;

/** Variables for commands; a secret is removed from their output before anybody reads it. */
export const workerVariablesSchema = z.strictObject({
  variables: z.array(z.strictObject({ name: z.string(), value: z.string(), secret: z.boolean() })),
});
export type WorkerVariables = z.infer<typeof workerVariablesSchema>;

/** Asks what the guard finds in a commit that was pushed to `checkpointRef` or `workRef`. */
export const inspectRequestSchema = z.strictObject({ attempt: z.int().positive(), sha: z.string().max(64) });
export const workerFindingsSchema = z.strictObject({ findings: z.array(findingSchema) });

/** The header with the time at which the archive of a setup was saved, epoch ms. */
export const SETUP_SAVED_AT = "slipway-saved-at";
/** The header that is there when the files are in SETUP_FOLDER already; the body is empty then. */
export const SETUP_ON_DISK = "slipway-setup-on-disk";
/**
 * In a workspace whose disk is a copy: `workspace/` with the files of the checkout, and `home.tar`
 * with those of the home folder, named as in the archive. Files are moved from here into place.
 */
export const SETUP_FOLDER = ".slipway-setup";
/** The longest time that the archive of a setup takes on its way, ms. */
export const SETUP_ARCHIVE_MS = 60_000;
export const workerSetupSavedSchema = z.strictObject({ saved: z.boolean(), reason: z.string().nullable() });
export type WorkerSetupSaved = z.infer<typeof workerSetupSavedSchema>;

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
  /** Given with the prompt; absent = none. */
  attachments: z.array(attachmentSchema).optional(),
  /** Given to earlier tasks of the thread; absent = none. */
  earlierAttachments: z.array(attachmentSchema).optional(),
  /**
   * What the agent must know beside the prompt; absent = nothing. Never part of the prompt itself.
   */
  notes: z.array(z.string()).optional(),
  agent: z.string(),
  model: z.string().nullable(),
  /** Null = the agent's own default. */
  effort: z.enum(EFFORTS).nullable(),
  /** Whether `/anthropic` serves a model. */
  gateway: z.enum(["open", "none"]),
  /** What the sandbox may reach; absent = unknown. */
  egress: z.enum(EGRESS_POLICIES).optional(),
  /** The same of the setup, until `ready` is recorded; absent = there is none, or unknown. */
  setupEgress: z.enum(EGRESS_POLICIES).optional(),
  /** The built-in agent summarizes a conversation of so many tokens; absent = by the model. */
  compactAt: z.int().positive().optional(),
  /** Takes over, once, when the model declines; absent = the task fails. */
  fallbackModel: z.string().optional(),
  /** The model that reviews the change before it is delivered; absent = no review. */
  reviewModel: z.string().optional(),
  script: z.array(scriptStepSchema).nullable(),
  /** The agent's program; absent for built-in agents. */
  program: agentProgramSchema.optional(),
  /** MCP servers; the worker starts them after the setup. */
  mcpServers: mcpServersSchema.optional(),
  /** The repository's setup commands, in order. */
  setup: z.array(z.strictObject({ command: z.string(), timeoutMs: z.number().positive() })),
  /** So many of the first commands have results that are kept for later attempts; absent = none. */
  setupCache: z.int().positive().optional(),
  /** The setup gets variables (`/worker/v1/variables`); absent = it gets none. */
  setupVariables: z.literal(true).optional(),
  /** Commands that the worker runs after the agent. */
  verify: z.array(z.string()),
  budget: budgetSchema,
  /** Name of the base branch upstream, and the commit to start from. */
  base: z.string(),
  baseSha: z.string(),
  /** The only refs that the worker may push: the work, and checkpoints. */
  workRef: z.string(),
  checkpointRef: z.string(),
  /**
   * Start from this commit of the task repository instead of baseSha; the cursor is the agent's
   * own.
   */
  resume: z.strictObject({ sha: z.string(), cursor: z.string().nullable() }).nullable(),
  /** The changes from `base` to `sha` are applied to the checkout, uncommitted. */
  carry: z.strictObject({ base: z.string(), sha: z.string() }).optional(),
  /** The base branch is merged into the checkout; conflicts stay for the agent. */
  mergeBase: z.strictObject({ name: z.string(), sha: z.string() }).optional(),
  /** Author of the commits, and whom the last one names besides; absent = Slipway alone. */
  commit: z.strictObject({ author: gitIdentitySchema, coAuthors: z.array(gitIdentitySchema) }).optional(),
  /** Number of the last transcript record; 0 = none. */
  transcript: z.int().min(0),
  /** Answers to questions of earlier attempts: question id -> text. */
  answers: z.record(z.string(), z.string()),
  /**
   * The last user messages that an earlier worker process received (at most DELIVERED), oldest
   * first. It may have exited before it stored them in the transcript.
   */
  delivered: z.array(
    z.strictObject({ id: z.string(), text: z.string(), attachments: z.array(attachmentSchema).optional() }),
  ),
  /** Poll for commands after this id. Messages not yet delivered arrive as commands. */
  commandsAfter: z.int().min(0),
  /** Events of this attempt up to this seq are durable; a restarted worker continues from here. */
  ack: z.int().min(0),
  /**
   * The worker stops this many ms after the agent began: it pushes a checkpoint and fails with
   * deadline_exceeded.
   */
  wallMs: z.number().positive(),
  /**
   * While a tool or a check runs, the worker emits an event at least this often, ms; absent = each
   * minute.
   */
  signMs: z.number().positive().optional(),
  /** The worker exits when no request is answered for this many ms. */
  abandonMs: z.number().positive(),
});
export type WorkerSpec = z.infer<typeof workerSpecSchema>;

/**
 * Environment variables of a worker process: the broker's unix socket, the attempt and its token,
 * the folder of the checkout, and the folder of the journal. A prestarted worker gets `assignment`
 * in place of token and attempt: the path of the file that will hold them (Assignment).
 */
export const WORKER_ENV = {
  socket: "SLIPWAY_SOCKET",
  assignment: "SLIPWAY_ASSIGNMENT",
  token: "SLIPWAY_TOKEN",
  attempt: "SLIPWAY_ATTEMPT",
  workspace: "SLIPWAY_WORKSPACE",
  state: "SLIPWAY_STATE",
  /** JSON object: the image's variables that are for programs and must not reach the worker. */
  imageEnvironment: "SLIPWAY_IMAGE_ENV",
} as const;

/**
 * The attempt of a prestarted worker. The file appears atomically, after the socket in the same
 * folder.
 */
export const assignmentSchema = z.strictObject({ token: z.string().min(1), attempt: z.int().positive() });
export type Assignment = z.infer<typeof assignmentSchema>;

/**
 * Exit codes of the worker process: 0 = its result was acknowledged, 1 = it could not report, 3 =
 * its attempt is over.
 */
export const WORKER_EXIT = { reported: 0, lost: 1, stale: 3 } as const;

/** HTTP status of `GET /git/repo.git/pack` when objects of the task's base are missing. */
export const REPOSITORY_INCOMPLETE = 409;
