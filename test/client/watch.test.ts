import { afterEach, describe, expect, it } from "vitest";
import { WebSocket as NodeSocket } from "ws";
import { SlipwayClient, SlipwayProblem, type WatchTiming, type WireEvent } from "../../src/client/index.ts";
import {
  makeLog,
  openMisbehavingServer,
  sendFrame,
  type Handler,
  type Live,
  type MisbehavingServer,
} from "./misbehaving-server.ts";

const FAST: Partial<WatchTiming> = { pollMs: 10, backoffMs: 5, backoffCapMs: 20, pollForMs: 80, quietMs: 5_000 };
const LOG = makeLog(["queued", "provisioning", "running", "running", "running", "running", "pushing", "done"]);
const SEQS = LOG.map(({ seq }) => seq);

let stage: MisbehavingServer | undefined;
afterEach(async () => {
  await stage?.close();
  stage = undefined;
});

/** The log by HTTP, and a task that is settled when its log is. */
const http: Handler = ({ path, query }) => {
  if (path.endsWith("/events")) {
    const after = Number(query.get("after"));
    return {
      status: 200,
      body: { items: LOG.filter(({ seq }) => seq > after).slice(0, Number(query.get("limit"))), next: null },
    };
  }
  return { status: 200, body: { id: "task_1", state: "done", seq: LOG.length } };
};

function frames(items: readonly WireEvent[]): object {
  return { type: "events", topic: "task:task_1", items, cursor: items.at(-1)?.seq ?? 0 };
}

/** Authenticates, then lets `feed` serve the subscription. */
const serving =
  (feed: (socket: Parameters<Live>[0], after: number, connection: number) => void): Live =>
  (socket, frame, connection) => {
    if (frame["type"] === "auth") sendFrame(socket, { type: "ready" });
    if (frame["type"] !== "subscribe") return;
    sendFrame(socket, { type: "subscribed", topic: frame["topic"], after: frame["after"] });
    feed(socket, Number(frame["after"]), connection);
  };

async function open(
  handler: Handler,
  live: Live | null,
  options: { token?: string; polling?: boolean } = {},
): Promise<SlipwayClient> {
  stage = await openMisbehavingServer(handler, live);
  const sockets = options.polling ? {} : { WebSocket: NodeSocket };
  return new SlipwayClient({
    baseUrl: stage.url,
    token: options.token ?? "slp_x",
    timing: FAST,
    retries: 1,
    ...sockets,
  });
}

async function seqs(events: AsyncIterable<WireEvent>): Promise<number[]> {
  const found: number[] = [];
  for await (const event of events) found.push(event.seq);
  return found;
}

