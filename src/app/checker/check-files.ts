/** Checks the files of a data folder beside the database: who can read them, and stale locks. */
import { chmodSync, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { removeStaleLocks } from "../../git/git-process.ts";
import { isFolderLocked } from "../../store/sqlite/lock.ts";
import type { Finding } from "./finding.ts";

/** Files that only the owner may read, with the rule's word. */
const PRIVATE = /^(?:secret\.key|operator\.token|server\.json|slipway\.(?:db|lock)(?:-wal|-shm)?)$/;
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

/** An empty token opens nothing, and a key that is gone leaves sealed credentials closed. */
export function checkSecrets(dir: string, hasOwnKey: boolean): Finding[] {
  if (!existsSync(join(dir, "slipway.db"))) return [];
  const found: Finding[] = [];
  const report = (detail: string): void => void found.push({ rule: "data folder", taskId: "-", detail, repair: null });
  const key = join(dir, "secret.key");
  if (!hasOwnKey && !existsSync(key))
    report("secret.key is missing: a start makes a new one, and credentials are lost");
  const token = join(dir, "operator.token");
  if (existsSync(token) && readFileSync(token, "utf8").trim() === "")
    report("operator.token is empty: delete it, and start Slipway again");
  return found;
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
