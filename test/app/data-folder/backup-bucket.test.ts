/** Backups in a bucket of real S3-compatible storage, by the command and on a schedule. */
import { randomFillSync } from "node:crypto";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect } from "vitest";
import { runDoctor } from "../../../src/app/checker/doctor.ts";
import { readConfig } from "../../../src/app/config.ts";
import { openBackupBucket } from "../../../src/app/data-folder/backup-bucket.ts";
import { BackupSchedule } from "../../../src/app/data-folder/backup-schedule.ts";
import { openBucket } from "../../../src/app/data-folder/open-bucket.ts";
import { serve } from "../../../src/app/serve.ts";
import { systemClock } from "../../../src/core/lib/runtime/system-clock.ts";
import type { Bucket } from "../../../src/store/bucket/bucket.ts";
import { killAll, makeHome, run, start } from "../../cli/command.ts";
import { hasStorage, startStorage, type Passed, type Storage } from "../../support/hostile/storage.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(4);

const LOG = { debug: ignore, info: ignore, warn: ignore, error: ignore };
function ignore(): void {}

let home = "";
let remove = (): void => undefined;
let storage: Storage;
let bucket: Bucket;
const data = (): string => join(home, "data");
const place = (name = ""): string => `s3://${storage.bucket}/backups${name === "" ? "" : `/${name}`}`;
const keys = async (): Promise<string[]> => (await bucket.list()).map(({ key }) => key);
const cli = (...args: string[]) => run(home, args, { env: storage.env });
const isPart = ({ method, path }: Passed): boolean => method === "PUT" && path.includes("partNumber=");

const config = (more: Record<string, string> = {}) =>
  readConfig({
    SLIPWAY_DATA_DIR: data(),
    SLIPWAY_PORT: "0",
    SLIPWAY_SANDBOX: "simulated",
    SLIPWAY_BACKUP_EVERY: "24",
    SLIPWAY_BACKUP_TO: place(),
    ...storage.env,
    ...more,
  });

