/**
 * Adds the worker to a base image by copying files between two containers that are created but
 * never started. Nothing of the base image runs: neither its entry point nor an ONBUILD trigger.
 */
import type Docker from "dockerode";
import { TaskFailure } from "../../../core/failure.ts";
import { WORKER_DIR, WORKER_UID } from "../container-spec.ts";
import { hasStatus, type Engine } from "../engine.ts";
import { createArchive, readFirstFile, type ArchiveEntry } from "./archive.ts";
import { createVolumeReplacements, listImageVolumes } from "./image-overrides.ts";
import { NEVER_STARTED, PREPARE_LABEL } from "./names.ts";
import { SILENCE_MS } from "./progress.ts";

const WORKER_IMAGE_NODE = "/usr/local/bin/node";
/** A larger /etc/passwd or /etc/group is left unchanged. */
const MAX_USERS_BYTES = 1_024 * 1_024;

/**
 * Folders that the worker needs. A volume takes over the owner of the folder that it covers, a
 * tmpfs its mode.
 */
const FOLDERS: readonly ArchiveEntry[] = [
  { type: "directory", name: "tmp/", mode: 0o1777, owner: 0 },
  { type: "directory", name: "home/agent/", mode: 0o700, owner: WORKER_UID },
  { type: "directory", name: "worker/", mode: 0o755, owner: 0 },
  { type: "directory", name: "workspace/", mode: 0o755, owner: WORKER_UID },
];

export interface WorkerLayerOptions {
  readonly engine: Engine;
  /** Value of PREPARE_LABEL. */
  readonly instance: string;
  readonly base: Docker.ImageInspectInfo;
  readonly worker: Docker.ImageInspectInfo;
  /** Labels of the new image. */
  readonly labels: Readonly<Record<string, string>>;
}

/** @returns the id of the new image, which has no tag. */
export async function addWorkerLayer({ engine, instance, base, worker, labels }: WorkerLayerOptions): Promise<string> {
  const containers: Docker.Container[] = [];
  try {
    const target = await createStopped(engine, base, instance);
    containers.push(target);
    const source = await createStopped(engine, worker, instance);
    containers.push(source);
    await putArchive(engine, target, "/", await createArchive(FOLDERS));
    await putArchive(engine, target, "/", await getArchive(engine, source, WORKER_DIR));
    await putArchive(engine, target, WORKER_DIR, await getArchive(engine, source, WORKER_IMAGE_NODE));
    await addUserNames(engine, target);
    // docker-modem sends `_query` in the URL and `_body` as the body.
    const options = { _query: { container: target.id, pause: false }, _body: { Labels: labels } };
    return parseImageId(await engine.call(() => target.commit(options), undefined, SILENCE_MS));
  } finally {
    for (const container of containers)
      await engine.call(() => container.remove({ force: true, v: true })).catch(() => undefined);
  }
}

/** Volumes are replaced by tmpfs, because the engine would copy the image's files into them. */
async function createStopped(
  engine: Engine,
  image: Docker.ImageInspectInfo,
  instance: string,
): Promise<Docker.Container> {
  const body = {
    Image: image.Id,
    Entrypoint: [NEVER_STARTED],
    Labels: { [PREPARE_LABEL]: instance },
    HostConfig: { NetworkMode: "none", Mounts: createVolumeReplacements(listImageVolumes(image), []) },
  };
  return await engine.call((docker) => docker.createContainer(body), undefined, SILENCE_MS);
}

async function getArchive(engine: Engine, from: Docker.Container, path: string): Promise<NodeJS.ReadableStream> {
  return await engine.call(() => from.getArchive({ path }), undefined, SILENCE_MS);
}

async function putArchive(
  engine: Engine,
  to: Docker.Container,
  path: string,
  archive: Buffer | NodeJS.ReadableStream,
): Promise<void> {
  await engine.call(() => to.putArchive(archive, { path }), undefined, SILENCE_MS);
}

/** Names user and group WORKER_UID, for tools that look them up. Only in regular files. */
async function addUserNames(engine: Engine, container: Docker.Container): Promise<void> {
  const lines = { passwd: `x:${WORKER_UID}:${WORKER_UID}::/home/agent:/bin/bash`, group: `x:${WORKER_UID}:` };
  for (const [name, rest] of Object.entries(lines)) {
    const bytes = await readUsers(engine, container, `/etc/${name}`);
    const line = bytes === null ? null : createUserLine(bytes, rest);
    if (bytes === null || line === null) continue;
    const content = Buffer.concat([bytes, Buffer.from(line)]);
    await putArchive(engine, container, "/etc", await createArchive([{ type: "file", name, content }]));
  }
}

async function readUsers(engine: Engine, container: Docker.Container, path: string): Promise<Buffer | null> {
  try {
    const stream = await getArchive(engine, container, path);
    return await readFirstFile(stream as NodeJS.ReadableStream & AsyncIterable<Uint8Array>, MAX_USERS_BYTES);
  } catch (error) {
    if (hasStatus(error, 404)) return null;
    throw error;
  }
}

/** The line to append to /etc/passwd or /etc/group; null when WORKER_UID has a name already. */
function createUserLine(bytes: Buffer, rest: string): string | null {
  const rows = bytes
    .toString("latin1")
    .split("\n")
    .map((row) => row.split(":"));
  if (rows.some((row) => row[2] === String(WORKER_UID))) return null;
  const name = rows.some((row) => row[0] === "agent") ? "slipway-agent" : "agent";
  const start = bytes.length === 0 || bytes.at(-1) === 10 ? "" : "\n";
  return `${start}${name}:${rest}\n`;
}

function parseImageId(answer: unknown): string {
  const id: unknown = typeof answer === "object" && answer !== null ? Reflect.get(answer, "Id") : null;
  if (typeof id === "string") return id;
  throw new TaskFailure("sandbox_unavailable", {
    detail: "The Docker engine did not return the id of the image that it created.",
  });
}
