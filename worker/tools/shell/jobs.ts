/**
 * Commands that run in the background while the agent goes on. Rules B1 to B3 of command.ts hold
 * for them too.
 */
import { randomBytes } from "node:crypto";
import { runCommand, type Ended } from "./command.ts";
import type { Logs } from "./logs.ts";
import { readLogExcerpt } from "./output.ts";
import { ToolError, type ToolResult } from "../tool.ts";

const RUNNING = 8;
/** Jobs that have ended and can still be asked about. */
const REMEMBERED = 32;

interface Job {
  readonly id: string;
  readonly command: string;
  readonly log: string;
  readonly begun: number;
  readonly stop: AbortController;
  /** Resolves when nothing of the job is left. */
  readonly over: Promise<void>;
  ended: Ended | null;
  failure: string | null;
  /** Bytes of the log that the agent has seen. */
  seen: number;
}

export class Jobs {
  readonly #logs: Logs;
  readonly #env: Readonly<Record<string, string>>;
  readonly #jobs = new Map<string, Job>();
  #closed = false;

  constructor(logs: Logs, env: Readonly<Record<string, string>>) {
    this.#logs = logs;
    this.#env = env;
  }

  start(command: string, cwd: string): ToolResult {
    const running = [...this.#jobs.values()].filter((job) => job.ended === null);
    if (this.#closed) throw new ToolError("The attempt is ending: no job can be started any more.");
    if (running.length >= RUNNING)
      throw new ToolError(`${RUNNING} jobs are running (${running.map(({ id }) => id).join(", ")}). Kill one first.`);
    const log = this.#logs.make("job");
    const stop = new AbortController();
    const run = runCommand({ script: command, cwd, env: this.#env, log, timeoutMs: null, signal: stop.signal });
    const job: Job = {
      id: `job_${randomBytes(3).toString("hex")}`,
      command,
      log,
      begun: performance.now(),
      stop,
      ended: null,
      failure: null,
      seen: 0,
      over: run.then(
        (ended) => {
          job.ended = ended;
        },
        (error: unknown) => {
          job.ended = { end: "aborted", exitCode: null, ms: 0 };
          job.failure = error instanceof Error ? error.message : "it could not be started";
        },
      ),
    };
    this.#jobs.set(job.id, job);
    this.#forget();
    const output = `Started ${job.id} in the background. Look at it with job {"action": "status", "id": "${job.id}"}. Its log: ${log}`;
    return { output, exitCode: 0, truncated: false };
  }

  /** State and the output that is new since the last look. */
  status(id: string): ToolResult {
    return this.#told(this.#find(id));
  }

  /** Waits for the end, at most `timeoutMs`. Rejects with the signal's reason. */
  async wait(id: string, timeoutMs: number, signal: AbortSignal): Promise<ToolResult> {
    const job = this.#find(id);
    let timer: NodeJS.Timeout | undefined;
    let abort = (): void => {};
    const limit = new Promise<void>((resolve) => {
      abort = resolve;
      timer = setTimeout(resolve, timeoutMs);
      signal.addEventListener("abort", abort, { once: true });
    });
    await Promise.race([job.over, limit]);
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
    signal.throwIfAborted();
    return this.#told(job);
  }

  /** Resolves when nothing of the job is left. */
  async kill(id: string): Promise<ToolResult> {
    const job = this.#find(id);
    job.stop.abort();
    await job.over;
    return this.#told(job);
  }

  list(): ToolResult {
    const lines = [...this.#jobs.values()].map(
      (job) => `${state(job)} \`${job.command.split("\n")[0]?.slice(0, 200) ?? ""}\``,
    );
    return { output: lines.length === 0 ? "There are no jobs." : lines.join("\n"), exitCode: 0, truncated: false };
  }

  /** Ends all jobs and takes no more. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { stop } of this.#jobs.values()) stop.abort();
    await Promise.all([...this.#jobs.values()].map(({ over }) => over));
  }

  #find(id: string): Job {
    const job = this.#jobs.get(id);
    if (job !== undefined) return job;
    const known = [...this.#jobs.keys()].join(", ") || "none";
    throw new ToolError(`There is no job "${id}". Jobs of this life of the worker: ${known}.`);
  }

  #told(job: Job): ToolResult {
    const { output, truncated, end } = readLogExcerpt(job.log, job.seen);
    job.seen = end;
    const exitCode = job.ended === null ? 0 : job.ended.exitCode;
    const news = output === "" ? "[no new output]" : output;
    return { output: `${state(job)}\n${news}`, exitCode, truncated };
  }

  #forget(): void {
    const over = [...this.#jobs.values()].filter((job) => job.ended !== null);
    for (const job of over.slice(0, Math.max(0, over.length - REMEMBERED))) {
      this.#jobs.delete(job.id);
      this.#logs.done(job.log);
    }
  }
}

function state({ id, begun, ended, failure }: Job): string {
  const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
  if (ended === null) return `${id} is running, for ${seconds(performance.now() - begun)}.`;
  if (failure !== null) return `${id} could not be started: ${failure}.`;
  const how =
    ended.end === "aborted"
      ? "was killed"
      : ended.end === "too much output"
        ? "was stopped: more than 20 MB of output"
        : ended.exitCode === null
          ? "was ended by a signal"
          : `ended with exit code ${ended.exitCode}`;
  return `${id} ${how}, after ${seconds(ended.ms)}.`;
}
