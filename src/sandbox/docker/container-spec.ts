/**
 * The settings of a worker's container. A task chooses memory, processors and disk within the
 * server's limits; every other field is the server's.
 */
import type { ContainerCreateOptions, HostConfig, MountSettings } from "dockerode";
import { WORKER_ENV } from "../../core/protocol/worker.ts";
import type { SandboxSpec } from "../../core/ports/sandbox.ts";

/**
 * User and group of the worker (`agent` in the worker image). The broker's socket and its folder
 * must be accessible to it.
 */
export const WORKER_UID = 10_001;
/**
 * Labels cannot change after creation. A container made for an attempt carries `task` and
 * `attempt`; one made by the warm pool carries `pool`, and its name identifies the attempt that
 * claimed it. Unused labels are set to "", because an absent one would be inherited from the image.
 */
export const LABELS = {
  instance: "slipway.instance",
  task: "slipway.task",
  attempt: "slipway.attempt",
  pool: "slipway.pool",
  disk: "slipway.disk",
  /** The digest of the setup that the workspace began with. */
  setup: "slipway.setup",
  /** With an exec tunnel: the broker's socket folder on the coordinator's machine. */
  socketDir: "slipway.door",
} as const;
/** Mount point of the socket folder in the container. */
export const SOCKET_TARGET = "/run/slipway";
export const WORKSPACE = "/workspace";
/** Location of the worker's program in every image. */
export const WORKER_DIR = "/worker";
/** Bytes of workspace per inode: the default of mkfs.ext4. */
export const INODE_BYTES = 16_384;

/** A private cgroup namespace; dockerode's types lack the field. */
const PRIVATE_CGROUPS: object = { CgroupnsMode: "private" };
const MIB = 1_024 * 1_024;

/** What is mounted as the workspace, at most `sizeMb` MiB. */
export type Workspace =
  | {
      readonly kind: "loop";
      readonly sizeMb: number;
      /** Path on the engine's machine. */
      readonly device: string;
    }
  | { readonly kind: "watch"; readonly sizeMb: number }
  | { readonly kind: "tmpfs"; readonly sizeMb: number };

export interface ContainerDefaults {
  readonly image: string;
  readonly instance: string;
  readonly memoryMb: number;
  readonly cpus: number;
  readonly pids: number;
  /** Slipway's seccomp profile; null = the engine's. */
  readonly seccomp: string | null;
  /**
   * The socket folder as a path on the engine's machine; null = the engine cannot mount it, and the
   * worker uses an exec tunnel.
   */
  readonly socketDir: string | null;
  readonly workspace: Workspace;
}

export function createLabels(instance: string, spec: SandboxSpec): Record<string, string> {
  return { [LABELS.instance]: instance, [LABELS.task]: spec.taskId, [LABELS.attempt]: String(spec.attempt) };
}

const OWNED = `uid=${WORKER_UID},gid=${WORKER_UID}`;

/**
 * A volume named after the container. The engine creates it with the container unless it exists. A
 * `watch` volume takes over the owner of the image's folder (the engine copies the folder into it).
 */
function createVolumeMount(
  name: string,
  instance: string,
  workspace: Exclude<Workspace, { kind: "tmpfs" }>,
): MountSettings {
  const DriverConfig = {
    Name: "local",
    Options:
      workspace.kind === "watch"
        ? {}
        : { type: "ext4", device: workspace.device, o: "nosuid,nodev,noatime,noinit_itable" },
  };
  const Labels = { [LABELS.instance]: instance, [LABELS.disk]: String(workspace.sizeMb) };
  // The copy into a loop volume would need its device when the container is created; the device may
  // be attached later.
  return {
    Type: "volume",
    Source: name,
    Target: WORKSPACE,
    VolumeOptions: { NoCopy: workspace.kind === "loop", Labels, DriverConfig },
  };
}

/** Tmpfs counts as the container's memory, so it gets at most half of that. */
function createTmpfsOptions({ sizeMb }: Workspace, memoryMb: number): string {
  const size = Math.min(sizeMb, Math.floor(memoryMb / 2));
  return `rw,exec,nosuid,nodev,size=${size}m,nr_inodes=${Math.floor((size * MIB) / INODE_BYTES)},mode=0755,${OWNED}`;
}

