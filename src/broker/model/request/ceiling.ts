/**
 * The most that a request can be billed, known before it is sent. A budget reserves it.
 *
 * C1 A prompt has no more tokens than its JSON has bytes. Media are the exception: a few bytes of
 *    an image or of a PDF are many tokens, so each has a ceiling of its own.
 * C2 Prompt tokens cost at most what writing them to the cache costs, if the request asks for a
 *    cache at all; output costs at most `max_tokens`. For an hour only what stands up to the last
 *    mark of an hour can be written: tools and system prompt come before the messages.
 * C3 A request that may compact its conversation is billed for two passes.
 */

export interface RequestCeiling {
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** The request has a cache mark. */
  readonly cached: boolean;
  /** Of `inputTokens`, what can be written to the cache for an hour. */
  readonly hourTokens: number;
  /** How often the provider may read the prompt and write an answer. */
  readonly passes: 1 | 2;
  /** True when the request asks for the dearer, faster service. */
  readonly fast: boolean;
}

/** The largest context window of any model, in tokens: a longer prompt is refused, not billed. */
const WINDOW = 1_000_000;
/** Of one image in the highest resolution. */
const IMAGE_TOKENS = 5_000;
/** What the provider adds for tools, thinking and its own instructions. */
const ADDED_TOKENS = 4_000;

interface Media {
  /** Characters of base64 data, which are no tokens themselves. */
  encoded: number;
  images: number;
  pdfs: number;
  cached: boolean;
  /** There is a cache mark of an hour. */
  hour: boolean;
}

const noMedia = (): Media => ({ encoded: 0, images: 0, pdfs: 0, cached: false, hour: false });

/**
 * @param body the request as it is sent. Recursion is safe: the depth was limited before parsing.
 */
export function computeCeiling(request: Readonly<Record<string, unknown>>, body: string): RequestCeiling {
  const [head, media] = [noMedia(), noMedia()];
  // Tools have schemas of any content; nothing in them is an image.
  const { tools, system, ...rest } = request;
  inspect(system, head);
  if (Array.isArray(tools)) for (const tool of tools) inspect({ cache_control: readCache(tool) }, head);
  inspect(rest, media);
  const bytes = Buffer.byteLength(body) - media.encoded - head.encoded;
  const images = media.images + head.images;
  const tokens = media.pdfs + head.pdfs > 0 ? WINDOW : Math.min(WINDOW, bytes + images * IMAGE_TOKENS + ADDED_TOKENS);
  const headTokens =
    head.pdfs > 0 ? WINDOW : countBytes(tools) + countBytes(system) + head.images * IMAGE_TOKENS + ADDED_TOKENS;
  const maxTokens = request["max_tokens"];
  const compacts = "compaction" in request || /compact/.test(JSON.stringify(request["context_management"] ?? null));
  return {
    inputTokens: tokens,
    outputTokens: typeof maxTokens === "number" ? maxTokens : 0,
    cached: head.cached || media.cached,
    // A mark anywhere after the system prompt covers a part of the messages, perhaps all of them.
    hourTokens: media.hour ? tokens : head.hour ? Math.min(tokens, headTokens) : 0,
    passes: compacts ? 2 : 1,
    fast: request["speed"] === "fast",
  };
}

function inspect(value: unknown, media: Media): void {
  if (Array.isArray(value)) {
    for (const item of value) inspect(item, media);
    return;
  }
  if (typeof value !== "object" || value === null) return;
  // The input of a call is text to the provider, whatever it looks like.
  const { type, source, cache_control: cache, input: _input, ...fields } = value as Readonly<Record<string, unknown>>;
  if ((type === "image" || type === "document") && isEncoded(source)) {
    media.encoded += source.data.length;
    if (type === "image") media.images += 1;
    else media.pdfs += 1;
  } else inspect(source, media);
  if (typeof cache === "object" && cache !== null) {
    media.cached = true;
    media.hour ||= (cache as { ttl?: unknown }).ttl === "1h";
  }
  for (const item of Object.values(fields)) inspect(item, media);
}

const countBytes = (value: unknown): number => Buffer.byteLength(JSON.stringify(value ?? null));

const readCache = (tool: unknown): unknown =>
  typeof tool === "object" && tool !== null ? (tool as { cache_control?: unknown }).cache_control : null;

const isEncoded = (source: unknown): source is { readonly data: string } =>
  typeof source === "object" &&
  source !== null &&
  (source as { type?: unknown }).type === "base64" &&
  typeof (source as { data?: unknown }).data === "string";
