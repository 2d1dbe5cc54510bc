/**
 * The three calls of the worker protocol. The worker is not trusted: every body is bounded in size and depth and parsed before the desk sees it.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { SequenceGap, SlipwayError } from "../error.ts";
import type { WorkerDesk } from "../ports.ts";
import { POLL_SECONDS, workerBatchSchema } from "../worker-wire.ts";

const BODY_LIMIT = 2 * 1024 * 1024;
const BODY_MS = 30_000;
/** Deeper JSON would overflow the stack of whoever walks it later. */
const DEPTH_LIMIT = 32;

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
  const parsed = workerBatchSchema.safeParse(await readJson(request, (text) => text.replaceAll(token, "[attempt token]")));
  if (!parsed.success) {
    const errors = parsed.error.issues.slice(0, 10).map((issue) => ({ path: issue.path.join("."), message: issue.message }));
    throw new SlipwayError("invalid_request", "The batch is not valid.", { errors });
  }
  if (parsed.data.attempt !== attempt) throw new SlipwayError("stale_attempt", "The batch belongs to another attempt.");
  reply(response, 200, await desk.accept(taskId, parsed.data));
}

export async function serveCommands({ desk, taskId, attempt, response, url, signal }: LinkCall): Promise<void> {
  const after = wholeNumber(url, "after", Number.MAX_SAFE_INTEGER);
  const wait = wholeNumber(url, "wait", POLL_SECONDS);
  reply(response, 200, { commands: await desk.commands(taskId, attempt, after, wait * 1_000, signal) });
}

/** 0..max; 0 when it is left out. */
function wholeNumber(url: URL, name: string, max: number): number {
  const text = url.searchParams.get(name) ?? "0";
  const value = /^\d{1,16}$/.test(text) ? Number(text) : NaN;
  if (!(value <= max)) throw new SlipwayError("invalid_request", `"${name}" must be a whole number from 0 to ${max}.`);
  return value;
}

async function readJson(request: IncomingMessage, redact: (text: string) => string): Promise<unknown> {
  const bytes = await readBody(request);
  let value: unknown;
  try {
    value = JSON.parse(redact(new TextDecoder("utf-8", { fatal: true }).decode(bytes))) as unknown;
  } catch {
    throw new SlipwayError("invalid_request", "The body is not JSON.");
  }
  if (isTooDeep(value)) throw new SlipwayError("invalid_request", `The body is nested deeper than ${DEPTH_LIMIT} levels.`);
  return value;
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const tooLarge = (): SlipwayError => new SlipwayError("payload_too_large", `A batch holds at most ${BODY_LIMIT} bytes.`);
  if (Number(request.headers["content-length"] ?? 0) > BODY_LIMIT) throw tooLarge();
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
      if (size > BODY_LIMIT) return fail(tooLarge());
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
function isTooDeep(value: unknown): boolean {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth += 1) {
    if (depth > DEPTH_LIMIT) return true;
    level = level.flatMap((item) => (typeof item === "object" && item !== null ? (Object.values(item) as unknown[]) : []));
  }
  return false;
}

export function reply(response: ServerResponse, status: number, body: object, headers: Readonly<Record<string, string>> = {}): void {
  if (response.headersSent || response.destroyed) return;
  const text = JSON.stringify(body);
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
  const gap = error instanceof SequenceGap ? { ack: error.ack } : {};
  const errors = error.errors === undefined ? {} : { errors: error.errors };
  reply(response, error.status, { code: error.code, title: error.title, detail: error.message, ...gap, ...errors }, headers);
}
