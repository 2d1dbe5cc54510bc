/**
 * Workspaces that begin as a copy of a disk image with what a setup made (decision 072). Only where
 * each workspace is a loop device: an image is made on one, and copied to be another.
 */
import { randomBytes } from "node:crypto";
import { chmod } from "node:fs/promises";
import { resolve } from "node:path";
import { z } from "zod";
import { SETUP_FOLDER } from "../../../core/protocol/worker.ts";
import type { SandboxSpec, SetupDisk, SetupDiskPlace, SetupPlace } from "../../../core/ports/sandbox.ts";
import type { ContainerInfo } from "../containers.ts";
import { createContainerSpec, LABELS, WORKSPACE } from "../container-spec.ts";
import type { Engine } from "../engine.ts";
import { overrideImageSettings } from "../image/image-overrides.ts";
import { PREPARE_LABEL } from "../image/names.ts";
import { inspectImage } from "../image/worker-image.ts";
import { readLogTail } from "../transport/stream-demux.ts";
import type { WorkspaceDisks } from "./workspace-disk.ts";

export interface SetupDisksDeps {
  readonly engine: Engine;
  readonly instance: string;
  readonly disks: WorkspaceDisks;
  /** See createProfileLoader. */
  readonly loadProfile: () => Promise<string | null>;
  /** Maps a path of this machine to the engine's machine. */
  readonly toHost: (path: string) => string;
}

export interface SetupFiles {
  readonly archive: string;
  readonly disk: string;
}

const ENVIRONMENT = "image ";
const ARCHIVE = "/setup.tar";
const MAKE_MS = 120_000;
const LIMITS = { memoryMb: 1_024, cpus: 1, pids: 64 } as const;

/**
 * The home folder of a worker is not on its disk, so its files stay in an archive. Folders without
 * the right to write, as those of Go's modules, would keep theirs.
 */
const SCRIPT = `
set -e
mkdir ${WORKSPACE}/${SETUP_FOLDER}
cd ${WORKSPACE}/${SETUP_FOLDER}
tar -x -p -f ${ARCHIVE} --no-same-owner
if [ -d home ]; then
  shopt -s dotglob nullglob
  set -- home/agent/*
  [ $# = 0 ] || tar -c -f home.tar "$@"
  chmod -R u+rwX home
  rm -rf home
fi
`;

export class SetupDisks {
  readonly #deps: SetupDisksDeps;

  constructor(deps: SetupDisksDeps) {
    this.#deps = deps;
  }

  /** See Sandbox.setupPlace. */
  async place(info: ContainerInfo): Promise<SetupPlace> {
    return {
      environment: ENVIRONMENT + info.Image,
      folder: null,
      digest: info.Config.Labels[LABELS.setup] || null,
      sizeMb: (await this.#deps.disks.bound()).kind === "loop" ? this.#deps.disks.sizeOf(info) : null,
    };
  }

  /**
   * What the workspace of a container on this image may begin as; null = it begins empty.
   * @param image name or id.
   */
  async find(spec: SandboxSpec, image: string, signal: AbortSignal): Promise<SetupDisk | null> {
    const { disks, engine } = this.#deps;
    if (spec.findSetupDisk === undefined || (await disks.bound()).kind !== "loop") return null;
    const found = await inspectImage(engine, image, signal);
    if (found === null) return null;
    const { sizeMb } = await disks.workspace(spec);
    return await spec.findSetupDisk({ environment: ENVIRONMENT + found.Id, sizeMb });
  }

  /** See Sandbox.makeSetupDisk. */
  async make({ environment, sizeMb }: SetupDiskPlace, { archive, disk }: SetupFiles, signal: AbortSignal) {
    const { disks } = this.#deps;
    // Where a crash leaves it, it is removed like the other probes (removeUnusedVolumes).
    const name = `probe-setup-${randomBytes(6).toString("hex")}`;
    const spec = { name, taskId: "", attempt: 0, socketDir: "/nowhere", token: "", limits: { diskMb: sizeMb } };
    // The folder around it is the coordinator's alone.
    await chmod(archive, 0o644);
    try {
      await disks.make(spec);
      await this.#unpack(spec, environment.slice(ENVIRONMENT.length), archive, signal);
      await disks.keep(name, disk);
    } finally {
      // Only then it is not mounted any more.
      await disks.remove(name);
    }
  }

  /** In a container like a worker's, without a way out. */
  async #unpack(spec: SandboxSpec, image: string, archive: string, signal: AbortSignal): Promise<void> {
    const { engine, instance, disks, loadProfile, toHost } = this.#deps;
    const found = await inspectImage(engine, image, signal);
    if (found === null) throw new Error("its image is gone");
    const workspace = await disks.workspace(spec);
    const seccomp = await loadProfile();
    const { name: _, ...body } = overrideImageSettings(
      createContainerSpec(spec, { image: found.Id, instance, socketDir: null, seccomp, workspace, ...LIMITS }),
      found,
    );
    const input = { Type: "bind", Source: toHost(resolve(archive)), Target: ARCHIVE, ReadOnly: true } as const;
    const { id } = await engine.call(
      (docker) =>
        docker.createContainer({
          ...body,
          Labels: { [PREPARE_LABEL]: instance },
          Entrypoint: ["/bin/bash", "-c", SCRIPT],
          HostConfig: { ...body.HostConfig, Mounts: [...(body.HostConfig?.Mounts ?? []), input] },
        }),
      signal,
    );
    try {
      await engine.call((docker) => docker.getContainer(id).start(), signal);
      const ended: unknown = await engine.call((docker) => docker.getContainer(id).wait(), signal, MAKE_MS);
      const { StatusCode: exitCode } = z.object({ StatusCode: z.number() }).parse(ended);
      if (exitCode !== 0) throw new Error(`it ended with ${exitCode}: ${(await readLogTail(engine, id)).slice(-300)}`);
    } finally {
      await engine.call((docker) => docker.getContainer(id).remove({ force: true, v: true })).catch(() => undefined);
    }
  }
}
