/**
 * HTTP calls with authentication and retries.
 *
 * C1 After a lost response a call is sent again. One that changes something has an Idempotency-Key,
 *    the same each time, so it has one effect (rule R5).
 * C2 A refused access token is renewed once per call; concurrent calls share one renewal.
 */
import { isTransient, readProblem, SlipwayProblem } from "./problem.ts";
import type { KeyedCallOptions, LoginAnswer, Session, SessionStore } from "./types.ts";
import { backoffDelay, sleep, throwIfAborted } from "./retry.ts";

export type Fetch = (input: string, init: RequestInit) => Promise<Response>;

/**
 * Supplies access tokens from elsewhere, for example from a cookie session of a browser. `renew`
 * returns a token other than the refused one, or null when the person must log in again; concurrent
 * calls share one renewal.
 */
export interface TokenProvider {
  bearer(): Promise<string | null>;
  renew(refused: string | null): Promise<string | null>;
  /**
   * Aborted when the session ends: calls that are under way fail with its reason, so that none is
   * repeated in the session of another person.
   */
  signal?(): AbortSignal;
}

export interface TransportOptions {
  readonly baseUrl: string;
  readonly token?: string | undefined;
  readonly sessions?: SessionStore;
  /** Replaces `token` and `sessions`. */
  readonly tokens?: TokenProvider;
  readonly fetch?: Fetch;
  /** Longest wait for one response, in ms (30,000). */
  readonly timeoutMs?: number;
  /** Maximum number of retries (5). */
  readonly retries?: number;
}

export interface Call {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
  /** Bytes in place of a JSON body. */
  readonly content?: Blob;
  /** Made up when left out, except for reads. */
  readonly idempotencyKey?: string;
  /** Overrides `retries` of the transport. */
  readonly retries?: number;
  /** Overrides `timeoutMs` of the transport. */
  readonly timeoutMs?: number;
  /** False for the calls that create a session. */
  readonly authenticated?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Without a key of the caller, the transport makes one up. */
export function keyed({ idempotencyKey, signal }: KeyedCallOptions): Pick<Call, "idempotencyKey" | "signal"> {
  return { signal, ...(idempotencyKey === undefined ? {} : { idempotencyKey }) };
}

/** A successful response with its whole body. */
export interface Answer {
  readonly status: number;
  readonly text: string;
}

type SessionState = { readonly state: "not_loaded" } | { readonly state: "loaded"; readonly session: Session | null };

type ReadBody<T> = (response: Response) => Promise<T>;

type Received<T> = { readonly status: number; readonly headers: Headers } & (
  | { readonly body: T }
  | { readonly text: string }
);

const RETRY_CAP_MS = 60_000;

/** Methods that send a call throw SlipwayProblem, or the reason of the caller's signal. */
export class Transport {
  readonly baseUrl: string;
  readonly #options: TransportOptions;
  readonly #fetch: Fetch;
  #session: SessionState = { state: "not_loaded" };
  /** Concurrent calls share one renewal (C2). */
  #renewal: Promise<string | null> | null = null;

  constructor(options: TransportOptions) {
    this.baseUrl = options.baseUrl.replace(/\/+$/, "");
    this.#options = options;
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  async send(call: Call): Promise<Answer> {
    const { status, body } = await this.#sendWithRetries(call, (response) => response.text());
    return { status, text: body };
  }

  /** The body as JSON; its shape is trusted. */
  async json<T>(call: Call): Promise<T> {
    return JSON.parse((await this.send(call)).text) as T;
  }

  /** For a body too large to hold in memory: time-out and retries cover only its headers. */
  async stream(call: Call): Promise<ReadableStream<Uint8Array>> {
    const read = (response: Response) => Promise.resolve(response.body ?? new ReadableStream<Uint8Array>());
    return (await this.#sendWithRetries(call, read)).body;
  }

  /** The current bearer token; null without authentication. */
  async bearer(): Promise<string | null> {
    const { tokens, token } = this.#options;
    return tokens === undefined ? (token ?? (await this.session())?.accessToken ?? null) : tokens.bearer();
  }

  /** Returns a token other than the refused one, or null when none can be obtained. */
  async renew(refused: string | null): Promise<string | null> {
    const { tokens, token } = this.#options;
    if (token !== undefined && tokens === undefined) return null;
    const current = await this.bearer();
    if (current !== refused) return current;
    this.#renewal ??= (tokens === undefined ? this.#refresh(refused) : tokens.renew(refused)).finally(() => {
      this.#renewal = null;
    });
    return this.#renewal;
  }

  /** Stores the session of a login, or null after a logout. */
  async adopt(next: Session | null): Promise<void> {
    const session = next === null ? null : { accessToken: next.accessToken, refreshToken: next.refreshToken };
    this.#session = { state: "loaded", session };
    await this.#options.sessions?.save(session);
  }

