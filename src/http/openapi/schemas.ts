/**
 * The schemas as JSON Schema 2020-12: named ones are components of the document.
 *
 * J1 What a client sends is closed: the server rejects other fields. What the server sends is open:
 *    fields may be added, and a client that validates must accept them.
 */
import { z } from "zod";
import { contentBlockSchema, messageBlockSchema } from "../../core/event.ts";
import { attachmentSchema } from "../../core/values/attachment.ts";
import { failureSchema } from "../../core/failure.ts";
import { configSchema } from "../../core/protocol/config.ts";
import { EVENT_SCHEMAS, eventSchema, toolInputSchema } from "../../core/protocol/events.ts";
import {
  artifactRowSchema,
  attemptSchema,
  diffFileSchema,
  diffSchema,
  machineSchema,
  messageRowSchema,
  pullRequestSchema,
  toolCallSchema,
} from "../../core/protocol/history.ts";
import {
  garbageReportSchema,
  meSchema,
  overviewSchema,
  problemSchema,
  sessionSchema,
  submitSchema,
  taskSchema,
  ticketSchema,
  tokenSchema,
  userSchema,
} from "../../core/protocol/rest.ts";
import { notificationSchema, pushDeviceSchema, webhookDeviceSchema } from "../../core/protocol/push.ts";
import { identitySchema } from "../../core/protocol/people.ts";
import { credentialSchema, recentRepositorySchema, repositoryCheckSchema } from "../../core/protocol/repositories.ts";
import { countsSchema, questionSchema, stepSchema, usageSchema, waitSchema } from "../../core/protocol/task-parts.ts";
import { clientFrameSchema, serverFrameSchema } from "../../core/protocol/stream.ts";
import { scriptStepSchema } from "../../core/task-schema.ts";
import { EXAMPLES } from "./examples.ts";

export type Json = Record<string, unknown>;

const toEventName = (type: string): string =>
  ["Event", ...type.split(/[._]/)].map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("");

const EVENTS = Object.fromEntries(Object.entries(EVENT_SCHEMAS).map(([type, schema]) => [toEventName(type), schema]));

const ANSWERS = {
  Task: taskSchema,
  Event: eventSchema,
  ...EVENTS,
  ContentBlock: contentBlockSchema,
  MessageBlock: messageBlockSchema,
  Attachment: attachmentSchema,
  ToolInput: toolInputSchema,
  Message: messageRowSchema,
  ToolCall: toolCallSchema,
  Attempt: attemptSchema,
  Artifact: artifactRowSchema,
  Leftovers: garbageReportSchema,
  DiffFile: diffFileSchema,
  Diff: diffSchema,
  PullRequest: pullRequestSchema,
  Machine: machineSchema,
  Overview: overviewSchema,
  Capabilities: configSchema,
  Counts: countsSchema,
  RepositoryCheck: repositoryCheckSchema,
  RecentRepository: recentRepositorySchema,
  Failure: failureSchema,
  Usage: usageSchema,
  Wait: waitSchema,
  Step: stepSchema,
  Question: questionSchema,
  Me: meSchema,
  User: userSchema,
  Identity: identitySchema,
  Session: sessionSchema,
  Ticket: ticketSchema,
  Token: tokenSchema,
  Credential: credentialSchema,
  Notification: notificationSchema,
  PushDevice: pushDeviceSchema,
  WebhookDevice: webhookDeviceSchema,
  Problem: problemSchema,
  StreamServerFrame: serverFrameSchema,
} as const satisfies Record<string, z.ZodType>;

const REQUESTS = {
  Submit: submitSchema,
  ScriptStep: scriptStepSchema,
  StreamClientFrame: clientFrameSchema,
} as const satisfies Record<string, z.ZodType>;

type Direction = "input" | "output";
const NAMED: readonly (readonly [id: string, schema: z.ZodType, io: Direction])[] = [
  ...Object.entries(ANSWERS).map(([id, schema]) => [id, schema, "output"] as const),
  ...Object.entries(REQUESTS).map(([id, schema]) => [id, schema, "input"] as const),
];

const names = z.registry<{ id: string }>();
for (const [id, schema] of NAMED) names.add(schema, { id });

export const address = (id: string): string => `#/components/schemas/${id}`;

/** Removes constraints that mean nothing to a client. Only schemas of requests stay closed (J1). */
function simplify(schema: Json, io: Direction): void {
  if (schema["propertyNames"] !== undefined && Array.isArray(schema["required"])) nameProperties(schema);
  if (schema["minimum"] === Number.MIN_SAFE_INTEGER) delete schema["minimum"];
  if (schema["maximum"] === Number.MAX_SAFE_INTEGER) delete schema["maximum"];
  if (schema["format"] === "date-time") delete schema["pattern"];
  if (io === "output" && schema["additionalProperties"] === false) delete schema["additionalProperties"];
}

/** A record whose keys are listed is an object with these properties. */
function nameProperties(schema: Json): void {
  const keys = schema["required"] as string[];
  schema["properties"] = Object.fromEntries(keys.map((key) => [key, schema["additionalProperties"]]));
  delete schema["propertyNames"];
  delete schema["additionalProperties"];
}

function convert(schema: z.ZodType, io: Direction, metadata: z.core.$ZodRegistry<{ id: string }>): Json {
  const converted = z.toJSONSchema(schema, {
    io,
    metadata,
    unrepresentable: "any",
    override: ({ zodSchema, jsonSchema }) => {
      // Descriptions are in zod's own registry, which another registry of metadata replaces.
      const description = z.globalRegistry.get(zodSchema)?.description;
      if (description !== undefined && !("$ref" in jsonSchema)) jsonSchema.description = description;
      simplify(jsonSchema as Json, io);
    },
  });
  const { $schema: _, $defs: __, id: ___, ...rest } = converted as Json;
  return JSON.parse(JSON.stringify(rest).replaceAll('"#/$defs/', `"${address("")}`)) as Json;
}

/** Named schemas become references to the components. */
export function toJsonSchema(schema: z.ZodType, io: Direction): Json {
  const named = names.get(schema);
  return named === undefined ? convert(schema, io, names) : { $ref: address(named.id) };
}

export function components(): Json {
  const entries = NAMED.map(([id, schema, io]) => {
    const others = z.registry<{ id: string }>();
    for (const [other, otherSchema] of NAMED) if (other !== id) others.add(otherSchema, { id: other });
    return [id, { ...convert(schema, io, others), ...withExamples(id), ...withDiscriminator(id) }] as const;
  });
  return Object.fromEntries(entries);
}

function withExamples(id: string): Json {
  const examples = EXAMPLES[id];
  return examples === undefined ? {} : { examples };
}

function withDiscriminator(id: string): Json {
  if (id !== "Event") return {};
  const mapping = Object.fromEntries(Object.keys(EVENT_SCHEMAS).map((type) => [type, address(toEventName(type))]));
  return { discriminator: { propertyName: "type", mapping } };
}
