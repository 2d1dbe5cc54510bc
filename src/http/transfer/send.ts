/**
 * Sends answers that are whole in memory.
 *
 * A1 A GET has a weak ETag of its text, and is answered with 304 while the text stays the same. The
 *    text is made in any case: this saves bytes, not work.
 * A2 Only answers to GETs are compressed: an answer to another call may contain a new secret beside
 *    text of the client.
 */
import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import compression from "compression";
import type { Request, RequestHandler, Response } from "express";
import type { RouteReply } from "../route.ts";

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
