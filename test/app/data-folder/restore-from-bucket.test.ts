/**
 * A machine whose backups and saved work are in a bucket, and that is lost: what another machine
 * gets back, and what is said of an object that the bucket has lost.
 */
import { randomBytes } from "node:crypto";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { readConfig } from "../../../src/app/config.ts";
import { openBucket } from "../../../src/app/data-folder/open-bucket.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import type { Bucket } from "../../../src/store/bucket/bucket.ts";
import { killAll, makeHome, run } from "../../cli/command.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { hasServer } from "../../support/hostile/storage-servers.ts";
import { hasStorage, startStorage, type Storage } from "../../support/hostile/storage.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurnTogether } from "../../support/vitest/full-run.ts";

const it = inTurnTogether(3, 0);

/**
 * The shell ends its worker in the middle of a tool, once the file is there: what it wrote becomes
 * an artifact.
 */
const endsItsWorker = (text: string, gate: string) => [
  { bash: `echo ${text} > late.txt; until [ -e ${gate} ]; do sleep 0.1; done; kill -9 $PPID; sleep 60` },
];

let home = "";
let remove = (): void => undefined;
let storage: Storage;
let upstream: GitServer;
let bucket: Bucket;
let server: RealServer | null = null;
/** What the operator keeps elsewhere: the key, and these settings. */
let settings: Record<string, string>;
const schedule = (): Record<string, string> => ({
  SLIPWAY_BACKUP_EVERY: "24",
  SLIPWAY_BACKUP_TO: `s3://${storage.bucket}/backups`,
});

beforeAll(async () => {
  if (!hasStorage) return;
  ({ home, remove } = makeHome());
  [storage, upstream] = await Promise.all([startStorage(hasServer("swift") ? "swift" : "s3rver"), startGitServer()]);
  const key = join(home, "secret.key");
  writeFileSync(key, randomBytes(32).toString("hex"), { mode: 0o600 });
  settings = {
    ...storage.env,
    SLIPWAY_SANDBOX: "process",
    SLIPWAY_SECRET_KEY_FILE: key,
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
    SLIPWAY_ARTIFACTS_TO: `s3://${storage.bucket}/artifacts`,
  };
  bucket = await openBucket(`s3://${storage.bucket}`, readConfig(storage.env).s3);
});
afterAll(async () => {
  await server?.kill("SIGKILL");
  killAll();
  bucket?.close();
  await Promise.all([storage?.close(), upstream?.close()]);
  remove();
});

const cli = (dir: string, ...args: string[]) =>
  run(home, [...args, "--data-dir", dir], { env: { ...settings, ...schedule() } });
const keys = async (begin: string): Promise<string[]> => (await bucket.list(begin)).map(({ key }) => key);

async function saveWork(text: string, repo: string): Promise<string> {
  const gate = join(home, `go-${text}`);
  const body = { repo, prompt: text, agent: "scripted", script: endsItsWorker(text, gate), maxAttempts: 1 };
  const answer = await server!.call("POST", "/v1/tasks", body);
  expect(answer.status, JSON.stringify(answer.body)).toBe(201);
  const { id } = answer.body as WireTask;
  const isRunning = async (): Promise<true | null> =>
    ((await server!.call("GET", `/v1/tasks/${id}`)).body as WireTask).state === "running" ? true : null;
  await eventually(isRunning, `${text} runs`);
  writeFileSync(gate, "");
  const name = `artifacts/${id}/a1-workspace.tar.gz`;
  await eventually(async () => ((await keys("artifacts/")).includes(name) ? true : null), `${name} has moved`);
  return id;
}

async function download(dir: string, id: string): Promise<Buffer> {
  const file = join(home, `${id}-${randomBytes(4).toString("hex")}.tar.gz`);
  const got = await cli(dir, "artifacts", id, "--out", file);
  expect([got.code, got.err]).toEqual([0, expect.stringContaining("fresh checkout")]);
  return readFileSync(file);
}

const doctor = async (dir: string) => {
  const { code, out } = await cli(dir, "doctor", "--json");
  const found = (JSON.parse(out) as { rule: string; ok: boolean; detail: string }[]).filter(({ ok }) => !ok);
  return { code, found };
};

describe.skipIf(!hasStorage)("a lost machine whose backups and artifacts are in a bucket", () => {
  it("[M10] [M14] is restored elsewhere: doctor passes, saved work is read from the bucket, and a lost object is named with what to do", async () => {
    const [lost, copy] = [join(home, "data"), join(home, "restored")];
    const { url: repo } = upstream.createRepo("app");
    server = await startServer({ dataDir: lost, env: settings });
    const ids = [await saveWork("one", repo), await saveWork("two", repo)];
    const [one = "", two = ""] = ids;
    const before = await download(lost, one);
    await server.kill("SIGTERM");
    // The schedule takes one at the start.
    server = await startServer({ dataDir: lost, env: { ...settings, ...schedule() } });
    const isNote = (key: string): boolean => key.endsWith(".tar.gz.json");
    const note = await eventually(async () => (await keys("backups/")).find(isNote) ?? null, "there is a backup");
    await server.kill("SIGKILL");
    rmSync(lost, { recursive: true });

    const backup = `s3://${storage.bucket}/${note.replace(/\.json$/, "")}`;
    const env = { ...settings, ...schedule() };
    const restored = await run(home, ["restore", backup, "--into", copy], { env });
    expect(restored.out + restored.err).toMatch(/All checks passed/);
    expect(restored.code).toBe(0);
    server = await startServer({ dataDir: copy, env });
    expect((await download(copy, one)).equals(before)).toBe(true);
    expect(await doctor(copy)).toEqual({ code: 0, found: [] });

    await bucket.remove(`artifacts/${two}/a1-workspace.tar.gz`);
    const name = `s3://${storage.bucket}/artifacts/${two}/a1-workspace.tar.gz`;
    const says = `1 of 2 are gone, or have another size: ${name}. Restore the objects, or delete their tasks (storage_refused)`;
    expect(await doctor(copy)).toEqual({
      code: 1,
      found: [expect.objectContaining({ rule: "artifacts", detail: says })],
    });
    const answer = await server.call("GET", `/v1/tasks/${two}/artifacts/a1-workspace.tar.gz`);
    expect(answer).toMatchObject({ status: 503, body: { code: "storage_refused" } });
    const refused = await cli(copy, "artifacts", two, "--out", join(home, "none"));
    expect([refused.code, refused.err]).toEqual([
      1,
      expect.stringMatching(/is gone. Restore the object.*storage_refused/),
    ]);
    expect((await download(copy, one)).equals(before)).toBe(true);

    expect((await cli(copy, "delete", two, "--yes")).code).toBe(0);
    await expect.poll(() => doctor(copy)).toEqual({ code: 0, found: [] });
    await expect.poll(() => keys("artifacts/")).toEqual([`artifacts/${one}/a1-workspace.tar.gz`]);
  });

  it("[M14] without the key of the bucket doctor names the setting, not only that something fails", async () => {
    const { SLIPWAY_S3_ACCESS_KEY_ID: _id, ...without } = settings;
    const { code, out } = await run(home, ["doctor", "--json", "--data-dir", join(home, "restored")], { env: without });
    const row = (JSON.parse(out) as { rule: string; ok: boolean; detail: string }[]).find(
      ({ rule }) => rule === "artifacts",
    );
    expect([code, row?.ok]).toEqual([1, false]);
    expect(row?.detail).toMatch(/s3:\/\/slipway-test\/artifacts cannot be read: .*SLIPWAY_S3_ACCESS_KEY_ID/);
  });
});
