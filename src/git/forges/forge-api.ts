/**
 * JSON calls to the API of one forge with a person's git credential as the token, and what the
 * answers mean for a task.
 *
 * H1 The token is in one header of one call; it is removed from every text that leaves this file.
 * H2 What a forge sends is data: it is parsed against a schema, and its words are cut and quoted.
 */
import type { z } from "zod";
import { TaskFailure } from "../../core/failure.ts";
import { errorMessage } from "../../core/error.ts";
import { redactCredential } from "../../core/lib/json/redaction.ts";
import { parseRetryAfter } from "../../core/lib/retry-after.ts";
import type { GitAuth } from "../../core/ports/repositories.ts";
import type { TokenAnswer } from "../../core/protocol/repositories.ts";
import type { ForgeAddress } from "./forge-address.ts";
import type { GuardedHttp, HttpReply } from "./guarded-http.ts";

/** Of one forge of the installation. */
export interface ForgeOptions extends ForgeAddress {
  readonly http: GuardedHttp;
  /** Epoch ms. */
  readonly now: () => number;
}

export interface ForgeApiOptions extends ForgeOptions {
  /** For people, such as "GitHub". */
  readonly name: string;
  /** What the credential must be allowed to do, as an instruction to a person. */
  readonly scopes: string;
  readonly headers: (token: string) => Readonly<Record<string, string>>;
}

export interface ForgeCall<T> {
  readonly method: "GET" | "POST";
  /** Encoded, with a slash at the beginning. */
  readonly path: string;
  readonly auth: GitAuth | null;
  readonly body?: object;
  readonly schema: z.ZodType<T>;
}

/** What a forge's API says about the token itself. */
export type Identified<T> =
  | { readonly kind: "known"; readonly found: T; readonly headers: HttpReply["headers"] }
  | Exclude<TokenAnswer, { readonly kind: "known" }>;

/** An answer that only the adapter of the forge can judge: 4xx except for the common ones. */
export class ForgeRefusal extends Error {
  readonly status: number;
  readonly text: string;

  constructor(status: number, text: string) {
    super(text);
    this.name = "ForgeRefusal";
    this.status = status;
    this.text = text;
  }
}

/** A call with its credential. */
interface Given {
  readonly auth: GitAuth;
  readonly body: object | undefined;
}

const isSuccess = ({ status }: HttpReply): boolean => status >= 200 && status <= 299;

/** A forge that fails gets this long to recover before it is asked again, ms. */
const RECOVERY_MS = 20_000;
/** A rate limit without an end lasts this long, ms. */
const RATE_LIMIT_MS = 60_000;
const DAY_MS = 24 * 3_600_000;
const QUOTE_CHARS = 400;

export class ForgeApi {
  readonly #options: ForgeApiOptions;
  /** Of the repositories: people add the credential for it. */
  readonly #host: string;

  constructor(options: ForgeApiOptions) {
    this.#options = options;
    this.#host = new URL(options.url).host;
  }

  /**
   * @throws TaskFailure for the answers that mean the same on every forge; ForgeRefusal for the
   * others; the signal's reason when aborted.
   */
  async call<T>({ method, path, auth, body, schema }: ForgeCall<T>, signal: AbortSignal): Promise<T> {
    if (auth === null)
      throw new TaskFailure("pull_request_auth", { detail: `There is no git credential for ${this.#host}: add one.` });
    const reply = await this.#send({ method, path, auth, body }, signal);
    if (!isSuccess(reply)) throw this.#classify(reply, quote(redactCredential(reply.text, auth)));
    return this.#parse(reply, schema);
  }

