/**
 * Artifacts as files: `<dir>/<task>/a<attempt>-workspace.tar.gz`, and a `.json` file of the same
 * name with its metadata. The metadata is written last: an archive without it does not exist, and
 * is written again after a crash. Where an archive went that is elsewhere now stands in a file of
 * the same name with `.place`.
 */
import { createHash, randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { sanitizeArchive } from "./safe-archive.ts";
import { type Artifacts, type Salvaged } from "../../core/ports/files/artifacts.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { noCrash, type Crashpoint } from "../../core/lib/runtime/crashpoint.ts";
import { ARTIFACT_NAME, artifactName, artifactSchema, type Artifact } from "../../core/values/artifact.ts";

export interface ArtifactFilesOptions {
  readonly dir: string;
  /** Maximum size of a workspace before compression, bytes. */
  readonly maxBytes: number;
  /** Epoch ms. */
  readonly now: () => number;
  readonly crashpoint?: Crashpoint;
}

/** An archive of which the metadata is here. */
export interface KnownArchive {
  readonly taskId: string;
  readonly artifact: Artifact;
  /** Where the archive is when it is not here; null = it has always been here. */
  readonly place: string | null;
  readonly isHere: boolean;
}

export interface ArtifactFiles extends Artifacts {
  /** All of a task, or of all tasks. */
  archives(taskId?: string): Promise<KnownArchive[]>;
  /** The content of an archive that is here, else null. */
  read(taskId: string, name: string): Promise<AsyncIterable<Uint8Array> | null>;
  /** Removes an archive that is at `place` now. Idempotent. */
  leave(taskId: string, name: string, place: string): Promise<void>;
}

const TASK_ID = /^task_[0-9a-z]{1,64}$/i;
const METADATA = /^(a\d{1,6}-workspace)\.json$/;
/** Free disk space required in addition to the largest artifact, bytes. */
const SPARE_BYTES = 256 * 2 ** 20;

export function openArtifactFiles(options: ArtifactFilesOptions): ArtifactFiles {
  const { dir, maxBytes, now, crashpoint = noCrash } = options;

  function folder(taskId: string): string {
    if (!TASK_ID.test(taskId)) throw new Error("not a task id");
    return join(dir, taskId);
  }
  const besides = (taskId: string, name: string, ending: string): string =>
    join(folder(taskId), name.replace(/\.tar\.gz$/, ending));

  async function readMetadata(taskId: string, name: string): Promise<Artifact | null> {
    if (!ARTIFACT_NAME.test(name) || !TASK_ID.test(taskId)) return null;
    const text = await readFile(besides(taskId, name, ".json"), "utf8").catch(() => null);
    return text === null ? null : artifactSchema.parse(JSON.parse(text));
  }

  async function assertFreeSpace(): Promise<void> {
    const { bavail, bsize } = await statfs(dir);
    if (bavail * bsize < maxBytes + SPARE_BYTES) throw new Error("the server has too little free disk space");
  }

  async function keep({ taskId, attempt, tar, maxMs }: Salvaged, signal: AbortSignal): Promise<Artifact> {
    const name = artifactName(attempt);
    const known = await readMetadata(taskId, name);
    if (known !== null) return known;
    await mkdir(folder(taskId), { recursive: true, mode: 0o700 });
    const draft = join(folder(taskId), `.${name}.${randomBytes(6).toString("hex")}`);
    try {
      await assertFreeSpace();
      const measure = { bytes: 0, hash: createHash("sha256") };
      const { content, account } = sanitizeArchive(tar, { maxBytes, maxMs }, signal);
      const file = createWriteStream(draft, { mode: 0o600, flags: "wx", flush: true });
      const closed = new Promise<void>((resolve) => file.once("close", resolve));
      // An aborted pipeline does not wait until the file is closed.
      try {
        await pipeline(content, createGzip({ level: 3 }), measured(measure), file, { signal });
      } finally {
        await closed;
      }
      const { files, note } = account;
      const artifact: Artifact = {
        name,
        attempt,
        bytes: measure.bytes,
        sha256: measure.hash.digest("hex"),
        at: now(),
        files,
        note,
      };
      await rename(draft, join(folder(taskId), name));
      crashpoint("artifact.named");
      await writeFile(`${draft}.note`, JSON.stringify(artifact), { mode: 0o600, flush: true });
      await rename(`${draft}.note`, besides(taskId, name, ".json"));
      return artifact;
    } finally {
      await rm(draft, { force: true });
      await rm(`${draft}.note`, { force: true });
    }
  }

  async function list(taskId: string): Promise<Artifact[]> {
    const names = await readdir(folder(taskId)).catch(() => []);
    const archives = names.flatMap((name) => METADATA.exec(name)?.slice(1) ?? []).map((base) => `${base}.tar.gz`);
    const found = await Promise.all(archives.map((name) => readMetadata(taskId, name)));
    return found.filter((artifact) => artifact !== null).sort((a, b) => a.attempt - b.attempt);
  }

  async function read(taskId: string, name: string): Promise<AsyncIterable<Uint8Array> | null> {
    // Opened at once: one that is moved meanwhile is read to its end.
    const file = await open(join(folder(taskId), name)).catch((error: unknown) => {
      if (isAbsent(error)) return null;
      throw error;
    });
    return file?.createReadStream() ?? null;
  }

  const taskIds = async (): Promise<string[]> =>
    (await readdir(dir).catch(() => [])).filter((name) => TASK_ID.test(name));

  return {
    keep,
    list,
    read,
    async open(taskId, name) {
      const artifact = await readMetadata(taskId, name);
      if (artifact === null) return null;
      const content = await read(taskId, name);
      if (content !== null) return { artifact, content };
      throw new SlipwayError("storage_refused", `${name} of ${taskId} is no longer in the data folder.`);
    },
    async archives(only) {
      const found: KnownArchive[] = [];
      for (const taskId of only === undefined ? await taskIds() : [only])
        for (const artifact of await list(taskId)) {
          const place = await readFile(besides(taskId, artifact.name, ".place"), "utf8").catch(() => null);
          const isHere = (await stat(join(folder(taskId), artifact.name)).catch(() => null)) !== null;
          found.push({ taskId, artifact, place, isHere });
        }
      return found;
    },
    async leave(taskId, name, place) {
      await noteAndRemove(join(folder(taskId), name), besides(taskId, name, ".place"), place);
    },
    async usage() {
      return await Promise.all(
        (await taskIds()).map(async (taskId) => ({ taskId, ...(await measureFolder(folder(taskId))) })),
      );
    },
    async remove(taskId) {
      await rm(folder(taskId), { recursive: true, force: true }).catch((error: unknown) => {
        throw new Error(`the artifacts of ${taskId} could not be removed: ${errorMessage(error)}`);
      });
    },
  };
}

/** Of all files in it, and the newest change. */
async function measureFolder(path: string): Promise<{ bytes: number; at: number }> {
  // They may be removed meanwhile.
  const files = await readdir(path).catch(() => []);
  const stats = await Promise.all([".", ...files].map((file) => stat(join(path, file)).catch(() => null)));
  const bytes = stats.slice(1).reduce((sum, entry) => sum + (entry?.size ?? 0), 0);
  return { bytes, at: Math.max(0, ...stats.map((entry) => entry?.mtimeMs ?? 0)) };
}

/** Nothing when the folder was removed meanwhile. */
async function noteAndRemove(file: string, note: string, text: string): Promise<void> {
  const draft = `${note}.${randomBytes(6).toString("hex")}`;
  try {
    await writeFile(draft, text, { mode: 0o600, flush: true });
    await rename(draft, note);
    await rm(file, { force: true });
  } catch (error) {
    if (!isAbsent(error)) throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

const isAbsent = (error: unknown): boolean => error instanceof Error && "code" in error && error.code === "ENOENT";

function measured(measure: { bytes: number; readonly hash: ReturnType<typeof createHash> }): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      measure.bytes += chunk.length;
      measure.hash.update(chunk);
      done(null, chunk);
    },
  });
}
