/** What the history of a task contains: messages, tool calls, attempts, changes, artifacts. */
import { z } from "zod";
import { messageBlockSchema } from "../event.ts";
import { TASK_STATES } from "../task.ts";
import { artifactSchema } from "../values/artifact.ts";
import { eventSchema, toolInputSchema } from "./events.ts";
import { taskSchema } from "./rest.ts";

const time = z.iso.datetime();

export const messageRowSchema = z.strictObject({
  id: z.string(),
  seq: z.int().describe("The seq of its event."),
  at: time,
  role: z.enum(["user", "assistant"]),
  content: z.array(messageBlockSchema).describe("Attachments only in messages of people."),
  mode: z.enum(["steer", "follow_up"]).nullable().describe("Null for messages of the agent."),
  status: z
    .enum(["queued", "delivered", "withdrawn", "moved", "undelivered"])
    .nullable()
    .describe(
      "Null for messages of the agent. moved = it is part of the prompt of the follow-up task; undelivered = the task ended as failed or cancelled first.",
    ),
});
export const toolCallSchema = z.strictObject({
  id: z.string(),
  attempt: z.int(),
  seq: z.int().describe("The seq of the event that began it."),
  name: z.string().describe("bash, read, edit, …; tools of an MCP server have a prefix."),
  input: toolInputSchema,
  startedAt: time,
  endedAt: time.nullable().describe("Null while it runs, and for a call whose attempt ended first."),
  output: z.string().nullable(),
  exitCode: z.int().nullable(),
  truncated: z.boolean().describe("True = the middle of the output was left out."),
});
export const attemptSchema = z.strictObject({
  number: z.int(),
  container: z.string().describe("The name of its sandbox."),
  startedAt: time,
  endedAt: time.nullable(),
  exitCode: z.int().nullable(),
  failure: z.string().nullable().describe("The code of the failure that ended it."),
});
export const diffFileSchema = z.strictObject({
  path: z.string(),
  oldPath: z.string().nullable().describe("Of a renamed or copied file."),
  status: z.enum(["added", "modified", "deleted", "renamed", "copied", "type_changed"]),
  additions: z.int(),
  deletions: z.int(),
  binary: z.boolean(),
  patch: z.string().nullable().describe("The unified diff; null for a binary or very large file."),
  sizes: z
    .strictObject({
      before: z.int().nullable().describe("Null = there was no such file."),
      after: z.int().nullable().describe("Null = there is no such file any more."),
    })
    .nullable()
    .describe("Bytes of a binary file; null for a text."),
});
export const diffSchema = z.strictObject({
  base: z.string().describe("The commit from which the work started."),
  head: z.string().describe("The finished commit, or the last checkpoint."),
  files: z.array(diffFileSchema),
  truncated: z.boolean().describe("True = patches were left out to keep the answer small."),
});
export const pullRequestSchema = z.strictObject({
  url: z.string(),
  number: z.int(),
  state: z.string().describe("open, draft, closed or merged."),
  checks: z
    .strictObject({
      passed: z.int(),
      failed: z.int(),
      running: z.int(),
      failing: z.array(z.string()).describe("Names of those that failed, at most ten."),
    })
    .nullable()
    .describe("Of its newest commit; null when the owner's credential may not read them."),
  readAt: time.nullable().describe("When the forge said so; null = it did not, and this is as it was opened."),
  problem: z.string().nullable().describe("Why the forge did not tell."),
});
export const digestQuerySchema = z.strictObject({
  seq: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional().describe("Absent = the end of the log."),
});
export const logDigestSchema = z.strictObject({
  seq: z.int(),
  digest: z
    .string()
    .describe("FNV-1a of 64 bits, hexadecimal, over the JSON of each event up to this seq, each with a line feed."),
});
export const machineSchema = z.strictObject({
  state: z.enum(TASK_STATES),
  snapshot: z.record(z.string(), z.unknown()).describe("The statechart's state and context; may change at any time."),
  since: time,
  dueAt: time.nullable(),
  can: z.array(z.string()).describe("Causes that the statechart accepts in this state."),
  container: z.string().nullable().describe("The sandbox of the attempt that runs."),
  stuck: z.strictObject({ reason: z.string(), since: time }).nullable(),
});
/** An artifact as the wire shows it. */
export const artifactRowSchema = artifactSchema.extend({ at: time });
/** A part of what was said in the tasks of a thread. */
export const conversationSchema = z.strictObject({
  tasks: z
    .array(taskSchema)
    .describe("The tasks of these events; the prompt of each is the first thing that was said."),
  items: z.array(eventSchema).describe("Of all tasks: submissions, messages, questions, answers, checks, and ends."),
  next: z.string().nullable(),
});
