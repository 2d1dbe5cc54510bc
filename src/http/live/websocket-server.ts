/**
 * The WebSocket server behind `GET /v1/stream`: upgrade, authentication of the upgrade, heartbeat,
 * session check and shutdown. connection.ts holds what happens on one connection.
 *
 * L1 No frame of a task is sent before the client is authenticated, nor after its session ended
 *    (sessions are checked every `sessionMs`).
 * L2 Every wait for a client is bounded in time (authentication, pings, closing), and everything
 *    kept for clients is bounded in number and in bytes.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";
import { isAbort, errorMessage } from "../../core/error.ts";
import type { Role } from "../../core/ports/accounts.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import { CLOSE_CODES, PROTOCOL } from "../../core/protocol/stream-constants.ts";
import { Connection, type ConnectionSlots, type ConnectionTiming, type StreamIdentity } from "./connection.ts";
import type { Hub } from "./hub.ts";

const STREAM_PATH = "/v1/stream";

export interface WebSocketTiming extends ConnectionTiming {
  /** Time between two checks of the sessions of open connections, in ms. */
  readonly sessionMs: number;
  readonly pingMs: number;
}
const WEBSOCKET_TIMING: WebSocketTiming = { authMs: 5_000, sessionMs: 2_000, pingMs: 30_000, closeMs: 5_000 };

export interface WebSocketServerDeps {
  readonly hub: Hub;
  /** Resolves a bearer token; rejects when it is invalid. */
  readonly authenticate: (bearer: string) => Promise<StreamIdentity>;
  /** Resolves a ticket and consumes it; rejects when it is invalid. */
  readonly redeemTicket: (ticket: string) => Promise<StreamIdentity>;
  /** @param role that the connection was opened with. */
  readonly isSessionValid: (sessionId: string | null, role: Role) => Promise<boolean>;
  /**
   * Web origins that may connect, as `https://host[:port]`. A client that sends no Origin is not a
   * browser and may connect.
   */
  readonly allowedOrigins: () => readonly string[];
  readonly clock: Clock;
  readonly log: Log;
  readonly timing?: Partial<WebSocketTiming>;
}

export interface WebSocketServerAdapter {
  /** Number of open connections. */
  connections(): number;
  /**
   * Closes every connection with 1012 (reconnect), and terminates after one second those that did
   * not close. Idempotent.
   */
  close(): Promise<void>;
}

export const SOCKETS_PER_USER = 20;
/** Connections that have not authenticated yet. */
const MAX_UNAUTHENTICATED = 1_000;
const SHUTDOWN_MS = 1_000;

/** Result of the checks before the upgrade. */
type Admission =
  | { readonly state: "authenticated"; readonly identity: StreamIdentity }
  /** The client sent no credential: its first frame has to be `auth`. */
  | { readonly state: "unauthenticated" }
  | { readonly state: "refused"; readonly status: string };

const refused = (status: string): Admission => ({ state: "refused", status });

export function attachWebSocketServer(server: Server, deps: WebSocketServerDeps): WebSocketServerAdapter {
  return new StreamServer(server, deps);
}

class StreamServer implements WebSocketServerAdapter {
  readonly #server: Server;
  readonly #deps: WebSocketServerDeps;
  readonly #timing: WebSocketTiming;
  readonly #connections = new Set<Connection>();
  readonly #slots = new CountedSlots();
  readonly #stopped = new AbortController();
  readonly #wss: WebSocketServer;
  #closing: Promise<void> | null = null;

