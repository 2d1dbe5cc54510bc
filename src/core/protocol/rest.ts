/** The schemas of the REST API. Times on the wire are ISO 8601 UTC. */
import { z } from "zod";
import { TEXT_LIMIT } from "../event.ts";
import { attachmentIdsSchema, attachmentSchema } from "../values/attachment.ts";
import { failureSchema } from "../failure.ts";
import { garbageSchema } from "../lib/garbage.ts";
import { EFFORTS, EGRESS_POLICIES, PULL_REQUEST_MODES, RETRY_FROM, TASK_STATES } from "../task.ts";
import { budgetSchema, limitsSchema, scriptStepSchema } from "../task-schema.ts";
import {
  activitySchema,
  changeSizeSchema,
  ownerSchema,
  questionSchema,
  stepSchema,
  submissionSchema,
  threadBudgetSchema,
  todoCountSchema,
  usageSchema,
  waitSchema,
} from "./task-parts.ts";
import { queueSchema, storageSurveySchema } from "./usage.ts";

export const PROMPT_LIMIT = 64 * 1024;
export const MOST_ATTEMPTS = 10;
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
const scopeSchema = z.enum(["read", "submit", "operate"]);

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
  /** All when left out. */
  scopes: z.array(scopeSchema).min(1).max(3).optional(),
});
const agentName = z.string().min(1).max(50).optional().describe("See GET /v1/config.");
const modelFields = {
  model: z.string().min(1).max(100).optional(),
  effort: z.enum(EFFORTS).optional(),
};
export const submitSchema = z.strictObject({
  repo: z.string().min(1).describe("The https address of the repository, without credentials."),
  prompt: nonEmptyText(PROMPT_LIMIT).describe("What the agent is to do."),
  base: z.string().optional().describe("The branch to start from; absent = the default branch."),
  branch: z.string().optional().describe("The branch that receives the work; absent = a new one with a made-up name."),
  title: singleLine(200).optional().describe("Absent = the first words of the prompt."),
  agent: agentName,
  ...modelFields,
  script: z.array(scriptStepSchema).max(500).optional().describe("The steps of the scripted agent, for tests."),
  budget: budgetSchema.optional().describe("What the task may use; when it is used up, the task asks."),
  limits: limitsSchema.optional().describe("What the sandbox may use."),
  egress: z.enum(EGRESS_POLICIES).optional().describe("Which hosts the sandbox reaches."),
  image: z
    .string()
    .min(1)
    .max(510)
    .optional()
    .describe("`default` = Slipway's own; absent = the setting of the repository's .slipway.yml."),
  pullRequest: z.enum(PULL_REQUEST_MODES).optional(),
  verify: z
    .array(nonEmptyText(4_000))
    .max(20)
    .optional()
    .describe("Commands that check the work; absent = the repository's setting."),
  priority: z.int().min(-10).max(10).optional().describe("Larger values are claimed first."),
  maxAttempts: z.int().min(1).max(MOST_ATTEMPTS).optional(),
  /** False = begin also when the upstream would refuse the push. */
  checkPush: z.boolean().optional(),
  attachments: attachmentIdsSchema.optional().describe("Ids of uploads: POST /v1/attachments."),
  review: z
    .boolean()
    .optional()
    .describe("True = another model reviews the change, and may send it back once; absent = as the server is set."),
});
export type SubmitRequest = z.infer<typeof submitSchema>;

/** Absent fields keep the values of the task; another agent begins with the server's model. */
export const retrySchema = z.strictObject({
  from: z.enum(RETRY_FROM).optional(),
  prompt: nonEmptyText(PROMPT_LIMIT).optional(),
  agent: agentName,
  ...modelFields,
  budget: budgetSchema.optional(),
  limits: limitsSchema.optional(),
  /** Merge the newest base into the branch before the work begins. */
  updateBase: z.boolean().optional(),
  /** False = begin also when the upstream would refuse the push. */
  checkPush: z.boolean().optional(),
  review: z.boolean().optional().describe("By default as before."),
  /** By default as before; with `from: "push"` it opens one for work that is pushed. */
  pullRequest: z.enum(PULL_REQUEST_MODES).optional(),
});
export type RetryRequest = z.infer<typeof retrySchema>;
export const messageSchema = z
  .strictObject({
    text: nonEmptyText(TEXT_LIMIT),
    mode: z.enum(["steer", "follow_up"]).optional(),
    /**
     * The agent reads it at once: a running command ends as by its time-out, an answer is cut off.
     */
    interrupt: z.boolean().optional(),
    /** Of a follow-up task: merge the newest base into the branch before the work begins. */
    updateBase: z.boolean().optional(),
    fork: z
      .boolean()
      .optional()
      .describe("Of a follow-up task; refused while the task runs. True = in a thread and on a branch of its own."),
    /** Of a follow-up task; refused while the task runs. By default as before. */
    ...modelFields,
    attachments: attachmentIdsSchema.optional().describe("Ids of uploads: POST /v1/attachments."),
  })
  .refine(({ mode, interrupt }) => interrupt !== true || mode !== "follow_up", {
    path: ["interrupt"],
    message: "a follow_up message waits for the end of the work; send it with the mode steer to interrupt",
  });
