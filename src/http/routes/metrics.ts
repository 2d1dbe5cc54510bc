/** Metrics in the Prometheus text format. */
import { statfs } from "node:fs/promises";
import { monitorEventLoopDelay } from "node:perf_hooks";
import type { ApiDeps } from "../route.ts";

type Sample = readonly [labels: string, value: number];

function family(name: string, kind: "gauge" | "counter", help: string, samples: readonly Sample[]): string[] {
  return [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${kind}`,
    ...samples.map(([labels, value]) => `${name}${labels} ${value}`),
  ];
}

export async function metricsText(deps: ApiDeps): Promise<string> {
  const { store, operations, gauges, clock } = deps;
  const [{ byState, oldestOpenAt }, slots, { bavail, bsize }] = await Promise.all([
    store.counts(),
    operations.slots(),
    statfs(deps.dataDir),
  ]);
  const { rss, heapUsed } = process.memoryUsage();
  const queue = operations.queue();
  const sample = (value: number): Sample[] => [["", value]];
  const lines = [
    ...family(
      "slipway_tasks",
      "gauge",
      "Tasks by state.",
      Object.entries(byState).map(([state, count]): Sample => [`{state="${state}"}`, count]),
    ),
    ...family(
      "slipway_oldest_open_age_seconds",
      "gauge",
      "Age of the oldest task that is not settled.",
      sample(oldestOpenAt === null ? 0 : Math.max(0, (clock.now() - oldestOpenAt) / 1_000)),
    ),
    ...family("slipway_slots_used", "gauge", "Slots held by tasks.", sample(slots.used)),
    ...family("slipway_slots_max", "gauge", "Slots in all.", sample(slots.max)),
    ...family("slipway_queue_paused", "gauge", "1 while an operator holds the queue.", sample(queue.paused ? 1 : 0)),
    ...family(
      "slipway_breaker_open",
      "gauge",
      "1 while claiming rests after infrastructure failures.",
      sample(queue.breaker === "open" ? 1 : 0),
    ),
    ...family(
      "slipway_disk_low",
      "gauge",
      "1 while claiming waits for disk space.",
      sample(queue.disk === "low" ? 1 : 0),
    ),
    ...family("slipway_disk_free_bytes", "gauge", "Free on the disk of the data folder.", sample(bavail * bsize)),
    ...family("slipway_sockets", "gauge", "Open WebSockets.", sample(gauges.sockets())),
    ...family("slipway_events_total", "counter", "Events committed since the start.", sample(gauges.events())),
    ...family("process_resident_memory_bytes", "gauge", "Resident memory.", sample(rss)),
    ...family("nodejs_heap_used_bytes", "gauge", "Heap in use.", sample(heapUsed)),
    ...family(
      "nodejs_eventloop_lag_p99_seconds",
      "gauge",
      "Lag of the event loop since the last scrape.",
      sample(gauges.loopLagSeconds()),
    ),
    ...family("process_uptime_seconds", "gauge", "Time since the start.", sample(process.uptime())),
  ];
  return `${lines.join("\n")}\n`;
}

/**
 * Measures event loop lag until `close`; `seconds` returns the 99th percentile since its last call.
 */
export function watchLoop(): { seconds(): number; close(): void } {
  const histogram = monitorEventLoopDelay({ resolution: 20 });
  histogram.enable();
  return {
    seconds() {
      const lag = histogram.count === 0 ? 0 : histogram.percentile(99) / 1e9;
      histogram.reset();
      return lag;
    },
    close: () => void histogram.disable(),
  };
}
