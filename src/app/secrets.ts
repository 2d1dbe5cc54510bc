/** The secrets of an installation: its key and tokens, and how a git credential is opened. */
import { randomBytes } from "node:crypto";
import { existsSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { wrapperIdOf } from "../auth/keys/key-ring.ts";
import type { GitGrants } from "../auth/providers/git-grants.ts";
import {
  credentialContext,
  deriveSecret,
  keyIdOf,
  loadKey,
  readKeyFile,
  sealedWith,
  type Vault,
} from "../auth/vault.ts";
import { errorMessage, SlipwayError } from "../core/error.ts";
import { TaskFailure } from "../core/failure.ts";
import type { Accounts, Credential, KeyStore } from "../core/ports/accounts.ts";
import { TOKEN_USER, type GitAuth } from "../core/ports/repositories.ts";
import type { Clock, Log } from "../core/ports/runtime.ts";
import type { CredentialUse } from "../core/protocol/repositories.ts";
import { assertPrivate, readIfExists, replaceFile } from "../core/lib/runtime/replace-file.ts";
import type { Config } from "./config.ts";

export interface FoundKey {
  readonly key: Buffer;
  readonly source: "new" | "existing" | "setting" | "file";
  /** For people: the setting or the file. */
  readonly name: string;
}

export interface SecretKey extends FoundKey {
  /** Null = the key is a good one. */
  readonly warning: string | null;
}

/** The ids of keys in a database, which tell whether a secret key can open it. */
export interface KeyFacts {
  /** The ids of the secret keys that data keys are wrapped with: one, or none in an old folder. */
  readonly wrappers: readonly string[];
  /** The ids of the keys that values are sealed with. */
  readonly sealers: readonly string[];
}

type KeySettings = Pick<Config, "secretKey" | "secretKeyFile">;

export const KEY_FILE = "secret.key";
/** The next secret key, between the moment that it wraps the data keys and its rename. */
export const NEXT_KEY_FILE = "secret.key.next";
/** Fewer different bytes than this were typed, not drawn. */
const DIFFERENT_BYTES = 4;
const TOKEN_LENGTH = 32;
/** Between two records of the same use, ms. */
const USE_MS = 60_000;

export async function readKeyFacts(keys: Pick<KeyStore, "keys" | "sealedCounts">): Promise<KeyFacts> {
  const wrappers = new Set((await keys.keys()).map(({ wrapped }) => sealedWith(wrapped)));
  return { wrappers: [...wrappers], sealers: Object.keys(await keys.sealedCounts()) };
}

/** Whether a key is the one that a database belongs to. True for a database with nothing sealed. */
export function isKeyOf({ wrappers, sealers }: KeyFacts, key: Buffer): boolean {
  if (wrappers.length > 0) return wrappers.includes(wrapperIdOf(key));
  return sealers.length === 0 || sealers.includes(keyIdOf(deriveSecret(key, "vault")));
}

const LOST = "If it is lost, `slipway keys reset` removes what only it opens: saved credentials and variables.";

/**
 * @param isNew whether the data folder is: there, a key that would be guessed is refused. In an old
 * one it opens what is stored, so it is a warning.
 * @throws SlipwayError config_invalid when the key is not usable, or not the one of the database.
 */
export function openSecretKey(settings: KeySettings, dir: string, facts: KeyFacts, isNew: boolean): SecretKey {
  const opened = isConfigured(settings) ? readConfigured(settings, dir) : openOwn(dir, facts);
  assertIsKeyOf(facts, opened, dir);
  const warning = isGuessable(opened.key)
    ? `${opened.name} would be guessed: make one with openssl rand -hex 32.`
    : null;
  if (warning !== null && isNew) throw new SlipwayError("config_invalid", warning);
  return { ...opened, warning };
}

/**
 * The same as `openSecretKey`, but read-only. Null = no key exists yet, and no stored value needs
 * one.
 * @throws SlipwayError config_invalid.
 */
export function findSecretKey(settings: KeySettings, dir: string, facts: KeyFacts): FoundKey | null {
  const opened = isConfigured(settings) ? readConfigured(settings, dir) : findOwn(dir, facts);
  if (opened !== null) assertIsKeyOf(facts, opened, dir);
  return opened;
}

const isConfigured = ({ secretKey, secretKeyFile }: KeySettings): boolean =>
  secretKey !== null || secretKeyFile !== null;

function assertIsKeyOf(facts: KeyFacts, { key, name }: FoundKey, dir: string): void {
  if (!isKeyOf(facts, key))
    throw new SlipwayError(
      "config_invalid",
      `${name} is not the secret key of ${dir}: what is stored there was sealed with another one. Restore that key. ${LOST}`,
    );
}

export function isGuessable(key: Buffer): boolean {
  return new Set(key).size < DIFFERENT_BYTES;
}

/** The key of a setting. */
function readConfigured({ secretKey, secretKeyFile }: KeySettings, dir: string): FoundKey {
  if (secretKeyFile !== null) return { key: readKeyFile(secretKeyFile), source: "file", name: secretKeyFile };
  const key = loadKey({ file: join(dir, KEY_FILE), env: secretKey });
  return { key, source: "setting", name: "SLIPWAY_SECRET_KEY" };
}

/** The key in the data folder. Null = no key exists, and no stored value needs one. */
function findOwn(dir: string, facts: KeyFacts): FoundKey | null {
  const name = [NEXT_KEY_FILE, KEY_FILE].map((file) => join(dir, file)).find((file) => isOwn(file, facts));
  if (name !== undefined) return { key: readKeyFile(name), source: "existing", name };
  if (facts.wrappers.length + facts.sealers.length === 0) return null;
  throw new SlipwayError(
    "config_invalid",
    `The secret key of ${dir} is missing: put secret.key back, or name it with SLIPWAY_SECRET_KEY_FILE. ${LOST}`,
  );
}

/** The next key counts once it has wrapped the data keys. */
function isOwn(file: string, facts: KeyFacts): boolean {
  if (!existsSync(file)) return false;
  return !file.endsWith(NEXT_KEY_FILE) || (facts.wrappers.length > 0 && isKeyOf(facts, readKeyFile(file)));
}

/**
 * As `findOwn`; makes the key at the first start, and ends a rotation of the secret key that was
 * cut off before its rename (src/app/data-folder/rotate-master.ts), or forgets the next key.
 */
function openOwn(dir: string, facts: KeyFacts): FoundKey {
  const [name, next] = [join(dir, KEY_FILE), join(dir, NEXT_KEY_FILE)];
  const found = findOwn(dir, facts);
  if (found?.name === next) renameSync(next, name);
  else rmSync(next, { force: true });
  return found === null ? { key: loadKey({ file: name, env: null }), source: "new", name } : { ...found, name };
}

/** Of the link for the first admin: drawn at each start, so that one in an old log is void. */
export function newSetupToken(): string {
  return randomBytes(32).toString("base64url");
}

/**
 * The token that lets a reader of the data folder act as operator without a login. It grants
 * nothing new: that reader can read the database and the key as well. An empty file, left by a
 * disk that was full, is replaced.
 * @throws SlipwayError config_invalid when others can read the file, or the token is short.
 */
export function loadOperatorToken(dir: string): string {
  const file = join(dir, "operator.token");
  const existing = readIfExists(file)?.trim() ?? "";
  if (existing === "") {
    const token = randomBytes(32).toString("base64url");
    replaceFile(file, `${token}\n`);
    return token;
  }
  assertPrivate(file);
  if (existing.length < TOKEN_LENGTH)
    throw new SlipwayError(
      "config_invalid",
      `The token in ${file} would be guessed. Remove the file, and start again.`,
    );
  return existing;
}

interface GitAuthDeps {
  readonly grants: Pick<GitGrants, "toToken">;
  readonly accounts: Pick<Accounts, "credentialFor" | "touchCredential">;
  readonly vault: Vault;
  readonly log: Log;
  readonly clock: Pick<Clock, "now">;
}

/**
 * The user's credential for a git host; null when there is none.
 * @param use recorded as the last use, once a minute at most; absent = it is not used.
 * @throws TaskFailure `repo_auth` when it cannot be opened (the secret key is another one, or the
 * row was modified), and as GitGrants.toToken.
 */
export async function findGitAuth(
  { accounts, grants, vault, log, clock }: GitAuthDeps,
  userId: string,
  host: string,
  use?: CredentialUse,
): Promise<GitAuth | null> {
  const found = await accounts.credentialFor(userId, host);
  if (found === null) return null;
  const opened = openSealed(found, { vault, log });
  const auth = { username: found.username ?? TOKEN_USER, token: await grants.toToken(found, opened) };
  if (use !== undefined && isNews(found, use, clock.now()))
    // A use that is not recorded stops no task.
    await accounts.touchCredential(userId, found.id, clock.now(), use).catch((error: unknown) => {
      log.warn({ user: userId, host, error: errorMessage(error) }, "the use of a git credential was not recorded");
    });
  return auth;
}

function openSealed({ userId, host, sealed }: Credential, { vault, log }: Pick<GitAuthDeps, "vault" | "log">): string {
  try {
    return vault.open(sealed, credentialContext(userId, host));
  } catch (cause) {
    log.error({ user: userId, host, error: errorMessage(cause) }, "a saved git credential cannot be opened");
    const detail = `The saved credential for ${host} cannot be opened with this server's key. Save it again.`;
    throw new TaskFailure("repo_auth", { detail, cause });
  }
}

function isNews({ lastUsedAt, lastUse }: Credential, { purpose, repo }: CredentialUse, now: number): boolean {
  if (lastUsedAt === null || lastUse === null || now - lastUsedAt >= USE_MS) return true;
  return lastUse.purpose !== purpose || lastUse.repo !== repo;
}
