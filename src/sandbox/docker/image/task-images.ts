/** The image of one task: Slipway's own, or one that the task chose with the worker added. */
import type Docker from "dockerode";
import { TaskFailure } from "../../../core/failure.ts";
import type { DefaultImage } from "./default-image.ts";
import { DerivedImages, type DerivedImagesDeps } from "./derived-image.ts";

export class TaskImages {
  readonly #default: DefaultImage;
  readonly #derived: DerivedImages;

  constructor(own: DefaultImage, deps: Omit<DerivedImagesDeps, "workerImage">) {
    this.#default = own;
    this.#derived = new DerivedImages({ ...deps, workerImage: own.slim });
  }

  /** See Sandbox.prepare. */
  async prepare(progress: (text: string) => void, signal: AbortSignal, image: string | null = null): Promise<void> {
    if (image === null) await this.#default.prepare(progress, signal);
    else await this.#derived.prepare(image, progress, signal);
  }

  /** Prepares the image again when it was removed from the engine after `prepare`. */
  async find(image: string, signal: AbortSignal): Promise<Docker.ImageInspectInfo> {
    const existing = await this.#derived.find(image, signal);
    if (existing !== null) return existing;
    await this.#derived.prepare(image, () => undefined, signal);
    const prepared = await this.#derived.find(image, signal);
    if (prepared !== null) return prepared;
    throw new TaskFailure("sandbox_unavailable", {
      detail: `The prepared image of ${image} was removed from the engine again.`,
    });
  }
}
