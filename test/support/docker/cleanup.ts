/** Finds and removes everything that an installation created on this machine, without its help. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { LABELS } from "../../../src/sandbox/docker/container-spec.ts";
import { LoopDevices } from "../../../src/sandbox/docker/disk/loop-devices.ts";
import { dockerClient } from "./engine.ts";

export interface Remains {
  readonly containers: string[];
  readonly volumes: string[];
  /** All files in the folder of the disk images. */
  readonly files: string[];
  /** Loop devices of images in that folder, including deleted images. */
  readonly devices: string[];
}

export async function findRemains(instance: string, disks: string, docker = dockerClient()): Promise<Remains> {
  const filters = { label: [`${LABELS.instance}=${instance}`] };
  const containers = await docker.listContainers({ all: true, filters });
  const { Volumes } = await docker.listVolumes({ filters: JSON.stringify(filters) });
  return {
    containers: containers.map(({ Names, Id }) => Names[0]?.slice(1) ?? Id),
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

/** Removes everything. @param disks the folder of the disk images. */
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

/** The folder of the disk images in a data folder. */
export const disksDir = (dataDir: string): string => join(dataDir, "disks");
