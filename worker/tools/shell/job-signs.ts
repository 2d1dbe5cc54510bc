/** Signs that a background command is ready: an open port, or a text in its output. */
import { open } from "node:fs/promises";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { ToolError } from "../tool.ts";

const POLL_MS = 100;
const CONNECT_MS = 1_000;
/** Bytes of one read, and characters of a line that are searched. */
const CHUNK = 64 * 1024;
const LINE_LIMIT = 2_000;
const MAX_PORT = 65_535;

export interface WantedSign {
  /** A TCP port of this machine that accepts connections; null = not waited for. */
  readonly port: number | null;
  /** A regular expression for the output; null = not waited for. */
  readonly pattern: string | null;
}

/** For the report; null = nothing is waited for. @throws ToolError for a bad port or pattern. */
export function describeAwaited({ port, pattern }: WantedSign): string | null {
  if (port !== null && port > MAX_PORT) throw new ToolError(`"port" must be at most ${MAX_PORT}.`);
  if (pattern !== null) toExpression(pattern);
  const parts = [
    ...(port === null ? [] : [`A server on port ${port}`]),
    ...(pattern === null ? [] : [`${port === null ? "Output" : "output"} that matches "${pattern}"`]),
  ];
  return parts.length === 0 ? null : parts.join(" with ");
}

function toExpression(pattern: string): RegExp {
  try {
    return new RegExp(pattern);
  } catch {
    throw new ToolError(`"pattern" is not a regular expression: ${pattern}`);
  }
}

/** Finds the pattern in what the log gains: each byte is read once, and a line is bounded. */
class LogSearch {
  readonly #log: string;
  readonly #expression: RegExp;
  #offset = 0;
  #rest = "";

  constructor(log: string, pattern: string) {
    this.#log = log;
    this.#expression = toExpression(pattern);
  }

  async isFound(): Promise<boolean> {
    const file = await open(this.#log, "r");
    try {
      const { size } = await file.stat();
      while (this.#offset < size) {
        const { bytesRead, buffer } = await file.read(Buffer.alloc(CHUNK), 0, CHUNK, this.#offset);
        if (bytesRead === 0) break;
        this.#offset += bytesRead;
        const lines = (this.#rest + buffer.toString("utf8", 0, bytesRead)).split("\n");
        if (lines.some((line) => this.#expression.test(line.slice(0, LINE_LIMIT)))) return true;
        this.#rest = (lines.at(-1) ?? "").slice(0, LINE_LIMIT);
      }
      return false;
    } finally {
      await file.close();
    }
  }
}

/** @returns true once all that is waited for is there, false when the signal is aborted first. */
export async function waitFor(log: string, { port, pattern }: WantedSign, signal: AbortSignal): Promise<boolean> {
  const search = pattern === null ? null : new LogSearch(log, pattern);
  let hasText = search === null;
  while (!signal.aborted) {
    hasText ||= (await search?.isFound()) ?? false;
    if (hasText && (port === null || (await isOpen(port)))) return true;
    await sleep(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
  return false;
}

async function isOpen(port: number): Promise<boolean> {
  const tries = ["127.0.0.1", "::1"].map(async (host) => await canConnect(host, port));
  return (await Promise.all(tries)).includes(true);
}

function canConnect(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: CONNECT_MS });
    const end = (isConnected: boolean): void => {
      socket.destroy();
      resolve(isConnected);
    };
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false));
    socket.once("timeout", () => end(false));
  });
}
