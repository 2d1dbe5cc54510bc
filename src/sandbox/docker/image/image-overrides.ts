/**
 * A worker's container on somebody else's image: nothing that the image says about how it is run
 * counts, but for the environment that its tools need. The image's own words are hostile, as is
 * everything in it.
 */
import { posix } from "node:path";
import type { ContainerCreateOptions, ImageInspectInfo } from "dockerode";
import { WORKER_DIR } from "../container-spec.ts";

/**
 * The worker's own Node, in an image of somebody else: not on the PATH, so that the image's own
 * stays the one that tools find.
 */
export const NODE_FILE = `${WORKER_DIR}/node`;
const WORKER_FILE = `${WORKER_DIR}/worker.mjs`;

const MIB = 1_024 * 1_024;
/**
 * A folder that the image declares a volume would be unbounded disk of the host. It gets this much
 * memory instead, which counts as the task's.
 */
const VOLUME_BYTES = 64 * MIB;
/** What would change the worker itself, its loader, its shell or its git. */
const CLEARED =
  /^(LD_|GLIBC_|MALLOC_|NODE_(?!VERSION$|EXTRA_CA_CERTS$)|GIT_|OPENSSL_|SLIPWAY_|BASH_ENV$|BASH_FUNC|ENV$|SHELLOPTS$|BASHOPTS$)/;

/** Paths that the image declares volumes, normalised. */
export function listImageVolumes(image: ImageInspectInfo): string[] {
  const declared: unknown = image.Config.Volumes;
  if (typeof declared !== "object" || declared === null) return [];
  return [...new Set(Object.keys(declared).map((path) => posix.resolve("/", path)))].toSorted();
}

/** Memory in place of the image's volumes, but for those that are mounted already. */
export function replacementConfig(volumes: readonly string[], taken: readonly string[]) {
  return volumes
    .filter((path) => !taken.includes(path))
    .map((path) => ({
      Type: "tmpfs" as const,
      Source: "",
      Target: path,
      TmpfsOptions: { SizeBytes: VOLUME_BYTES, Mode: 0o1777 },
    }));
}

/**
 * @param body a container for Slipway's own image. @param image the prepared image as the engine
 * describes it.
 */
export function overrideImageSettings(body: ContainerCreateOptions, image: ImageInspectInfo): ContainerCreateOptions {
  const own = body.Env ?? [];
  const names = new Set(own.map((one) => one.slice(0, one.indexOf("="))));
  const cleared = (image.Config.Env ?? [])
    .map((one) => one.slice(0, one.indexOf("=")))
    .filter((name) => CLEARED.test(name) && !names.has(name));
  const mounts = body.HostConfig?.Mounts ?? [];
  const taken = [...mounts.map((mount) => mount.Target), ...Object.keys(body.HostConfig?.Tmpfs ?? {})];
  return {
    ...body,
    Image: image.Id,
    Entrypoint: [NODE_FILE, WORKER_FILE],
    Cmd: [],
    Env: [...own, ...cleared.map((name) => `${name}=`)],
    Healthcheck: { Test: ["NONE"] },
    StopSignal: "SIGTERM",
    HostConfig: { ...body.HostConfig, Mounts: [...mounts, ...replacementConfig(listImageVolumes(image), taken)] },
  };
}
