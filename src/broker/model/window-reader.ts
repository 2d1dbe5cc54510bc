/** Reads the size of a model's window from what the provider says of the model, as it passes. */
import { z } from "zod";

/** A larger answer is not of one model. */
const LARGEST = 64 * 1024;
/** More models than a provider has. */
const MOST = 200;

const modelSchema = z.looseObject({ max_input_tokens: z.int().positive() });

export class WindowReader {
  readonly #windows: Map<string, number> | undefined;
  /** Null = the request is not about one model, or the answer is too large. */
  #model: string | null;
  readonly #chunks: Buffer[] = [];
  #bytes = 0;

  /** @param path of the request. */
  constructor(path: string, windows: Map<string, number> | undefined) {
    this.#windows = windows;
    this.#model = /^\/v1\/models\/([\w.-]+)(?:\?|$)/.exec(path)?.[1] ?? null;
  }

  add(chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > LARGEST) this.#model = null;
    if (this.#model !== null) this.#chunks.push(chunk);
  }

  end(): void {
    const windows = this.#windows;
    if (this.#model === null || windows === undefined) return;
    const { data } = modelSchema.safeParse(parse(Buffer.concat(this.#chunks).toString()));
    if (data !== undefined && (windows.size < MOST || windows.has(this.#model)))
      windows.set(this.#model, data.max_input_tokens);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
