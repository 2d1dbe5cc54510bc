/**
 * Reads the body of a request strictly: bounded, UTF-8 through and through, JSON, not nested
 * without end.
 */
import type { IncomingMessage } from "node:http";
import { SlipwayError } from "../core/error.ts";
import { BODY_LIMIT } from "../core/protocol/rest.ts";

const DEPTH = 32;

/**
 * The parsed body; `{}` when there is none. Throws invalid_request, payload_too_large,
 * unsupported_media_type.
 */
export async function readBody(request: IncomingMessage): Promise<unknown> {
  const bytes = await readBytes(request);
  if (bytes.length === 0) return {};
  checkMedia(request);
  return parseStrict(bytes);
}

function parseStrict(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new SlipwayError("invalid_request", "The body is not UTF-8.");
  }
  checkDepth(text);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new SlipwayError("invalid_request", "The body is not JSON.");
  }
  checkText(value, "");
  return value;
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
    const onClose = (): void => done(() => reject(new SlipwayError("request_timeout", "The body never came.")));
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

/** Before parsing: nesting costs stack in everything that walks the value later. */
function checkDepth(text: string): void {
  let depth = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (quoted) {
      if (char === "\\") i++;
      else if (char === '"') quoted = false;
    } else if (char === '"') quoted = true;
    else if (char === "{" || char === "[") {
      if (++depth > DEPTH) throw new SlipwayError("invalid_request", `The body is nested deeper than ${DEPTH}.`);
    } else if (char === "}" || char === "]") depth--;
  }
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
