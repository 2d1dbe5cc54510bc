/**
 * Relays the provider's answer to the worker chunk by chunk and meters it on the way (L2).
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { errorMessage } from "../../core/error.ts";
import { waitForDrain } from "../../core/lib/concurrency/async.ts";
import type { Admission } from "../../core/ports/broker.ts";
import type { Log } from "../../core/ports/runtime.ts";
import type { Meter } from "./meter.ts";
import { ModelRefusal, readRequestId, toErrorEvent, toRequestIdHeader } from "./refusal.ts";

/** An event that exceeds this size is relayed in parts, without waiting for its end. */
const EVENT_LIMIT = 1024 * 1024;
/** A whole answer that exceeds this is relayed, but not read: it is booked as if it were cut. */
const MESSAGE_LIMIT = 16 * 1024 * 1024;

export interface AnswerRelay {
  /** The provider's answer, status 200. */
  readonly answer: IncomingMessage;
  readonly response: ServerResponse;
  readonly meter: Meter;
  readonly admission: Admission;
  readonly log: Log;
  readonly signal: AbortSignal;
}

/**
 * Resolves when the answer has passed or was cut; recording its usage is left to the caller. An
 * answer that is cut because a budget is exhausted ends with an `error` event if it is a stream.
 */
export async function relayAnswer(relay: AnswerRelay): Promise<void> {
  const { answer, response, log, signal } = relay;
  const contentType = String(answer.headers["content-type"] ?? "application/json");
  const isStream = contentType.startsWith("text/event-stream");
  const requestId = readRequestId(answer);
  response.writeHead(200, {
    "content-type": contentType,
    "cache-control": "no-cache",
    ...toRequestIdHeader(requestId),
  });
  try {
    if (isStream) await relayEvents(relay);
    else await relayMessage(relay);
    response.end();
  } catch (error) {
    if (error instanceof ModelRefusal && isStream && !response.destroyed) response.end(toErrorEvent(error));
    else response.destroy();
    if (!(error instanceof ModelRefusal) && !signal.aborted)
      log.warn({ requestId, error: errorMessage(error) }, "a model answer ended prematurely");
  } finally {
    answer.destroy();
  }
}

async function relayEvents({ answer, response, signal, ...relay }: AnswerRelay): Promise<void> {
  const events = new EventBuffer();
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    relay.meter.feed(chunk);
    if (!response.write(events.take(chunk))) await waitForDrain(response, signal);
    checkBudget(relay);
  }
  response.write(events.rest());
}

async function relayMessage({ answer, response, signal, ...relay }: AnswerRelay): Promise<void> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of answer as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size <= MESSAGE_LIMIT) chunks.push(chunk);
    if (!response.write(chunk)) await waitForDrain(response, signal);
    checkBudget(relay);
  }
  if (size <= MESSAGE_LIMIT) relay.meter.finish(Buffer.concat(chunks).toString("utf8"));
}

/** @throws ModelRefusal when the cost so far exhausts a budget. */
function checkBudget({ meter, admission }: Pick<AnswerRelay, "meter" | "admission">): void {
  const reason = admission.update(meter.cost());
  if (reason !== null) throw new ModelRefusal(402, "budget_exceeded", reason);
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
