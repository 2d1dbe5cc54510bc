/**
 * A second Docker engine for one test file, which may stop, kill, suspend and fill it. The shared
 * engine is not affected.
 *
 * P1 It runs in a separate network namespace, because an engine without a bridge deletes `docker0`
 *    at its start, which would be the shared engine's.
 * P2 Its data is on a tmpfs, so that its size is known, overlay works on every machine, and nothing
 *    remains on the disk.
 */
import Docker from "dockerode";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { describe } from "vitest";
import { openEngine } from "../../../src/sandbox/docker/engine.ts";
import { openWorkerImage } from "../../../src/sandbox/docker/image/worker-image.ts";
import { BASE_IMAGE, describeWithDocker, required } from "./engine.ts";

const ROOT = join(import.meta.dirname, "../../..");
const START_MS = 120_000;
const STOP_MS = 120_000;

export interface PrivateEngine {
  /** For DOCKER_HOST. */
  readonly host: string;
  readonly docker: Docker;
  /** Its data folder, on a separate file system. */
  readonly dataRoot: string;
  start(): Promise<void>;
  /** SIGTERM: it stops its containers, as when the machine shuts down. */
  stop(): Promise<void>;
  /** SIGKILL: its containers keep running. */
  kill(): Promise<void>;
  /** SIGSTOP: it accepts connections and does not answer. */
  hang(): void;
  resume(): void;
  close(): Promise<void>;
}

/**
 * Why there can be no private engine here, or null. Throws instead of the reason when engines are
 * required.
 */
export function noPrivateEngine(): string | null {
  const missing = reason();
  if (missing !== null && required)
    throw new Error(`SLIPWAY_REQUIRE_ENGINES=1, but there can be no private engine: ${missing}`);
  return missing;
}

function reason(): string | null {
  if (process.platform !== "linux") return "not Linux";
  if (process.getuid?.() !== 0) return "not root";
  try {
    execFileSync("sh", ["-c", "command -v dockerd && command -v docker && unshare --net true"], { stdio: "ignore" });
    return null;
  } catch {
    return "no dockerd, no docker client, or no network namespaces";
  }
}

/**
 * A suite that needs a private engine. Skipped, with the reason in its name, where none can run.
 */
export function describeWithPrivateEngine(name: string, suite: () => void): void {
  const missing = noPrivateEngine();
  if (missing === null) return describeWithDocker(name, suite);
  describe.runIf(false)(`${name} (skipped: ${missing})`, suite);
}

/** @param sizeMb size of its data folder. */
export async function openPrivateEngine(sizeMb = 2_048): Promise<PrivateEngine> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-pe-"));
  const dataRoot = join(dir, "data");
  mkdirSync(dataRoot);
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeMb}m`, "tmpfs", dataRoot]);
  const socketPath = join(dir, "d.sock");
  const docker = new Docker({ socketPath });
  let daemon: { readonly child: ChildProcess; readonly ended: Promise<void> } | null = null;

  async function start(): Promise<void> {
    // The id in the pid file of a killed engine may have been reused.
    for (const file of ["pid", "x/containerd/containerd.pid"]) rmSync(join(dir, file), { force: true });
    const paths = [
      "--data-root",
      dataRoot,
      "--exec-root",
      join(dir, "x"),
      "--pidfile",
      join(dir, "pid"),
      "--host",
      `unix://${socketPath}`,
    ];
    const net = ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"];
    const log = openSync(join(dir, "log"), "a");
    const command = ["--net", "dockerd", ...paths, ...net, "--storage-driver", "overlay2"];
    const child = spawn("unshare", command, { stdio: ["ignore", log, log], detached: true });
    closeSync(log);
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    daemon = { child, ended };
    for (const end = Date.now() + START_MS; Date.now() < end; await delay(50)) {
      if (child.exitCode !== null) break;
      if (
        await docker.ping().then(
          () => true,
          () => false,
        )
      )
        return;
    }
    throw new Error(`the private engine does not answer:\n${readFileSync(join(dir, "log"), "utf8").slice(-3_000)}`);
  }

  function signal(name: NodeJS.Signals): void {
    daemon?.child.kill(name);
  }

  async function end(name: NodeJS.Signals): Promise<void> {
    if (daemon === null) return;
    const { ended } = daemon;
    signal("SIGCONT");
    signal(name);
    const late = delay(STOP_MS, "late", { ref: false });
    if ((await Promise.race([ended, late])) === "late") throw new Error(`the private engine ignores ${name}`);
    daemon = null;
    // Its containerd ends a moment later.
    await waitForNone("containerd", `${dir}/x/containerd/containerd.toml`);
  }

  async function close(): Promise<void> {
    await end("SIGKILL");
    const mine = processesWith(dir);
    for (const pid of mine) for (const child of listChildren(pid)) quietly(() => process.kill(child, "SIGKILL"));
    for (const pid of mine) quietly(() => process.kill(pid, "SIGKILL"));
    for (const end = Date.now() + 5_000; processesWith(dir).length > 0 && Date.now() < end;) await delay(50);
    const mounts = readFileSync("/proc/mounts", "utf8")
      .split("\n")
      .map((line) => line.split(" ")[1] ?? "");
    for (const mount of mounts.filter((path) => path.startsWith(`${dir}/`)).reverse())
      execFileSync("umount", ["-l", mount]);
    rmSync(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }

  try {
    await start();
    await loadImages(`unix://${socketPath}`);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    host: `unix://${socketPath}`,
    docker,
    dataRoot,
    start,
    stop: () => end("SIGTERM"),
    kill: () => end("SIGKILL"),
    hang: () => signal("SIGSTOP"),
    resume: () => signal("SIGCONT"),
    close,
  };
}

/**
 * The worker's image, made on the shared engine, which may reach package sources when its base has
 * no tools yet.
 */
async function loadImages(host: string): Promise<void> {
  const source = { dockerfile: join(ROOT, "Dockerfile"), workerFile: join(ROOT, "dist/worker.mjs") };
  const image = openWorkerImage(openEngine({}), source);
  await image.prepare(() => undefined, new AbortController().signal);
  const name = await image.name();
  execFileSync(
    "bash",
    ["-c", 'set -o pipefail; docker save "$1" "$2" | docker -H "$3" load', "load", BASE_IMAGE, name, host],
    {
      stdio: "ignore",
    },
  );
}

/**
 * Processes whose command line names this folder: the engine, its containerd, and the shims of its
 * containers.
 */
function processesWith(dir: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => (readText(`/proc/${pid}/cmdline`) ?? "").includes(`${dir}/`))
    .map(Number);
}

function listChildren(pid: number): number[] {
  return (readText(`/proc/${pid}/task/${pid}/children`) ?? "").split(" ").filter(Boolean).map(Number);
}

async function waitForNone(name: string, text: string): Promise<void> {
  const lives = (): boolean =>
    processesWith(text.slice(0, text.lastIndexOf("/"))).some((pid) => readText(`/proc/${pid}/comm`) === `${name}\n`);
  for (const end = Date.now() + STOP_MS; lives() && Date.now() < end;) await delay(20);
}

function readText(file: string): string | null {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return null;
  }
}

function quietly(act: () => void): void {
  try {
    act();
  } catch {
    // The process has ended already.
  }
}
