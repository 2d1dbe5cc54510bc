/**
 * The only route out of a sandbox: `CONNECT host:port` on the attempt's listener, permitted by the
 * task's egress policy (rule S5).
 *
 * X1 The policy is applied to the host and port that CONNECT names, before the name is resolved.
 *    The content of a tunnel is not inspected.
 * X2 A name is resolved once. If any of its addresses is private or belongs to this machine, no
 *    connection is made; otherwise the connection goes to an address that was checked.
 * X3 A tunnel ends with the policy that allowed it, where that one ends: those of the setup do not
 *    reach the agent.
 *    A change of a list ends the tunnels that it does not allow.
 * X4 Any unexpected failure refuses the connection.
 * X5 Bytes are counted before they are passed on, in both directions. What is above the budget of
 *    the task ends the tunnel, and others of the task with their next bytes.
 */
import { lookup } from "node:dns/promises";
import type { IncomingMessage } from "node:http";
import { connect, isIP, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { isPrivate } from "../core/lib/ip-ranges.ts";
import { explainRefusal } from "../core/values/egress-policy.ts";
import { parseHostAndPort } from "../core/values/hostname.ts";
import { errorMessage, SlipwayError } from "../core/error.ts";
import type { Log } from "../core/ports/runtime.ts";
import type { EgressApi } from "../core/ports/broker.ts";

export interface ConnectProxyOptions {
  readonly api: EgressApi;
  /** Every `host:port` that may resolve to a private address, if a policy permits it. */
  readonly trustedHosts: readonly string[];
  readonly log: Log;
  /** Open tunnels of one attempt, at most; absent = 128. */
  readonly maxTunnels?: number;
  readonly resolve?: (name: string) => Promise<readonly string[]>;
  /** Addresses of this machine, public ones included; they are refused like private ones. */
  readonly ownAddresses?: () => readonly string[];
}

export interface ConnectCall {
  readonly taskId: string;
  readonly attempt: number;
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** Bytes that arrived after the request's head. */
  readonly head: Buffer;
  /** Aborted when the listener closes. */
  readonly signal: AbortSignal;
}

/** Serves one CONNECT; resolves once the tunnel is open or refused. Never rejects. */
export type ServeConnect = (call: ConnectCall) => Promise<void>;

const DIAL_MS = 15_000;
const IDLE_MS = 300_000;
const CLOSE_MS = 1_000;
/** Open tunnels of one attempt. */
const MAX_TUNNELS = 128;

class ConnectRefusal extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const STATUS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  410: "Gone",
  429: "Too Many Requests",
  502: "Bad Gateway",
};

function refuse(socket: Duplex, error: ConnectRefusal): void {
  const body = JSON.stringify({
    code: error.code,
    title: "The sandbox may not connect to this address",
    detail: error.message,
  });
  const length = Buffer.byteLength(body);
  // The reason is repeated in the status line: most clients show nothing else of a refused tunnel.
  const statusText = `${STATUS[error.status] ?? "Forbidden"} - ${error.message.replace(/[^\x20-\x7e]/g, " ").slice(0, 200)}`;
  socket.end(
    `HTTP/1.1 ${error.status} ${statusText}\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\nconnection: close\r\n\r\n${body}`,
    // A caller that never closes would occupy one of the listener's connections.
    () => setTimeout(() => socket.destroy(), CLOSE_MS).unref(),
  );
}

async function resolveAll(name: string): Promise<readonly string[]> {
  return (await lookup(name, { all: true })).map(({ address }) => address);
}

function dial(address: string, port: number, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port, allowHalfOpen: true });
    const fail = (error: Error): void => {
      socket.destroy();
      settle(() => reject(error));
    };
    const abort = (): void => fail(new Error("the attempt, or its setup, has ended"));
    const timer = setTimeout(() => fail(new Error(`no answer within ${DIAL_MS / 1_000} s`)), DIAL_MS);
    const settle = (done: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", abort);
      done();
    };
    socket.on("error", fail);
    socket.once("connect", () =>
      settle(() => {
        socket.off("error", fail);
        resolve(socket);
      }),
    );
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
  });
}

