/** What of our own images and half-made containers lies on the engine for nothing. Judged by our own labels and names, and by age. */
import type Docker from "dockerode";
import { DERIVED, DERIVED_REPOSITORY } from "./derived.ts";
import { refusedWith, type Engine } from "./engine.ts";
import { inspectImage, OWN_REPOSITORY, type Image } from "./image.ts";
import { PREPARE_LABEL } from "./probe.ts";

export interface Stale {
  images(olderThanMs: number): Promise<string[]>;
  remove(olderThanMs: number): Promise<string[]>;
}

export function openStale(engine: Engine, own: Image, instance: string): Stale {
  async function inUse(): Promise<Set<string>> {
    const containers = await engine.call((docker) => docker.listContainers({ all: true }));
    return new Set(containers.map((one) => one.ImageID));
  }

  /** A derived image is current while its base still bears the name that it was asked for by. */
  async function isCurrent(image: Docker.ImageInfo, ownName: string): Promise<boolean> {
    const labels = image.Labels ?? {};
    if (labels[DERIVED.worker] !== ownName) return false;
    const base = await inspectImage(engine, labels[DERIVED.from] ?? "");
    return base !== null && base.Id === labels[DERIVED.base];
  }

  async function images(olderThanMs: number): Promise<string[]> {
    const [all, used, ownName] = [await engine.call((docker) => docker.listImages()), await inUse(), await own.name()];
    const found: string[] = [];
    for (const image of all) {
      if (used.has(image.Id) || Date.now() - image.Created * 1_000 < olderThanMs) continue;
      const names = (image.RepoTags ?? []).filter((name) => name !== "<none>:<none>");
      found.push(...names.filter((name) => name.startsWith(`${OWN_REPOSITORY}:`) && name !== ownName));
      if (image.Labels?.[DERIVED.base] === undefined || (await isCurrent(image, ownName))) continue;
      const derived = names.filter((name) => name.startsWith(`${DERIVED_REPOSITORY}:`));
      found.push(...(names.length === 0 ? [image.Id] : derived));
    }
    return found;
  }

  /** Containers of this installation that prepared an image and were left behind. */
  async function halfMade(olderThanMs: number): Promise<string[]> {
    const filters = { label: [`${PREPARE_LABEL}=${instance}`] };
    const containers = await engine.call((docker) => docker.listContainers({ all: true, filters }));
    return containers.filter((one) => Date.now() - one.Created * 1_000 >= olderThanMs).map((one) => one.Id);
  }

  /** @returns false when it is gone already, or is used after all. */
  async function drop(act: () => Promise<unknown>): Promise<boolean> {
    try {
      await act();
      return true;
    } catch (error) {
      if (refusedWith(error, 404, 409)) return false;
      throw error;
    }
  }

  return {
    images,
    async remove(olderThanMs) {
      const removed: string[] = [];
      for (const id of await halfMade(olderThanMs)) {
        if (await drop(() => engine.call((docker) => docker.getContainer(id).remove({ force: true, v: true })))) removed.push(id);
      }
      for (const name of await images(olderThanMs)) {
        if (await drop(() => engine.call((docker) => docker.getImage(name).remove({})))) removed.push(name);
      }
      return removed;
    },
  };
}
