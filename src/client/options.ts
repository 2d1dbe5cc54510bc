/** What a client is made with. */
import type { WebSocketConstructor } from "./stream.ts";
import type { Fetch, TokenProvider } from "./transport.ts";
import type { SessionStore } from "./types.ts";
import type { WatchTiming } from "./watch.ts";

export interface ClientOptions {
  /** For example `http://127.0.0.1:7080`. */
  readonly baseUrl: string;
  /**
   * A personal access token. Without one, `login` or `sessions` give a session that renews itself.
   */
  readonly token?: string | undefined;
  /** Keeps the session between runs; without it the session lives as long as this object. */
  readonly sessions?: SessionStore;
  /** Replaces `token` and `sessions`: access tokens come from here. */
  readonly tokens?: TokenProvider;
  readonly fetch?: Fetch;
  /**
   * The global one when left out. Node.js 20 has none: pass the one of the `ws` package, or
   * watching falls back to polling.
   */
  readonly WebSocket?: WebSocketConstructor;
  /** Longest wait for one answer, in ms (30,000). */
  readonly timeoutMs?: number;
  /** How often a call that may be repeated is repeated (5). */
  readonly retries?: number;
  readonly timing?: Partial<WatchTiming>;
}
