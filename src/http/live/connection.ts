/**
 * One open WebSocket: authentication, client frames and the way to the close frame.
 *
 * C1 States only move forward: `awaiting_auth` -> `open` -> `closing`. In `closing` no frame is
 *    handled and none is sent.
 * C2 Frames of one connection are handled one at a time, in the order in which they arrived.
 * C3 A connection holds its slot until the socket has closed, not until its close frame was sent.
 */
import { WebSocket, type RawData } from "ws";
import { errorMessage } from "../../core/error.ts";
import type { Identity } from "../../core/ports/accounts.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import { CLOSE_CODES } from "../../core/protocol/stream-constants.ts";
import { clientFrameSchema, type ClientFrame, type ServerFrame } from "../../core/protocol/stream.ts";
import { encodeFrame } from "./frames.ts";
import type { Hub, HubConnection } from "./hub.ts";

/** An authenticated user and what ends the connection. Null = not ended by that. */
export interface StreamIdentity extends Identity {
  readonly sessionId: string | null;
  /** Epoch ms. */
  readonly expiresAt: number | null;
}

export interface ConnectionTiming {
  /**
   * Longest wait, in ms, for the first frame of an unauthenticated client and for one credential
   * check.
   */
  readonly authMs: number;
  /** From the server's close frame to the end of the TCP connection, in ms. */
  readonly closeMs: number;
}

export interface ConnectionContext {
  readonly hub: Hub;
  /** Null when the token is invalid or the check took longer than `authMs`. */
  readonly authenticate: (token: string) => Promise<StreamIdentity | null>;
  readonly slots: ConnectionSlots;
  readonly clock: Clock;
  readonly log: Log;
  readonly timing: ConnectionTiming;
}

/** Each returned function gives the slot back; it is called once. */
export interface ConnectionSlots {
  takeUnauthenticated(): () => void;
  /** Null when the user has as many connections as one user may have. */
  takeForUser(userId: string): (() => void) | null;
}

type ConnectionState =
  | { readonly state: "awaiting_auth" }
  | { readonly state: "open"; readonly identity: StreamIdentity; readonly subscriptions: HubConnection }
  | { readonly state: "closing" };

const MAX_INVALID_FRAMES = 10;
const MAX_MISSED_PONGS = 2;
/**
 * Frames that a client may send at once, and per minute after that. The burst exceeds the number of
 * subscriptions per connection, so that a client can subscribe to all its topics after a reconnect.
 */
const BURST = 300;
const PER_MINUTE = 100;
const INTERNAL_ERROR = 1011;

export class Connection {
  readonly #ws: WebSocket;
  readonly #context: ConnectionContext;
  /** Aborted when the socket has closed. */
  readonly #closed = new AbortController();
  #state: ConnectionState = { state: "awaiting_auth" };
  #releaseSlot: () => void;
  /** Settles when the last frame that arrived has been handled (C2). */
  #lastFrame: Promise<void> = Promise.resolve();
  #missedPongs = 0;
  #invalidFrames = 0;
  /** Frames that may still come, as of `#countedAt`. */
  #allowance = BURST;
  #countedAt: number;

