/**
 * Workers as Docker containers. The container's name is the fence (rule D1): the engine refuses a
 * second container of that name, and the refused caller adopts the existing one.
 */
import type Docker from "dockerode";
import { setMaxListeners } from "node:events";
import { resolve } from "node:path";
import { TaskFailure } from "../../core/failure.ts";
import { withAnySignal } from "../../core/lib/concurrency/async.ts";
import { KeyedMutex } from "../../core/lib/concurrency/keyed-mutex.ts";
import type { Garbage, GcMode, IsNeeded } from "../../core/lib/garbage.ts";
import type {
  HardeningCheck,
  PoolStatus,
  Sandbox,
  SandboxExit,
  SandboxInfo,
  SandboxSpec,
  SetupDisk,
  SetupDiskPlace,
  SetupPlace,
  WorkspaceUse,
} from "../../core/ports/sandbox.ts";
import { Containers, getState, KILL_MS, type ContainerInfo } from "./containers.ts";
import { createContainerSpec, createLabels, LABELS } from "./container-spec.ts";
import { SetupDisks, type SetupFiles } from "./disk/setup-disks.ts";
import {
  diskHardeningCheck,
  getVolumeName,
  PLAIN_DISK,
  WorkspaceDisks,
  type DiskOptions,
} from "./disk/workspace-disk.ts";
import { createPathMap, hasStatus, openEngine, toTaskFailure, withTaskFailures } from "./engine.ts";
import type { Engine, HostDir } from "./engine.ts";
import { EngineEvents } from "./engine-events.ts";
import { ExitWatcher } from "./exit-watcher.ts";
import { readWorkspace, removeUnusedVolumes, UnusedImages } from "./garbage.ts";
import { checkHost, type EngineFacts } from "./hardening/host-checks.ts";
import { createProfileLoader } from "./hardening/seccomp.ts";
import { blameImage } from "./image/derived-image.ts";
import { overrideImageSettings } from "./image/image-overrides.ts";
import { DefaultImage, type ImageTools } from "./image/default-image.ts";
import { TaskImages } from "./image/task-images.ts";
import { WarmPool, type WarmPoolOptions } from "./pool/warm-pool.ts";
import { WorkerTransport, type TransportOptions } from "./transport/transport.ts";

export { dockerOptions } from "./engine.ts";

export interface DockerSandboxOptions {
  /** How dockerode reaches the engine; null or absent = from DOCKER_HOST. */
  readonly docker?: Docker.DockerOptions | null;
  /** Containers of other installations on the same engine are neither listed nor touched. */
  readonly instance: string;
  /**
   * The file of the worker's program, and the Dockerfile that builds the worker's image (target
   * `worker`).
   */
  readonly workerFile: string;
  readonly dockerfile: string;
  /** What the default image contains; absent = slim. */
  readonly imageTools?: ImageTools;
  /** Called with what operators should know. */
  readonly report?: (text: string) => void;
  /** Set when the coordinator itself runs in a container. */
  readonly hostDir?: HostDir | null;
  /** Limits of tasks that set none. */
  readonly memoryMb?: number;
  readonly cpus?: number;
  /** Absent = plain volumes of 4 GiB, enforced by measuring. */
  readonly disk?: DiskOptions;
  readonly pids?: number;
  /** Timeout of one call to the engine, ms. */
  readonly timeoutMs?: number;
  /** Outage of the engine that `wait` tolerates (it may be restarting), ms. */
  readonly outageMs?: number;
  /** Longest time between two checks of `wait` without an event, ms. */
  readonly pollMs?: number;
  /** Null or absent = no warm pool; containers of an earlier pool are then left alone. */
  readonly pool?: WarmPoolOptions | null;
  /** How a worker reaches its broker; absent = detected. */
  readonly transport?: TransportOptions["transport"];
  /** For the crash suite: called between the steps of ensure. */
  readonly crashpoint?: (name: string) => void;
}

/** Longest time between the engine's refusal of a taken name and the container's visibility, ms. */
const CREATE_MS = 30_000;
/** Superseded worker and derived images are kept this long, so that a rollback finds them, ms. */
const UNUSED_IMAGE_MS = 7 * 86_400_000;

/** dockerode passes the signal on; its types lack the parameter. */
interface VersionClient {
  version(options: { readonly abortSignal: AbortSignal }): Promise<Docker.DockerVersion>;
}