export type MessageRequest = z.infer<typeof messageSchema>;
export const answerSchema = z.strictObject({ questionId: z.string().min(1).max(64), text: nonEmptyText(TEXT_LIMIT) });
export type AnswerRequest = z.infer<typeof answerSchema>;

/** Idempotency-Key: 1..255 printable ASCII characters. */
export const idempotencyKeySchema = z.string().regex(/^[\x21-\x7e]{1,255}$/);

const integer = z.coerce.number().int();
const repositoryFilter = z.string().min(1).max(2_000).optional();
const ownerFilter = z.string().max(64).optional();
export const taskQuerySchema = z.strictObject({
  state: z
    .string()
    .transform((text) => text.split(","))
    .pipe(z.array(z.enum(TASK_STATES)))
    .optional()
    .describe(`Only tasks in these states, separated by commas: ${TASK_STATES.join(", ")}.`),
  thread: z.string().max(64).optional().describe("Only tasks of this thread."),
  repository: repositoryFilter.describe("Only tasks of the repository with this address."),
  owner: ownerFilter.describe("Only tasks of the person with this id, for operators; `me` = the caller."),
  needs: z.literal("me").optional().describe("`me` = only tasks of the caller that wait for an answer."),
  q: z.string().max(200).optional().describe("Only tasks whose title, prompt or repository contains this text."),
  limit: integer.min(1).max(200).default(50).describe("Most items of the page."),
  cursor: z.string().max(64).optional().describe("`next` of the page before."),
});
/** `latest` = from the end. */
const beforeSchema = z
  .union([z.literal("latest"), integer.min(1).max(Number.MAX_SAFE_INTEGER)])
  .optional()
  .describe("Newest first: only what has a smaller seq; `latest` = from the end. `next` is the next `before`.");
export const eventQuerySchema = z.strictObject({
  after: integer.min(0).max(Number.MAX_SAFE_INTEGER).default(0).describe("Only events with a greater seq."),
  before: beforeSchema,
  only: z
    .literal("outline")
    .optional()
    .describe("Only what tells where the task is: changes of its state, of messages and of its list, and what runs."),
  limit: integer.min(1).max(1_000).default(500).describe("Most items of the page."),
});
export type Before = z.infer<typeof eventQuerySchema>["before"];
/** The query of lists of one task that are read from either end. */
export const historyQuerySchema = z.strictObject({
  limit: integer.min(1).max(1_000).default(200).describe("Most items of the page."),
  cursor: z.string().max(64).optional().describe("`next` of the page before."),
  before: beforeSchema,
});
const place = z
  .string()
  .regex(/^task_[0-9A-Za-z]{26}\.\d{1,15}$/, "is not a cursor of this list")
  .optional();
export const conversationQuerySchema = z.strictObject({
  after: place.describe("`next` of the page before, in order."),
  before: z
    .union([z.literal("latest"), place])
    .optional()
    .describe("Newest first, as the list of events: `latest`, then `next` of the page before."),
  limit: integer.min(1).max(1_000).default(200).describe("Most items of the page."),
});
export const countsQuerySchema = z.strictObject({
  repository: repositoryFilter.describe("Only tasks of the repository with this address."),
  owner: ownerFilter.describe("Only tasks of the person with this id, for operators; `me` = the caller."),
});
export const diffFileQuerySchema = z.strictObject({
  path: z.string().min(1).max(4_096).describe("The path of the file after the change."),
});
export const diffContentQuerySchema = diffFileQuerySchema.extend({
  side: z.enum(["before", "after"]).default("after").describe("The file before or after the change."),
});
export const diffQuerySchema = z.strictObject({
  format: z.enum(["json", "patch"]).default("json").describe("patch = one text for git apply."),
});

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

