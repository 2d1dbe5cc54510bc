/**
 * A model that follows scenarios: the Messages API over real HTTP, for tests, evaluations and
 * demonstrations without a key.
 *
 * M1 It stores no transcript. The next turn is derived from the number of assistant messages in the
 *    request (turns.ts), so a repeated request gets the same turn; beside it, there is the prompt
 *    cache.
 * M2 It validates like the provider (strict.ts) and records every request that it answered, so a
 *    client's reported cost can be compared with the billed cost.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createHash, timingSafeEqual } from "node:crypto";
import type { AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { waitForDrain } from "../../../core/lib/concurrency/async.ts";
import { computePrice } from "../prices.ts";
import { createAnswer, createEvents, toMessage, createSummary, type FakeAnswer, type StreamEvent } from "./answer.ts";
import { editPrompt } from "./context-edit.ts";
import { describeModel, findUnsupported, getWindow, LISTED_MODELS } from "./models.ts";
import { countPromptTokens, PromptCache, type PromptTokens } from "./prompt-cache.ts";
import { SCENARIO_MARK, type Fault, type Scenario, type Turn } from "./scenario.ts";
import { findViolation, isSummary, requestSchema, type FakeRequest } from "./strict.ts";
import { Conversations, firstText, getConversationKey, planTurn } from "./turns.ts";

export interface FakeModelOptions {
  /** By name; `default` is for prompts without a scenario mark. */
  readonly scenarios: Readonly<Record<string, Scenario>>;
  /** The accepted key, sent as `x-api-key` or bearer token. */
  readonly apiKey: string;
  /** 0 or absent = any free port of 127.0.0.1. */
  readonly port?: number;
  /** `unlisted`: there is no `/v1/models`, as behind many proxies. */
  readonly models?: "listed" | "unlisted";
  /** Fields that are refused, as by some proxies; `ttl` is that of a cache mark. */
  readonly refuses?: readonly ("ttl" | "context_management")[];
  /** Of the prompt cache, ms. */
  readonly now?: () => number;
}

/** One recorded request. */
export interface ServedRequest {
  readonly conversation: string;
  readonly turn: number;
  readonly status: number;
  readonly fault: Fault["kind"] | null;
  readonly model: string;
  /** The billed cost; 0 for a request that was refused. */
  readonly usd: number;
  /** How the prompt was billed; null for a request that was refused. */
  readonly prompt: PromptTokens | null;
  readonly request: FakeRequest;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

export interface FakeModel {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** Every request to `/v1/messages` so far, in the order of arrival. */
  requests(): readonly ServedRequest[];
  /** US dollars billed so far. */
  spentUsd(): number;
  close(): Promise<void>;
}

const BODY_LIMIT = 32 * 1024 * 1024;

const ERROR_TYPES: Readonly<Record<number, string>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  402: "billing_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  529: "overloaded_error",
};

class RequestLog {
  readonly entries: ServedRequest[] = [];
  readonly cache: PromptCache;
  readonly conversations = new Conversations();
  #number = 0;

  constructor(now?: () => number) {
    this.cache = new PromptCache(now);
  }

  nextId(): string {
    this.#number += 1;
    return `fake${this.#number}`;
  }
}

class Refusal extends Error {
  readonly status: number;
  readonly type: string;
  readonly retryAfter: number | null;

  constructor(status: number, message: string, type?: string, retryAfter?: number) {
    super(message);
    this.status = status;
    this.type = type ?? ERROR_TYPES[status] ?? "api_error";
    this.retryAfter = retryAfter ?? null;
  }
}

const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
function getScenario(scenarios: FakeModelOptions["scenarios"], request: FakeRequest): Scenario {
  const name = SCENARIO_MARK.exec(firstText(request))?.[1] ?? "default";
  const found = Object.hasOwn(scenarios, name) ? scenarios[name] : undefined;
  if (found === undefined) throw new Refusal(400, `There is no scenario "${name}".`);
  return found;
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > BODY_LIMIT) throw new Refusal(413, "Request exceeds the maximum size");
    chunks.push(chunk as Buffer);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8")) as unknown;
  } catch {
    throw new Refusal(400, "The request body is not valid JSON");
  }
}

