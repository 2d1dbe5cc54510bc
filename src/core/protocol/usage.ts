/** The schemas of usage and quotas, and of what operators see: the queue, the storage. */
import { z } from "zod";
import { quotasSchema } from "../quotas.ts";
import { TASK_STATES } from "../task.ts";

export const usageSchema = z.strictObject({
  user: z.strictObject({ id: z.string(), email: z.string() }),
  tasks: z.strictObject({
    open: z.int().describe("Tasks that are not settled."),
    day: z.int().describe("Tasks begun in the last 24 hours."),
  }),
  usd: z.strictObject({
    day: z.number().describe("Of this UTC day, US dollars."),
    month: z.number().describe("Of this UTC month, US dollars."),
  }),
  storage: z
    .strictObject({
      total: z.int(),
      mirrors: z.int().describe("Copies of the repositories that the person's tasks work on."),
      repositories: z.int().describe("What the tasks themselves added."),
      artifacts: z.int().describe("Work that was saved from sandboxes."),
      attachments: z.int(),
      transcripts: z.int(),
    })
    .describe("What is stored for the person on this server, bytes."),
  quotas: quotasSchema.describe("What the person may use; null = no limit."),
});

/** Fields that are left out stay as they are; null = no limit. */
export const quotaChangeSchema = quotasSchema.partial().extend({
  reset: z.literal(true).optional().describe("First back to the quotas of the installation."),
});

/** Stored data and free space of the server, for operators. */
export const storageSurveySchema = z.strictObject({
  totalMb: z.number().describe("Of the disk of the data folder."),
  freeMb: z.number().describe("Of the disk of the data folder."),
  floorMb: z.number().describe("With less free no task starts (`SLIPWAY_MIN_FREE_MB`)."),
  lowMb: z
    .number()
    .describe("With less free fetches and pushes end, and so does the task with the largest workspace, one at a time."),
  reserve: z
    .strictObject({
      mb: z.number(),
      held: z.boolean().describe("false = it was given up on a full disk, and is made again when there is room."),
    })
    .nullable()
    .describe("Room of the store alone, so that ends of tasks can be recorded; null = it has none."),
  workspaces: z
    .strictObject({
      freeMb: z.number().describe("Of the disk that they are on."),
      usedMb: z.number().describe("What the open ones take."),
      promisedMb: z.number().describe("What the open ones may still take, divided by `SLIPWAY_DISK_OVERCOMMIT`."),
      leftMb: z.number().describe("What can be promised to further tasks."),
      largest: z.array(z.strictObject({ taskId: z.string(), usedMb: z.number(), limitMb: z.number() })),
    })
    .nullable()
    .describe("Workspaces of tasks; null = they are on no disk, or nothing bounds their sizes."),
  repositories: z
    .array(
      z.strictObject({
        kind: z.enum(["mirror", "task"]).describe("mirror = of a person and a repository; task = what a task added."),
        userId: z.string().nullable().describe("Whose mirror it is."),
        repo: z.string().nullable().describe("What it is a mirror of; null = a task's, or not known yet."),
        taskId: z.string().nullable(),
        bytes: z.int(),
      }),
    )
    .nullable()
    .describe("The largest git repositories on this server, up to half a minute old; null = not measured yet."),
});

const drainSchema = z.strictObject({
  state: z
    .enum(["draining", "drained"])
    .describe("drained = nothing runs: the server and the machine can be stopped without loss of time or work."),
  since: z.iso.datetime(),
  running: z.int().describe("Tasks that run or push. Without those that wait for an answer without a sandbox."),
  clearing: z.int().describe("Ended attempts whose work is being saved or whose sandbox is being removed."),
  tasks: z
    .array(
      z.strictObject({
        id: z.string(),
        title: z.string(),
        state: z.enum(TASK_STATES),
        phase: z.string().nullable(),
        startedAt: z.iso.datetime().nullable(),
      }),
    )
    .describe("The running ones, the one that began first before the others; at most 100."),
});

/** The queue, for operators. */
export const queueSchema = z.strictObject({
  paused: z.boolean().describe("No task is claimed: an operator paused the queue, or drains it."),
  drain: drainSchema.nullable().describe("Of a queue that drains; null = it does not."),
  breaker: z.enum(["closed", "open"]),
  disk: z.enum(["ok", "low"]),
  store: z.enum(["ok", "failing"]).describe("failing = claims cannot be stored; they are tried again."),
  reason: z.string().nullable().describe("Why no task is claimed; null = tasks are."),
});
