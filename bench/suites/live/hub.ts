/**
 * Catching up: the hub sends a log to one subscriber whose socket takes everything. The floor reads
 * the same pages as objects, writes them as JSON again and encodes the frames, without a hub.
 */
import { phaseOf, start, step } from "../../../machines/fold.ts";
import { memoryBus } from "../../../src/app/memory-bus.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import type { TaskEvent } from "../../../src/core/event.ts";
import type { Store } from "../../../src/core/ports/store.ts";
import { toWireEvent, toWireTask } from "../../../src/core/protocol/mapping.ts";
import { DEFAULT_POLICY } from "../../../src/core/task.ts";
import { openHub } from "../../../src/http/live/hub.ts";
import { openBenchStore, percentile, quiet, SPEC } from "../../support.ts";

export interface HubRates {
  /** Bytes of the text in one event. */
  readonly textBytes: number;
  /** Events per second, in the middle one of all rounds. */
  readonly ours: number;
  readonly floor: number;
}

const TASK_ID = "task_00000000000000000000000001";
const USER = { userId: "user_1", role: "user" } as const;
const PAGE = 1_000;

export async function hubRates(textBytes: number, events: number, rounds = 15): Promise<HubRates> {
  const { store, close } = await openBenchStore();
  try {
    await writeLog(store, events, textBytes);
    const times: Record<"ours" | "floor", number[]> = { ours: [], floor: [] };
    for (let round = 0; round < rounds + 2; round++) {
      const order = round % 2 === 0 ? (["ours", "floor"] as const) : (["floor", "ours"] as const);
      for (const side of order) {
        const begun = performance.now();
        await (side === "ours" ? catchUp(store, events) : convertLog(store));
        // The first rounds warm up the caches.
        if (round >= 2) times[side].push(performance.now() - begun);
      }
    }
    const rate = (side: "ours" | "floor"): number => (events / percentile(times[side], 50)) * 1_000;
    return { textBytes, ours: rate("ours"), floor: rate("floor") };
  } finally {
    await close();
  }
}

/** Resolves when the subscriber has the last event. */
async function catchUp(store: Store, last: number): Promise<void> {
  const bus = memoryBus();
  const hub = openHub({
    store,
    bus,
    clock: systemClock,
    log: quiet,
    views: async (tasks) => tasks.map((task) => toWireTask(task, phaseOf(task.snapshot), null)),
  });
  try {
    await new Promise<void>((resolve, reject) => {
      const end = Buffer.from(`"cursor":${last}}`);
      const connection = hub.connect(USER, {
        buffered: () => 0,
        close: (code) => reject(new Error(`closed with ${code}`)),
        send: (frame) => void (typeof frame !== "string" && frame.subarray(-end.length).equals(end) && resolve()),
      });
      void connection.subscribe(`task:${TASK_ID}`, 0);
    });
  } finally {
    hub.close();
    await bus.close();
  }
}

async function convertLog(store: Store): Promise<void> {
  for (let after = 0; ;) {
    const { items, more } = await store.events(TASK_ID, after, PAGE);
    after = items.at(-1)?.seq ?? after;
    Buffer.from(`[${items.map((event) => JSON.stringify(toWireEvent(event))).join(",")}]`);
    if (!more) return;
  }
}

async function writeLog(store: Store, events: number, textBytes: number): Promise<void> {
  const first: TaskEvent = {
    taskId: TASK_ID,
    seq: 1,
    at: Date.now(),
    attempt: 0,
    type: "task.submitted",
    from: null,
    to: "queued",
    data: { maxAttempts: 3, policy: DEFAULT_POLICY, pullRequest: "none", from: "start" },
    workerSeq: null,
  };
  let snapshot = start(first);
  await store.create({
    id: TASK_ID,
    userId: USER.userId,
    threadId: TASK_ID,
    parentId: null,
    machineVersion: 1,
    spec: SPEC,
    snapshot,
    state: "queued",
    slot: false,
    event: first,
    inherits: null,
    idempotency: null,
  });
  // A line of output: short lines, as tools print them, so that escaping costs what it costs there.
  const text = "src/app/main.ts: ok\n".repeat(Math.ceil(textBytes / 20)).slice(0, textBytes);
  for (let seq = 2; seq <= events;) {
    const batch: TaskEvent[] = [];
    const expectedSeq = seq - 1;
    for (; seq <= events && batch.length < 200; seq++) {
      const data = { level: "info", code: "note", text };
      const event: TaskEvent = { ...first, seq, type: "notice", from: "queued", data };
      const next = step(snapshot, event);
      if (next === null) throw new Error("the chart refused a notice");
      snapshot = next;
      batch.push(event);
    }
    await store.commit({ taskId: TASK_ID, expectedSeq, events: batch, snapshot, state: "queued", slot: false });
  }
}
