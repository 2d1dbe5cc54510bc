/**
 * The Docker engine as a dependency that may be slow, hang or be away: every call ends within its
 * time-out, and every answer that is not an answer becomes TaskFailure `sandbox_unavailable`. What
 * the engine itself says (404, 409, ...) passes through as an EngineError.
 */
import { join, relative } from "node:path";
import Docker from "dockerode";
import { errorMessage } from "../../core/error.ts";
import { TaskFailure } from "../../core/failure.ts";
import { isDiskFullMessage } from "../../core/lib/disk-full.ts";

export interface EngineOptions {
  /** How dockerode reaches the engine. Null = as the environment says (dockerOptions). */
  readonly docker?: Docker.DockerOptions | null;
  /** Longest wait for one answer, ms. */
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 30_000;

/** A refusal in the engine's own words. */
export class EngineError extends Error {
  readonly status: number;

  constructor(status: number, message: string, cause: unknown) {
    super(message, { cause });
    this.name = "EngineError";
    this.status = status;
  }
}

/** True when the engine answered with one of these HTTP statuses. */
export function hasStatus(error: unknown, ...statuses: readonly number[]): boolean {
  return error instanceof EngineError && statuses.includes(error.status);
}

/** An engine without room is nobody's fault but its machine's: tasks wait until there is some. */
export function diskFull(evidence: string): TaskFailure {
  return new TaskFailure("sandbox_unavailable", {
    detail: "The Docker engine's disk is full: free some space there (`docker system df` shows what takes it).",
    evidence,
  });
}

/**
 * How to reach the engine: DOCKER_HOST (unix://, tcp://, ssh://; with DOCKER_TLS_VERIFY and
 * DOCKER_CERT_PATH), else the usual socket. dockerode reads these itself when it is told nothing;
 * this only says so, and refuses what it would misread.
 */
export function dockerOptions(env: NodeJS.ProcessEnv = process.env): Docker.DockerOptions {
  const host = env["DOCKER_HOST"];
  if (host === undefined || host === "") return {};
  if (host.startsWith("unix://")) return { socketPath: host.slice("unix://".length) || "/var/run/docker.sock" };
  if (host.startsWith("/")) return { socketPath: host };
  return {};
}

/** True when the engine shares this machine's files, which mounting the broker's socket needs. */
export function isLocalEngine(env: NodeJS.ProcessEnv = process.env): boolean {
  const host = env["DOCKER_HOST"] ?? "";
  return host === "" || host.startsWith("unix://") || host.startsWith("/") || host.startsWith("npipe://");
}

function abortError(signal: AbortSignal): unknown {
  return signal.reason ?? new DOMException("The operation was aborted", "AbortError");
}

/** What a failed call means. A caller's own abort stays an abort. */
export function toEngineError(error: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted === true) return abortError(signal);
  if (error instanceof TaskFailure || error instanceof EngineError) return error;
  if (error instanceof Error && "statusCode" in error && typeof error.statusCode === "number") {
    const words = "json" in error && isMessage(error.json) ? error.json.message : error.message;
    return new EngineError(error.statusCode, words.trim(), error);
  }
  return new TaskFailure("sandbox_unavailable", {
    detail: `The Docker engine does not answer: ${errorMessage(error)}`,
    cause: error,
  });
}

function isMessage(json: unknown): json is { message: string } {
  return typeof json === "object" && json !== null && "message" in json && typeof json.message === "string";
}

export interface Engine {
  readonly docker: Docker;
  /**
   * One call, bounded. The signal given to `run` ends the request; the race ends the wait even if
   * the client ignores it. Rejects with EngineError, TaskFailure `sandbox_unavailable`, or the
   * reason of `signal`.
   */
  call<T>(
    run: (docker: Docker, signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
    timeoutMs?: number,
  ): Promise<T>;
}

export function openEngine(options: EngineOptions): Engine {
  const docker = new Docker(options.docker ?? dockerOptions());
  const limit = options.timeoutMs ?? TIMEOUT_MS;

  async function call<T>(
    run: (docker: Docker, signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
    timeoutMs = limit,
  ): Promise<T> {
    signal?.throwIfAborted();
    const ends = new AbortController();
    let stop: (reason: unknown) => void = () => undefined;
    const stopped = new Promise<never>((_, reject) => (stop = reject));
    const onAbort = (): void => stop(signal === undefined ? undefined : abortError(signal));
    const timer = setTimeout(() => stop(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    signal?.addEventListener("abort", onAbort, { once: true });
    const answer = run(docker, ends.signal);
    answer.catch(() => undefined);
    try {
      return await Promise.race([answer, stopped]);
    } catch (error) {
      ends.abort();
      throw toEngineError(error, signal);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  return { docker, call };
}

/**
 * What the engine refuses although the request is right is the engine's failure; the words are
 * kept.
 */
export function engineFailure(error: unknown): unknown {
  if (!(error instanceof EngineError)) return error;
  if (isDiskFullMessage(error.message)) return diskFull(error.message);
  const detail = `The Docker engine refused (${error.status}): ${error.message.slice(0, 300)}`;
  return new TaskFailure("sandbox_unavailable", { detail, evidence: error.message, cause: error });
}

/** The same for work that asks the engine. */
export async function named<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw engineFailure(error);
  }
}

export interface HostDir {
  readonly from: string;
  readonly to: string;
}

/** A path of this machine as the engine's machine calls it; `back` = the other way round. */
export function hostPaths(map: HostDir | null | undefined, way: "there" | "back" = "there"): (path: string) => string {
  if (map === undefined || map === null) return (path) => path;
  const [from, to] = way === "there" ? [map.from, map.to] : [map.to, map.from];
  return (path) => {
    const inside = relative(from, path);
    return inside.startsWith("..") ? path : join(to, inside);
  };
}
