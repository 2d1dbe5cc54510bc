/**
 * Backups in a bucket: an archive, and beside it a note of the same name with `.json`, which is
 * written when the archive has been read back. An archive without its note is no backup.
 */
import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { z } from "zod";
import { SlipwayError } from "../../core/error.ts";
import { formatBucketAddress, parseBucketAddress } from "../../store/bucket/bucket-address.ts";
import type { Bucket } from "../../store/bucket/bucket.ts";
import type { Config } from "../config.ts";
import { isScheduledName, openBackupFolder, toKept, type BackupPlace, type KeptBackup } from "./backup-place.ts";
import type { BackupReport } from "./backup.ts";
import { isInBucket, openBucket, toBucketVariables } from "./open-bucket.ts";
import { verifyBackup } from "./restore.ts";

const noteSchema = z.object({ bytes: z.int().nonnegative(), sha256: z.string(), files: z.int().nonnegative() });
const NOTE = ".json";
/** Names in the message that a name is unknown. */
const NAMED = 5;

/** @param to as the setting gives it. */
export function openBackupPlace(to: string, config: Pick<Config, "s3">): BackupPlace {
  return isInBucket(to) ? openBackupBucket(to, config) : openBackupFolder(resolve(to));
}

/** Of the schedule: `place` is `s3://bucket/prefix`. */
export function openBackupBucket(place: string, { s3 }: Pick<Config, "s3">): BackupPlace {
  const use = async <T>(work: (bucket: Bucket) => Promise<T>): Promise<T> => {
    const bucket = await openBucket(place, s3);
    try {
      return await work(bucket);
    } finally {
      bucket.close();
    }
  };
  return {
    label: place,
    env: toBucketVariables(s3),
    target: (name) => `${place.replace(/\/+$/, "")}/${name}`,
    list: () => use(listBackups),
    remove: (name) =>
      use(async (bucket) => {
        await bucket.remove(name + NOTE);
        await bucket.remove(name);
      }),
    prepare: () =>
      use(async (bucket) => {
        await bucket.abandonUploads(isScheduledName);
        await removeUnverified(bucket);
      }),
    check: () =>
      use(async (bucket) => {
        const key = `.slipway-check-${process.pid}`;
        await bucket.putText(key, "Slipway can write here.\n");
        await bucket.remove(key);
      }),
  };
}

async function listBackups(bucket: Bucket): Promise<KeptBackup[]> {
  const objects = await bucket.list("slipway-");
  const keys = new Set(objects.map(({ key }) => key));
  return toKept(objects.filter(({ key }) => keys.has(key + NOTE)).map(({ key, bytes }) => ({ name: key, bytes })));
}

/** What a process that was killed between the archive and its note left. */
async function removeUnverified(bucket: Bucket): Promise<void> {
  const keys = new Set((await bucket.list("slipway-")).map(({ key }) => key));
  for (const key of keys) {
    const archive = key.endsWith(NOTE) ? key.slice(0, -NOTE.length) : key;
    const isWhole = keys.has(archive) && keys.has(archive + NOTE);
    if (isScheduledName(archive) && !isWhole) await bucket.remove(key);
  }
}

interface Target {
  /** Of the folder that the name is in. */
  readonly bucket: Bucket;
  readonly name: string;
}

/** @param place `s3://bucket/prefix/name`. */
async function openTarget(place: string, { s3 }: Pick<Config, "s3">): Promise<Target> {
  const address = parseBucketAddress(place);
  const [, prefix = "", name = ""] = /^(?:(.*)\/)?([^/]+)$/.exec(address?.prefix ?? "") ?? [];
  if (address === null || name === "" || place.endsWith("/"))
    throw new SlipwayError("config_invalid", `${place} names no backup. Write s3://bucket/prefix/name.`);
  return { bucket: await openBucket(formatBucketAddress({ bucket: address.bucket, prefix }), s3), name };
}

