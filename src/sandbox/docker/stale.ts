/**
 * What of our own images and half-made containers lies on the engine for nothing. Judged by our own
 * labels and names, and by age.
 */
import type Docker from "dockerode";
import { DERIVED, DERIVED_REPOSITORY } from "./image/derived-image.ts";
import { removeGarbage, type GcMode, type Garbage } from "../../core/lib/garbage.ts";
import { hasStatus, type Engine } from "./engine.ts";
import { inspectImage, OWN_REPOSITORY, type WorkerImage } from "./image/worker-image.ts";
import { PREPARE_LABEL } from "./image/image-probe.ts";

/** No preparation takes longer, ms. */
const HALF_MADE_MS = 3_600_000;

export interface StaleImages {
  /**
   * Images of ours that no task will use again: workers of earlier versions, and derived images
   * whose worker or base is no longer the current one; and containers that a crash left in the
   * middle of a preparation. Neither what a container still uses nor what is younger than
   * `olderThanMs`. Idempotent.
   */
  reclaim(olderThanMs: number, mode: GcMode, signal: AbortSignal): Promise<Garbage[]>;
}

interface Found {
  readonly name: string;
  readonly bytes: number | null;
}

export function openStaleImages(engine: Engine, own: WorkerImage, instance: string): StaleImages {
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

  async function images(olderThanMs: number): Promise<Found[]> {
    const [all, used, ownName] = [await engine.call((docker) => docker.listImages()), await inUse(), await own.name()];
    const found: Found[] = [];
    for (const image of all) {
      if (used.has(image.Id) || Date.now() - image.Created * 1_000 < olderThanMs) continue;
      const names = (image.RepoTags ?? []).filter((name) => name !== "<none>:<none>");
      const mine = names.filter((name) => name.startsWith(`${OWN_REPOSITORY}:`) && name !== ownName);
      if (image.Labels?.[DERIVED.base] !== undefined && !(await isCurrent(image, ownName))) {
        mine.push(
          ...(names.length === 0 ? [image.Id] : names.filter((name) => name.startsWith(`${DERIVED_REPOSITORY}:`))),
        );
      }
      // Its size counts once, however many names it has; what layers it shares with others is not
      // known.
      found.push(...mine.map((name, index) => ({ name, bytes: index === 0 ? image.Size : 0 })));
    }
    return found;
  }

  /** Containers of this installation that prepared an image and were left behind. */
  async function halfMade(): Promise<Found[]> {
    const filters = { label: [`${PREPARE_LABEL}=${instance}`] };
    const containers = await engine.call((docker) => docker.listContainers({ all: true, filters }));
    return containers
      .filter((one) => Date.now() - one.Created * 1_000 >= HALF_MADE_MS)
      .map((one) => ({ name: one.Id, bytes: null }));
  }

  /** What is gone already, or is used after all, is no fault. */
  async function unless(act: () => Promise<unknown>): Promise<void> {
    try {
      await act();
    } catch (error) {
      if (!hasStatus(error, 404, 409)) throw error;
    }
  }

  return {
    async reclaim(olderThanMs, mode, signal) {
      const left: Garbage[] = [];
      for (const { name, bytes } of await halfMade()) {
        const remove = () =>
          unless(() => engine.call((docker) => docker.getContainer(name).remove({ force: true, v: true }), signal));
        left.push(await removeGarbage(mode, { kind: "container", name, bytes }, remove));
      }
      for (const { name, bytes } of await images(olderThanMs)) {
        left.push(
          await removeGarbage(mode, { kind: "image", name, bytes }, () =>
            unless(() => engine.call((docker) => docker.getImage(name).remove({}), signal)),
          ),
        );
      }
      return left;
    },
  };
}