  constructor(server: Server, deps: WebSocketServerDeps) {
    this.#server = server;
    this.#deps = deps;
    this.#timing = { ...WEBSOCKET_TIMING, ...deps.timing };
    this.#wss = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: 64 * 1024,
      maxFragments: 64,
      maxBufferedChunks: 1_024,
      handleProtocols: (offered) => (offered.has(PROTOCOL) ? PROTOCOL : false),
    });
    server.on("upgrade", this.#onUpgrade);
    void this.#repeat(this.#timing.pingMs, () => this.#pingAll());
    void this.#repeat(this.#timing.sessionMs, () => this.#checkSessions());
  }

  connections(): number {
    return this.#connections.size;
  }

  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  async #shutDown(): Promise<void> {
    this.#stopped.abort();
    this.#server.off("upgrade", this.#onUpgrade);
    const allClosed = [...this.#connections].map(
      ({ closed }) => new Promise<void>((resolve) => closed.addEventListener("abort", () => resolve())),
    );
    for (const connection of this.#connections)
      connection.close(CLOSE_CODES.restarting, "server restarting; reconnect with the last cursor");
    const cancelTimeout = new AbortController();
    const timeout = this.#deps.clock.sleep(SHUTDOWN_MS, cancelTimeout.signal).then(() => {
      for (const connection of this.#connections) connection.terminate();
    });
    await Promise.all(allClosed);
    cancelTimeout.abort();
    await timeout.catch(() => undefined);
    this.#wss.close();
  }

  // ---------------------------------------------------------------- upgrade

  readonly #onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on("error", () => socket.destroy());
    this.#admit(request).then(
      (admission) => {
        if (this.#stopped.signal.aborted) refuseUpgrade(socket, "503 Service Unavailable");
        else if (admission.state === "refused") refuseUpgrade(socket, admission.status);
        else {
          const identity = admission.state === "authenticated" ? admission.identity : null;
          this.#wss.handleUpgrade(request, socket, head, (ws) => this.#accept(ws, identity));
        }
      },
      (error: unknown) => {
        this.#deps.log.error({ error: errorMessage(error) }, "a WebSocket upgrade failed");
        refuseUpgrade(socket, "500 Internal Server Error");
      },
    );
  };

  async #admit(request: IncomingMessage): Promise<Admission> {
    const { url = "", headers } = request;
    if (url.split("?", 1)[0] !== STREAM_PATH) return refused("404 Not Found");
    const { origin, authorization } = headers;
    if (origin !== undefined && !this.#deps.allowedOrigins().includes(origin)) return refused("403 Forbidden");
    const offered = (headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
    if (offered[0] !== "" && !offered.includes(PROTOCOL)) return refused("400 Bad Request");
    const tickets = offered.filter((name) => name.startsWith("ticket."));
    if (authorization === undefined && tickets.length === 0) {
      if (this.#slots.unauthenticated >= MAX_UNAUTHENTICATED) return refused("503 Service Unavailable");
      return { state: "unauthenticated" };
    }
    const identity = await this.#authenticateUpgrade(authorization, tickets);
    if (identity === null) return refused("401 Unauthorized");
    if (this.#slots.isFull(identity.userId)) return refused("429 Too Many Requests");
    return { state: "authenticated", identity };
  }

  /**
   * Null when the credential is invalid or was not checked in time. The header wins over a ticket.
   */
  async #authenticateUpgrade(
    authorization: string | undefined,
    tickets: readonly string[],
  ): Promise<StreamIdentity | null> {
    if (authorization !== undefined) {
      const bearer = /^bearer +(\S+)$/i.exec(authorization)?.[1];
      return bearer === undefined ? null : this.#withDeadline(this.#deps.authenticate(bearer));
    }
    const [ticket] = tickets;
    if (ticket === undefined || tickets.length > 1) return null;
    return this.#withDeadline(this.#deps.redeemTicket(ticket.slice("ticket.".length)));
  }

  /** Null when the check rejects or takes longer than `authMs`. */
  async #withDeadline(check: Promise<StreamIdentity>): Promise<StreamIdentity | null> {
    const cancelTimeout = new AbortController();
    const timeout = this.#deps.clock.sleep(this.#timing.authMs, cancelTimeout.signal).then(
      () => null,
      () => null,
    );
    const identity = await Promise.race([check.catch(() => null), timeout]);
    cancelTimeout.abort();
    return identity;
  }

  #accept(ws: WebSocket, identity: StreamIdentity | null): void {
    const { hub, clock, log } = this.#deps;
    const connection = new Connection(ws, identity, {
      hub,
      authenticate: (token) => this.#withDeadline(this.#deps.authenticate(token)),
      slots: this.#slots,
      clock,
      log,
      timing: this.#timing,
    });
    this.#connections.add(connection);
    connection.closed.addEventListener("abort", () => this.#connections.delete(connection));
  }

  // ---------------------------------------------------------------- periodic checks

  #pingAll(): void {
    for (const connection of this.#connections) connection.ping();
  }

  async #checkSessions(): Promise<void> {
    const now = this.#deps.clock.now();
    /** One lookup per session and role, shared by its connections. */
    const lookups = new Map<string, Promise<boolean>>();
    const isValid = (sessionId: string, role: Role): Promise<boolean> => {
      const key = `${role} ${sessionId}`;
      const lookup = lookups.get(key) ?? this.#deps.isSessionValid(sessionId, role);
      lookups.set(key, lookup);
      return lookup;
    };
    const checkSession = async (connection: Connection): Promise<void> => {
      const { identity } = connection;
      if (identity === null) return;
      const { sessionId, role, expiresAt } = identity;
      const valid = (expiresAt === null || expiresAt > now) && (sessionId === null || (await isValid(sessionId, role)));
      // Close only if the identity is still the one that was checked: the client may have renewed
      // it.
      if (!valid && connection.identity === identity) connection.close(CLOSE_CODES.unauthenticated, "session ended");
    };
    await Promise.all([...this.#connections].map(checkSession));
  }

  /** Runs the work every `ms` until shutdown. A failure is logged and the work runs again. */
  async #repeat(ms: number, work: () => void | Promise<void>): Promise<void> {
    const { clock, log } = this.#deps;
    while (!this.#stopped.signal.aborted) {
      try {
        await clock.sleep(ms, this.#stopped.signal);
        await work();
      } catch (error) {
        if (isAbort(error)) return;
        log.error({ error: errorMessage(error) }, "open WebSockets could not be checked");
      }
    }
  }
}

/** Counts connections: unauthenticated ones, and per user. */
class CountedSlots implements ConnectionSlots {
  readonly #perUser = new Map<string, number>();
  #unauthenticated = 0;

  get unauthenticated(): number {
    return this.#unauthenticated;
  }

  isFull(userId: string): boolean {
    return (this.#perUser.get(userId) ?? 0) >= SOCKETS_PER_USER;
  }

  takeUnauthenticated(): () => void {
    this.#unauthenticated++;
    return () => void this.#unauthenticated--;
  }

  takeForUser(userId: string): (() => void) | null {
    if (this.isFull(userId)) return null;
    this.#perUser.set(userId, (this.#perUser.get(userId) ?? 0) + 1);
    return () => {
      const left = (this.#perUser.get(userId) ?? 0) - 1;
      if (left > 0) this.#perUser.set(userId, left);
      else this.#perUser.delete(userId);
    };
  }
}

function refuseUpgrade(socket: Duplex, status: string): void {
  if (!socket.writable) return void socket.destroy();
  socket.once("finish", () => socket.destroy());
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}
