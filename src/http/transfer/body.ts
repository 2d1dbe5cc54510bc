/**
 * Reads the JSON body of a request: bounded in bytes and depth, valid UTF-8, no lone surrogates. Or
 * the form that programs send by the rules of OAuth.
 */
import type { IncomingMessage } from "node:http";
import { SlipwayError } from "../../core/error.ts";
import { parseJson, type JsonProblem } from "../../core/lib/json/json-limits.ts";
import { BODY_LIMIT } from "../../core/protocol/rest.ts";

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
