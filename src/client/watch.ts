/**
 * Watches topics over the stream, fetches missing events, and polls while no stream can be opened.
 *
 * L1 Each event is yielded once and in order, across reconnects (event-cursor.ts).
 * L2 A watch of one task ends after the event that settled it.
 * L3 Only a response of the server ends a watch early: not authenticated, not allowed, no such
 *    task. While the server is unreachable the watch retries.
 */
import type { WireEvent } from "../core/protocol/events.ts";
import type { WireTask } from "../core/protocol/rest.ts";
import { isSettledState } from "../core/task.ts";
import { createCursor, type Cursor } from "./event-cursor.ts";
import { isTransient, SlipwayProblem } from "./problem.ts";
import { openStream, StreamEnd, TopicRejected, type WebSocketConstructor, type TopicFrame } from "./stream.ts";
import type { Transport } from "./transport.ts";
import type { Page } from "./types.ts";
import { backoffDelay, sleep, throwIfAborted } from "./retry.ts";
import { CLOSE_CODES, PROTOCOL } from "../core/protocol/stream-constants.ts";

export interface WatchOptions {
  /** Begin after this seq; 0 = from the first event. */
  readonly after?: number;
  /** The event at `after` left the task open: it is not asked first whether more can come. */
  readonly isOpen?: boolean;
  readonly signal?: AbortSignal;
  /** Called with parts of a message in progress. Parts may be missing. */
  readonly onDelta?: (delta: { readonly messageId: string; readonly text: string }) => void;
  /**
   * Called when the connection is lost (with the ms until the next try) and when it is restored.
   */
  readonly onConnection?: (state: ConnectionState) => void;
}
export type ConnectionState =
  | { readonly kind: "live" }
  | { readonly kind: "polling" }
  | { readonly kind: "lost"; readonly retryInMs: number };

export interface WatchTasksOptions extends Pick<WatchOptions, "signal" | "onConnection"> {
  /** The tasks of all people, for operators; by default yours. */
  readonly all?: boolean;
  /** The cursor of an earlier watch; null or absent = all tasks, then their changes. */
  readonly after?: number | null;
  /**
   * Called with a new cursor once the caller has consumed all tasks before it. Store it, and pass
   * it as `after` to continue later.
   */
  readonly onCursor?: (cursor: number) => void;
  /** Called with the ids of tasks that were deleted; with an `after`, also of those since then. */
  readonly onDeleted?: (ids: readonly string[]) => void;
}

export interface WatchTiming {
  readonly quietMs: number;
  readonly pollMs: number;
  readonly backoffMs: number;
  readonly backoffCapMs: number;
  /** Failed tries to open a stream after which polling starts. */
  readonly patience: number;
  /** Time of polling before the next try to open a stream. */
  readonly pollForMs: number;
}
export const WATCH_TIMING: WatchTiming = {
  quietMs: 25_000,
  pollMs: 1_500,
  backoffMs: 300,
  backoffCapMs: 15_000,
  patience: 2,
  pollForMs: 30_000,
};

export interface WatchDeps {
  readonly transport: Transport;
  /** Null = polling only. */
  readonly Socket: WebSocketConstructor | null;
  readonly timing: WatchTiming;
}

/**
 * One topic: how to read it from the stream and by polling. The watch ends when `done` returns
 * true.
 */
interface Topic<T> {
  readonly name: string;
  after(): number | null;
  onFrame(frame: TopicFrame): AsyncIterable<T>;
  /** Yields everything new since the last call. */
  poll(): AsyncIterable<T>;
  done(): boolean;
}

const PAGE = 500;

export async function* watchTask(
  deps: WatchDeps,
  taskId: string,
  options: WatchOptions = {},
): AsyncGenerator<WireEvent, void, undefined> {
  const cursor = createCursor(options.after ?? 0);
  const { signal } = options;
  const path = `/v1/tasks/${encodeURIComponent(taskId)}`;
  // After the last event of a settled task no further event comes.
  if (cursor.seq > 0 && options.isOpen !== true && (await settledBy(deps, path, cursor.seq, options))) return;
  const missing = (): AsyncGenerator<WireEvent> => fetchEvents(deps.transport, path, cursor, signal);
  yield* follow(deps, options, {
    name: `task:${taskId}`,
    after: () => cursor.seq,
    async *onFrame(frame) {
      if (frame.type === "delta") options.onDelta?.({ messageId: frame.messageId, text: frame.text });
      if (frame.type !== "events") return;
      const { events, hole } = cursor.take(frame.items as readonly WireEvent[]);
      yield* events;
      if (hole) yield* missing();
    },
    poll: missing,
    done: () => cursor.ended,
  });
}

