/** What is left in the engine: the workspace of a container that ended, and the volumes and networks of containers that are gone. */
import { Readable } from "node:stream";
import { leftover, type GcMode, type Leftover, type Wanted } from "../leftover.ts";
import { LABELS } from "./container.ts";
import { refusedWith, translate, type Engine } from "./engine.ts";

/** A volume or network of an attempt is named after its sandbox, perhaps with a word behind it. Those of the warm pool are the pool's. */
const OF_ATTEMPT = /^(slipway-(?!pool-).+-a\d+)(?:-[a-z]+)?$/;

/**
 * `/workspace` of a stopped container as the engine reads it: inside the container's own root, without starting anything.
 * The mount cannot be replaced by a link: the root of the image is read-only to the worker.
 */
export async function readWorkspace(engine: Engine, name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> {
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
    if (refusedWith(error, 404)) return null;
    throw translate(error, signal);
  }
}

interface Found {
  readonly kind: "volume" | "network";
  readonly name: string;
  readonly sandbox: string;
  remove(signal: AbortSignal): Promise<unknown>;
}

/** Volumes and networks with this installation's label. One that is in use is refused by the engine and stays. */
export async function leftVolumes(
  engine: Engine,
  instance: string,
  wanted: Wanted,
  mode: GcMode,
  signal: AbortSignal,
): Promise<Leftover[]> {
  const unwanted: Found[] = [];
  for (const one of await found(engine, instance, signal)) if (!(await wanted(one.sandbox))) unwanted.push(one);
  const sizes = unwanted.some((one) => one.kind === "volume") ? await volumeSizes(engine, signal) : new Map<string, number>();
  const removed: Leftover[] = [];
  for (const { kind, name, remove } of unwanted) {
    removed.push(await leftover(mode, { kind, name, bytes: sizes.get(name) ?? null }, () => remove(signal)));
  }
  return removed;
}

async function found(engine: Engine, instance: string, signal: AbortSignal): Promise<Found[]> {
  const filters = { label: [`${LABELS.instance}=${instance}`] };
  const ask = <T>(run: Parameters<Engine["call"]>[0]): Promise<T> => engine.call(run, signal) as Promise<T>;
  const { Volumes } = await ask<{ Volumes: { Name: string }[] | null }>((docker) =>
    docker.listVolumes({ filters: JSON.stringify(filters) }),
  );
  const networks = await ask<{ Name: string; Id: string }[]>((docker) => docker.listNetworks({ filters }));
  const gone = (error: unknown): void => {
    if (!refusedWith(error, 404)) throw error;
  };
  return [
    ...(Volumes ?? []).map(({ Name: name }) => ({
      kind: "volume" as const,
      name,
      remove: (stop: AbortSignal) => engine.call((docker) => docker.getVolume(name).remove(), stop).catch(gone),
    })),
    ...networks.map(({ Name: name, Id }) => ({
      kind: "network" as const,
      name,
      remove: (stop: AbortSignal) => engine.call((docker) => docker.getNetwork(Id).remove(), stop).catch(gone),
    })),
  ].flatMap((one) => {
    const sandbox = OF_ATTEMPT.exec(one.name)?.[1];
    return sandbox === undefined ? [] : [{ ...one, sandbox }];
  });
}

/** The engine measures all of its volumes at once, which may take a while: without an answer the sizes are not known. */
async function volumeSizes(engine: Engine, signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
  interface Usage {
    readonly Volumes: readonly { readonly Name: string; readonly UsageData: { readonly Size: number } | null }[] | null;
  }
  const usage: Usage | null = await engine.call((docker) => docker.df() as Promise<Usage>, signal).catch(() => null);
  const known = (usage?.Volumes ?? []).filter(({ UsageData }) => (UsageData?.Size ?? -1) >= 0);
  return new Map(known.map(({ Name, UsageData }) => [Name, UsageData?.Size ?? 0]));
}
