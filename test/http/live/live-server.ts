/**
 * A real store, bus, hub and WebSocket server, and tasks whose logs grow on demand.
 */
import { createServer, type Server } from "node:http";
import { mkdtemp, rm } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { phaseOf, start, stateOf, step, holdsSlot } from "../../../machines/fold.ts";
import { memoryBus } from "../../../src/app/memory-bus.ts";
import type { EventData, EventType, TaskEvent } from "../../../src/core/event.ts";
import type { StreamIdentity } from "../../../src/http/live/connection.ts";
import {
  attachWebSocketServer,
  type WebSocketServerAdapter,
  type WebSocketTiming,
} from "../../../src/http/live/websocket-server.ts";
import { openHub, type Hub, type HubTiming } from "../../../src/http/live/hub.ts";
import type { Store } from "../../../src/core/ports/store.ts";
import { openSqliteStore } from "../../../src/store/sqlite/store.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import { systemIds } from "../../../src/app/system.ts";
import { DEFAULT_POLICY, type Task } from "../../../src/core/task.ts";
import { toWireTask } from "../../../src/core/protocol/mapping.ts";
import { PLAIN_SPEC } from "../../support/task-spec.ts";
import type { Bus, Log } from "../../../src/core/ports/runtime.ts";
import { PATIENCE_MS } from "../../support/vitest/patience.ts";

export const ORIGIN = "https://slipway.example";
const MIGRATIONS = join(import.meta.dirname, "../../../migrations/sqlite");

export const ids = systemIds(systemClock);

/**
 * Makes tasks and lets their logs grow, the way the coordinator does: commit first, then announce.
 */
export interface Writer {
  create(userId: string): Promise<Task>;
  /** One notice of about `size` bytes, as one commit per event. @returns the seq of the last. */
  grow(taskId: string, events: number, size?: number): Promise<number>;
  /** The same in one commit of `events` events. */
  growAtOnce(taskId: string, events: number, size?: number): Promise<number>;
  /** Cancels a queued task. */
  settle(taskId: string): Promise<Task>;
}

export function createWriter(store: Store, bus: Pick<Bus, "publishHint">): Writer {
  async function growAtOnce(taskId: string, count: number, size = 20): Promise<number> {
    const data: EventData = { level: "info", code: "note", text: "x".repeat(size) };
    return (await append(taskId, count, "notice", data)).seq;
  }

  async function append(taskId: string, count: number, type: EventType, data: EventData): Promise<Task> {
    const task = await store.task(taskId);
    if (task === null) throw new Error("no such task");
    let snapshot = task.snapshot;
    const events: TaskEvent[] = [];
    for (let seq = task.seq + 1; seq <= task.seq + count; seq++) {
      const from = stateOf(snapshot);
      const event: TaskEvent = {
        taskId,
        seq,
        at: Date.now(),
        attempt: 0,
        type,
        from,
        to: from,
        data,
        workerSeq: null,
      };
      const next = step(snapshot, event);
      if (next === null) throw new Error("refused");
      snapshot = next;
      events.push({ ...event, to: stateOf(next) });
    }
    const state = stateOf(snapshot);
    const written = await store.commit({
      taskId,
      expectedSeq: task.seq,
      events,
      snapshot,
      state,
      slot: holdsSlot(snapshot),
    });
    if (written === null) throw new Error("not written");
    bus.publishHint({ taskId, userId: written.userId, seq: written.seq });
    return written;
  }

  return {
    growAtOnce,
    settle: (taskId) => append(taskId, 1, "task.state", { reason: "cancel", by: "user_x" }),
    async create(userId) {
      const id = ids.next("task");
      const data = { maxAttempts: 3, policy: DEFAULT_POLICY, pullRequest: "none", from: "start" };
      const base = {
        taskId: id,
        seq: 1,
        at: Date.now(),
        attempt: 0,
        type: "task.submitted",
        from: null,
        data,
        workerSeq: null,
      } as const;
      const snapshot = start({ ...base, to: "queued" });
      const result = await store.create({
        id,
        userId,
        threadId: id,
        parentId: null,
        spec: PLAIN_SPEC,
        machineVersion: 1,
        snapshot,
        state: "queued",
        slot: false,
        event: { ...base, to: "queued" },
        inherits: null,
        idempotency: null,
      });
      if (result.kind !== "created") throw new Error(result.kind);
      bus.publishHint({ taskId: id, userId, seq: 1 });
      return result.task;
    },
    async grow(taskId, events, size) {
      let seq = 0;
      for (let n = 0; n < events; n++) seq = await growAtOnce(taskId, 1, size);
      return seq;
    },
  };
}

