/**
 * The calls of the worker protocol. The worker is not trusted: every body is bounded in size and depth and parsed before the desk sees it.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { SequenceGap, SlipwayError } from "../error.ts";
import type { z } from "zod";
import type { WorkerDesk } from "../ports.ts";
import { TranscriptMoved } from "../transcript.ts";
import { POLL_SECONDS, workerBatchSchema } from "../worker-wire.ts";

const BODY_MS = 30_000;
/** Of a batch. Deeper JSON would overflow the stack of whoever walks it later. */
const BATCH_LIMITS: BodyLimits = { bytes: 2 * 1024 * 1024, depth: 32 };

export interface BodyLimits {
  readonly bytes: number;
  readonly depth: number;
}

export interface LinkCall {
  readonly desk: WorkerDesk;
  readonly taskId: string;
  readonly attempt: number;
  readonly token: string;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
  /** Aborted when the caller is gone or the broker shuts. */
  readonly signal: AbortSignal;
}

export async function serveSpec({ desk, taskId, attempt, response, signal }: LinkCall): Promise<void> {
  reply(response, 200, await desk.spec(taskId, attempt, signal));
}

/** The attempt's token is worth nothing elsewhere; still it is not what people should see when an agent prints its environment. */
export async function serveEvents({ desk, taskId, attempt, token, request, response }: LinkCall): Promise<void> {
  const batch = parseBody(workerBatchSchema, await readJson(request, token, BATCH_LIMITS));
  if (batch.attempt !== attempt) throw new SlipwayError("stale_attempt", "The batch belongs to another attempt.");
  reply(response, 200, await desk.accept(taskId, batch));
}

export function parseBody<T>(schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const errors = parsed.error.issues.slice(0, 10).map((issue) => ({ path: issue.path.join("."), message: issue.message }));
  throw new SlipwayError("invalid_request", "The body is not valid.", { errors });
}

export async function serveCommands({ desk, taskId, attempt, response, url, signal }: LinkCall): Promise<void> {
  const after = wholeNumber(url, "after", Number.MAX_SAFE_INTEGER);
  const wait = wholeNumber(url, "wait", POLL_SECONDS);
  reply(response, 200, { commands: await desk.commands(taskId, attempt, after, wait * 1_000, signal) });
}

export async function serveBudget({ desk, taskId, attempt, response }: LinkCall): Promise<void> {
  reply(response, 200, await desk.budget(taskId, attempt));
}

/** 0..max; 0 when it is left out. */
export function wholeNumber(url: URL, name: string, max: number): number {
  const text = url.searchParams.get(name) ?? "0";
  const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  if (!(value <= max)) throw new SlipwayError("invalid_request", `"${name}" must be a whole number from 0 to ${max}.`);
  return value;
}

export async function readJson(request: IncomingMessage, token: string, limits: BodyLimits): Promise<unknown> {
  const bytes = await readBody(request, limits.bytes);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes).replaceAll(token, "[attempt token]")) as unknown;
  } catch {
    throw new SlipwayError("invalid_request", "The body is not JSON.");
  }
  if (isTooDeep(value, limits.depth)) throw new SlipwayError("invalid_request", `The body is nested deeper than ${limits.depth} levels.`);
  return value;
}

async function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  const tooLarge = (): SlipwayError => new SlipwayError("payload_too_large", `The body holds at most ${limit} bytes.`);
  if (Number(request.headers["content-length"] ?? 0) > limit) throw tooLarge();
  return await new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const timer = setTimeout(() => fail(new SlipwayError("request_timeout", "The body did not arrive in time.")), BODY_MS);
    const fail = (error: Error): void => {
      clearTimeout(timer);
      request.removeAllListeners("data");
      request.resume();
      reject(error);
    };
    request.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > limit) return fail(tooLarge());
      chunks.push(chunk);
    });
    request.on("end", () => {
      clearTimeout(timer);
      resolve(Buffer.concat(chunks));
    });
    request.on("close", () => fail(new SlipwayError("invalid_request", "The body was cut short.")));
    request.on("error", fail);
  });
}

/** Without recursion: the point is to survive what would overflow the stack. */
function isTooDeep(value: unknown, limit: number): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > limit) return true;
    level = level.flatMap((item) => (typeof item === "object" && item !== null ? (Object.values(item) as unknown[]) : []));
  }
  return false;
}

export function reply(response: ServerResponse, status: number, body: object, headers: Readonly<Record<string, string>> = {}): void {
  replyText(response, status, JSON.stringify(body), headers);
}

/** @param text JSON. */
export function replyText(response: ServerResponse, status: number, text: string, headers: Readonly<Record<string, string>> = {}): void {
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
export function replyError(response: ServerResponse, error: SlipwayError, headers: Readonly<Record<string, string>> = {}): void {
  const gap = error instanceof SequenceGap ? { ack: error.ack } : error instanceof TranscriptMoved ? { last: error.last } : {};
  const errors = error.errors === undefined ? {} : { errors: error.errors };
  reply(response, error.status, { code: error.code, title: error.title, detail: error.message, ...gap, ...errors }, headers);
}