  /** @param identity null when the client authenticates in its first frame. */
  constructor(ws: WebSocket, identity: StreamIdentity | null, context: ConnectionContext) {
    this.#ws = ws;
    this.#context = context;
    this.#countedAt = context.clock.monotonic();
    this.#releaseSlot = context.slots.takeUnauthenticated();
    ws.on("error", (error) => context.log.debug({ error: errorMessage(error) }, "a WebSocket failed"));
    ws.once("close", () => this.#onClosed());
    ws.on("ping", () => this.#countFrame());
    ws.on("pong", () => {
      this.#missedPongs = 0;
      this.#countFrame();
    });
    ws.on("message", (data, isBinary) => this.#onMessage(data, isBinary));
    if (identity !== null) this.#open(identity);
    else {
      this.#after(context.timing.authMs, () => {
        if (this.#state.state === "awaiting_auth") this.close(CLOSE_CODES.unauthenticated, "authenticate first");
      });
    }
  }

  /** Null unless the connection is open. */
  get identity(): StreamIdentity | null {
    return this.#state.state === "open" ? this.#state.identity : null;
  }

  /** Aborted when the socket has closed. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /**
   * Sends the close frame. Idempotent. No data follows, whether or not the client answers; without
   * an answer the TCP connection ends after `closeMs`.
   */
  close(code: number, reason: string): void {
    const userId = this.identity?.userId ?? null;
    this.#endSubscriptions();
    if (this.#ws.readyState !== WebSocket.OPEN) return;
    this.#context.log.debug({ code, reason, userId }, "a WebSocket is closed by the server");
    this.#ws.close(code, reason);
    this.#after(this.#context.timing.closeMs, () => this.#ws.terminate());
  }

  /** Ends the TCP connection without a close frame. */
  terminate(): void {
    this.#ws.terminate();
  }

  /** Sends a ping, or terminates the connection after two pings without a pong. */
  ping(): void {
    if (this.#missedPongs >= MAX_MISSED_PONGS) this.#ws.terminate();
    else if (this.#ws.readyState === WebSocket.OPEN) {
      this.#missedPongs++;
      this.#ws.ping();
    }
  }

  // ---------------------------------------------------------------- authentication

  /**
   * Exchanges the unauthenticated slot for one of the user, or closes when the user has none left.
   */
  #open(identity: StreamIdentity): void {
    const releaseSlot = this.#context.slots.takeForUser(identity.userId);
    if (releaseSlot === null) return this.close(CLOSE_CODES.policy, "too many connections");
    this.#releaseSlot();
    this.#releaseSlot = releaseSlot;
    const subscriptions = this.#context.hub.connect(identity, {
      // A buffer holds UTF-8 text that was encoded once for all its receivers.
      send: (frame) => this.#ws.send(frame, { binary: false }),
      buffered: () => this.#ws.bufferedAmount,
      close: (code, reason) => this.close(code, reason),
    });
    this.#state = { state: "open", identity, subscriptions };
    this.#send({ type: "ready" });
  }

  /**
   * Authenticates a new connection, or renews an open one before its token expires. A renewed
   * connection lives as long as the new token; it cannot change its user.
   */
  async #authenticate(token: string): Promise<void> {
    const identity = await this.#context.authenticate(token);
    if (this.#ws.readyState !== WebSocket.OPEN) return;
    const current = this.#state;
    if (current.state === "closing") return;
    if (identity === null || (current.state === "open" && current.identity.userId !== identity.userId))
      return this.close(CLOSE_CODES.unauthenticated, "not authenticated");
    if (current.state === "awaiting_auth") return this.#open(identity);
    this.#state = { ...current, identity };
    this.#send({ type: "ready" });
  }

  // ---------------------------------------------------------------- frames

  #onMessage(data: RawData, isBinary: boolean): void {
    if (!this.#countFrame()) return;
    const frame = isBinary ? null : parseFrame(data.toString());
    this.#lastFrame = this.#lastFrame
      .then(() => this.#handle(frame))
      .catch((error: unknown) => {
        this.#context.log.error({ error: errorMessage(error) }, "a frame could not be handled");
        this.close(INTERNAL_ERROR, "internal error");
      });
  }

  /** Returns false and closes the connection when the client exceeds its allowance of frames. */
  #countFrame(): boolean {
    if (this.#ws.readyState !== WebSocket.OPEN) return false;
    const now = this.#context.clock.monotonic();
    const earned = (Math.max(0, now - this.#countedAt) * PER_MINUTE) / 60_000;
    this.#allowance = Math.min(BURST, this.#allowance + earned) - 1;
    this.#countedAt = now;
    if (this.#allowance >= 0) return true;
    this.close(CLOSE_CODES.policy, "too many frames");
    return false;
  }

  async #handle(frame: ClientFrame | null): Promise<void> {
    if (this.#ws.readyState !== WebSocket.OPEN) return;
    const current = this.#state;
    switch (current.state) {
      case "awaiting_auth":
        if (frame?.type !== "auth") return this.close(CLOSE_CODES.unauthenticated, "authenticate first");
        return this.#authenticate(frame.token);
      case "open":
        return this.#handleOpen(frame, current.subscriptions);
      case "closing":
        return;
    }
  }

  async #handleOpen(frame: ClientFrame | null, subscriptions: HubConnection): Promise<void> {
    switch (frame?.type) {
      case undefined:
        this.#send({ type: "error", code: "invalid_frame" });
        if (++this.#invalidFrames >= MAX_INVALID_FRAMES) this.close(CLOSE_CODES.policy, "too many invalid frames");
        return;
      case "auth":
        return this.#authenticate(frame.token);
      case "subscribe":
        return subscriptions.subscribe(frame.topic, frame.after);
      case "unsubscribe":
        return subscriptions.unsubscribe(frame.topic);
      case "ping":
        return this.#send({ type: "pong" });
    }
  }

  #send(frame: ServerFrame): void {
    this.#ws.send(encodeFrame(frame), { binary: false });
  }

  // ---------------------------------------------------------------- end

  #endSubscriptions(): void {
    if (this.#state.state === "open") this.#state.subscriptions.close();
    this.#state = { state: "closing" };
  }

  #onClosed(): void {
    this.#closed.abort();
    this.#endSubscriptions();
    this.#releaseSlot();
  }

  /** Skipped when the socket closes before that. */
  #after(ms: number, work: () => void): void {
    this.#context.clock.sleep(ms, this.#closed.signal).then(work, () => undefined);
  }
}

function parseFrame(text: string): ClientFrame | null {
  try {
    return clientFrameSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}
