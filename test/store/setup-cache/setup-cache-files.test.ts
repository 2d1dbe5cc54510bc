import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { Readable } from "node:stream";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { SaveOptions, SetupCaches, SetupKey } from "../../../src/core/ports/files/setup-caches.ts";
import { openSetupCacheFiles } from "../../../src/store/setup-cache/setup-cache-files.ts";

const never = new AbortController().signal;
const DAY = 86_400_000;
const KEY: SetupKey = { userId: "user_a", digest: "a".repeat(64) };
const other = (letter: string): SetupKey => ({ userId: "user_a", digest: letter.repeat(64) });
const KB = 1_024;

let dir: string;
let now: number;
let caches: SetupCaches;

const open = (crashpoint = (): void => undefined): SetupCaches =>
  openSetupCacheFiles({ dir, maxBytes: 8 * KB, maxAgeMs: 2 * DAY, floorBytes: 0, now: () => now, crashpoint });

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "slipway-setup-cache-"));
  now = Date.now();
  caches = open();
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

async function* pieces(...parts: readonly (string | Error)[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) {
    if (part instanceof Error) throw part;
    yield Buffer.from(part);
  }
}
const save = (key: SetupKey, content: AsyncIterable<Uint8Array>, options: Partial<SaveOptions> = {}) =>
  caches.save(key, content, { forbidden: [], mayPublish: async () => true, ...options }, never);
async function read(key: SetupKey): Promise<string | null> {
  const found = await caches.open(key);
  return found === null ? null : await text(Readable.from(found.content));
}
const files = (): string[] => (readdirSync(dir, { recursive: true }) as string[]).filter((name) => name.includes("/"));

it("[C2] an archive is the first that was saved, of one person, and never changes", async () => {
  expect(await save(KEY, pieces("one ", "whole"))).toEqual({ saved: true, reason: null });
  expect(await save(KEY, pieces("another"))).toEqual({ saved: false, reason: "it is there already" });
  expect(await read(KEY)).toBe("one whole");
  expect(await caches.open(KEY)).toMatchObject({ bytes: 9, savedAt: now });
  expect(await read({ ...KEY, userId: "user_b" })).toBeNull();
  await expect(save({ userId: "../x", digest: KEY.digest }, pieces("x"))).rejects.toThrow("not the key");
  await caches.removePerson("user_a");
  expect(await read(KEY)).toBeNull();
});

it("[C2] of two that save the same at once one does, and the content of the other is left unread", async () => {
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  const slow = async function* (): AsyncGenerator<Uint8Array> {
    await held;
    yield Buffer.from("slow");
  };
  const first = save(KEY, slow());
  expect(await save(KEY, pieces(new Error("read")))).toEqual({ saved: false, reason: "another task saves the same" });
  release();
  expect((await first).saved).toBe(true);
  expect(await read(KEY)).toBe("slow");
});

it("[C2] what an agent may have touched, and what has a secret in it, is not kept", async () => {
  expect(await save(KEY, pieces("late"), { mayPublish: async () => false })).toEqual({
    saved: false,
    reason: "the agent has begun",
  });
  const forbidden = [{ text: "s3cret-value", what: "the value of TOKEN" }];
  for (const content of [["a s3cret-value b"], ["a s3cr", "et-val", "ue b"]])
    expect(await save(KEY, pieces(...content), { forbidden })).toEqual({
      saved: false,
      reason: "it contains the value of TOKEN",
    });
  expect(files()).toEqual([]);
  expect((await save(KEY, pieces("s3cret-", "valu", "es"), { forbidden: [] })).saved).toBe(true);
});

it("[C3] a content that breaks off, and a save that is aborted, leave nothing", async () => {
  await expect(save(KEY, pieces("half", new Error("gone")))).rejects.toThrow("gone");
  const stop = new AbortController();
  const endless = async function* (): AsyncGenerator<Uint8Array> {
    yield Buffer.from("a");
    stop.abort();
    await new Promise(() => undefined);
  };
  const options = { forbidden: [], mayPublish: async () => true };
  await expect(caches.save(KEY, endless(), options, stop.signal)).rejects.toThrow();
  expect(files()).toEqual([]);
  expect((await save(KEY, pieces("whole"))).saved).toBe(true);
});

it("[C4] a disk image is made once of an archive, whole or not at all, and goes with it", async () => {
  const key = { ...KEY, repo: "1".repeat(16), sizeMb: 64 };
  const make = async ({ archive, disk }: { archive: string; disk: string }): Promise<void> =>
    writeFileSync(disk, `disk of ${readFileSync(archive, "utf8")}`);
  await caches.saveDisk(key, make);
  expect([await caches.disk(key), await caches.hasDisks(key)]).toEqual([null, false]);
  await save(KEY, pieces("archive"));
  const breaks = async ({ disk }: { disk: string }): Promise<void> => {
    writeFileSync(disk, "half");
    throw new Error("cut");
  };
  await expect(caches.saveDisk(key, breaks)).rejects.toThrow("cut");
  expect(files()).toHaveLength(1);
  const looks = async (place: { disk: string }): Promise<void> => {
    writeFileSync(place.disk, "half");
    expect(await caches.collect("remove")).toEqual([]);
    throw new Error("cut after the look");
  };
  await expect(caches.saveDisk(key, looks)).rejects.toThrow("cut after the look");
  await caches.saveDisk(key, make);
  await caches.saveDisk(key, breaks);
  const path = await caches.disk(key);
  expect(readFileSync(path ?? "", "utf8")).toBe("disk of archive");
  expect(await caches.hasDisks(key)).toBe(true);
  expect(await caches.hasDisks({ ...key, repo: "2".repeat(16) })).toBe(false);
  expect(await caches.hasDisks({ ...key, userId: "user_b" })).toBe(false);
  expect(await caches.disk({ ...key, sizeMb: 65 })).toBeNull();
  expect(await caches.collect("dry-run")).toEqual([]);
  rmSync(join(dir, KEY.userId, `${KEY.digest}.tar`));
  expect(await caches.disk(key)).toBeNull();
  expect(await caches.collect("remove")).toHaveLength(1);
  expect(files()).toEqual([]);
});

it("[C3] archives are bounded in bytes, one and all, and in age; what crashes left is collected", async () => {
  expect((await save(KEY, pieces("x".repeat(3 * KB)))).reason).toMatch("it is larger than");
  for (const letter of ["b", "c", "d", "e"]) {
    now += 1_000;
    expect((await save(other(letter), pieces(letter.repeat(2 * KB)))).saved).toBe(true);
  }
  now += 1_000;
  await caches.open(other("b"));
  now += 1_000;
  await save(other("f"), pieces("f".repeat(KB)));
  // c was used least recently.
  expect(await caches.open(other("c"))).toBeNull();
  for (const letter of ["b", "d", "e", "f"]) expect(await caches.open(other(letter))).not.toBeNull();

  mkdirSync(join(dir, "user_b"), { recursive: true });
  const draft = join(dir, "user_b", ".new-0123");
  writeFileSync(draft, "half");
  expect(await caches.collect("dry-run")).toMatchObject([{ name: "user_b/.new-0123" }]);
  now += 3 * DAY;
  expect(await caches.open(other("b"))).toBeNull();
  expect(await caches.collect("dry-run")).toHaveLength(5);
  expect(existsSync(draft)).toBe(true);
  expect((await caches.collect("remove")).every(({ error, kind }) => error === null && kind === "setup-cache")).toBe(
    true,
  );
  expect(files()).toEqual([]);
});