async function settledBy(deps: WatchDeps, path: string, seq: number, options: WatchOptions): Promise<boolean> {
  for (let failures = 0; ; failures++) {
    try {
      const answer = await deps.transport.send({
        method: "GET",
        path,
        retries: 0,
        signal: options.signal,
      });
      const task = JSON.parse(answer.text) as WireTask;
      return isSettledState(task.state) && task.seq <= seq;
    } catch (thrown) {
      const wait = waitAfter(thrown, failures, deps.timing);
      options.onConnection?.({ kind: "lost", retryInMs: wait });
      await sleep(wait, options.signal);
    }
  }
}

/** Yields the events from the cursor to the current end of the log. */
async function* fetchEvents(
  transport: Transport,
  path: string,
  cursor: Cursor,
  signal: AbortSignal | undefined,
): AsyncGenerator<WireEvent> {
  for (;;) {
    const query = { after: cursor.seq, limit: PAGE };
    const answer = await transport.send({
      method: "GET",
      path: `${path}/events`,
      query,
      retries: 0,
      signal,
    });
    const page = JSON.parse(answer.text) as Page<WireEvent>;
    const { events, hole } = cursor.take(page.items);
    yield* events;
    if (hole) throw new SlipwayProblem("sequence_gap", 409, "The server's log has a hole.");
    if (page.next === null || cursor.ended) return;
  }
}

/**
 * Tasks in their newest form, in the order of their changes. Never ends by itself. A version of a
 * task that is older than one already yielded is skipped, so a task never moves back.
 */
export async function* watchTasks(
  deps: WatchDeps,
  options: WatchTasksOptions = {},
): AsyncGenerator<WireTask, void, undefined> {
  const { signal, all = false, onCursor } = options;
  let after = options.after ?? null;
  const seen = new Map<string, { readonly seq: number; readonly readSeq: number; readonly wait: string }>();
  /** False for a form of the task that was already yielded, from the stream or by polling. */
  const fresh = ({ id, seq, readSeq, wait: reason }: WireTask): boolean => {
    const known = seen.get(id);
    const wait = JSON.stringify(reason);
    if (known !== undefined && known.seq >= seq)
      if (known.seq > seq || known.readSeq > readSeq || (known.readSeq === readSeq && known.wait === wait))
        return false;
    seen.set(id, { seq, readSeq, wait });
    return true;
  };
  yield* follow(deps, options, {
    name: all ? "tasks:all" : "tasks",
    after: () => after,
    async *onFrame(frame) {
      if (frame.type === "subscribed") after = frame.after ?? after;
      if (frame.type === "deleted") options.onDeleted?.(frame.ids);
      if (frame.type !== "events") return;
      after = frame.cursor;
      yield* (frame.items as readonly WireTask[]).filter(fresh);
      onCursor?.(frame.cursor);
    },
    async *poll() {
      const answer = await deps.transport.send({
        method: "GET",
        path: "/v1/tasks",
        query: { limit: 200, ...(all ? {} : { owner: "me" }) },
        retries: 0,
        signal,
      });
      yield* (JSON.parse(answer.text) as Page<WireTask>).items.filter(fresh).toReversed();
    },
    done: () => false,
  });
}

