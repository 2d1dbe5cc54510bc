/** The schemas of the REST API. Times on the wire are ISO 8601 UTC. */
import { z } from "zod";
import { EVENT_TYPES, TEXT_LIMIT } from "../event.ts";
import { failureSchema } from "../failure.ts";
import { garbageSchema } from "../lib/garbage.ts";
import { EFFORTS, EGRESS_POLICIES, PULL_REQUEST_MODES, RETRY_FROM, STEP_NAMES, TASK_STATES } from "../task.ts";
import { budgetSchema, limitsSchema, scriptStepSchema } from "../task-schema.ts";
import { artifactSchema } from "../values/artifact.ts";

export const PROMPT_LIMIT = 64 * 1024;
/** Largest JSON body of a person's request, in bytes. */
export const BODY_LIMIT = 256 * 1024;

const time = z.iso.datetime();
/** Control characters would let a title forge log lines or terminal output. */
const hasControl = (text: string): boolean => [...text].some((char) => char < " " || char === "\u007f");
const singleLine = (max: number) =>
  z
    .string()
    .trim()
    .min(1)
    .max(max)
    .refine((text) => !hasControl(text), "must not contain control characters");
const nonEmptyText = (max: number) =>
  z
    .string()
    .max(max)
    .refine((text) => text.trim() !== "", "must not be empty")
    .refine((text) => !text.includes("\0"), "must not contain NUL");

export const roleSchema = z.enum(["user", "operator", "admin"]);

// ---------------------------------------------------------------- requests

export const loginSchema = z.strictObject({
  email: z.string().min(3).max(254),
  password: z.string().min(1).max(1_024),
});
export const refreshSchema = z.strictObject({ refreshToken: z.string().min(1).max(512) });
/** Creates the first admin: the token of the one-time link, and the account. */
export const setupSchema = z.strictObject({
  token: z.string().min(1).max(512),
  email: z.email().max(254),
  password: z.string().min(10).max(1_024),
});
export const newUserSchema = z.strictObject({
  email: z.email().max(254),
  password: z.string().min(10).max(1_024),
  role: roleSchema,
});
export const newTokenSchema = z.strictObject({
  name: singleLine(100),
  expiresInDays: z.int().min(1).max(365).optional(),
});
export const newCredentialSchema = z.strictObject({
  host: z.string().min(1).max(255),
  kind: z.literal("token"),
  token: z
    .string()
    .min(1)
    .max(4_096)
    .regex(/^[\x21-\x7e]+$/, "must be printable ASCII without spaces"),
  username: z
    .string()
    .min(1)
    .max(255)
    .regex(/^[\x21-\x39\x3b-\x7e]+$/, "must be printable ASCII without spaces or colons")
    .optional(),
});

export const submitSchema = z.strictObject({
  repo: z.string().min(1),
  prompt: nonEmptyText(PROMPT_LIMIT),
  base: z.string().optional(),
  branch: z.string().optional(),
  title: singleLine(200).optional(),
  agent: z.string().min(1).max(50).optional(),
  model: z.string().min(1).max(100).optional(),
  effort: z.enum(EFFORTS).optional(),
  script: z.array(scriptStepSchema).max(500).optional(),
  budget: budgetSchema.optional(),
  limits: limitsSchema.optional(),
  egress: z.enum(EGRESS_POLICIES).optional(),
  /** "default" = Slipway's own; absent = the setting of the repository's .slipway.yml. */
  image: z.string().min(1).max(510).optional(),
  pullRequest: z.enum(PULL_REQUEST_MODES).optional(),
  verify: z.array(nonEmptyText(4_000)).max(20).optional(),
  priority: z.int().min(-10).max(10).optional(),
  maxAttempts: z.int().min(1).max(10).optional(),
});
export type SubmitRequest = z.infer<typeof submitSchema>;

/** Absent `budget` and `limits` fields keep the values of the original submission. */
export const retrySchema = z.strictObject({
  from: z.enum(RETRY_FROM).optional(),
  prompt: nonEmptyText(PROMPT_LIMIT).optional(),
  budget: budgetSchema.optional(),
  limits: limitsSchema.optional(),
});
export type RetryRequest = z.infer<typeof retrySchema>;
export const messageSchema = z.strictObject({
  text: nonEmptyText(TEXT_LIMIT),
  mode: z.enum(["steer", "follow_up"]).optional(),
});
export type MessageRequest = z.infer<typeof messageSchema>;
export const answerSchema = z.strictObject({ questionId: z.string().min(1).max(64), text: nonEmptyText(TEXT_LIMIT) });
export type AnswerRequest = z.infer<typeof answerSchema>;

/** Idempotency-Key: 1..255 printable ASCII characters. */
export const idempotencyKeySchema = z.string().regex(/^[\x21-\x7e]{1,255}$/);

