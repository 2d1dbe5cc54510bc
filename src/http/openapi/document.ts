/** The route table as an OpenAPI 3.1 document. */
import { z } from "zod";
import { ERROR_TABLE, type ErrorCode } from "../../core/error.ts";
import { taskSchema } from "../../core/protocol/rest.ts";
import { isUnsafe, json, nothing, route, type Answer, type Route } from "../route.ts";
import { address, components, toJsonSchema, type Json } from "./schemas.ts";
import { streamPath } from "./stream.ts";

const DESCRIPTION = `Submit *repository + prompt*, follow the task live, read its changes.

Times are ISO 8601 in UTC. Lists are pages: \`next\` is the \`cursor\` of the next one, null at the end. Every call that changes something takes an \`Idempotency-Key\`: sent again with the same key and body it has no second effect. Errors are problem documents (RFC 9457) with a stable \`code\`. Fields may be added to answers, and values to their enumerations, so ignore what you do not know; nothing is renamed or removed within v1.`;

const TAGS: readonly (readonly [name: string, description: string, paths: RegExp])[] = [
  ["Tasks", "Submit, stop, retry, steer; what a task did.", /^\/v1\/(tasks|threads|attachments|repositories|config)\b/],
  [
    "Accounts",
    "Log in, tokens, git credentials, users.",
    /^\/v1\/(auth|session|setup|sessions|me|tickets|tokens|links|cred|users|audit|device|oauth)\b|^\/\.well-known\//,
  ],
  [
    "Notifications",
    "Devices that are told by Web Push, ntfy topics, webhooks, and how their notifications fared.",
    /^\/v1\/push\b/,
  ],
  ["Operations", "For operators.", /^\/v1\/ops\b/],
  ["Stream", "Live updates over a WebSocket.", /^\/v1\/stream\b/],
  ["Server", "Health, metrics, this document.", /^/],
];

