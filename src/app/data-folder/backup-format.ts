/**
 * The format of a backup: a gzip-compressed tar. Its first entry says what it is, its last one
 * lists every file with size and digest: an archive without it was cut off.
 */
import { z } from "zod";

export const HEADER_FILE = "slipway-backup.json";
export const LIST_FILE = "files.json";
export const BACKUP_FORMAT = 1;
export const DATABASE_FILE = "slipway.db";

export const headerSchema = z.object({
  format: z.int().positive(),
  /** Of the Slipway that made it. */
  version: z.string(),
  createdAt: z.iso.datetime(),
  /** Whether secret.key is in it. */
  hasKey: z.boolean(),
});
export type BackupHeader = z.infer<typeof headerSchema>;

export const listSchema = z.array(
  z.object({
    /** Relative to the data folder, with slashes. */
    path: z.string(),
    /** Bytes. */
    size: z.int().nonnegative(),
    sha256: z.string(),
  }),
);
export type ListedFile = z.infer<typeof listSchema>[number];