/**
 * Relays in both directions until both have ended, one fails, the tunnel is idle for 5 minutes, or
 * the listener closes. The directions end independently, so data in flight still arrives.
 * @param count called with the size of each piece before it passes.
 */
async function relay(
  client: Duplex,
  upstream: Socket,
  signal: AbortSignal,
  count: (bytes: number) => void,
): Promise<void> {
  const close = (): void => {
    client.destroy();
    upstream.destroy();
  };
  // Added before those of the pipelines, so called first.
  for (const side of [client, upstream]) side.on("data", (piece: Buffer) => count(piece.length));
  signal.addEventListener("abort", close, { once: true });
  upstream.setTimeout(IDLE_MS, close);
  if (signal.aborted) close();
  try {
    await Promise.all([pipeline(client, upstream), pipeline(upstream, client)]);
  } catch {
    // A failed side has nowhere to report to; both are closed below.
  } finally {
    signal.removeEventListener("abort", close);
    close();
  }
}

function getLocalAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((addresses) => (addresses ?? []).map(({ address }) => address));
}

interface Target {
  /** When the policy that allows it holds no longer. */
  readonly ends: AbortSignal | null;
  /** Lower case. */
  readonly host: string;
  readonly port: number;
  /** `host:port`. */
  readonly endpoint: string;
  /** Changes of lists before the policy was read. */
  readonly changes: number;
}

interface OpenTunnel {
  readonly call: ConnectCall;
  readonly endpoint: string;
  readonly stop: AbortController;
}

export function createConnectProxy(options: ConnectProxyOptions): ServeConnect {
  const proxy = new ConnectProxy(options);
  return (call) => proxy.serve(call);
}

class ConnectProxy {
  readonly #options: ConnectProxyOptions;
  /** Open tunnels per attempt. */
  readonly #tunnels = new Map<string, number>();
  readonly #relays = new Set<OpenTunnel>();
  /** Number of changes of lists. */
  #changes = 0;

  constructor(options: ConnectProxyOptions) {
    this.#options = options;
    options.api.onChange(() => {
      this.#changes += 1;
      for (const tunnel of this.#relays) void this.#judge(tunnel);
    });
  }

  async serve(call: ConnectCall): Promise<void> {
    call.socket.on("error", () => call.socket.destroy());
    try {
      await this.#open(call, await this.#authorize(call));
    } catch (error) {
      if (error instanceof ConnectRefusal) return refuse(call.socket, error);
      if (error instanceof SlipwayError)
        return refuse(call.socket, new ConnectRefusal(error.status, error.code, error.message));
      this.#options.log.error(
        { task: call.taskId, error: errorMessage(error) },
        "the egress policy could not be applied to a connection",
      );
      const message = "Slipway could not apply the egress policy, so the connection was refused.";
      refuse(call.socket, new ConnectRefusal(502, "internal", message));
    }
  }

