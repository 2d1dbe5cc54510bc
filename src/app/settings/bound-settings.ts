/** How much repositories and clients may take of the server. */
import type { AttachmentLimits } from "../../core/ports/files/attachments.ts";
import type { WorkspaceRules } from "../../coordinator/scheduler/workspace-admission.ts";
import { GIT_LIMITS, type GitKind, type GitLimits } from "../../git/git-process.ts";
import { DEFAULT_QUOTAS, type QuotaSettings } from "../../core/quotas.ts";
import type { SettingName } from "../options.ts";
import { dollars, factor, whole, type Read } from "./values.ts";

export interface BoundSettings {
  /** Reverse proxies in front whose X-Forwarded-For is believed. */
  readonly trustProxy: number;
  /** Largest pack of a repository, MiB. */
  readonly maxRepoMb: number;
  /** How many times the free disk space is promised to workspaces; at least 1. */
  readonly diskOvercommit: number;
  /** Address space of a git that fetches or pushes, MiB. */
  readonly gitMemoryMb: number;
  /** Connections of one address; null = no limit. */
  readonly addressConnections: number | null;
  /** Of everybody for whom an admin set no others. */
  readonly quotas: QuotaSettings["quotas"];
  /** Largest attachment, and what all attachments of one person may take, MiB. */
  readonly attachmentMb: number;
  readonly userAttachmentsMb: number;
  /** All setup caches together, MiB; 0 = there are none. */
  readonly setupCacheMb: number;
  readonly setupCacheDays: number;
  /** What one task may move through the egress proxy, MiB; null = no limit. */
  readonly egressMb: number | null;
}

const MEGABYTES = "a whole number of megabytes";
const MAX_REPO_MB = 10_240;
const GIT_MEMORY_MB = 2_048;
const ADDRESS_CONNECTIONS = 256;
const ATTACHMENT_MB = 25;
const USER_ATTACHMENTS_MB = 1_000;
const SETUP_CACHE_MB = 10_240;
const SETUP_CACHE_DAYS = 14;
const EGRESS_MB = 10_240;
/** What fetches leave free in any case, MiB: more than twice the store's reserve. */
const LEAST_FREE_MB = 48;

export function readBounds(read: Read): BoundSettings {
  const trustProxy = read("trustProxy", whole(0, 10), "the number of reverse proxies in front, 0 to 10") ?? 0;
  const chosen = read("addressConnections", whole(0, 100_000), "a whole number from 0 to 100000");
  // Behind a trusted proxy all clients have the proxy's address.
  const byDefault = trustProxy > 0 ? null : ADDRESS_CONNECTIONS;
  return {
    trustProxy,
    maxRepoMb: read("maxRepoMb", whole(1, 1_048_576), MEGABYTES) ?? MAX_REPO_MB,
    diskOvercommit: read("diskOvercommit", factor, "a number from 1 to 100 such as 1.5") ?? 1,
    gitMemoryMb: read("gitMemoryMb", whole(256, 1_048_576), MEGABYTES) ?? GIT_MEMORY_MB,
    addressConnections: chosen === null ? byDefault : chosen || null,
    attachmentMb: read("attachmentMb", whole(1, 1_000), MEGABYTES) ?? ATTACHMENT_MB,
    userAttachmentsMb: read("userAttachmentsMb", whole(1, 1_048_576), MEGABYTES) ?? USER_ATTACHMENTS_MB,
    setupCacheMb: read("setupCacheMb", whole(0, 1_048_576), MEGABYTES) ?? SETUP_CACHE_MB,
    setupCacheDays: read("setupCacheDays", whole(1, 365), "a number of days from 1 to 365") ?? SETUP_CACHE_DAYS,
    egressMb: (read("egressMb", whole(0, 1_048_576), MEGABYTES) ?? EGRESS_MB) || null,
    quotas: readQuotaDefaults(read),
  };
}

function readQuotaDefaults(read: Read): BoundSettings["quotas"] {
  const quota = (setting: SettingName, name: keyof typeof DEFAULT_QUOTAS): number | null => {
    const chosen = read(setting, whole(0, 1_000_000), "a whole number from 0 (no limit) to 1000000");
    return chosen === null ? DEFAULT_QUOTAS[name] : chosen || null;
  };
  return {
    tasksPerMinute: quota("userTasksPerMinute", "tasksPerMinute"),
    tasksPerDay: quota("userTasksPerDay", "tasksPerDay"),
    openTasks: quota("userOpenTasks", "openTasks"),
    searchesPerMinute: quota("userSearchesPerMinute", "searchesPerMinute"),
    storageMb: quota("userStorageMb", "storageMb"),
    monthUsd: read("userMonthUsd", dollars, "an amount of US dollars such as 200"),
  };
}

/** Half of what a claim needs: a fetch that was allowed to begin has some room to go on. */
export function getFetchFloorMb({ minFreeMb }: { readonly minFreeMb: number }): number {
  return Math.max(LEAST_FREE_MB, Math.floor(minFreeMb / 2));
}

export function toWorkspaceRules(config: {
  readonly diskMb: number;
  readonly minFreeMb: number;
  readonly diskOvercommit: number;
}): WorkspaceRules {
  const { diskMb: defaultMb, minFreeMb: floorMb, diskOvercommit: overcommit } = config;
  return { defaultMb, floorMb, lowMb: floorMb === 0 ? 0 : getFetchFloorMb(config), overcommit };
}

export function toAttachmentLimits({ attachmentMb, userAttachmentsMb }: BoundSettings): AttachmentLimits {
  return { fileBytes: attachmentMb * 2 ** 20, personBytes: userAttachmentsMb * 2 ** 20 };
}

export function toGitLimits({ maxRepoMb: fileMb, gitMemoryMb: memoryMb }: BoundSettings): Record<GitKind, GitLimits> {
  const { local, transfer, ...others } = GIT_LIMITS;
  return { ...others, local: { ...local, fileMb }, transfer: { ...transfer, memoryMb, fileMb } };
}
