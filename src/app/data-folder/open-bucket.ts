/** Opens a bucket with the settings of this installation. The SDK is loaded by the first use. */
import { existsSync, readFileSync } from "node:fs";
import { SlipwayError } from "../../core/error.ts";
import { assertPrivate } from "../../core/lib/runtime/replace-file.ts";
import { isBucketAddress, parseBucketAddress } from "../../store/bucket/bucket-address.ts";
import type { Bucket } from "../../store/bucket/bucket.ts";
import type { S3Settings } from "../settings/bucket-settings.ts";
import type { Config } from "../config.ts";

export interface BucketKeys {
  readonly keyId: string;
  readonly secret: string;
}

/** True for `s3://...`, right or wrong. */
export const isInBucket = (place: string): boolean => isBucketAddress(place);

/** True when a setting names a bucket. */
export function usesBucket({ backup, artifactsTo }: Pick<Config, "backup" | "artifactsTo">): boolean {
  return artifactsTo !== null || (backup !== null && isBucketAddress(backup.to));
}

/**
 * @throws SlipwayError config_invalid when there is no key, or others can read the file of its
 * secret.
 */
export function loadBucketKeys({ keyId, secret, secretFile }: S3Settings): BucketKeys {
  const found = secretFile === null ? secret : readSecretFile(secretFile);
  if (keyId !== null && found !== null) return { keyId, secret: found };
  throw new SlipwayError(
    "config_invalid",
    "A bucket needs a key: set SLIPWAY_S3_ACCESS_KEY_ID, and SLIPWAY_S3_SECRET_ACCESS_KEY or SLIPWAY_S3_SECRET_ACCESS_KEY_FILE.",
  );
}

function readSecretFile(file: string): string {
  if (!existsSync(file))
    throw new SlipwayError("config_invalid", `There is no file ${file}: SLIPWAY_S3_SECRET_ACCESS_KEY_FILE names it.`);
  assertPrivate(file);
  const secret = readFileSync(file, "utf8").trim();
  if (secret !== "") return secret;
  throw new SlipwayError("config_invalid", `${file} is empty. Write the secret of the S3 key into it.`);
}

/** @param place `s3://bucket/prefix`. @throws SlipwayError config_invalid. */
export async function openBucket(place: string, s3: S3Settings): Promise<Bucket> {
  const address = parseBucketAddress(place);
  if (address === null)
    throw new SlipwayError("config_invalid", `${place} is no address of a bucket. Write s3://bucket/prefix.`);
  const { endpoint, region, pathStyle, sessionToken } = s3;
  const keys = loadBucketKeys(s3);
  // Slipway itself decides which versions of Node.js it supports; the SDK does not warn.
  process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";
  const { Bucket } = await import("../../store/bucket/bucket.ts");
  return new Bucket({ address, endpoint, region, pathStyle, sessionToken, ...keys });
}

/** The variables that give a process the same settings. */
export function toBucketVariables({ endpoint, region, pathStyle, ...keys }: S3Settings): Record<string, string> {
  const { keyId, secret, secretFile, sessionToken } = keys;
  const given = {
    SLIPWAY_S3_ENDPOINT: endpoint,
    SLIPWAY_S3_REGION: region,
    SLIPWAY_S3_PATH_STYLE: pathStyle ? "1" : "0",
    SLIPWAY_S3_ACCESS_KEY_ID: keyId,
    SLIPWAY_S3_SECRET_ACCESS_KEY: secret,
    SLIPWAY_S3_SECRET_ACCESS_KEY_FILE: secretFile,
    SLIPWAY_S3_SESSION_TOKEN: sessionToken,
    NODE_EXTRA_CA_CERTS: process.env["NODE_EXTRA_CA_CERTS"] ?? null,
  };
  return Object.fromEntries(Object.entries(given).flatMap(([name, value]) => (value === null ? [] : [[name, value]])));
}
