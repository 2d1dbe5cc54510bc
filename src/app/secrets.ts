/** The secrets of an installation. One key is stored; every other secret is derived from it. */
import { createHmac, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { loadKey } from "../auth/vault.ts";
import { readIfExists, replaceFile } from "../core/lib/runtime/replace-file.ts";
import type { Config } from "./config.ts";

export interface SecretKey {
  readonly key: Buffer;
  readonly source: "new" | "existing" | "setting";
}

/** @throws SlipwayError config_invalid when the key is not usable. */
export function openSecretKey({ secretKey }: Pick<Config, "secretKey">, dir: string): SecretKey {
  const file = join(dir, "secret.key");
  const existing = existsSync(file);
  const key = loadKey({ file, env: secretKey });
  return { key, source: secretKey !== null ? "setting" : existing ? "existing" : "new" };
}

/** A secret for one use; it reveals nothing about the key or the secrets of other uses. */
export function deriveSecret(key: Buffer, use: string): Buffer {
  return createHmac("sha256", key).update(`slipway ${use}`).digest();
}

/**
 * The token that lets a reader of the data folder act as operator without a login. It grants
 * nothing new: that reader can read the database and the key as well. An empty file, left by a
 * disk that was full, is replaced.
 */
export function loadOperatorToken(dir: string): string {
  const file = join(dir, "operator.token");
  const existing = readIfExists(file)?.trim() ?? "";
  if (existing !== "") return existing;
  const token = randomBytes(32).toString("base64url");
  replaceFile(file, `${token}\n`);
  return token;
}