function reply(
  response: ServerResponse,
  status: number,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
}

function isAuthorized(request: IncomingMessage, apiKey: string): boolean {
  const bearer = /^Bearer (.+)$/i.exec(request.headers.authorization ?? "")?.[1];
  const candidates = [bearer, request.headers["x-api-key"]].filter((key) => typeof key === "string");
  return candidates.some((key) => timingSafeEqual(digest(key), digest(apiKey)));
}

const SUMMARY_BETA = "compact-2026-09-04";
const EDIT_BETA = "context-management-2025-06-27";

function throwFault(fault: Fault | null, model: string): void {
  if (fault?.kind === "status")
    throw new Refusal(
      fault.status,
      fault.message ?? "The scenario makes this request fail.",
      fault.type,
      fault.retryAfter,
    );
  if (fault?.kind === "context_limit" && fault.form === "error")
    throw new Refusal(400, `prompt is too long: ${getWindow(model) + 1} tokens > ${getWindow(model)} maximum`);
}

const toFrame = (event: StreamEvent): string => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;

/** @returns false when the stream ended prematurely. */
async function sendStream(
  response: ServerResponse,
  answer: FakeAnswer,
  fault: Fault | null,
  { delayMs = 0, pings = 0 }: Turn,
): Promise<boolean> {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  let sent = 0;
  for (const event of createEvents(answer)) {
    if (fault !== null && "after" in fault && sent >= fault.after) return interrupt(response, fault);
    if (fault?.kind === "no_message_stop" && event.type === "message_stop") break;
    if (response.destroyed) return false;
    if (!response.write(toFrame(event))) await waitForDrain(response);
    if (delayMs > 0) await delay(delayMs);
    for (let left = event.type === "ping" ? pings : 0; left > 0 && !response.destroyed; left -= 1) {
      response.write(toFrame(event));
      await delay(delayMs);
    }
    sent += 1;
  }
  response.end();
  return true;
}

function interrupt(response: ServerResponse, fault: Fault): false {
  // Flush what was sent before the fault.
  if (fault.kind === "drop") response.write("\n", () => response.destroy());
  if (fault.kind === "error_event") {
    const type = fault.type ?? "overloaded_error";
    response.end(toFrame({ type: "error", error: { type, message: "The scenario makes this request fail." } }));
  }
  return false;
}

function findRefused(request: FakeRequest, { refuses = [] }: FakeModelOptions): string | null {
  const hasTtl = /"cache_control":\{[^}]*"ttl"/.test(JSON.stringify([request.system, request.tools, request.messages]));
  return refuses.includes("ttl") && hasTtl
    ? "system.0.cache_control.ephemeral.ttl: Extra inputs are not permitted"
    : null;
}

async function messages(
  options: FakeModelOptions,
  log: RequestLog,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.headers["anthropic-version"] === undefined)
    throw new Refusal(400, "anthropic-version: header is required");
  const parsed = requestSchema.safeParse(await readBody(request));
  if (!parsed.success)
    throw new Refusal(400, parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; "));
  const body = parsed.data;
  const violation = findUnsupported(body) ?? findRefused(body, options) ?? findViolation(body);
  if (violation !== null) throw new Refusal(400, violation);
  const scenario = getScenario(options.scenarios, body);
  const summaries =
    String(request.headers["anthropic-beta"]).includes(SUMMARY_BETA) && scenario.compaction !== "refused";
  if (!summaries && (body.compaction !== undefined || body.messages.some(isSummary)))
    throw new Refusal(400, "compaction: Extra inputs are not permitted");
  const edits = String(request.headers["anthropic-beta"]).includes(EDIT_BETA);
  const asksForEdits = body.context_management !== undefined && body.context_management !== null;
  if (asksForEdits && (!edits || options.refuses?.includes("context_management") === true))
    throw new Refusal(400, "context_management: Extra inputs are not permitted");
  if (asksForEdits && body.compaction !== undefined)
    throw new Refusal(400, "compaction cannot be combined with context_management");
  const { turn, index, fault } = planTurn(scenario, log.conversations, body);
  const entry = {
    conversation: getConversationKey(body),
    turn: index,
    fault: fault?.kind ?? null,
    model: body.model,
    request: body,
    headers: request.headers,
  };
  try {
    throwFault(fault, body.model);
  } catch (error) {
    log.entries.push({ ...entry, status: error instanceof Refusal ? error.status : 500, usd: 0, prompt: null });
    throw error;
  }
  const id = log.nextId();
  const { request: edited, applied } = editPrompt(body);
  const prompt = log.cache.use(edited);
  const answer =
    body.compaction === undefined
      ? createAnswer({ request: body, turn, fault, id, prompt })
      : createSummary(body, id, turn.say ?? "", prompt);
  log.entries.push({ ...entry, status: 200, usd: bill(body.model, answer), prompt });
  const sent = applied === null ? answer : { ...answer, edits: applied };
  if (body.stream === true) await sendStream(response, sent, fault, turn);
  else reply(response, 200, toMessage(sent));
}

