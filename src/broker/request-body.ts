/**
 * How the bodies of one attempt's requests come in. Whoever sends them is hostile, and holds as
 * many connections as it may.
 *
 * I1 A body is read when there is room for all of it among those that are held already. Until then
 *    it stays where it is: in the sender's socket.
 * I2 Room is given in the order in which it was asked for, and a body that does not come in time
 *    gives it back.
 * I3 What is held takes no more memory than its bytes say: pieces are copied into one buffer, and
 *    JSON is measured before it is parsed.
 */
import type { IncomingMessage } from "node:http";
import { SlipwayError } from "../core/error.ts";
import { Semaphore, type Release } from "./semaphore.ts";

export const BODY_MS = 30_000;
const REST_MS = 2_000;
/** What a body without a length gets first. */
const FIRST_BYTES = 64 * 1024;

export interface BodyReaderOptions {
  /** Bytes of bodies that are held at once. */
  readonly bytes: number;
  /**
   * Bodies that may wait for room; further ones are refused. Even one that is not read has its
   * first 64 KiB here, which take some MB when they came in pieces of one byte.
   */
  readonly maxWaiting: number;
  /** How long a body may take to come once it is read. */
  readonly ms: number;
}

/** A body that was read, with its room. */
export interface ReceivedBody {
  readonly bytes: Buffer;
  /** To be called when nothing of it is held any more. */
  readonly release: Release;
}

export class BodyReader {
  readonly #room: Semaphore;
  readonly #options: BodyReaderOptions;

  constructor(options: BodyReaderOptions) {
    this.#options = options;
    this.#room = new Semaphore(options.bytes);
  }

  /**
   * @param limit in bytes; at most what this intake holds. Rejects with the signal's reason when
   * that is aborted while the body waits.
   */
  async receive(request: IncomingMessage, limit: number, signal: AbortSignal): Promise<ReceivedBody> {
    const length = announced(request, limit);
    if (this.#room.waiting >= this.#options.maxWaiting)
      throw new SlipwayError(
        "rate_limited",
        "Too many requests with large bodies at once. Try again when some were answered.",
      );
    const release = await this.#room.acquire(length, signal);
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

/** How many bytes may come; a body that does not say its length may be as long as any. */
function announced(request: IncomingMessage, limit: number): number {
  const length = request.headers["content-length"];
  if (length === undefined) return request.headers["transfer-encoding"] === undefined ? 0 : limit;
  if (Number(length) > limit) throw tooLarge(limit);
  return Number(length);
}

/** Leaves nothing of itself at the request, which may live for as long as its answer takes. */
async function readBytes(request: IncomingMessage, limit: number, ms: number): Promise<Buffer> {
  const gathered = new Gathered(Number(request.headers["content-length"] ?? FIRST_BYTES), limit);
  await new Promise<void>((resolve, reject) => {
    const end = (error?: Error): void => {
      clearTimeout(timer);
      request.off("data", take).off("end", whole).off("close", cut).off("error", end);
      if (error === undefined) return resolve();
      request.resume();
      reject(error);
    };
    const take = (piece: Buffer): void => {
      if (!gathered.add(piece)) end(tooLarge(limit));
    };
    const whole = (): void => end();
    const cut = (): void => end(new SlipwayError("invalid_request", "The body was cut short."));
    const timer = setTimeout(() => end(new SlipwayError("request_timeout", "The body did not arrive in time.")), ms);
    if (request.destroyed) return cut();
    request.on("data", take).on("end", whole).on("close", cut).on("error", end);
  });
  return gathered.bytes();
}

/** One buffer that grows as it must. */
class Gathered {
  readonly #limit: number;
  #all: Buffer;
  #size = 0;

  constructor(first: number, limit: number) {
    this.#limit = limit;
    this.#all = Buffer.allocUnsafeSlow(first);
  }

  /** @returns false when that is too much; it was not added then. */
  add(piece: Buffer): boolean {
    const size = this.#size + piece.length;
    if (size > this.#limit) return false;
    if (size > this.#all.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(this.#limit, Math.max(size, 2 * this.#all.length)));
      this.#all.copy(larger, 0, 0, this.#size);
      this.#all = larger;
    }
    piece.copy(this.#all, this.#size);
    this.#size = size;
    return true;
  }

  bytes(): Buffer {
    return this.#all.subarray(0, this.#size);
  }
}

/** Reads what a refused caller still sends, so that the answer reaches it, but not for long. */
export function discardRest(request: IncomingMessage): void {
  if (request.complete) return;
  const timer = setTimeout(() => request.destroy(), REST_MS);
  request.once("close", () => clearTimeout(timer));
  request.resume();
}

export interface JsonLimits {
  /** Deeper JSON would overflow the stack of whoever walks it later. */
  readonly depth: number;
  /** Objects, lists and what stands in them. Three bytes of JSON can be an object of sixty. */
  readonly values: number;
}

/** @param edit what becomes of the text before it is parsed. */
export function parseJson(bytes: Buffer, limits: JsonLimits, edit: (text: string) => string = (text) => text): unknown {
  const { depth, values } = measure(bytes);
  if (depth > limits.depth)
    throw new SlipwayError("invalid_request", `The body is nested deeper than ${limits.depth} levels.`);
  if (values > limits.values)
    throw new SlipwayError("invalid_request", `The body holds more than ${limits.values} values.`);
  try {
    return JSON.parse(edit(new TextDecoder("utf-8", { fatal: true }).decode(bytes))) as unknown;
  } catch {
    throw new SlipwayError("invalid_request", "The body is not JSON.");
  }
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Without recursion, and before there are objects: the point is to survive what is too much. */
function measure(bytes: Buffer): JsonLimits {
  let deepest = 0;
  let depth = 0;
  let values = 1;
  let inString = false;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (inString) {
      if (byte === BACKSLASH) at += 1;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === COMMA) values += 1;
    else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
      values += 1;
      depth += 1;
      if (depth > deepest) deepest = depth;
    } else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) depth -= 1;
  }
  return { depth: deepest, values };
}
