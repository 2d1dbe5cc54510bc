/**
 * What an installation leaves on the machine when a test is done with it, taken away without its
 * help.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LABELS } from "../../../src/sandbox/docker/container-spec.ts";
import { LoopDevices } from "../../../src/sandbox/docker/disk/loop-devices.ts";
import { dockerClient } from "./engine.ts";

export interface Remains {
  readonly containers: string[];
  readonly volumes: string[];
  /** Images of file systems, and whatever else lies in their folder. */
  readonly files: string[];
  /** Loop devices that hold an image of that folder, removed or not. */
  readonly devices: string[];
}

export async function findRemains(instance: string, disks: string, docker = dockerClient()): Promise<Remains> {
  const filters = { label: [`${LABELS.instance}=${instance}`] };
  const containers = await docker.listContainers({ all: true, filters });
  const { Volumes } = await docker.listVolumes({ filters: JSON.stringify(filters) });
  return {
    containers: containers.map((one) => one.Names[0]?.slice(1) ?? one.Id),
    volumes: (Volumes ?? []).map(({ Name }) => Name),
    files: existsSync(disks) ? readdirSync(disks) : [],
    devices: devicesIn(disks),
  };
}

function devicesIn(disks: string): string[] {
  const block = "/sys/block";
  const loops = existsSync(block) ? readdirSync(block).filter((name) => name.startsWith("loop")) : [];
  return loops.filter((name) => {
    const file = join(block, name, "loop/backing_file");
    return existsSync(file) && readFileSync(file, "utf8").startsWith(`${disks}/`);
  });
}

/** Removes it all. `disks` is the folder of images. */
export async function removeRemains(instance: string, disks: string, docker = dockerClient()): Promise<void> {
  const { containers, volumes } = await findRemains(instance, disks, docker);
  for (const name of containers)
    await docker
      .getContainer(name)
      .remove({ force: true, v: true })
      .catch(() => undefined);
  for (const name of volumes)
    await docker
      .getVolume(name)
      .remove()
      .catch(() => undefined);
  const loops = new LoopDevices(disks);
  for (const { name } of loops.list()) await loops.detach(name).catch(() => undefined);
}

/** The folder of images in a data folder. */
export const disksOf = (dataDir: string): string => join(dataDir, "disks");
