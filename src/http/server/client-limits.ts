/**
 * What one client may hold of the server.
 *
 * C1 Connections per address. More are answered 429 and closed.
 * C2 An answer that makes no progress for `stallMs` is cut with its connection: its reader has
 *    stopped reading, and what waits for it takes memory and a descriptor.
 *    A connection with more than PIPELINED requests whose answers are not sent is cut as well.
 * C3 Large answers per person, from their making until they are sent: some are made and sent at
 *    once, some wait, more are answered 429. Each begins in a turn of the event loop of its own.
 */
import type { Server, ServerResponse } from "node:http";
import { isIPv6, type Socket } from "node:net";
import PQueue from "p-queue";
import { SlipwayError } from "../../core/error.ts";
import { LoopTurns } from "../../core/lib/concurrency/loop-turns.ts";
import { rawProblem } from "../problem.ts";

export interface ConnectionLimits {
  /** Null = no limit: behind a proxy all clients have its address. */
  readonly perAddress: number | null;
  readonly stallMs: number;
  readonly checkMs: number;
}

/** No client of ours sends a request before the answer to the one before. */
const PIPELINED = 16;

interface Watched {
  /** Requests that are not answered yet. */
  open: number;
  /** Bytes that the system has taken. */
  sent: number;
  /** Since when `sent` has not changed, ms of the monotonic clock. */
  since: number;
}

/** C1 and C2, for the life of the server. WebSockets watch their readers themselves. */
export function limitConnections(server: Server, limits: ConnectionLimits): void {
  const perAddress = new Map<string, number>();
  const watched = new Map<Socket, Watched>();
  server.on("connection", (socket: Socket) => {
    const address = toClientKey(socket.remoteAddress ?? "");
    const count = (perAddress.get(address) ?? 0) + 1;
    perAddress.set(address, count);
    watched.set(socket, { open: 0, sent: 0, since: performance.now() });
    socket.once("close", () => {
      watched.delete(socket);
      const left = (perAddress.get(address) ?? 1) - 1;
      if (left > 0) perAddress.set(address, left);
      else perAddress.delete(address);
    });
    if (limits.perAddress !== null && count > limits.perAddress)
      socket.end(rawProblem("rate_limited"), () => socket.destroy());
  });
  server.on("request", ({ socket }, response) => {
    const state = watched.get(socket);
    if (state === undefined) return;
    state.open += 1;
    response.once("close", () => (state.open -= 1));
    if (state.open > PIPELINED) socket.destroy();
  });
  server.on("upgrade", (_request, socket) => watched.delete(socket as Socket));
  const timer = setInterval(() => cutStalled(watched, limits.stallMs), limits.checkMs).unref();
  server.once("close", () => clearInterval(timer));
}

function cutStalled(watched: ReadonlyMap<Socket, Watched>, stallMs: number): void {
  const now = performance.now();
  for (const [socket, state] of watched) {
    const sent = socket.bytesWritten - socket.writableLength;
    if (socket.writableLength === 0 || sent !== state.sent) {
      state.sent = sent;
      state.since = now;
    } else if (now - state.since >= stallMs) socket.destroy();
  }
}

/** An IPv6 client has a network of 2^64 addresses: they count as one. */
function toClientKey(address: string): string {
  const mapped = address.replace(/^::ffff:(?=\d+\.)/, "");
  if (!isIPv6(mapped)) return mapped;
  const [head = "", tail] = mapped.split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === undefined || tail === "" ? [] : tail.split(":");
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - before.length - after.length);
  return [...before, ...Array.from({ length: zeros }, () => "0"), ...after].slice(0, 4).join(":");
}

/** Large answers of one person that are made or sent at once, and that wait. */
const LARGE_AT_ONCE = 4;
const LARGE_WAITING = 16;

/** C3. */
export class LargeAnswers {
  readonly #queues = new Map<string, PQueue>();
  readonly #turns = new LoopTurns();

  /**
   * Runs `answer` when the person has room, and keeps the room until the response is closed.
   * @throws SlipwayError `rate_limited` when too many wait.
   */
  async run(userId: string, response: ServerResponse, answer: () => Promise<void>): Promise<void> {
    const queue = this.#queues.get(userId) ?? new PQueue({ concurrency: LARGE_AT_ONCE });
    if (queue.size >= LARGE_WAITING)
      throw new SlipwayError("rate_limited", `At most ${LARGE_AT_ONCE + LARGE_WAITING} large answers at once.`);
    this.#queues.set(userId, queue);
    let settle: (outcome: Promise<void>) => void = () => undefined;
    const answered = new Promise<void>((resolve) => (settle = resolve));
    void queue
      .add(async () => {
        if (response.destroyed) return settle(Promise.resolve());
        await this.#turns.next(userId);
        const running = answer();
        settle(running);
        await running.catch(() => undefined);
        // A failed answer is replied to by the error handler, which closes the response as well.
        if (!response.closed) await new Promise<void>((resolve) => response.once("close", resolve));
      })
      .then(() => {
        if (queue.size + queue.pending === 0) this.#queues.delete(userId);
      });
    await answered;
  }
}
