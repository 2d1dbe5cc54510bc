/**
 * The format of a backup: a gzip-compressed tar. Its first entry says what it is, its last one
 * lists every file with size and digest: an archive without it was cut off. A backup that continues
 * an earlier one lists all files, and contains those that the earlier one has not.
 */
import { z } from "zod";

export const HEADER_FILE = "slipway-backup.json";
export const LIST_FILE = "files.json";
/** Of a backup that has all its files. */
export const WHOLE_FORMAT = 1;
/** Of one that continues another: a version that does not know it restores nothing. */
export const CONTINUED_FORMAT = 2;
export const DATABASE_FILE = "slipway.db";

export const headerSchema = z.object({
  format: z.int().positive(),
  /** Of the Slipway that made it. */
  version: z.string(),
  createdAt: z.iso.datetime(),
  /** Whether secret.key is in it. */
  hasKey: z.boolean(),
  /** The backup that this one continues. */
  earlier: z.object({ createdAt: z.iso.datetime() }).optional(),
});
export type BackupHeader = z.infer<typeof headerSchema>;

export const listSchema = z.array(
  z.object({
    /** Relative to the data folder, with slashes. */
    path: z.string(),
    /** Bytes. */
    size: z.int().nonnegative(),
    sha256: z.string(),
    /** It is not in this archive: the one that it continues has it, or names it. */
    isEarlier: z.literal(true).optional(),
  }),
);
export type ListedFile = z.infer<typeof listSchema>[number];

/** What a backup that continues it needs to know. */
export interface EarlierBackup {
  readonly createdAt: string;
  readonly files: readonly ListedFile[];
}
