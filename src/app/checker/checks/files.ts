/**
 * Checks the files of a data folder beside the database: who can read them, stale locks, and that
 * the secret key belongs to the database.
 */
import { chmodSync, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { removeStaleLocks } from "../../../git/git-process.ts";
import { findUnopened } from "../../../auth/keys/key-ring.ts";
import { errorMessage } from "../../../core/error.ts";
import type { KeyStore } from "../../../core/ports/accounts.ts";
import { isFolderLocked } from "../../../store/sqlite/lock.ts";
import type { Config } from "../../config.ts";
import { findSecretKey, readKeyFacts } from "../../secrets.ts";
import type { Finding } from "../finding.ts";

/** Files that only the owner may read, with the rule's word. */
const PRIVATE =
  /^(?:secret\.key(?:\.next)?|operator\.token|vapid\.json|server\.json|slipway\.(?:db|lock)(?:-wal|-shm)?)$/;
/** While a coordinator runs, a git of it holds a lock for less than this, ms. */
const LOCK_MS = 30 * 60_000;

export function checkPermissions(dir: string): Finding[] {
  return findReadable(dir).map((name) => ({
    rule: "data folder",
    taskId: "-",
    detail: `others can read ${name} in ${dir}: chmod ${name === "backups" ? 700 : 600}`,
    repair: "permissions",
  }));
}

function findReadable(dir: string): string[] {
  if (process.platform === "win32" || !existsSync(dir)) return [];
  const names = readdirSync(dir).filter((name) => PRIVATE.test(name) || name === "backups");
  return names.filter((name) => (statSync(join(dir, name)).mode & 0o077) !== 0);
}

/** An empty token opens nothing. */
export function checkToken(dir: string): Finding[] {
  const token = join(dir, "operator.token");
  if (!existsSync(token) || readFileSync(token, "utf8").trim() !== "") return [];
  const detail = "operator.token is empty: delete it, and start Slipway again";
  return [{ rule: "data folder", taskId: "-", detail, repair: null }];
}

/** Locks of gits that have ended: the next git that needs one of them fails. */
export function checkLocks(dir: string): Finding[] {
  return staleLocks(dir).map(({ repository, name }) => ({
    rule: "locks",
    taskId: "-",
    detail: `${name} in ${repository} was left by a git that has ended`,
    repair: "lock",
  }));
}

function staleLocks(dir: string): { repository: string; name: string }[] {
  const before = isFolderLocked(dir) ? Date.now() - LOCK_MS : Infinity;
  return repositories(dir).flatMap((repository) =>
    listLocks(repository)
      .filter((name) => (statSync(join(repository, name), { throwIfNoEntry: false })?.mtimeMs ?? Infinity) < before)
      .map((name) => ({ repository, name })),
  );
}

function listLocks(repository: string): string[] {
  const isLock = (name: string): boolean => name.endsWith(".lock");
  const refs = join(repository, "refs");
  const below = existsSync(refs) ? readdirSync(refs, { recursive: true, encoding: "utf8" }) : [];
  return [...readdirSync(repository).filter(isLock), ...below.filter(isLock).map((name) => join("refs", name))];
}

/** The bare repositories below `git/`. */
function repositories(dir: string): string[] {
  const root = join(dir, "git");
  if (!existsSync(root)) return [];
  const folders = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders.flatMap(({ name }) =>
    readdirSync(join(root, name), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name.endsWith(".git"))
      .map((entry) => join(root, name, entry.name)),
  );
}

/** The caller holds the folder's lock. */
export function repairFiles(dir: string): Finding[] {
  const found = [...checkPermissions(dir)];
  for (const name of findReadable(dir)) chmodSync(join(dir, name), name === "backups" ? 0o700 : 0o600);
  for (const repository of repositories(dir)) {
    const locks = listLocks(repository);
    if (locks.length === 0) continue;
    removeStaleLocks(repository);
    const detail = `${locks.join(", ")} in ${repository}`;
    found.push({ rule: "locks", taskId: "-", detail, repair: "lock" });
  }
  return found;
}

/** Changes nothing. A server that gets its key from a setting is checked with the same setting. */
export async function checkKeys(
  config: Pick<Config, "secretKey" | "secretKeyFile">,
  dir: string,
  store: Pick<KeyStore, "keys" | "sealedCounts">,
): Promise<{ rule: string; ok: boolean; detail: string }> {
  const rule = "secret key";
  try {
    const found = findSecretKey(config, dir, await readKeyFacts(store));
    if (found === null) return { rule, ok: true, detail: "there is none yet: `slipway serve` makes it" };
    const keys = await store.keys();
    const unopened = findUnopened(keys, found.key);
    if (unopened.length > 0) {
      const words = `${found.name} does not open the data keys ${unopened.join(", ")}`;
      return { rule, ok: false, detail: `${words}: restore the database from a backup` };
    }
    const orphans = await countOrphans(store, new Set(keys.map(({ id }) => id)));
    if (orphans > 0 && keys.length > 0) {
      const words = `${orphans} stored values were sealed with a key that is gone`;
      return { rule, ok: false, detail: `${words}: their owners save the credential or variable again` };
    }
    return { rule, ok: true, detail: `${found.name} opens all ${keys.length} data keys` };
  } catch (error) {
    const words = errorMessage(error);
    const isUnnamed = config.secretKey === null && config.secretKeyFile === null;
    const hint = " If a setting gives it to the server, run this command with that setting.";
    return { rule, ok: false, detail: isUnnamed ? words + hint : words };
  }
}

async function countOrphans(store: Pick<KeyStore, "sealedCounts">, known: ReadonlySet<string>): Promise<number> {
  const counts = Object.entries(await store.sealedCounts());
  return counts.filter(([id]) => !known.has(id)).reduce((sum, [, rows]) => sum + rows, 0);
}
