/**
 * Encryption of small secrets at rest: AES-256-GCM with a random 12-byte IV per secret, the full
 * 16-byte tag, and the context as additional authenticated data.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { assertPrivate, replaceFile } from "../core/lib/runtime/replace-file.ts";
import { SlipwayError } from "../core/error.ts";

export interface Vault {
  /** @param context identifies the row of the secret; `open` needs the same one. */
  seal(plain: string, context: string): string;
  /** @throws SlipwayError `internal` for another key, another context, or a modified text. */
  open(sealed: string, context: string): string;
}

/** The vault context of a git credential: one per user and host. */
export function credentialContext(userId: string, host: string): string {
  return `credential ${userId} ${host}`;
}

const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;
const VERSION = "v1";

/** Names a key without telling anything else about it: 8 hex digits. */
export function keyIdOf(key: Buffer): string {
  return createHash("sha256").update("slipway key id").update(key).digest("hex").slice(0, 8);
}

/** The id of the key that a text was sealed with; empty when it has none. */
export function sealedWith(sealed: string): string {
  return sealed.split(".")[1] ?? "";
}

export function openVault(key: Buffer): Vault {
  if (key.length !== KEY_BYTES)
    throw new SlipwayError("config_invalid", `The secret key must have ${KEY_BYTES} bytes.`);
  const keyId = keyIdOf(key);
  const authenticatedData = (context: string): Buffer => Buffer.from(`${VERSION}|${keyId}|${context}`);

  return {
    seal(plain, context) {
      const iv = randomBytes(IV_BYTES);
      const cipher = createCipheriv("aes-256-gcm", key, iv, { authTagLength: TAG_BYTES }).setAAD(
        authenticatedData(context),
      );
      const body = Buffer.concat([cipher.update(plain, "utf8"), cipher.final()]);
      return [VERSION, keyId, Buffer.concat([iv, cipher.getAuthTag(), body]).toString("base64")].join(".");
    },
    open(sealed, context) {
      const [version, id, text] = sealed.split(".");
      if (version !== VERSION || text === undefined)
        throw new SlipwayError("internal", "A sealed secret has an unknown format.");
      if (id !== keyId)
        throw new SlipwayError(
          "internal",
          "A secret was sealed with another key. Restore that key (secret.key or SLIPWAY_SECRET_KEY).",
        );
      const bytes = Buffer.from(text, "base64");
      try {
        const decipher = createDecipheriv("aes-256-gcm", key, bytes.subarray(0, IV_BYTES), {
          authTagLength: TAG_BYTES,
        });
        decipher.setAAD(authenticatedData(context)).setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
        return Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]).toString(
          "utf8",
        );
      } catch (cause) {
        throw new SlipwayError("internal", "A sealed secret was modified or belongs to another row.", { cause });
      }
    },
  };
}

/** The vault context of a variable: one per user, repository and name. */
export function variableContext(userId: string, repo: string, name: string): string {
  return `variable ${JSON.stringify([userId, repo, name])}`;
}

/** The vault context of how a device is reached: one per user and device. */
export function deviceContext(userId: string, id: string): string {
  return `device ${userId} ${id}`;
}

interface DeviceName {
  readonly id: string;
  readonly userId: string;
}

/** Seals what a device is reached with. */
export function openDeviceSealer(vault: Vault): {
  seal(device: DeviceName, plain: string): string;
  open(device: DeviceName, sealed: string): string;
} {
  return {
    seal: ({ userId, id }, plain) => vault.seal(plain, deviceContext(userId, id)),
    open: ({ userId, id }, sealed) => vault.open(sealed, deviceContext(userId, id)),
  };
}

/** A secret for one use; it reveals nothing about the key or the secrets of other uses. */
export function deriveSecret(key: Buffer, use: string): Buffer {
  return createHmac("sha256", key).update(`slipway ${use}`).digest();
}

/**
 * The installation's key: from the environment, else from a file with mode 0600, which is created
 * on first use. @throws as `readKeyFile`.
 */
export function loadKey({ file, env }: { readonly file: string; readonly env: string | null }): Buffer {
  if (env !== null) return parseKey(env, "SLIPWAY_SECRET_KEY");
  // The data folder's lock excludes a second writer.
  if (!existsSync(file)) writeKeyFile(file, randomBytes(KEY_BYTES));
  return readKeyFile(file);
}

/**
 * 64 hex digits or base64 of 32 bytes, in a file.
 * @throws SlipwayError `config_invalid` when there is no key in it, or other users can read it.
 */
export function readKeyFile(file: string): Buffer {
  if (!existsSync(file)) throw new SlipwayError("config_invalid", `There is no key file ${file}.`);
  assertPrivate(file);
  return parseKey(readFileSync(file, "utf8").trim(), file);
}

/** Atomic: a crash must not leave a partial key. */
export function writeKeyFile(file: string, key: Buffer): void {
  replaceFile(file, `${key.toString("hex")}\n`);
}

function parseKey(text: string, source: string): Buffer {
  const key = /^[0-9a-f]{64}$/i.test(text) ? Buffer.from(text, "hex") : Buffer.from(text, "base64");
  if (key.length === KEY_BYTES && (/^[0-9a-f]{64}$/i.test(text) || /^[A-Za-z0-9+/]{43}=?$/.test(text))) return key;
  throw new SlipwayError("config_invalid", `${source} must contain 32 bytes as 64 hex digits or base64.`);
}
