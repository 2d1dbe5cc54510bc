/**
 * Reads the bodies of requests, and sends answers that are whole in memory.
 *
 * A body is JSON: bounded in bytes and depth, valid UTF-8, no lone surrogates. Or it is the form
 * that programs send by the rules of OAuth.
 *
 * A1 A GET has a weak ETag of its text, and is answered with 304 while the text stays the same. The
 *    text is made in any case: this saves bytes, not work.
 * A2 Only answers to GETs are compressed: an answer to another call may contain a new secret beside
 *    text of the client.
 */
import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import compression from "compression";
import type { Request, RequestHandler, Response } from "express";
import { SlipwayError } from "../../core/error.ts";
import { parseJson, type JsonProblem } from "../../core/lib/json/json-limits.ts";
import { BODY_LIMIT } from "../../core/protocol/rest.ts";
import type { RouteReply } from "../route.ts";

const DEPTH = 32;

const PROBLEMS: Readonly<Record<JsonProblem, string>> = {
  too_deep: `The body is nested deeper than ${DEPTH}.`,
  too_many_values: "The body has too many values.",
  not_utf8: "The body is not UTF-8.",
  not_json: "The body is not JSON.",
};

/**
 * Returns the parsed body; `{}` when it is empty.
 * @throws SlipwayError `invalid_request`, `payload_too_large`, `unsupported_media_type`,
 * `request_timeout`.
 */
export async function readBody(request: IncomingMessage): Promise<unknown> {
  const bytes = await readBytes(request);
  if (bytes.length === 0) return {};
  checkMedia(request);
  return parseStrict(bytes);
}

/** As `readBody`; a field that is repeated is refused, as RFC 6749 says. */
export async function readForm(request: IncomingMessage): Promise<unknown> {
  const bytes = await readBytes(request);
  if (
    !/^application\/x-www-form-urlencoded\s*(;\s*charset="?utf-8"?\s*)?$/i.test(request.headers["content-type"] ?? "")
  )
    throw new SlipwayError("unsupported_media_type", "Send Content-Type: application/x-www-form-urlencoded.");
  const pairs = [...new URLSearchParams(bytes.toString("utf8"))];
  const fields = Object.fromEntries(pairs);
  if (Object.keys(fields).length !== pairs.length)
    throw new SlipwayError("invalid_request", "A field of the form is repeated.");
  return fields;
}

function parseStrict(bytes: Uint8Array): unknown {
  const result = parseJson(bytes, { depth: DEPTH });
  if (result.state === "refused") throw new SlipwayError("invalid_request", PROBLEMS[result.problem]);
  checkText(result.value, "");
  return result.value;
}

async function readBytes(request: IncomingMessage): Promise<Buffer> {
  const tooLarge = new SlipwayError("payload_too_large", `At most ${BODY_LIMIT} bytes.`);
  if (Number(request.headers["content-length"] ?? 0) > BODY_LIMIT) throw tooLarge;
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    const done = (settle: () => void): void => {
      request.off("data", onData).off("end", onEnd).off("close", onClose);
      settle();
    };
    const onData = (chunk: Buffer): void => {
      size += chunk.length;
      if (size > BODY_LIMIT) done(() => reject(tooLarge));
      else chunks.push(chunk);
    };
    const onEnd = (): void => done(() => resolve(Buffer.concat(chunks)));
    const onClose = (): void =>
      done(() => reject(new SlipwayError("request_timeout", "The connection ended before the body.")));
    request.on("data", onData).on("end", onEnd).on("close", onClose);
    request.on("error", () => undefined);
  });
}

function checkMedia(request: IncomingMessage): void {
  const type = request.headers["content-type"] ?? "";
  const encoding = request.headers["content-encoding"] ?? "identity";
  if (!/^application\/json\s*(;\s*charset="?utf-8"?\s*)?$/i.test(type)) {
    throw new SlipwayError("unsupported_media_type", "Send Content-Type: application/json.");
  }
  if (encoding !== "identity")
    throw new SlipwayError("unsupported_media_type", "Send the body without Content-Encoding.");
}

function checkText(value: unknown, path: string): void {
  if (typeof value === "string") {
    if (/\p{Surrogate}/u.test(value)) throw fieldError(path, "must not contain a lone surrogate");
  } else if (Array.isArray(value)) {
    value.forEach((item, index) => checkText(item, path === "" ? `${index}` : `${path}.${index}`));
  } else if (typeof value === "object" && value !== null) {
    for (const [key, item] of Object.entries(value)) {
      const inner = path === "" ? key.slice(0, 100) : `${path}.${key.slice(0, 100)}`;
      checkText(key, inner);
      checkText(item, inner);
    }
  }
}

function fieldError(path: string, message: string): SlipwayError {
  return new SlipwayError("invalid_request", "The body is not valid: see errors.", { errors: [{ path, message }] });
}

/** Bytes below which compression saves nothing. */
const WORTHWHILE = 1_024;

/** Compresses what `send` sends (A2). */
export function compressAnswers(): RequestHandler {
  return compression({
    threshold: WORTHWHILE,
    filter: (request, response) => request.method === "GET" && compression.filter(request, response),
  });
}

export function setHeaders(response: Response, headers: RouteReply["headers"] = {}): Response {
  for (const [name, value] of Object.entries(headers))
    response.setHeader(name, typeof value === "string" ? value : [...value]);
  return response;
}

/** UTF-16 units of a long text that are handed to the connection at once: they show progress. */
const CHUNK_LENGTH = 64 * 1_024;

export async function send(
  { request, response }: { readonly request: Request; readonly response: Response },
  { status, body, media, headers }: RouteReply,
): Promise<void> {
  setHeaders(response.status(status), headers);
  if (body === undefined) return void response.end();
  const text = media === undefined ? JSON.stringify(body) : String(body);
  if (status === 200 && isRead(request) && isKnown(request, setEtag(response, text)))
    return void response.status(304).end();
  response.setHeader("Content-Type", `${media ?? "application/json"}; charset=utf-8`);
  if (text.length <= CHUNK_LENGTH || request.method === "HEAD") return void response.end(text);
  response.setHeader("Content-Length", Buffer.byteLength(text));
  await pipeline(Readable.from(chunksOf(text)), response).catch(() => response.destroy());
}

/** Slices share the memory of the text. */
function* chunksOf(text: string): Generator<string> {
  for (let from = 0, to = 0; from < text.length; from = to) {
    to = from + CHUNK_LENGTH;
    // Both halves of a character outside of the basic plane stay together.
    if (/[\ud800-\udbff]/.test(text.charAt(to - 1))) to += 1;
    yield text.slice(from, to);
  }
}

const isRead = ({ method }: Request): boolean => method === "GET" || method === "HEAD";

function setEtag(response: Response, text: string): string {
  const etag = `W/"${createHash("sha1").update(text).digest("base64url")}"`;
  response.setHeader("ETag", etag);
  // A copy is used only after the server confirmed it, and only by the same person.
  response.setHeader("Cache-Control", "private, no-cache");
  response.vary("Authorization");
  return etag;
}

/**
 * Not `request.fresh`: a page that sends If-None-Match itself gets `Cache-Control: no-cache` added
 * by its browser, which that takes for a reload.
 */
function isKnown({ headers }: Request, etag: string): boolean {
  const known = headers["if-none-match"]?.split(",").map((text) => text.trim()) ?? [];
  return known.includes(etag) || known.includes("*");
}
