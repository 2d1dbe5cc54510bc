/** A client of the socket: real ws, keeps what it received. */
import { WebSocket } from "ws";
import { until } from "./live-server.ts";
import type { ServerFrame } from "../../../src/core/protocol/stream.ts";

type EventsFrame = Extract<ServerFrame, { type: "events" }>;

export interface StreamClient {
  readonly ws: WebSocket;
  readonly frames: ServerFrame[];
  /** Code of the close frame, or null while open; 1006 = none came. */
  closed(): number | null;
  say(frame: object): void;
  subscribe(topic: string, after?: number | null): void;
  /** Events frames of a topic. */
  batches(topic: string): EventsFrame[];
  /** The `seq`s of a topic's items in the order of arrival. */
  seqs(topic: string): number[];
  errors(): string[];
  /** Ends the connection without a close frame. */
  drop(): void;
}

/** Resolves when the server has sent `ready`. */
export async function connectClient(
  url: string,
  token: string,
  options: { readonly onFrame?: (frame: ServerFrame) => void } = {},
): Promise<StreamClient> {
  const ws = new WebSocket(url, "slipway.v1", {
    headers: { authorization: `Bearer ${token}` },
    perMessageDeflate: false,
  });
  const client = createStreamClient(ws, options.onFrame);
  await until("ready", () => {
    if (client.closed() !== null) throw new Error(`closed with ${client.closed()} before ready`);
    return client.frames.some((frame) => frame.type === "ready");
  });
  return client;
}

export function createStreamClient(ws: WebSocket, onFrame?: (frame: ServerFrame) => void): StreamClient {
  const frames: ServerFrame[] = [];
  let code: number | null = null;
  ws.on("error", () => undefined);
  ws.on("close", (value) => (code = value));
  ws.on("message", (data) => {
    const frame = JSON.parse(data.toString()) as ServerFrame;
    frames.push(frame);
    onFrame?.(frame);
  });
  const say = (frame: object): void => ws.send(JSON.stringify(frame));
  const batches = (topic: string): EventsFrame[] =>
    frames.filter((frame): frame is EventsFrame => frame.type === "events" && frame.topic === topic);
  return {
    ws,
    frames,
    closed: () => code,
    say,
    subscribe: (topic, after = 0) => say({ type: "subscribe", topic, after }),
    batches,
    seqs: (topic) => batches(topic).flatMap((frame) => frame.items.map((item) => item.seq)),
    errors: () => frames.flatMap((frame) => (frame.type === "error" ? [frame.code] : [])),
    drop: () => ws.terminate(),
  };
}

export const upTo = (n: number, from = 1): number[] => Array.from({ length: n - from + 1 }, (_, i) => from + i);
