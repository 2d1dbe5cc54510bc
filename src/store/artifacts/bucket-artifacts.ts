/**
 * Artifacts in a bucket. An archive is written to the folder first and moves in the background, so
 * nothing that keeps, lists or removes one waits for the bucket; only reading one that has moved
 * does. Its metadata stays in the folder.
 *
 * O4 An archive leaves the folder after the bucket has all of it. A stop or a failure anywhere
 *    before repeats the move, which stores the same object again.
 * O5 A removal is noted in the folder before the metadata goes, and the note goes when the objects
 *    are gone. Moves and removals are made one after the other, so none overtakes another.
 * O6 Each archive knows its place: those at a former one are read and removed there.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import type { Artifacts } from "../../core/ports/files/artifacts.ts";
import type { Clock, Log } from "../../core/ports/runtime.ts";
import type { Artifact } from "../../core/values/artifact.ts";
import type { Bucket } from "../bucket/bucket.ts";
import type { ArtifactFiles, KnownArchive } from "./artifact-files.ts";

export interface BucketArtifactsOptions {
  readonly files: ArtifactFiles;
  /** The folder of `files`. */
  readonly dir: string;
  /** `s3://bucket/prefix`; null = nothing moves, and what has moved is read where it is. */
  readonly to: string | null;
  readonly openBucket: (place: string) => Promise<Bucket>;
  readonly clock: Pick<Clock, "sleep">;
  readonly log: Log;
}

const REMOVALS = ".removed";
const OWN = /^task_[0-9a-z]{1,64}\/a\d{1,6}-workspace\.tar\.gz$/i;
/** After a failure: doubled each time, ms. */
const RETRY_MS = 15_000;
const LONGEST_RETRY_MS = 15 * 60_000;
const REMOVAL = /^(task_[0-9a-z]{1,64})\.json$/i;

export class BucketArtifacts implements Artifacts {
  readonly #options: BucketArtifactsOptions;
  readonly #stopped = new AbortController();
  readonly #running: Promise<void>;
  #wake = new AbortController();
  #failures = 0;
  /** Archives that are not as they were written; the next start looks again. */
  readonly #damaged = new Set<string>();
  #isClean = false;

