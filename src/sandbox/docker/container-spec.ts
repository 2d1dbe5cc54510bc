/**
 * What a worker's container is made of. Every field is the server's; a task chooses only memory and
 * cores, within the server's limits.
 */
import type { ContainerCreateOptions, MountSettings } from "dockerode";
import { WORKER_ENV } from "../../core/protocol/worker.ts";
import type { SandboxSpec } from "../../core/ports/sandbox.ts";

/**
 * The user `agent` of the worker image. The broker's socket and its folder must be open to this
 * number.
 */
export const WORKER_UID = 10_001;
/**
 * A container has either task and attempt, or `pool`: then its name says whose it is, because
 * labels stay as they were made. The others are empty: what is not set would be taken from the
 * image.
 */
export const LABELS = {
  instance: "slipway.instance",
  task: "slipway.task",
  attempt: "slipway.attempt",
  pool: "slipway.pool",
  disk: "slipway.disk",
  /** Of a container with a tunnel: where on our machine it leads. */
  door: "slipway.door",
} as const;
/** Where the container sees its socket folder. */
export const SOCKET_TARGET = "/run/slipway";
export const WORKSPACE = "/workspace";
/** Where the worker's program lies in every image. */
export const WORKER_DIR = "/worker";
/** One file for so many bytes of the workspace: what ext4 itself takes for ordinary use. */
export const INODE_BYTES = 16_384;

/** Its own view of the control groups; the types of the client do not know the field. */
const OWN_CGROUPS: object = { CgroupnsMode: "private" };
const MIB = 1_024 * 1_024;

/**
 * What is mounted as the workspace, at most `sizeMb` MiB; `device` is a path on the engine's
 * machine.
 */
export type Workspace =
  | { readonly kind: "loop"; readonly sizeMb: number; readonly device: string }
  | { readonly kind: "watch"; readonly sizeMb: number }
  | { readonly kind: "tmpfs"; readonly sizeMb: number };

export interface ContainerDefaults {
  readonly image: string;
  readonly instance: string;
  readonly memoryMb: number;
  readonly cpus: number;
  readonly pids: number;
  /** Our own list of system calls; null = the engine's. */
  readonly seccomp: string | null;
  /**
   * The socket folder as the engine's machine calls it; null = the engine does not see our files,
   * and the door is a tunnel (tunnel.ts).
   */
  readonly socketDir: string | null;
  readonly workspace: Workspace;
}

export function createLabels(instance: string, spec: SandboxSpec): Record<string, string> {
  return { [LABELS.instance]: instance, [LABELS.task]: spec.taskId, [LABELS.attempt]: String(spec.attempt) };
}

const OWNED = `uid=${WORKER_UID},gid=${WORKER_UID}`;

/**
 * A volume is made with the container, named after it, unless it is there already; a plain one
 * takes over the owner of the image's folder.
 */
function volumeOf(name: string, instance: string, workspace: Exclude<Workspace, { kind: "tmpfs" }>): MountSettings {
  const DriverConfig = {
    Name: "local",
    Options:
      workspace.kind === "watch"
        ? {}
        : { type: "ext4", device: workspace.device, o: "nosuid,nodev,noatime,noinit_itable" },
  };
  const Labels = { [LABELS.instance]: instance, [LABELS.disk]: String(workspace.sizeMb) };
  // A copy would need the device as soon as the container is created.
  return {
    Type: "volume",
    Source: name,
    Target: WORKSPACE,
    VolumeOptions: { NoCopy: workspace.kind === "loop", Labels, DriverConfig },
  };
}

/** Memory of the container: it may not have all of it. */
function tmpfsOf({ sizeMb }: Workspace, memoryMb: number): string {
  const size = Math.min(sizeMb, Math.floor(memoryMb / 2));
  return `rw,exec,nosuid,nodev,size=${size}m,nr_inodes=${Math.floor((size * MIB) / INODE_BYTES)},mode=0755,${OWNED}`;
}
const doorOf = (source: string | null): MountSettings[] =>
  source === null ? [] : [{ Type: "bind", Source: source, Target: SOCKET_TARGET, ReadOnly: true }];

/**
 * No network, no capabilities, no writable image, no swap, no new privileges. The only door is the
 * broker's socket; its folder is mounted, not the file, because a restarted broker makes a new
 * file. A read-only mount still lets a process connect. AutoRemove stays off: the exit code is read
 * from the stopped container.
 */
export function createContainerSpec(spec: SandboxSpec, defaults: ContainerDefaults): ContainerCreateOptions {
  const memoryMb = spec.limits.memoryMb ?? defaults.memoryMb;
  const tunnelled = defaults.socketDir === null;
  const { workspace } = defaults;
  return {
    name: spec.name,
    Image: defaults.image,
    Labels: {
      ...createLabels(defaults.instance, spec),
      [LABELS.pool]: "",
      [LABELS.door]: tunnelled ? spec.socketDir : "",
    },
    User: `${WORKER_UID}:${WORKER_UID}`,
    WorkingDir: WORKSPACE,
    Env: [
      "HOME=/home/agent",
      "LANG=C.UTF-8",
      // What the image's build has compiled of the worker (Dockerfile); it is not passed on to the
      // agent's programs.
      `NODE_COMPILE_CACHE=${WORKER_DIR}/cache`,
      `${WORKER_ENV.socket}=${SOCKET_TARGET}/b.sock`,
      `${WORKER_ENV.token}=${spec.token}`,
      `${WORKER_ENV.attempt}=${spec.attempt}`,
      `${WORKER_ENV.workspace}=${WORKSPACE}`,
      `${WORKER_ENV.state}=/home/agent/state`,
    ],
    Tty: false,
    OpenStdin: false,
    // An image may bring a check that would run beside the worker.
    Healthcheck: { Test: ["NONE"] },
    HostConfig: {
      NetworkMode: "none",
      CapDrop: ["ALL"],
      Privileged: false,
      SecurityOpt: ["no-new-privileges:true", ...(defaults.seccomp === null ? [] : [`seccomp=${defaults.seccomp}`])],
      ReadonlyRootfs: true,
      Init: true,
      AutoRemove: false,
      RestartPolicy: { Name: "no" },
      IpcMode: "private",
      ...OWN_CGROUPS,
      ShmSize: 64 * MIB,
      PidsLimit: defaults.pids,
      Memory: memoryMb * MIB,
      MemorySwap: memoryMb * MIB,
      NanoCpus: Math.round((spec.limits.cpus ?? defaults.cpus) * 1e9),
      CpuShares: 512,
      OomScoreAdj: 500,
      Ulimits: [
        { Name: "nofile", Soft: 8_192, Hard: 16_384 },
        { Name: "core", Soft: 0, Hard: 0 },
      ],
      Tmpfs: {
        "/tmp": "rw,exec,nosuid,nodev,size=1g,nr_inodes=200000,mode=1777",
        ...(tunnelled ? { [SOCKET_TARGET]: `rw,noexec,nosuid,nodev,size=64k,nr_inodes=16,mode=0700,${OWNED}` } : {}),
        "/home/agent": `rw,exec,nosuid,nodev,size=512m,nr_inodes=100000,mode=0700,${OWNED}`,
        ...(workspace.kind === "tmpfs" ? { [WORKSPACE]: tmpfsOf(workspace, memoryMb) } : {}),
      },
      LogConfig: { Type: "json-file", Config: { "max-size": "10m", "max-file": "2" } },
      Mounts: [
        ...doorOf(defaults.socketDir),
        ...(workspace.kind === "tmpfs" ? [] : [volumeOf(spec.name, defaults.instance, workspace)]),
      ],
    },
  };
}
