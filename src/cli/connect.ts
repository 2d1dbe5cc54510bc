/**
 * Chooses the server and the credentials. Server: --url, --context, SLIPWAY_URL, SLIPWAY_CONTEXT, a
 * data folder that was named, the current context, the server of .slipway, the default address.
 * Credentials: SLIPWAY_TOKEN, then (for the data folder's own server) its operator token, then the
 * session of `slipway login`.
 */
import { WebSocket } from "ws";
import type { WebSocketConstructor } from "../client/stream.ts";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { SlipwayClient } from "../client/client.ts";
import type { Fetch } from "../client/transport.ts";
import { CliExit, EXIT } from "./exit.ts";
import { openSessionFile } from "./session-file.ts";
import { addressOf, LOCAL, readContexts } from "./shell/contexts.ts";

export interface ServerOptions {
  readonly url?: string;
  readonly dataDir?: string;
  /** A name of `slipway context`. */
  readonly context?: string;
}

const DEFAULT_URL = "http://127.0.0.1:7080";

export interface ServerTarget {
  readonly url: string;
  /** Set when the target is the server of a readable data folder. */
  readonly operatorToken: string | null;
}

export function resolveDataDir(options: ServerOptions, env: NodeJS.ProcessEnv): string {
  return resolve(options.dataDir ?? (env["SLIPWAY_DATA_DIR"] || ".slipway"));
}

export function findServer(options: ServerOptions, env: NodeJS.ProcessEnv): ServerTarget {
  const dataDir = resolveDataDir(options, env);
  const own = ownServer(dataDir);
  const given = options.url ?? contextUrl(options, env);
  const url = checked(given ?? own ?? DEFAULT_URL);
  return {
    url,
    operatorToken: own !== null && sameOrigin(url, own) ? readText(join(dataDir, "operator.token")) : null,
  };
}

/** The address that a name or the current context gives; undefined = that of the data folder. */
function contextUrl(options: ServerOptions, env: NodeJS.ProcessEnv): string | undefined {
  const named = options.context ?? (env["SLIPWAY_URL"] ? undefined : env["SLIPWAY_CONTEXT"] || undefined);
  if (named !== undefined) return named === LOCAL ? undefined : addressOf(env, named);
  if (env["SLIPWAY_URL"]) return env["SLIPWAY_URL"];
  if (options.dataDir !== undefined || env["SLIPWAY_DATA_DIR"]) return undefined;
  const { current, servers } = readContexts(env);
  return current === null ? undefined : servers[current];
}

/** True when the target is the server of the data folder, or nothing names another one. */
export function isOwnServer(options: ServerOptions, env: NodeJS.ProcessEnv): boolean {
  const { url } = findServer(options, env);
  return sameOrigin(url, ownServer(resolveDataDir(options, env)) ?? DEFAULT_URL);
}

export function connect(options: ServerOptions, env: NodeJS.ProcessEnv = process.env): SlipwayClient {
  const { url, operatorToken } = findServer(options, env);
  const token = env["SLIPWAY_TOKEN"] || operatorToken;
  const WebSocket = createSocketFactory();
  if (token) return new SlipwayClient({ baseUrl: url, token, WebSocket, retries: 2 });
  return new SlipwayClient({ baseUrl: url, sessions: openSessionFile(url, env), WebSocket, retries: 2 });
}

/** With the session of `slipway login` alone; a token in the environment is ignored. */
export function connectSession(options: ServerOptions, env: NodeJS.ProcessEnv): SlipwayClient {
  const { url } = findServer(options, env);
  return new SlipwayClient({ baseUrl: url, sessions: openSessionFile(url, env), retries: 2, fetch: fetchAsCli });
}

/** Sends the name of the client, which the list of sessions shows. */
const fetchAsCli: Fetch = (input, init) => {
  const headers = new Headers(init.headers);
  headers.set("user-agent", "slipway-cli");
  return fetch(input, { ...init, headers });
};

function checked(url: string): string {
  if (URL.canParse(url) && /^https?:$/.test(new URL(url).protocol)) return url.replace(/\/+$/, "");
  throw new CliExit(
    EXIT.usage,
    `The server's address must begin with http:// or https://, not ${JSON.stringify(url)}.`,
  );
}

/** The address that the data folder's server recorded when it began to listen. */
function ownServer(dataDir: string): string | null {
  const text = readText(join(dataDir, "server.json"));
  if (text === null) return null;
  try {
    const body: unknown = JSON.parse(text);
    return typeof body === "object" && body !== null && "url" in body && typeof body.url === "string" ? body.url : null;
  } catch {
    return null;
  }
}

function sameOrigin(one: string, other: string): boolean {
  return URL.canParse(one) && URL.canParse(other) && new URL(one).origin === new URL(other).origin;
}

/** Null when it does not exist or cannot be read. */
function readText(path: string): string | null {
  try {
    return readFileSync(path, "utf8").trim() || null;
  } catch {
    return null;
  }
}

/** The `ws` package as the client's WebSocket: Node.js 20 has none. */
export function createSocketFactory(): WebSocketConstructor {
  return WebSocket;
}
