/**
 * Removes known secrets from text: the value as it is, its lines, and the ways in which programs
 * write it down (base64 at each offset, URL-encoded, as JSON). Encodings that a program makes up
 * are not found.
 */

/** Never longer than what it replaces. */
const MARK = "[secret]";
const SHORT_MARK = "***";
/** A shorter form stands in too many places. */
const SHORTEST = 8;
/** Lines of a longer value, such as a key: a program may indent them. */
const SHORTEST_LINE = 16;

/** The texts that reveal the value, the longest first. */
export function secretForms(value: string): readonly string[] {
  const plain = value.trim();
  const lines = plain.split(/\r?\n/).map((line) => line.trim());
  const texts = [...new Set([value, plain, ...lines.filter((line) => line.length >= SHORTEST_LINE)])];
  const forms = texts.flatMap((text) => [text, ...encode(text)]);
  return [...new Set(forms)].filter((form) => form.length >= SHORTEST).toSorted((a, b) => b.length - a.length);
}

function encode(text: string): string[] {
  const url = encodeURIComponent(text);
  const base64 = base64Forms(Buffer.from(text));
  return [
    text.toLowerCase(),
    JSON.stringify(text).slice(1, -1),
    url,
    url.replaceAll(/%[0-9A-F]{2}/g, (code) => code.toLowerCase()),
    url.replaceAll("%20", "+"),
    Buffer.from(text).toString("hex"),
    ...base64,
    ...base64.map((form) => form.replaceAll("+", "-").replaceAll("/", "_")),
  ];
}

/** What is the same in the base64 of any text that contains the bytes, at each of three offsets. */
function base64Forms(bytes: Buffer): string[] {
  return [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes])
      .toString("base64")
      .replace(/=+$/, "");
    const after = (before + bytes.length) % 3;
    // Characters that also hold bits of the neighbours differ.
    return text.slice(before === 0 ? 0 : before + 1, after === 0 ? undefined : -1);
  });
}

/**
 * Removes a credential from what a program or a host says. The whole text: half of a secret is not
 * recognised. A token that is shorter than other secrets may be is removed too.
 */
export function redactCredential(text: string, { username, token }: { username: string; token: string }): string {
  if (token === "") return text;
  const short = [token, encodeURIComponent(token), toBase64(token), toBase64(`${username}:${token}`)];
  const forms = [...new Set([...short, ...secretForms(token)])].toSorted((a, b) => b.length - a.length);
  return forms.reduce((clean, form) => clean.replaceAll(form, SHORT_MARK), text);
}

const toBase64 = (text: string): string => Buffer.from(text).toString("base64");

export class Redactor {
  readonly #forms: readonly string[];

  constructor(values: readonly string[]) {
    const forms = new Set(values.flatMap(secretForms));
    this.#forms = [...forms].toSorted((a, b) => b.length - a.length);
  }

  redact(text: string): string {
    let result = text;
    for (const form of this.#forms) if (result.includes(form)) result = result.replaceAll(form, MARK);
    return result;
  }

  /** The same for each text in a JSON value, names included. */
  redactValue(value: unknown): unknown {
    if (typeof value === "string") return this.redact(value);
    if (Array.isArray(value)) return value.map((item) => this.redactValue(item));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [this.redact(key), this.redactValue(item)]));
  }

  /** Removes secrets from a text that arrives in pieces. */
  stream(): StreamRedactor {
    return new StreamRedactor(this, this.#forms);
  }
}

/** Holds back the end of what has arrived while it may be the beginning of a secret. */
export class StreamRedactor {
  readonly #redactor: Redactor;
  readonly #forms: readonly string[];
  #held = "";

  constructor(redactor: Redactor, forms: readonly string[]) {
    this.#redactor = redactor;
    this.#forms = forms;
  }

  push(piece: string): string {
    const text = this.#redactor.redact(this.#held + piece);
    const held = Math.max(0, ...this.#forms.map((form) => overlap(text, form)));
    this.#held = text.slice(text.length - held);
    return text.slice(0, text.length - held);
  }

  /** What was held back. */
  end(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }
}

/** Length of the longest end of `text` that is a beginning of `form`, and not all of it. */
function overlap(text: string, form: string): number {
  for (let length = Math.min(text.length, form.length - 1); length > 0; length -= 1)
    if (text.endsWith(form.slice(0, length))) return length;
  return 0;
}
