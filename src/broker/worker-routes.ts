/**
 * Handlers of the worker protocol. The worker is not trusted: every body is limited in size and
 * depth and parsed by its schema before WorkerApi receives it.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { z } from "zod";
import { SequenceGap, SlipwayError } from "../core/error.ts";
import type { WorkerApi } from "../core/ports/broker.ts";
import { RECORD_BYTES, TRANSCRIPT_PAGE_BYTES, TranscriptMoved } from "../core/ports/records/transcripts.ts";
import {
  inspectRequestSchema,
  POLL_SECONDS,
  SETUP_ARCHIVE_MS,
  SETUP_ON_DISK,
  SETUP_SAVED_AT,
  transcriptAppendSchema,
  workerBatchSchema,
} from "../core/protocol/worker.ts";
import { BODY_MS, discardRest, parseJsonBody, type BodyReader } from "./request-body.ts";

interface BodyLimits {
  readonly bytes: number;
  readonly depth: number;
}

/** Tool inputs of a model are the deepest JSON on this path; events are flatter. */
export const TRANSCRIPT_DEPTH = 200;
const INSPECT_LIMITS: BodyLimits = { bytes: 4_096, depth: 4 };
const BATCH_LIMITS: BodyLimits = { bytes: 2 * 1024 * 1024, depth: 32 };
/** A record's JSON escapes (`\u00e9`) take up to twice the bytes that are stored. */
const RECORD_LIMITS: BodyLimits = { bytes: 2 * RECORD_BYTES + TRANSCRIPT_PAGE_BYTES, depth: TRANSCRIPT_DEPTH };
/** More values than fit into a record or a batch within the byte limits of their contents. */
const MAX_VALUES = 1_000_000;
const CURSOR_MAX = Number.MAX_SAFE_INTEGER;

export interface WorkerCall {
  readonly workerApi: WorkerApi;
  readonly taskId: string;
  readonly attempt: number;
  /** Of the attempt: kept out of what is recorded. */
  readonly tokens: readonly string[];
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** Shared by all calls of the attempt. */
  readonly bodyReader: BodyReader;
  /** Aborted when the caller disconnects or the broker closes. */
  readonly signal: AbortSignal;
}

type Handler = (call: WorkerCall) => Promise<void>;

const ROUTES: Readonly<Record<string, Readonly<Record<string, Handler>>>> = {
  "/worker/v1/spec": { GET: serveSpec },
  "/worker/v1/events": { POST: serveEvents },
  "/worker/v1/commands": { GET: serveCommands },
  "/worker/v1/budget": { GET: serveBudget },
  "/worker/v1/variables": { GET: serveVariables },
  "/worker/v1/setup": { GET: serveSetup, PUT: keepSetup },
  "/worker/v1/inspect": { POST: serveInspect },
  "/worker/v1/attachment": { GET: serveAttachment },
  "/worker/v1/transcript": { GET: serveTranscript, POST: serveAppend },
};

/** @throws SlipwayError not_found, method_not_allowed */
export function getWorkerRoute(method: string, path: string): Handler {
  const handlers = Object.hasOwn(ROUTES, path) ? ROUTES[path] : undefined;
  if (handlers === undefined) throw new SlipwayError("not_found", "This path does not exist.");
  const handler = Object.hasOwn(handlers, method) ? handlers[method] : undefined;
  if (handler === undefined) throw new SlipwayError("method_not_allowed", `Use ${Object.keys(handlers).join(" or ")}.`);
  return handler;
}

async function serveSpec({ workerApi, taskId, attempt, response, signal }: WorkerCall): Promise<void> {
  reply(response, 200, await workerApi.spec(taskId, attempt, signal));
}

async function serveEvents(call: WorkerCall): Promise<void> {
  const { workerApi, taskId, attempt, response } = call;
  await withJson(call, BATCH_LIMITS, async (value, bytes) => {
    const batch = parseBody(workerBatchSchema, value);
    if (batch.attempt !== attempt) throw new SlipwayError("stale_attempt", "The batch belongs to another attempt.");
    reply(response, 200, await workerApi.accept(taskId, batch, bytes));
  });
}

async function serveCommands({ workerApi, taskId, attempt, response, url, signal }: WorkerCall): Promise<void> {
  const after = parseWholeNumber(url, "after", CURSOR_MAX);
  const wait = parseWholeNumber(url, "wait", POLL_SECONDS);
  reply(response, 200, { commands: await workerApi.commands(taskId, attempt, after, wait * 1_000, signal) });
}

async function serveBudget({ workerApi, taskId, attempt, response }: WorkerCall): Promise<void> {
  reply(response, 200, await workerApi.budget(taskId, attempt));
}

async function serveVariables({ workerApi, taskId, attempt, response }: WorkerCall): Promise<void> {
  reply(response, 200, await workerApi.variables(taskId, attempt));
}

async function serveInspect(call: WorkerCall): Promise<void> {
  const { workerApi, taskId, attempt, response, signal } = call;
  const asked = await withJson(call, INSPECT_LIMITS, (value) =>
    Promise.resolve(parseBody(inspectRequestSchema, value)),
  );
  if (asked.attempt !== attempt) throw new SlipwayError("stale_attempt", "The request belongs to another attempt.");
  reply(response, 200, { findings: await workerApi.inspect(taskId, attempt, asked.sha, signal) });
}