describe("watch", () => {
  it("[F1] gives each event once and in order over sockets that break after every one", async () => {
    const client = await open(
      http,
      serving((socket, after, connection) => {
        sendFrame(socket, frames(LOG.slice(after, after + 1)));
        // Cut in every way: a clean close, a busy server, a restart, and just gone.
        if (after + 1 < LOG.length)
          setTimeout(
            () => (connection % 4 === 3 ? socket.terminate() : socket.close([1000, 4408, 1012][connection % 4])),
            5,
          );
      }),
    );
    expect(await seqs(client.watch("task_1"))).toEqual(SEQS);
    expect(stage?.subscriptions).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it("[F1] drops what comes again and fetches what was left out", async () => {
    const client = await open(
      http,
      serving((socket) => {
        sendFrame(socket, frames(LOG.slice(0, 3)));
        sendFrame(socket, frames(LOG.slice(0, 2)));
        sendFrame(socket, frames(LOG.slice(6, 8)));
      }),
    );
    expect(await seqs(client.watch("task_1"))).toEqual(SEQS);
    expect(stage?.seen.find(({ path }) => path.endsWith("/events"))?.query.get("after")).toBe("3");
  });

  it("begins after a cursor, and ends at once when nothing can follow it", async () => {
    const client = await open(
      http,
      serving((socket, after) => sendFrame(socket, frames(LOG.slice(after)))),
    );
    expect(await seqs(client.watch("task_1", { after: 6 }))).toEqual([7, 8]);
    expect(await seqs(client.watch("task_1", { after: 8 }))).toEqual([]);
  });

  it("polls without WebSocket, over answers that are lost", async () => {
    let calls = 0;
    const client = await open(
      (seen, index) => {
        if (!seen.path.endsWith("/events")) return http(seen, index);
        calls += 1;
        if (calls % 3 === 1) return "drop";
        if (calls % 3 === 2) return { status: 503, body: { code: "unavailable", detail: "not now" } };
        const after = Number(seen.query.get("after"));
        return { status: 200, body: { items: LOG.slice(after, after + 2), next: null } };
      },
      null,
      { polling: true },
    );
    expect(await seqs(client.watch("task_1"))).toEqual(SEQS);
  });

  it("polls while the stream cannot be opened, and takes the stream when it can", async () => {
    const kinds: string[] = [];
    let polls = 0;
    const client = await open(
      (seen, index) => {
        if (!seen.path.endsWith("/events")) return http(seen, index);
        polls += 1;
        const after = Number(seen.query.get("after"));
        return { status: 200, body: { items: after < 3 ? LOG.slice(after, after + 1) : [], next: null } };
      },
      (socket, frame, connection) => {
        if (connection < 3) socket.terminate();
        else serving((opened, after) => sendFrame(opened, frames(LOG.slice(after))))(socket, frame, connection);
      },
    );
    const found = await seqs(client.watch("task_1", { onConnection: ({ kind }) => kinds.push(kind) }));
    expect(found).toEqual(SEQS);
    expect(polls).toBeGreaterThan(0);
    expect(kinds).toContain("polling");
    expect(kinds.at(-1)).toBe("live");
  });

  it("a refused token is renewed once; when the server refuses again, the watch throws `unauthenticated`", async () => {
    const good = new Set(["fresh"]);
    const handler: Handler = (seen, index) => {
      if (seen.path === "/v1/auth/refresh")
        return { status: 200, body: { accessToken: "fresh", refreshToken: "r2", expiresIn: 900, user: {} } };
      return http(seen, index);
    };
    stage = await openMisbehavingServer(handler, (socket, frame, connection) => {
      if (frame["type"] === "auth" && !good.has(String(frame["token"]))) socket.close(4401);
      else serving((opened, after) => sendFrame(opened, frames(LOG.slice(after))))(socket, frame, connection);
    });
    const saved: unknown[] = [];
    const sessions = {
      load: () => ({ accessToken: "stale", refreshToken: "r1" }),
      save: (session: unknown) => void saved.push(session),
    };
    const client = new SlipwayClient({ baseUrl: stage.url, sessions, timing: FAST, WebSocket: NodeSocket });
    expect(await seqs(client.watch("task_1"))).toEqual(SEQS);
    expect(saved).toEqual([{ accessToken: "fresh", refreshToken: "r2" }]);

    good.clear();
    const before = stage.connections;
    await expect(seqs(client.watch("task_1"))).rejects.toMatchObject({ code: "unauthenticated", status: 401 });
    expect(stage.connections - before).toBe(2);
  });

  it("ends with the server's word for a task that is not there, and with the signal's reason", async () => {
    const client = await open(http, (socket, frame) => {
      if (frame["type"] === "auth") sendFrame(socket, { type: "ready" });
      if (frame["type"] === "subscribe" && frame["topic"] === "task:nope")
        sendFrame(socket, { type: "error", code: "not_found", topic: "task:nope" });
    });
    await expect(seqs(client.watch("nope"))).rejects.toMatchObject({ code: "not_found", status: 404 });
    const controller = new AbortController();
    const watching = seqs(client.watch("task_1", { signal: controller.signal }));
    setTimeout(() => controller.abort(), 30);
    await expect(watching).rejects.toMatchObject({ name: "AbortError" });
  });

  it("notices a connection that is silent for too long", async () => {
    stage = await openMisbehavingServer(
      http,
      serving((socket, after, connection) => {
        // The first connection goes deaf after two events: it answers no ping either.
        if (connection === 0) sendFrame(socket, frames(LOG.slice(0, 2)));
        else sendFrame(socket, frames(LOG.slice(after)));
      }),
    );
    const client = new SlipwayClient({
      baseUrl: stage.url,
      token: "slp_x",
      timing: { ...FAST, quietMs: 3_000 },
      WebSocket: NodeSocket,
    });
    expect(await seqs(client.watch("task_1"))).toEqual(SEQS);
    expect(stage.subscriptions).toEqual([0, 2]);
  });

  it("survives a reader that is slower than the stream", async () => {
    const long = makeLog([...Array.from({ length: 2_999 }, () => "running" as const), "done"]);
    const client = await open(
      ({ path, query }) => {
        if (!path.endsWith("/events")) return { status: 200, body: { state: "running", seq: 3_000 } };
        const after = Number(query.get("after"));
        return { status: 200, body: { items: long.slice(after, after + Number(query.get("limit"))), next: null } };
      },
      serving((socket, after) => {
        for (const event of long.slice(after)) sendFrame(socket, frames([event]));
      }),
    );
    const found: number[] = [];
    for await (const event of client.watch("task_1")) {
      if (event.seq === 1) await new Promise((done) => setTimeout(done, 300));
      found.push(event.seq);
    }
    expect(found).toEqual(long.map(({ seq }) => seq));
    expect(stage?.subscriptions.length).toBeGreaterThan(1);
  });
});

describe("watchTasks", () => {
  it("[F1] operators watch the tasks of all people, in the order of changes, and go on from a cursor", async () => {
    const subscribed: unknown[] = [];
    const live: Live = (socket, frame) => {
      if (frame["type"] === "auth") return sendFrame(socket, { type: "ready" });
      if (frame["type"] !== "subscribe") return;
      const { topic, after } = frame;
      subscribed.push([topic, after]);
      sendFrame(socket, { type: "subscribed", topic, after });
      const changes = [
        { id: "task_b", seq: 4 },
        { id: "task_a", seq: 9 },
        { id: "task_b", seq: 3 },
        { id: "task_b", seq: 5 },
      ];
      sendFrame(socket, { type: "events", topic, items: changes.slice(0, 3), cursor: 21 });
      sendFrame(socket, { type: "events", topic, items: changes.slice(3), cursor: 22 });
    };
    const client = await open(http, live);
    const found: (string | number)[] = [];
    const options = { all: true, after: 7, onCursor: (cursor: number) => void found.push(cursor) };
    for await (const { id, seq } of client.watchTasks(options)) {
      found.push(`${id} ${seq}`);
      if (seq === 5) break;
    }
    expect(found).toEqual(["task_b 4", "task_a 9", 21, "task_b 5"]);
    expect(subscribed).toEqual([["tasks:all", 7]]);
  });

  it("a person who may not watch the tasks of all people is told so", async () => {
    const live: Live = (socket, frame) => {
      if (frame["type"] === "auth") return sendFrame(socket, { type: "ready" });
      sendFrame(socket, { type: "error", code: "not_found", topic: frame["topic"] });
    };
    const client = await open(http, live);
    const watching = client.watchTasks({ all: true })[Symbol.asyncIterator]().next();
    await expect(watching).rejects.toMatchObject({
      code: "forbidden",
      message: expect.stringContaining("operators") as string,
    });
  });

  const task = (id: string, seq: number): object => ({ id, seq, state: "running", wait: null });

  it("goes on after the cursor and gives each form of a task once", async () => {
    const client = await open(http, (socket, frame, connection) => {
      if (frame["type"] === "auth") sendFrame(socket, { type: "ready" });
      if (frame["type"] !== "subscribe") return;
      sendFrame(socket, { type: "subscribed", topic: "tasks", after: frame["after"] });
      const items = connection === 0 ? [task("a", 1), task("b", 1)] : [task("b", 1), task("a", 2), task("c", 1)];
      sendFrame(socket, { type: "events", topic: "tasks", items, cursor: connection === 0 ? 10 : 12 });
      if (connection === 0) setTimeout(() => socket.terminate(), 5);
    });
    const found: string[] = [];
    for await (const { id, seq } of client.watchTasks()) {
      found.push(`${id}${seq}`);
      if (found.length === 4) break;
    }
    expect(found).toEqual(["a1", "b1", "a2", "c1"]);
    expect(stage?.subscriptions).toEqual([null, 10]);
  });

  it("[V11] a mark is another form of a task, and what is read stays read", async () => {
    const client = await open(http, (socket, frame) => {
      if (frame["type"] === "auth") sendFrame(socket, { type: "ready" });
      if (frame["type"] !== "subscribe") return;
      sendFrame(socket, { type: "subscribed", topic: "tasks", after: frame["after"] });
      const marks = [0, 0, 4, 0, 4];
      const items = [...marks.map((readSeq) => ({ ...task("a", 4), readSeq })), { ...task("a", 5), readSeq: 4 }];
      sendFrame(socket, { type: "events", topic: "tasks", items, cursor: 12 });
    });
    const found: string[] = [];
    for await (const { seq, readSeq } of client.watchTasks()) {
      found.push(`${seq} ${readSeq}`);
      if (seq === 5) break;
    }
    expect(found).toEqual(["4 0", "4 4", "5 4"]);
  });
});

it("SlipwayProblem is an Error with the server's words", () => {
  const problem = new SlipwayProblem("not_found", 404, "There is no such task.");
  expect(problem).toBeInstanceOf(Error);
  expect(problem.message).toBe("There is no such task.");
});
