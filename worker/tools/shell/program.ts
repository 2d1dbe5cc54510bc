/**
 * A program that communicates over its standard input and output, under the process rules of
 * command.ts.
 *
 * P1 When `ended` resolves, the program has ended with everything that it started.
 * P2 A program that floods is ended: its output exceeds a token bucket, or one line exceeds a
 *    limit.
 */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { PassThrough, Transform, type Readable, type Writable } from "node:stream";
import { startProcess, type Child } from "../../../src/core/lib/runtime/process-group.ts";
import { NO_SECRETS, type Redaction } from "../../../src/core/lib/json/redaction.ts";
import { errorMessage } from "../../../src/core/error.ts";
import { truncateStart } from "../../lib/text.ts";
import { commandEnvironment } from "./environment.ts";
import { endProcesses, MARKER } from "./processes.ts";

/** The token bucket: its size in bytes, and the bytes per second that refill it. */
const BURST = 20 * 1024 * 1024;
const REFILL = 1024 * 1024;
/** Bytes. */
const LINE_LIMIT = 10 * 1024 * 1024;
/** Characters of standard error that are kept. */
const STDERR_TAIL = 4_000;
/** The time from SIGTERM to SIGKILL. */
const GRACE_MS = 1_500;
/** The wait for output that is still in the pipe when the program has ended. */
const DRAIN_MS = 500;

export interface ProgramOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Removed from its standard error. */
  readonly secrets?: Redaction;
}

export class Program {
  readonly input: Writable;
  /** Ends with the program, even if a child of it keeps the pipe open. */
  readonly output: Readable;
  /** Resolves with the reason, as text. Never rejects. */
  readonly ended: Promise<string>;
  /** Null = it runs, a signal ended it, or it could not be started. */
  #exitCode: number | null = null;
  #reason = "";
  #errors = "";
  readonly #secrets: Redaction;
  #graceMs = GRACE_MS;
  readonly #stop = new AbortController();

  /** @param started the child, or why it could not be started. */
  private constructor(started: Child | string, marker: string, secrets: Redaction) {
    this.#secrets = secrets;
    const output = createFloodGuard((reason) => this.#stopWith(reason, 0));
    output.on("error", () => {});
    this.output = output;
    if (typeof started === "string") {
      this.input = new PassThrough().destroy();
      output.destroy();
      this.ended = Promise.resolve(`it could not be started: ${started}`);
      return;
    }
    this.input = started.stdin;
    this.input.on("error", () => {});
    started.stdout.on("error", () => {}).pipe(output);
    started.stderr
      .setEncoding("utf8")
      .on("data", (text: string) => (this.#errors = truncateStart(this.#errors + text, STDERR_TAIL + secrets.longest)));
    this.ended = this.#waitForEnd(started, marker);
  }

  /** Never rejects: a program that cannot be started has ended. */
  static async start({ command, args, cwd, env, secrets = NO_SECRETS }: ProgramOptions): Promise<Program> {
    const marker = randomUUID();
    const started = await startProcess(command, args, {
      cwd,
      env: { ...commandEnvironment(), CI: "1", NO_COLOR: "1", ...env, [MARKER]: marker },
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    }).catch((error: unknown) => errorMessage(error));
    return new Program(started, marker, secrets);
  }

  get exitCode(): number | null {
    return this.#exitCode;
  }

  /** The tail of its standard error. */
  get errors(): string {
    return truncateStart(this.#secrets.redactTorn(this.#errors), STDERR_TAIL).trim();
  }

  /** Ends it with everything that it started. Idempotent. */
  async close(reason = "it was ended"): Promise<void> {
    this.#stopWith(reason, GRACE_MS);
    await this.ended;
  }

  #stopWith(reason: string, graceMs: number): void {
    if (this.#stop.signal.aborted) return;
    this.#reason ||= reason;
    this.#graceMs = graceMs;
    this.#stop.abort();
  }

  async #waitForEnd(child: Child, marker: string): Promise<string> {
    await new Promise<void>((resolve) => {
      child.on("exit", (code, signal) => {
        this.#exitCode = code;
        this.#reason ||= code === null ? `it was ended by ${signal ?? "a signal"}` : `it ended with exit code ${code}`;
        resolve();
      });
      this.#stop.signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await endProcesses(child.pid, marker, this.#graceMs);
    this.input.destroy();
    // The last output may still be in the pipe. Other holders of the pipe have ended, or are not
    // waited for.
    if (!this.output.readableEnded)
      await Promise.race([once(this.output, "end").catch(() => undefined), delay(DRAIN_MS)]);
    child.stdout.destroy();
    child.stderr.destroy();
    this.output.destroy();
    return this.#reason;
  }
}

/** P2 */
function createFloodGuard(onFlood: (reason: string) => void): Transform {
  let [tokens, refilledAt, lineLength] = [BURST, performance.now(), 0];
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const now = performance.now();
      tokens = Math.min(BURST, tokens + ((now - refilledAt) / 1_000) * REFILL) - chunk.length;
      refilledAt = now;
      const end = chunk.lastIndexOf(10);
      lineLength = end === -1 ? lineLength + chunk.length : chunk.length - end - 1;
      if (tokens < 0) onFlood("it wrote more than 20 MB at once");
      if (lineLength > LINE_LIMIT) onFlood("it wrote a line of more than 10 MB");
      if (tokens < 0 || lineLength > LINE_LIMIT) return done();
      done(null, chunk);
    },
  });
}
