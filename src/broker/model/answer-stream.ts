/**
 * Relays the provider's answer to the worker chunk by chunk and meters it on the way (L2).
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { errorMessage } from "../../core/error.ts";
import { waitForDrain } from "../../core/lib/concurrency/async.ts";
import type { Admission } from "../../core/ports/broker.ts";
import type { Log } from "../../core/ports/runtime.ts";
import { computePrice, type PriceTable } from "./prices.ts";
import { ModelRefusal, toErrorEvent } from "./refusal.ts";
import { UsageReader } from "./usage.ts";

/** An event that exceeds this size is relayed in parts, without waiting for its end. */
const EVENT_LIMIT = 1024 * 1024;

export interface AnswerRelay {
  /** The provider's answer, status 200. */
  readonly answer: IncomingMessage;
  readonly response: ServerResponse;
  readonly model: string;
  readonly admission: Admission;
  readonly prices: PriceTable;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/**
 * Resolves when the answer has passed or was cut, and its usage is recorded. An answer that is cut
 * because a budget is exhausted ends with an `error` event if it is a stream.
 */
export async function relayAnswer(relay: AnswerRelay): Promise<void> {
  const { answer, response, log, signal } = relay;
  const contentType = String(answer.headers["content-type"] ?? "application/json");
  const isStream = contentType.startsWith("text/event-stream");
  const reader = new UsageReader();
  response.writeHead(200, { "content-type": contentType, "cache-control": "no-cache" });
  try {
    if (isStream) await relayEvents(relay, reader);
    else await relayMessage(relay, reader);
    response.end();
  } catch (error) {
    if (error instanceof ModelRefusal && isStream && !response.destroyed) response.end(toErrorEvent(error));
    else response.destroy();
    if (!(error instanceof ModelRefusal) && !signal.aborted)
      log.warn({ error: errorMessage(error) }, "a model answer ended prematurely");
  } finally {
    answer.destroy();
    await recordUsage(relay, reader);
  }
}

async function relayEvents({ answer, response, signal, ...relay }: AnswerRelay, reader: UsageReader): Promise<void> {
  const events = new EventBuffer();
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    reader.feed(chunk);
    if (!response.write(events.take(chunk))) await waitForDrain(response, signal);
    checkBudget(relay, reader);
  }
  response.write(events.rest());
}

async function relayMessage({ answer, response, signal, ...relay }: AnswerRelay, reader: UsageReader): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    if (!response.write(chunk)) await waitForDrain(response, signal);
    checkBudget(relay, reader);
  }
  reader.finish(Buffer.concat(chunks).toString("utf8"));
}

/** @throws ModelRefusal when the cost so far exhausts a budget. */
function checkBudget(
  { model, admission, prices }: Pick<AnswerRelay, "model" | "admission" | "prices">,
  reader: UsageReader,
): void {
  const reason = admission.update(computePrice(model, reader.read().usage, prices).usd);
  if (reason !== null) throw new ModelRefusal(402, "budget_exceeded", reason);
}

async function recordUsage({ model, admission, prices, log }: AnswerRelay, reader: UsageReader): Promise<void> {
  const { usage, estimated } = reader.read();
  const { usd, known } = computePrice(model, usage, prices);
  if (!known) log.warn({ model }, "the price table does not contain this model: its highest prices were applied");
  const { inputTokens, outputTokens, cacheReadTokens } = usage;
  const cacheWriteTokens = usage.cacheWrite5mTokens + usage.cacheWrite1hTokens;
  await admission.settle({ model, inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, usd, estimated });
}

/** Splits a stream after complete events, so that the gateway can end it with its own event. */
class EventBuffer {
  #rest: Buffer = Buffer.alloc(0);

  /** @returns the bytes up to the end of the last complete event. */
  take(chunk: Buffer): Buffer {
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const end = Math.max(...["\n\n", "\r\n\r\n"].map((separator) => findEnd(bytes, separator)));
    const length = end === 0 && bytes.length > EVENT_LIMIT ? bytes.length : end;
    this.#rest = bytes.subarray(length);
    return bytes.subarray(0, length);
  }

  rest(): Buffer {
    return this.#rest;
  }
}

/** The offset after the last separator; 0 when there is none. */
function findEnd(bytes: Buffer, separator: string): number {
  const start = bytes.lastIndexOf(separator);
  return start < 0 ? 0 : start + separator.length;
}
