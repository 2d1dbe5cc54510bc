/**
 * The coordinator's heartbeat: a file with the time of the last sign of life. Its length never
 * changes and it is written in place, so that a beat needs no free disk space and survives SIGKILL.
 * It is not synced: a power failure may lose the last beats, which makes the downtime look longer.
 */
import { closeSync, constants, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Heartbeat } from "../../coordinator/working-time.ts";
import { errorMessage } from "../../core/error.ts";
import type { Log } from "../../core/ports/runtime.ts";

export interface AliveFile extends Heartbeat {
  close(): void;
}

/** Digits of the epoch ms until the year 5138. */
const DIGITS = 14;
const CONTENT = new RegExp(`^\\d{${DIGITS}}\\n$`);

export function openAliveFile(dir: string, log: Log): AliveFile {
  const path = join(dir, "alive");
  let file: number | null = null;
  let isReported = false;
  return {
    last() {
      try {
        const text = readFileSync(path, "utf8");
        return CONTENT.test(text) ? Number(text) : null;
      } catch {
        return null;
      }
    },
    beat(at) {
      try {
        file ??= openSync(path, constants.O_WRONLY | constants.O_CREAT, 0o600);
        writeSync(file, `${String(Math.max(0, Math.trunc(at))).padStart(DIGITS, "0")}\n`, 0);
        isReported = false;
      } catch (error) {
        if (!isReported) log.warn({ error: errorMessage(error) }, "the sign of life could not be written");
        isReported = true;
      }
    },
    close() {
      if (file !== null) closeSync(file);
      file = null;
    },
  };
}
