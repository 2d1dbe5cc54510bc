/**
 * Replaces the secret key of a data folder while no server uses it. Only the data keys are wrapped
 * again, in one transaction.
 *
 * R1 The next key is in a file before it wraps anything, and becomes secret.key afterwards: killed
 *    at any moment, one of the two opens everything, and the next start finds out which.
 * R2 A key that comes from a setting stays where it is: the operator changes the setting.
 */
import { randomBytes } from "node:crypto";
import { existsSync, renameSync } from "node:fs";
import { join } from "node:path";
import { openKeyRing, rewrap, wrapperIdOf } from "../../auth/keys/key-ring.ts";
import { readKeyFile, writeKeyFile } from "../../auth/vault.ts";
import { SlipwayError } from "../../core/error.ts";
import { crashpointFrom } from "../../core/lib/runtime/crashpoint.ts";
import { packageRoot } from "../../core/lib/runtime/package-root.ts";
import { systemClock } from "../../core/lib/runtime/system-clock.ts";
import { openSqliteStore, type SqliteStore } from "../../store/sqlite/store.ts";
import type { Config } from "../config.ts";
import { isGuessable, KEY_FILE, NEXT_KEY_FILE, openSecretKey, readKeyFacts } from "../secrets.ts";
import { serverEntry } from "./audit-retention.ts";
import { DATABASE_FILE } from "./backup-format.ts";

export interface MasterRotation {
  readonly keys: number;
  /** False = the new key is the content of a setting, which still names the old one. */
  readonly isInPlace: boolean;
}

const quiet = { info: () => undefined, warn: () => undefined };

/** @throws SlipwayError `locked` while a server uses the folder. */
async function withStore<T>(dir: string, use: (opened: SqliteStore) => Promise<T>): Promise<T> {
  if (!existsSync(join(dir, DATABASE_FILE)))
    throw new SlipwayError(
      "config_invalid",
      `There is no Slipway database in ${dir}. Name its data folder with --data-dir.`,
    );
  const migrations = join(packageRoot(), "migrations", "sqlite");
  const opened = openSqliteStore({ dir, migrations, crash: process.env["SLIPWAY_CRASH"] });
  try {
    return await use(opened);
  } finally {
    await opened.store.close();
  }
}

/**
 * @param newKeyFile the new key; null = one is made, which needs the key to be in the data folder.
 * @throws SlipwayError `config_invalid` when a key is not usable, `locked`.
 */
export async function rotateMaster(
  config: Pick<Config, "dataDir" | "secretKey" | "secretKeyFile">,
  newKeyFile: string | null,
): Promise<MasterRotation> {
  const { dataDir: dir } = config;
  const crashpoint = crashpointFrom(process.env["SLIPWAY_CRASH"]);
  const isInPlace = config.secretKey === null && config.secretKeyFile === null;
  if (newKeyFile === null && !isInPlace)
    throw new SlipwayError(
      "config_invalid",
      "Name a file with the new key: --new-key-file. `openssl rand -hex 32` makes one.",
    );
  return await withStore(dir, async ({ keys }) => {
    const old = openSecretKey(config, dir, await readKeyFacts(keys), false);
    const master = newKeyFile === null ? randomBytes(32) : readKeyFile(newKeyFile);
    if (isGuessable(master))
      throw new SlipwayError("config_invalid", `${newKeyFile} would be guessed: make one with openssl rand -hex 32.`);
    if (wrapperIdOf(master) === wrapperIdOf(old.key))
      throw new SlipwayError("config_invalid", "The new key is the one that is in use. Make another one.");
    // A folder of an earlier version gets its data keys here.
    await openKeyRing({ keys, master: old.key, masterName: old.name, clock: systemClock, log: quiet });
    const stored = await keys.keys();
    if (isInPlace) writeKeyFile(join(dir, NEXT_KEY_FILE), master);
    crashpoint("keys.written");
    await keys.rewrapKeys(rewrap(stored, old.key, master), makeAct("rotateSecretKey", stored.length));
    crashpoint("keys.wrapped");
    if (isInPlace) renameSync(join(dir, NEXT_KEY_FILE), join(dir, KEY_FILE));
    return { keys: stored.length, isInPlace };
  });
}

/** Removes the data keys and what they seal, after the secret key was lost. */
export async function resetKeys({ dataDir }: Pick<Config, "dataDir">): Promise<void> {
  await withStore(dataDir, ({ keys }) => keys.forgetKeys(makeAct("resetKeys", 0)));
}

const makeAct = (action: string, keys: number) => ({
  entry: serverEntry(systemClock.now(), action, keys === 0 ? {} : { keys }),
  isWritten: false,
});
