/** Checks that scheduled backups are taken. */
import { resolve } from "node:path";
import { listBackups } from "../data-folder/backup-schedule.ts";
import type { Config } from "../config.ts";

/** A backup that takes long, or a server that was stopped for a while, is no finding. */
const SPARE_MS = 3_600_000;

interface BackupCheck {
  readonly rule: string;
  readonly ok: boolean;
  readonly detail: string;
}

export function checkBackups({ backup }: Pick<Config, "backup">): BackupCheck[] {
  if (backup === null) return [];
  const to = resolve(backup.to);
  const found = listBackups(to);
  const newest = found.at(-1);
  if (newest === undefined)
    return [
      { rule: "backup", ok: false, detail: `there is none in ${to}: a running server takes one at once, see its log` },
    ];
  const hours = Math.round((Date.now() - newest.at) / 3_600_000);
  const ok = Date.now() - newest.at < 2 * backup.everyMs + SPARE_MS;
  const detail = ok
    ? `${found.length} in ${to}, the newest is ${hours} hours old`
    : `the newest in ${to} is ${hours} hours old: see the log of the server`;
  return [{ rule: "backup", ok, detail }];
}
