/**
 * Reads the workspace of a stopped container, and removes what no container of this installation
 * uses any more: volumes with their disks, networks, superseded images, and containers of image
 * preparations that a crash interrupted. Selected by Slipway's labels and names, and by age.
 */
import { existsSync } from "node:fs";
import { mkdir, rmdir } from "node:fs/promises";
import { Readable } from "node:stream";
import type Docker from "dockerode";
import { removeGarbage, type GcMode, type Garbage, type IsNeeded } from "../../core/lib/garbage.ts";
import { LABELS, SOCKET_TARGET } from "./container-spec.ts";
import type { WorkspaceDisks } from "./disk/workspace-disk.ts";
import { hasStatus, toEngineError, type Engine } from "./engine.ts";
import { DERIVED, DERIVED_REPOSITORY, PREPARE_LABEL, WORKER_REPOSITORY } from "./image/names.ts";
import type { DefaultImage } from "./image/default-image.ts";
import { inspectImage } from "./image/worker-image.ts";

/** Volumes and networks of an attempt: the sandbox's name, perhaps with a suffix. */
const ATTEMPT_NAME = /^(slipway-(?!pool-).+-a\d+)(?:-[a-z]+)?$/;
/**
 * Volumes that no attempt's name selects: of pooled containers, which keep their volume when they
 * are claimed, and of the probe for loop devices.
 */
const UNCLAIMED_NAME = /^(?:slipway-pool|probe)-/;
/** An unclaimed volume without a container is garbage at this age, ms. */
const UNCLAIMED_MS = 60_000;
/** No image preparation takes longer, ms. */
const PREPARATION_MS = 3_600_000;

/**
 * `/workspace` of a stopped container as a tar, read by the engine without starting anything; null
 * when the container is gone. The path is resolved inside the container's root, where the worker
 * cannot replace the mount point by a link: the image is read-only.
 *
 * The engine refuses to read a container while the source of a mount is missing, and the socket
 * folder is gone once the broker has closed or a claim has moved it. An empty folder replaces it
 * during the call.
 * @param fromHost maps a path of the engine's machine to one of this machine.
 */
