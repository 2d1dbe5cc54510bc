/**
 * Workers as Docker containers. The container's name is the fence: the engine refuses a second one,
 * and whoever is refused adopts the first. Judged are stopped containers only: while one runs, its
 * out-of-memory flag may mean a child that nobody misses.
 */
import type Docker from "dockerode";
import { resolve } from "node:path";
import { TaskFailure } from "../../core/failure.ts";
import { parseSandboxName } from "../../core/task.ts";
import { checkHost, type EngineFacts } from "./hardening/host-checks.ts";
import { openTransport, type WorkerTransport, type TransportOptions } from "./transport/transport.ts";
import { createContainerSpec, LABELS, createLabels } from "./container-spec.ts";
import { openDerivedImages } from "./image/derived-image.ts";
import {
  diskHardeningCheck,
  openWorkspaceDisks,
  PLAIN_DISK,
  volumeName,
  type DiskOptions,
  type WorkspaceDisks,
} from "./disk/workspace-disk.ts";
import { overrideImageSettings } from "./image/image-overrides.ts";
import {
  EngineError,
  engineFailure,
  hostPaths,
  named,
  openEngine,
  hasStatus,
  type Engine,
  type HostDir,
} from "./engine.ts";
import { openWorkerImage } from "./image/worker-image.ts";
import { tailOf } from "./transport/stream-demux.ts";
import { openEngineEvents, waitUntil } from "./engine-events.ts";
import { isWaiting, openWarmPool, type WarmPool, type WarmPoolOptions } from "./warm-pool.ts";
import { openProfile } from "./hardening/seccomp.ts";
import { openStaleImages } from "./stale.ts";
import { findUnusedVolumes, readWorkspace, whole } from "./garbage.ts";
import type { HardeningCheck, Sandbox, SandboxExit, SandboxInfo, SandboxSpec } from "../../core/ports/sandbox.ts";

export { dockerOptions } from "./engine.ts";

export interface DockerSandboxOptions {
  /** How dockerode reaches the engine; null or absent = as DOCKER_HOST says. */
  readonly docker?: Docker.DockerOptions | null;
  /** Containers of other installations on the same engine are neither listed nor touched. */
  readonly instance: string;
  /** The worker's program, and the Dockerfile whose `worker` target carries it. */
  readonly workerFile: string;
  readonly dockerfile: string;
  /**
   * Where the coordinator runs in a container itself: `from`, a folder as it sees it, is `to` for
   * the engine's machine.
   */
  readonly hostDir?: HostDir | null;
  /** For tasks that name none. */
  readonly memoryMb?: number;
  readonly cpus?: number;
  /** Absent = plain volumes of 4 GiB that are watched. */
  readonly disk?: DiskOptions;
  readonly pids?: number;
  /** Longest wait for one answer of the engine, ms. */
  readonly timeoutMs?: number;
  /** How long `wait` bears an engine that does not answer (it may be restarting), ms. */
  readonly outageMs?: number;
  /** How often `wait` looks for itself although no event came, ms. */
  readonly pollMs?: number;
  /** Workers that are started ahead; null or absent = none, and none is looked for. */
  readonly pool?: WarmPoolOptions | null;
  /** How a worker reaches its broker; absent = as the engine allows. */
  readonly transport?: TransportOptions["transport"];
  /** For the crash suite: called between the steps of ensure. */
  readonly crashpoint?: (name: string) => void;
}

const GONE: SandboxExit = { exitCode: null, outOfMemory: false, diskFull: false, tail: "" };
/** Longest time for a name that is taken to become a container that can be seen, ms. */
const CREATE_MS = 30_000;
/** Longest time from SIGKILL to the end of a container, ms. */
const KILL_MS = 20_000;

/**
 * A version of the worker or of somebody's image that is no longer the current one is kept this
 * long, for those who go back.
 */
const STALE_IMAGE_MS = 7 * 86_400_000;

type Inspected = Docker.ContainerInspectInfo;

/** What dockerode does and its types do not say. */
interface Versioned {
  version(options: { readonly abortSignal: AbortSignal }): Promise<Docker.DockerVersion>;
}

/** "created" has not run, "stopped" is what may be judged. */
function stateOf(info: Inspected): "created" | "running" | "stopped" {
  const { Status, Running } = info.State;
  if (Status === "created") return "created";
  return Running || Status === "restarting" || Status === "removing" ? "running" : "stopped";
}

