/**
 * Artifacts as files: `<dir>/<task>/a<attempt>-workspace.tar.gz` with a note of the same name
 * beside it. The note is written last and makes the artifact exist; what a crash left without one
 * is written again.
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
  /** Largest workspace that is kept, before compression, bytes. */
  readonly maxBytes: number;
  /** Epoch ms. */
  readonly now: () => number;
}

const TASK_ID = /^task_[0-9a-z]{1,64}$/i;
/** So much stays free on the disk beside the largest artifact, bytes. */
const SPARE_BYTES = 256 * 2 ** 20;

export function openArtifactFiles({ dir, maxBytes, now }: ArtifactFilesOptions): Artifacts {
  function folder(taskId: string): string {
    if (!TASK_ID.test(taskId)) throw new Error("this is not the id of a task");
    return join(dir, taskId);
  }
  const noteOf = (taskId: string, name: string): string => join(folder(taskId), name.replace(/\.tar\.gz$/, ".json"));

  async function read(taskId: string, name: string): Promise<Artifact | null> {
    if (!ARTIFACT_NAME.test(name) || !TASK_ID.test(taskId)) return null;
    const text = await readFile(noteOf(taskId, name), "utf8").catch(() => null);
    return text === null ? null : artifactSchema.parse(JSON.parse(text));
  }

  async function room(): Promise<void> {
    const { bavail, bsize } = await statfs(dir);
    if (bavail * bsize < maxBytes + SPARE_BYTES) throw new Error("too little disk space is free on the server");
  }

  async function keep({ taskId, attempt, tar, maxMs }: Salvaged, signal: AbortSignal): Promise<Artifact> {
    const name = artifactName(attempt);
    const known = await read(taskId, name);
    if (known !== null) return known;
    await mkdir(folder(taskId), { recursive: true, mode: 0o700 });
    const draft = join(folder(taskId), `.${name}.${randomBytes(6).toString("hex")}`);
    try {
      await room();
      const measure = { bytes: 0, hash: createHash("sha256") };
      const { content, account } = sanitizeArchive(tar, { maxBytes, maxMs }, signal);
      const file = createWriteStream(draft, { mode: 0o600, flags: "wx", flush: true });
      const closed = new Promise<void>((resolve) => file.once("close", resolve));
      // An aborted pipeline does not wait for a file that is just being made.
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
      await rename(`${draft}.note`, noteOf(taskId, name));
      return artifact;
    } finally {
      await rm(draft, { force: true });
      await rm(`${draft}.note`, { force: true });
    }
  }

  async function list(taskId: string): Promise<Artifact[]> {
    const names = await readdir(folder(taskId)).catch(() => []);
    const found = await Promise.all(names.filter((name) => ARTIFACT_NAME.test(name)).map((name) => read(taskId, name)));
    return found.filter((one) => one !== null).sort((a, b) => a.attempt - b.attempt);
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
          const files = await readdir(folder(taskId));
          const stats = await Promise.all(
            [".", ...files].map((file) => stat(join(folder(taskId), file)).catch(() => null)),
          );
          const sizes = stats.slice(1).reduce((sum, one) => sum + (one?.size ?? 0), 0);
          return { taskId, bytes: sizes, at: Math.max(0, ...stats.map((one) => one?.mtimeMs ?? 0)) };
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
