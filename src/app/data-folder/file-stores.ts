/** The stores of the data folder that keep files. */
import { join } from "node:path";
import type { Crashpoint } from "../../core/lib/runtime/crashpoint.ts";
import type { Artifacts } from "../../core/ports/artifacts.ts";
import type { Attachments } from "../../core/ports/attachments.ts";
import type { SetupCaches } from "../../core/ports/setup-caches.ts";
import { openArtifactFiles } from "../../store/artifacts/artifact-files.ts";
import { openAttachmentFiles } from "../../store/attachments/attachment-files.ts";
import { openSetupCacheFiles } from "../../store/setup-cache/setup-cache-files.ts";
import type { Config } from "../config.ts";
import { getFetchFloorMb, toAttachmentLimits } from "../settings/bound-settings.ts";

export interface FileStores {
  readonly artifacts: Artifacts;
  readonly attachments: Attachments;
  /** Absent = the operator wants none. */
  readonly setupCaches?: SetupCaches;
}

const MB = 2 ** 20;
const DAY_MS = 24 * 3_600_000;

/** `now` returns epoch ms. */
export function openFileStores(
  dir: string,
  config: Config,
  { now, crashpoint }: { readonly now: () => number; readonly crashpoint: Crashpoint },
): FileStores {
  const { salvageMb, setupCacheMb, setupCacheDays } = config;
  const stores = {
    artifacts: openArtifactFiles({ dir: join(dir, "artifacts"), maxBytes: salvageMb * MB, now }),
    attachments: openAttachmentFiles({ dir: join(dir, "attachments"), limits: toAttachmentLimits(config), now }),
  };
  if (setupCacheMb === 0) return stores;
  const setupCaches = openSetupCacheFiles({
    dir: join(dir, "setup-cache"),
    maxBytes: setupCacheMb * MB,
    maxAgeMs: setupCacheDays * DAY_MS,
    floorBytes: getFetchFloorMb(config) * MB,
    now,
    crashpoint,
  });
  return { ...stores, setupCaches };
}