describe.skipIf(!hasStorage)("a backup in a bucket", () => {
  beforeAll(async () => {
    ({ home, remove } = makeHome());
    storage = await startStorage();
    bucket = await openBucket(place(), config().s3);
    await (await serve(config({ SLIPWAY_BACKUP_EVERY: "", SLIPWAY_BACKUP_TO: "" }), { log: LOG })).close();
    // More than one part, which compression does not change.
    writeFileSync(join(data(), "large.bin"), randomFillSync(Buffer.alloc(20 * 2 ** 20)), { mode: 0o600 });
  });
  afterEach(async () => {
    storage.heal();
    for (const key of await keys()) await bucket.remove(key);
  });
  afterAll(async () => {
    killAll();
    bucket?.close();
    await storage?.close();
    remove();
  });

  it("[M10] is written by the command, read back, and restored; nothing is overwritten", async () => {
    const made = await cli("backup", place("mine.tar.gz"), "--data-dir", data());
    expect(made).toMatchObject({ code: 0, err: "", out: expect.stringMatching(/mine\.tar\.gz: .*verified/) });
    expect(await keys()).toEqual(["mine.tar.gz", "mine.tar.gz.json"]);
    const again = await cli("backup", place("mine.tar.gz"), "--data-dir", data());
    expect([again.code, again.err]).toEqual([2, expect.stringMatching(/exists\. Name a new object/)]);
    const into = join(home, "restored");
    const restored = await cli("restore", place("mine.tar.gz"), "--into", into);
    expect(restored.out).toMatch(/restored: \d+ files of/);
    expect(readFileSync(join(into, "large.bin")).equals(readFileSync(join(data(), "large.bin")))).toBe(true);
    await bucket.putText("slipway-2026-01-01T00-00-00-000Z.tar.gz", "x");
    await bucket.putText("slipway-2026-01-01T00-00-00-000Z.tar.gz.json", "{}");
    const none = await cli("restore", place("other.tar.gz"), "--into", join(home, "none"));
    expect([none.code, none.err]).toEqual([
      2,
      expect.stringMatching(/There is no .*The newest .*: slipway-2026-01-01/),
    ]);
    expect(existsSync(join(home, "none"))).toBe(false);
  });

  it("[M13] that cannot be written is not there, and the command ends with a sentence and a code", async () => {
    storage.fail((request) => (isPart(request) ? { status: 403, code: "AccessDenied" } : null));
    const { code, err } = await cli("backup", place("no.tar.gz"), "--data-dir", data());
    expect(code).toBe(1);
    expect(err).toMatch(/^slipway: Slipway could not write s3:.*the key may not do that.*\(storage_refused\)\n$/);
    expect([await keys(), storage.uploads.size]).toEqual([[], 0]);
  });

  it("[M12] is taken on a schedule after one that was killed, whose parts are removed; old ones go", async () => {
    storage.fail((request) => (isPart(request) && request.path.includes("partNumber=2") ? "stall" : null));
    const killed = place("slipway-2026-02-01T00-00-00-000Z.tar.gz");
    const child = start(home, ["backup", killed, "--data-dir", data()], { env: storage.env });
    await expect.poll(() => storage.uploads.size).toBe(1);
    child.process.kill("SIGKILL");
    await child.ended;
    storage.heal();
    const old = (day: number): string => `slipway-2020-01-0${day}T00-00-00-000Z.tar.gz`;
    for (const key of [old(1), `${old(1)}.json`, old(2), `${old(2)}.json`, old(3), "mine.tar.gz"])
      await bucket.putText(key, "x");
    const told: { fields: object; text: string }[] = [];
    const log = { ...LOG, info: (fields: object, text: string) => void told.push({ fields, text }) };
    const options = { dir: data(), place: openBackupBucket(place(), config()), keep: 2, clock: systemClock };
    const schedule = new BackupSchedule({ ...options, everyMs: 3_600_000, log });
    try {
      await expect.poll(() => schedule.status().lastAt ?? 0).toBeGreaterThan(Date.now() - 60_000);
      expect(schedule.status().error).toBe(null);
    } finally {
      await schedule.close();
    }
    const kept = await keys();
    // Without a note, the third was no backup.
    expect(kept).toEqual(["mine.tar.gz", old(2), `${old(2)}.json`, expect.stringMatching(/^slipway-2/), kept[4]]);
    expect(storage.uploads.size).toBe(0);
    expect(told).toEqual([
      { fields: expect.objectContaining({ bytes: expect.any(Number) }), text: "a backup was written and verified" },
    ]);
  });

  it("[M12] of a server: a bucket that is down fails no start, is shown in words, and doctor says whether it can be written", async () => {
    const find = async () => (await runDoctor({ config: config() })).find(({ rule }) => rule === "backup");
    storage.fail(() => ({ status: 503, code: "SlowDown" }));
    const lines: string[] = [];
    const note = (fields: object, text: string): void => void lines.push(JSON.stringify(fields) + text);
    const server = await serve(config(), { log: { ...LOG, error: note } });
    const token = readFileSync(join(data(), "operator.token"), "utf8").trim();
    const ready = async (): Promise<unknown> => await (await fetch(`${server.url}/readyz`)).json();
    try {
      await expect.poll(ready).toEqual({ status: "ready", incomplete: ["backup"] });
      const answer = await fetch(`${server.url}/v1/ops/overview`, { headers: { authorization: `Bearer ${token}` } });
      expect(await answer.json()).toMatchObject({
        backup: { lastAt: null, error: expect.stringMatching(/503 SlowDown.*tried again/) },
      });
      expect(lines.join("\n")).toContain("a backup failed; it is tried again");
    } finally {
      await server.close();
    }
    expect(await find()).toMatchObject({ ok: false, detail: expect.stringContaining("503 SlowDown") });
    storage.heal();
    expect(await find()).toMatchObject({ ok: false, detail: expect.stringMatching(/there is none in s3:/) });
    const name = `slipway-${new Date().toISOString().replaceAll(/[:.]/g, "-")}.tar.gz`;
    for (const key of [name, `${name}.json`]) await bucket.putText(key, "x");
    expect(await find()).toMatchObject({ ok: true, detail: expect.stringMatching(/^1 in s3:.*can be written/) });
    expect(await keys()).toEqual([name, `${name}.json`]);
  });

  it("[H8] needs a key, whose file nobody else can read", async () => {
    const noKey = { SLIPWAY_S3_SECRET_ACCESS_KEY: "" };
    await expect(serve(config(noKey), { log: LOG })).rejects.toThrow(/A bucket needs a key: set SLIPWAY_S3/);
    const file = join(home, "s3.secret");
    writeFileSync(file, "S3RVER\n", { mode: 0o600 });
    const withFile = { ...noKey, SLIPWAY_S3_SECRET_ACCESS_KEY_FILE: file };
    const opened = await openBucket(place(), config(withFile).s3);
    await opened.putText("x", "x");
    opened.close();
    chmodSync(file, 0o644);
    await expect(serve(config(withFile), { log: LOG })).rejects.toThrow(/Other users can read .*s3\.secret/);
    expect(() => config({ ...withFile, SLIPWAY_S3_SECRET_ACCESS_KEY: "x" })).toThrow(/not both/);
    expect(() => config({ SLIPWAY_BACKUP_TO: "s3://no" })).toThrow(/SLIPWAY_BACKUP_TO must be a folder, or a bucket/);
    const aws = { AWS_ACCESS_KEY_ID: "id", AWS_SECRET_ACCESS_KEY: "key", AWS_REGION: "eu-central-1" };
    expect(readConfig(aws).s3).toMatchObject({ keyId: "id", secret: "key", region: "eu-central-1", pathStyle: false });
  });
});
