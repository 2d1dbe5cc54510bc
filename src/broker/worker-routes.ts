/**
 * The calls of the worker protocol. The worker is not trusted: every body is bounded in size and
 * depth and parsed before the desk sees it.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { SequenceGap, SlipwayError } from "../core/error.ts";
import type { z } from "zod";
import { TranscriptMoved } from "../core/ports/transcripts.ts";
import { POLL_SECONDS, workerBatchSchema } from "../core/protocol/worker.ts";
import { parseJsonBody, type BodyReader } from "./request-body.ts";
import type { WorkerApi } from "../core/ports/broker.ts";

/** Of a batch. */
const BATCH_LIMITS: BodyLimits = { bytes: 2 * 1024 * 1024, depth: 32 };
/** More than fit into a record or a batch that is not refused for its size. */
const VALUES = 1_000_000;

export interface BodyLimits {
  readonly bytes: number;
  readonly depth: number;
}

export interface WorkerCall {
  readonly workerApi: WorkerApi;
  readonly taskId: string;
  readonly attempt: number;
  readonly token: string;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** Of the bodies of all calls of this attempt. */
  readonly bodyReader: BodyReader;
  /** Aborted when the caller is gone or the broker shuts. */
  readonly signal: AbortSignal;
}

export async function serveSpec({ workerApi, taskId, attempt, response, signal }: WorkerCall): Promise<void> {
  reply(response, 200, await workerApi.spec(taskId, attempt, signal));
}

export async function serveEvents(call: WorkerCall): Promise<void> {
  const { workerApi, taskId, attempt, response } = call;
  await withJson(call, BATCH_LIMITS, async (value) => {
    const batch = parseBody(workerBatchSchema, value);
    if (batch.attempt !== attempt) throw new SlipwayError("stale_attempt", "The batch belongs to another attempt.");
    reply(response, 200, await workerApi.accept(taskId, batch));
  });
}

export function parseBody<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const errors = parsed.error.issues
    .slice(0, 10)
    .map((issue) => ({ path: issue.path.join("."), message: issue.message }));
  throw new SlipwayError("invalid_request", "The body is not valid.", { errors });
}

export async function serveCommands({ workerApi, taskId, attempt, response, url, signal }: WorkerCall): Promise<void> {
  const after = parseWholeNumber(url, "after", Number.MAX_SAFE_INTEGER);
  const wait = parseWholeNumber(url, "wait", POLL_SECONDS);
  reply(response, 200, { commands: await workerApi.commands(taskId, attempt, after, wait * 1_000, signal) });
}

export async function serveBudget({ workerApi, taskId, attempt, response }: WorkerCall): Promise<void> {
  reply(response, 200, await workerApi.budget(taskId, attempt));
}

/** 0..max; 0 when it is left out. */
export function parseWholeNumber(url: URL, name: string, max: number): number {
  const text = url.searchParams.get(name) ?? "0";
  const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  if (!(value <= max)) throw new SlipwayError("invalid_request", `"${name}" must be a whole number from 0 to ${max}.`);
  return value;
}

/**
 * The body keeps its room in the intake until it was used, that is, until the answer is made.
 * The attempt's token is worth nothing elsewhere; still it is not what people should see when an
 * agent prints its environment.
 */
export async function withJson(
  call: WorkerCall,
  limits: BodyLimits,
  use: (value: unknown) => Promise<void>,
): Promise<void> {
  const { bytes, release } = await call.bodyReader.receive(call.request, limits.bytes, call.signal);
  try {
    await use(
      parseJsonBody(bytes, { ...limits, values: VALUES }, (text) => text.replaceAll(call.token, "[attempt token]")),
    );
  } finally {
    release();
  }
}

export function reply(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): void {
  replyText(response, status, JSON.stringify(body), headers);
}

/** @param text JSON. */
export function replyText(
  response: ServerResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, {
    "content-type": "application/json",
    "content-length": Buffer.byteLength(text),
    "cache-control": "no-store",
    ...headers,
  });
  response.end(text);
}

/** The error as the worker reads it. */
export function replyError(
  response: ServerResponse,
  error: SlipwayError,
  headers: Readonly<Record<string, string>> = {},
): void {
  const gap =
    error instanceof SequenceGap ? { ack: error.ack } : error instanceof TranscriptMoved ? { last: error.last } : {};
  const errors = error.errors === undefined ? {} : { errors: error.errors };
  reply(
    response,
    error.status,
    { code: error.code, title: error.title, detail: error.message, ...gap, ...errors },
    headers,
  );
}