export function openDockerSandbox(options: DockerSandboxOptions): Sandbox {
  const engine = openEngine(options);
  const image = openWorkerImage(engine, options);
  const seccomp = openProfile(engine);
  const derived = openDerivedImages(engine, image, options.instance, seccomp);
  const news = openEngineEvents(engine, `${LABELS.instance}=${options.instance}`);
  const closing = new AbortController();
  const crashpoint = options.crashpoint ?? (() => undefined);
  const starting = new Map<string, Promise<void>>();
  const common = { engine, instance: options.instance, crashpoint };
  const disks = openWorkspaceDisks({
    ...common,
    ...(options.disk ?? PLAIN_DISK),
    byEnvironment: !options.docker,
    onHost: hostPaths(options.hostDir),
  });
  const door = openTransport(
    options,
    engine,
    async (name, signal) => (await inspect(name, signal))?.State.Running === true,
  );

  /** @returns null when there is no container of that name. */
  async function inspect(name: string, signal?: AbortSignal): Promise<Inspected | null> {
    try {
      return await engine.call((docker, stop) => docker.getContainer(name).inspect({ abortSignal: stop }), signal);
    } catch (error) {
      if (hasStatus(error, 404)) return null;
      throw engineFailure(error);
    }
  }

  async function bodyOf(spec: SandboxSpec, signal: AbortSignal): Promise<Docker.ContainerCreateOptions> {
    const body = createContainerSpec(spec, {
      image: await image.name(),
      instance: options.instance,
      memoryMb: options.memoryMb ?? 4_096,
      cpus: options.cpus ?? 2,
      pids: options.pids ?? 512,
      seccomp: await seccomp(),
      socketDir: (await door.kind()) === "tunnel" ? null : hostPaths(options.hostDir)(resolve(spec.socketDir)),
      workspace: await disks.workspace(spec),
    });
    const chosen = spec.image ?? null;
    if (chosen === null) return body;
    // Somebody may have cleaned up the images since `prepare`.
    if ((await derived.find(chosen, signal)) === null) await derived.prepare(chosen, () => undefined, signal);
    const found = await derived.find(chosen, signal);
    if (found === null)
      throw new TaskFailure("sandbox_unavailable", { detail: `The image ${chosen} does not stay prepared.` });
    return overrideImageSettings(body, found);
  }

  async function prepare(
    progress: (text: string) => void,
    signal: AbortSignal,
    chosen: string | null = null,
  ): Promise<void> {
    await (chosen === null ? image.prepare(progress, signal) : derived.prepare(chosen, progress, signal));
  }

  const plainBody = (spec: SandboxSpec): Promise<Docker.ContainerCreateOptions> =>
    bodyOf({ ...spec, image: null }, closing.signal);
  const pool = options.pool
    ? openWarmPool({ ...common, ...options.pool, image: () => image.name(), body: plainBody, disk: disks.make, remove })
    : null;

  /** Whoever waits is bound through a shared folder. */
  const waiting = async (): Promise<WarmPool | null> =>
    pool !== null && (await door.kind()) === "socket" ? pool : null;

  /** @returns false when there is one of that name. */
  async function create(spec: SandboxSpec, signal: AbortSignal): Promise<boolean> {
    const attempt = async (): Promise<void> => {
      const body = await bodyOf(spec, signal);
      const container = engine.call((docker, stop) => docker.createContainer({ ...body, abortSignal: stop }), signal);
      // Whoever finds one without its disk makes that: it has never run (`ready`).
      await Promise.all([container, disks.make(spec)]);
    };
    try {
      await attempt().catch(async (error: unknown) => {
        if (!hasStatus(error, 404)) throw error;
        await prepare(() => undefined, signal, spec.image);
        await attempt();
      });
      return true;
    } catch (error) {
      if (hasStatus(error, 409)) return false;
      throw engineFailure(error);
    }
  }

  /**
   * The name is taken a moment before the container can be seen; and whoever took it may yet fail.
   * `fresh`: its disk was made ready just now.
   */
  async function findOrCreate(spec: SandboxSpec, signal: AbortSignal): Promise<{ info: Inspected; fresh: boolean }> {
    let [made, fresh] = [false, false];
    let found = await inspect(spec.name, signal);
    for (
      const end = Date.now() + CREATE_MS;
      found === null && Date.now() < end;
      found = await inspect(spec.name, signal)
    ) {
      if (made) await news.next(spec.name, 50, signal);
      made = true;
      if ((spec.image ?? null) === null && (await (await waiting())?.claim(spec, signal)) === true) continue;
      fresh = await create(spec, signal);
      crashpoint("sandbox.created");
    }
    if (found !== null) return { info: found, fresh };
    throw new TaskFailure("sandbox_unavailable", {
      detail: `The container ${spec.name} can neither be made nor found.`,
    });
  }

  async function ensure(spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    for (;;) {
      const { info, fresh } = await findOrCreate(spec, signal);
      const labels = info.Config.Labels;
      const waited = Boolean(labels[LABELS.pool]) && labels[LABELS.instance] === options.instance;
      if (
        !waited &&
        Object.entries(createLabels(options.instance, spec)).some(([key, value]) => labels[key] !== value)
      ) {
        throw new TaskFailure("sandbox_unavailable", {
          detail: `A container named ${spec.name} belongs to something else.`,
        });
      }
      if (!waited) {
        if (stateOf(info) === "created") {
          if (!fresh) await disks.ready(info);
          await start(engine, spec.name, signal);
        }
        if (labels[LABELS.door]) door.attend(spec.name, await inspect(spec.name, signal));
        return;
      }
      if (pool === null || pool.bind(spec, info)) return;
      await remove(info.Id);
    }
  }

  /** One at a time per name, so that a container that ended meanwhile is not started again. */
  async function ensureOnce(spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    for (let other = starting.get(spec.name); other !== undefined; other = starting.get(spec.name)) await other;
    signal.throwIfAborted();
    const mine = ensure(spec, signal);
    const settled = mine.then(
      () => undefined,
      () => undefined,
    );
    starting.set(spec.name, settled);
    try {
      await mine;
    } finally {
      starting.delete(spec.name);
    }
  }

  function wait(name: string, signal: AbortSignal): Promise<SandboxExit> {
    const stop = AbortSignal.any([signal, closing.signal]);
    const pollMs = options.pollMs ?? 10_000;
    let failingSince: number | null = null;
    let [watched, lookAt] = [true, 0];
    /**
     * Measures what no kernel bounds. What is ended for it is judged as such when it has stopped.
     */
    async function watch(info: Inspected): Promise<void> {
      watched = stateOf(info) === "running" && disks.isWatched(info);
      if (!watched || Date.now() < lookAt) return;
      if (await disks.isFull(info)) await signalTo(engine, name, "SIGKILL", stop);
      lookAt = Date.now() + disks.restMs(info);
    }
    return waitUntil(
      news,
      name,
      () => (watched ? Math.min(pollMs, Math.max(1, lookAt - Date.now())) : pollMs),
      stop,
      async () => {
        try {
          const info = await inspect(name, stop);
          door.attend(name, info);
          failingSince = null;
          if (info === null) return GONE;
          if (stateOf(info) === "stopped") return await judge(engine, disks, info, name);
          await watch(info);
          return null;
        } catch (error) {
          if (stop.aborted) throw error;
          failingSince ??= Date.now();
          if (Date.now() - failingSince >= (options.outageMs ?? 60_000)) throw error;
          return null;
        }
      },
    );
  }

  /** @returns true when it is not running within `ms`. */
  function ended(name: string, ms: number, signal: AbortSignal): Promise<boolean> {
    const end = Date.now() + ms;
    const pollMs = (): number => Math.max(1, Math.min(1_000, end - Date.now()));
    return waitUntil(news, name, pollMs, signal, async () => {
      const late = Date.now() >= end;
      const info = await inspect(name, signal);
      if (info === null || stateOf(info) !== "running") return true;
      return late ? false : null;
    });
  }

  async function stop(name: string, graceMs: number, signal: AbortSignal = closing.signal): Promise<void> {
    const info = await inspect(name, signal);
    if (info === null || stateOf(info) !== "running") return;
    // Its last words need a way out.
    door.attend(name, info);
    await signalTo(engine, name, "SIGTERM", signal);
    if (await ended(name, graceMs, signal)) return;
    await signalTo(engine, name, "SIGKILL", signal);
    if (await ended(name, KILL_MS, signal)) return;
    throw new TaskFailure("sandbox_unavailable", { detail: `The container ${name} does not end.` });
  }

  async function remove(name: string): Promise<void> {
    const info = await inspect(name);
    if (info !== null) await removeContainer(name);
    crashpoint("sandbox.removed");
    try {
      await disks.remove((info === null ? null : volumeName(info)) ?? name);
    } catch (error) {
      throw engineFailure(error);
    }
  }

  async function removeContainer(name: string): Promise<void> {
    try {
      await engine.call((docker, stop) =>
        docker.getContainer(name).remove({ force: true, v: true, abortSignal: stop }),
      );
    } catch (error) {
      if (hasStatus(error, 404)) return;
      if (!hasStatus(error, 409)) throw engineFailure(error);
    }
    // 409: somebody else is removing it.
    const end = Date.now() + KILL_MS;
    await waitUntil(
      news,
      name,
      () => 200,
      closing.signal,
      async () => {
        if ((await inspect(name)) === null) return true;
        if (Date.now() > end)
          throw new TaskFailure("sandbox_unavailable", { detail: `The container ${name} does not go away.` });
        return null;
      },
    );
  }

  async function check(signal?: AbortSignal): Promise<string> {
    const version = await named(
      engine.call((docker, stop) => (docker as unknown as Versioned).version({ abortSignal: stop }), signal),
    );
    await disks.bound();
    const way =
      (await door.kind()) === "tunnel"
        ? ", which reach their broker through the engine (their sockets cannot be mounted there)"
        : "";
    return `Docker ${version.Version} (${version.Os}/${version.Arch}): one container per attempt, without network${way}`;
  }

  async function salvage(name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> {
    const info = await inspect(name, signal);
    if (info === null) return null;
    if (stateOf(info) === "running") throw new TaskFailure("internal", { detail: `The container ${name} still runs.` });
    await disks.ready(info);
    return await whole(info, hostPaths(options.hostDir, "back"), () => readWorkspace(engine, name, signal));
  }

  function close(): Promise<void> {
    closing.abort();
    door.close();
    news.close();
    return Promise.resolve();
  }

  return {
    kind: "docker",
    isolates: true,
    check,
    hardeningChecks: (signal) => capabilitiesHere(engine, door, disks, signal),
    storage: disks.storage,
    prepare: (progress, signal, chosen) => named(prepare(progress, signal, chosen)),
    ensure: ensureOnce,
    maintainPool: async (growth, signal) => await (await waiting())?.maintain(growth, signal),
    poolStatus: async (signal) => (await (await waiting())?.status(signal)) ?? null,
    wait,
    stop,
    remove,
    salvage,
    list: () => sandboxesOf(engine, options.instance),
    reclaim: (wanted, mode, signal) =>
      findUnusedVolumes({ engine, instance: options.instance, disks, wanted, mode, signal }),
    reclaimImages: (mode, signal) =>
      openStaleImages(engine, image, options.instance).reclaim(STALE_IMAGE_MS, mode, signal),
    close,
  };
}

async function signalTo(
  engine: Engine,
  name: string,
  which: "SIGTERM" | "SIGKILL",
  signal?: AbortSignal,
): Promise<void> {
  try {
    await engine.call((docker, stop) => docker.getContainer(name).kill({ signal: which, abortSignal: stop }), signal);
  } catch (error) {
    // 404: gone; 409: not running; some engines say so with 500.
    if (!hasStatus(error, 404, 409) && !(error instanceof EngineError && /not running/i.test(error.message)))
      throw engineFailure(error);
  }
}

/** What bears the installation's label, without workers that wait. */
async function sandboxesOf(engine: Engine, instance: string): Promise<SandboxInfo[]> {
  const filters = { label: [`${LABELS.instance}=${instance}`] };
  const found = await engine
    .call((docker, stop) => docker.listContainers({ all: true, filters, abortSignal: stop }))
    .catch((error: unknown) => {
      throw engineFailure(error);
    });
  return found.flatMap((one) => {
    const name = one.Names[0]?.replace(/^\//, "") ?? one.Id;
    if (isWaiting(name, one.Labels)) return [];
    const { taskId, attempt } = parseSandboxName(name) ?? { taskId: "", attempt: 0 };
    const state =
      one.State === "created" ? "created" : one.State === "exited" || one.State === "dead" ? "exited" : "running";
    return [{ name, taskId, attempt, state }];
  });
}

async function start(engine: Engine, name: string, signal: AbortSignal): Promise<void> {
  try {
    await engine.call((docker, stop) => docker.getContainer(name).start({ abortSignal: stop }), signal);
  } catch (error) {
    if (hasStatus(error, 304)) return;
    throw engineFailure(error);
  }
}

async function judge(engine: Engine, disks: WorkspaceDisks, info: Inspected, name: string): Promise<SandboxExit> {
  const { ExitCode: exitCode, OOMKilled } = info.State;
  const outOfMemory = OOMKilled && exitCode !== 0;
  const diskFull = !outOfMemory && exitCode !== 0 && (await disks.isFull(info));
  return { exitCode, outOfMemory, diskFull, tail: await tailOf(engine, name) };
}

async function capabilitiesHere(
  engine: Engine,
  door: WorkerTransport,
  disks: WorkspaceDisks,
  signal?: AbortSignal,
): Promise<HardeningCheck[]> {
  const facts = await named(engine.call((docker) => docker.info() as Promise<EngineFacts>, signal));
  return [...checkHost(facts, await door.kind()), diskHardeningCheck(await disks.bound())];
}