export async function readWorkspace(
  engine: Engine,
  info: Docker.ContainerInspectInfo,
  fromHost: (path: string) => string,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array> | null> {
  const source = info.Mounts.find(({ Destination }) => Destination === SOCKET_TARGET)?.Source;
  const socketDir = source === undefined ? null : fromHost(source);
  if (socketDir === null || existsSync(socketDir)) return await openArchive(engine, info.Id, signal);
  await mkdir(socketDir, { recursive: true });
  try {
    return await openArchive(engine, info.Id, signal);
  } finally {
    // Fails, as it should, when a broker has put its socket there in the meantime.
    await rmdir(socketDir).catch(() => undefined);
  }
}

async function openArchive(engine: Engine, id: string, signal: AbortSignal): Promise<Readable | null> {
  try {
    const stream = await engine.call(
      (docker, stop) => docker.getContainer(id).getArchive({ path: "/workspace", abortSignal: stop }),
      signal,
    );
    const archive = stream instanceof Readable ? stream : new Readable().wrap(stream);
    // A reader that stops early has no error handler; the error must not become an uncaught one.
    archive.on("error", () => undefined);
    signal.addEventListener("abort", () => archive.destroy(new Error("aborted")), { once: true });
    return archive;
  } catch (error) {
    if (hasStatus(error, 404)) return null;
    throw toEngineError(error, signal);
  }
}

interface Resource {
  readonly kind: "volume" | "network";
  readonly name: string;
  /** On disk; null = unknown. */
  readonly bytes: number | null;
  readonly changedAt: number;
  remove(signal: AbortSignal): Promise<unknown>;
}

export interface GarbageQuery {
  readonly engine: Engine;
  readonly instance: string;
  readonly disks: WorkspaceDisks;
  readonly isNeeded: IsNeeded;
  readonly mode: GcMode;
  readonly signal: AbortSignal;
}

/**
 * Removes volumes (with their disks) and networks that carry the installation's label and that
 * neither a container nor an attempt uses. The engine refuses to remove one that is in use.
 */
export async function removeUnusedVolumes(query: GarbageQuery): Promise<Garbage[]> {
  const { engine, mode, signal } = query;
  // `isNeeded` requires that the resources are listed first.
  const resources = await listResources(query);
  const isUsed = await createUseCheck(query);
  const unused: Resource[] = [];
  for (const resource of resources)
    if (!isUsed(resource.name) && !(await isStillNeeded(resource, query.isNeeded))) unused.push(resource);
  const isMeasured = unused.every(({ kind, bytes }) => kind === "network" || bytes !== null);
  const sizes = isMeasured ? new Map<string, number>() : await measureVolumes(engine, signal);
  const removed: Garbage[] = [];
  for (const { kind, name, bytes, remove } of unused) {
    const garbage = { kind, name, bytes: bytes ?? sizes.get(name) ?? null };
    removed.push(await removeGarbage(mode, garbage, () => remove(signal)));
  }
  return removed;
}

/** True while an attempt or a container that is being created may still use the resource. */
async function isStillNeeded({ name, changedAt }: Resource, isNeeded: IsNeeded): Promise<boolean> {
  const sandbox = ATTEMPT_NAME.exec(name)?.[1];
  if (sandbox !== undefined) return await isNeeded(sandbox);
  return !(UNCLAIMED_NAME.test(name) && Date.now() - changedAt > UNCLAIMED_MS);
}

/**
 * @returns a test whether a container of this installation mounts the volume, or has the name of
 * the attempt that the resource belongs to.
 */
async function createUseCheck({ engine, instance, signal }: GarbageQuery): Promise<(name: string) => boolean> {
  const filters = { label: [`${LABELS.instance}=${instance}`] };
  const containers = await engine.call((docker) => docker.listContainers({ all: true, filters }), signal);
  const names = new Set(containers.flatMap(({ Names }) => Names.map((name) => name.replace(/^\//, ""))));
  const mounted = new Set(containers.flatMap(({ Mounts }) => Mounts.map(({ Name }) => Name)));
  return (name) => mounted.has(name) || names.has(ATTEMPT_NAME.exec(name)?.[1] ?? name);
}

async function listResources(query: GarbageQuery): Promise<Resource[]> {
  return [...(await listVolumes(query)), ...(await listNetworks(query))];
}

/** Lists the volumes of the engine, and the disk images without a volume. */
async function listVolumes({ engine, instance, disks, signal }: GarbageQuery): Promise<Resource[]> {
  const filters = JSON.stringify({ label: [`${LABELS.instance}=${instance}`] });
  type Listing = { readonly Volumes: readonly { readonly Name: string; readonly CreatedAt?: string }[] | null };
  const { Volumes } = await engine.call((docker) => docker.listVolumes({ filters }) as Promise<Listing>, signal);
  const images = new Map(disks.images().map((image) => [image.name, image]));
  const volumes = new Map((Volumes ?? []).map((volume) => [volume.Name, volume]));
  return [...new Set([...volumes.keys(), ...images.keys()])].map((name) => ({
    kind: "volume",
    name,
    bytes: images.get(name)?.bytes ?? null,
    changedAt: images.get(name)?.changedAt ?? Date.parse(volumes.get(name)?.CreatedAt ?? ""),
    remove: () => disks.remove(name),
  }));
}

async function listNetworks({ engine, instance, signal }: GarbageQuery): Promise<Resource[]> {
  const filters = { label: [`${LABELS.instance}=${instance}`] };
  type Network = { readonly Name: string; readonly Id: string };
  const networks = await engine.call((docker) => docker.listNetworks({ filters }) as Promise<Network[]>, signal);
  return networks.map(({ Name: name, Id }) => ({
    kind: "network",
    name,
    bytes: null,
    changedAt: NaN,
    remove: (stop) => ignoreStatus([404], () => engine.call((docker) => docker.getNetwork(Id).remove(), stop)),
  }));
}

/** The engine measures all volumes at once, which may be slow: on failure sizes are unknown. */
async function measureVolumes(engine: Engine, signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
  interface Usage {
    readonly Volumes: readonly { readonly Name: string; readonly UsageData: { readonly Size: number } | null }[] | null;
  }
  const usage: Usage | null = await engine.call((docker) => docker.df() as Promise<Usage>, signal).catch(() => null);
  const known = (usage?.Volumes ?? []).filter(({ UsageData }) => (UsageData?.Size ?? -1) >= 0);
  return new Map(known.map(({ Name, UsageData }) => [Name, UsageData?.Size ?? 0]));
}

async function ignoreStatus(statuses: readonly number[], run: () => Promise<unknown>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (!hasStatus(error, ...statuses)) throw error;
  }
}

interface NamedSize {
  readonly name: string;
  readonly bytes: number | null;
}

/** Slipway's images that no task will use again, and containers of interrupted preparations. */
export class UnusedImages {
  readonly #engine: Engine;
  readonly #defaultImage: DefaultImage;
  readonly #instance: string;

  constructor(engine: Engine, defaultImage: DefaultImage, instance: string) {
    this.#engine = engine;
    this.#defaultImage = defaultImage;
    this.#instance = instance;
  }

  /**
   * Removes worker images of earlier versions and derived images whose worker or base is
   * superseded. Keeps an image that a container uses or that is younger than `minAgeMs`.
   * Idempotent.
   */
  async remove(minAgeMs: number, mode: GcMode, signal: AbortSignal): Promise<Garbage[]> {
    const removed: Garbage[] = [];
    for (const { name, bytes } of await this.#listInterrupted()) {
      const remove = (): Promise<unknown> =>
        this.#engine.call((docker) => docker.getContainer(name).remove({ force: true, v: true }), signal);
      removed.push(
        await removeGarbage(mode, { kind: "container", name, bytes }, () => ignoreStatus([404, 409], remove)),
      );
    }
    for (const { name, bytes } of await this.#listImages(minAgeMs)) {
      const remove = (): Promise<unknown> => this.#engine.call((docker) => docker.getImage(name).remove({}), signal);
      removed.push(await removeGarbage(mode, { kind: "image", name, bytes }, () => ignoreStatus([404, 409], remove)));
    }
    return removed;
  }

  /** Containers of this installation that prepared an image when a crash interrupted them. */
  async #listInterrupted(): Promise<NamedSize[]> {
    const filters = { label: [`${PREPARE_LABEL}=${this.#instance}`] };
    const containers = await this.#engine.call((docker) => docker.listContainers({ all: true, filters }));
    return containers
      .filter(({ Created }) => Date.now() - Created * 1_000 >= PREPARATION_MS)
      .map(({ Id }) => ({ name: Id, bytes: null }));
  }

  async #listImages(minAgeMs: number): Promise<NamedSize[]> {
    const images = await this.#engine.call((docker) => docker.listImages());
    const containers = await this.#engine.call((docker) => docker.listContainers({ all: true }));
    const used = new Set(containers.map(({ ImageID }) => ImageID));
    const current = await this.#defaultImage.names();
    const found: NamedSize[] = [];
    for (const image of images) {
      if (used.has(image.Id) || Date.now() - image.Created * 1_000 < minAgeMs) continue;
      const names = await this.#listUnusedNames(image, current);
      // The size counts once per image; layers shared with other images are included.
      found.push(...names.map((name, index) => ({ name, bytes: index === 0 ? image.Size : 0 })));
    }
    return found;
  }

  /** The tags of the image to remove, or the id of a derived image without tags. */
  async #listUnusedNames(image: Docker.ImageInfo, current: readonly string[]): Promise<string[]> {
    const tags = (image.RepoTags ?? []).filter((tag) => tag !== "<none>:<none>");
    const names = tags.filter((tag) => tag.startsWith(`${WORKER_REPOSITORY}:`) && !current.includes(tag));
    if (image.Labels?.[DERIVED.base] === undefined || (await this.#isCurrent(image, current))) return names;
    if (tags.length === 0) return [...names, image.Id];
    return [...names, ...tags.filter((tag) => tag.startsWith(`${DERIVED_REPOSITORY}:`))];
  }

  /** A derived image is current while the name it was requested by refers to the same base. */
  async #isCurrent(image: Docker.ImageInfo, current: readonly string[]): Promise<boolean> {
    const labels = image.Labels ?? {};
    if (!current.includes(labels[DERIVED.worker] ?? "")) return false;
    const base = await inspectImage(this.#engine, labels[DERIVED.from] ?? "");
    return base !== null && base.Id === labels[DERIVED.base];
  }
}
