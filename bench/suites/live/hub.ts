/**
 * Catching up: the hub sends a log to one subscriber whose socket takes everything. The floor reads
 * the same pages as objects, writes them as JSON again and encodes the frames, without a hub.
 */
import { phaseOf } from "../../../machines/fold.ts";
import { memoryBus } from "../../../src/app/memory-bus.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import type { Bus } from "../../../src/core/ports/runtime.ts";
import type { Store } from "../../../src/core/ports/store.ts";
import { toWireEvent, toWireTask } from "../../../src/core/protocol/mapping.ts";
import { openHub, type Hub } from "../../../src/http/live/hub.ts";
import { BENCH_TASK, createBenchTask, openBenchStore, percentile, quiet, type BenchEvent } from "../../support.ts";

export interface HubRates {
  /** Bytes of the text in one event. */
  readonly textBytes: number;
  /** Events per second, in the middle one of all rounds. */
  readonly ours: number;
  readonly floor: number;
}

const USER = { userId: "user_1", role: "user" } as const;
const PAGE = 1_000;
const BATCH = 200;

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

/** A hub that reads the store when the bus announces events. */
export function openBenchHub(store: Store): { readonly hub: Hub; readonly bus: Bus } {
  const bus = memoryBus();
  const hub = openHub({
    store,
    bus,
    clock: systemClock,
    log: quiet,
    views: async (tasks) => tasks.map((task) => toWireTask(task, phaseOf(task.snapshot), null)),
  });
  return { hub, bus };
}

/** Resolves when the subscriber has the last event. */
async function catchUp(store: Store, last: number): Promise<void> {
  const { hub, bus } = openBenchHub(store);
  try {
    await new Promise<void>((resolve, reject) => {
      const end = Buffer.from(`"cursor":${last}}`);
      const connection = hub.connect(USER, {
        buffered: () => 0,
        close: (code) => reject(new Error(`closed with ${code}`)),
        send: (frame) => void (frame.subarray(-end.length).equals(end) && resolve()),
      });
      void connection.subscribe(`task:${BENCH_TASK}`, 0);
    });
  } finally {
    hub.close();
    await bus.close();
  }
}

async function convertLog(store: Store): Promise<void> {
  for (let after = 0; ;) {
    const { items, more } = await store.events(BENCH_TASK, after, PAGE);
    after = items.at(-1)?.seq ?? after;
    Buffer.from(`[${items.map((event) => JSON.stringify(toWireEvent(event))).join(",")}]`);
    if (!more) return;
  }
}

async function writeLog(store: Store, events: number, textBytes: number): Promise<void> {
  const task = await createBenchTask(store);
  // Short lines as tools print them, so that JSON escaping costs as much as in practice.
  const text = "src/app/main.ts: ok\n".repeat(Math.ceil(textBytes / 20)).slice(0, textBytes);
  const data = { level: "info", code: "note", text };
  const notice: BenchEvent = { type: "notice", from: "queued", to: "queued", data };
  for (let left = events - 1; left > 0; left -= BATCH) {
    await task.append(Array.from({ length: Math.min(BATCH, left) }, () => notice));
  }
}
