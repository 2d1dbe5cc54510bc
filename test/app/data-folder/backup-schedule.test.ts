/** Backups on a schedule: verified, pruned, and visible when they fail. */
import {
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { runDoctor } from "../../../src/app/checker/doctor.ts";
import { readConfig } from "../../../src/app/config.ts";
import { openBackupFolder } from "../../../src/app/data-folder/backup-place.ts";
import { BackupSchedule } from "../../../src/app/data-folder/backup-schedule.ts";
import { verifyBackup } from "../../../src/app/data-folder/restore.ts";
import { serve } from "../../../src/app/serve.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import type { Overview } from "../../../src/core/protocol/rest.ts";

const LOG = { debug: ignore, info: ignore, warn: ignore, error: ignore };
function ignore(): void {}

let root = "";
const data = (): string => join(root, "data");
const to = (): string => join(root, "backups");
const listed = (): string[] => (existsSync(to()) ? readdirSync(to()).toSorted() : []);

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "slipway-schedule-"));
});
afterEach(() => rmSync(root, { recursive: true, force: true, maxRetries: 5 }));

function config(more: Record<string, string> = {}) {
  return readConfig({
    SLIPWAY_DATA_DIR: data(),
    SLIPWAY_PORT: "0",
    SLIPWAY_SANDBOX: "simulated",
    SLIPWAY_BACKUP_EVERY: "24",
    SLIPWAY_BACKUP_TO: to(),
    ...more,
  });
}

async function get(url: string, path: string): Promise<unknown> {
  const token = readFileSync(join(data(), "operator.token"), "utf8").trim();
  const response = await fetch(url + path, { headers: { authorization: `Bearer ${token}` } });
  return response.headers.get("content-type")?.includes("json") === true
    ? await response.json()
    : await response.text();
}

describe("[M12] a scheduled backup", () => {
  it("is taken by a server that has none, can be restored, and is shown", async () => {
    const server = await serve(config(), { log: LOG });
    try {
      const shown = async () => ((await get(server.url, "/v1/ops/overview")) as Overview).backup;
      await expect.poll(shown).toEqual({ lastAt: expect.any(String), error: null });
      expect(listed()).toEqual([expect.stringMatching(/^slipway-.*\.tar\.gz$/)]);
      await expect(verifyBackup(createReadStream(join(to(), listed()[0] ?? "")))).resolves.toBeDefined();
      expect(await get(server.url, "/metrics")).toMatch(/^slipway_backup_failed 0$/m);
      expect(await get(server.url, "/metrics")).toMatch(/^slipway_backup_last_success_timestamp_seconds 1\d{9}/m);
      expect(await get(server.url, "/readyz")).not.toHaveProperty("incomplete", expect.arrayContaining(["backup"]));
    } finally {
      await server.close();
    }
    const check = (await runDoctor({ config: config() })).find(({ rule }) => rule === "backup");
    expect(check).toMatchObject({ ok: true });
  });

  it("that fails is visible in readiness, overview, metrics and doctor", async () => {
    mkdirSync(data());
    // The copy of the database is made in this folder.
    writeFileSync(join(data(), "backups"), "");
    const server = await serve(config(), { log: LOG });
    try {
      await expect
        .poll(async () => await get(server.url, "/readyz"))
        .toEqual({ status: "ready", incomplete: ["backup"] });
      const { backup } = (await get(server.url, "/v1/ops/overview")) as Overview;
      expect(backup).toEqual({ lastAt: null, error: expect.stringContaining("backups") });
      expect(await get(server.url, "/metrics")).toMatch(/^slipway_backup_failed 1$/m);
      expect(listed()).toEqual([]);
    } finally {
      await server.close();
    }
    const check = (await runDoctor({ config: config() })).find(({ rule }) => rule === "backup");
    expect(check).toMatchObject({ ok: false, detail: expect.stringContaining("there is none") });
  });

  it("is tried again after a failure, which one that succeeds ends", async () => {
    const first = await serve(config({ SLIPWAY_BACKUP_EVERY: "", SLIPWAY_BACKUP_TO: "" }), { log: LOG });
    await first.close();
    writeFileSync(join(data(), "backups"), "");
    const options = { dir: data(), place: openBackupFolder(to()), everyMs: 500, keep: 2, clock: systemClock, log: LOG };
    const schedule = new BackupSchedule(options);
    try {
      await expect.poll(() => schedule.status().error).toContain("backups");
      rmSync(join(data(), "backups"));
      await expect.poll(() => schedule.status()).toEqual({ lastAt: expect.any(Number), error: null });
    } finally {
      await schedule.close();
    }
  });

  it("keeps the newest ones, and nothing else is removed", async () => {
    const first = await serve(config({ SLIPWAY_BACKUP_EVERY: "", SLIPWAY_BACKUP_TO: "" }), { log: LOG });
    await first.close();
    mkdirSync(to());
    const old = (day: number): string => `slipway-2020-01-0${day}T00-00-00-000Z.tar.gz`;
    for (const name of [old(1), old(2), old(3), `${old(4)}.partial`, "slipway-mine.tar.gz", "notes.txt"])
      writeFileSync(join(to(), name), "x");
    const schedule = new BackupSchedule({
      dir: data(),
      place: openBackupFolder(to()),
      everyMs: 3_600_000,
      keep: 2,
      clock: systemClock,
      log: LOG,
    });
    try {
      await expect.poll(() => listed().length).toBe(4);
      expect(listed()).toEqual(expect.arrayContaining([old(3), "slipway-mine.tar.gz", "notes.txt"]));
    } finally {
      await schedule.close();
    }
  });
});
