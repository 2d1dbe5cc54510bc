/**
 * Can the worker run on this image? Asked of the image itself, in a container that is confined as a
 * task's is, because only running it tells: the loader, the age of the C library, the architecture,
 * git. A hostile image may lie, and harms the tasks that chose it.
 */
import type Docker from "dockerode";
import { z } from "zod";
import { TaskFailure } from "../../../core/failure.ts";
import { isDiskFullMessage } from "../../../core/lib/disk-full.ts";
import { createContainerSpec } from "../container-spec.ts";
import { overrideImageSettings, replacementConfig, NODE_FILE, listImageVolumes } from "./image-overrides.ts";
import { EngineError, hasStatus, type Engine } from "../engine.ts";
import { tailOf } from "../transport/stream-demux.ts";

/**
 * Containers that prepare an image; those of an installation that were left by a crash are known by
 * it.
 */
export const PREPARE_LABEL = "slipway.prepare";
const PROBE_MS = 60_000;
const MARK = "slipway-probe ";

const SCRIPT = `
const { spawnSync } = require("node:child_process");
const runs = (file) => spawnSync(file, ["--version"], { timeout: 20000, stdio: "ignore" }).status === 0;
process.stdout.write("\\n${MARK}" + JSON.stringify({ git: runs("git"), bash: runs("/bin/bash") }) + "\\n");
`;
const answerSchema = z.object({ git: z.boolean(), bash: z.boolean() });

interface Ended {
  readonly exitCode: number;
  readonly tail: string;
}

export interface ProbeOptions {
  readonly instance: string;
  /** As ContainerDefaults has it. */
  readonly seccomp: string | null;
}

/** @throws TaskFailure `image_missing` that says what the image lacks. */
export async function probeImage(
  engine: Engine,
  image: Docker.ImageInspectInfo,
  name: string,
  place: ProbeOptions,
): Promise<void> {
  const unfit = (why: string, evidence: string): TaskFailure =>
    new TaskFailure("image_missing", {
      detail: `The worker cannot run on ${name}: ${why}`,
      evidence: evidence.slice(-4_000),
    });
  let ended: Ended;
  let musl: boolean;
  const container = await create(engine, image, place).catch((error: unknown) =>
    Promise.reject(refused(error) as Error),
  );
  try {
    ended = await run(engine, container);
    musl = await has(engine, container, "/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1");
  } catch (error) {
    throw refused(error);
  } finally {
    await engine
      .call((docker) => docker.getContainer(container).remove({ force: true, v: true }))
      .catch(() => undefined);
  }
  const { exitCode, tail } = ended;
  const answer = answerOf(tail);
  if (exitCode !== 0 || answer === null) throw unfit(reason(ended, musl), tail);
  if (!answer.git) throw unfit("there is no git in it.", tail);
  if (!answer.bash) throw unfit("there is no /bin/bash in it.", tail);

  /** The engine refuses to run it at all, as with a volume in place of /proc. */
  function refused(error: unknown): unknown {
    return error instanceof EngineError && !isDiskFullMessage(error.message)
      ? unfit("the engine refuses it.", error.message)
      : error;
  }
}

function reason({ exitCode, tail }: Ended, musl: boolean): string {
  const [, version] = /version [`'"]?(GLIBC(?:XX)?_[\d.]+)'? not found/.exec(tail) ?? [];
  if (version !== undefined) return `its C library is too old (Node needs ${version}).`;
  const [, library] = /error while loading shared libraries: ([\w.+-]+)/.exec(tail) ?? [];
  if (library !== undefined) return `it has no ${library}.`;
  if (/exec format error/i.test(tail)) return "it is made for another architecture.";
  if (exitCode === 127 && musl) return "it is built on musl, as Alpine is, and Node needs glibc 2.28 or newer.";
  if (exitCode === 127) return "it has no glibc, and Node needs glibc 2.28 or newer.";
  return `a trial ended with exit code ${exitCode}.`;
}

function answerOf(tail: string): z.infer<typeof answerSchema> | null {
  const at = tail.lastIndexOf(MARK);
  if (at < 0) return null;
  try {
    return answerSchema.parse(JSON.parse(tail.slice(at + MARK.length).split("\n", 1)[0] ?? ""));
  } catch {
    return null;
  }
}

async function create(
  engine: Engine,
  image: Docker.ImageInspectInfo,
  { instance, seccomp }: ProbeOptions,
): Promise<string> {
  const nothing = { name: "", taskId: "", attempt: 0, socketDir: "/nowhere", token: "", limits: {} };
  const limits = { memoryMb: 512, cpus: 1, pids: 64, workspace: { kind: "watch", sizeMb: 64 } } as const;
  const { name: _, ...body } = overrideImageSettings(
    createContainerSpec(nothing, { image: image.Id, instance, socketDir: "/nowhere", seccomp, ...limits }),
    image,
  );
  const memory = Object.keys(body.HostConfig?.Tmpfs ?? {});
  const { id } = await engine.call((docker) =>
    docker.createContainer({
      ...body,
      Labels: { [PREPARE_LABEL]: instance },
      Entrypoint: [NODE_FILE, "-e", SCRIPT],
      HostConfig: { ...body.HostConfig, Mounts: replacementConfig(listImageVolumes(image), memory) },
    }),
  );
  return id;
}

async function run(engine: Engine, id: string): Promise<Ended> {
  await engine.call((docker) => docker.getContainer(id).start());
  const waited: unknown = await engine.call((docker) => docker.getContainer(id).wait(), undefined, PROBE_MS);
  const { StatusCode } = z.object({ StatusCode: z.number() }).parse(waited);
  return { exitCode: StatusCode, tail: await tailOf(engine, id) };
}

/** True when one of these paths is there. Nothing is read. */
async function has(engine: Engine, id: string, ...paths: readonly string[]): Promise<boolean> {
  for (const path of paths) {
    try {
      await engine.call((docker) => docker.getContainer(id).infoArchive({ path }));
      return true;
    } catch (error) {
      if (!hasStatus(error, 404)) throw error;
    }
  }
  return false;
}
