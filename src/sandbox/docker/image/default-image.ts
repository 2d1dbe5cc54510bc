/**
 * The image of tasks that choose none, in two variants: the slim one is ready within seconds, the
 * full one adds what a repository in any language needs to build and test (Dockerfile, TOOLS).
 *
 * V3 A task never waits for the full image: it is built beside the tasks, which run in the slim
 *    one until then. A build that failed is tried again after a while.
 */
import { errorMessage } from "../../../core/error.ts";
import { inspectImage, WorkerImage, type WorkerSource } from "./worker-image.ts";
import type { Engine } from "../engine.ts";

export type ImageTools = "full" | "slim";

/** Pause after a build that failed, ms. The packages come from the network. */
const RETRY_MS = 10 * 60_000;

export interface DefaultImageOptions extends WorkerSource {
  /** Absent = slim. */
  readonly imageTools?: ImageTools;
  /** What becomes of the full image, for operators. */
  readonly report?: (text: string) => void;
}

export class DefaultImage {
  /** What is added to other images comes from this variant. */
  readonly slim: WorkerImage;
  readonly #engine: Engine;
  readonly #full: WorkerImage | null;
  readonly #report: (text: string) => void;
  #isFullReady = false;
  #build: Promise<void> | null = null;
  #retryAt = 0;

  constructor(engine: Engine, { imageTools = "slim", report = () => undefined, ...source }: DefaultImageOptions) {
    this.#engine = engine;
    this.slim = new WorkerImage(engine, source);
    this.#full = imageTools === "full" ? new WorkerImage(engine, source, "full") : null;
    this.#report = report;
  }

  /** The variant for new containers: the full one as soon as the engine has it. */
  async name(): Promise<string> {
    return this.#full !== null && (await this.#checkFull(this.#full))
      ? await this.#full.name()
      : await this.slim.name();
  }

  /** Both tags, to keep. */
  async names(): Promise<string[]> {
    return await Promise.all([this.slim.name(), ...(this.#full === null ? [] : [this.#full.name()])]);
  }

  /** See WorkerImage.prepare. Begins the build of the full image. */
  async prepare(progress: (text: string) => void, signal: AbortSignal): Promise<void> {
    this.#isFullReady = false;
    await this.prepareFull();
    if (this.#isFullReady) return;
    await this.slim.prepare(progress, signal);
    if (this.#build !== null) progress("without build tools: the image that has them is being built");
  }

  /** Begins the build of the full image unless it exists or is being built. */
  async prepareFull(): Promise<void> {
    const full = this.#full;
    if (full === null || this.#build !== null || Date.now() < this.#retryAt || (await this.#checkFull(full))) return;
    this.#build ??= this.#buildFull(full).finally(() => (this.#build = null));
  }

  async #buildFull(full: WorkerImage): Promise<void> {
    this.#report("the image with build tools is being built; tasks run without them until then");
    try {
      await full.prepare(() => undefined, new AbortController().signal);
      this.#report("the image with build tools is ready");
    } catch (error) {
      this.#retryAt = Date.now() + RETRY_MS;
      this.#report(`the image with build tools could not be built: ${errorMessage(error)}`);
    }
  }

  async #checkFull(full: WorkerImage): Promise<boolean> {
    this.#isFullReady ||= (await inspectImage(this.#engine, await full.name())) !== null;
    return this.#isFullReady;
  }
}
