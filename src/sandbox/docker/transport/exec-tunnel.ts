/**
 * The transport for engines that cannot mount the broker's socket: another machine, or a virtual
 * machine.
 *
 * U1 A relay in the container (worker/connection/forwarding/relay.ts) listens at the path of the
 *    socket and speaks HTTP/2 with the coordinator over the standard streams of an exec. Each
 *    connection of the worker is one CONNECT stream, for which the coordinator connects to the
 *    broker's socket on its own machine. The container has no network, and no port is opened
 *    (decision 024).
 * U2 The relay is as untrusted as the worker: streams, headers and sessions are bounded, only
 *    CONNECT is answered, and a relay that misses its pings is disconnected.
 * U3 A tunnel belongs to this process: after a restart the coordinator opens a new one. A relay
 *    that ends is started again while its container runs.
 */
import { createServer, type Http2Session, type ServerHttp2Stream } from "node:http2";
import { connect } from "node:net";
import { Duplex, finished } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { isAbort } from "../../../core/error.ts";
import type { Engine } from "../engine.ts";
import { StandardOutput } from "./stream-demux.ts";

/** Concurrent connections per worker: a little above the broker's limit (decision 019). */
const MAX_STREAMS = 300;
const WINDOW_BYTES = 1_048_576;
const MAX_HEADER_BYTES = 2_048;
const PING_INTERVAL_MS = 2_000;
/** A relay without an answer to a ping for this long is disconnected. */
const PING_TIMEOUT_MS = 10_000;
/** Delay before a relay is restarted, doubled with each run shorter than HEALTHY_MS. */
const RESTART_MIN_MS = 100;
const RESTART_MAX_MS = 5_000;
const HEALTHY_MS = 10_000;

/** Serves one relay until its streams end. */
function serve(relay: Duplex, socketPath: string): Promise<void> {
  const server = createServer({
    maxSessionMemory: 16,
    settings: {
      maxConcurrentStreams: MAX_STREAMS,
      initialWindowSize: WINDOW_BYTES,
      maxHeaderListSize: MAX_HEADER_BYTES,
      enablePush: false,
    },
  });
  server.on("session", (session) => {
    session.setLocalWindowSize(4 * WINDOW_BYTES);
    session.on("error", () => relay.destroy());
    session.on("close", () => relay.destroy());
    pingRegularly(session, relay);
  });
  server.on("sessionError", () => relay.destroy());
  server.on("stream", (stream, headers) => {
    stream.on("error", () => undefined);
    if (headers[":method"] === "CONNECT") forward(stream, socketPath);
    else stream.close();
  });
  const ended = new Promise<void>((resolve) => finished(relay, () => resolve()));
  relay.on("error", () => undefined);
  server.emit("connection", relay);
  return ended;
}

/**
 * After a protocol error Node's session may stop reading without an event; the end of the stream is
 * then never seen. The ping timeout ends such a session.
 */
function pingRegularly(session: Http2Session, relay: Duplex): void {
  let answeredAt = Date.now();
  const timer = setInterval(() => {
    if (Date.now() - answeredAt > PING_TIMEOUT_MS) return void relay.destroy();
    if (!session.destroyed) session.ping((error) => (error === null ? (answeredAt = Date.now()) : relay.destroy()));
  }, PING_INTERVAL_MS);
  relay.once("close", () => clearInterval(timer));
}

/** Half-close is forwarded in both directions; an error on one side closes the other. */
function forward(stream: ServerHttp2Stream, socketPath: string): void {
  const socket = connect({ path: socketPath, allowHalfOpen: true });
  socket.on("connect", () => {
    if (stream.destroyed) return void socket.destroy();
    stream.respond({ ":status": 200 });
    stream.pipe(socket);
    socket.pipe(stream);
  });
  socket.on("error", () => stream.close());
  socket.on("close", () => {
    if (!stream.writableEnded) stream.close();
  });
  stream.on("aborted", () => socket.destroy());
  stream.on("close", () => socket.destroy());
}

export interface ExecTunnelDeps {
  readonly engine: Engine;
  /** False when the container has ended or is gone; rejects when the engine does not answer. */
  readonly isRunning: (name: string, signal: AbortSignal) => Promise<boolean>;
}

export class ExecTunnels {
  readonly #engine: Engine;
  readonly #isRunning: ExecTunnelDeps["isRunning"];
  readonly #open = new Set<string>();
  readonly #closing = new AbortController();

  constructor({ engine, isRunning }: ExecTunnelDeps) {
    this.#engine = engine;
    this.#isRunning = isRunning;
  }

  /**
   * Keeps a tunnel from the container to the socket at `socketPath` open while the container runs.
   * Idempotent; never throws.
   * @param command starts the worker's program in the container; `relay` is appended.
   */
  open(name: string, socketPath: string, command: readonly string[]): void {
    if (this.#closing.signal.aborted || this.#open.has(name)) return;
    this.#open.add(name);
    void this.#keepOpen(name, socketPath, command)
      .catch(() => undefined)
      .finally(() => this.#open.delete(name));
  }

  close(): void {
    this.#closing.abort();
  }

  /** Errors of one run are dropped: only the container's end stops the restarts. */
  async #keepOpen(name: string, socketPath: string, command: readonly string[]): Promise<void> {
    const { signal } = this.#closing;
    let pause = RESTART_MIN_MS;
    while (!signal.aborted) {
      const begun = Date.now();
      await this.#runRelay(name, socketPath, command).catch(() => undefined);
      if (!(await this.#isRunning(name, signal).catch(() => true))) return;
      pause = Date.now() - begun > HEALTHY_MS ? RESTART_MIN_MS : Math.min(RESTART_MAX_MS, pause * 2);
      await delay(pause, undefined, { signal }).catch((error: unknown) => {
        if (!isAbort(error)) throw error;
      });
    }
  }

  async #runRelay(name: string, socketPath: string, command: readonly string[]): Promise<void> {
    const { signal } = this.#closing;
    const exec = await this.#engine.call(
      (docker, stop) =>
        docker.getContainer(name).exec({
          Cmd: [...command, "relay"],
          AttachStdin: true,
          AttachStdout: true,
          AttachStderr: false,
          Tty: false,
          abortSignal: stop,
        }),
      signal,
    );
    const raw = await this.#engine.call(() => exec.start({ hijack: true, stdin: true }), signal);
    const output = new StandardOutput();
    raw.on("error", () => output.destroy());
    const relay = Duplex.from({ readable: raw.pipe(output), writable: raw });
    const stop = (): void => void relay.destroy();
    signal.addEventListener("abort", stop, { once: true });
    try {
      await serve(relay, socketPath);
    } finally {
      signal.removeEventListener("abort", stop);
      raw.destroy();
    }
  }
}
