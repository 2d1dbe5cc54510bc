/** Artifacts in a bucket that fails, and a process that stops anywhere. */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pack as openPack } from "tar-stream";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { checkArtifacts } from "../../../src/app/checker/checks/backups.ts";
import { readConfig } from "../../../src/app/config.ts";
import type { Artifacts } from "../../../src/core/ports/files/artifacts.ts";
import { openArtifactFiles, type ArtifactFiles } from "../../../src/store/artifacts/artifact-files.ts";
import type { BucketArtifacts } from "../../../src/store/artifacts/bucket-artifacts.ts";
import type { Bucket } from "../../../src/store/bucket/bucket.ts";
import { hasStorage, startStorage, type Passed, type Storage } from "../../support/hostile/storage.ts";
import { createManualClock, type ManualClock } from "../../support/manual-clock.ts";
import { openBucketArtifacts, openPlace } from "./bucket-rig.ts";

const TASK = "task_0001";
const NAME = "a1-workspace.tar.gz";
const KEY = `${TASK}/${NAME}`;
let storage: Storage;
let data: string;
let dir: string;
let to: string;
let files: ArtifactFiles;
let bucket: Bucket;
let clock: ManualClock;
let lines: string[];
let open: BucketArtifacts | null;
let round = 0;

beforeAll(async () => {
  if (hasStorage) storage = await startStorage();
});
afterAll(() => storage?.close());
beforeEach(async () => {
  if (!hasStorage) return;
  data = mkdtempSync(join(tmpdir(), "slipway-moving-"));
  dir = join(data, "artifacts");
  to = `s3://${storage.bucket}/moving-${(round += 1)}`;
  files = openArtifactFiles({ dir, maxBytes: 2 ** 24, now: () => Date.now() });
  bucket = await openPlace(to, storage);
  clock = createManualClock();
  lines = [];
  open = null;
});
afterEach(async () => {
  storage?.heal();
  await open?.close();
  bucket?.close();
  if (data !== undefined) rmSync(data, { recursive: true, force: true });
});

const ignore = (): void => undefined;
const note = (_: object, text: string): void => void lines.push(text);
const log = { debug: ignore, info: note, warn: note, error: note };
const start = (more: { to?: string | null } = {}): BucketArtifacts =>
  (open = openBucketArtifacts(files, dir, storage, { to, clock, log, ...more }));

async function* createTar(size = 1_000): AsyncGenerator<Uint8Array> {
  const pack = openPack();
  pack.entry({ name: "workspace/a.txt" }, Buffer.alloc(size, "x"));
  pack.finalize();
  for await (const chunk of pack) yield chunk as Buffer;
}
const keep = (artifacts: Artifacts, attempt = 1) =>
  artifacts.keep({ taskId: TASK, attempt, tar: createTar(), maxMs: 10_000 }, new AbortController().signal);
const keys = async (): Promise<string[]> => (await bucket.list()).map(({ key }) => key);
const isHere = (): boolean => existsSync(join(dir, TASK, NAME));
const isPut = ({ method, path }: Passed): boolean => method === "PUT" && path.includes(NAME);
const doctor = (more: Record<string, string> = {}) => {
  const settings = { ...storage.env, SLIPWAY_ARTIFACTS_TO: to, ...more };
  return checkArtifacts(readConfig({ SLIPWAY_DATA_DIR: data, ...settings }), data);
};
async function read(artifacts: Artifacts): Promise<number> {
  let bytes = 0;
  for await (const piece of (await artifacts.open(TASK, NAME))?.content ?? []) bytes += piece.length;
  return bytes;
}

