/**
 * Where a worker writes, and how its disk limit is enforced (decision 011).
 *
 *   loop    a volume on a loop device: the kernel enforces the size, the worker sees ENOSPC
 *   watch   a plain volume: measured every few seconds; a worker above its limit is killed
 *   tmpfs   memory of the container: the kernel enforces the size; lost when the worker ends
 *
 * A volume has the name of the container that it was created for, and is removed with it.
 */
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import type Docker from "dockerode";
import { TaskFailure } from "../../../core/failure.ts";
import type { HardeningCheck, SandboxSpec, WorkspaceUse } from "../../../core/ports/sandbox.ts";
import { INODE_BYTES, LABELS, WORKSPACE, type Workspace } from "../container-spec.ts";
import { isLocalEngine, hasStatus, type Engine } from "../engine.ts";
import { LoopDevices, type DiskImage } from "./loop-devices.ts";
import { measureDirectory, measureVolume, type DiskUsage } from "./measure.ts";

export interface DiskOptions {
  /** `auto` = loop where it works, else watch. */
  readonly mode: "auto" | "loop" | "watch" | "tmpfs";
  /** Folder of the images, owned by the coordinator. */
  readonly dir: string;
  /** Limit of tasks that set none, MiB. */
  readonly defaultMb: number;
}

/** Works on every machine. */
export const PLAIN_DISK: DiskOptions = { mode: "watch", dir: "", defaultMb: 4_096 };

export interface DiskDeps extends DiskOptions {
  readonly engine: Engine;
  /** False when the engine was selected by options instead of the environment. */
  readonly byEnvironment: boolean;
  /** Maps a path of this machine to the engine's machine. */
  readonly toHost: (path: string) => string;
  readonly crashpoint: (name: string) => void;
}

export interface DiskBound {
  readonly kind: Workspace["kind"];
  /** Human-readable. */
  readonly description: string;
}

/**
 * Longest wait until a volume is released after its container was removed, ms. A busy engine needs
 * seconds where the removal came while the container was being created.
 */
const BUSY_MS = 20_000;
const MIB = 1_024 * 1_024;
/** Highest assumed write rate of a worker, per ms. */
const WRITE_RATE = { bytes: 0.5 * MIB, files: 50 } as const;
/** Pause between two measurements, ms; at least `factor` times the duration of a measurement. */
const PAUSE = { min: 500, max: 5_000, factor: 10 } as const;

export function diskHardeningCheck({ kind, description }: DiskBound): HardeningCheck {
  return { name: "disk of workers", state: kind === "loop" ? "full" : "degraded", detail: description };
}

/** The volume mounted as the workspace; null = none. */
export function getVolumeName(info: Docker.ContainerInspectInfo): string | null {
  return info.Mounts.find(({ Destination }) => Destination === WORKSPACE)?.Name ?? null;
}

interface DiskSettings {
  readonly kind: Workspace["kind"];
  readonly sizeMb: number | null;
}

/** The settings that the container was created with. */
function readSettings(info: Docker.ContainerInspectInfo): DiskSettings {
  const mount = info.HostConfig.Mounts?.find(({ Target }) => Target === WORKSPACE);
  if (mount === undefined) return { kind: "tmpfs", sizeMb: null };
  const options = mount.VolumeOptions;
  const sizeMb = Number(options?.Labels?.[LABELS.disk] ?? 0);
  return {
    kind: options?.DriverConfig?.Options?.["type"] === "ext4" ? "loop" : "watch",
    sizeMb: sizeMb > 0 ? sizeMb : null,
  };
}

export class WorkspaceDisks {
  readonly #deps: DiskDeps;
  readonly #engine: Engine;
  readonly #loops: LoopDevices;
  readonly #isLocal: boolean;
  /** Ids of containers measured above their limit, so that their exit is still classified so. */
  readonly #overfull = new Set<string>();
  /** Pause after the last measurement, by container id. */
  readonly #pauses = new Map<string, number>();
  /** Bytes of `watch` workspaces as measured last, by volume. */
  readonly #measured = new Map<string, number>();
  #bound: Promise<DiskBound> | null = null;
  #storage: Promise<string | null> | null = null;

  constructor(deps: DiskDeps) {
    this.#deps = deps;
    this.#engine = deps.engine;
    this.#loops = new LoopDevices(deps.dir, deps.crashpoint);
    this.#isLocal = isLocalEngine() && deps.byEnvironment;
  }

