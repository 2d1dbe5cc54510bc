/**
 * Artifacts as files: `<dir>/<task>/a<attempt>-workspace.tar.gz`, and a `.json` file of the same
 * name with its metadata. The metadata is written last: an archive without it does not exist, and
 * is written again after a crash.
 */
import { createHash, randomBytes } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { sanitizeArchive } from "./safe-archive.ts";
import { type Artifacts, type Salvaged } from "../../core/ports/artifacts.ts";
import { errorMessage } from "../../core/error.ts";
import { ARTIFACT_NAME, artifactName, artifactSchema, type Artifact } from "../../core/values/artifact.ts";

export interface ArtifactFilesOptions {
  readonly dir: string;
  /** Maximum size of a workspace before compression, bytes. */
  readonly maxBytes: number;
  /** Epoch ms. */
  readonly now: () => number;
}

const TASK_ID = /^task_[0-9a-z]{1,64}$/i;
/** Free disk space required in addition to the largest artifact, bytes. */
const SPARE_BYTES = 256 * 2 ** 20;

export function openArtifactFiles({ dir, maxBytes, now }: ArtifactFilesOptions): Artifacts {
  function folder(taskId: string): string {
    if (!TASK_ID.test(taskId)) throw new Error("not a task id");
    return join(dir, taskId);
  }
  const metadataPath = (taskId: string, name: string): string =>
    join(folder(taskId), name.replace(/\.tar\.gz$/, ".json"));

  async function read(taskId: string, name: string): Promise<Artifact | null> {
    if (!ARTIFACT_NAME.test(name) || !TASK_ID.test(taskId)) return null;
    const text = await readFile(metadataPath(taskId, name), "utf8").catch(() => null);
    return text === null ? null : artifactSchema.parse(JSON.parse(text));
  }

  async function assertFreeSpace(): Promise<void> {
    const { bavail, bsize } = await statfs(dir);
    if (bavail * bsize < maxBytes + SPARE_BYTES) throw new Error("the server has too little free disk space");
  }

  async function keep({ taskId, attempt, tar, maxMs }: Salvaged, signal: AbortSignal): Promise<Artifact> {
    const name = artifactName(attempt);
    const known = await read(taskId, name);
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
      await writeFile(`${draft}.note`, JSON.stringify(artifact), { mode: 0o600, flush: true });
      await rename(`${draft}.note`, metadataPath(taskId, name));
      return artifact;
    } finally {
      await rm(draft, { force: true });
      await rm(`${draft}.note`, { force: true });
    }
  }

  async function list(taskId: string): Promise<Artifact[]> {
    const names = await readdir(folder(taskId)).catch(() => []);
    const found = await Promise.all(names.filter((name) => ARTIFACT_NAME.test(name)).map((name) => read(taskId, name)));
    return found.filter((artifact) => artifact !== null).sort((a, b) => a.attempt - b.attempt);
  }

  return {
    keep,
    list,
    async open(taskId, name) {
      const artifact = await read(taskId, name);
      if (artifact === null) return null;
      return { artifact, content: createReadStream(join(folder(taskId), name)) };
    },
    async usage() {
      const names = (await readdir(dir).catch(() => [])).filter((name) => TASK_ID.test(name));
      return await Promise.all(
        names.map(async (taskId) => {
          // They may be removed meanwhile.
          const files = await readdir(folder(taskId)).catch(() => []);
          const stats = await Promise.all(
            [".", ...files].map((file) => stat(join(folder(taskId), file)).catch(() => null)),
          );
          const sizes = stats.slice(1).reduce((sum, entry) => sum + (entry?.size ?? 0), 0);
          return { taskId, bytes: sizes, at: Math.max(0, ...stats.map((entry) => entry?.mtimeMs ?? 0)) };
        }),
      );
    },
    async remove(taskId) {
      await rm(folder(taskId), { recursive: true, force: true }).catch((error: unknown) => {
        throw new Error(`the artifacts of ${taskId} could not be removed: ${errorMessage(error)}`);
      });
    },
  };
}

function measured(measure: { bytes: number; readonly hash: ReturnType<typeof createHash> }): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      measure.bytes += chunk.length;
      measure.hash.update(chunk);
      done(null, chunk);
    },
  });
}
