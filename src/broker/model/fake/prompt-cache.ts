/**
 * The provider's prompt cache, so that the bill of a test is the bill.
 *
 * H1 A prompt is the sequence tools, system, messages. An entry covers everything before its mark:
 *    a change of the tools or of the system prompt invalidates all that follows.
 * H2 A change of `tool_choice` or `thinking` invalidates the messages, not the tools and the system
 *    prompt.
 * H3 Entries are written at marks only and found at a mark, or at most 19 blocks before it.
 * H4 An entry lives for five minutes or an hour from its last use, as its mark says.
 */
import { createHash } from "node:crypto";
import { canonicalJson } from "../../../core/lib/json/canonical-json.ts";
import { getBlocks, type Block, type FakeRequest } from "./strict.ts";

/** Tokens. */
export interface PromptTokens {
  readonly total: number;
  readonly read: number;
  readonly written5m: number;
  readonly written1h: number;
}

/** A prefix of the prompt that ends with a block. */
interface Prefix {
  readonly digest: string;
  readonly tokens: number;
  /** How long an entry that is written here lives, ms; null = the block has no mark. */
  readonly mark: number | null;
}

const LOOKBACK = 20;
const FIVE_MINUTES = 5 * 60_000;
const HOUR = 60 * 60_000;
const CHARACTERS_PER_TOKEN = 4;
const IGNORED: ReadonlySet<string> = new Set(["cache_control"]);

/** A fixed ratio, so that counts are reproducible. */
const toTokens = (characters: number): number => Math.ceil(characters / CHARACTERS_PER_TOKEN);
export const countTokens = (text: string): number => toTokens(text.length);

function readMark(value: unknown): number | null {
  if (typeof value !== "object" || value === null || !("cache_control" in value)) return null;
  const { cache_control: control } = value as { cache_control?: { ttl?: unknown } | null };
  if (control === null || control === undefined) return null;
  return control.ttl === "1h" ? HOUR : FIVE_MINUTES;
}

function listPrefixes(request: FakeRequest): Prefix[] {
  const hash = createHash("sha256").update(request.model);
  const prefixes: Prefix[] = [];
  let characters = 0;
  const add = (kind: string, block: unknown, mark: number | null): void => {
    const text = canonicalJson(block, IGNORED);
    characters += text.length;
    hash.update(`${kind} ${text}\n`);
    prefixes.push({ digest: hash.copy().digest("base64"), tokens: toTokens(characters), mark });
  };
  for (const tool of request.tools ?? []) add("tool", tool, readMark(tool));
  const { system = [] } = request;
  const blocks: readonly Block[] = typeof system === "string" ? [{ type: "text", text: system }] : system;
  for (const block of blocks) add("system", block, readMark(block));
  hash.update(canonicalJson([request.tool_choice ?? null, request.thinking ?? null]));
  const last = request.messages.at(-1);
  for (const message of request.messages) {
    const content = getBlocks(message);
    for (const [i, block] of content.entries()) {
      // A mark of the whole request is one of its last block.
      const isEnd = message === last && i === content.length - 1;
      add(message.role, block, readMark(block) ?? (isEnd ? readMark(request) : null));
    }
  }
  return prefixes;
}

/** Tokens of tools, system and messages. */
export const countPromptTokens = (request: FakeRequest): number => listPrefixes(request).at(-1)?.tokens ?? 0;

export class PromptCache {
  /** When the entry of a prefix ends, and how long it lives from each use. */
  readonly #entries = new Map<string, { readonly until: number; readonly livesMs: number }>();
  readonly #now: () => number;

  /** @param now ms. */
  constructor(now: () => number = () => Date.now()) {
    this.#now = now;
  }

  /** Serves one request: what it reads from the cache, and what it writes. */
  use(request: FakeRequest): PromptTokens {
    const prefixes = listPrefixes(request);
    const marks = prefixes.flatMap(({ mark }, i) => (mark === null ? [] : [i]));
    let read = 0;
    for (const end of marks) {
      const nearby = prefixes.slice(Math.max(0, end - LOOKBACK + 1), end + 1);
      const found = nearby.findLast(({ digest }) => this.#touch(digest));
      read = Math.max(read, found?.tokens ?? 0);
    }
    let [counted, written5m, written1h] = [read, 0, 0];
    for (const end of marks) {
      const { digest, tokens, mark } = prefixes[end] as Prefix;
      const written = Math.max(0, tokens - counted);
      counted = Math.max(counted, tokens);
      if (mark === HOUR) written1h += written;
      else written5m += written;
      const livesMs = mark ?? FIVE_MINUTES;
      this.#entries.set(digest, { until: this.#now() + livesMs, livesMs });
    }
    return { total: prefixes.at(-1)?.tokens ?? 0, read, written5m, written1h };
  }

  /** @returns true when there is a living entry; its life begins again. */
  #touch(digest: string): boolean {
    const entry = this.#entries.get(digest);
    if (entry === undefined || entry.until < this.#now()) return false;
    this.#entries.set(digest, { ...entry, until: this.#now() + entry.livesMs });
    return true;
  }
}
