/**
 * HTTPS to forges and push services, guarded like git's connections: no address in a private
 * network unless an operator trusts the host, no redirects, bounded bodies and bounded time.
 */
import { lookup, type LookupAddress } from "node:dns";
import { isIP, type LookupFunction } from "node:net";
import type { Agent } from "undici";
import { isPrivate } from "../../core/lib/ip-ranges.ts";

export interface HttpRequest {
  readonly method: "GET" | "POST";
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

export interface HttpReply {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

export interface GuardedHttp {
  /** Rejects when no whole answer arrives in time, or with the signal's reason. */
  send(request: HttpRequest, signal: AbortSignal): Promise<HttpReply>;
  /** Ends all connections. */
  close(): Promise<void>;
}

export interface GuardOptions {
  /** Private addresses may be connected to. */
  readonly isTrusted: boolean;
  /** The setting that trusts a host. */
  readonly setting?: string;
  /** Longest time of one call, ms. */
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 30_000;
const CONNECT_MS = 10_000;
/** Twenty pull requests with the longest texts are less. */
const BODY_BYTES = 8 * 2 ** 20;

type Refuse = (hostname: string) => Error;

/** The address that is checked is the one that is connected to. */
const publicLookup =
  (refuse: Refuse): LookupFunction =>
  (hostname, options, callback) => {
    lookup(hostname, { ...options, all: true }, (error, addresses: LookupAddress[]) => {
      if (error !== null) return callback(error, []);
      if (addresses.length === 0 || addresses.some(({ address }) => isPrivate(address)))
        return callback(refuse(hostname), []);
      const [first] = addresses;
      if (options.all === true || first === undefined) callback(null, addresses);
      else callback(null, first.address, first.family);
    });
  };

export function openGuardedHttp({ isTrusted, setting, timeoutMs = TIMEOUT_MS }: GuardOptions): GuardedHttp {
  const allowed = setting ?? "SLIPWAY_TRUSTED_REPO_HOSTS";
  const refuse: Refuse = (hostname) =>
    new Error(`${hostname} points into a private network. An operator can allow it with ${allowed}.`);
  // The HTTP client is loaded with the first call, not at the start.
  let opening: Promise<Agent> | null = null;
  const open = async (): Promise<Agent> => {
    const { openAgent } = await import("./open-agent.ts");
    return openAgent({
      connect: { timeout: CONNECT_MS, ...(isTrusted ? {} : { lookup: publicLookup(refuse) }) },
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      maxResponseSize: BODY_BYTES,
    });
  };
  return {
    async send({ url, ...request }, signal) {
      signal.throwIfAborted();
      const { hostname } = new URL(url);
      // A numeric host is not looked up.
      const address = hostname.replace(/^\[|\]$/g, "");
      if (!isTrusted && isIP(address) !== 0 && isPrivate(address)) throw refuse(hostname);
      opening ??= open();
      const dispatcher = await opening;
      try {
        const { statusCode, headers, body } = await dispatcher.request({
          ...splitUrl(url),
          ...request,
          signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
        });
        return { status: statusCode, headers: flatten(headers), text: await body.text() };
      } catch (error) {
        signal.throwIfAborted();
        throw error;
      }
    },
    async close() {
      await (await opening)?.destroy();
    },
  };
}

function splitUrl(url: string): { readonly origin: string; readonly path: string } {
  const { origin, pathname, search } = new URL(url);
  return { origin, path: `${pathname}${search}` };
}

function flatten(headers: Readonly<Record<string, string | string[] | undefined>>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [
      name.toLowerCase(),
      Array.isArray(value) ? (value[0] ?? "") : (value ?? ""),
    ]),
  );
}
