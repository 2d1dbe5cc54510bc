/**
 * Bounded calls to the Docker engine, which may be slow, hang or be unreachable. Every call settles
 * within its timeout. Transport failures reject with TaskFailure `sandbox_unavailable`; HTTP errors
 * of the engine (404, 409, ...) reject with EngineError, so that callers can handle the status.
 */
import { join, relative } from "node:path";
import Docker from "dockerode";
import { errorMessage } from "../../core/error.ts";
import { TaskFailure } from "../../core/failure.ts";
import { isDiskFullMessage } from "../../core/lib/disk/disk-full.ts";

export interface EngineOptions {
  /** How dockerode reaches the engine. Null = from the environment (dockerOptions). */
  readonly docker?: Docker.DockerOptions | null;
  /** Timeout of one call, ms. */
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 30_000;

/** An HTTP error of the engine, with the engine's message. */
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

/** A full engine disk is not the task's failure: `sandbox_unavailable` makes the task wait. */
export function diskFull(evidence: string): TaskFailure {
  return new TaskFailure("sandbox_unavailable", {
    detail: "The Docker engine's disk is full: free some space there (`docker system df` shows what takes it).",
    evidence,
  });
}

/**
 * Connection options from the environment. Handles the forms of DOCKER_HOST that dockerode
 * misreads (`unix://`, a plain path). For all others (tcp://, ssh://, DOCKER_TLS_VERIFY,
 * DOCKER_CERT_PATH, unset) the result is empty, and dockerode reads the environment itself.
 */
export function dockerOptions(env: NodeJS.ProcessEnv = process.env): Docker.DockerOptions {
  const host = env["DOCKER_HOST"];
  if (host === undefined || host === "") return {};
  if (host.startsWith("unix://")) return { socketPath: host.slice("unix://".length) || "/var/run/docker.sock" };
  if (host.startsWith("/")) return { socketPath: host };
  return {};
}

/** True when DOCKER_HOST names a local socket; a bind mount of the broker's socket needs one. */
export function isLocalEngine(env: NodeJS.ProcessEnv = process.env): boolean {
  const host = env["DOCKER_HOST"] ?? "";
  return host === "" || host.startsWith("unix://") || host.startsWith("/") || host.startsWith("npipe://");
}

function abortError(signal: AbortSignal): unknown {
  return signal.reason ?? new DOMException("The operation was aborted", "AbortError");
}

/**
 * Converts the error of a failed call: the reason of `signal` when it is aborted, EngineError for
 * an HTTP error, else TaskFailure `sandbox_unavailable`.
 */
export function toEngineError(error: unknown, signal?: AbortSignal): unknown {
  if (signal?.aborted === true) return abortError(signal);
  if (error instanceof TaskFailure || error instanceof EngineError) return error;
  if (error instanceof Error && "statusCode" in error && typeof error.statusCode === "number") {
    const message = "json" in error && isMessage(error.json) ? error.json.message : error.message;
    return new EngineError(error.statusCode, message.trim(), error);
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
   * Runs one call with a timeout. `run` should pass its signal to dockerode, which then closes the
   * request; the call settles at the timeout or abort even if dockerode ignores the signal.
   * Rejects with EngineError, TaskFailure `sandbox_unavailable`, or the reason of `signal`.
   */
  call<T>(
    run: (docker: Docker, signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
    timeoutMs?: number,
  ): Promise<T>;
}

export function openEngine(options: EngineOptions): Engine {
  const docker = new Docker(options.docker ?? dockerOptions());
  const defaultTimeoutMs = options.timeoutMs ?? TIMEOUT_MS;

  async function call<T>(
    run: (docker: Docker, signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
    timeoutMs = defaultTimeoutMs,
  ): Promise<T> {
    signal?.throwIfAborted();
    const request = new AbortController();
    let giveUp: (reason: unknown) => void = () => undefined;
    const givenUp = new Promise<never>((_, reject) => (giveUp = reject));
    const onAbort = (): void => giveUp(signal === undefined ? undefined : abortError(signal));
    const timer = setTimeout(() => giveUp(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs);
    signal?.addEventListener("abort", onAbort, { once: true });
    const answer = run(docker, request.signal);
    answer.catch(() => undefined);
    try {
      return await Promise.race([answer, givenUp]);
    } catch (error) {
      request.abort();
      throw toEngineError(error, signal);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  return { docker, call };
}

/**
 * Converts an EngineError that the caller does not handle into TaskFailure `sandbox_unavailable`
 * with the engine's message. Other errors are returned unchanged.
 */
export function toTaskFailure(error: unknown): unknown {
  if (!(error instanceof EngineError)) return error;
  if (isDiskFullMessage(error.message)) return diskFull(error.message);
  const detail = `The Docker engine refused (${error.status}): ${error.message.slice(0, 300)}`;
  return new TaskFailure("sandbox_unavailable", { detail, evidence: error.message, cause: error });
}

/** Awaits the work and applies `toTaskFailure` to its rejection. */
export async function withTaskFailures<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw toTaskFailure(error);
  }
}

/** A folder of the coordinator (`from`), and its path on the engine's machine (`to`). */
export interface HostDir {
  readonly from: string;
  readonly to: string;
}

/**
 * A function that maps paths below `from` to the same paths below `to`. Other paths, and all paths
 * without a map, are returned unchanged.
 */
export function createPathMap(map: HostDir | null | undefined): (path: string) => string {
  if (map === undefined || map === null) return (path) => path;
  const { from, to } = map;
  return (path) => {
    const inside = relative(from, path);
    return inside.startsWith("..") ? path : join(to, inside);
  };
}