export function openDockerSandbox(options: DockerSandboxOptions): Sandbox {
  return new DockerSandbox(options);
}

class DockerSandbox implements Sandbox {
  readonly kind = "docker";
  readonly isolates = true;

  readonly #options: DockerSandboxOptions;
  readonly #engine: Engine;
  readonly #events: EngineEvents;
  readonly #containers: Containers;
  readonly #defaultImage: DefaultImage;
  readonly #images: TaskImages;
  readonly #disks: WorkspaceDisks;
  readonly #setupDisks: SetupDisks;
  readonly #transport: WorkerTransport;
  readonly #pool: WarmPool | null;
  readonly #loadProfile: () => Promise<string | null>;
  readonly #toHost: (path: string) => string;
  readonly #crashpoint: (name: string) => void;
  /** Per name: without it a container that ended between two calls could be started twice. */
  readonly #ensuring = new KeyedMutex();
  readonly #closing = new AbortController();

  constructor(options: DockerSandboxOptions) {
    const { instance, crashpoint = () => undefined } = options;
    const engine = openEngine(options);
    // One for each wait.
    setMaxListeners(0, this.#closing.signal);
    this.#options = options;
    this.#engine = engine;
    this.#crashpoint = crashpoint;
    this.#toHost = createPathMap(options.hostDir);
    this.#events = new EngineEvents(engine, `${LABELS.instance}=${instance}`);
    this.#containers = new Containers(engine, this.#events);
    const loadProfile = createProfileLoader(engine);
    this.#loadProfile = loadProfile;
    this.#defaultImage = new DefaultImage(engine, options);
    this.#images = new TaskImages(this.#defaultImage, { engine, instance, loadProfile });
    this.#disks = new WorkspaceDisks({
      engine,
      crashpoint,
      ...(options.disk ?? PLAIN_DISK),
      byEnvironment: !options.docker,
      toHost: this.#toHost,
    });
    this.#setupDisks = new SetupDisks({ engine, instance, loadProfile, disks: this.#disks, toHost: this.#toHost });
    this.#transport = new WorkerTransport(options, engine, (name, signal) => this.#isRunning(name, signal));
    this.#pool = options.pool ? this.#openPool(options.pool) : null;
  }

  async check(signal?: AbortSignal): Promise<string> {
    const version = await withTaskFailures(
      this.#engine.call((docker, stop) => (docker as unknown as VersionClient).version({ abortSignal: stop }), signal),
    );
    await this.#disks.bound();
    const way =
      (await this.#transport.kind()) === "tunnel"
        ? ", which reach their broker through the engine (it cannot mount their sockets)"
        : "";
    return `Docker ${version.Version} (${version.Os}/${version.Arch}): one container per attempt, without network${way}`;
  }

  async setupPlace(name: string, signal: AbortSignal): Promise<SetupPlace | null> {
    const info = await this.#containers.inspect(name, signal);
    return info === null ? null : await this.#setupDisks.place(info);
  }

  makeSetupDisk(place: SetupDiskPlace, files: SetupFiles, signal: AbortSignal): Promise<void> {
    return withAnySignal([signal, this.#closing.signal], (stop) => this.#setupDisks.make(place, files, stop));
  }

  async hardeningChecks(signal?: AbortSignal): Promise<readonly HardeningCheck[]> {
    const facts = await withTaskFailures(this.#engine.call((docker) => docker.info() as Promise<EngineFacts>, signal));
    const { Components } = await withTaskFailures(this.#engine.call((docker) => docker.version(), signal));
    const runc = Components?.find(({ Name }) => Name === "runc")?.Version ?? null;
    return [...checkHost(facts, await this.#transport.kind(), runc), diskHardeningCheck(await this.#disks.bound())];
  }

  storage(): Promise<string | null> {
    return this.#disks.storage();
  }

  async workspaces(): Promise<WorkspaceUse | null> {
    return this.#disks.use(await this.#containers.volumes(this.#options.instance));
  }

  prepare(progress: (text: string) => void, signal: AbortSignal, image: string | null = null): Promise<void> {
    return withTaskFailures(this.#images.prepare(progress, signal, image));
  }

  ensure(spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    return this.#ensuring.run(spec.name, () => this.#ensureOnce(spec, signal).catch(blameImage(spec.image ?? null)));
  }

  async maintainPool(options: { readonly grow: boolean }, signal: AbortSignal): Promise<void> {
    await this.#defaultImage.prepareFull();
    await (await this.#usablePool())?.maintain(options, signal);
  }

  async poolStatus(signal?: AbortSignal): Promise<PoolStatus | null> {
    return (await (await this.#usablePool())?.status(signal)) ?? null;
  }

  wait(name: string, signal: AbortSignal): Promise<SandboxExit> {
    const deps = {
      engine: this.#engine,
      events: this.#events,
      containers: this.#containers,
      disks: this.#disks,
      transport: this.#transport,
      outageMs: this.#options.outageMs ?? 60_000,
      pollMs: this.#options.pollMs ?? 10_000,
    };
    return withAnySignal([signal, this.#closing.signal], (stop) => new ExitWatcher(deps, name, stop).wait());
  }

  async stop(name: string, graceMs: number, signal: AbortSignal = this.#closing.signal): Promise<void> {
    const info = await this.#containers.inspect(name, signal);
    if (info === null || getState(info) !== "running") return;
    // The worker delivers its last events during the grace period.
    this.#transport.connect(name, info);
    await this.#containers.sendSignal(name, "SIGTERM", signal);
    if (await this.#containers.waitForEnd(name, graceMs, signal)) return;
    await this.#containers.sendSignal(name, "SIGKILL", signal);
    if (await this.#containers.waitForEnd(name, KILL_MS, signal)) return;
    throw new TaskFailure("sandbox_unavailable", { detail: `The container ${name} does not end.` });
  }

  async remove(name: string): Promise<void> {
    const info = await this.#containers.inspect(name);
    if (info !== null) await this.#containers.remove(name, this.#closing.signal);
    this.#crashpoint("sandbox.removed");
    // A container of the warm pool keeps the volume name that it was created with.
    await withTaskFailures(this.#disks.remove((info === null ? null : getVolumeName(info)) ?? name));
  }

  async salvage(name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | null> {
    const info = await this.#containers.inspect(name, signal);
    if (info === null) return null;
    if (getState(info) === "running")
      throw new TaskFailure("internal", { detail: `The container ${name} still runs.` });
    await this.#disks.ready(info);
    const { hostDir = null } = this.#options;
    const fromHost = createPathMap(hostDir === null ? null : { from: hostDir.to, to: hostDir.from });
    return await readWorkspace(this.#engine, info, fromHost, signal);
  }

  list(): Promise<SandboxInfo[]> {
    return this.#containers.list(this.#options.instance);
  }

  reclaim(isNeeded: IsNeeded, mode: GcMode, signal: AbortSignal): Promise<Garbage[]> {
    const { instance } = this.#options;
    return removeUnusedVolumes({ engine: this.#engine, instance, disks: this.#disks, isNeeded, mode, signal });
  }

  reclaimImages(mode: GcMode, signal: AbortSignal): Promise<Garbage[]> {
    return new UnusedImages(this.#engine, this.#defaultImage, this.#options.instance).remove(
      UNUSED_IMAGE_MS,
      mode,
      signal,
    );
  }

  close(): Promise<void> {
    this.#closing.abort();
    this.#transport.close();
    this.#events.close();
    return Promise.resolve();
  }

  #openPool(pool: WarmPoolOptions): WarmPool {
    return new WarmPool({
      ...pool,
      engine: this.#engine,
      instance: this.#options.instance,
      crashpoint: this.#crashpoint,
      image: () => this.#defaultImage.name(),
      createBody: (spec) => this.#createBody({ ...spec, image: null }, this.#closing.signal),
      makeDisk: (spec) => this.#disks.make(spec),
      remove: (name) => this.remove(name),
    });
  }

  /** Pooled containers use the mounted socket, so the pool is disabled in tunnel mode. */
  async #usablePool(): Promise<WarmPool | null> {
    return this.#pool !== null && (await this.#transport.kind()) === "socket" ? this.#pool : null;
  }

  async #isRunning(name: string, signal: AbortSignal): Promise<boolean> {
    return (await this.#containers.inspect(name, signal))?.State.Running === true;
  }

  async #createBody(spec: SandboxSpec, signal: AbortSignal): Promise<Docker.ContainerCreateOptions> {
    const { instance, memoryMb = 4_096, cpus = 2, pids = 512 } = this.#options;
    const body = createContainerSpec(spec, {
      image: await this.#defaultImage.name(),
      instance,
      memoryMb,
      cpus,
      pids,
      seccomp: await this.#loadProfile(),
      socketDir: (await this.#transport.kind()) === "tunnel" ? null : this.#toHost(resolve(spec.socketDir)),
      workspace: await this.#disks.workspace(spec),
    });
    const image = spec.image ?? null;
    return image === null ? body : overrideImageSettings(body, await this.#images.find(image, signal));
  }

  /**
   * @param disk the disk image that the workspace is copied from.
   * @returns false when the name is taken.
   */
  async #create(spec: SandboxSpec, disk: SetupDisk | null, signal: AbortSignal): Promise<boolean> {
    const attempt = async (): Promise<void> => {
      const body = await this.#createBody(spec, signal);
      const Labels = { ...body.Labels, [LABELS.setup]: disk?.digest ?? "" };
      // After a crash between the two, `WorkspaceDisks.ready` creates the missing disk, empty.
      const made = this.#disks.make(spec, disk?.path);
      await Promise.all([this.#containers.create({ ...body, Labels }, signal), made]);
    };
    try {
      await attempt().catch(async (error: unknown) => {
        if (!hasStatus(error, 404)) throw error;
        await this.#images.prepare(() => undefined, signal, spec.image);
        await attempt();
      });
      return true;
    } catch (error) {
      if (hasStatus(error, 409)) return false;
      throw toTaskFailure(error);
    }
  }

  /**
   * Retries, because a taken name becomes visible as a container only a moment later, and because
   * the create that took it may still fail. `isFresh`: this call created container and disk.
   */
  async #findOrCreate(spec: SandboxSpec, signal: AbortSignal): Promise<{ info: ContainerInfo; isFresh: boolean }> {
    const end = Date.now() + CREATE_MS;
    let isFresh = false;
    let info = await this.#containers.inspect(spec.name, signal);
    for (let round = 0; info === null && Date.now() < end; round++) {
      if (round > 0) await this.#events.next(spec.name, 50, signal);
      const disk = await this.#findSetupDisk(spec, signal);
      if (disk !== null || !(await this.#claimPooled(spec, signal))) {
        isFresh = await this.#create(spec, disk, signal);
        this.#crashpoint("sandbox.created");
      }
      info = await this.#containers.inspect(spec.name, signal);
    }
    if (info !== null) return { info, isFresh };
    throw new TaskFailure("sandbox_unavailable", {
      detail: `The container ${spec.name} can neither be created nor found.`,
    });
  }

  /** A container of the warm pool has its disk already, and files come onto it one by one. */
  async #findSetupDisk(spec: SandboxSpec, signal: AbortSignal): Promise<SetupDisk | null> {
    if (spec.findSetupDisk === undefined) return null;
    const { Image = "" } = await this.#createBody(spec, signal);
    return await this.#setupDisks.find(spec, Image, signal);
  }

  async #claimPooled(spec: SandboxSpec, signal: AbortSignal): Promise<boolean> {
    if ((spec.image ?? null) !== null) return false;
    return (await (await this.#usablePool())?.claim(spec, signal)) === true;
  }

  async #ensureOnce(spec: SandboxSpec, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    for (;;) {
      const { info, isFresh } = await this.#findOrCreate(spec, signal);
      const labels = info.Config.Labels;
      if (!labels[LABELS.pool] || labels[LABELS.instance] !== this.#options.instance)
        return await this.#adopt(spec, info, isFresh, signal);
      if (this.#pool === null || this.#pool.bind(spec, info)) return;
      // It ended before it received its attempt, so it can be replaced.
      await this.remove(info.Id);
    }
  }

  /** Starts a container that was made for this attempt, unless it has been started before. */
  async #adopt(spec: SandboxSpec, info: ContainerInfo, isFresh: boolean, signal: AbortSignal): Promise<void> {
    const labels = info.Config.Labels;
    const expected = Object.entries(createLabels(this.#options.instance, spec));
    if (expected.some(([key, value]) => labels[key] !== value)) {
      throw new TaskFailure("sandbox_unavailable", {
        detail: `A container named ${spec.name} belongs to something else.`,
      });
    }
    if (getState(info) === "created") {
      if (!isFresh) await this.#disks.ready(info);
      await this.#containers.start(spec.name, signal);
    }
    if (labels[LABELS.socketDir]) this.#transport.connect(spec.name, await this.#containers.inspect(spec.name, signal));
  }
}