/** A refusal before the first output is not billed. */
function bill(model: string, { usage, stopReason, content }: FakeAnswer): number {
  if (stopReason === "refusal" && content.length === 0) return 0;
  const cacheWrite1hTokens = usage.cache_creation?.ephemeral_1h_input_tokens ?? 0;
  return computePrice(model, {
    inputTokens: usage.input_tokens,
    outputTokens: usage.output_tokens,
    cacheReadTokens: usage.cache_read_input_tokens,
    cacheWrite5mTokens: usage.cache_creation_input_tokens - cacheWrite1hTokens,
    cacheWrite1hTokens,
  });
}

async function route(
  options: FakeModelOptions,
  log: RequestLog,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (!isAuthorized(request, options.apiKey)) throw new Refusal(401, "invalid x-api-key");
  const path = new URL(request.url ?? "/", "http://fake").pathname;
  const call = `${request.method} ${path}`;
  if (call === "POST /v1/messages") return await messages(options, log, request, response);
  if (call === "POST /v1/messages/count_tokens") {
    const parsed = requestSchema.omit({ max_tokens: true }).safeParse(await readBody(request));
    if (!parsed.success) throw new Refusal(400, "The request is not valid.");
    return reply(response, 200, { input_tokens: countPromptTokens({ ...parsed.data, max_tokens: 1 }) });
  }
  if (options.models === "unlisted") throw new Refusal(404, "This path does not exist.");
  if (call === "GET /v1/models")
    return reply(response, 200, {
      data: LISTED_MODELS.map(describeModel),
      has_more: false,
      first_id: LISTED_MODELS[0],
      last_id: LISTED_MODELS.at(-1),
    });
  const model = /^GET \/v1\/models\/([\w.-]+)$/.exec(call)?.[1];
  if (model !== undefined) return reply(response, 200, describeModel(model));
  throw new Refusal(404, "This path does not exist.");
}

function sendError(response: ServerResponse, error: unknown): void {
  const { status, type, message, retryAfter } = error instanceof Refusal ? error : new Refusal(500, String(error));
  const headers: Record<string, string> = retryAfter === null ? {} : { "retry-after": String(retryAfter) };
  reply(response, status, { type: "error", error: { type, message }, request_id: "req_fake" }, headers);
}

/** Longer than the broker keeps them (provider-request.ts), also on a busy machine. */
const KEEP_ALIVE_MS = 60_000;

/** Starts the server. `close` also ends stalled streams. */
export async function startFakeModel(options: FakeModelOptions): Promise<FakeModel> {
  const log = new RequestLog(options.now);
  let arrived = 0;
  const server: Server = createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
    response.on("error", () => undefined);
    response.setHeader("request-id", `req_fake${(arrived += 1)}`);
    route(options, log, request, response).catch((error: unknown) => sendError(response, error));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port ?? 0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    requests: () => log.entries,
    spentUsd: () => log.entries.reduce((sum, { usd }) => sum + usd, 0),
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}