async function serveAttachment({ workerApi, taskId, attempt, response, url, signal }: WorkerCall): Promise<void> {
  const { attachment, content } = await workerApi.attachment(taskId, attempt, url.searchParams.get("id") ?? "");
  const headers = { "content-type": "application/octet-stream", "content-length": attachment.bytes };
  response.writeHead(200, { ...headers, "cache-control": "no-store" });
  await pipeline(Readable.from(content), response, { signal });
}

async function serveSetup({ workerApi, taskId, attempt, response, signal }: WorkerCall): Promise<void> {
  const found = await workerApi.openSetup(taskId, attempt, signal);
  if (found === null) throw new SlipwayError("not_found", "Nothing is kept of such a setup.");
  const headers = {
    "content-type": "application/x-tar",
    "content-length": found.bytes,
    ...(found.isOnDisk ? { [SETUP_ON_DISK]: "1" } : {}),
  };
  response.writeHead(200, { ...headers, "cache-control": "no-store", [SETUP_SAVED_AT]: String(found.savedAt) });
  await pipeline(Readable.from(found.content), response, { signal });
}

/**
 * The answer may come before the body has ended. A worker that is busy with its archive reads it
 * late, so the rest is read for as long as any other body may take.
 */
async function keepSetup({ workerApi, taskId, attempt, request, response, signal }: WorkerCall): Promise<void> {
  const within = AbortSignal.any([signal, AbortSignal.timeout(SETUP_ARCHIVE_MS)]);
  const content = request.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
  reply(response, 200, await workerApi.saveSetup(taskId, attempt, content, within));
  discardRest(request, BODY_MS);
}

/** One page. Stored records are JSON already and are inserted into the answer without parsing. */
async function serveTranscript({ workerApi, taskId, attempt, response, url }: WorkerCall): Promise<void> {
  const after = parseWholeNumber(url, "after", CURSOR_MAX);
  const records = await workerApi.transcript(taskId, attempt, after);
  const items = records.map((record) => `{"n":${record.n},"attempt":${record.attempt},"record":${record.json}}`);
  replyText(response, 200, `{"records":[${items.join(",")}]}`);
}

async function serveAppend(call: WorkerCall): Promise<void> {
  const { workerApi, taskId, attempt, response } = call;
  await withJson(call, RECORD_LIMITS, async (value) => {
    const sent = parseBody(transcriptAppendSchema, value);
    if (sent.attempt !== attempt) throw new SlipwayError("stale_attempt", "The record belongs to another attempt.");
    await workerApi.append(taskId, sent);
    reply(response, 200, { last: sent.n });
  });
}

function parseBody<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const errors = parsed.error.issues
    .slice(0, 10)
    .map((issue) => ({ path: issue.path.join("."), message: issue.message }));
  throw new SlipwayError("invalid_request", "The body is not valid.", { errors });
}

/** A whole number from 0 to `max`; 0 when the parameter is absent. */
function parseWholeNumber(url: URL, name: string, max: number): number {
  const text = url.searchParams.get(name) ?? "0";
  const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  if (!(value <= max)) throw new SlipwayError("invalid_request", `"${name}" must be a whole number from 0 to ${max}.`);
  return value;
}

/**
 * Parses the body and holds its share of the body budget until `use` settles. `bytes` is the length
 * of the body as it was received.
 * The attempt's token is replaced first: it is useless elsewhere, but an agent that prints its
 * environment must not show it to users.
 */
async function withJson<T>(
  call: WorkerCall,
  limits: BodyLimits,
  use: (value: unknown, bytes: number) => Promise<T>,
): Promise<T> {
  const { bytes, release } = await call.bodyReader.receive(call.request, limits.bytes, call.signal);
  const redact = (text: string): string =>
    call.tokens.reduce((rest, token) => rest.replaceAll(token, "[attempt token]"), text);
  try {
    return await use(parseJsonBody(bytes, { ...limits, values: MAX_VALUES }, redact), bytes.length);
  } finally {
    release();
  }
}

type Headers = Readonly<Record<string, string>>;

function reply(response: ServerResponse, status: number, body: object, headers: Headers = {}): void {
  replyText(response, status, JSON.stringify(body), headers);
}

/** @param text JSON. */
function replyText(response: ServerResponse, status: number, text: string, headers: Headers = {}): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
    ...headers,
  });
  response.end(text);
}

/** Sends an error in the worker protocol's format. */
export function replyError(response: ServerResponse, error: SlipwayError, headers: Headers = {}): void {
  const { code, title, message: detail } = error;
  const errors = error.errors === undefined ? {} : { errors: error.errors };
  reply(response, error.status, { code, title, detail, ...getPosition(error), ...errors }, headers);
}

/** The sequence position at which the worker continues after a conflict. */
function getPosition(error: SlipwayError): object {
  if (error instanceof SequenceGap) return { ack: error.ack };
  return error instanceof TranscriptMoved ? { last: error.last } : {};
}
