/** The adapter for a bucket, on real S3-compatible storage. */
import type { Log } from "../../../src/core/ports/runtime.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import type { ArtifactFiles } from "../../../src/store/artifacts/artifact-files.ts";
import { BucketArtifacts, type BucketArtifactsOptions } from "../../../src/store/artifacts/bucket-artifacts.ts";
import { parseBucketAddress } from "../../../src/store/bucket/bucket-address.ts";
import { Bucket } from "../../../src/store/bucket/bucket.ts";
import type { Storage } from "../../support/hostile/storage.ts";

const ignore = (): void => undefined;
const LOG: Log = { debug: ignore, info: ignore, warn: ignore, error: ignore };

type Reached = Pick<Storage, "url" | "keyId" | "secret">;

export async function openPlace(place: string, { url, keyId, secret }: Reached): Promise<Bucket> {
  const address = parseBucketAddress(place);
  if (address === null) throw new Error(`not an address: ${place}`);
  const options = { keyId, secret, sessionToken: null, idleMs: 20_000, tries: 1 };
  return new Bucket({ address, endpoint: url, region: "us-east-1", pathStyle: true, ...options });
}

let opened = 0;

/** Each in a prefix of its own. */
export function openBucketArtifacts(
  files: ArtifactFiles,
  dir: string,
  storage: Reached & Pick<Storage, "bucket">,
  more: Partial<BucketArtifactsOptions> = {},
): BucketArtifacts {
  opened += 1;
  const to = `s3://${storage.bucket}/artifacts-${opened}`;
  const openBucket = (place: string): Promise<Bucket> => openPlace(place, storage);
  return new BucketArtifacts({ files, dir, to, openBucket, clock: systemClock, log: LOG, ...more });
}
