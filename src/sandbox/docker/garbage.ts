/**
 * What is left in the engine: the workspace of a container that ended, and the volumes and networks
 * of containers that are gone.
 */
import { existsSync } from "node:fs";
import { mkdir, rmdir } from "node:fs/promises";
import { Readable } from "node:stream";
import type { ContainerInspectInfo } from "dockerode";
import { removeGarbage, type GcMode, type Garbage, type IsNeeded } from "../../core/lib/garbage.ts";
import { LABELS, SOCKET_TARGET } from "./container-spec.ts";
import type { WorkspaceDisks } from "./disk/workspace-disk.ts";
import { hasStatus, toEngineError, type Engine } from "./engine.ts";

/** A volume or network of an attempt is named after its sandbox, perhaps with a word behind it. */
const OF_ATTEMPT = /^(slipway-(?!pool-).+-a\d+)(?:-[a-z]+)?$/;
/**
 * Of a worker that waits, which it keeps when it is claimed; of a look at whether there are loop
 * devices.
 */
const OF_NO_ATTEMPT = /^(?:slipway-pool|probe)-/;
/** What was made for a container gets one within this time, ms. */
const STALE_MS = 60_000;

/**
 * `/workspace` of a stopped container as the engine reads it: inside the container's own root,
 * without starting anything. The mount cannot be replaced by a link: the root of the image is
 * read-only to the worker.
 */
export async function readWorkspace(
  engine: Engine,
  name: string,
  signal: AbortSignal,
): Promise<AsyncIterable<Uint8Array> | null> {
  try {
    const stream = await engine.call(
      (docker, stop) => docker.getContainer(name).getArchive({ path: "/workspace", abortSignal: stop }),
      signal,
    );
    const source = stream instanceof Readable ? stream : new Readable().wrap(stream);
    // Whoever does not read it to its end must not hear of it as an uncaught error.
    source.on("error", () => undefined);
    signal.addEventListener("abort", () => source.destroy(new Error("aborted")), { once: true });
    return source;
  } catch (error) {
    if (hasStatus(error, 404)) return null;
    throw toEngineError(error, signal);
  }
}

/**
 * The engine reads nothing from a container whose mount has no source any more: the broker has
 * taken its folder away, or a claim has moved it. While `read` opens what it reads, an empty folder
 * is in its place. @param here what of this machine a path of the engine's is.
 */
export async function whole<T>(
  info: ContainerInspectInfo,
  here: (path: string) => string,
  read: () => Promise<T>,
): Promise<T> {
  const source = info.Mounts.find(({ Destination }) => Destination === SOCKET_TARGET)?.Source;
  const place = source === undefined ? null : here(source);
  if (place === null || existsSync(place)) return await read();
  await mkdir(place, { recursive: true });
  try {
    return await read();
  } finally {
    // Whoever has come back to it meanwhile keeps it.
    await rmdir(place).catch(() => undefined);
  }
}

interface Found {
  readonly kind: "volume" | "network";
  readonly name: string;
  /** On disk; null = not known yet. */
  readonly bytes: number | null;
  readonly changedAt: number;
  remove(signal: AbortSignal): Promise<unknown>;
}

export interface GarbageQuery {
  readonly engine: Engine;
  readonly instance: string;
  readonly disks: WorkspaceDisks;
  readonly wanted: IsNeeded;
  readonly mode: GcMode;
  readonly signal: AbortSignal;
}

/**
 * Volumes, what is behind them, and networks with this installation's label. One that is in use is
 * refused by the engine and stays.
 */
export async function findUnusedVolumes(of: GarbageQuery): Promise<Garbage[]> {
  const { engine, mode, signal } = of;
  const all = await found(of);
  const isUsed = await users(of);
  const unwanted: Found[] = [];
  for (const one of all) if (!isUsed(one.name) && (await isOver(one, of.wanted))) unwanted.push(one);
  const isMeasured = unwanted.every((one) => one.kind === "network" || one.bytes !== null);
  const sizes = isMeasured ? new Map<string, number>() : await volumeSizes(engine, signal);
  const removed: Garbage[] = [];
  for (const { kind, name, bytes, remove } of unwanted) {
    removed.push(
      await removeGarbage(mode, { kind, name, bytes: bytes ?? sizes.get(name) ?? null }, () => remove(signal)),
    );
  }
  return removed;
}

/**
 * What was made for a worker that waits is claimed by no name: it is old enough to have a
 * container, or it never gets one.
 */
async function isOver({ name, changedAt }: Found, wanted: IsNeeded): Promise<boolean> {
  const sandbox = OF_ATTEMPT.exec(name)?.[1];
  if (sandbox !== undefined) return !(await wanted(sandbox));
  return OF_NO_ATTEMPT.test(name) && Date.now() - changedAt > STALE_MS;
}

/**
 * @returns whether a container of ours bears the name of an attempt, or mounts what is called so.
 */
async function users({ engine, instance, signal }: GarbageQuery): Promise<(name: string) => boolean> {
  const filters = { label: [`${LABELS.instance}=${instance}`] };
  const containers = await engine.call((docker) => docker.listContainers({ all: true, filters }), signal);
  const names = new Set(containers.flatMap((one) => one.Names.map((name) => name.replace(/^\//, ""))));
  const mounted = new Set(containers.flatMap((one) => one.Mounts.map(({ Name }) => Name)));
  return (name) => mounted.has(name) || names.has(OF_ATTEMPT.exec(name)?.[1] ?? name);
}

async function found({ engine, instance, disks, signal }: GarbageQuery): Promise<Found[]> {
  const filters = { label: [`${LABELS.instance}=${instance}`] };
  const ask = <T>(run: Parameters<Engine["call"]>[0]): Promise<T> => engine.call(run, signal) as Promise<T>;
  const { Volumes } = await ask<{ Volumes: { Name: string; CreatedAt?: string }[] | null }>((docker) =>
    docker.listVolumes({ filters: JSON.stringify(filters) }),
  );
  const networks = await ask<{ Name: string; Id: string }[]>((docker) => docker.listNetworks({ filters }));
  const images = new Map(disks.images().map((image) => [image.name, image]));
  const volumes = new Map((Volumes ?? []).map((one) => [one.Name, one]));
  const gone = (error: unknown): void => {
    if (!hasStatus(error, 404)) throw error;
  };
  return [
    ...[...new Set([...volumes.keys(), ...images.keys()])].map((name) => ({
      kind: "volume" as const,
      name,
      bytes: images.get(name)?.bytes ?? null,
      changedAt: images.get(name)?.changedAt ?? Date.parse(volumes.get(name)?.CreatedAt ?? ""),
      remove: () => disks.remove(name),
    })),
    ...networks.map(({ Name: name, Id }) => ({
      kind: "network" as const,
      name,
      bytes: null,
      changedAt: NaN,
      remove: (stop: AbortSignal) => engine.call((docker) => docker.getNetwork(Id).remove(), stop).catch(gone),
    })),
  ];
}

/**
 * The engine measures all of its volumes at once, which may take a while: without an answer the
 * sizes are not known.
 */
async function volumeSizes(engine: Engine, signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
  interface Usage {
    readonly Volumes: readonly { readonly Name: string; readonly UsageData: { readonly Size: number } | null }[] | null;
  }
  const usage: Usage | null = await engine.call((docker) => docker.df() as Promise<Usage>, signal).catch(() => null);
  const known = (usage?.Volumes ?? []).filter(({ UsageData }) => (UsageData?.Size ?? -1) >= 0);
  return new Map(known.map(({ Name, UsageData }) => [Name, UsageData?.Size ?? 0]));
}
