/**
 * Removes known secrets from text: the value as it is, its lines, and the ways in which programs
 * write it down (base64 at each offset, URL-encoded, as JSON). Encodings that a program makes up
 * are not found.
 */

/** Never longer than what it replaces. */
const MARK = "[secret]";
const SHORT_MARK = "***";
/** A shorter form would match unrelated text. */
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

/** As the worker writes them where it has left something out, with the line ends around them. */
const CUT_NOTE = /(\n?\[\.\.\.(?: [^\n]*)?\]\n?|\.\.\. \(\d+ characters[^\n]*\n?)/;

/** The ends at which a text was cut off. */
interface Torn {
  readonly start: boolean;
  readonly end: boolean;
}

const NONE: ReadonlySet<string> = new Set();

/** Removes secrets without revealing them. */
export type Redaction = Pick<Redactor, "blank" | "longest" | "redact" | "redactTorn" | "redactValue" | "stream">;

export class Redactor {
  readonly #marks: ReadonlyMap<string, string>;
  readonly #forms: readonly string[];

  /** @param named others, which are replaced by marks of their own, not longer than they are. */
  constructor(values: readonly string[], named: Readonly<Record<string, string>> = {}) {
    const all = [...values.map((value) => [value, MARK] as const), ...Object.entries(named)];
    this.#marks = new Map(all.flatMap(([value, mark]) => secretForms(value).map((form) => [form, mark] as const)));
    this.#forms = [...this.#marks.keys()].toSorted((a, b) => b.length - a.length);
  }

  /** Characters of the longest text that reveals a secret; 0 = there is none. */
  get longest(): number {
    return this.#forms[0]?.length ?? 0;
  }

  /** Removes also what is left of a secret beside a note like `[... 10 bytes left out ...]`. */
  redact(text: string): string {
    return this.#redact(text, { start: false, end: false });
  }

  /** For a text that somebody has cut: removes also what its ends hold of a secret. */
  redactTorn(text: string): string {
    return this.#redact(text, { start: true, end: true });
  }

  /**
   * Replaces each secret by as many other characters, for files whose bytes are counted.
   * @param bytes as characters (latin1).
   */
  blank(bytes: string): string {
    let result = bytes;
    for (const form of this.#forms) {
      const written = Buffer.from(form).toString("latin1");
      if (result.includes(written)) result = result.replaceAll(written, "x".repeat(written.length));
    }
    return result;
  }

  /**
   * The same as `redact` for each text in a JSON value, names included.
   * @param torn names of fields with truncated texts, whose ends may hold a part of a secret.
   */
  redactValue<T>(value: T, torn: ReadonlySet<string> = NONE): T {
    const walk = (item: unknown, isTorn: boolean): unknown => {
      if (typeof item === "string") return isTorn ? this.redactTorn(item) : this.redact(item);
      if (Array.isArray(item)) return item.map((one) => walk(one, isTorn));
      if (typeof item !== "object" || item === null) return item;
      return Object.fromEntries(
        Object.entries(item).map(([name, one]) => [this.redact(name), walk(one, torn.has(name))]),
      );
    };
    return this.#forms.length === 0 ? value : (walk(value, false) as T);
  }

  /** Removes secrets from a text that arrives in pieces. */
  stream(): StreamRedactor {
    return new StreamRedactor(this, this.#forms);
  }

  #redact(text: string, torn: Torn): string {
    if (this.#forms.length === 0) return text;
    let result = text;
    for (const form of this.#forms)
      if (result.includes(form)) result = result.replaceAll(form, this.#marks.get(form) ?? MARK);
    const pieces = result.includes("...") ? result.split(CUT_NOTE) : [result];
    const last = pieces.length - 1;
    const clean = (piece: string, at: number): string =>
      this.#redactEnds(piece, { start: at > 0 || torn.start, end: at < last || torn.end });
    return pieces.map((piece, at) => (at % 2 === 1 ? piece : clean(piece, at))).join("");
  }

  #redactEnds(piece: string, { start, end }: Torn): string {
    if (piece.length < SHORTEST) return piece;
    if (start && end && this.#forms.some((form) => form.includes(piece))) return MARK;
    const last = end ? Math.max(...this.#forms.map((form) => overlap(piece, form))) : 0;
    const kept = last < SHORTEST ? piece : piece.slice(0, piece.length - last) + MARK;
    const first = start ? Math.max(...this.#forms.map((form) => overlapStart(kept, form))) : 0;
    return first < SHORTEST ? kept : MARK + kept.slice(first);
  }
}

export const NO_SECRETS: Redaction = new Redactor([]);

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

/** Length of the longest beginning of `text` that is an end of `form`, and not all of it. */
function overlapStart(text: string, form: string): number {
  for (let length = Math.min(text.length, form.length - 1); length > 0; length -= 1)
    if (text.startsWith(form.slice(form.length - length))) return length;
  return 0;
}
