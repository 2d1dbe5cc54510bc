/**
 * Where a worker writes, and what keeps it from writing more than it may (decision 011).
 *
 *   loop    a volume on a loop device: the kernel refuses what is too much, the worker sees ENOSPC
 *   watch   a plain volume: measured every few seconds, and a worker that has written too much is ended
 *   tmpfs   memory of the container: bounded by the kernel, gone when the worker ends
 *
 * A volume is named after the container that it was made for, and goes with it.
 */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { hostname } from "node:os";
import { promisify } from "node:util";
import type Docker from "dockerode";
import { TaskFailure } from "../../../core/failure.ts";
import { INODE_BYTES, LABELS, WORKSPACE, type Workspace } from "../container-spec.ts";
import { isLocalEngine, hasStatus, type Engine } from "../engine.ts";
import { openLoopDevices, type DiskImage } from "./loop-devices.ts";
import type { HardeningCheck, SandboxSpec } from "../../../core/ports/sandbox.ts";

export interface DiskOptions {
  /** `auto` = loop where it works, else watch. */
  readonly mode: "auto" | "loop" | "watch" | "tmpfs";
  /** Where images lie: a folder of the coordinator's own. */
  readonly dir: string;
  /** For tasks that name no size, MiB. */
  readonly defaultMb: number;
}

/** What needs nothing of this machine. */
export const PLAIN_DISK: DiskOptions = { mode: "watch", dir: "", defaultMb: 4_096 };

export interface DiskDeps extends DiskOptions {
  readonly engine: Engine;
  /** False when the engine was chosen in another way than by the environment. */
  readonly byEnvironment: boolean;
  /** A path of this machine as the engine's machine calls it. */
  readonly onHost: (path: string) => string;
  readonly crashpoint: (name: string) => void;
}

export interface DiskBound {
  readonly kind: Workspace["kind"];
  /** For people. */
  readonly words: string;
}

export interface WorkspaceDisks {
  /**
   * How workspaces are bounded here. Rejects with `sandbox_unavailable` when mode `loop` does not
   * work.
   */
  bound(): Promise<DiskBound>;
  /** What a container of that name is told to mount. Makes nothing. */
  workspace(spec: SandboxSpec): Promise<Workspace>;
  /** Makes what must be there before the container starts. Idempotent. */
  make(spec: SandboxSpec): Promise<void>;
  /**
   * Before a container is started or read: what a restart of the machine took away is put back, and
   * what one that never ran lacks is made.
   */
  ready(info: Docker.ContainerInspectInfo): Promise<void>;
  /** True when the container's workspace is not bounded by the kernel. */
  isWatched(info: Docker.ContainerInspectInfo): boolean;
  /**
   * True when a watched workspace holds too much, or one that is bounded has nothing left; asked of
   * the latter only when it has stopped. What cannot be measured is not full.
   */
  isFull(info: Docker.ContainerInspectInfo): Promise<boolean>;
  /**
   * How long a watched workspace may rest after the last look at it, ms: it could not be full
   * before, on a disk of ordinary speed.
   */
  restMs(info: Docker.ContainerInspectInfo): number;
  /** Takes away the volume and what is behind it. Idempotent. Rejects while a container uses it. */
  remove(volume: string): Promise<void>;
  images(): DiskImage[];
  /** See Sandbox.storage. */
  storage(): Promise<string | null>;
}

const TIMEOUT_MS = 60_000;
/** Longest time for a container that is gone to let go of its volume, ms. */
const BUSY_MS = 5_000;
const MIB = 1_024 * 1_024;
/** What a worker may be expected to write, per ms. */
const PACE = { bytes: 0.5 * MIB, files: 50 } as const;
/** Between two looks at a workspace, ms. Looking takes a tenth of the time at most. */
const REST = { least: 500, most: 5_000, share: 10 } as const;

export function diskHardeningCheck({ kind, words }: DiskBound): HardeningCheck {
  return { name: "disk of workers", state: kind === "loop" ? "full" : "weaker", detail: words };
}

