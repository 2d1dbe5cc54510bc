/** One WebSocket connection with one subscription, as an async iterable of its frames. */
import { abortReason, throwIfAborted } from "./retry.ts";
import { CLOSE_CODES } from "../core/protocol/stream-constants.ts";
import type { ServerFrame } from "../core/protocol/stream.ts";

/** Maximum frames that wait for the consumer. */
const INBOX_LIMIT = 1_000;

export interface SocketLike {
  send(text: string): void;
  close(code?: number, reason?: string): void;
  addEventListener(type: "open" | "error", listener: () => void): void;
  addEventListener(type: "message", listener: (event: { data: unknown }) => void): void;
  addEventListener(type: "close", listener: (event: { code: number }) => void): void;
}
export type WebSocketConstructor = new (url: string, protocols: string[]) => SocketLike;

/**
 * The end of a connection: its close code (1006 without a close frame), and whether it became
 * ready.
 */
export class StreamEnd extends Error {
  readonly code: number;
  readonly opened: boolean;

  constructor(code: number, opened: boolean) {
    super(`the live stream ended (${code})`);
    this.name = "StreamEnd";
    this.code = code;
    this.opened = opened;
  }
}

/** The server rejected the subscription; reconnecting does not help. */
export class TopicRejected extends Error {
  readonly code: string;
  readonly topic: string;

  constructor(code: string, topic: string) {
    super(`the server refuses the subscription: ${code}`);
    this.name = "TopicRefused";
    this.code = code;
    this.topic = topic;
  }
}

export type TopicFrame = Extract<ServerFrame, { type: "subscribed" | "events" | "delta" | "deleted" }>;

export interface StreamRequest {
  readonly Socket: WebSocketConstructor;
  readonly url: string;
  readonly protocol: string;
  readonly token: string;
  readonly topic: string;
  readonly after: number | null;
  readonly signal?: AbortSignal | undefined;
  /**
   * After this many ms without a frame a ping is sent; after twice as many the connection counts as
   * broken.
   */
  readonly quietMs: number;
}

/**
 * Yields frames until it throws StreamEnd, TopicRejected or the reason of the signal. Leaving the
 * loop closes the connection.
 */
export async function* openStream(request: StreamRequest): AsyncGenerator<TopicFrame, void, undefined> {
  const { signal, quietMs } = request;
  throwIfAborted(signal);
  const inbox: TopicFrame[] = [];
  const ending: { reason: Error | null } = { reason: null };
  let wake: (() => void) | null = null;
  let opened = false;
  let lastFrameAt = Date.now();

  const notifyConsumer = (): void => {
    wake?.();
    wake = null;
  };
  const finish = (reason: Error): void => {
    ending.reason ??= reason;
    notifyConsumer();
  };
  const socket = new request.Socket(request.url, [request.protocol]);
  const abort = (): void => finish(abortReason(signal));
  const send = (frame: object): void => socket.send(JSON.stringify(frame));

  socket.addEventListener("open", () => send({ type: "auth", token: request.token }));
  socket.addEventListener("error", () => finish(new StreamEnd(1006, opened)));
  socket.addEventListener("close", (event) => finish(new StreamEnd(event.code, opened)));
  socket.addEventListener("message", (event) => {
    lastFrameAt = Date.now();
    const frame = parseFrame(event.data);
    if (frame === null) return;
    switch (frame.type) {
      case "ready":
        if (!opened) send({ type: "subscribe", topic: request.topic, after: request.after });
        opened = true;
        return;
      case "error":
        if (frame.topic === request.topic) finish(new TopicRejected(frame.code, request.topic));
        return;
      case "pong":
        return;
      default:
        if (frame.topic !== request.topic || ending.reason !== null) return;
        inbox.push(frame);
        // The consumer is too slow: the rest is fetched again from its cursor after a reconnect.
        if (inbox.length >= INBOX_LIMIT) finish(new StreamEnd(CLOSE_CODES.tooSlow, true));
        notifyConsumer();
    }
  });
  signal?.addEventListener("abort", abort, { once: true });
  const heartbeat = setInterval(() => {
    const quiet = Date.now() - lastFrameAt;
    if (quiet >= 2 * quietMs) finish(new StreamEnd(1006, opened));
    else if (quiet >= quietMs && opened) send({ type: "ping" });
  }, quietMs / 2);

  try {
    for (;;) {
      const frame = inbox.shift();
      if (frame !== undefined) yield frame;
      else if (ending.reason !== null) throw ending.reason;
      else
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
    }
  } finally {
    clearInterval(heartbeat);
    signal?.removeEventListener("abort", abort);
    socket.close(1000);
  }
}

/** Null for an unknown frame: a newer server may send other types. */
function parseFrame(data: unknown): ServerFrame | null {
  if (typeof data !== "string") return null;
  try {
    const frame: unknown = JSON.parse(data);
    return typeof frame === "object" && frame !== null && "type" in frame && KNOWN.has(frame.type)
      ? (frame as ServerFrame)
      : null;
  } catch {
    return null;
  }
}
const KNOWN: ReadonlySet<unknown> = new Set<ServerFrame["type"]>([
  "ready",
  "subscribed",
  "events",
  "delta",
  "deleted",
  "error",
  "pong",
]);
