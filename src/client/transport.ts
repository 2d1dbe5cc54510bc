/**
 * One HTTP call, with its authentication and its retries.
 *
 * C1 Only what is safe to repeat is repeated after a lost answer: reads, deletes, and calls that
 *    carry an Idempotency-Key or are idempotent by rule.
 * C2 A refused access token is renewed once per call; concurrent calls share one renewal.
 */
import { readProblem, SlipwayProblem } from "./problem.ts";
import type { LoginAnswer, Session, SessionStore } from "./types.ts";
import { backoffDelay, sleep } from "./retry.ts";

export type Fetch = (input: string, init: RequestInit) => Promise<Response>;

export interface TransportOptions {
  readonly baseUrl: string;
  readonly token?: string;
  readonly sessions?: SessionStore;
  readonly fetch?: Fetch;
  /** Longest wait for one answer, in ms. */
  readonly timeoutMs?: number;
  /** How often a repeatable call is repeated. */
  readonly retries?: number;
}

export interface Call {
  readonly method: "GET" | "POST" | "DELETE";
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly body?: unknown;
  readonly idempotencyKey?: string;
  /** May be sent again when its answer was lost (C1). */
  readonly repeatable: boolean;
  /** How often it is repeated at most; the transport's own number when left out. */
  readonly retries?: number;
  /** In place of the transport's own. */
  readonly timeoutMs?: number;
  /** False for the calls that make authentication. */
  readonly authenticated?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** A success with its whole body. */
export interface Answer {
  readonly status: number;
  readonly text: string;
}

type Received<T> = { readonly status: number; readonly headers: Headers } & (
  | { readonly body: T }
  | { readonly text: string }
);

export interface Transport {
  readonly baseUrl: string;
  /** @throws SlipwayProblem; the signal's reason when the caller's signal fired. */
  send(call: Call): Promise<Answer>;
  /**
   * The same for a body that is too large to hold: only its beginning is waited for and repeated.
   */
  stream(call: Call): Promise<ReadableStream<Uint8Array>>;
  /** The bearer token as it is now; null without authentication. */
  bearer(): Promise<string | null>;
  /** A token other than `refused`, or null when there is none to be had. */
  renew(refused: string | null): Promise<string | null>;
  /** After a login (or, with null, a logout). */
  adopt(session: Session | null): Promise<void>;
  session(): Promise<Session | null>;
}

const RETRY_CAP_MS = 60_000;

export function createTransport(options: TransportOptions): Transport {
  const baseUrl = options.baseUrl.replace(/\/+$/, "");
  const fetchNow: Fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  const timeoutMs = options.timeoutMs ?? 30_000;
  const retries = options.retries ?? 5;
  let current: Session | null = null;
  let loaded = false;
  let renewal: Promise<string | null> | null = null;

  async function session(): Promise<Session | null> {
    if (!loaded) {
      const stored = (await options.sessions?.load()) ?? null;
      if (!loaded) current = stored;
      loaded = true;
    }
    return current;
  }

  async function adopt(next: Session | null): Promise<void> {
    loaded = true;
    current = next === null ? null : { accessToken: next.accessToken, refreshToken: next.refreshToken };
    await options.sessions?.save(current);
  }

  async function bearer(): Promise<string | null> {
    return options.token ?? (await session())?.accessToken ?? null;
  }

  async function once<T>(
    call: Call,
    token: string | null,
    read: (response: Response) => Promise<T>,
  ): Promise<Received<T>> {
    const headers: Record<string, string> = { accept: "application/json" };
    if (token !== null) headers["authorization"] = `Bearer ${token}`;
    if (call.idempotencyKey !== undefined) headers["idempotency-key"] = call.idempotencyKey;
    if (call.body !== undefined) headers["content-type"] = "application/json";
    const limit = call.timeoutMs ?? timeoutMs;
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), limit);
    try {
      const response = await fetchNow(addressOf(baseUrl, call), {
        method: call.method,
        headers,
        ...(call.body === undefined ? {} : { body: JSON.stringify(call.body) }),
        signal: call.signal === undefined ? timeout.signal : AbortSignal.any([call.signal, timeout.signal]),
      });
      const { status, headers: received } = response;
      const isGood = status >= 200 && status <= 299;
      return isGood
        ? { status, headers: received, body: await read(response) }
        : { status, headers: received, text: await response.text() };
    } catch (cause) {
      call.signal?.throwIfAborted();
      const words = timeout.signal.aborted ? `did not answer within ${limit / 1_000} s` : "cannot be reached";
      throw new SlipwayProblem("unreachable", 0, `The server at ${baseUrl} ${words}.`, { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  async function attempt<T>(
    call: Call,
    read: (response: Response) => Promise<T>,
  ): Promise<{ status: number; body: T }> {
    const wantsToken = call.authenticated !== false;
    const token = wantsToken ? await bearer() : null;
    let answer = await once(call, token, read);
    if (answer.status === 401 && wantsToken) {
      const renewed = await renew(token);
      if (renewed !== null) answer = await once(call, renewed, read);
    }
    if ("text" in answer) throw readProblem(answer.status, answer.text, answer.headers.get("retry-after"));
    return answer;
  }

  async function send(call: Call): Promise<Answer> {
    const { status, body } = await repeated(call, (response) => response.text());
    return { status, text: body };
  }

  async function stream(call: Call): Promise<ReadableStream<Uint8Array>> {
    return (await repeated(call, (response) => Promise.resolve(response.body ?? new ReadableStream<Uint8Array>())))
      .body;
  }

  async function repeated<T>(
    call: Call,
    read: (response: Response) => Promise<T>,
  ): Promise<{ status: number; body: T }> {
    for (let tries = 0; ; tries++) {
      try {
        return await attempt(call, read);
      } catch (thrown) {
        if (!(thrown instanceof SlipwayProblem) || tries >= (call.retries ?? retries) || !worthRepeating(call, thrown))
          throw thrown;
        const asked = Math.min(thrown.retryAfterMs ?? 0, RETRY_CAP_MS);
        await sleep(Math.max(asked, backoffDelay(tries, 250, 8_000)), call.signal);
      }
    }
  }

  async function renewNow(refused: string | null): Promise<string | null> {
    // Another program that shares the session may have renewed it already: its refresh token is
    // spent, ours would be a replay.
    const stored = (await options.sessions?.load()) ?? current;
    if (stored === null) return null;
    if (stored.accessToken !== refused) {
      current = stored;
      return stored.accessToken;
    }
    try {
      const body = { refreshToken: stored.refreshToken };
      const response = await send({
        method: "POST",
        path: "/v1/auth/refresh",
        body,
        repeatable: true,
        authenticated: false,
      });
      const answer = JSON.parse(response.text) as LoginAnswer;
      await adopt(answer);
      return answer.accessToken;
    } catch (thrown) {
      if (thrown instanceof SlipwayProblem && thrown.status === 401) return null;
      throw thrown;
    }
  }

  async function renew(refused: string | null): Promise<string | null> {
    if (options.token !== undefined) return null;
    const known = (await session())?.accessToken ?? null;
    if (known !== refused) return known;
    renewal ??= renewNow(refused).finally(() => {
      renewal = null;
    });
    return renewal;
  }

  return { baseUrl, send, stream, bearer, renew, adopt, session };
}

function worthRepeating(call: Call, problem: SlipwayProblem): boolean {
  // A 429 was refused before anything happened, so every call may come again.
  if (problem.status === 429) return true;
  return call.repeatable && (problem.code === "unreachable" || problem.status >= 500);
}

function addressOf(baseUrl: string, call: Call): string {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(call.query ?? {})) if (value !== undefined) query.set(name, String(value));
  const text = query.toString();
  return `${baseUrl}${call.path}${text === "" ? "" : `?${text}`}`;
}
