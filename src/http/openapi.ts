/** The route table as an OpenAPI 3.1 document. */
import { z } from "zod";
import { ERROR_TABLE, type ErrorCode } from "../core/error.ts";
import { failureSchema } from "../core/failure.ts";
import {
  artifactRowSchema,
  attemptSchema,
  credentialSchema,
  diffSchema,
  eventSchema,
  garbageReportSchema,
  machineSchema,
  meSchema,
  messageRowSchema,
  overviewSchema,
  problemSchema,
  sessionSchema,
  submitSchema,
  taskSchema,
  ticketSchema,
  tokenSchema,
  toolCallSchema,
  userSchema,
} from "../core/protocol/rest.ts";
import { isUnsafe, json, nothing, route, type Answer, type Route } from "./route.ts";

type Json = Record<string, unknown>;

const NAMED = {
  Task: taskSchema,
  Event: eventSchema,
  Message: messageRowSchema,
  ToolCall: toolCallSchema,
  Attempt: attemptSchema,
  Artifact: artifactRowSchema,
  Leftovers: garbageReportSchema,
  Diff: diffSchema,
  Machine: machineSchema,
  Overview: overviewSchema,
  Failure: failureSchema,
  Me: meSchema,
  User: userSchema,
  Session: sessionSchema,
  Ticket: ticketSchema,
  Token: tokenSchema,
  Credential: credentialSchema,
  Submit: submitSchema,
  Problem: problemSchema,
} as const;

const names = z.registry<{ id: string }>();
for (const [id, schema] of Object.entries(NAMED)) names.add(schema, { id });

const address = (id: string): string => `#/components/schemas/${id}`;

/** A schema as JSON Schema 2020-12; named ones become references to the components. */
function toJsonSchema(schema: z.ZodType, io: "input" | "output"): Json {
  const named = names.get(schema);
  if (named !== undefined) return { $ref: address(named.id) };
  const {
    $schema: _,
    $defs: __,
    ...rest
  } = z.toJSONSchema(schema, { io, metadata: names, unrepresentable: "any" }) as Json;
  return JSON.parse(JSON.stringify(rest).replaceAll('"#/$defs/', '"#/components/schemas/')) as Json;
}

function components(): Json {
  const entries = Object.entries(NAMED).map(([id, schema]) => {
    const others = z.registry<{ id: string }>();
    for (const [other, otherSchema] of Object.entries(NAMED)) if (other !== id) others.add(otherSchema, { id: other });
    const io = id === "Submit" ? "input" : "output";
    const {
      $schema: _,
      $defs: __,
      ...rest
    } = z.toJSONSchema(schema, { io, metadata: others, unrepresentable: "any" }) as Json;
    return [id, JSON.parse(JSON.stringify(rest).replaceAll('"#/$defs/', '"#/components/schemas/'))] as const;
  });
  return Object.fromEntries(entries);
}

/** All codes that a call may answer with: those of its kind and those of its row. */
export function routeProblems(row: Route): ErrorCode[] {
  const general: ErrorCode[] = ["internal"];
  if (row.access !== "none") general.push("unauthenticated");
  if (row.access !== "none" && row.access !== "user") general.push("forbidden");
  if (row.method === "post")
    general.push("invalid_request", "payload_too_large", "unsupported_media_type", "request_timeout");
  else if (row.path.startsWith("/v1/")) general.push("invalid_request");
  if (isUnsafe(row)) general.push("idempotency_mismatch", "invalid_request");
  // While the server stops, the store answers with this.
  if (row.path.startsWith("/v1/")) general.push("unavailable");
  return [...new Set([...general, ...row.problems])];
}

function toContent(answers: readonly Answer[]): Json {
  const content = answers.flatMap((answer): [string, Json][] => {
    if ("schema" in answer) return [["application/json", { schema: toJsonSchema(answer.schema, "output") }]];
    if ("binary" in answer) return [[answer.binary, { schema: { type: "string", format: "binary" } }]];
    return "media" in answer ? [[answer.media, { schema: { type: "string" } }]] : [];
  });
  return content.length === 0 ? {} : { content: Object.fromEntries(content) };
}

function toResponses(row: Route): Json {
  const good = Object.entries(row.answers).map(
    ([status, answers]) => [status, { description: row.summary, ...toContent(answers) }] as const,
  );
  const codes = new Map<string, ErrorCode[]>();
  for (const code of routeProblems(row)) {
    const status = String(ERROR_TABLE[code][0]);
    codes.set(status, [...(codes.get(status) ?? []), code]);
  }
  const bad = [...codes].map(([status, list]) => {
    const description = list.map((code) => `\`${code}\`: ${ERROR_TABLE[code][1]}`).join("; ");
    return [
      status,
      { description, content: { "application/problem+json": { schema: { $ref: address("Problem") } } } },
    ] as const;
  });
  return Object.fromEntries([...good, ...bad]);
}

function toParameters(row: Route): Json[] {
  const inPath = [...row.path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema: { type: "string" },
  }));
  const query = z.toJSONSchema(row.query, { io: "input", unrepresentable: "any" }) as {
    properties?: Json;
    required?: string[];
  };
  const inQuery = Object.entries(query.properties ?? {}).map(([name, schema]) => {
    return { name, in: "query", required: query.required?.includes(name) ?? false, schema };
  });
  const key = {
    name: "Idempotency-Key",
    in: "header",
    required: false,
    description:
      "A request that is sent again with the same key and body has no second effect and gets the same answer.",
    schema: { type: "string", maxLength: 255 },
  };
  return [...inPath, ...inQuery, ...(isUnsafe(row) ? [key] : [])];
}

function toOperation(row: Route): Json {
  const parameters = toParameters(row);
  return {
    operationId: operationId(row),
    summary: row.summary,
    security: row.access === "none" ? [] : row.access === "metrics" ? [{}, { bearer: [] }] : [{ bearer: [] }],
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(row.body === nothing
      ? {}
      : {
          requestBody: { required: true, content: { "application/json": { schema: toJsonSchema(row.body, "input") } } },
        }),
    responses: toResponses(row),
  };
}

function operationId(row: Route): string {
  const words = row.path.split(/[/:.-]+/).filter((word) => word !== "" && word !== "v1");
  return [row.method, ...words]
    .map((word, i) => (i === 0 ? word : word.charAt(0).toUpperCase() + word.slice(1)))
    .join("");
}

export const toOpenapiPath = (row: Pick<Route, "path">): string => row.path.replaceAll(/:(\w+)/g, "{$1}");

export function openapiDocument(routes: readonly Route[], version: string): Json {
  const paths: Record<string, Json> = {};
  for (const row of routes)
    paths[toOpenapiPath(row)] = { ...paths[toOpenapiPath(row)], [row.method]: toOperation(row) };
  return {
    openapi: "3.1.0",
    info: {
      title: "Slipway",
      version,
      description: "The REST interface. Live updates come over a WebSocket at GET /v1/stream.",
    },
    paths,
    components: { schemas: components(), securitySchemes: { bearer: { type: "http", scheme: "bearer" } } },
  };
}

/** The route of the document, which contains itself. */
export function openapiRoute(others: readonly Route[]): Route {
  const row: Route = route({
    method: "get",
    path: "/openapi.json",
    access: "none",
    summary: "This document",
    query: nothing.loose(),
    answers: { 200: json(z.record(z.string(), z.unknown())) },
    async handle({ deps }) {
      cached ??= JSON.stringify(openapiDocument([...others, row], deps.version));
      return { status: 200, media: "application/json", body: cached };
    },
  });
  let cached: string | undefined;
  return row;
}
