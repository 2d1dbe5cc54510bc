/**
 * A real server in a separate process, as `slipway serve` starts it, for requests over HTTP and for
 * kills.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Policy } from "../../../src/core/task.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { PATIENCE_MS } from "../vitest/patience.ts";

export const ROOT = join(import.meta.dirname, "../../..");

export interface ServerOptions {
  readonly dataDir: string;
  /** Another installed copy of the program than this repository's dist/. */
  readonly home?: string;
  readonly sandbox?: "process" | "simulated" | "docker";
  readonly policy?: Partial<Policy>;
  readonly env?: Readonly<Record<string, string>>;
  /** The most files that the process may open; by default that of the tests. */
  readonly descriptors?: number;
}

export interface RealServer {
  readonly url: string;
  readonly token: string;
  readonly pid: number;
  readonly process: ChildProcess;
  /** Resolves with the exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
  stderr(): string;
  call(
    method: string,
    path: string,
    body?: unknown,
    headers?: Readonly<Record<string, string>>,
  ): Promise<{ status: number; body: unknown }>;
  task(id: string): Promise<WireTask>;
  events(id: string): Promise<WireEvent[]>;
  kill(signal?: NodeJS.Signals): Promise<number | string>;
}

/**
 * Starts the process; resolves when it listens, rejects with its output when it ends before.
 */
export async function startServer(options: ServerOptions): Promise<RealServer> {
  const starting = launch(options);
  const url = await starting.listening;
  return { ...starting, url, ...caller(url, readFileSync(join(options.dataDir, "operator.token"), "utf8").trim()) };
}

export const hasEnded = ({ process: { exitCode, signalCode } }: Pick<RealServer, "process">): boolean =>
  exitCode !== null || signalCode !== null;

/** The process alone, for starts that are meant to fail. */
export function launch({ dataDir, home = ROOT, sandbox, policy, env, descriptors }: ServerOptions) {
  const limit = descriptors === undefined ? "" : `ulimit -n ${descriptors} && `;
  const command = ["-c", `${limit}exec "$0" "$@"`, process.execPath, join(home, "dist", "slipway.mjs"), "serve"];
  const child = spawn("/bin/sh", command, {
    stdio: ["ignore", "pipe", "pipe"],
    env: {
      PATH: process.env["PATH"] ?? "",
      HOME: process.env["HOME"] ?? "",
      SLIPWAY_PORT: "0",
      SLIPWAY_DATA_DIR: dataDir,
      SLIPWAY_SANDBOX: sandbox ?? "process",
      SLIPWAY_WORKER_TOOLS: "slim",
      ...(policy === undefined ? {} : { SLIPWAY_POLICY: JSON.stringify(policy) }),
      ...env,
    },
  });
  let out = "";
  let err = "";
  const exited = new Promise<number | string>((resolve) =>
    child.once("exit", (code, signal) => resolve(code ?? signal ?? "gone")),
  );
  const listening = new Promise<string>((resolve, reject) => {
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
      const found = /listening on (http:\S+)/.exec(out)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.stderr.on("data", (chunk: Buffer) => (err = (err + chunk.toString()).slice(-1_000_000)));
    void exited.then((how) => reject(new Error(`the server ended (${how}) before it listened:\n${err}`)));
  });
  listening.catch(() => undefined);
  return {
    process: child,
    pid: child.pid ?? -1,
    exited,
    listening,
    stderr: () => err,
    async kill(signal: NodeJS.Signals = "SIGKILL") {
      child.kill(signal);
      return exited;
    },
  };
}

function caller(url: string, token: string) {
  async function call(method: string, path: string, body?: unknown, headers: Readonly<Record<string, string>> = {}) {
    const response = await fetch(url + path, {
      method,
      headers: {
        authorization: `Bearer ${token}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get("content-type")?.includes("json") === true;
    return { status: response.status, body: (isJson ? JSON.parse(text) : text) as unknown };
  }
  return {
    token,
    call,
    task: async (id: string) => (await call("GET", `/v1/tasks/${id}`)).body as WireTask,
    async events(id: string) {
      const all: WireEvent[] = [];
      for (;;) {
        const { body } = await call("GET", `/v1/tasks/${id}/events?after=${all.at(-1)?.seq ?? 0}&limit=1000`);
        const { items, next } = body as { items: WireEvent[]; next: string | null };
        all.push(...items);
        if (next === null) return all;
      }
    },
  };
}

/** Bounds of the pause between two looks, ms. */
const [SHORTEST_MS, LONGEST_MS] = [30, 150];

/**
 * Polls until `look` gives something that is not null; fails with its words after `ms`. A look is
 * work for the server as well, so it comes more rarely in a wait that takes longer.
 */
export async function eventually<T>(look: () => Promise<T | null>, what: string, ms = PATIENCE_MS): Promise<T> {
  for (const begun = Date.now(); ;) {
    const found = await look();
    if (found !== null) return found;
    const waited = Date.now() - begun;
    if (waited > ms) throw new Error(`it did not happen in ${ms} ms: ${what}`);
    await delay(Math.min(LONGEST_MS, Math.max(SHORTEST_MS, waited / 10)));
  }
}
