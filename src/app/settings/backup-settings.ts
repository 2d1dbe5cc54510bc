/** Backups on a schedule. */
import { SlipwayError } from "../../core/error.ts";
import { placeName, readBucketSettings, type BucketSettings } from "./bucket-settings.ts";
import { whole, type Read } from "./values.ts";

export interface BackupSettings extends BucketSettings {
  readonly backup: {
    readonly everyMs: number;
    /** A folder as given, which the caller of `serve` resolves, or `s3://bucket/prefix`. */
    readonly to: string;
    /** How many are kept. */
    readonly keep: number;
  } | null;
}

const HOUR_MS = 3_600_000;
const KEEP = 7;

/** @throws SlipwayError config_invalid. */
export function readBackupSettings(read: Read, warnings: string[]): BackupSettings {
  const bucket = readBucketSettings(read, warnings);
  const hours = read("backupEvery", whole(1, 8_760), "a whole number of hours from 1 to 8760");
  const to = read("backupTo", placeName, "a folder, or a bucket such as s3://bucket/prefix");
  const keep = read("backupKeep", whole(1, 1_000), "a whole number from 1 to 1000") ?? KEEP;
  if (hours === null && to === null) return { backup: null, ...bucket };
  if (hours === null || to === null)
    throw new SlipwayError("config_invalid", "SLIPWAY_BACKUP_EVERY and SLIPWAY_BACKUP_TO must be set together.");
  return { backup: { everyMs: hours * HOUR_MS, to, keep }, ...bucket };
}