export const taskSchema = z.strictObject({
  id: z.string(),
  threadId: z.string().describe("The thread: a task with its retries and follow-ups, on one branch."),
  parentId: z.string().nullable().describe("The task that this one continues."),
  owner: ownerSchema.describe("It works with their credentials and budget."),
  submittedBy: ownerSchema.describe("Who began it: the owner, or an admin in their place."),
  state: z.enum(TASK_STATES),
  phase: z
    .string()
    .nullable()
    .describe(
      "running: working, awaiting_input or parked; pushing: branch or pull_request; provisioning: the open step.",
    ),
  attempt: z.int().describe("0 before the first attempt."),
  maxAttempts: z.int(),
  repo: z.string(),
  repoName: z.string().describe("The path of the repository's address: owner/name."),
  base: z.string().nullable().describe("The branch from which the work starts; null until it is known."),
  baseSha: z.string().nullable(),
  branch: z.string().describe("The branch that receives the work."),
  headSha: z.string().nullable().describe("The finished commit, or the last checkpoint."),
  prompt: z.string(),
  attachments: z.array(attachmentSchema).describe("Given with the prompt."),
  title: z.string(),
  agent: z.string(),
  model: z.string().nullable(),
  effort: z.enum(EFFORTS).nullable(),
  image: z.string().nullable().describe("The submitted image; null = the repository's setting."),
  wait: waitSchema.nullable().describe("Why a queued task waits; null in other states."),
  steps: z.array(stepSchema).describe("The steps of provisioning of this attempt."),
  failure: failureSchema.nullable().describe("Also while it is retried."),
  question: questionSchema.nullable().describe("The open question. Answer it with POST /v1/tasks/{id}/answer."),
  budget: budgetSchema.nullable().describe("The submitted budget with what was granted since; null = none."),
  usage: usageSchema.describe("The total of all attempts."),
  threadBudget: threadBudgetSchema
    .nullable()
    .describe("Of the task with its retries and follow-ups; null = only the tasks have budgets."),
  outcome: z.enum(["pushed", "no_changes"]).nullable().describe("Of a task that is done."),
  summary: z.string().nullable().describe("The agent's report, Markdown."),
  pullRequest: z.strictObject({ url: z.string(), number: z.int(), state: z.string() }).nullable(),
  todo: todoCountSchema.nullable().describe("The agent's list; null before its first one."),
  changes: changeSizeSchema.nullable().describe("The size of the change at the last checkpoint."),
  activity: activitySchema.nullable().describe("What the agent did last."),
  submission: submissionSchema.describe("What was asked for, with defaults: to submit it again with changes."),
  dueAt: time.nullable().describe("The deadline of the state."),
  createdAt: time,
  updatedAt: time,
  startedAt: time.nullable(),
  settledAt: time.nullable().describe("When it became done, failed or cancelled; it does not change after that."),
  seq: z.int().describe("The length of its log."),
  notableSeq: z.int().describe("The last event that its owner should see: a question, an end; 0 = none."),
  readSeq: z.int().describe("Up to which its owner has read. It is unread for them while `notableSeq` is greater."),
});
export type WireTask = z.infer<typeof taskSchema>;

export const userSchema = z.strictObject({
  id: z.string(),
  email: z.string(),
  role: roleSchema,
  createdAt: time,
  /** A disabled person cannot log in; null = not disabled. */
  disabledAt: time.nullable(),
});
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
  scopes: z.array(scopeSchema),
  createdAt: time,
  expiresAt: time.nullable(),
  lastUsedAt: time.nullable(),
});
export const overviewSchema = z.strictObject({
  counts: z.record(z.enum(TASK_STATES), z.int()),
  oldestOpenSeconds: z.number().nullable(),
  stuck: z.array(z.strictObject({ id: z.string(), state: z.enum(TASK_STATES), reason: z.string(), since: time })),
  slots: z.strictObject({ used: z.int(), max: z.int() }),
  queue: queueSchema,
  boot: z
    .array(z.strictObject({ part: z.enum(["tasks", "engine", "orphans", "set_aside"]), reason: z.string() }))
    .describe(
      "The parts of the boot that are not complete; empty = it is. tasks: open tasks that are not adopted; engine: no list of the running sandboxes; orphans: sandboxes that no task needs; set_aside: tasks that this version cannot read.",
    ),
  backup: z
    .strictObject({ lastAt: time.nullable(), error: z.string().nullable() })
    .nullable()
    .describe("The newest scheduled backup, and why the last try failed; null = none are scheduled."),
  host: z.strictObject({
    cpus: z.int(),
    load1: z.number(),
    memoryTotalMb: z.number(),
    memoryFreeMb: z.number(),
    diskFreeMb: z.number(),
    rssMb: z.number(),
  }),
  storage: storageSurveySchema,
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

export const taskPageSchema = pageSchema(taskSchema).extend({
  watchAfter: z
    .int()
    .nullable()
    .optional()
    .describe("The `after` of a `tasks` subscription that sends what changes from this answer on; null = no items."),
});

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
export const gcSchema = z.strictObject({ dryRun: z.boolean().optional() });
export const garbageReportSchema = z.strictObject({
  dryRun: z.boolean(),
  /** Sum of the known sizes. */
  bytes: z.number(),
  items: z.array(garbageSchema),
});