export interface LiveServerOptions {
  /** The bus that the hub subscribes to; the writer publishes on `bus`. */
  readonly hubBus?: (bus: Bus) => Pick<Bus, "onHint" | "onDeleted" | "onRead" | "onDelta">;
  readonly hubTiming?: Partial<HubTiming>;
  readonly webSocketTiming?: Partial<WebSocketTiming>;
  /** How long the headers of a request may take; by default as long as a test waits. */
  readonly headersMs?: number;
}

export interface LiveServer {
  readonly store: Store;
  readonly bus: Bus;
  readonly writer: Writer;
  readonly server: Server;
  readonly port: number;
  readonly url: string;
  hub: Hub;
  live: WebSocketServerAdapter;
  /** Bearer token -> who; tests add and remove. */
  readonly people: Map<string, StreamIdentity>;
  readonly tickets: Map<string, StreamIdentity>;
  /** Sessions that ended. */
  readonly revoked: Set<string>;
  /** What was logged, newest last. */
  readonly logLines: { readonly level: string; readonly fields: Record<string, unknown>; readonly text: string }[];
  /** Closes hub and server and opens new ones on the same port, as a restart does. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export const ALICE: StreamIdentity = { userId: "user_ann", role: "user", sessionId: "s_ann", expiresAt: null };
export const BOB: StreamIdentity = { userId: "user_bob", role: "user", sessionId: "s_bob", expiresAt: null };
export const OPERATOR: StreamIdentity = { userId: "user_opa", role: "operator", sessionId: "s_opa", expiresAt: null };

export async function openLiveServer(options: LiveServerOptions = {}): Promise<LiveServer> {
  const dir = await mkdtemp(join(tmpdir(), "slipway-hub-"));
  const { store } = openSqliteStore({ dir, migrations: MIGRATIONS, synchronous: "NORMAL" });
  const bus = memoryBus();
  const logLines: LiveServer["logLines"] = [];
  const note =
    (level: string) =>
    (fields: object, text: string): void =>
      void logLines.push({ level, fields: fields as Record<string, unknown>, text });
  const log: Log = { debug: note("debug"), info: note("info"), warn: note("warn"), error: note("error") };
  const people = new Map([ALICE, BOB, OPERATOR].map((visitor) => [`token-${visitor.userId}`, visitor]));
  const tickets = new Map<string, StreamIdentity>();
  const revoked = new Set<string>();
  const { headersMs = PATIENCE_MS } = options;
  const server = createServer(
    { connectionsCheckingInterval: 200, headersTimeout: headersMs, requestTimeout: PATIENCE_MS },
    (_, response) => response.end("serving"),
  );

  const known = (visitor: StreamIdentity | undefined): StreamIdentity => {
    if (visitor === undefined) throw new Error("nobody");
    return visitor;
  };
  const openHubNow = (): Hub =>
    openHub({
      store,
      bus: options.hubBus?.(bus) ?? bus,
      async views(tasks) {
        const reads = await store.readSeqs(tasks.map(({ id }) => id));
        return tasks.map((task) => toWireTask(task, phaseOf(task.snapshot), null, undefined, null, reads.get(task.id)));
      },
      clock: systemClock,
      log,
      ...(options.hubTiming && { timing: options.hubTiming }),
    });
  const attach = (hub: Hub): WebSocketServerAdapter =>
    attachWebSocketServer(server, {
      hub,
      authenticate: async (bearer) => known(people.get(bearer)),
      async redeemTicket(ticket) {
        const visitor = known(tickets.get(ticket));
        tickets.delete(ticket);
        return visitor;
      },
      isSessionValid: async (sessionId) => sessionId === null || !revoked.has(sessionId),
      allowedOrigins: () => [ORIGIN],
      clock: systemClock,
      log,
      ...(options.webSocketTiming && { timing: options.webSocketTiming }),
    });

  const hub = openHubNow();
  const live = attach(hub);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const end = async (): Promise<void> => {
    await liveServer.live.close();
    liveServer.hub.close();
  };
  const liveServer: LiveServer = {
    store,
    bus,
    writer: createWriter(store, bus),
    server,
    port,
    url: `ws://127.0.0.1:${port}/v1/stream`,
    hub,
    live,
    people,
    tickets,
    revoked,
    logLines,
    async restart() {
      await end();
      liveServer.hub = openHubNow();
      liveServer.live = attach(liveServer.hub);
    },
    async close() {
      await end();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await bus.close();
      await store.close();
      await rm(dir, { recursive: true, force: true });
    },
  };
  return liveServer;
}

export async function until(what: string, check: () => boolean | Promise<boolean>, ms = PATIENCE_MS): Promise<void> {
  const end = Date.now() + ms;
  while (!(await check())) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** True while the server answers a plain request and lets a person subscribe. */
export async function serves(liveServer: LiveServer): Promise<boolean> {
  return (await (await fetch(`http://127.0.0.1:${liveServer.port}/`)).text()) === "serving";
}
