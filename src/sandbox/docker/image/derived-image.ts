/**
 * Somebody else's image with Slipway's worker added. Nothing of that image is run for it: its files
 * are handled as bytes in a container that is created and never started, so that neither its entry
 * point nor a trigger of its own (ONBUILD) gets a turn.
 *
 * V1 The tag is a digest of both images, so that a newer base or worker is another image.
 * V2 The tag is given last: who finds it finds an image on which a worker has been seen to run.
 */
import { createHash } from "node:crypto";
import type Docker from "dockerode";
import { TaskFailure } from "../../../core/failure.ts";
import { isDiskFullMessage } from "../../../core/lib/disk-full.ts";
import { WORKER_DIR, WORKER_UID } from "../container-spec.ts";
import { replacementConfig, listImageVolumes } from "./image-overrides.ts";
import { EngineError, engineFailure, hasStatus, type Engine } from "../engine.ts";
import { followProgress, pullFailure, SILENCE_MS } from "./follow.ts";
import { inspectImage, type WorkerImage } from "./worker-image.ts";
import { PREPARE_LABEL, probeImage } from "./image-probe.ts";
import { createPullReporter } from "./progress.ts";
import { createSingleFlight } from "../../../core/lib/single-flight.ts";
import { firstFile, tar } from "./tar.ts";

export const DERIVED_REPOSITORY = "slipway-derived";
/**
 * Labels of a derived image: the name and the id of what it was made from, and the worker's image.
 */
export const DERIVED = { from: "slipway.from", base: "slipway.base", worker: "slipway.worker" } as const;

/** Changes when what is added does. */
const LAYOUT = "1";
const NODE_OF_OWN = "/usr/local/bin/node";
/** Larger lists of users are left as they are. */
const USERS_BYTES = 1_024 * 1_024;
const MOST_VOLUMES = 20;

type Tell = (text: string) => void;
type Inspected = Docker.ImageInspectInfo;

export interface DerivedImages {
  /** What to create containers from; null when it must be prepared first. */
  find(image: string, signal: AbortSignal): Promise<Inspected | null>;
  /**
   * Pulls the image if it is not there and adds the worker. Rejects with `image_missing` or
   * `image_pull_failed`.
   */
  prepare(image: string, progress: Tell, signal: AbortSignal): Promise<void>;
}

export function derivedTag(base: Pick<Inspected, "Id">, own: Pick<Inspected, "Id">): string {
  const digest = createHash("sha256").update([LAYOUT, base.Id, own.Id].join("\n")).digest("hex");
  return `${DERIVED_REPOSITORY}:${digest.slice(0, 40)}`;
}

export function openDerivedImages(
  engine: Engine,
  own: WorkerImage,
  instance: string,
  seccomp: () => Promise<string | null>,
): DerivedImages {
  const works = createSingleFlight<void>();

  async function find(image: string, signal?: AbortSignal): Promise<Inspected | null> {
    const base = await inspectImage(engine, image, signal);
    const worker = await inspectImage(engine, await own.name(), signal);
    return base === null || worker === null ? null : await inspectImage(engine, derivedTag(base, worker), signal);
  }

  async function pull(image: string, tell: Tell): Promise<Inspected> {
    const { signal } = new AbortController();
    tell(`pulling ${image}`);
    try {
      const stream = await engine.call((docker) => docker.pull(image), signal, SILENCE_MS);
      await followProgress(stream, `${image} could not be pulled`, createPullReporter(image, tell, Date.now), signal);
    } catch (error) {
      if (!hasStatus(error, 400, 401, 403, 404, 500)) throw error;
      throw pullFailure(`${image} could not be pulled`, error instanceof Error ? error.message : "");
    }
    const pulled = await inspectImage(engine, image);
    if (pulled === null) throw new TaskFailure("image_missing", { detail: `The engine has no image ${image}.` });
    return pulled;
  }

  async function make(image: string, tell: Tell): Promise<void> {
    const { signal } = new AbortController();
    await own.prepare(tell, signal);
    const worker = await inspectImage(engine, await own.name());
    if (worker === null) throw new TaskFailure("image_missing", { detail: "Slipway's own image is gone again." });
    const base = (await inspectImage(engine, image)) ?? (await pull(image, tell));
    judge(image, base, worker);
    const tag = derivedTag(base, worker);
    if ((await inspectImage(engine, tag)) !== null) return;
    tell(`adding the worker to ${image}`);
    const id = await add({ image, base, worker, workerName: await own.name() });
    const made = await inspectImage(engine, id);
    try {
      if (made === null)
        throw new TaskFailure("image_missing", { detail: "The image that was just made is gone again." });
      await probeImage(engine, made, image, { instance, seccomp: await seccomp() });
      const place = { repo: DERIVED_REPOSITORY, tag: tag.slice(DERIVED_REPOSITORY.length + 1) };
      await engine.call((docker) => docker.getImage(id).tag(place));
    } catch (error) {
      await engine.call((docker) => docker.getImage(id).remove({ noprune: true })).catch(() => undefined);
      throw error;
    }
    tell(`${image} is ready`);
  }

  async function add(parts: {
    image: string;
    base: Inspected;
    worker: Inspected;
    workerName: string;
  }): Promise<string> {
    const { image, base, worker, workerName } = parts;
    const made: string[] = [];
    /**
     * Never started; its volumes are memory, because the engine would fill real ones from the
     * image.
     */
    const lay = async (from: Inspected): Promise<Docker.Container> => {
      const body = {
        Image: from.Id,
        Entrypoint: ["/never-started"],
        Labels: { [PREPARE_LABEL]: instance },
        HostConfig: { NetworkMode: "none", Mounts: replacementConfig(listImageVolumes(from), []) },
      };
      const container = await engine.call((docker) => docker.createContainer(body), undefined, SILENCE_MS);
      made.push(container.id);
      return container;
    };
    try {
      const [to, source] = [await lay(base), await lay(worker)];
      await put(to, "/", tar(folders()));
      await put(to, "/", await get(source, WORKER_DIR));
      await put(to, WORKER_DIR, await get(source, NODE_OF_OWN));
      await nameUser(to);
      const labels = { [DERIVED.from]: image, [DERIVED.base]: base.Id, [DERIVED.worker]: workerName };
      // docker-modem sends `_query` in the address and `_body` as the body.
      const order = { _query: { container: to.id, pause: false }, _body: { Labels: labels } };
      const answer: unknown = await engine.call(() => to.commit(order), undefined, SILENCE_MS);
      return idOf(answer);
    } finally {
      for (const id of made)
        await engine.call((docker) => docker.getContainer(id).remove({ force: true, v: true })).catch(() => undefined);
    }
  }

  async function get(from: Docker.Container, path: string): Promise<NodeJS.ReadableStream> {
    return await engine.call(() => from.getArchive({ path }), undefined, SILENCE_MS);
  }

  async function put(to: Docker.Container, path: string, archive: Buffer | NodeJS.ReadableStream): Promise<void> {
    await engine.call(() => to.putArchive(archive, { path }), undefined, SILENCE_MS);
  }

  /** A name for the worker's number, for tools that ask. What is no plain file is left alone. */
  async function nameUser(to: Docker.Container): Promise<void> {
    const lines = { passwd: `x:${WORKER_UID}:${WORKER_UID}::/home/agent:/bin/bash`, group: `x:${WORKER_UID}:` };
    for (const [file, rest] of Object.entries(lines)) {
      const bytes = await usersOf(to, `/etc/${file}`);
      const line = bytes === null ? null : lineFor(bytes, rest);
      if (bytes === null || line === null) continue;
      await put(to, "/etc", tar([{ name: file, content: Buffer.concat([bytes, Buffer.from(line)]) }]));
    }
  }

  async function usersOf(from: Docker.Container, path: string): Promise<Buffer | null> {
    try {
      const stream = await get(from, path);
      return await firstFile(stream as NodeJS.ReadableStream & AsyncIterable<Uint8Array>, USERS_BYTES);
    } catch (error) {
      if (hasStatus(error, 404)) return null;
      throw error;
    }
  }

  return {
    find,
    async prepare(image, progress, signal) {
      if ((await find(image, signal)) !== null) return;
      await works
        .join(image, (tell) => make(image, tell), progress, signal)
        .catch((error: unknown) => Promise.reject(failedWith(image, error)));
    },
  };
}

