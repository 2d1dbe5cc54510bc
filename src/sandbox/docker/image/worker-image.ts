/**
 * Slipway's own image, built from the `worker` target of the Dockerfile when the engine lacks it.
 * The tag is a digest of Dockerfile and worker program, so a changed worker is a new image.
 */
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { Readable } from "node:stream";
import type Docker from "dockerode";
import { errorMessage } from "../../../core/error.ts";
import { TaskFailure } from "../../../core/failure.ts";
import { createSingleFlight } from "../../../core/lib/concurrency/single-flight.ts";
import { hasStatus, type Engine } from "../engine.ts";
import { createArchive } from "./archive.ts";
import { WORKER_REPOSITORY } from "./names.ts";
import { createProgressReporter, followProgress, SILENCE_MS } from "./progress.ts";

export interface WorkerSource {
  readonly dockerfile: string;
  /** dist/worker.mjs; tests use a stand-in. */
  readonly workerFile: string;
}

/** @returns null when the engine has no such image. */
export async function inspectImage(
  engine: Engine,
  image: string,
  signal?: AbortSignal,
): Promise<Docker.ImageInspectInfo | null> {
  try {
    return await engine.call((docker) => docker.getImage(image).inspect(), signal);
  } catch (error) {
    if (hasStatus(error, 404)) return null;
    throw error;
  }
}

export class WorkerImage {
  readonly #engine: Engine;
  readonly #source: WorkerSource;
  readonly #tools: "full" | "slim";
  readonly #builds = createSingleFlight<void>();
  #cached: { readonly fingerprint: string | null; readonly name: string } | null = null;

  constructor(engine: Engine, source: WorkerSource, tools: "full" | "slim" = "slim") {
    this.#engine = engine;
    this.#source = source;
    this.#tools = tools;
  }

  /** The tag. Rejects with `image_missing` when the source files do not exist. */
  async name(): Promise<string> {
    const fingerprint = await this.#readFingerprint();
    if (this.#cached !== null && this.#cached.fingerprint === fingerprint) return this.#cached.name;
    const { dockerfile, worker } = await this.#readSource();
    const digest = createHash("sha256").update(dockerfile).update("\0").update(worker).digest("hex");
    const name = `${WORKER_REPOSITORY}:${digest.slice(0, 12)}${this.#tools === "full" ? "-full" : ""}`;
    this.#cached = { fingerprint, name };
    return name;
  }

  /**
   * Resolves when the engine has the image. Rejects with `image_missing`, `image_pull_failed` or
   * `sandbox_unavailable`.
   */
  async prepare(progress: (text: string) => void, signal: AbortSignal): Promise<void> {
    const name = await this.name();
    if ((await inspectImage(this.#engine, name, signal)) !== null) return;
    await this.#builds.join(name, (report) => this.#build(name, report), progress, signal);
  }

  async #readSource(): Promise<{ dockerfile: Buffer; worker: Buffer }> {
    const { dockerfile, workerFile } = this.#source;
    try {
      return { dockerfile: await readFile(dockerfile), worker: await readFile(workerFile) };
    } catch (error) {
      const detail = "The source files of the worker image do not exist: run `npm run build`.";
      throw new TaskFailure("image_missing", { detail, evidence: errorMessage(error) });
    }
  }

  /** Times and sizes of the source files, so that they are hashed only after a change. */
  async #readFingerprint(): Promise<string | null> {
    const { dockerfile, workerFile } = this.#source;
    const stats = await Promise.all([dockerfile, workerFile].map((file) => stat(file).catch(() => null)));
    if (stats.includes(null)) return null;
    return JSON.stringify(stats.map((file) => [file?.mtimeMs, file?.size, file?.ino]));
  }

  async #build(image: string, report: (text: string) => void): Promise<void> {
    // Shared by several callers, so it has no caller's signal.
    const { signal } = new AbortController();
    const { dockerfile, worker } = await this.#readSource();
    const context = await createArchive([
      { type: "file", name: "Dockerfile", content: dockerfile },
      { type: "file", name: "dist/worker.mjs", content: worker },
    ]);
    report(`building ${image}`);
    const options = { t: image, target: "worker", rm: true, forcerm: true, buildargs: { TOOLS: this.#tools } };
    const stream = await this.#engine.call(
      (docker) => docker.buildImage(Readable.from([context]), options),
      signal,
      SILENCE_MS,
    );
    const reportLine = createProgressReporter(report, Date.now);
    await followProgress(stream, "The worker image could not be built", reportLine, signal);
    if ((await inspectImage(this.#engine, image)) === null)
      throw new TaskFailure("image_missing", { detail: `The engine has no image ${image}.` });
    report(`${image} is ready`);
  }
}

export function openWorkerImage(engine: Engine, source: WorkerSource): WorkerImage {
  return new WorkerImage(engine, source);
}
