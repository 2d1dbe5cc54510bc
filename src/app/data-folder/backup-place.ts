/** Where scheduled backups go: a folder, or a bucket (backup-bucket.ts). */
import { access, constants, mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { errorMessage, SlipwayError } from "../../core/error.ts";

export interface KeptBackup {
  readonly name: string;
  /** When it was begun, epoch ms. */
  readonly at: number;
  /** Size of the archive. */
  readonly bytes: number;
}

export interface BackupPlace {
  /** For people. */
  readonly label: string;
  /** Variables that `slipway backup` needs to write there. */
  readonly env: Readonly<Record<string, string>>;
  /** The argument of `slipway backup`. */
  target(name: string): string;
  /** Verified backups that the schedule took, the oldest first. */
  list(): Promise<KeptBackup[]>;
  /** Idempotent. */
  remove(name: string): Promise<void>;
  /** Before a backup: removes what one that was killed left. One at a time. */
  prepare(): Promise<void>;
  /** Rejects when nothing can be written. */
  check(): Promise<void>;
}

const NAME = /^slipway-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z)\.tar\.gz$/;
const PARTIAL = ".partial";

export const isScheduledName = (name: string): boolean => NAME.test(name);

/** @param at epoch ms. */
export const toScheduledName = (at: number): string =>
  `slipway-${new Date(at).toISOString().replaceAll(/[:.]/g, "-")}.tar.gz`;

/** Those that are named as the schedule names them, the oldest first. */
export function toKept(found: readonly { readonly name: string; readonly bytes: number }[]): KeptBackup[] {
  return found
    .flatMap(({ name, bytes }) => {
      const [, stamp] = NAME.exec(name) ?? [];
      if (stamp === undefined) return [];
      const at = Date.parse(stamp.replace(/T(\d\d)-(\d\d)-(\d\d)-(\d{3})Z$/, "T$1:$2:$3.$4Z"));
      return Number.isNaN(at) ? [] : [{ name, at, bytes }];
    })
    .toSorted((a, b) => a.at - b.at);
}

/** @param to absolute. */
export function openBackupFolder(to: string): BackupPlace {
  const remove = (name: string): Promise<void> => rm(join(to, name), { force: true });
  return {
    label: to,
    env: {},
    target: (name) => join(to, name),
    async list() {
      const names = (await readdir(to).catch(() => [])).filter(isScheduledName);
      const sizes = await Promise.all(names.map((name) => stat(join(to, name)).catch(() => null)));
      return toKept(names.map((name, index) => ({ name, bytes: sizes[index]?.size ?? 0 })));
    },
    remove,
    async prepare() {
      await inFolder(to, () => mkdir(to, { recursive: true, mode: 0o700 }));
      await inFolder(to, () => access(to, constants.W_OK | constants.X_OK));
      for (const name of await readdir(to))
        if (name.endsWith(PARTIAL) && isScheduledName(name.slice(0, -PARTIAL.length))) await remove(name);
    },
    async check() {
      // The server makes it.
      if ((await stat(to).catch(() => null)) !== null)
        await inFolder(to, () => access(to, constants.W_OK | constants.X_OK));
    },
  };
}

async function inFolder(to: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    throw new SlipwayError(
      "config_invalid",
      `SLIPWAY_BACKUP_TO must be a folder that this user can write to, not "${to}" (${errorMessage(error)}).`,
    );
  }
}