  /**
   * How the limit is enforced here. Determined once. Rejects with `sandbox_unavailable` when mode
   * `loop` does not work; the next call then tries again.
   */
  bound(): Promise<DiskBound> {
    const bound = (this.#bound ??= this.#chooseBound());
    bound.catch(() => (this.#bound = null));
    return bound;
  }

  /** The workspace setting of a new container. Creates nothing. */
  async workspace(spec: SandboxSpec): Promise<Workspace> {
    const { kind } = await this.bound();
    const sizeMb = this.#getSizeMb(spec);
    if (kind !== "loop") return { kind, sizeMb };
    return { kind, sizeMb, device: this.#deps.toHost(this.#loops.devicePath(spec.name)) };
  }

  /**
   * Creates what must exist before the container starts. Idempotent.
   * @param from the image that a `loop` workspace begins as a copy of; absent = it begins empty.
   */
  async make(spec: SandboxSpec, from: string | null = null): Promise<void> {
    if ((await this.bound()).kind === "loop") await this.#loops.attach(spec.name, this.#getSizeMb(spec), from);
  }

  /** See LoopDevices.keep. */
  async keep(name: string, path: string): Promise<void> {
    await this.#loops.keep(name, path);
  }

  /** What a `loop` workspace was created with, MiB; null for others. */
  sizeOf(info: Docker.ContainerInspectInfo): number | null {
    const { kind, sizeMb } = readSettings(info);
    return kind === "loop" ? sizeMb : null;
  }

  /**
   * Call this before a container is started or read. Attaches the disk again after a restart of the
   * machine, and creates a disk whose creation a crash prevented if the container has never run.
   */
  async ready(info: Docker.ContainerInspectInfo): Promise<void> {
    const volume = getVolumeName(info);
    const { kind, sizeMb } = readSettings(info);
    const isCreated = info.State.Status === "created";
    if (kind === "tmpfs" && !isCreated)
      throw new TaskFailure("internal", { detail: "A workspace in memory is lost when its worker ends." });
    if (kind !== "loop" || volume === null) return;
    if (isCreated && sizeMb !== null) return await this.#loops.attach(volume, sizeMb);
    if (await this.#loops.reattach(volume)) return;
    throw new TaskFailure("sandbox_unavailable", { detail: `The disk of ${volume} is gone.` });
  }

  /** True when the limit of the container's workspace is enforced by measuring. */
  isWatched(info: Docker.ContainerInspectInfo): boolean {
    return readSettings(info).kind === "watch";
  }

  /**
   * True when a `watch` workspace is above its limit, or a `loop` workspace has no space left (for
   * the latter the container must have stopped). False when it cannot be measured.
   */
  async isFull(info: Docker.ContainerInspectInfo): Promise<boolean> {
    if (this.#overfull.has(info.Id)) return true;
    const isFull = await this.#measure(info).catch(() => false);
    if (isFull && readSettings(info).kind === "watch") this.#overfull.add(info.Id);
    return isFull;
  }

  /**
   * Time until the next measurement of a `watch` workspace, ms: at WRITE_RATE it cannot be full
   * before.
   */
  pauseMs({ Id }: Docker.ContainerInspectInfo): number {
    return this.#pauses.get(Id) ?? PAUSE.max;
  }

  /** Removes volume and disk. Idempotent. Rejects while a container uses the volume. */
  async remove(volume: string): Promise<void> {
    for (const end = Date.now() + BUSY_MS; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
      try {
        await this.#engine.call((docker, stop) => docker.getVolume(volume).remove({ abortSignal: stop }));
        break;
      } catch (error) {
        if (hasStatus(error, 404)) break;
        if (!hasStatus(error, 409) || Date.now() > end) throw error;
      }
    }
    this.#measured.delete(volume);
    this.#deps.crashpoint("disk.volume.removed");
    await this.#loops.detach(volume);
  }

  images(): DiskImage[] {
    return this.#loops.list();
  }

  /**
   * See Sandbox.workspaces.
   * @param volumes by the name of the sandbox.
   */
  async use(volumes: ReadonlyMap<string, string>): Promise<WorkspaceUse | null> {
    const { kind } = await this.bound();
    const dir = kind === "tmpfs" ? null : kind === "loop" ? this.#loops.folder() : await this.storage();
    if (dir === null) return null;
    const images = kind === "loop" ? new Map(this.images().map(({ name, bytes }) => [name, bytes])) : this.#measured;
    return {
      dir,
      bytes: new Map([...volumes].flatMap(([name, volume]) => toEntries(name, images.get(volume)))),
    };
  }

  /** See Sandbox.storage. */
  storage(): Promise<string | null> {
    return (this.#storage ??= this.#findStorage());
  }

  #getSizeMb({ limits }: SandboxSpec): number {
    return limits.diskMb ?? this.#deps.defaultMb;
  }

  async #findStorage(): Promise<string | null> {
    if (!this.#isLocal) return null;
    try {
      const info: { DockerRootDir?: string } = await this.#engine.call((docker) => docker.info());
      return info.DockerRootDir !== undefined && existsSync(info.DockerRootDir) ? info.DockerRootDir : null;
    } catch {
      this.#storage = null;
      return null;
    }
  }

  async #chooseBound(): Promise<DiskBound> {
    const { mode } = this.#deps;
    switch (mode) {
      case "tmpfs":
        return {
          kind: "tmpfs",
          description: "workspaces are memory: the kernel enforces their size, and they cannot be salvaged",
        };
      case "watch":
        return { kind: "watch", description: describeWatch("SLIPWAY_DISK=watch") };
      case "auto":
      case "loop": {
        const obstacle = await this.#findLoopObstacle();
        if (obstacle === null)
          return { kind: "loop", description: "the kernel enforces the size of workspaces (loop devices)" };
        if (mode === "auto") return { kind: "watch", description: describeWatch(obstacle) };
        throw new TaskFailure("sandbox_unavailable", {
          detail: `SLIPWAY_DISK=loop does not work here: ${obstacle.slice(0, 120)}.`,
        });
      }
    }
  }

  /** Loop devices require an engine on this machine that mounts as this machine's root. */
  async #findLoopObstacle(): Promise<string | null> {
    if (!this.#isLocal) return "the engine is on another machine";
    const info: { Name?: string; SecurityOptions?: string[] | null } = await this.#engine.call((docker) =>
      docker.info(),
    );
    const mapping = (info.SecurityOptions ?? []).find((option) => /^name=(?:rootless|userns)\b/.test(option));
    if (mapping !== undefined) return `the engine maps users (${mapping.slice("name=".length)})`;
    // A different name suggests that one of the two runs in a container or virtual machine. Mode
    // `loop` skips this check, for installations where the names differ for another reason.
    if (this.#deps.mode === "auto" && info.Name !== hostname())
      return `the engine is on "${info.Name}", not on "${hostname()}"`;
    return await this.#loops.obstacle();
  }

  /** @returns true when the workspace is full. */
  async #measure(info: Docker.ContainerInspectInfo): Promise<boolean> {
    const { kind, sizeMb } = readSettings(info);
    switch (kind) {
      case "tmpfs":
        return false;
      case "loop":
        return await this.#loops.isFull(getVolumeName(info) ?? "");
      case "watch":
        return sizeMb !== null && (await this.#measureWatched(info, sizeMb * MIB));
    }
  }

  async #measureWatched(info: Docker.ContainerInspectInfo, limit: number): Promise<boolean> {
    const begun = Date.now();
    const { bytes, files } = await this.#measureUsage(info);
    this.#measured.set(getVolumeName(info) ?? "", bytes);
    const free = { bytes: limit - bytes, files: limit / INODE_BYTES - files };
    const earliestFull = Math.min(free.bytes / WRITE_RATE.bytes, free.files / WRITE_RATE.files);
    const pause = Math.max(PAUSE.min, earliestFull, (Date.now() - begun) * PAUSE.factor);
    if (info.State.Running) this.#pauses.set(info.Id, Math.min(PAUSE.max, pause));
    else this.#pauses.delete(info.Id);
    return free.bytes < 0 || free.files < 0;
  }

  /** By `du` where the files are readable here; else by the engine, which counts no files. */
  async #measureUsage(info: Docker.ContainerInspectInfo): Promise<DiskUsage> {
    const path = info.Mounts.find(({ Destination }) => Destination === WORKSPACE)?.Source ?? "";
    if (this.#isLocal && process.getuid?.() === 0 && existsSync(path)) return await measureDirectory(path);
    return await measureVolume(this.#engine, getVolumeName(info));
  }
}

const toEntries = (name: string, bytes: number | undefined): [string, number][] =>
  bytes === undefined ? [] : [[name, bytes]];

const describeWatch = (reason: string): string =>
  `the kernel does not enforce the size of workspaces (${reason.slice(0, 80)}): a worker above its limit is killed some seconds later, and a kept setup is unpacked instead of copied as a disk`;