const integer = z.coerce.number().int();
export const taskQuerySchema = z.strictObject({
  state: z
    .string()
    .transform((text) => text.split(","))
    .pipe(z.array(z.enum(TASK_STATES)))
    .optional(),
  thread: z.string().max(64).optional(),
  q: z.string().max(200).optional(),
  limit: integer.min(1).max(200).default(50),
  cursor: z.string().max(64).optional(),
});
export const eventQuerySchema = z.strictObject({
  after: integer.min(0).max(Number.MAX_SAFE_INTEGER).default(0),
  limit: integer.min(1).max(1_000).default(500),
});
export const diffQuerySchema = z.strictObject({ format: z.enum(["json", "patch"]).default("json") });

// ---------------------------------------------------------------- responses

export const problemSchema = z.strictObject({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  code: z.string(),
  detail: z.string(),
  errors: z.array(z.strictObject({ path: z.string(), message: z.string() })).optional(),
});
export type Problem = z.infer<typeof problemSchema>;

export const usageSchema = z.strictObject({
  inputTokens: z.number(),
  outputTokens: z.number(),
  cacheReadTokens: z.number(),
  cacheWriteTokens: z.number(),
  usd: z.number(),
  turns: z.number(),
});

export const taskSchema = z.strictObject({
  id: z.string(),
  threadId: z.string(),
  parentId: z.string().nullable(),
  state: z.enum(TASK_STATES),
  /** The sub-state of running or pushing, or the open step of provisioning. */
  phase: z.string().nullable(),
  attempt: z.int(),
  maxAttempts: z.int(),
  repo: z.string(),
  base: z.string().nullable(),
  baseSha: z.string().nullable(),
  branch: z.string(),
  headSha: z.string().nullable(),
  prompt: z.string(),
  title: z.string(),
  agent: z.string(),
  model: z.string().nullable(),
  effort: z.enum(EFFORTS).nullable(),
  /** The submitted image; null = the repository's setting. */
  image: z.string().nullable(),
  wait: z
    .strictObject({
      reason: z.enum([
        "concurrency",
        "user_limit",
        "thread_busy",
        "sandbox_unavailable",
        "disk_low",
        "paused",
        "model_rate_limited",
        "budget",
      ]),
      position: z.int(),
    })
    .nullable(),
  steps: z.array(
    z.strictObject({
      name: z.enum(STEP_NAMES),
      startedAt: time,
      endedAt: time.nullable(),
      detail: z.string().nullable(),
    }),
  ),
  failure: failureSchema.nullable(),
  question: z
    .strictObject({ id: z.string(), question: z.string(), options: z.array(z.string()).nullable(), askedAt: time })
    .nullable(),
  budget: budgetSchema.nullable(),
  usage: usageSchema,
  outcome: z.enum(["pushed", "no_changes"]).nullable(),
  summary: z.string().nullable(),
  pullRequest: z.strictObject({ url: z.string(), number: z.int(), state: z.string() }).nullable(),
  dueAt: time.nullable(),
  createdAt: time,
  updatedAt: time,
  startedAt: time.nullable(),
  settledAt: time.nullable(),
  seq: z.int(),
});
export type WireTask = z.infer<typeof taskSchema>;

export const eventSchema = z.strictObject({
  taskId: z.string(),
  seq: z.int(),
  at: time,
  attempt: z.int(),
  type: z.enum(EVENT_TYPES),
  from: z.enum(TASK_STATES).nullable(),
  to: z.enum(TASK_STATES),
  data: z.record(z.string(), z.unknown()),
});
export type WireEvent = z.infer<typeof eventSchema>;

