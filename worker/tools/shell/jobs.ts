/** Commands in the background. Rules B1 to B3 of command.ts apply to them too. */
import { formatSeconds } from "../../../src/core/lib/figures.ts";
import { randomBytes } from "node:crypto";
import { NO_SECRETS, type Redaction } from "../../../src/core/lib/json/redaction.ts";
import { runCommand, type Ended } from "./command.ts";
import type { Logs } from "./logs.ts";
import { describeAwaited, waitFor, type WantedSign } from "./job-signs.ts";
import { readLogExcerpt } from "./output.ts";
import { ToolError, type ToolResult } from "../tool.ts";

const MAX_RUNNING = 8;
/** Jobs that have ended and whose state is kept. */
const MAX_ENDED = 32;

interface Job {
  readonly id: string;
  readonly command: string;
  readonly log: string;
  readonly startedAt: number;
  readonly stop: AbortController;
  /** Resolves when all processes of the job have ended. */
  readonly end: Promise<void>;
  ended: Ended | null;
  failure: string | null;
  /** The bytes of the log that were returned already. */
  shownBytes: number;
}

export interface WaitOptions extends WantedSign {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly interrupt?: AbortSignal;
}

export class Jobs {
  readonly #logs: Logs;
  readonly #env: Readonly<Record<string, string>>;
  readonly #secrets: () => Redaction;
  readonly #jobs = new Map<string, Job>();
  #closed = false;

  constructor(logs: Logs, env: Readonly<Record<string, string>>, secrets: () => Redaction = () => NO_SECRETS) {
    this.#secrets = secrets;
    this.#logs = logs;
    this.#env = env;
  }

  start(command: string, cwd: string): ToolResult {
    const running = [...this.#jobs.values()].filter((job) => job.ended === null);
    if (this.#closed) throw new ToolError("The attempt is ending: no more jobs can be started.");
    if (running.length >= MAX_RUNNING)
      throw new ToolError(
        `${MAX_RUNNING} jobs are running (${running.map(({ id }) => id).join(", ")}). Kill one first.`,
      );
    const log = this.#logs.create("job");
    const stop = new AbortController();
    const run = runCommand({ script: command, cwd, env: this.#env, log, timeoutMs: null, signal: stop.signal });
    const job: Job = {
      id: `job_${randomBytes(3).toString("hex")}`,
      command,
      log,
      startedAt: performance.now(),
      stop,
      ended: null,
      failure: null,
      shownBytes: 0,
      end: run.then(
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
    this.#removeEnded();
    const output = `Started ${job.id} in the background. Read its state with job {"action": "status", "id": "${job.id}"}. Its log: ${log}`;
    return { output, exitCode: 0, truncated: false };
  }

  /** The state, and the output since the last call. */
  status(id: string): ToolResult {
    return this.#report(this.#find(id));
  }

  /**
   * Like `status`, after the end of the job, the time limit, the interruption, or as soon as what
   * is waited for is there. Rejects with the signal's reason.
   */
  async wait(id: string, options: WaitOptions): Promise<ToolResult> {
    const { timeoutMs, signal, interrupt } = options;
    const job = this.#find(id);
    const awaited = describeAwaited(options);
    const stops = [signal, AbortSignal.timeout(timeoutMs), ...(interrupt === undefined ? [] : [interrupt])];
    const stop = AbortSignal.any(stops);
    const limit = new Promise<void>((resolve) => {
      if (stop.aborted) resolve();
      stop.addEventListener("abort", () => resolve(), { once: true });
    });
    const watching = new AbortController();
    const found =
      awaited === null ? limit.then(() => false) : waitFor(job.log, options, AbortSignal.any([stop, watching.signal]));
    const isThere = await Promise.race([found, job.end.then(() => false), limit.then(() => false)]);
    watching.abort();
    signal.throwIfAborted();
    const report = this.#report(job);
    if (awaited === null) return report;
    const first = isThere ? `${awaited} is there.` : `${awaited} is not there${job.ended === null ? " yet" : ""}.`;
    return { ...report, output: `${first}\n${report.output}` };
  }

  /** Ends the job; resolves when all of its processes have ended. */
  async kill(id: string): Promise<ToolResult> {
    const job = this.#find(id);
    job.stop.abort();
    await job.end;
    return this.#report(job);
  }

  list(): ToolResult {
    const lines = [...this.#jobs.values()].map(
      (job) => `${describeState(job)} \`${job.command.split("\n")[0]?.slice(0, 200) ?? ""}\``,
    );
    return { output: lines.length === 0 ? "There are no jobs." : lines.join("\n"), exitCode: 0, truncated: false };
  }

  /** Ends all jobs and accepts no more. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const { stop } of this.#jobs.values()) stop.abort();
    await Promise.all([...this.#jobs.values()].map(({ end }) => end));
  }

  #find(id: string): Job {
    const job = this.#jobs.get(id);
    if (job !== undefined) return job;
    const known = [...this.#jobs.keys()].join(", ") || "none";
    throw new ToolError(`There is no job "${id}". The jobs of this worker process: ${known}.`);
  }

  #report(job: Job): ToolResult {
    const { output, truncated, end } = readLogExcerpt(job.log, this.#secrets(), job.shownBytes);
    job.shownBytes = end;
    const exitCode = job.ended === null ? 0 : job.ended.exitCode;
    const newOutput = output === "" ? "[no new output]" : output;
    return { output: `${describeState(job)}\n${newOutput}`, exitCode, truncated };
  }

  #removeEnded(): void {
    const ended = [...this.#jobs.values()].filter((job) => job.ended !== null);
    for (const job of ended.slice(0, Math.max(0, ended.length - MAX_ENDED))) {
      this.#jobs.delete(job.id);
      this.#logs.keep(job.log);
    }
  }
}

function describeState({ id, startedAt, ended, failure }: Job): string {
  if (ended === null) return `${id} is running, for ${formatSeconds(performance.now() - startedAt)}.`;
  if (failure !== null) return `${id} could not be started: ${failure}.`;
  const how =
    ended.end === "aborted"
      ? "was killed"
      : ended.end === "too much output"
        ? "was stopped: more than 20 MB of output"
        : ended.exitCode === null
          ? "was ended by a signal"
          : `ended with exit code ${ended.exitCode}`;
  return `${id} ${how}, after ${formatSeconds(ended.ms)}.`;
}
