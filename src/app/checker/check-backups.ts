/** Checks that scheduled backups are taken, and that the next one can be. */
import { errorMessage } from "../../core/error.ts";
import { openBackupPlace } from "../data-folder/backup-bucket.ts";
import type { Config } from "../config.ts";

/** A backup that takes long, or a server that was stopped for a while, is no finding. */
const SPARE_MS = 3_600_000;

interface BackupCheck {
  readonly rule: string;
  readonly ok: boolean;
  readonly detail: string;
}

export async function checkBackups(config: Pick<Config, "backup" | "s3">): Promise<BackupCheck[]> {
  const { backup } = config;
  if (backup === null) return [];
  const rule = "backup";
  try {
    const place = openBackupPlace(backup.to, config);
    const found = await place.list();
    await place.check();
    const newest = found.at(-1);
    if (newest === undefined) {
      const next = "a running server takes one at once, see its log";
      return [{ rule, ok: false, detail: `there is none in ${place.label}: ${next}` }];
    }
    const hours = Math.round((Date.now() - newest.at) / 3_600_000);
    const ok = Date.now() - newest.at < 2 * backup.everyMs + SPARE_MS;
    const age = `${formatMb(newest.bytes)} MB and ${hours} hours old`;
    const detail = ok
      ? `${found.length} in ${place.label}, which can be written; the newest has ${age}`
      : `the newest in ${place.label} has ${age}: see the log of the server`;
    return [{ rule, ok, detail }];
  } catch (error) {
    return [{ rule, ok: false, detail: errorMessage(error) }];
  }
}

const formatMb = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