/** What can be known of an image without looking into it. */
function judge(name: string, base: Inspected, worker: Inspected): void {
  const refuse = (why: string): never => {
    throw new TaskFailure("image_missing", { detail: `The worker cannot run on ${name}: ${why}` });
  };
  if (base.Os !== worker.Os || base.Architecture !== worker.Architecture)
    refuse(`it is made for ${base.Os}/${base.Architecture}, and this engine runs ${worker.Os}/${worker.Architecture}.`);
  // Containers inherit the labels of their image, and ours decide what belongs to whom.
  const labels: unknown = base.Config.Labels;
  if (Object.keys(labels ?? {}).some((key) => key.startsWith("slipway.")))
    refuse("it carries labels that begin with slipway.");
  const volumes = listImageVolumes(base);
  if (volumes.length > MOST_VOLUMES)
    refuse(`it declares ${volumes.length} volumes, and at most ${MOST_VOLUMES} are taken.`);
  const bad = volumes.find((path) => path === "/" || `${path}/`.startsWith(`${WORKER_DIR}/`));
  if (bad !== undefined) refuse(`it declares a volume at ${bad}.`);
}

/**
 * What a worker needs to find. A volume takes over the owner of the folder that it covers, and
 * memory its mode.
 */
function folders() {
  return [
    { name: "tmp/", content: null, mode: 0o1777 },
    { name: "home/agent/", content: null, mode: 0o700, owner: WORKER_UID },
    { name: "worker/", content: null },
    { name: "workspace/", content: null, owner: WORKER_UID },
  ];
}

/** The line to append to a list of users or groups; null when the number has a name already. */
function lineFor(bytes: Buffer, rest: string): string | null {
  const rows = bytes
    .toString("latin1")
    .split("\n")
    .map((row) => row.split(":"));
  if (rows.some((row) => row[2] === String(WORKER_UID))) return null;
  const name = rows.some((row) => row[0] === "agent") ? "slipway-agent" : "agent";
  const start = bytes.length === 0 || bytes.at(-1) === 10 ? "" : "\n";
  return `${start}${name}:${rest}\n`;
}

function idOf(answer: unknown): string {
  const id: unknown = typeof answer === "object" && answer !== null ? Reflect.get(answer, "Id") : null;
  if (typeof id === "string") return id;
  throw new TaskFailure("sandbox_unavailable", { detail: "The Docker engine did not name the image that it made." });
}

/** The engine's refusals, with the name of the image that they are about. */
function failedWith(image: string, error: unknown): Error {
  if (!(error instanceof EngineError) || isDiskFullMessage(error.message)) return engineFailure(error) as Error;
  const detail = `The Docker engine refused to prepare ${image} (${error.status}): ${error.message.slice(0, 300)}`;
  return new TaskFailure("sandbox_unavailable", { detail, evidence: error.message, cause: error });
}
