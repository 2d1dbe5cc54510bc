/**
 * Takes backups on a schedule, into a folder, and keeps the newest ones.
 *
 * C1 Each backup is written and read back by a process of its own (`slipway backup`), so neither
 *    delays the server. A file has its name only when it can be restored.
 * C2 When the next one is due follows from the files in the folder: a restart changes nothing.
 * C3 A backup that fails is tried again, and is visible until one succeeds. Only files that are
 *    named as this makes them are ever removed, and none before a newer one is verified.
 */
import { accessSync, constants, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { packageRoot } from "../../core/lib/runtime/package-root.ts";
import { runProcessGroup } from "../../core/lib/runtime/process-group.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";

export interface BackupScheduleOptions {
  /** The data folder. */
  readonly dir: string;
  /** Where the backups go. */
  readonly to: string;
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

const NAME = /^slipway-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z)\.tar\.gz$/;
const LOOK_MS = 30_000;
/** After a failure; or the interval, when that is shorter. */
const RETRY_MS = 15 * 60_000;
/** A large installation takes minutes. */
const MOST_MS = 6 * 3_600_000;
const ERROR_CHARS = 1_000;

export class BackupSchedule {
  readonly #options: BackupScheduleOptions;
  readonly #stopped = new AbortController();
  readonly #running: Promise<void>;
  #error: string | null = null;
  #triedAt: number | null = null;

  /** @throws SlipwayError config_invalid when nothing can be written to the folder. */
  constructor(options: BackupScheduleOptions) {
    this.#options = options;
    prepareFolder(options.to);
    this.#running = this.#run();
  }

  status(): BackupStatus {
    return { lastAt: this.#backups().at(-1)?.at ?? null, error: this.#error };
  }

  /** Ends a backup that is under way; its file is removed. */
  async close(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, everyMs } = this.#options;
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      const last = this.status().lastAt ?? -Infinity;
      const retryAt = this.#error === null ? -Infinity : (this.#triedAt ?? 0) + Math.min(RETRY_MS, everyMs);
      if (clock.now() >= Math.max(last + everyMs, retryAt)) await this.#take();
      await clock.sleep(Math.min(LOOK_MS, everyMs), signal).catch(() => undefined);
    }
  }

  async #take(): Promise<void> {
    const { dir, to, keep, clock, log } = this.#options;
    this.#triedAt = clock.now();
    const file = join(to, `slipway-${new Date(this.#triedAt).toISOString().replaceAll(/[:.]/g, "-")}.tar.gz`);
    try {
      prepareFolder(to);
      await writeInProcess(dir, file, this.#stopped.signal);
      for (const { name } of this.#backups().slice(0, -keep)) rmSync(join(to, name), { force: true });
      this.#error = null;
      log.info({ file, ms: clock.now() - this.#triedAt }, "a backup was written and verified");
    } catch (error) {
      if (this.#stopped.signal.aborted) return;
      this.#error = errorMessage(error).slice(0, ERROR_CHARS);
      log.error({ error: this.#error }, "a backup failed; it is tried again");
    }
  }

  /** The oldest first. */
  #backups(): { readonly name: string; readonly at: number }[] {
    return listBackups(this.#options.to);
  }
}

/** The backups that a schedule has left in a folder, the oldest first; none without the folder. */
export function listBackups(folder: string): { readonly name: string; readonly at: number }[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  return names
    .flatMap((name) => {
      const [, stamp] = NAME.exec(name) ?? [];
      if (stamp === undefined) return [];
      const at = Date.parse(stamp.replace(/T(\d\d)-(\d\d)-(\d\d)-(\d{3})Z$/, "T$1:$2:$3.$4Z"));
      return Number.isNaN(at) ? [] : [{ name, at }];
    })
    .toSorted((a, b) => a.at - b.at);
}

function prepareFolder(to: string): void {
  try {
    mkdirSync(to, { recursive: true, mode: 0o700 });
    accessSync(to, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw new SlipwayError(
      "config_invalid",
      `SLIPWAY_BACKUP_TO must be a folder that this user can write to, not "${to}" (${errorMessage(error)}).`,
    );
  }
}

/** The command verifies what it wrote. @throws Error with its words. */
async function writeInProcess(dir: string, file: string, signal: AbortSignal): Promise<void> {
  const program = join(packageRoot(), "dist", "slipway.mjs");
  const { stopped, exitCode, exitSignal, stderr } = await runProcessGroup(
    process.execPath,
    [program, "backup", file, "--data-dir", dir],
    {
      env: { PATH: process.env["PATH"], TMPDIR: process.env["TMPDIR"] },
      maxStdoutBytes: 65_536,
      maxStderrChars: ERROR_CHARS,
      signal,
      timeout: { kind: "total", ms: MOST_MS },
      graceMs: 2_000,
    },
  );
  if (stopped === null && exitCode === 0) return;
  rmSync(`${file}.partial`, { force: true });
  const words = stderr.trim().replace(/^slipway: /, "");
  throw new Error(words === "" ? `the backup ended with ${stopped ?? exitCode ?? exitSignal}` : words);
}