  /** X1. @throws ConnectRefusal */
  async #authorize({ taskId, attempt, request }: ConnectCall): Promise<Target> {
    const { api } = this.#options;
    const name = request.url ?? "";
    const parsed = parseHostAndPort(name);
    if (parsed === null || parsed.port === null) {
      api.reportRefusal(taskId, attempt, name.slice(0, 100), "The address is not a valid host:port.");
      throw new ConnectRefusal(400, "egress_refused", "CONNECT takes host:port and nothing else.");
    }
    const { host, port } = parsed;
    const endpoint = `${host}:${port}`;
    const changes = this.#changes;
    const policy = await api.policy(taskId, attempt);
    const reason = explainRefusal(policy, endpoint);
    if (reason === null) {
      const spent = api.spend(taskId, attempt, 0);
      if (spent !== null) throw new ConnectRefusal(403, "egress_used_up", spent);
      return { host, port, endpoint, ends: policy.ends ?? null, changes };
    }
    api.reportRefusal(taskId, attempt, endpoint, reason);
    throw new ConnectRefusal(403, "egress_refused", reason);
  }

  /** Resolves once the tunnel is open; its relay runs on. @throws ConnectRefusal */
  async #open(call: ConnectCall, target: Target): Promise<void> {
    const { taskId, attempt, socket, head } = call;
    const tunnel = { call, endpoint: target.endpoint, stop: new AbortController() };
    const ends = target.ends === null ? [] : [target.ends];
    const signal = AbortSignal.any([call.signal, tunnel.stop.signal, ...ends]);
    const release = this.#acquireTunnel(`${taskId}.${attempt}`);
    try {
      const address = await this.#resolve(call, target);
      const upstream = await dial(address, target.port, signal).catch((error: unknown) => {
        const message = `${target.endpoint} cannot be reached: ${errorMessage(error)}`;
        throw new ConnectRefusal(502, "egress_unreachable", message);
      });
      this.#options.log.debug({ task: taskId, attempt, place: target.endpoint }, "egress");
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      const count = (bytes: number): boolean => {
        const fits = this.#options.api.spend(taskId, attempt, bytes) === null;
        if (!fits) tunnel.stop.abort();
        return fits;
      };
      if (head.length > 0 && count(head.length)) upstream.write(head);
      this.#relays.add(tunnel);
      void relay(socket, upstream, signal, count).finally(() => {
        this.#relays.delete(tunnel);
        release();
      });
      if (target.changes !== this.#changes) void this.#judge(tunnel);
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Ends the tunnel unless the policy of this moment allows it. Never rejects. */
  async #judge({ call: { taskId, attempt }, endpoint, stop }: OpenTunnel): Promise<void> {
    const { api } = this.#options;
    try {
      const reason = explainRefusal(await api.policy(taskId, attempt), endpoint);
      if (reason === null) return;
      api.reportRefusal(taskId, attempt, endpoint, `${reason} Its open connections were ended.`);
    } catch (error) {
      this.#options.log.info({ task: taskId, error: errorMessage(error) }, "a connection without a policy was ended");
    }
    stop.abort();
  }

  #acquireTunnel(key: string): () => void {
    const open = this.#tunnels.get(key) ?? 0;
    const { maxTunnels = MAX_TUNNELS } = this.#options;
    if (open >= maxTunnels)
      throw new ConnectRefusal(429, "egress_busy", `A sandbox has at most ${maxTunnels} connections at once.`);
    this.#tunnels.set(key, open + 1);
    return () => {
      const remaining = (this.#tunnels.get(key) ?? 1) - 1;
      if (remaining > 0) this.#tunnels.set(key, remaining);
      else this.#tunnels.delete(key);
    };
  }

  /** X2. @returns the address to connect to. @throws ConnectRefusal */
  async #resolve({ taskId, attempt }: ConnectCall, { host, endpoint }: Target): Promise<string> {
    const { api, trustedHosts, resolve = resolveAll, ownAddresses = getLocalAddresses } = this.#options;
    const addresses = isIP(host) === 0 ? await resolve(host).catch(() => []) : [host];
    const [first] = addresses;
    if (first === undefined) throw new ConnectRefusal(502, "egress_unreachable", `The name ${host} does not resolve.`);
    const own = ownAddresses();
    const isForbidden = (address: string): boolean => isPrivate(address) || own.includes(address);
    if (trustedHosts.includes(endpoint) || !addresses.some(isForbidden)) return first;
    const reason =
      "It points into a private network or at this machine. An operator can allow it with SLIPWAY_TRUSTED_EGRESS_HOSTS.";
    api.reportRefusal(taskId, attempt, endpoint, reason);
    throw new ConnectRefusal(403, "egress_refused", reason);
  }
}
