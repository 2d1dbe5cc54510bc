/**
 * A program that is talked to through its standard input and output, under the rules for processes
 * of command.ts.
 *
 * P1 When `ended` resolves nothing of the program is left, whatever ended it.
 * P2 One that writes without end is ended: more than a burst that refills slowly, or one line that
 *    does not stop.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { Transform, type Readable, type Writable } from "node:stream";
import { truncateStart } from "../../lib/text.ts";
import { allowedEnvironment } from "./environment.ts";
import { endAll, MARKER } from "./processes.ts";

/** Bytes that may come at once, bytes per second after that, and bytes of one line. */
const BURST = 20 * 1024 * 1024;
const REFILL = 1024 * 1024;
const LONGEST_LINE = 10 * 1024 * 1024;
const STDERR_TAIL = 4_000;
const GRACE_MS = 1_500;
const LAST_OUTPUT_MS = 500;

export interface ProgramOptions {
  readonly command: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
}

export class Program {
  readonly input: Writable;
  /** Ends with the program, also when a child of it keeps the pipe open. */
  readonly output: Readable;
  /** Why it is over, in words. Never rejects. */
  readonly ended: Promise<string>;
  #why = "";
  #errors = "";
  #grace = GRACE_MS;
  readonly #child: ChildProcess;
  readonly #stop = new AbortController();

  private constructor(options: ProgramOptions) {
    const { command, args, cwd, env } = options;
    const marker = randomUUID();
    const child = spawn(command, args, {
      cwd,
      env: { ...allowedEnvironment(), CI: "1", NO_COLOR: "1", ...env, [MARKER]: marker },
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.#child = child;
    this.input = child.stdin;
    this.input.on("error", () => {});
    const output = measured((what) => this.#end(what, 0));
    output.on("error", () => {});
    child.stdout.on("error", () => {}).pipe(output);
    this.output = output;
    child.stderr
      .setEncoding("utf8")
      .on("data", (text: string) => (this.#errors = truncateStart(this.#errors + text, STDERR_TAIL)));
    this.ended = this.#watch(marker);
  }

  /** What cannot be started has ended. */
  static start(options: ProgramOptions): Program {
    return new Program(options);
  }

  /** The last of what it said on standard error. */
  get errors(): string {
    return this.#errors.trim();
  }

  /** Ends it with everything that it started. Idempotent. */
  async close(why = "it was ended"): Promise<void> {
    this.#end(why, GRACE_MS);
    await this.ended;
  }

  #end(why: string, graceMs: number): void {
    if (this.#stop.signal.aborted) return;
    this.#why ||= why;
    this.#grace = graceMs;
    this.#stop.abort();
  }

  async #watch(marker: string): Promise<string> {
    const child = this.#child;
    await new Promise<void>((resolve) => {
      child.on("exit", (code, signal) => {
        this.#why ||= code === null ? `it was ended by ${signal ?? "a signal"}` : `it ended with exit code ${code}`;
        resolve();
      });
      child.on("error", (error) => {
        this.#why ||= `it could not be started: ${error.message}`;
        resolve();
      });
      this.#stop.signal.addEventListener("abort", () => resolve(), { once: true });
    });
    if (child.pid !== undefined) await endAll(child.pid, marker, this.#grace);
    this.input.destroy();
    // What it wrote last may still be in the pipe. Who else holds the pipe is gone, or is not
    // waited for.
    if (!this.output.readableEnded)
      await Promise.race([once(this.output, "end").catch(() => undefined), delay(LAST_OUTPUT_MS)]);
    child.stdout?.destroy();
    child.stderr?.destroy();
    this.output.destroy();
    return this.#why;
  }
}

function measured(flood: (why: string) => void): Transform {
  let [left, at, line] = [BURST, performance.now(), 0];
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      const now = performance.now();
      left = Math.min(BURST, left + ((now - at) / 1_000) * REFILL) - chunk.length;
      at = now;
      const end = chunk.lastIndexOf(10);
      line = end === -1 ? line + chunk.length : chunk.length - end - 1;
      if (left < 0) flood("it wrote more than 20 MB at once");
      if (line > LONGEST_LINE) flood("it wrote a line of more than 10 MB");
      if (left < 0 || line > LONGEST_LINE) return done();
      done(null, chunk);
    },
  });
}
