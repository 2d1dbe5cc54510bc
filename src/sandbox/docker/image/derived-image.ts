/**
 * Derived images: a task's image with Slipway's worker added.
 *
 * V1 The tag is a digest of both images, so a newer base or worker gives a new derived image.
 * V2 The tag is set last: an image with a tag has passed the probe.
 */
import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { TaskFailure } from "../../../core/failure.ts";
import { isDiskFullMessage } from "../../../core/lib/disk/disk-full.ts";
import { createSingleFlight } from "../../../core/lib/concurrency/single-flight.ts";
import { WORKER_DIR } from "../container-spec.ts";
import { EngineError, hasStatus, toTaskFailure, type Engine } from "../engine.ts";
import { listImageVolumes } from "./image-overrides.ts";
import { DERIVED, DERIVED_REPOSITORY } from "./names.ts";
import { probeImage } from "./image-probe.ts";
import { createPullReporter, followProgress, pullFailure, SILENCE_MS } from "./progress.ts";
import { inspectImage, type WorkerImage } from "./worker-image.ts";
import { addWorkerLayer } from "./worker-layer.ts";

/** Part of the tag. Change it when the content of the added layer changes. */
const LAYOUT = "1";
const MAX_VOLUMES = 20;

type Report = (text: string) => void;
type ImageInfo = Docker.ImageInspectInfo;

export function derivedTag(base: Pick<ImageInfo, "Id">, worker: Pick<ImageInfo, "Id">): string {
  const digest = createHash("sha256").update([LAYOUT, base.Id, worker.Id].join("\n")).digest("hex");
  return `${DERIVED_REPOSITORY}:${digest.slice(0, 40)}`;
}

export interface DerivedImagesDeps {
  readonly engine: Engine;
  readonly instance: string;
  readonly workerImage: WorkerImage;
  /** See createProfileLoader. */
  readonly loadProfile: () => Promise<string | null>;
}

export class DerivedImages {
  readonly #deps: DerivedImagesDeps;
  readonly #engine: Engine;
  readonly #preparations = createSingleFlight<void>();

  constructor(deps: DerivedImagesDeps) {
    this.#deps = deps;
    this.#engine = deps.engine;
  }

  /** The derived image of `image`; null when `prepare` must be called first. */
  async find(image: string, signal: AbortSignal): Promise<ImageInfo | null> {
    const base = await inspectImage(this.#engine, image, signal);
    const worker = await inspectImage(this.#engine, await this.#deps.workerImage.name(), signal);
    if (base === null || worker === null) return null;
    return await inspectImage(this.#engine, derivedTag(base, worker), signal);
  }

  /**
   * Pulls the image unless the engine has it, and adds the worker. Concurrent calls for one image
   * share the work. Rejects with `image_missing` or `image_pull_failed`.
   */
  async prepare(image: string, progress: Report, signal: AbortSignal): Promise<void> {
    if ((await this.find(image, signal)) !== null) return;
    try {
      await this.#preparations.join(image, (report) => this.#derive(image, report), progress, signal);
    } catch (error) {
      throw toPreparationFailure(image, error);
    }
  }

  async #derive(image: string, report: Report): Promise<void> {
    const { instance, workerImage, loadProfile } = this.#deps;
    // Shared by several callers, so it has no caller's signal.
    await workerImage.prepare(report, new AbortController().signal);
    const workerName = await workerImage.name();
    const worker = await this.#inspectExisting(workerName, "Slipway's own image was removed from the engine again.");
    const base = (await inspectImage(this.#engine, image)) ?? (await this.#pull(image, report));
    checkImage(image, base, worker);
    const tag = derivedTag(base, worker);
    if ((await inspectImage(this.#engine, tag)) !== null) return;
    report(`adding the worker to ${image}`);
    const labels = { [DERIVED.from]: image, [DERIVED.base]: base.Id, [DERIVED.worker]: workerName };
    const id = await addWorkerLayer({ engine: this.#engine, instance, base, worker, labels });
    try {
      const derived = await this.#inspectExisting(id, "The derived image was removed from the engine again.");
      await probeImage(this.#engine, derived, image, { instance, seccomp: await loadProfile() });
      const name = { repo: DERIVED_REPOSITORY, tag: tag.slice(DERIVED_REPOSITORY.length + 1) };
      await this.#engine.call((docker) => docker.getImage(id).tag(name));
    } catch (error) {
      await this.#engine.call((docker) => docker.getImage(id).remove({ noprune: true })).catch(() => undefined);
      throw error;
    }
    report(`${image} is ready`);
  }

  async #pull(image: string, report: Report): Promise<ImageInfo> {
    const { signal } = new AbortController();
    const failureDetail = `${image} could not be pulled`;
    report(`pulling ${image}`);
    try {
      const stream = await this.#engine.call((docker) => docker.pull(image), signal, SILENCE_MS);
      await followProgress(stream, failureDetail, createPullReporter(image, report, Date.now), signal);
    } catch (error) {
      if (!hasStatus(error, 400, 401, 403, 404, 500)) throw error;
      throw pullFailure(failureDetail, error instanceof Error ? error.message : "");
    }
    return await this.#inspectExisting(image, `The engine has no image ${image}.`);
  }

  async #inspectExisting(image: string, detail: string): Promise<ImageInfo> {
    const info = await inspectImage(this.#engine, image);
    if (info === null) throw new TaskFailure("image_missing", { detail });
    return info;
  }
}

/** Checks what the image's metadata shows; probeImage checks the rest by running it. */
function checkImage(name: string, base: ImageInfo, worker: ImageInfo): void {
  const reject = (reason: string): never => {
    throw new TaskFailure("image_missing", { detail: `The worker cannot run on ${name}: ${reason}` });
  };
  if (base.Os !== worker.Os || base.Architecture !== worker.Architecture)
    reject(`it is made for ${base.Os}/${base.Architecture}, and this engine runs ${worker.Os}/${worker.Architecture}.`);
  // Containers inherit the labels of their image, and Slipway's labels decide ownership.
  const labels: unknown = base.Config.Labels;
  if (Object.keys(labels ?? {}).some((key) => key.startsWith("slipway.")))
    reject("it carries labels that begin with slipway.");
  const volumes = listImageVolumes(base);
  if (volumes.length > MAX_VOLUMES)
    reject(`it declares ${volumes.length} volumes, and at most ${MAX_VOLUMES} are allowed.`);
  const forbidden = volumes.find((path) => path === "/" || `${path}/`.startsWith(`${WORKER_DIR}/`));
  if (forbidden !== undefined) reject(`it declares a volume at ${forbidden}.`);
}

/** Adds the image's name to an error of the engine. */
function toPreparationFailure(image: string, error: unknown): unknown {
  if (!(error instanceof EngineError) || isDiskFullMessage(error.message)) return toTaskFailure(error);
  const detail = `The Docker engine refused to prepare ${image} (${error.status}): ${error.message.slice(0, 300)}`;
  return new TaskFailure("image_pull_failed", { detail, evidence: error.message, cause: error });
}

/**
 * Blames a chosen image for what the engine refuses to do with it: a repository may name any image
 * that is allowed, so this is no failure of the engine (rule D9).
 */
export function blameImage(image: string | null): (error: unknown) => never {
  return (error) => {
    if (image === null || !(error instanceof TaskFailure) || !(error.cause instanceof EngineError)) throw error;
    if (error.code !== "sandbox_unavailable") throw error;
    throw new TaskFailure("image_pull_failed", {
      detail: `${image} cannot be started. ${error.message}`,
      evidence: error.cause.message,
      cause: error.cause,
    });
  };
}
