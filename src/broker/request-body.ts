/**
 * Reads the bodies of one attempt's requests. The sender is hostile and holds as many connections
 * as the listener accepts.
 *
 * I1 A body is read only once the attempt's byte budget has room for all of it. Until then it stays
 *    in the sender's socket.
 * I2 Budget is granted in the order of the requests. A body that does not arrive in time returns
 *    its share.
 * I3 A body that is held takes no more memory than its length: chunks are copied into one buffer,
 *    and JSON is measured before it is parsed.
 */
import type { IncomingMessage } from "node:http";
import { SlipwayError } from "../core/error.ts";
import { parseJson, type JsonLimits } from "../core/lib/json/json-limits.ts";
import { Semaphore, type Release } from "./semaphore.ts";

export const BODY_MS = 30_000;
const DISCARD_MS = 2_000;
/** Initial buffer for a body without a content length. */
const INITIAL_BYTES = 64 * 1024;

export interface BodyReaderOptions {
  /** Bytes of bodies that are held at once. */
  readonly bytes: number;
  /**
   * Bodies that may wait for budget; further ones are refused. The first 64 KiB of a waiting body
   * are in this process already, and take some MB when they arrive in chunks of one byte.
   */
  readonly maxWaiting: number;
  /** Longest time from the first read of a body to its end, ms. */
  readonly ms: number;
}

export interface ReceivedBody {
  readonly bytes: Buffer;
  /** Returns the body's share of the budget. Call it once nothing refers to `bytes`. */
  readonly release: Release;
}

export class BodyReader {
  readonly #budget: Semaphore;
  readonly #options: BodyReaderOptions;

  constructor(options: BodyReaderOptions) {
    this.#options = options;
    this.#budget = new Semaphore(options.bytes);
  }

  /**
   * Rejects with the signal's reason when it is aborted while the body waits.
   * @param limit bytes, at most the reader's whole budget.
   * @throws SlipwayError payload_too_large, rate_limited, request_timeout, invalid_request
   */
  async receive(request: IncomingMessage, limit: number, signal: AbortSignal): Promise<ReceivedBody> {
    const length = getMaxLength(request, limit);
    if (this.#budget.waiting >= this.#options.maxWaiting)
      throw new SlipwayError(
        "rate_limited",
        "Too many requests with large bodies are waiting. Retry after some of them are answered.",
      );
    const release = await this.#budget.acquire(length, signal);
    try {
      return { bytes: await readBytes(request, limit, this.#options.ms), release };
    } catch (error) {
      release();
      throw error;
    }
  }
}

const tooLarge = (limit: number): SlipwayError =>
  new SlipwayError("payload_too_large", `The body holds at most ${limit} bytes.`);

/**
 * The announced length; the limit for a chunked body, which announces none.
 * @throws SlipwayError payload_too_large
 */
export function getMaxLength(request: IncomingMessage, limit: number): number {
  const length = request.headers["content-length"];
  if (length === undefined) return request.headers["transfer-encoding"] === undefined ? 0 : limit;
  if (Number(length) > limit) throw tooLarge(limit);
  return Number(length);
}

/** Removes its listeners: the request outlives its body by as long as the response takes. */
async function readBytes(request: IncomingMessage, limit: number, ms: number): Promise<Buffer> {
  const buffer = new GrowingBuffer(Number(request.headers["content-length"] ?? INITIAL_BYTES), limit);
  await new Promise<void>((resolve, reject) => {
    const finish = (error?: Error): void => {
      clearTimeout(timer);
      request.off("data", onData).off("end", onEnd).off("close", onClose).off("error", finish);
      if (error === undefined) return resolve();
      request.resume();
      reject(error);
    };
    const onData = (chunk: Buffer): void => {
      if (!buffer.append(chunk)) finish(tooLarge(limit));
    };
    const onEnd = (): void => finish();
    const onClose = (): void =>
      finish(new SlipwayError("invalid_request", "The connection closed before the end of the body."));
    const timer = setTimeout(() => finish(new SlipwayError("request_timeout", "The body did not arrive in time.")), ms);
    if (request.destroyed) return onClose();
    request.on("data", onData).on("end", onEnd).on("close", onClose).on("error", finish);
  });
  return buffer.toBuffer();
}

/** One buffer that doubles when it is full, up to a limit. */
class GrowingBuffer {
  readonly #limit: number;
  #storage: Buffer;
  #size = 0;

  constructor(initialBytes: number, limit: number) {
    this.#limit = limit;
    this.#storage = Buffer.allocUnsafeSlow(initialBytes);
  }

  /** @returns false when the chunk would exceed the limit; it is not appended then. */
  append(chunk: Buffer): boolean {
    const size = this.#size + chunk.length;
    if (size > this.#limit) return false;
    if (size > this.#storage.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(this.#limit, Math.max(size, 2 * this.#storage.length)));
      this.#storage.copy(larger, 0, 0, this.#size);
      this.#storage = larger;
    }
    chunk.copy(this.#storage, this.#size);
    this.#size = size;
    return true;
  }

  toBuffer(): Buffer {
    return this.#storage.subarray(0, this.#size);
  }
}

/**
 * Reads and drops the rest of a refused request for at most `ms`, so that the sender reads the
 * answer instead of a reset connection.
 */
export function discardRest(request: IncomingMessage, ms = DISCARD_MS): void {
  if (request.complete) return;
  const timer = setTimeout(() => request.destroy(), ms);
  request.once("close", () => clearTimeout(timer));
  request.resume();
}

/**
 * @param edit changes the text before it is parsed.
 * @throws SlipwayError invalid_request
 */
export function parseJsonBody(bytes: Buffer, limits: Required<JsonLimits>, edit?: (text: string) => string): unknown {
  const result = parseJson(bytes, limits, edit);
  if (result.state === "parsed") return result.value;
  switch (result.problem) {
    case "too_deep":
      throw new SlipwayError("invalid_request", `The body is nested deeper than ${limits.depth} levels.`);
    case "too_many_values":
      throw new SlipwayError("invalid_request", `The body holds more than ${limits.values} values.`);
    case "not_utf8":
    case "not_json":
      throw new SlipwayError("invalid_request", "The body is not JSON.");
  }
}
