/** The sandbox: by the configuration, by default Docker with the process fallback. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { SocketDirs } from "../../broker/socket-dirs.ts";
import { errorMessage } from "../../core/error.ts";
import { noCrash, type Crashpoint } from "../../core/lib/runtime/crashpoint.ts";
import { deriveInstanceId } from "../../core/lib/runtime/instance-id.ts";
import { packageRoot } from "../../core/lib/runtime/package-root.ts";
import type { Log } from "../../core/ports/runtime.ts";
import type { Sandbox } from "../../core/ports/sandbox.ts";
import type { Store } from "../../core/ports/store.ts";
import { ProcessFallback } from "../../sandbox/process-fallback.ts";
import { openProcessSandbox } from "../../sandbox/process/sandbox.ts";
import { openSimulatedSandbox } from "../../sandbox/simulated.ts";
import type { Config } from "../config.ts";
import { getMaxLimits } from "./coordinator-settings.ts";

/** "1" once an engine has answered for this data folder, "0" until then. */
const ENGINE_SEEN = "sandbox.engine_seen";
/** Listening does not wait longer for the engine, ms. */
const CHECK_MS = 2_500;
/** For tasks that name no limits. */
const DEFAULT_LIMITS = { memoryMb: 4_096, cpus: 2 };

/** @param report called with what operators should know about the sandbox. */
export async function openSandbox(
  config: Config,
  dir: string,
  crashpoint: Crashpoint = noCrash,
  report: (text: string) => void = () => undefined,
): Promise<Sandbox> {
  const instance = deriveInstanceId(dir);
  const workerFile = join(packageRoot(), "dist", "worker.mjs");
  switch (config.sandbox) {
    case "docker":
      return openDocker(config, dir, crashpoint, report);
    case "process":
      return openProcessSandbox({ dir, workerFile, instance, crashpoint });
    case "simulated":
      return openSimulatedSandbox({
        dir: join(dir, "sandboxes"),
        run: async ({ name, socketDir, token, attempt }, signal) => {
          const root = join(dir, "sandboxes", name);
          const { runWorker } = await import("../../../worker/assemble.ts");
          return runWorker({
            socketPath: join(socketDir, "b.sock"),
            token,
            attempt,
            root: join(root, "workspace"),
            stateDir: join(root, "state"),
            signal,
          });
        },
      });
  }
}

/**
 * The sandbox of a server: as configured, or by default Docker with the process fallback
 * (src/sandbox/process-fallback.ts).
 */
export async function openServerSandbox(
  config: Config,
  dir: string,
  { store, crashpoint, log }: { store: Store; crashpoint: Crashpoint; log: Log },
): Promise<Sandbox> {
  const report = (text: string): void => log.info({}, text);
  if (config.sandboxChosen) return openSandbox(config, dir, crashpoint, report);
  const docker = await openSandbox(config, dir, crashpoint, report);
  const process = await openSandbox({ ...config, sandbox: "process" }, dir, crashpoint);
  return new ProcessFallback({
    docker,
    process,
    isProcess: (name) => existsSync(join(dir, "sandboxes", name)),
    hadEngine: await hadEngine(store),
    rememberEngine: () => store.setSetting(ENGINE_SEEN, "1"),
  });
}

/**
 * A data folder with tasks and without a record comes from a version that needed an engine, so it
 * counts as one that had an engine.
 */
async function hadEngine(store: Store): Promise<boolean> {
  const recorded = await store.setting(ENGINE_SEEN);
  if (recorded !== null) return recorded === "1";
  const { items } = await store.tasks({ userId: null, limit: 1 });
  if (items.length > 0) return true;
  await store.setSetting(ENGINE_SEEN, "0");
  return false;
}

/** dockerode is two fifths of what a start loads, so only installations that use it load it. */
async function openDocker(
  config: Config,
  dir: string,
  crashpoint: Crashpoint,
  report: (text: string) => void,
): Promise<Sandbox> {
  const { openDockerSandbox } = await import("../../sandbox/docker/sandbox.ts");
  const instance = deriveInstanceId(dir);
  const { memoryMb, cpus } = getMaxLimits(config);
  return openDockerSandbox({
    instance,
    workerFile: join(packageRoot(), "dist", "worker.mjs"),
    dockerfile: join(packageRoot(), "Dockerfile"),
    imageTools: config.workerTools,
    report,
    transport: config.transport,
    pool: { size: config.warm, dir: new SocketDirs(join(dir, "run"), instance, null).base() },
    memoryMb: Math.min(DEFAULT_LIMITS.memoryMb, memoryMb),
    cpus: Math.min(DEFAULT_LIMITS.cpus, cpus),
    disk: { mode: config.disk, dir: join(dir, "disks"), defaultMb: config.diskMb },
    crashpoint,
  });
}

/**
 * One line about the sandbox for people. The server starts without an engine: then tasks wait for
 * it, or run by the fallback (decision 031).
 */
export async function describeSandbox(sandbox: Sandbox): Promise<string> {
  try {
    return await sandbox.check(AbortSignal.timeout(CHECK_MS));
  } catch (error) {
    return `${errorMessage(error)} Tasks wait until it does.`;
  }
}
