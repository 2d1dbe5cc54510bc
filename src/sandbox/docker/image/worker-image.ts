/**
 * Slipway's own image, built from the Dockerfile's `worker` target when it is not there. The tag
 * holds a digest of what went in, so that an upgraded worker is another image.
 */
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { Readable } from "node:stream";
import type Docker from "dockerode";
import { errorMessage } from "../../../core/error.ts";
import { TaskFailure } from "../../../core/failure.ts";
import { hasStatus, type Engine } from "../engine.ts";
import { followProgress, SILENCE_MS } from "./follow.ts";
import { createProgressReporter } from "./progress.ts";
import { createSingleFlight } from "../../../core/lib/single-flight.ts";
import { tar } from "./tar.ts";

export interface WorkerSource {
  readonly dockerfile: string;
  /** dist/worker.mjs, or a stand-in. */
  readonly workerFile: string;
}

export const OWN_REPOSITORY = "slipway-worker";

export interface WorkerImage {
  /**
   * The name to create containers from. Rejects with `image_missing` when the sources of the image
   * are not there.
   */
  name(): Promise<string>;
  /**
   * Resolves when the engine has it. Rejects with `image_missing`, `image_pull_failed` or
   * `sandbox_unavailable`.
   */
  prepare(progress: (text: string) => void, signal: AbortSignal): Promise<void>;
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

export function openWorkerImage(engine: Engine, source: WorkerSource): WorkerImage {
  const builds = createSingleFlight<void>();
  let known: { readonly version: string | null; readonly name: string } | null = null;

  async function parts(): Promise<{ dockerfile: Buffer; worker: Buffer }> {
    try {
      return { dockerfile: await readFile(source.dockerfile), worker: await readFile(source.workerFile) };
    } catch (error) {
      const detail = "What the worker image is built from is not there: run `npm run build`.";
      throw new TaskFailure("image_missing", { detail, evidence: errorMessage(error) });
    }
  }

  /**
   * When the sources were written, and how large they are: what was read of them holds as long as
   * that does.
   */
  async function version(): Promise<string | null> {
    const stats = await Promise.all([source.dockerfile, source.workerFile].map((file) => stat(file).catch(() => null)));
    return stats.includes(null)
      ? null
      : JSON.stringify(stats.map((found) => [found?.mtimeMs, found?.size, found?.ino]));
  }

  async function name(): Promise<string> {
    const now = await version();
    if (known !== null && known.version === now) return known.name;
    const { dockerfile, worker } = await parts();
    const digest = createHash("sha256").update(dockerfile).update("\0").update(worker).digest("hex");
    known = { version: now, name: `${OWN_REPOSITORY}:${digest.slice(0, 12)}` };
    return known.name;
  }

  async function build(image: string, progress: (text: string) => void): Promise<void> {
    const { signal } = new AbortController();
    const { dockerfile, worker } = await parts();
    const context = tar([
      { name: "Dockerfile", content: dockerfile },
      { name: "dist/worker.mjs", content: worker },
    ]);
    progress(`building ${image}`);
    const options = { t: image, target: "worker", rm: true, forcerm: true };
    const stream = await engine.call(
      (docker) => docker.buildImage(Readable.from([context]), options),
      signal,
      SILENCE_MS,
    );
    await followProgress(
      stream,
      "The worker image could not be built",
      createProgressReporter(progress, Date.now),
      signal,
    );
    if ((await inspectImage(engine, image)) === null)
      throw new TaskFailure("image_missing", { detail: `The engine has no image ${image}.` });
    progress(`${image} is ready`);
  }

  return {
    name,
    async prepare(progress, signal) {
      const image = await name();
      if ((await inspectImage(engine, image, signal)) !== null) return;
      await builds.join(image, (tell) => build(image, tell), progress, signal);
    },
  };
}