  /** Reads what a token says about itself. @throws TaskFailure when the forge does not answer. */
  async identify<T>(
    { path, auth, schema }: Pick<ForgeCall<T>, "path" | "schema"> & { readonly auth: GitAuth },
    signal: AbortSignal,
  ): Promise<Identified<T>> {
    const reply = await this.#send({ method: "GET", path, auth, body: undefined }, signal);
    const said = quote(redactCredential(reply.text, auth));
    if (isSuccess(reply)) return { kind: "known", found: this.#parse(reply, schema), headers: reply.headers };
    if (reply.status === 401) return { kind: "refused", said };
    if (reply.status >= 500 || this.#limitedUntil(reply) !== null) throw this.#classify(reply, said);
    return { kind: "unreadable" };
  }

  async #send(
    { method, path, auth, body }: Pick<ForgeCall<unknown>, "method" | "path"> & Given,
    signal: AbortSignal,
  ): Promise<HttpReply> {
    const { apiUrl, http, headers } = this.#options;
    return await http
      .send(
        {
          method,
          url: apiUrl + path,
          headers: {
            accept: "application/json",
            "user-agent": "slipway",
            ...headers(auth.token),
            ...(body === undefined ? {} : { "content-type": "application/json" }),
          },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        },
        signal,
      )
      .catch((error: unknown) => {
        signal.throwIfAborted();
        throw this.#unreachable(redactCredential(errorMessage(error), auth), error);
      });
  }

  #parse<T>({ status, text }: HttpReply, schema: z.ZodType<T>): T {
    const result = schema.safeParse(parseJson(text));
    if (result.success) return result.data;
    throw this.#unreachable(`Its answer (${status}) is not the one of ${this.#options.name}'s API.`);
  }

  #unreachable(detail: string, cause?: unknown): TaskFailure {
    const { name } = this.#options;
    return new TaskFailure("forge_unreachable", {
      detail: `${name} (${this.#host}): ${detail}`.slice(0, 2 * QUOTE_CHARS),
      retryAfterMs: RECOVERY_MS,
      cause,
    });
  }

  #classify(reply: HttpReply, words: string): Error {
    const { name, scopes, now } = this.#options;
    const { status } = reply;
    const limitedUntil = this.#limitedUntil(reply);
    if (limitedUntil !== null) {
      const until = `until ${new Date(limitedUntil).toISOString()}`;
      return new TaskFailure("forge_rate_limited", {
        detail: `${name} limits the requests of this token ${until}.`,
        retryAfterMs: Math.max(0, limitedUntil - now()),
      });
    }
    if (status >= 500) return this.#unreachable(`It answered ${status}. ${words}`);
    if (status >= 300 && status < 400) {
      return new TaskFailure("pull_request_rejected", {
        detail: `The repository has moved (${name} answered ${status}). Submit with its current address.`,
      });
    }
    const refused = (detail: string): TaskFailure => new TaskFailure("pull_request_auth", { detail });
    if (status === 401)
      return refused(
        `${name} does not know the token of the credential for ${this.#host}: replace the credential. ${words}`,
      );
    if (status === 403) return refused(`${name} forbids it. ${scopes} ${words}`);
    if (status === 404)
      return refused(`${name} finds no such repository or branch with this token. ${scopes} ${words}`);
    return new ForgeRefusal(status, words);
  }

  /** When the rate limit that this answer is ends, epoch ms; null when it is none. */
  #limitedUntil({ status, headers, text }: HttpReply): number | null {
    const now = this.#options.now();
    const asked = parseRetryAfter((name) => headers[name], now);
    const isUsedUp = asked !== null || headers["x-ratelimit-remaining"] === "0" || /rate limit/i.test(text);
    if (status !== 429 && !(status === 403 && isUsedUp)) return null;
    if (asked !== null) return now + Math.min(asked, DAY_MS);
    const reset = headers["x-ratelimit-reset"] ?? headers["ratelimit-reset"] ?? "";
    return /^\d{9,11}$/.test(reset) ? Number(reset) * 1_000 : now + RATE_LIMIT_MS;
  }
}

/** What a forge's JSON says, on one line, without control characters. */
function quote(text: string): string {
  const parsed = parseJson(text);
  const said = parsed === undefined ? text : gather(parsed).join("; ");
  const line = said
    .replaceAll(/[\p{Cc}\p{Cf}\s]+/gu, " ")
    .trim()
    .slice(0, QUOTE_CHARS);
  return line === "" ? "" : `It says: "${line}".`;
}

/** The texts under the keys that forges use for explanations. */
function gather(value: unknown, isExplanation = false, depth = 0): string[] {
  if (typeof value === "string") return isExplanation ? [value] : [];
  if (depth > 3 || value === null || typeof value !== "object") return [];
  const known = ["message", "error", "error_description", "errors"];
  return Object.entries(value)
    .slice(0, 10)
    .flatMap(([key, item]) => gather(item, isExplanation || known.includes(key), depth + 1));
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
