/**
 * Settings of a container on a task's image. Of the image's own settings only the environment is
 * kept, for its tools. The image is untrusted: its settings, like its files, may be hostile.
 */
import { posix } from "node:path";
import type { ContainerCreateOptions, ImageInspectInfo } from "dockerode";
import { WORKER_ENV } from "../../../core/protocol/worker.ts";
import { WORKER_DIR } from "../container-spec.ts";

/** The worker's Node. It is not on the PATH, so that tools find the image's own Node. */
export const NODE_FILE = `${WORKER_DIR}/node`;
const WORKER_FILE = `${WORKER_DIR}/worker.mjs`;

/**
 * A volume that the image declares would be unbounded disk of the host. A tmpfs of this size, which
 * counts as the task's memory, replaces it.
 */
const VOLUME_BYTES = 64 * 1_024 * 1_024;
/**
 * Variables that would affect the worker, its loader, its shell or its git. Programs of the agent
 * get them; see WORKER_ENV.imageEnvironment.
 */
const CLEARED = new RegExp(
  "^(LD_|GLIBC_|MALLOC_|NODE_(?!VERSION$|EXTRA_CA_CERTS$)|GIT_|OPENSSL_|SLIPWAY_" +
    "|BASH_ENV$|BASH_FUNC|ENV$|SHELLOPTS$|BASHOPTS$)",
);

/** Paths that the image declares as volumes, normalised. */
export function listImageVolumes(image: ImageInspectInfo): string[] {
  const declared: unknown = image.Config.Volumes;
  if (typeof declared !== "object" || declared === null) return [];
  return [...new Set(Object.keys(declared).map((path) => posix.resolve("/", path)))].toSorted();
}

/** Tmpfs mounts that replace the image's volumes, except at paths that are mounted already. */
export function createVolumeReplacements(volumes: readonly string[], mounted: readonly string[]) {
  return volumes
    .filter((path) => !mounted.includes(path))
    .map((path) => ({
      Type: "tmpfs" as const,
      Source: "",
      Target: path,
      TmpfsOptions: { SizeBytes: VOLUME_BYTES, Mode: 0o1777 },
    }));
}

function parseVariable(assignment: string): [name: string, value: string] {
  const at = assignment.indexOf("=");
  return [assignment.slice(0, at), assignment.slice(at + 1)];
}

/**
 * @param body a container on Slipway's own image.
 * @param image the derived image.
 */
export function overrideImageSettings(body: ContainerCreateOptions, image: ImageInspectInfo): ContainerCreateOptions {
  const env = body.Env ?? [];
  const names = new Set(env.map((assignment) => parseVariable(assignment)[0]));
  const cleared = (image.Config.Env ?? [])
    .map(parseVariable)
    .filter(([name]) => CLEARED.test(name) && !names.has(name));
  const forPrograms = cleared.filter(([name]) => !name.startsWith("SLIPWAY_"));
  const mounts = body.HostConfig?.Mounts ?? [];
  const mounted = [...mounts.map(({ Target }) => Target), ...Object.keys(body.HostConfig?.Tmpfs ?? {})];
  return {
    ...body,
    Image: image.Id,
    Entrypoint: [NODE_FILE, WORKER_FILE],
    Cmd: [],
    Env: [
      ...env,
      ...cleared.map(([name]) => `${name}=`),
      `${WORKER_ENV.imageEnvironment}=${JSON.stringify(Object.fromEntries(forPrograms))}`,
    ],
    Healthcheck: { Test: ["NONE"] },
    StopSignal: "SIGTERM",
    HostConfig: {
      ...body.HostConfig,
      Mounts: [...mounts, ...createVolumeReplacements(listImageVolumes(image), mounted)],
    },
  };
}
