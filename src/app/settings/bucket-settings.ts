/** S3-compatible storage: how it is reached. */
import { z } from "zod";
import { SlipwayError } from "../../core/error.ts";
import { isBucketAddress, parseBucketAddress } from "../../store/bucket/bucket-address.ts";
import { webUrl, type Read } from "./values.ts";

export interface S3Settings {
  /** Without a slash at the end; null = AWS. */
  readonly endpoint: string | null;
  readonly region: string;
  readonly pathStyle: boolean;
  readonly keyId: string | null;
  /** At most one of the two is set. */
  readonly secret: string | null;
  readonly secretFile: string | null;
  readonly sessionToken: string | null;
}

export interface BucketSettings {
  /** `s3://bucket/prefix`; null = artifacts stay in the data folder. */
  readonly artifactsTo: string | null;
  readonly s3: S3Settings;
}

const REGION = "us-east-1";

/** @throws SlipwayError config_invalid. */
export function readBucketSettings(read: Read, warnings: string[]): BucketSettings {
  const endpoint = read("s3Endpoint", webUrl, "an http or https address without a query");
  const pathStyle = read("s3PathStyle", z.enum(["0", "1"]), "0 or 1");
  const secret = read("s3Secret", z.string(), "a key");
  const secretFile = read("s3SecretFile", z.string(), "a file");
  if (secret !== null && secretFile !== null)
    throw new SlipwayError(
      "config_invalid",
      "Set SLIPWAY_S3_SECRET_ACCESS_KEY or SLIPWAY_S3_SECRET_ACCESS_KEY_FILE, not both.",
    );
  if (endpoint !== null && isUnencrypted(endpoint))
    warnings.push(`${endpoint} is not encrypted: what goes there crosses the network as it is. Use https.`);
  return {
    artifactsTo: read("artifactsTo", bucketName, "a bucket such as s3://bucket/prefix")?.replace(/\/+$/, "") ?? null,
    s3: {
      endpoint: endpoint?.replace(/\/+$/, "") ?? null,
      region:
        read("s3Region", z.string().regex(/^[\w.-]{1,64}$/), "the name of a region, such as eu-central-1") ?? REGION,
      pathStyle: pathStyle === null ? endpoint !== null : pathStyle === "1",
      keyId: read("s3KeyId", z.string().regex(/^[\x21-\x7e]{1,200}$/), "printable ASCII without spaces"),
      secret,
      secretFile,
      sessionToken: read("s3SessionToken", z.string(), "a token"),
    },
  };
}

/** A folder, or a bucket. */
export const placeName = z.string().refine((text) => !isBucketAddress(text) || parseBucketAddress(text) !== null);

const bucketName = z.string().refine((text) => parseBucketAddress(text) !== null);

function isUnencrypted(endpoint: string): boolean {
  const { protocol, hostname } = new URL(endpoint);
  return protocol === "http:" && !/^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname);
}