  constructor(options: BucketArtifactsOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  async keep(...[salvaged, signal]: Parameters<Artifacts["keep"]>): Promise<Artifact> {
    const artifact = await this.#options.files.keep(salvaged, signal);
    this.#wake.abort();
    return artifact;
  }

  list(taskId: string): Promise<Artifact[]> {
    return this.#options.files.list(taskId);
  }

  usage(): ReturnType<Artifacts["usage"]> {
    return this.#options.files.usage();
  }

  /** @throws SlipwayError `storage_unavailable`, `storage_refused` for one that has moved. */
  async open(taskId: string, name: string): ReturnType<Artifacts["open"]> {
    const { files } = this.#options;
    const known = (await files.list(taskId).catch(() => [])).some((artifact) => artifact.name === name);
    if (!known) return null;
    const find = async () => (await files.archives(taskId)).find(({ artifact }) => artifact.name === name);
    const found = await find();
    if (found === undefined) return null;
    const content = await files.read(taskId, name);
    if (content !== null) return { artifact: found.artifact, content };
    // It may have moved since it was looked for.
    const place = found.place ?? (await find())?.place ?? null;
    if (place === null) return await files.open(taskId, name);
    return { artifact: found.artifact, content: await this.#download(place, { ...found, place }) };
  }

  /** O5. */
  async remove(taskId: string): Promise<void> {
    const { files, dir, to } = this.#options;
    const known = await files.archives(taskId);
    const places = known.flatMap(({ place, isHere }) => [place ?? [], isHere && to !== null ? to : []].flat());
    if (places.length > 0) {
      const draft = join(dir, REMOVALS, `.${taskId}`);
      await mkdir(join(dir, REMOVALS), { recursive: true, mode: 0o700 });
      await writeFile(draft, JSON.stringify([...new Set(places)]), { mode: 0o600, flush: true });
      await rename(draft, join(dir, REMOVALS, `${taskId}.json`));
    }
    await files.remove(taskId);
    this.#wake.abort();
  }

  /** Ends a move that is under way; the next start repeats it. */
  async close(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      this.#wake = new AbortController();
      const isDone = await this.#work();
      if (isDone && this.#wake.signal.aborted) continue;
      // While the bucket fails, a new artifact does not shorten the pause before the next try.
      const pauseMs = Math.min(RETRY_MS * 2 ** (this.#failures - 1), LONGEST_RETRY_MS);
      const until = isDone ? AbortSignal.any([signal, this.#wake.signal]) : signal;
      await clock.sleep(isDone ? LONGEST_RETRY_MS : pauseMs, until).catch(() => undefined);
    }
  }

  /** @returns false when something is left to do. */
  async #work(): Promise<boolean> {
    const { log, to } = this.#options;
    const failures: unknown[] = [];
    const attempt = (work: Promise<void>): Promise<void> => work.catch((error: unknown) => void failures.push(error));
    await attempt(this.#removeAll());
    if (to !== null && !this.#stopped.signal.aborted) await attempt(this.#moveAll(to));
    if (this.#stopped.signal.aborted) return false;
    if (failures.length === 0) {
      if (this.#failures > 0) log.info({ to }, "the bucket of the artifacts works again");
      this.#failures = 0;
      return true;
    }
    this.#failures += 1;
    const words = "artifacts cannot be moved to their bucket or removed from it; nothing is lost, it is tried again";
    if (this.#failures === 1) log.error({ to, error: errorMessage(failures[0]) }, words);
    return false;
  }

  async #moveAll(to: string): Promise<void> {
    const { files, log } = this.#options;
    const waiting = (await files.archives()).filter((one) => one.isHere && !this.#damaged.has(toKey(one)));
    if (waiting.length === 0) return;
    let [moved, bytes] = [0, 0];
    await this.#use(to, async (bucket) => {
      if (!this.#isClean) await bucket.abandonUploads((key) => OWN.test(key));
      this.#isClean = true;
      for (const archive of waiting) {
        if (!(await this.#move(bucket, to, archive))) continue;
        moved += 1;
        bytes += archive.artifact.bytes;
      }
    });
    if (moved > 0) log.info({ to, artifacts: moved, bytes }, "artifacts moved to their bucket");
  }

  /** O4. @returns false when there was nothing to move. */
  async #move(bucket: Bucket, to: string, archive: KnownArchive): Promise<boolean> {
    const { files, log } = this.#options;
    const { signal } = this.#stopped;
    const { taskId, artifact, place } = archive;
    const key = toKey(archive);
    const content = await files.read(taskId, artifact.name);
    if (content === null) return false;
    const stored = await bucket.put(key, Readable.from(content), { signal });
    if (stored.bytes !== artifact.bytes || stored.sha256 !== artifact.sha256) {
      await bucket.remove(key);
      this.#damaged.add(key);
      log.error(
        { task: taskId, artifact: artifact.name },
        "an artifact is not as it was written and stays in the folder: look at the disk, then restore the file from a backup",
      );
      return false;
    }
    if (place !== null && place !== to) await this.#use(place, (former) => former.remove(key));
    await files.leave(taskId, artifact.name, to);
    return true;
  }

  /** One that fails does not keep the others. */
  async #removeAll(): Promise<void> {
    const { dir } = this.#options;
    const failures: unknown[] = [];
    for (const { taskId, note } of await listRemovals(dir)) {
      try {
        const places = JSON.parse(await readFile(note, "utf8")) as string[];
        for (const place of places)
          await this.#use(place, async (bucket) => {
            for (const { key } of await bucket.list(`${taskId}/`)) await bucket.remove(key);
          });
        await rm(note, { force: true });
      } catch (error) {
        failures.push(error);
      }
      if (this.#stopped.signal.aborted) break;
    }
    if (failures.length > 0) throw failures[0];
  }

  async #download(place: string, archive: KnownArchive): Promise<AsyncIterable<Uint8Array>> {
    const { artifact } = archive;
    const bucket = await this.#open(place);
    try {
      const found = await bucket.get(toKey(archive), this.#stopped.signal);
      if (found !== null && found.bytes === artifact.bytes) return closeAfter(found.content, bucket);
      const what = found === null ? "is gone" : `has ${found.bytes} bytes, not ${artifact.bytes}`;
      const message = `${place}/${toKey(archive)} ${what}. Restore the object, or delete the task.`;
      throw new SlipwayError("storage_refused", message);
    } catch (error) {
      bucket.close();
      throw error;
    }
  }

  async #use<T>(place: string, work: (bucket: Bucket) => Promise<T>): Promise<T> {
    const bucket = await this.#open(place);
    try {
      return await work(bucket);
    } finally {
      bucket.close();
    }
  }

  /** Without settings of a storage, what is in one cannot be reached. */
  async #open(place: string): Promise<Bucket> {
    return await this.#options.openBucket(place).catch((error: unknown) => {
      throw new SlipwayError("storage_refused", `The artifacts in ${place} cannot be reached. ${errorMessage(error)}`);
    });
  }
}

/** Of the object, below the prefix of its place. */
export const toKey = ({ taskId, artifact }: Pick<KnownArchive, "taskId" | "artifact">): string =>
  `${taskId}/${artifact.name}`;

/** Tasks whose objects are to be removed. @param dir the folder of the artifacts. */
export async function listRemovals(dir: string): Promise<{ readonly taskId: string; readonly note: string }[]> {
  const names = await readdir(join(dir, REMOVALS)).catch(() => []);
  return names.flatMap((name) => {
    const taskId = REMOVAL.exec(name)?.[1];
    return taskId === undefined ? [] : [{ taskId, note: join(dir, REMOVALS, name) }];
  });
}

async function* closeAfter(content: AsyncIterable<Uint8Array>, bucket: Bucket): AsyncGenerator<Uint8Array> {
  try {
    yield* content;
  } finally {
    bucket.close();
  }
}