export interface BucketWriteOptions {
  readonly config: Pick<Config, "s3">;
  readonly signal: AbortSignal;
  /** Called with what was stored so far, and with what was read back so far. */
  readonly onProgress: (step: "stored" | "read back", bytes: number) => void;
}

/**
 * Writes a backup, reads it back, and names it in a note. Nothing is left when it rejects.
 * @param write writes the archive to a stream.
 */
export async function writeToBucket(
  place: string,
  write: (out: PassThrough) => Promise<BackupReport>,
  { config, signal, onProgress }: BucketWriteOptions,
): Promise<BackupReport & { readonly stored: number }> {
  const { bucket, name } = await openTarget(place, config);
  try {
    if ((await bucket.size(name)) !== null)
      throw new SlipwayError("config_invalid", `${place} exists. Name a new object.`);
    const out = new PassThrough();
    const writing = write(out).catch((error: unknown) => {
      out.destroy(error instanceof Error ? error : new Error(String(error)));
      throw error;
    });
    const onBytes = (bytes: number): void => onProgress("stored", bytes);
    // Whichever fails ends the other one; the writer has a copy of the database to remove.
    const [stored, report] = await settleBoth(bucket.put(name, out, { signal, onBytes }), writing);
    try {
      await readBack({ bucket, name }, stored, { signal, onBytes: (bytes) => onProgress("read back", bytes) });
      await bucket.putText(name + NOTE, JSON.stringify({ ...stored, files: report.files }), { signal });
    } catch (error) {
      await bucket.remove(name).catch(() => undefined);
      throw error;
    }
    return { ...report, stored: stored.bytes };
  } finally {
    bucket.close();
  }
}

/** Waits for both. @throws what the first of the two rejects with, or else the second. */
async function settleBoth<A, B>(first: Promise<A>, second: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([first, second]);
  return [await first, await second];
}

async function readBack(
  { bucket, name }: Target,
  stored: { readonly bytes: number; readonly sha256: string },
  { signal, onBytes }: { readonly signal: AbortSignal; readonly onBytes: (bytes: number) => void },
): Promise<void> {
  const found = await bucket.get(name, signal);
  const hash = createHash("sha256");
  let bytes = 0;
  async function* counted(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const piece of content) {
      hash.update(piece);
      bytes += piece.length;
      onBytes(bytes);
      yield piece;
    }
  }
  if (found !== null) await verifyBackup(Readable.from(counted(found.content)));
  if (bytes !== stored.bytes || hash.digest("hex") !== stored.sha256)
    throw new SlipwayError(
      "storage_refused",
      `${bucket.name}/${name} is not as it was written (${bytes} of ${stored.bytes} bytes). Look whether something changes objects in the bucket, then try again.`,
    );
}

/** The content of a backup. @throws SlipwayError config_invalid, with the names that there are. */
export async function readFromBucket(place: string, config: Pick<Config, "s3">): Promise<Readable> {
  const { bucket, name } = await openTarget(place, config);
  const found = await bucket.get(name);
  if (found !== null) {
    const note = await readNote(bucket, name);
    if (note === null || note.bytes === found.bytes)
      return Readable.from(found.content).once("close", () => bucket.close());
    throw new SlipwayError(
      "config_invalid",
      `${place} has ${found.bytes} bytes, but had ${note.bytes} when it was verified. Take another one.`,
    );
  }
  const names = (await listBackups(bucket)).map((one) => one.name);
  bucket.close();
  const newest = names.slice(-NAMED).toReversed().join(", ");
  const hint = newest === "" ? `No scheduled backup is in ${bucket.name}.` : `The newest in ${bucket.name}: ${newest}.`;
  throw new SlipwayError("config_invalid", `There is no ${place}. ${hint}`);
}

async function readNote(bucket: Bucket, name: string): Promise<z.infer<typeof noteSchema> | null> {
  const text = await bucket.getText(name + NOTE);
  if (text === null) return null;
  const parsed = noteSchema.safeParse(JSON.parse(text));
  return parsed.success ? parsed.data : null;
}