describe.skipIf(!hasStorage)("[M14] artifacts in a bucket", () => {
  it("a bucket that is down delays nothing and loses nothing; the log says it once, and doctor says it", async () => {
    storage.fail(() => ({ status: 403, code: "AccessDenied" }));
    const artifacts = start();
    const { bytes } = await keep(artifacts);
    await expect.poll(() => lines.length).toBe(1);
    expect(lines[0]).toMatch(/cannot be moved.*nothing is lost/);
    expect([isHere(), await read(artifacts)]).toEqual([true, bytes]);
    expect(await doctor()).toMatchObject([{ ok: false, detail: expect.stringMatching(/key may not do that/) }]);
    storage.heal();
    await expect
      .poll(async () => {
        await clock.advance(60_000);
        return isHere();
      })
      .toBe(false);
    await expect.poll(() => lines).toHaveLength(3);
    expect(lines.slice(1)).toEqual(["artifacts moved to their bucket", "the bucket of the artifacts works again"]);
    expect([await keys(), await read(artifacts)]).toEqual([[KEY], bytes]);
    expect(await doctor()).toMatchObject([{ ok: true, detail: expect.stringMatching(/^1 in s3:.*, 0 in the data/) }]);
  });

  it("one that has moved and cannot be reached is a storage error with what to do, and is listed all the same", async () => {
    const artifacts = start();
    await keep(artifacts);
    await expect.poll(isHere).toBe(false);
    storage.fail(() => ({ status: 500, code: "InternalError" }));
    await expect(artifacts.open(TASK, NAME)).rejects.toMatchObject({ code: "storage_unavailable" });
    expect(await artifacts.list(TASK)).toHaveLength(1);
    storage.heal();
    await bucket.remove(KEY);
    await expect(artifacts.open(TASK, NAME)).rejects.toThrow(/is gone. Restore the object, or delete the task/);
    expect(await doctor()).toMatchObject([{ ok: false, detail: expect.stringContaining(`${to}/${KEY}`) }]);
  });

  it("[D2] a stop in the middle of a move, or between its end and the removal of the file, is made up by the next start", async () => {
    storage.fail((request) => (isPut(request) ? "stall" : null));
    const first = start();
    const { bytes } = await keep(first);
    await expect.poll(() => storage.seen.some(isPut)).toBe(true);
    await first.close();
    expect([isHere(), lines]).toEqual([true, []]);
    storage.heal();
    copyFileSync(join(dir, TASK, NAME), join(data, "copy"));
    const second = start();
    await expect.poll(isHere).toBe(false);
    await second.close();
    copyFileSync(join(data, "copy"), join(dir, TASK, NAME));
    const third = start();
    await expect.poll(isHere).toBe(false);
    expect([await keys(), await read(third)]).toEqual([[KEY], bytes]);
    expect(readdirSync(join(dir, TASK)).toSorted()).toEqual(["a1-workspace.json", "a1-workspace.place"]);
  });

  it("a removal is made in the folder at once and in the bucket when it can be reached, also by the next start", async () => {
    const artifacts = start();
    await keep(artifacts);
    await expect.poll(isHere).toBe(false);
    storage.fail(() => ({ status: 503, code: "SlowDown" }));
    await artifacts.remove(TASK);
    expect([await artifacts.list(TASK), await artifacts.usage()]).toEqual([[], []]);
    await artifacts.close();
    storage.heal();
    expect([await keys(), (await doctor())[0]?.detail]).toEqual([[KEY], expect.stringContaining("1 tasks to remove")]);
    // Also when artifacts no longer go there.
    start({ to: null });
    await expect.poll(keys).toEqual([]);
    await expect.poll(() => readdirSync(join(dir, ".removed"))).toEqual([]);
  });

  it("what is in a former bucket is read and removed there", async () => {
    const first = start();
    const { bytes } = await keep(first);
    await expect.poll(isHere).toBe(false);
    await first.close();
    const second = start({ to: `${to}-next` });
    expect(await read(second)).toBe(bytes);
    await second.remove(TASK);
    await expect.poll(keys).toEqual([]);
  });

  it("a file that the disk has changed stays, and others move", async () => {
    await keep(files);
    writeFileSync(join(dir, TASK, NAME), "other bytes");
    await keep(files, 2);
    start();
    await expect.poll(keys).toEqual([`${TASK}/a2-workspace.tar.gz`]);
    expect([isHere(), lines.some((line) => line.includes("is not as it was written"))]).toEqual([true, true]);
  });
});
