/** The stores of the data folder that keep files. */
import { join } from "node:path";
import type { Disposers } from "../../core/lib/disposers.ts";
import type { Crashpoint } from "../../core/lib/runtime/crashpoint.ts";
import type { Artifacts } from "../../core/ports/files/artifacts.ts";
import type { Attachments } from "../../core/ports/files/attachments.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import type { SetupCaches } from "../../core/ports/files/setup-caches.ts";
import { openArtifactFiles } from "../../store/artifacts/artifact-files.ts";
import { BucketArtifacts } from "../../store/artifacts/bucket-artifacts.ts";
import { openAttachmentFiles } from "../../store/attachments/attachment-files.ts";
import type { Bucket } from "../../store/bucket/bucket.ts";
import { openSetupCacheFiles } from "../../store/setup-cache/setup-cache-files.ts";
import type { Config } from "../config.ts";
import { openBucket } from "./open-bucket.ts";
import { getFetchFloorMb, toAttachmentLimits } from "../settings/bound-settings.ts";

export interface FileStores {
  readonly artifacts: Artifacts;
  readonly attachments: Attachments;
  /** Absent = the operator wants none. */
  readonly setupCaches?: SetupCaches;
}

const MB = 2 ** 20;
const DAY_MS = 24 * 3_600_000;

interface FileStoreParts {
  readonly clock: Clock;
  readonly crashpoint: Crashpoint;
  readonly log: Log;
  readonly disposers: Pick<Disposers, "add">;
}

export function openFileStores(dir: string, config: Config, parts: FileStoreParts): FileStores {
  const now = (): number => parts.clock.now();
  const { setupCacheMb, setupCacheDays } = config;
  const stores = {
    artifacts: openArtifacts(join(dir, "artifacts"), config, parts),
    attachments: openAttachmentFiles({ dir: join(dir, "attachments"), limits: toAttachmentLimits(config), now }),
  };
  if (setupCacheMb === 0) return stores;
  const setupCaches = openSetupCacheFiles({
    dir: join(dir, "setup-cache"),
    maxBytes: setupCacheMb * MB,
    maxAgeMs: setupCacheDays * DAY_MS,
    floorBytes: getFetchFloorMb(config) * MB,
    now,
    crashpoint: parts.crashpoint,
  });
  return { ...stores, setupCaches };
}

function openArtifacts(dir: string, config: Config, parts: FileStoreParts): Artifacts {
  const { clock, crashpoint, log, disposers } = parts;
  const files = openArtifactFiles({ dir, maxBytes: config.salvageMb * MB, now: () => clock.now(), crashpoint });
  const open = (place: string): Promise<Bucket> => openBucket(place, config.s3);
  const artifacts = new BucketArtifacts({ files, dir, to: config.artifactsTo, openBucket: open, clock, log });
  disposers.add(() => artifacts.close());
  return artifacts;
}
