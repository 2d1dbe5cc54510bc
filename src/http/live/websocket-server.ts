/**
 * The door for sockets: `GET /v1/stream`. Decides who comes in, reads frames, hands topics to the
 * hub.
 *
 * L1 Nothing of a task leaves before the person is known, nor after their session ended (checked
 *    every few seconds).
 * L2 Everything that waits for a client is bounded: in time (authentication, pings, closing), in
 *    number and in bytes.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocket, WebSocketServer } from "ws";
import { isAbort, errorMessage } from "../../core/error.ts";
import type { HubConnection, Hub, FrameSink } from "./hub.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import type { Identity } from "../../core/ports/accounts.ts";
import {
  CLOSE_CODES,
  clientFrameSchema,
  PROTOCOL,
  type ClientFrame,
  type ServerFrame,
} from "../../core/protocol/stream.ts";

export const STREAM_PATH = "/v1/stream";

/** A person with what ends their socket. Null = not by that. */
export interface StreamIdentity extends Identity {
  readonly sessionId: string | null;
  /** Epoch ms. */
  readonly expiresAt: number | null;
}

export interface WebSocketTiming {
  /**
   * Longest wait for the first frame of somebody who is not known, and for an answer to a ticket or
   * header.
   */
  readonly authMs: number;
  /** Between two looks at the sessions of open sockets. */
  readonly sessionMs: number;
  readonly pingMs: number;
  /** From our close frame to the end of the connection. */
  readonly closeMs: number;
}
export const WEBSOCKET_TIMING: WebSocketTiming = { authMs: 5_000, sessionMs: 2_000, pingMs: 30_000, closeMs: 5_000 };

export interface WebSocketServerDeps {
  readonly hub: Hub;
  /** Who a bearer token is; rejects for nobody. */
  readonly authenticate: (bearer: string) => Promise<StreamIdentity>;
  /** The same for a ticket, which is used up. */
  readonly redeemTicket: (ticket: string) => Promise<StreamIdentity>;
  readonly isSessionValid: (sessionId: string | null) => Promise<boolean>;
  /**
   * Web origins that may connect, as `https://host[:port]`. Clients that send no Origin are not
   * browsers and may.
   */
  readonly allowedOrigins: () => readonly string[];
  readonly clock: Clock;
  readonly log: Log;
  readonly timing?: Partial<WebSocketTiming>;
}

export interface WebSocketServerAdapter {
  /** Open sockets. */
  connections(): number;
  /**
   * Tells everyone to reconnect (1012); who has not gone after a second is disconnected.
   * Idempotent.
   */
  close(): Promise<void>;
}

export const SOCKETS_PER_USER = 20;
/** Sockets of people who are not known yet. */
const STRANGERS = 1_000;
const BAD_FRAMES = 10;
/**
 * Frames that a client may send at once, and per minute after that. More at once than there are
 * subscriptions, so that a reconnect passes.
 */
const BURST = 300;
const PER_MINUTE = 100;
const SHUTDOWN_MS = 1_000;
const MISSED_PINGS = 2;

/** One open socket. */
interface Connection {
  readonly ws: WebSocket;
  readonly sink: FrameSink;
  visitor: StreamIdentity | null;
  connection: HubConnection | null;
  /** Aborted when the socket is gone. */
  readonly left: AbortController;
  /** Frames are handled one after another; this is the last one's end. */
  turn: Promise<void>;
  missed: number;
  bad: number;
  /** Frames that may still come now, as of `countedAt`. */
  allowance: number;
  countedAt: number;
}

/**
 * What becomes of a request: a visitor (null: they will say who they are in their first frame), or
 * the status line of a refusal.
 */
type Admission = { readonly visitor: StreamIdentity | null } | { readonly refused: string };

export function attachWebSocketServer(server: Server, deps: WebSocketServerDeps): WebSocketServerAdapter {
  return new Door(server, deps);
}

