/** The secrets of an installation. One key is stored; every other secret is derived from it. */
import { createHmac, randomBytes } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { loadKey } from "../auth/vault.ts";
import { SlipwayError } from "../core/error.ts";
import { readIfExists, replaceFile } from "../core/lib/runtime/replace-file.ts";
import type { Config } from "./config.ts";

export interface SecretKey {
  readonly key: Buffer;
  readonly source: "new" | "existing" | "setting";
}

/** Fewer different bytes than this were typed, not drawn. */
const DIFFERENT_BYTES = 4;
const TOKEN_LENGTH = 32;

/**
 * @param isNew whether the data folder is: there, a key that would be guessed is refused. In an old
 * one it seals what is stored, so it is a warning.
 * @throws SlipwayError config_invalid when the key is not usable.
 */
export function openSecretKey(
  { secretKey }: Pick<Config, "secretKey">,
  dir: string,
  isNew: boolean,
): SecretKey & { readonly warning: string | null } {
  const file = join(dir, "secret.key");
  const existing = existsSync(file);
  const key = loadKey({ file, env: secretKey });
  const source = secretKey !== null ? "setting" : existing ? "existing" : "new";
  const name = source === "setting" ? "SLIPWAY_SECRET_KEY" : file;
  const warning =
    new Set(key).size < DIFFERENT_BYTES ? `${name} would be guessed: make one with openssl rand -hex 32.` : null;
  if (warning !== null && isNew) throw new SlipwayError("config_invalid", warning);
  return { key, source, warning };
}

/** A secret for one use; it reveals nothing about the key or the secrets of other uses. */
export function deriveSecret(key: Buffer, use: string): Buffer {
  return createHmac("sha256", key).update(`slipway ${use}`).digest();
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
  if (process.platform !== "win32" && (statSync(file).mode & 0o077) !== 0)
    throw new SlipwayError("config_invalid", `Other users can read ${file}. Run: chmod 600 ${file}`);
  if (existing.length < TOKEN_LENGTH)
    throw new SlipwayError(
      "config_invalid",
      `The token in ${file} would be guessed. Remove the file, and start again.`,
    );
  return existing;
}