export const messageRowSchema = z.strictObject({
  id: z.string(),
  seq: z.int(),
  at: time,
  role: z.enum(["user", "assistant"]),
  content: z.array(z.record(z.string(), z.unknown())),
  mode: z.enum(["steer", "follow_up"]).nullable(),
  status: z.enum(["queued", "delivered", "withdrawn", "moved", "undelivered"]).nullable(),
});
export const toolCallSchema = z.strictObject({
  id: z.string(),
  attempt: z.int(),
  seq: z.int(),
  name: z.string(),
  input: z.record(z.string(), z.unknown()),
  startedAt: time,
  endedAt: time.nullable(),
  output: z.string().nullable(),
  exitCode: z.int().nullable(),
  truncated: z.boolean(),
});
export const attemptSchema = z.strictObject({
  number: z.int(),
  container: z.string(),
  startedAt: time,
  endedAt: time.nullable(),
  exitCode: z.int().nullable(),
  failure: z.string().nullable(),
});
export const diffSchema = z.strictObject({
  base: z.string(),
  head: z.string(),
  files: z.array(
    z.strictObject({
      path: z.string(),
      oldPath: z.string().nullable(),
      status: z.enum(["added", "modified", "deleted", "renamed", "copied", "type_changed"]),
      additions: z.int(),
      deletions: z.int(),
      binary: z.boolean(),
      patch: z.string().nullable(),
    }),
  ),
  truncated: z.boolean(),
});
export const machineSchema = z.strictObject({
  state: z.enum(TASK_STATES),
  snapshot: z.record(z.string(), z.unknown()),
  since: time,
  dueAt: time.nullable(),
  /** Causes that the statechart accepts in this state. */
  can: z.array(z.string()),
  container: z.string().nullable(),
  stuck: z.strictObject({ reason: z.string(), since: time }).nullable(),
});
/** The options of a submission on this server. */
export const capabilitiesSchema = z.strictObject({
  /** Agents, the default first. */
  agents: z.array(z.string()).min(1),
  /** The default model; null when no agent has a model. */
  model: z.string().nullable(),
  /** Names, or prefixes followed by `*`; empty when no agent has a model. */
  models: z.array(z.string()),
  efforts: z.array(z.enum(EFFORTS)),
  /** Egress policies, the default first. */
  egress: z.array(z.enum(EGRESS_POLICIES)).min(1),
});
export type Capabilities = z.infer<typeof capabilitiesSchema>;
export const userSchema = z.strictObject({ id: z.string(), email: z.string(), role: roleSchema, createdAt: time });
export const meSchema = z.strictObject({ id: z.string(), email: z.string(), role: roleSchema });
export const sessionSchema = z.strictObject({
  accessToken: z.string(),
  refreshToken: z.string(),
  expiresIn: z.int(),
  user: meSchema,
});
export const ticketSchema = z.strictObject({ ticket: z.string(), expiresIn: z.int() });
export const tokenSchema = z.strictObject({
  id: z.string(),
  name: z.string(),
  createdAt: time,
  expiresAt: time.nullable(),
  lastUsedAt: time.nullable(),
});
export const credentialSchema = z.strictObject({
  id: z.string(),
  host: z.string(),
  kind: z.literal("token"),
  username: z.string().nullable(),
  createdAt: time,
});
export const overviewSchema = z.strictObject({
  counts: z.record(z.enum(TASK_STATES), z.int()),
  oldestOpenSeconds: z.number().nullable(),
  stuck: z.array(z.strictObject({ id: z.string(), state: z.enum(TASK_STATES), reason: z.string(), since: time })),
  slots: z.strictObject({ used: z.int(), max: z.int() }),
  queue: z.strictObject({
    paused: z.boolean(),
    breaker: z.enum(["closed", "open"]),
    disk: z.enum(["ok", "low"]),
    /** "failing" while claims cannot be stored. */
    store: z.enum(["ok", "failing"]),
    reason: z.string().nullable(),
  }),
  /** The parts of the boot that are not complete yet; empty = the boot is complete. */
  boot: z.array(z.strictObject({ part: z.enum(["tasks", "engine", "orphans"]), reason: z.string() })),
  host: z.strictObject({
    cpus: z.int(),
    load1: z.number(),
    memoryTotalMb: z.number(),
    memoryFreeMb: z.number(),
    diskFreeMb: z.number(),
    rssMb: z.number(),
  }),
  sandbox: z.strictObject({
    kind: z.string(),
    isolates: z.boolean(),
    containers: z.int(),
    expected: z.int(),
    /** The pool of prestarted workers. */
    warm: z.strictObject({ wanted: z.int(), ready: z.int(), reason: z.string().nullable() }).nullable(),
    error: z.string().nullable(),
  }),
});
export type Overview = z.infer<typeof overviewSchema>;

export function pageSchema<T extends z.ZodType>(item: T) {
  return z.strictObject({ items: z.array(item), next: z.string().nullable() });
}

// ---------------------------------------------------------------- egress, garbage

/**
 * Endpoints for tasks with egress `allowlist`: the installation's list, or the additional entries
 * of one repository.
 */
export const egressListSchema = z.strictObject({
  repo: z.string().nullable(),
  hosts: z.array(z.string()),
  shipped: z.boolean(),
});
export type EgressListAnswer = z.infer<typeof egressListSchema>;

const endpoints = z.array(z.string().max(300)).max(500);
export const egressChangeSchema = z.strictObject({
  repo: z.string().max(2_000).optional(),
  allow: endpoints.optional(),
  remove: endpoints.optional(),
  /** Applied before the other changes: restores the shipped list, or empties a repository's. */
  reset: z.boolean().optional(),
});
export type EgressChangeRequest = z.infer<typeof egressChangeSchema>;
/** An artifact as the wire shows it. */
export const artifactRowSchema = artifactSchema.extend({ at: time });

export const gcSchema = z.strictObject({ dryRun: z.boolean().optional() });
export const garbageReportSchema = z.strictObject({
  dryRun: z.boolean(),
  /** Sum of the known sizes. */
  bytes: z.number(),
  items: z.array(garbageSchema),
});
