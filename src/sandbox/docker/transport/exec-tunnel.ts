/**
 * The door of a container on an engine that does not see our files (another machine, a virtual
 * one): the broker's socket cannot be mounted there.
 *
 * U1 A helper in the container (worker/connection/relay.ts) listens where the socket would lie, and
 *    speaks HTTP/2 with us over its own standard streams, which the engine carries. Each connection
 *    of the worker is one CONNECT stream; for each we dial the broker's socket, which stays on this
 *    machine. The container has no network and nobody has a port (decision 024).
 * U2 The helper is as hostile as the worker: streams, headers and sessions are bounded, and nothing
 *    but CONNECT is answered. One that gives no sign of life is given up.
 * U3 A tunnel belongs to this process: a coordinator that starts again digs another one. A helper
 *    that ends is started again while its container runs.
 */
import { createServer, type Http2Session, type ServerHttp2Stream } from "node:http2";
import { connect } from "node:net";
import { Duplex, finished, Transform, type TransformCallback } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { isAbort } from "../../../core/error.ts";
import type { Engine } from "../engine.ts";

export interface ExecTunnels {
  /**
   * From now on, while the container runs, its worker reaches the socket at `path`. `worker`: how
   * it is started there. Idempotent; never throws.
   */
  keep(name: string, path: string, worker: readonly string[]): void;
  close(): void;
}

/** Connections of one worker at a time: a little above what the broker keeps (decision 019). */
const STREAMS = 300;
const WINDOW = 1_048_576;
const HEADERS = 2_048;
/**
 * How often a helper is asked for a sign of life, and after how much silence it is given up, ms.
 */
const PING_MS = 2_000;
const DEAF_MS = 10_000;
/** A helper that ends is started again after this, doubled each time that it ends soon, ms. */
const REST_MS = 100;
const REST_MAX_MS = 5_000;
/** One that lived so long had no trouble of its own, ms. */
const HEALTHY_MS = 10_000;

const FRAME = 8;
const STDOUT = 1;

/**
 * The standard output in the engine's framing: a byte that says which stream, three of nothing,
 * four of length, then so many bytes.
 */
export class StandardOutput extends Transform {
  #head = Buffer.alloc(0);
  #left = 0;
  #wanted = false;

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#left === 0) {
        const take = Math.min(FRAME - this.#head.length, chunk.length - at);
        this.#head = Buffer.concat([this.#head, chunk.subarray(at, at + take)]);
        at += take;
        if (this.#head.length < FRAME) break;
        this.#wanted = this.#head[0] === STDOUT;
        this.#left = this.#head.readUInt32BE(4);
        this.#head = Buffer.alloc(0);
      } else {
        const piece = chunk.subarray(at, at + this.#left);
        if (this.#wanted) this.push(piece);
        this.#left -= piece.length;
        at += piece.length;
      }
    }
    done();
  }
}

/** Serves one helper until its streams end. */
function serve(line: Duplex, path: string): Promise<void> {
  const server = createServer({
    maxSessionMemory: 16,
    settings: {
      maxConcurrentStreams: STREAMS,
      initialWindowSize: WINDOW,
      maxHeaderListSize: HEADERS,
      enablePush: false,
    },
  });
  server.on("session", (session) => {
    session.setLocalWindowSize(4 * WINDOW);
    session.on("error", () => line.destroy());
    session.on("close", () => line.destroy());
    attend(session, line);
  });
  server.on("sessionError", () => line.destroy());
  server.on("stream", (stream, headers) => {
    stream.on("error", () => undefined);
    if (headers[":method"] === "CONNECT") join(stream, path);
    else stream.close();
  });
  const over = new Promise<void>((resolve) => finished(line, () => resolve()));
  line.on("error", () => undefined);
  server.emit("connection", line);
  return over;
}

/**
 * A session that was told nonsense may stop reading without a word; then the end of the line is not
 * seen either.
 */
function attend(session: Http2Session, line: Duplex): void {
  let heardAt = Date.now();
  const timer = setInterval(() => {
    if (Date.now() - heardAt > DEAF_MS) return void line.destroy();
    if (!session.destroyed) session.ping((error) => (error === null ? (heardAt = Date.now()) : line.destroy()));
  }, PING_MS);
  line.once("close", () => clearInterval(timer));
}

/** Both ends close their half by themselves; who breaks, breaks the other. */
function join(stream: ServerHttp2Stream, path: string): void {
  const socket = connect({ path, allowHalfOpen: true });
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

export interface TunnelDeps {
  readonly engine: Engine;
  /** False when the container has ended or is gone; rejects when the engine does not answer. */
  readonly runs: (name: string, signal: AbortSignal) => Promise<boolean>;
}

export function openExecTunnels({ engine, runs }: TunnelDeps): ExecTunnels {
  const dug = new Map<string, Promise<void>>();
  const closing = new AbortController();

  async function dig(name: string, path: string, worker: readonly string[]): Promise<void> {
    const { signal } = closing;
    const exec = await engine.call(
      (docker, stop) =>
        docker.getContainer(name).exec({
          Cmd: [...worker, "relay"],
          AttachStdin: true,
          AttachStdout: true,
          AttachStderr: false,
          Tty: false,
          abortSignal: stop,
        }),
      signal,
    );
    const raw = await engine.call(() => exec.start({ hijack: true, stdin: true }), signal);
    const output = new StandardOutput();
    raw.on("error", () => output.destroy());
    const line = Duplex.from({ readable: raw.pipe(output), writable: raw });
    const stop = (): void => void line.destroy();
    signal.addEventListener("abort", stop, { once: true });
    try {
      await serve(line, path);
    } finally {
      signal.removeEventListener("abort", stop);
      raw.destroy();
    }
  }

  async function hold(name: string, path: string, worker: readonly string[]): Promise<void> {
    const { signal } = closing;
    let rest = REST_MS;
    while (!signal.aborted) {
      const begun = Date.now();
      // Whatever went wrong: what counts is whether the container still runs.
      await dig(name, path, worker).catch(() => undefined);
      if (!(await runs(name, signal).catch(() => true))) return;
      rest = Date.now() - begun > HEALTHY_MS ? REST_MS : Math.min(REST_MAX_MS, rest * 2);
      await delay(rest, undefined, { signal }).catch((error: unknown) => {
        if (!isAbort(error)) throw error;
      });
    }
  }

  return {
    keep(name, path, worker) {
      if (closing.signal.aborted || dug.has(name)) return;
      const held = hold(name, path, worker)
        .catch(() => undefined)
        .finally(() => dug.delete(name));
      dug.set(name, held);
    },
    close() {
      closing.abort();
    },
  };
}