class Door implements WebSocketServerAdapter {
  readonly #server: Server;
  readonly #deps: WebSocketServerDeps;
  readonly #timing: WebSocketTiming;
  readonly #guests = new Set<Connection>();
  readonly #perUser = new Map<string, number>();
  readonly #stopped = new AbortController();
  readonly #wss: WebSocketServer;
  #strangers = 0;
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
    void this.#every(this.#timing.pingMs, () => this.#ping());
    void this.#every(this.#timing.sessionMs, () => this.#checkSessions());
  }

  connections(): number {
    return this.#guests.size;
  }

  close(): Promise<void> {
    this.#closing ??= this.#shutDown();
    return this.#closing;
  }

  async #shutDown(): Promise<void> {
    this.#stopped.abort();
    this.#server.off("upgrade", this.#onUpgrade);
    const gone = [...this.#guests].map(
      (guest) => new Promise<void>((resolve) => guest.ws.once("close", () => resolve())),
    );
    for (const guest of this.#guests)
      this.#dismiss(guest, CLOSE_CODES.restarting, "restarting; reconnect with your cursor");
    const late = new AbortController();
    const terminate = this.#deps.clock.sleep(SHUTDOWN_MS, late.signal).then(() => {
      for (const guest of this.#guests) guest.ws.terminate();
    });
    await Promise.all(gone);
    late.abort();
    await terminate.catch(() => undefined);
    this.#wss.close();
  }

  // ---------------------------------------------------------------- coming in

  readonly #onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer): void => {
    socket.on("error", () => socket.destroy());
    this.#admit(request).then(
      (admission) => {
        if (this.#stopped.signal.aborted) refuse(socket, "503 Service Unavailable");
        else if ("refused" in admission) refuse(socket, admission.refused);
        else this.#wss.handleUpgrade(request, socket, head, (ws) => this.#welcome(ws, admission.visitor));
      },
      (error: unknown) => {
        this.#deps.log.error({ error: errorMessage(error) }, "a socket could not be opened");
        refuse(socket, "500 Internal Server Error");
      },
    );
  };

  async #admit(request: IncomingMessage): Promise<Admission> {
    const { url = "", headers } = request;
    if (url.split("?", 1)[0] !== STREAM_PATH) return { refused: "404 Not Found" };
    const { origin, authorization } = headers;
    if (origin !== undefined && !this.#deps.allowedOrigins().includes(origin)) return { refused: "403 Forbidden" };
    const offered = (headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
    if (offered[0] !== "" && !offered.includes(PROTOCOL)) return { refused: "400 Bad Request" };
    const tickets = offered.filter((name) => name.startsWith("ticket."));
    if (authorization === undefined && tickets.length === 0) {
      if (this.#strangers >= STRANGERS) return { refused: "503 Service Unavailable" };
      return { visitor: null };
    }
    const visitor = await this.#identify(authorization, tickets);
    if (visitor === null) return { refused: "401 Unauthorized" };
    if (this.#count(visitor) >= SOCKETS_PER_USER) return { refused: "429 Too Many Requests" };
    return { visitor };
  }

  /** Null for nobody: a wrong secret, or no answer in time. */
  async #identify(authorization: string | undefined, tickets: readonly string[]): Promise<StreamIdentity | null> {
    const bearer = /^bearer +(\S+)$/i.exec(authorization ?? "")?.[1];
    const [ticket] = tickets;
    if (authorization !== undefined) return bearer === undefined ? null : this.#inTime(this.#deps.authenticate(bearer));
    if (ticket === undefined || tickets.length > 1) return null;
    return this.#inTime(this.#deps.redeemTicket(ticket.slice("ticket.".length)));
  }

  async #inTime(answer: Promise<StreamIdentity>): Promise<StreamIdentity | null> {
    const late = new AbortController();
    const bell = this.#deps.clock.sleep(this.#timing.authMs, late.signal).then(
      () => null,
      () => null,
    );
    const visitor = await Promise.race([answer.catch(() => null), bell]);
    late.abort();
    return visitor;
  }

  #count(visitor: StreamIdentity): number {
    return this.#perUser.get(visitor.userId) ?? 0;
  }

  #welcome(ws: WebSocket, visitor: StreamIdentity | null): void {
    const guest: Connection = {
      ws,
      sink: {
        // Buffers are text too: made once for all who get the same.
        send: (frame) => ws.send(frame, { binary: false }),
        buffered: () => ws.bufferedAmount,
        close: (code, reason) => this.#dismiss(guest, code, reason),
      },
      visitor: null,
      connection: null,
      left: new AbortController(),
      turn: Promise.resolve(),
      missed: 0,
      bad: 0,
      allowance: BURST,
      countedAt: this.#deps.clock.now(),
    };
    this.#guests.add(guest);
    ws.on("error", (error) => this.#deps.log.debug({ error: errorMessage(error) }, "a socket failed"));
    ws.once("close", () => this.#forget(guest));
    ws.on("ping", () => this.#allow(guest));
    ws.on("pong", () => {
      guest.missed = 0;
      this.#allow(guest);
    });
    ws.on("message", (data, isBinary) => {
      if (!this.#allow(guest)) return;
      const frame = isBinary ? null : parse(data.toString());
      guest.turn = guest.turn
        .then(() => this.#handle(guest, frame))
        .catch((error: unknown) => this.#fail(guest, error));
    });
    if (visitor === null) this.#awaitName(guest);
    else this.#seat(guest, visitor);
  }

  /** The first frame of a stranger has to come in time. */
  #awaitName(guest: Connection): void {
    this.#strangers++;
    guest.left.signal.addEventListener("abort", () => {
      if (guest.visitor === null) this.#strangers--;
    });
    this.#after(this.#timing.authMs, guest, () => {
      if (guest.visitor === null) this.#dismiss(guest, CLOSE_CODES.unauthenticated, "say who you are first");
    });
  }

  /** Unless the socket is gone by then. */
  #after(ms: number, guest: Connection, work: () => void): void {
    this.#deps.clock.sleep(ms, guest.left.signal).then(work, () => undefined);
  }

  #seat(guest: Connection, visitor: StreamIdentity): void {
    if (this.#count(visitor) >= SOCKETS_PER_USER) return this.#dismiss(guest, CLOSE_CODES.policy, "too many sockets");
    this.#perUser.set(visitor.userId, this.#count(visitor) + 1);
    guest.visitor = visitor;
    guest.connection = this.#deps.hub.connect(visitor, guest.sink);
    say(guest, { type: "ready" });
  }

  // ---------------------------------------------------------------- frames

  /** False when the client sends too much: then it is on its way out. */
  #allow(guest: Connection): boolean {
    if (guest.ws.readyState !== WebSocket.OPEN) return false;
    const now = this.#deps.clock.now();
    const earned = (Math.max(0, now - guest.countedAt) * PER_MINUTE) / 60_000;
    guest.allowance = Math.min(BURST, guest.allowance + earned) - 1;
    guest.countedAt = now;
    if (guest.allowance >= 0) return true;
    this.#dismiss(guest, CLOSE_CODES.policy, "too many frames");
    return false;
  }

  async #handle(guest: Connection, frame: ClientFrame | null): Promise<void> {
    if (guest.ws.readyState !== WebSocket.OPEN) return;
    if (guest.connection === null) {
      if (frame?.type !== "auth") return this.#dismiss(guest, CLOSE_CODES.unauthenticated, "say who you are first");
      return this.#authenticate(guest, frame.token);
    }
    switch (frame?.type) {
      case undefined:
        say(guest, { type: "error", code: "invalid_frame" });
        if (++guest.bad >= BAD_FRAMES) this.#dismiss(guest, CLOSE_CODES.policy, "too many invalid frames");
        return;
      case "auth":
        return this.#authenticate(guest, frame.token);
      case "subscribe":
        return guest.connection.subscribe(frame.topic, frame.after);
      case "unsubscribe":
        return guest.connection.unsubscribe(frame.topic);
      case "ping":
        return say(guest, { type: "pong" });
    }
  }

  /**
   * Of a stranger, or again of someone whose token is about to expire: the socket then lives as
   * long as the new one.
   */
  async #authenticate(guest: Connection, token: string): Promise<void> {
    const visitor = await this.#inTime(this.#deps.authenticate(token));
    if (guest.ws.readyState !== WebSocket.OPEN) return;
    const before = guest.visitor;
    if (visitor === null || (before !== null && before.userId !== visitor.userId)) {
      return this.#dismiss(guest, CLOSE_CODES.unauthenticated, "not authenticated");
    }
    if (before === null) {
      this.#seat(guest, visitor);
      if (guest.visitor !== null) this.#strangers--;
      return;
    }
    guest.visitor = visitor;
    say(guest, { type: "ready" });
  }

  // ---------------------------------------------------------------- going out

  /** Idempotent. No data follows, whether or not the client answers our close frame. */
  #dismiss(guest: Connection, code: number, reason: string): void {
    guest.connection?.close();
    if (guest.ws.readyState !== WebSocket.OPEN) return;
    this.#deps.log.debug({ code, reason, userId: guest.visitor?.userId ?? null }, "a socket is closed");
    guest.ws.close(code, reason);
    this.#after(this.#timing.closeMs, guest, () => guest.ws.terminate());
  }

  #forget(guest: Connection): void {
    guest.left.abort();
    guest.connection?.close();
    this.#guests.delete(guest);
    if (guest.visitor === null) return;
    const rest = this.#count(guest.visitor) - 1;
    if (rest > 0) this.#perUser.set(guest.visitor.userId, rest);
    else this.#perUser.delete(guest.visitor.userId);
  }

  #fail(guest: Connection, error: unknown): void {
    this.#deps.log.error({ error: errorMessage(error) }, "a frame could not be handled");
    this.#dismiss(guest, 1011, "internal error");
  }

  #ping(): void {
    for (const guest of this.#guests) {
      if (guest.missed >= MISSED_PINGS) guest.ws.terminate();
      else if (guest.ws.readyState === WebSocket.OPEN) {
        guest.missed++;
        guest.ws.ping();
      }
    }
  }

  async #checkSessions(): Promise<void> {
    const now = this.#deps.clock.now();
    const verdicts = new Map<string, Promise<boolean>>();
    const judge = async (guest: Connection): Promise<void> => {
      const { visitor } = guest;
      if (visitor === null) return;
      const { sessionId, expiresAt } = visitor;
      let valid = expiresAt === null || expiresAt > now;
      if (valid && sessionId !== null) {
        const verdict = verdicts.get(sessionId) ?? this.#deps.isSessionValid(sessionId);
        verdicts.set(sessionId, verdict);
        valid = await verdict;
      }
      // Judged is the visit that was looked at: a new token may have come meanwhile.
      if (!valid && guest.visitor === visitor) this.#dismiss(guest, CLOSE_CODES.unauthenticated, "the session is over");
    };
    await Promise.all([...this.#guests].map(judge));
  }

  async #every(ms: number, work: () => void | Promise<void>): Promise<void> {
    const { clock, log } = this.#deps;
    while (!this.#stopped.signal.aborted) {
      try {
        await clock.sleep(ms, this.#stopped.signal);
        await work();
      } catch (error) {
        if (isAbort(error)) return;
        log.error({ error: errorMessage(error) }, "open sockets could not be checked");
      }
    }
  }
}

function refuse(socket: Duplex, status: string): void {
  if (!socket.writable) return void socket.destroy();
  socket.once("finish", () => socket.destroy());
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

function parse(text: string): ClientFrame | null {
  try {
    return clientFrameSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

function say(guest: Connection, frame: ServerFrame): void {
  guest.sink.send(JSON.stringify(frame));
}