function createMounts(name: string, { instance, socketDir, workspace }: ContainerDefaults): MountSettings[] {
  const mounts: MountSettings[] = [];
  if (socketDir !== null) mounts.push({ Type: "bind", Source: socketDir, Target: SOCKET_TARGET, ReadOnly: true });
  if (workspace.kind !== "tmpfs") mounts.push(createVolumeMount(name, instance, workspace));
  return mounts;
}

function createTmpfs({ socketDir, workspace }: ContainerDefaults, memoryMb: number): Record<string, string> {
  return {
    "/tmp": "rw,exec,nosuid,nodev,size=1g,nr_inodes=200000,mode=1777",
    ...(socketDir === null
      ? { [SOCKET_TARGET]: `rw,noexec,nosuid,nodev,size=64k,nr_inodes=16,mode=0700,${OWNED}` }
      : {}),
    "/home/agent": `rw,exec,nosuid,nodev,size=512m,nr_inodes=100000,mode=0700,${OWNED}`,
    ...(workspace.kind === "tmpfs" ? { [WORKSPACE]: createTmpfsOptions(workspace, memoryMb) } : {}),
  };
}

/**
 * No network, no capabilities, read-only image, no swap, no new privileges. The broker's socket is
 * the only way out. Its folder is mounted instead of the file, because a restarted broker creates a
 * new file; a read-only mount still allows connecting. AutoRemove stays off, because the exit code
 * is read from the stopped container.
 */
function createHostConfig({ name, limits }: SandboxSpec, defaults: ContainerDefaults): HostConfig {
  const memoryMb = limits.memoryMb ?? defaults.memoryMb;
  return {
    NetworkMode: "none",
    CapDrop: ["ALL"],
    Privileged: false,
    SecurityOpt: ["no-new-privileges:true", ...(defaults.seccomp === null ? [] : [`seccomp=${defaults.seccomp}`])],
    ReadonlyRootfs: true,
    Init: true,
    AutoRemove: false,
    RestartPolicy: { Name: "no" },
    IpcMode: "private",
    ...PRIVATE_CGROUPS,
    ShmSize: 64 * MIB,
    PidsLimit: defaults.pids,
    Memory: memoryMb * MIB,
    MemorySwap: memoryMb * MIB,
    NanoCpus: Math.round((limits.cpus ?? defaults.cpus) * 1e9),
    CpuShares: 512,
    OomScoreAdj: 500,
    Ulimits: [
      { Name: "nofile", Soft: 8_192, Hard: 16_384 },
      { Name: "core", Soft: 0, Hard: 0 },
    ],
    Tmpfs: createTmpfs(defaults, memoryMb),
    LogConfig: { Type: "json-file", Config: { "max-size": "10m", "max-file": "2" } },
    Mounts: createMounts(name, defaults),
  };
}

export function createContainerSpec(spec: SandboxSpec, defaults: ContainerDefaults): ContainerCreateOptions {
  return {
    name: spec.name,
    Image: defaults.image,
    Labels: {
      ...createLabels(defaults.instance, spec),
      [LABELS.pool]: "",
      [LABELS.setup]: "",
      [LABELS.socketDir]: defaults.socketDir === null ? spec.socketDir : "",
    },
    User: `${WORKER_UID}:${WORKER_UID}`,
    WorkingDir: WORKSPACE,
    Env: [
      "HOME=/home/agent",
      "LANG=C.UTF-8",
      // Compiled code of the worker, written during the image's build (Dockerfile). The worker does
      // not pass it on to the agent's programs.
      `NODE_COMPILE_CACHE=${WORKER_DIR}/cache`,
      `${WORKER_ENV.socket}=${SOCKET_TARGET}/b.sock`,
      `${WORKER_ENV.token}=${spec.token}`,
      `${WORKER_ENV.attempt}=${spec.attempt}`,
      `${WORKER_ENV.workspace}=${WORKSPACE}`,
      `${WORKER_ENV.state}=/home/agent/state`,
    ],
    Tty: false,
    OpenStdin: false,
    // Disables a health check of the image, which would run beside the worker.
    Healthcheck: { Test: ["NONE"] },
    HostConfig: createHostConfig(spec, defaults),
  };
}