/** All codes that a call may answer with: those of its kind and those of its row. */
export function routeProblems(row: Route): ErrorCode[] {
  const general: ErrorCode[] = ["internal", "headers_too_large"];
  if (row.access !== "none") general.push("unauthenticated", "forbidden");
  if (row.method === "post")
    general.push("invalid_request", "payload_too_large", "unsupported_media_type", "request_timeout");
  else if (row.path.startsWith("/v1/")) general.push("invalid_request");
  if (row.isLarge) general.push("rate_limited");
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

const header = (name: string): Json => ({ [name]: { $ref: `#/components/headers/${name}` } });

/** True for the answer that contains a new task; it also names its address. */
export const isNewTask = (status: string, answers: readonly Answer[]): boolean =>
  status.startsWith("20") &&
  status !== "202" &&
  answers.some((answer) => "schema" in answer && answer.schema === taskSchema);

function toResponses(row: Route): Json {
  const creates = row.method === "post" && "201" in row.answers;
  const good = Object.entries(row.answers).map(([status, answers]) => {
    const location = creates && isNewTask(status, answers) ? header("Location") : {};
    const headers = { ...header("X-Request-Id"), ...location };
    return [status, { description: row.summary, headers, ...toContent(answers) }] as const;
  });
  const codes = new Map<string, ErrorCode[]>();
  for (const code of routeProblems(row)) {
    const status = String(ERROR_TABLE[code][0]);
    codes.set(status, [...(codes.get(status) ?? []), code]);
  }
  const bad = [...codes].map(([status, list]) => [status, toProblemResponse(list)] as const);
  const responses: Json = Object.fromEntries(good);
  for (const [status, response] of bad) {
    const own = responses[status] as { content?: Json } | undefined;
    responses[status] = { ...response, content: { ...own?.content, ...(response["content"] as Json) } };
  }
  return responses;
}

function toProblemResponse(codes: readonly ErrorCode[]): Json {
  const description = codes.map((code) => `\`${code}\`: ${ERROR_TABLE[code][1]}`).join("; ");
  const listed = { type: "object", properties: { code: { type: "string", enum: [...codes].toSorted() } } };
  const schema = { allOf: [{ $ref: address("Problem") }, listed] };
  const retry = codes.includes("rate_limited") || codes.includes("quota_exceeded") ? header("Retry-After") : {};
  return {
    description,
    headers: { ...header("X-Request-Id"), ...retry },
    content: { "application/problem+json": { schema } },
  };
}

const PATH_PARAMETERS: Readonly<Record<string, string>> = {
  id: "The id, for example of a task: `task_` and 26 characters.",
  mid: "The id of the message.",
  seq: "The seq of an event.",
  name: "The name of the artifact.",
  provider: "The id of the provider, as `GET /v1/auth/providers` lists it.",
};

function toParameters(row: Route): Json[] {
  const inPath = [...row.path.matchAll(/:(\w+)/g)].map(([, name = ""]) => ({
    name,
    in: "path",
    required: true,
    description: PATH_PARAMETERS[name] ?? name,
    schema: { type: "string" },
  }));
  const query = toJsonSchema(row.query, "input") as { properties?: Record<string, Json>; required?: string[] };
  const inQuery = Object.entries(query.properties ?? {}).map(([name, { description, ...schema }]) => {
    const words = description === undefined ? {} : { description };
    return { name, in: "query", required: query.required?.includes(name) ?? false, ...words, schema };
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

function toRequestBody({ body, isUpload, isForm }: Route): Json {
  if (isUpload)
    return { requestBody: { required: true, content: { "*/*": { schema: { type: "string", format: "binary" } } } } };
  if (body === nothing) return {};
  const media = isForm ? "application/x-www-form-urlencoded" : "application/json";
  return { requestBody: { required: true, content: { [media]: { schema: toJsonSchema(body, "input") } } } };
}

function toOperation(row: Route): Json {
  const parameters = toParameters(row);
  return {
    operationId: row.operation,
    summary: row.summary,
    tags: [TAGS.find(([, , paths]) => paths.test(row.path))?.[0]],
    security: row.access === "none" ? [] : row.access === "metrics" ? [{}, { bearer: [] }] : [{ bearer: [] }],
    ...(parameters.length === 0 ? {} : { parameters }),
    ...toRequestBody(row),
    responses: toResponses(row),
  };
}

export const toOpenapiPath = (row: Pick<Route, "path">): string => row.path.replaceAll(/:(\w+)/g, "{$1}");

const HEADERS = {
  "X-Request-Id": { description: "Names the request in the server's log.", schema: { type: "string" } },
  Location: { description: "The path of what was created.", schema: { type: "string" }, example: "/v1/tasks/task_…" },
  "Retry-After": { description: "Seconds to wait before the next try.", schema: { type: "integer", minimum: 1 } },
};

export function openapiDocument(routes: readonly Route[], version: string): Json {
  const paths: Record<string, Json> = {};
  for (const row of routes)
    paths[toOpenapiPath(row)] = { ...paths[toOpenapiPath(row)], [row.method]: toOperation(row) };
  return {
    openapi: "3.1.0",
    info: { title: "Slipway", version, description: DESCRIPTION, license: { name: "MIT", identifier: "MIT" } },
    servers: [{ url: "/", description: "The server that this document comes from." }],
    tags: TAGS.map(([name, description]) => ({ name, description })),
    paths: { ...paths, "/v1/stream": streamPath() },
    components: {
      schemas: components(),
      headers: HEADERS,
      securitySchemes: {
        bearer: {
          type: "http",
          scheme: "bearer",
          description: "An access token of a login, or a personal access token.",
        },
      },
    },
  };
}

/** The route of the document, which contains itself. */
export function openapiRoute(others: readonly Route[]): Route {
  const row: Route = route({
    method: "get",
    path: "/openapi.json",
    access: "none",
    operation: "getOpenapi",
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