  async session(): Promise<Session | null> {
    if (this.#session.state === "loaded") return this.#session.session;
    const stored = (await this.#options.sessions?.load()) ?? null;
    return this.#getLoaded() ?? this.#setLoaded(stored);
  }

  /** The session if it was loaded or adopted, maybe during an await of the caller. */
  #getLoaded(): Session | null {
    return this.#session.state === "loaded" ? this.#session.session : null;
  }

  #setLoaded(session: Session | null): Session | null {
    if (this.#session.state === "not_loaded") this.#session = { state: "loaded", session };
    return this.#getLoaded();
  }

  async #sendWithRetries<T>(given: Call, read: ReadBody<T>): Promise<{ status: number; body: T }> {
    const call = this.#bind(given.method === "GET" ? given : { idempotencyKey: newKey(), ...given });
    const retries = call.retries ?? this.#options.retries ?? 5;
    for (let tries = 0; ; tries++) {
      try {
        return await this.#sendAuthenticated(call, read);
      } catch (thrown) {
        if (!(thrown instanceof SlipwayProblem) || tries >= retries || !isTransient(thrown)) throw thrown;
        const requested = Math.min(thrown.retryAfterMs ?? 0, RETRY_CAP_MS);
        await sleep(Math.max(requested, backoffDelay(tries, 250, 8_000)), call.signal);
      }
    }
  }

  /** The call ends with its session. */
  #bind(call: Call): Call {
    const ofSession = this.#options.tokens?.signal?.();
    if (ofSession === undefined || call.authenticated === false) return call;
    return { ...call, signal: call.signal === undefined ? ofSession : joinSignals([call.signal, ofSession]) };
  }

  /** Renews a refused token once (C2). */
  async #sendAuthenticated<T>(call: Call, read: ReadBody<T>): Promise<{ status: number; body: T }> {
    const needsToken = call.authenticated !== false;
    const token = needsToken ? await this.bearer() : null;
    let answer = await this.#sendOnce(call, token, read);
    if (answer.status === 401 && needsToken) {
      const renewed = await this.renew(token);
      if (renewed !== null) answer = await this.#sendOnce(call, renewed, read);
    }
    const { headers } = answer;
    if ("text" in answer) throw readProblem(answer.status, answer.text, (name) => headers.get(name));
    return answer;
  }

  async #sendOnce<T>(call: Call, token: string | null, read: ReadBody<T>): Promise<Received<T>> {
    const headers: Record<string, string> = { accept: "application/json" };
    if (token !== null) headers["authorization"] = `Bearer ${token}`;
    if (call.idempotencyKey !== undefined) headers["idempotency-key"] = call.idempotencyKey;
    if (call.body !== undefined) headers["content-type"] = "application/json";
    if (call.content !== undefined) headers["content-type"] = "application/octet-stream";
    const timeoutMs = call.timeoutMs ?? this.#options.timeoutMs ?? 30_000;
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), timeoutMs);
    try {
      const response = await this.#fetch(getAddress(this.baseUrl, call), {
        method: call.method,
        headers,
        ...toBody(call),
        signal: call.signal === undefined ? timeout.signal : joinSignals([call.signal, timeout.signal]),
      });
      const { status, headers: received } = response;
      const isSuccess = status >= 200 && status <= 299;
      return isSuccess
        ? { status, headers: received, body: await read(response) }
        : { status, headers: received, text: await response.text() };
    } catch (cause) {
      throwIfAborted(call.signal);
      const problem = timeout.signal.aborted ? `did not answer within ${timeoutMs / 1_000} s` : "cannot be reached";
      throw new SlipwayProblem("unreachable", 0, `The server at ${this.baseUrl} ${problem}.`, { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  async #refresh(refused: string | null): Promise<string | null> {
    // Another program that shares the session may have renewed it: its refresh token works only
    // once, and sending it again would end the session as a replay.
    const stored = (await this.#options.sessions?.load()) ?? this.#getLoaded();
    if (stored === null) return null;
    if (stored.accessToken !== refused) {
      this.#session = { state: "loaded", session: stored };
      return stored.accessToken;
    }
    try {
      const response = await this.send({
        method: "POST",
        path: "/v1/auth/refresh",
        body: { refreshToken: stored.refreshToken },
        authenticated: false,
      });
      const answer = JSON.parse(response.text) as LoginAnswer;
      await this.adopt(answer);
      return answer.accessToken;
    } catch (thrown) {
      if (thrown instanceof SlipwayProblem && thrown.status === 401) return null;
      throw thrown;
    }
  }
}

function toBody({ body, content }: Call): { body?: string | Blob } {
  if (content !== undefined) return { body: content };
  return body === undefined ? {} : { body: JSON.stringify(body) };
}

/** A signal that is aborted by any of them. */
function joinSignals(signals: readonly AbortSignal[]): AbortSignal {
  if ("any" in AbortSignal) return AbortSignal.any([...signals]);
  // React Native.
  const joined = new AbortController();
  for (const signal of signals) {
    if (signal.aborted) joined.abort(signal.reason);
    signal.addEventListener("abort", () => joined.abort(signal.reason), { once: true });
  }
  return joined.signal;
}

/**
 * `crypto.randomUUID` is missing on pages without https, where the server may well be used in a
 * home network.
 */
export function newKey(): string {
  const bytes = new Uint8Array(16);
  // React Native has no crypto of its own. A key must differ from the person's other keys only.
  if ("crypto" in globalThis) globalThis.crypto.getRandomValues(bytes);
  else bytes.forEach((_, i) => (bytes[i] = Math.floor(Math.random() * 256)));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function getAddress(baseUrl: string, call: Call): string {
  // React Native's URLSearchParams sets nothing.
  const pairs = Object.entries(call.query ?? {}).filter(([, value]) => value !== undefined);
  const text = pairs.map(([name, value]) => `${name}=${encodeURIComponent(String(value))}`).join("&");
  return `${baseUrl}${call.path}${text === "" ? "" : `?${text}`}`;
}
