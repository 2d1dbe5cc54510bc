/**
 * Parses JSON from an untrusted sender within limits that are checked before parsing. Pure.
 *
 * J1 Nesting and the number of values are measured on the bytes, without recursion and without
 *    allocating, so a body beyond its limits costs one pass over its bytes and nothing else.
 * J2 Text that is not UTF-8 is refused; it is never repaired.
 */

export interface JsonLimits {
  /** Levels of objects and arrays. Deeper JSON overflows the stack of code that walks it later. */
  readonly depth: number;
  /**
   * Objects, arrays and their items; three bytes of JSON become an object of sixty. Absent: any.
   */
  readonly values?: number;
}

export type JsonProblem = "too_deep" | "too_many_values" | "not_utf8" | "not_json";

export type JsonResult =
  | { readonly state: "parsed"; readonly value: unknown }
  | { readonly state: "refused"; readonly problem: JsonProblem };

/** @param edit changes the decoded text before it is parsed. */
export function parseJson(
  bytes: Uint8Array,
  limits: JsonLimits,
  edit: (text: string) => string = (text) => text,
): JsonResult {
  const size = measureJson(bytes);
  if (size.depth > limits.depth) return { state: "refused", problem: "too_deep" };
  if (size.values > (limits.values ?? Infinity)) return { state: "refused", problem: "too_many_values" };
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return { state: "refused", problem: "not_utf8" };
  }
  try {
    return { state: "parsed", value: JSON.parse(edit(text)) as unknown };
  } catch {
    return { state: "refused", problem: "not_json" };
  }
}

const QUOTE = 0x22;
const COMMA = 0x2c;
const OPEN_ARRAY = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Upper bounds for valid JSON; for anything else the numbers only have to be computed safely. */
function measureJson(bytes: Uint8Array): Required<JsonLimits> {
  let deepest = 0;
  let depth = 0;
  let values = 1;
  let inString = false;
  for (let offset = 0; offset < bytes.length; offset += 1) {
    const byte = bytes[offset];
    if (inString) {
      if (byte === BACKSLASH) offset += 1;
      else if (byte === QUOTE) inString = false;
    } else if (byte === QUOTE) inString = true;
    else if (byte === COMMA) values += 1;
    else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      values += 1;
      depth += 1;
      if (depth > deepest) deepest = depth;
    } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) depth -= 1;
  }
  return { depth: deepest, values };
}
