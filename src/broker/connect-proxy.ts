/**
 * The way out of a sandbox: `CONNECT host:port` on the attempt's broker, by the task's egress
 * policy (rule S5).
 *
 * X1 Decided is on the place that CONNECT names, before any name is looked up. What is inside of
 *    the tunnel is not looked at.
 * X2 A name is resolved once; when any of its addresses is private or this machine's own nothing is
 *    dialled; dialled is an address that was checked.
 * X3 When anything goes wrong, the answer is no.
 */
import { lookup } from "node:dns/promises";
import type { IncomingMessage } from "node:http";
import { connect, isIP, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream/promises";
import { isPrivate } from "../core/lib/ip-ranges.ts";
import { explainRefusal, parseEndpoint } from "../core/values/egress-policy.ts";
import { errorMessage, SlipwayError } from "../core/error.ts";
import type { Log } from "../core/ports/runtime.ts";
import type { EgressApi } from "../core/ports/broker.ts";

export interface ConnectProxyOptions {
  readonly api: EgressApi;
  /** `host:port` that may be at a private address, when a policy lists it. */
  readonly trustedHosts: readonly string[];
  readonly log: Log;
  readonly resolve?: (name: string) => Promise<readonly string[]>;
  /** This machine's own addresses; what listens there is nobody's business either. */
  readonly ownAddresses?: () => readonly string[];
}

export interface ConnectCall {
  readonly taskId: string;
  readonly attempt: number;
  readonly request: IncomingMessage;
  readonly socket: Duplex;
  /** What the caller sent behind its request. */
  readonly head: Buffer;
  /** Aborted when the broker shuts. */
  readonly signal: AbortSignal;
}

/** Serves one CONNECT; resolves when the tunnel is open or refused. Never rejects. */
export type ServeConnect = (call: ConnectCall) => Promise<void>;

const DIAL_MS = 15_000;
const IDLE_MS = 300_000;
const HANG_UP_MS = 1_000;
/** At once, per attempt. */
const TUNNELS = 128;

class Refused extends Error {
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

function refuse(socket: Duplex, error: Refused): void {
  const body = JSON.stringify({ code: error.code, title: "The sandbox may not reach this", detail: error.message });
  const length = Buffer.byteLength(body);
  // The reason is in the status line as well: most clients show nothing else of a refused tunnel.
  const words = `${STATUS[error.status] ?? "Forbidden"} - ${error.message.replace(/[^\x20-\x7e]/g, " ").slice(0, 200)}`;
  socket.end(
    `HTTP/1.1 ${error.status} ${words}\r\ncontent-type: application/json\r\ncontent-length: ${length}\r\nconnection: close\r\n\r\n${body}`,
    // A caller that does not hang up by itself would hold one of the listener's connections.
    () => setTimeout(() => socket.destroy(), HANG_UP_MS).unref(),
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
    const abort = (): void => fail(new Error("the attempt is over"));
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
 * Joins both ends until each has ended, one breaks, nothing moves for long, or the broker shuts.
 * Each way ends by itself, and what was under way still arrives. Backpressure is the pipelines'.
 */
async function join(near: Duplex, far: Socket, signal: AbortSignal): Promise<void> {
  const end = (): void => {
    near.destroy();
    far.destroy();
  };
  signal.addEventListener("abort", end, { once: true });
  far.setTimeout(IDLE_MS, end);
  if (signal.aborted) end();
  try {
    await Promise.all([pipeline(near, far), pipeline(far, near)]);
  } catch {
    // Broken by one side: there is nobody to tell but the other.
  } finally {
    signal.removeEventListener("abort", end);
    end();
  }
}

/** Addresses under which this machine itself can be reached, public ones among them. */
function localAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap((one) => (one ?? []).map(({ address }) => address));
}

export function createConnectProxy({
  api,
  trustedHosts,
  log,
  resolve = resolveAll,
  ownAddresses = localAddresses,
}: ConnectProxyOptions): ServeConnect {
  const open = new Map<string, number>();

  async function placeOf({ taskId, attempt, request }: ConnectCall): Promise<string> {
    const named = request.url ?? "";
    const place = parseEndpoint(named);
    if (place === null) {
      api.reportRefusal(taskId, attempt, named.slice(0, 100), "This is no host:port.");
      throw new Refused(400, "egress_refused", "CONNECT takes host:port, with a name and not more.");
    }
    const policy = await api.policy(taskId, attempt);
    const why = explainRefusal(policy, place);
    if (why === null) return place;
    api.reportRefusal(taskId, attempt, place, why);
    throw new Refused(403, "egress_refused", why);
  }

  async function addressOf(call: ConnectCall, host: string, place: string): Promise<string> {
    const found = isIP(host) === 0 ? await resolve(host).catch(() => []) : [host];
    const [first] = found;
    if (first === undefined) throw new Refused(502, "egress_unreachable", `The name ${host} does not resolve.`);
    const near = ownAddresses();
    if (trustedHosts.includes(place) || !found.some((one) => isPrivate(one) || near.includes(one))) return first;
    const why =
      "It points into a private network or at this machine. An operator can allow it with SLIPWAY_TRUSTED_EGRESS_HOSTS.";
    api.reportRefusal(call.taskId, call.attempt, place, why);
    throw new Refused(403, "egress_refused", why);
  }

  async function tunnel(call: ConnectCall): Promise<void> {
    const { taskId, attempt, socket, head, signal } = call;
    const place = await placeOf(call);
    const name = `${taskId}.${attempt}`;
    const before = open.get(name) ?? 0;

    if (before >= TUNNELS)
      throw new Refused(429, "egress_busy", `A sandbox has at most ${TUNNELS} connections at once.`);
    open.set(name, before + 1);
    const over = (): void => {
      const left = (open.get(name) ?? 1) - 1;
      if (left > 0) open.set(name, left);
      else open.delete(name);
    };
    try {
      const cut = place.lastIndexOf(":");
      const address = await addressOf(call, place.slice(0, cut), place);
      const far = await dial(address, Number(place.slice(cut + 1)), signal).catch((error: unknown) => {
        throw new Refused(502, "egress_unreachable", `${place} cannot be reached: ${errorMessage(error)}`);
      });
      log.debug({ task: taskId, attempt, place }, "egress");
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      if (head.length > 0) far.write(head);
      void join(socket, far, signal).finally(over);
    } catch (error) {
      over();
      throw error;
    }
  }

  return async (call) => {
    call.socket.on("error", () => call.socket.destroy());
    try {
      await tunnel(call);
    } catch (error) {
      if (error instanceof Refused) return refuse(call.socket, error);
      if (error instanceof SlipwayError)
        return refuse(call.socket, new Refused(error.status, error.code, error.message));
      log.error({ task: call.taskId, error: errorMessage(error) }, "a connection could not be judged");
      refuse(call.socket, new Refused(502, "internal", "Slipway could not judge this connection, so it was refused."));
    }
  };
}
