/**
 * Divides the file descriptors of this process (`ulimit -n`), so that no connection takes one that
 * a task or the database needs.
 */
import { readFileSync } from "node:fs";

export interface DescriptorPlan {
  /** Null = unknown (not Linux): nothing is reduced. */
  readonly limit: number | null;
  /** Tasks at once: as configured, or as many as the descriptors carry. */
  readonly slots: number;
  /** Most connections of the HTTP server. */
  readonly httpConnections: number;
  /** Most connections of one worker to its broker, and of its tunnels to hosts outside. */
  readonly workerConnections: number;
  readonly tunnels: number;
}

/** The most that is useful. */
const HTTP_CONNECTIONS = 2_500;
const WORKER_CONNECTIONS = 256;
const TUNNELS = 128;
/**
 * The database, its thread, listeners, the engine's connections, and what fetches and pushes open
 * for a moment.
 */
const RESERVED = 96;
/** Without these a task hardly works: its broker, git, a few tunnels. */
const MIN_PER_SLOT = 32;
const MIN_HTTP = 32;

/** The soft limit of a process; null when this machine does not show it. */
export function readDescriptorLimit(pid: number | "self" = "self"): number | null {
  try {
    const [, soft] = /^Max open files\s+(\S+)/m.exec(readFileSync(`/proc/${pid}/limits`, "utf8")) ?? [];
    if (soft === undefined) return null;
    return soft === "unlimited" ? Infinity : Number(soft);
  } catch {
    return null;
  }
}

/** A third for the HTTP server, the rest in equal parts for the tasks. */
export function planDescriptors(limit: number | null, wantedSlots: number): DescriptorPlan {
  const free = Math.max(0, (limit ?? Infinity) - RESERVED);
  const http = Math.min(HTTP_CONNECTIONS, Math.max(MIN_HTTP, Math.floor(free / 3)));
  const slots = Math.max(1, Math.min(wantedSlots, Math.floor((free - http) / MIN_PER_SLOT)));
  const share = Math.max(MIN_PER_SLOT, (free - http) / slots);
  return {
    limit,
    slots,
    httpConnections: http,
    workerConnections: Math.min(WORKER_CONNECTIONS, Math.floor((share * 2) / 3)),
    tunnels: Math.min(TUNNELS, Math.floor(share / 3)),
  };
}

/** The limit with which nothing is reduced. */
export function sufficientDescriptors(slots: number): number {
  const tasks = slots * Math.ceil(WORKER_CONNECTIONS * 1.5);
  return RESERVED + Math.max(HTTP_CONNECTIONS * 3, HTTP_CONNECTIONS + tasks);
}

/** What the limit reduces, and how to raise it; null = nothing. */
export function describeReduction({ limit, ...plan }: DescriptorPlan, wantedSlots: number): string | null {
  const most = sufficientDescriptors(wantedSlots);
  if (limit === null || limit >= most) return null;
  const slots = plan.slots < wantedSlots ? `${plan.slots} of ${wantedSlots} tasks at once, ` : "";
  return `at most ${limit} open files: ${slots}${plan.httpConnections} connections, ${plan.workerConnections} per worker. To raise it: \`ulimit -n ${most}\`, or LimitNOFILE=${most} in the systemd unit`;
}
