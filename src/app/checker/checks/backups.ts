/** Checks what is kept in buckets: that it is there, and that the next of it can be written. */
import { join } from "node:path";
import { errorMessage, SlipwayError } from "../../../core/error.ts";
import { openArtifactFiles, type KnownArchive } from "../../../store/artifacts/artifact-files.ts";
import { listRemovals, toKey } from "../../../store/artifacts/bucket-artifacts.ts";
import type { Bucket } from "../../../store/bucket/bucket.ts";
import { openBackupPlace } from "../../data-folder/backup-bucket.ts";
import { openBucket } from "../../data-folder/open-bucket.ts";
import type { Config } from "../../config.ts";

/** A backup that takes long, or a server that was stopped for a while, is no finding. */
const SPARE_MS = 3_600_000;
/** In the text of a finding. */
const SHOWN = 3;

interface KeptCheck {
  readonly rule: string;
  readonly ok: boolean;
  readonly detail: string;
}

export async function checkBackups(config: Pick<Config, "backup" | "s3">): Promise<KeptCheck[]> {
  const { backup } = config;
  if (backup === null) return [];
  const rule = "backup";
  try {
    const place = openBackupPlace(backup.to, config);
    const found = await place.list();
    await place.check();
    const newest = found.at(-1);
    if (newest === undefined) {
      const next = "a running server takes one at once, see its log";
      return [{ rule, ok: false, detail: `there is none in ${place.label}: ${next}` }];
    }
    const hours = Math.round((Date.now() - newest.at) / 3_600_000);
    const ok = Date.now() - newest.at < 2 * backup.everyMs + SPARE_MS;
    const age = `${formatMb(newest.bytes)} MB and ${hours} hours old`;
    const detail = ok
      ? `${found.length} in ${place.label}, which can be written; the newest has ${age}`
      : `the newest in ${place.label} has ${age}: see the log of the server`;
    return [{ rule, ok, detail }];
  } catch (error) {
    return [{ rule, ok: false, detail: errorMessage(error) }];
  }
}

/** Those that moved to a bucket, and those that wait. @param dir of the data folder. */
export async function checkArtifacts(
  { artifactsTo: to, s3, salvageMb }: Pick<Config, "artifactsTo" | "s3" | "salvageMb">,
  dir: string,
): Promise<KeptCheck[]> {
  const rule = "artifacts";
  const folder = join(dir, "artifacts");
  const files = openArtifactFiles({ dir: folder, maxBytes: salvageMb * 2 ** 20, now: () => Date.now() });
  try {
    const [all, removals] = await Promise.all([files.archives(), listRemovals(folder)]);
    const places = new Set(all.flatMap(({ place, isHere }) => (isHere ? [] : (place ?? []))));
    if (to === null && places.size + removals.length === 0) return [];
    const gone: string[] = [];
    for (const place of new Set([...(to === null ? [] : [to]), ...places]))
      gone.push(...(await findGone(place, all, await openPlace(place, s3), place === to)));
    if (gone.length > 0) {
      const named = `${gone.slice(0, SHOWN).join(", ")}${gone.length > SHOWN ? ", ..." : ""}`;
      const detail = `${gone.length} of ${all.length} are gone, or have another size: ${named}. Restore the objects, or delete their tasks (storage_refused)`;
      return [{ rule, ok: false, detail }];
    }
    const waiting = all.filter(({ isHere }) => isHere);
    const late = waiting.filter(({ artifact }) => to !== null && Date.now() - artifact.at > SPARE_MS);
    const words = [
      `${all.length - waiting.length} in ${[...places].join(", ") || to}`,
      `${waiting.length} in the data folder`,
      `${removals.length} tasks to remove there`,
    ].join(", ");
    const detail = late.length > 0 ? `${words}; some wait for more than an hour: see the log of the server` : words;
    return [{ rule, ok: late.length === 0, detail }];
  } catch (error) {
    return [{ rule, ok: false, detail: errorMessage(error) }];
  }
}

async function openPlace(place: string, s3: Config["s3"]): Promise<Bucket> {
  return await openBucket(place, s3).catch((error: unknown) => {
    throw new SlipwayError("storage_refused", `the artifacts in ${place} cannot be read: ${errorMessage(error)}`);
  });
}

/** Objects that are not as their metadata says. @param isWritten whether artifacts move there. */
async function findGone(
  place: string,
  all: readonly KnownArchive[],
  bucket: Bucket,
  isWritten: boolean,
): Promise<string[]> {
  try {
    const key = `.slipway-check-${process.pid}`;
    if (isWritten) await bucket.putText(key, "Slipway can write here.\n");
    if (isWritten) await bucket.remove(key);
    const sizes = new Map((await bucket.list("task_")).map((object) => [object.key, object.bytes]));
    return all
      .filter((one) => !one.isHere && one.place === place && sizes.get(toKey(one)) !== one.artifact.bytes)
      .map((one) => `${place}/${toKey(one)}`);
  } finally {
    bucket.close();
  }
}

const formatMb = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
