/**
 * Takes backups on a schedule, into a folder or a bucket, and keeps the newest ones.
 *
 * C1 Each backup is written and read back by a process of its own (`slipway backup`), so neither
 *    delays the server. It counts only when it can be restored.
 * C2 When the next one is due follows from what is there: a restart changes nothing. It is looked
 *    at when one is due, so a bucket is not asked all the time.
 * C3 A backup that fails is tried again, and is visible until one succeeds. Only what is named as
 *    this names it is ever removed, and none before a newer one is verified.
 * C4 A process that was killed leaves a part of a backup at most. The next one removes it.
 */
import { join } from "node:path";
import { errorMessage } from "../../core/error.ts";
import { packageRoot } from "../../core/lib/runtime/package-root.ts";
import { runProcessGroup } from "../../core/lib/runtime/process-group.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import { toScheduledName, type BackupPlace, type KeptBackup } from "./backup-place.ts";

export interface BackupScheduleOptions {
  /** The data folder. */
  readonly dir: string;
  readonly place: BackupPlace;
  readonly everyMs: number;
  /** How many are kept. */
  readonly keep: number;
  readonly clock: Clock;
  readonly log: Log;
}

/** Times are epoch ms. */
export interface BackupStatus {
  /** When the newest one was begun; null = there is none. */
  readonly lastAt: number | null;
  /** Why the last try failed; null = it did not. */
  readonly error: string | null;
}

const LOOK_MS = 30_000;
/** After a failure; or the interval, when that is shorter. */
const RETRY_MS = 15 * 60_000;
/** A large installation takes minutes. */
const MOST_MS = 6 * 3_600_000;
const ERROR_CHARS = 2_000;
/** How `slipway backup --progress` begins a line. */
const PROGRESS = "progress: ";

export class BackupSchedule {
  readonly #options: BackupScheduleOptions;
  readonly #stopped = new AbortController();
  readonly #running: Promise<void>;
  #newest: KeptBackup | null = null;
  #error: string | null = null;
  #triedAt: number | null = null;

  constructor(options: BackupScheduleOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  status(): BackupStatus {
    return { lastAt: this.#newest?.at ?? null, error: this.#error };
  }

  /** Ends a backup that is under way; what it wrote is removed. */
  async close(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, everyMs } = this.#options;
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      const retryAt = this.#error === null ? -Infinity : (this.#triedAt ?? 0) + Math.min(RETRY_MS, everyMs);
      if (this.#isDue() && clock.now() >= retryAt) await this.#take();
      await clock.sleep(Math.min(LOOK_MS, everyMs), signal).catch(() => undefined);
    }
  }

  #isDue(): boolean {
    const { clock, everyMs } = this.#options;
    return this.#newest === null || clock.now() >= this.#newest.at + everyMs;
  }

  /** C2, C4. */
  async #take(): Promise<void> {
    const { place, keep, clock, log } = this.#options;
    this.#triedAt = clock.now();
    try {
      const before = await place.list();
      this.#newest = before.at(-1) ?? null;
      if (this.#isDue()) {
        const name = toScheduledName(this.#triedAt);
        await place.prepare();
        await this.#write(place, name);
        const found = await place.list();
        for (const old of found.slice(0, -keep)) await place.remove(old.name);
        this.#newest = found.at(-1) ?? null;
        const fields = { file: place.target(name), bytes: this.#newest?.bytes, ms: clock.now() - this.#triedAt };
        log.info(fields, "a backup was written and verified");
      }
      this.#error = null;
    } catch (error) {
      if (this.#stopped.signal.aborted) return;
      this.#error = errorMessage(error).slice(0, ERROR_CHARS);
      log.error({ error: this.#error }, "a backup failed; it is tried again");
    }
  }

  /** The command verifies what it wrote. @throws Error with its words. */
  async #write(place: BackupPlace, name: string): Promise<void> {
    const { dir, log } = this.#options;
    const program = join(packageRoot(), "dist", "slipway.mjs");
    const { stopped, exitCode, exitSignal, stderr } = await runProcessGroup(
      process.execPath,
      [program, "backup", place.target(name), "--data-dir", dir, "--progress"],
      {
        env: { PATH: process.env["PATH"], TMPDIR: process.env["TMPDIR"], ...place.env },
        maxStdoutBytes: 65_536,
        maxStderrChars: ERROR_CHARS,
        onStderr: (text) => {
          for (const line of text.split("\n"))
            if (line.startsWith(PROGRESS)) log.info({ file: place.target(name) }, line.slice(PROGRESS.length));
        },
        signal: this.#stopped.signal,
        timeout: { kind: "total", ms: MOST_MS },
        graceMs: 2_000,
      },
    );
    if (stopped === null && exitCode === 0) return;
    await place.prepare().catch(() => undefined);
    const lines = stderr.split("\n").filter((line) => !line.startsWith(PROGRESS));
    const words = lines
      .join("\n")
      .trim()
      .replace(/^slipway: /, "");
    throw new Error(words === "" ? `the backup ended with ${stopped ?? exitCode ?? exitSignal}` : words);
  }
}
