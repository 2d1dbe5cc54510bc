/** The bounds that docs/security.md promises are those of a server without settings. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { readConfig } from "../../src/app/config.ts";

const read = (name: string): string => readFileSync(join(import.meta.dirname, "../../docs", name), "utf8");
const config = readConfig({});
const { quotas } = config;

/** By setting: its default, as both tables have to say it. */
const DEFAULTS: Readonly<Record<string, number | null>> = {
  SLIPWAY_MAX_REPO_MB: config.maxRepoMb,
  SLIPWAY_GIT_MEMORY_MB: config.gitMemoryMb,
  SLIPWAY_ADDRESS_CONNECTIONS: config.addressConnections,
  SLIPWAY_ATTACHMENT_MB: config.attachmentMb,
  SLIPWAY_USER_ATTACHMENTS_MB: config.userAttachmentsMb,
  SLIPWAY_SETUP_CACHE_MB: config.setupCacheMb,
  SLIPWAY_SETUP_CACHE_DAYS: config.setupCacheDays,
  SLIPWAY_EGRESS_MB: config.egressMb,
  SLIPWAY_USER_TASKS_PER_MINUTE: quotas.tasksPerMinute,
  SLIPWAY_USER_TASKS_PER_DAY: quotas.tasksPerDay,
  SLIPWAY_USER_OPEN_TASKS: quotas.openTasks,
  SLIPWAY_USER_SEARCHES_PER_MINUTE: quotas.searchesPerMinute,
  SLIPWAY_USER_STORAGE_MB: quotas.storageMb,
};

const rows = (text: string): string[][] =>
  text
    .split("\n")
    .filter((line) => line.startsWith("| ") && line.includes("`SLIPWAY_"))
    .map((line) => line.split(" | "));

it.each(Object.entries(DEFAULTS))("%s is %s in security.md and operate.md", (name, value) => {
  const promised = rows(read("security.md")).find((cells) => cells.at(-1)?.includes(`\`${name}\``));
  expect(promised?.[1]?.replaceAll(",", "")).toMatch(new RegExp(`\\b${value}\\b`));
  const offered = rows(read("operate.md")).find((cells) => cells[0] === `| \`${name}\``);
  expect(offered?.[2]).toMatch(new RegExp(`^${value}\\b`));
});

it("the room that must stay is half of the least free space, as security.md says", () => {
  expect(config.minFreeMb).toBe(2_048);
  const promised = rows(read("security.md")).filter((cells) => cells.at(-1)?.includes("SLIPWAY_MIN_FREE_MB"));
  expect(promised.length).toBeGreaterThanOrEqual(3);
  for (const [, bound] of promised) expect(bound).toMatch(/half of `SLIPWAY_MIN_FREE_MB`, 48 MiB at least/);
});
