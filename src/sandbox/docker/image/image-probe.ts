/**
 * Checks that the worker runs on an image by running a probe in a container that is confined like a
 * task's. Only a run shows whether loader, C library, architecture, git and bash fit. A hostile
 * image can fake the result, which harms only the tasks that use it.
 */
import type Docker from "dockerode";
import { z } from "zod";
import { TaskFailure } from "../../../core/failure.ts";
import { isDiskFullMessage } from "../../../core/lib/disk/disk-full.ts";
import { createContainerSpec } from "../container-spec.ts";
import { createVolumeReplacements, listImageVolumes, NODE_FILE, overrideImageSettings } from "./image-overrides.ts";
import { PREPARE_LABEL } from "./names.ts";
import { EngineError, hasStatus, type Engine } from "../engine.ts";
import { readLogTail } from "../transport/stream-demux.ts";

const PROBE_MS = 60_000;
const MARK = "slipway-probe ";

const SCRIPT = `
const { spawnSync } = require("node:child_process");
const runs = (file) => spawnSync(file, ["--version"], { timeout: 20000, stdio: "ignore" }).status === 0;
process.stdout.write("\\n${MARK}" + JSON.stringify({ git: runs("git"), bash: runs("/bin/bash") }) + "\\n");
`;
const answerSchema = z.object({ git: z.boolean(), bash: z.boolean() });

const MUSL_LOADERS = ["/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1"];

interface ProbeResult {
  readonly exitCode: number;
  readonly tail: string;
  readonly hasMusl: boolean;
}

export interface ProbeOptions {
  readonly instance: string;
  /** See ContainerDefaults. */
  readonly seccomp: string | null;
}

/** Throws TaskFailure `image_missing` with what the image lacks. */
export async function probeImage(
  engine: Engine,
  image: Docker.ImageInspectInfo,
  name: string,
  options: ProbeOptions,
): Promise<void> {
  const result = await runProbe(engine, image, options).catch((error: unknown) => {
    // The engine may refuse to run the image at all, as with a volume at /proc.
    if (!(error instanceof EngineError) || isDiskFullMessage(error.message)) throw error;
    throw unsuitable(name, "the engine refuses it.", error.message);
  });
  const { exitCode, tail } = result;
  const answer = parseAnswer(tail);
  if (exitCode !== 0 || answer === null) throw unsuitable(name, describeFailure(result), tail);
  if (!answer.git) throw unsuitable(name, "it has no git.", tail);
  if (!answer.bash) throw unsuitable(name, "it has no /bin/bash.", tail);
}

function unsuitable(name: string, reason: string, evidence: string): TaskFailure {
  return new TaskFailure("image_missing", {
    detail: `The worker cannot run on ${name}: ${reason}`,
    evidence: evidence.slice(-4_000),
  });
}

async function runProbe(engine: Engine, image: Docker.ImageInspectInfo, options: ProbeOptions): Promise<ProbeResult> {
  const id = await create(engine, image, options);
  try {
    await engine.call((docker) => docker.getContainer(id).start());
    const ended: unknown = await engine.call((docker) => docker.getContainer(id).wait(), undefined, PROBE_MS);
    const { StatusCode: exitCode } = z.object({ StatusCode: z.number() }).parse(ended);
    const tail = await readLogTail(engine, id);
    return { exitCode, tail, hasMusl: await hasFile(engine, id, MUSL_LOADERS) };
  } finally {
    await engine.call((docker) => docker.getContainer(id).remove({ force: true, v: true })).catch(() => undefined);
  }
}

function describeFailure({ exitCode, tail, hasMusl }: ProbeResult): string {
  const [, version] = /version [`'"]?(GLIBC(?:XX)?_[\d.]+)'? not found/.exec(tail) ?? [];
  if (version !== undefined) return `its C library is too old (Node needs ${version}).`;
  const [, library] = /error while loading shared libraries: ([\w.+-]+)/.exec(tail) ?? [];
  if (library !== undefined) return `it has no ${library}.`;
  if (/exec format error/i.test(tail)) return "it is made for another architecture.";
  if (exitCode === 127 && hasMusl) return "it is built on musl, as Alpine is, and Node needs glibc 2.28 or newer.";
  if (exitCode === 127) return "it has no glibc, and Node needs glibc 2.28 or newer.";
  return `a trial ended with exit code ${exitCode}.`;
}

function parseAnswer(tail: string): z.infer<typeof answerSchema> | null {
  const offset = tail.lastIndexOf(MARK);
  if (offset < 0) return null;
  try {
    return answerSchema.parse(JSON.parse(tail.slice(offset + MARK.length).split("\n", 1)[0] ?? ""));
  } catch {
    return null;
  }
}

async function create(
  engine: Engine,
  image: Docker.ImageInspectInfo,
  { instance, seccomp }: ProbeOptions,
): Promise<string> {
  const spec = { name: "", taskId: "", attempt: 0, socketDir: "/nowhere", token: "", limits: {} };
  const limits = { memoryMb: 512, cpus: 1, pids: 64, workspace: { kind: "watch", sizeMb: 64 } } as const;
  const { name: _, ...body } = overrideImageSettings(
    createContainerSpec(spec, { image: image.Id, instance, socketDir: "/nowhere", seccomp, ...limits }),
    image,
  );
  const mounted = Object.keys(body.HostConfig?.Tmpfs ?? {});
  const { id } = await engine.call((docker) =>
    docker.createContainer({
      ...body,
      Labels: { [PREPARE_LABEL]: instance },
      Entrypoint: [NODE_FILE, "-e", SCRIPT],
      HostConfig: { ...body.HostConfig, Mounts: createVolumeReplacements(listImageVolumes(image), mounted) },
    }),
  );
  return id;
}

/** True when one of the paths exists in the container. */
async function hasFile(engine: Engine, id: string, paths: readonly string[]): Promise<boolean> {
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