/** The name of the volume that holds the workspace; null = none. */
export function volumeName(info: Docker.ContainerInspectInfo): string | null {
  return info.Mounts.find((mount) => mount.Destination === WORKSPACE)?.Name ?? null;
}

interface Asked {
  readonly kind: Workspace["kind"];
  readonly sizeMb: number | null;
}

/** What the container was made with. */
function askedOf(info: Docker.ContainerInspectInfo): Asked {
  const mount = info.HostConfig.Mounts?.find(({ Target }) => Target === WORKSPACE);
  if (mount === undefined) return { kind: "tmpfs", sizeMb: null };
  const options = mount.VolumeOptions;
  const sizeMb = Number(options?.Labels?.[LABELS.disk] ?? 0);
  return {
    kind: options?.DriverConfig?.Options?.["type"] === "ext4" ? "loop" : "watch",
    sizeMb: sizeMb > 0 ? sizeMb : null,
  };
}

export function openWorkspaceDisks(deps: DiskDeps): WorkspaceDisks {
  const { engine } = deps;
  const loops = openLoopDevices(deps.dir, deps.crashpoint);
  const isHere = isLocalEngine() && deps.byEnvironment;
  /** Ids of containers that were seen to hold too much: who is ended for it is judged by that. */
  const overfull = new Set<string>();
  /** By id of the container: what the last look allows. */
  const rests = new Map<string, number>();
  let decided: Promise<DiskBound> | null = null;
  let root: Promise<string | null> | null = null;

  async function rootDir(): Promise<string | null> {
    if (!isHere) return null;
    try {
      const { DockerRootDir }: { DockerRootDir?: string } = await engine.call((docker) => docker.info());
      return DockerRootDir !== undefined && existsSync(DockerRootDir) ? DockerRootDir : null;
    } catch {
      root = null;
      return null;
    }
  }

  /** The engine must be on this very machine, and mount as its root. */
  async function whyNoLoops(): Promise<string | null> {
    if (!isHere) return "the engine is on another machine";
    const info: { Name?: string; SecurityOptions?: string[] | null } = await engine.call((docker) => docker.info());
    const special = (info.SecurityOptions ?? []).find((one) => /^name=(?:rootless|userns)\b/.test(one));
    if (special !== undefined) return `the engine maps users (${special.slice("name=".length)})`;
    // In a container or a virtual machine of its own; whoever knows better says so.
    if (deps.mode === "auto" && info.Name !== hostname())
      return `the engine is on "${info.Name}", not on "${hostname()}"`;
    return await loops.missing();
  }

  async function decide(): Promise<DiskBound> {
    switch (deps.mode) {
      case "tmpfs":
        return { kind: "tmpfs", words: "workspaces are memory, bounded by the kernel, and cannot be salvaged" };
      case "watch":
        return { kind: "watch", words: weaker("SLIPWAY_DISK=watch") };
      case "auto":
      case "loop": {
        const why = await whyNoLoops();
        if (why === null) return { kind: "loop", words: "workspaces are bounded by the kernel (loop devices)" };
        if (deps.mode === "auto") return { kind: "watch", words: weaker(why) };
        throw new TaskFailure("sandbox_unavailable", {
          detail: `SLIPWAY_DISK=loop does not work here: ${why.slice(0, 120)}.`,
        });
      }
    }
  }

  function bound(): Promise<DiskBound> {
    decided ??= decide();
    decided.catch(() => (decided = null));
    return decided;
  }

  const sizeOf = ({ limits }: SandboxSpec): number => limits.diskMb ?? deps.defaultMb;

  async function workspace(spec: SandboxSpec): Promise<Workspace> {
    const { kind } = await bound();
    const sizeMb = sizeOf(spec);
    return kind === "loop" ? { kind, sizeMb, device: deps.onHost(loops.deviceOf(spec.name)) } : { kind, sizeMb };
  }

  async function remove(volume: string): Promise<void> {
    for (const end = Date.now() + BUSY_MS; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
      try {
        await engine.call((docker, stop) => docker.getVolume(volume).remove({ abortSignal: stop }));
        break;
      } catch (error) {
        if (hasStatus(error, 404)) break;
        if (!hasStatus(error, 409) || Date.now() > end) throw error;
      }
    }
    deps.crashpoint("disk.volume.removed");
    await loops.detach(volume);
  }

  /** Bytes and files; what cannot be read here is asked of the engine, which counts no files. */
  async function measure(info: Docker.ContainerInspectInfo): Promise<{ bytes: number; files: number }> {
    const path = info.Mounts.find((mount) => mount.Destination === WORKSPACE)?.Source ?? "";
    if (isHere && process.getuid?.() === 0 && existsSync(path)) {
      const [bytes, files] = await Promise.all([du(path, "--block-size=1"), du(path, "--inodes")]);
      return { bytes, files };
    }
    const name = volumeName(info);
    const usage: { Volumes?: readonly { Name: string; UsageData?: { Size: number } | null }[] | null } =
      await engine.call((docker) => docker.df(), undefined, TIMEOUT_MS);
    return { bytes: usage.Volumes?.find((one) => one.Name === name)?.UsageData?.Size ?? 0, files: 0 };
  }

  async function isFull(info: Docker.ContainerInspectInfo): Promise<boolean> {
    if (overfull.has(info.Id)) return true;
    const full = await look(info).catch(() => false);
    if (full && askedOf(info).kind === "watch") overfull.add(info.Id);
    return full;
  }

  async function look(info: Docker.ContainerInspectInfo): Promise<boolean> {
    const { kind, sizeMb } = askedOf(info);
    switch (kind) {
      case "tmpfs":
        return false;
      case "loop":
        return await loops.isFull(volumeName(info) ?? "");
      case "watch": {
        if (sizeMb === null) return false;
        const begun = Date.now();
        const { bytes, files } = await measure(info);
        const left = { bytes: sizeMb * MIB - bytes, files: (sizeMb * MIB) / INODE_BYTES - files };
        const full = Math.min(left.bytes / PACE.bytes, left.files / PACE.files);
        if (!info.State.Running) rests.delete(info.Id);
        else rests.set(info.Id, Math.min(REST.most, Math.max(REST.least, full, (Date.now() - begun) * REST.share)));
        return left.bytes < 0 || left.files < 0;
      }
    }
  }

  return {
    bound,
    workspace,
    async make(spec) {
      if ((await bound()).kind === "loop") await loops.attach(spec.name, sizeOf(spec));
    },
    async ready(info) {
      const volume = volumeName(info);
      if (askedOf(info).kind === "tmpfs" && info.State.Status !== "created")
        throw new TaskFailure("internal", { detail: "A workspace in memory ends with its worker." });
      const { kind, sizeMb } = askedOf(info);
      if (kind !== "loop" || volume === null) return;
      // The engine's list and the files are written by one who may have died in between.
      if (info.State.Status === "created" && sizeMb !== null) return await loops.attach(volume, sizeMb);
      if (await loops.reattach(volume)) return;
      throw new TaskFailure("sandbox_unavailable", { detail: `The disk of ${volume} is gone.` });
    },
    isWatched: (info) => askedOf(info).kind === "watch",
    isFull,
    restMs: ({ Id }) => rests.get(Id) ?? REST.most,
    remove,
    images: () => loops.list(),
    storage: () => (root ??= rootDir()),
  };
}

const weaker = (why: string): string =>
  `workspaces have no bound that the kernel keeps (${why.slice(0, 80)}): a worker that writes more than its limit is ended some seconds later`;

/** A tree that changes meanwhile makes it complain, and still count. */
async function du(path: string, unit: string): Promise<number> {
  const { stdout } = await promisify(execFile)("du", ["-sx", unit, "--", path], {
    timeout: TIMEOUT_MS,
    env: { PATH: process.env["PATH"] ?? "", LC_ALL: "C" },
  }).catch((error: unknown) => {
    if (error instanceof Error && "stdout" in error && typeof error.stdout === "string" && error.stdout !== "")
      return { stdout: error.stdout };
    throw error;
  });
  return Number(/^\d+/.exec(stdout)?.[0] ?? 0);
}