async function* follow<T>(
  deps: WatchDeps,
  options: WatchTasksOptions | WatchOptions,
  topic: Topic<T>,
): AsyncGenerator<T> {
  const { timing, Socket } = deps;
  const { signal } = options;
  /** Consecutive tries without a frame. */
  let failures = 0;
  let pollForMs = timing.pollForMs / 8;
  let refused: string | null = null;
  while (!topic.done()) {
    throwIfAborted(signal);
    if (Socket === null || failures >= timing.patience) {
      yield* pollFor(deps, options, topic, Socket === null ? Number.POSITIVE_INFINITY : pollForMs);
      pollForMs = Math.min(timing.pollForMs, pollForMs * 2);
      failures = timing.patience - 1;
      continue;
    }
    let token: string | null = null;
    try {
      token = await tokenFor(deps.transport, refused);
      for await (const frame of openStream(streamRequest(deps, topic, token, signal, Socket))) {
        if (frame.type === "subscribed") options.onConnection?.({ kind: "live" });
        failures = 0;
        pollForMs = timing.pollForMs / 8;
        refused = null;
        yield* topic.onFrame(frame);
        if (topic.done()) return;
      }
    } catch (thrown) {
      if (thrown instanceof StreamEnd && thrown.code === CLOSE_CODES.unauthenticated && refused === null) {
        refused = token;
        continue;
      }
      const wait = waitAfter(thrown, failures, timing);
      failures += 1;
      if (wait > 0) options.onConnection?.({ kind: "lost", retryInMs: wait });
      await sleep(wait, signal);
    }
  }
}

/** The token for the next connection; a refused token is renewed once. */
async function tokenFor(transport: Transport, refused: string | null): Promise<string> {
  const token = refused === null ? await transport.bearer() : await transport.renew(refused);
  if (token !== null) return token;
  throw new SlipwayProblem("unauthenticated", 401, refused === null ? "Log in first." : EXPIRED);
}
const EXPIRED = "Your login is no longer good; log in again.";

function streamRequest<T>(
  deps: WatchDeps,
  topic: Topic<T>,
  token: string,
  signal: AbortSignal | undefined,
  Socket: WebSocketConstructor,
) {
  const url = `${deps.transport.baseUrl.replace(/^http/, "ws")}/v1/stream`;
  return {
    Socket,
    url,
    protocol: PROTOCOL,
    token,
    topic: topic.name,
    after: topic.after(),
    signal,
    quietMs: deps.timing.quietMs,
  };
}

/** Returns the delay before the next try; throws an error that a retry cannot resolve (L3). */
function waitAfter(thrown: unknown, failures: number, timing: WatchTiming): number {
  if (thrown instanceof StreamEnd) {
    if (thrown.code === CLOSE_CODES.unauthenticated) throw new SlipwayProblem("unauthenticated", 401, EXPIRED);
    if (thrown.code === CLOSE_CODES.forbidden) throw new SlipwayProblem("forbidden", 403, "You may not watch this.");
    if (thrown.opened && (thrown.code === CLOSE_CODES.tooSlow || thrown.code === CLOSE_CODES.restarting)) return 0;
    return backoffDelay(failures, timing.backoffMs, timing.backoffCapMs);
  }
  if (thrown instanceof TopicRejected) {
    if (thrown.code !== "not_found") throw new SlipwayProblem(thrown.code, 409, thrown.message);
    if (thrown.topic.startsWith("task:")) throw new SlipwayProblem(thrown.code, 404, "There is no such task.");
    throw new SlipwayProblem("forbidden", 403, "Only operators watch the tasks of all people.");
  }
  if (thrown instanceof SlipwayProblem && isTransient(thrown))
    return backoffDelay(failures, timing.backoffMs, timing.backoffCapMs);
  throw thrown;
}

async function* pollFor<T>(
  deps: WatchDeps,
  options: WatchTasksOptions | WatchOptions,
  topic: Topic<T>,
  forMs: number,
): AsyncGenerator<T> {
  const until = Date.now() + forMs;
  let failures = 0;
  options.onConnection?.({ kind: "polling" });
  do {
    let wait = deps.timing.pollMs;
    try {
      yield* topic.poll();
      failures = 0;
    } catch (thrown) {
      if (!(thrown instanceof SlipwayProblem) || !isTransient(thrown)) throw thrown;
      wait = backoffDelay(failures++, deps.timing.backoffMs, deps.timing.backoffCapMs);
      options.onConnection?.({ kind: "lost", retryInMs: wait });
    }
    if (topic.done()) return;
    await sleep(wait, options.signal);
  } while (Date.now() < until);
}
