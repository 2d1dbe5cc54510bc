/**
 * Real containers: from submit to the agent's first step, with and without a worker that waits,
 * beside what a person would type (`docker run`, then `git clone`) and beside the bare engine: one
 * container with the same settings that clones the same repository from a folder and ends. Then 20
 * tasks through 4 slots. Rounds take turns, medians count.
 */
import { execFile as execFileCallback, execFileSync } from "node:child_process";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import Docker from "dockerode";
import { createContainerSpec, WORKER_UID } from "../../../src/sandbox/docker/container-spec.ts";
import { seccompProfile } from "../../../src/sandbox/docker/hardening/seccomp.ts";
import { dockerOptions } from "../../../src/sandbox/docker/engine.ts";
import { openSqliteReader } from "../../../src/store/sqlite/store.ts";
import type { Overview, WireTask } from "../../../src/core/protocol/rest.ts";
import { startServer, startUpstream, type Server } from "../../server.ts";
import { packageRoot } from "../../../src/core/lib/runtime/package-root.ts";
import { percentile } from "../../support.ts";

/** Milliseconds, each the median of all rounds. */
export interface Provision {
  readonly rounds: number;
  /** A container that does nothing: create, start, wait. */
  readonly run: number;
  /** A container that clones from a folder: create, start, wait. */
  readonly runAndClone: number;
  /**
   * By hand: `docker run` of the worker's image doing nothing, then `git clone` of the upstream.
   */
  readonly byHand: number;
  readonly cold: number;
  readonly warm: number;
  /** One task alone, submit to settled. */
  readonly alone: number;
  readonly crowd: number;
  readonly turnaround: number;
}

const execFile = promisify(execFileCallback);
const SLOTS = 4;
const CROWD = 20;
const LIMIT_MS = 60_000;
/** For the machine to come to rest. */
const REST_MS = 400;
const SCRIPT = [{ bash: "true" }, { finish: { title: "Nothing", summary: "Done." } }];
const STAMP = "slipway.bench";

/** @returns why it cannot be measured here, or null. */
export async function whyNoDocker(): Promise<string | null> {
  try {
    await new Docker(dockerOptions()).ping();
    return null;
  } catch {
    return "no Docker engine answers";
  }
}

interface Side {
  readonly server: Server;
  /** Submits one task. @returns ms to its first step, and to its end. */
  task(): Promise<{ first: number; settled: number }>;
  crowd(): Promise<{ total: number; turnaround: number }>;
  close(): Promise<void>;
}

export async function provision(rounds = 15): Promise<Provision> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-provision-"));
  const upstream = await startUpstream(join(dir, "upstream"));
  const open = (name: string, warm: number): Promise<Side> =>
    openSide(join(dir, name), `${upstream.url}/app.git`, upstream.host, warm);
  const cold = await open("cold", 0);
  const warm = await open("warm", 1);
  try {
    // The first task of each fetches the mirror, and builds the image if need be.
    const firsts = [await cold.task(), await warm.task()].length;
    const floor = await openFloor(join(dir, "upstream"), dir);
    const times: Record<"run" | "runAndClone" | "byHand" | "cold" | "warm" | "alone", number[]> = {
      run: [],
      runAndClone: [],
      byHand: [],
      cold: [],
      warm: [],
      alone: [],
    };
    for (let round = 0; round < rounds + firsts; round += 1) {
      // Nothing is measured beside a worker that is being started ahead.
      await refilled(warm.server);
      times.run.push(await floor.run(["/bin/true"]));
      times.runAndClone.push(await floor.run(["git", "clone", "--quiet", "file:///run/slipway/app.git", "."]));
      times.byHand.push(await floor.byHand(`${upstream.url}/app.git`));
      const one = await cold.task();
      times.cold.push(one.first);
      times.alone.push(one.settled);
      await delay(REST_MS);
      times.warm.push((await warm.task()).first);
    }
    const middle = (values: readonly number[]): number => percentile(values.slice(firsts), 50);
    const { total, turnaround } = await warm.crowd();
    const { run, runAndClone, byHand, alone } = times;
    const figures = {
      run: middle(run),
      runAndClone: middle(runAndClone),
      byHand: middle(byHand),
      alone: middle(alone),
    };
    return { rounds, ...figures, cold: middle(times.cold), warm: middle(times.warm), crowd: total, turnaround };
  } finally {
    await cold.close();
    await warm.close();
    upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Until a worker waits again, and the machine has come to rest. */
async function refilled(server: Server): Promise<void> {
  for (const until = Date.now() + LIMIT_MS; Date.now() < until; await delay(100)) {
    const { sandbox } = (await server.call("GET", "/v1/ops/overview")) as Overview;
    if ((sandbox.warm?.ready ?? 0) > 0) return await delay(REST_MS);
  }
  throw new Error("no worker waits");
}

async function openSide(data: string, repo: string, host: string, warm: number): Promise<Side> {
  const env = {
    SLIPWAY_SANDBOX: "docker",
    SLIPWAY_WORKER_TOOLS: "slim",
    SLIPWAY_WARM: String(warm),
    SLIPWAY_MAX_CONCURRENT: String(SLOTS),
    SLIPWAY_TRUSTED_REPO_HOSTS: host,
  };
  const server = await startServer(data, env);
  const reader = openSqliteReader({ dir: data, migrations: join(packageRoot(), "migrations", "sqlite") });
  const submit = async (): Promise<string> =>
    ((await server.call("POST", "/v1/tasks", { repo, prompt: "Do nothing.", script: SCRIPT })) as WireTask).id;

  async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
    for (const end = Date.now() + LIMIT_MS; Date.now() < end; await delay(3)) {
      const found = await look();
      if (found !== undefined) return found;
    }
    throw new Error("a task takes too long");
  }
  const firstStep = async (id: string) =>
    (await reader.events(id, 0, 1_000)).items.find((event) => event.type === "tool.started");
  const settled = (id: string) => until(async () => ((await reader.task(id))?.state === "done" ? true : undefined));

  return {
    server,
    async task() {
      const begun = performance.now();
      const id = await submit();
      await until(() => firstStep(id));
      const first = performance.now() - begun;
      await settled(id);
      return { first, settled: performance.now() - begun };
    },
    async crowd() {
      const begun = performance.now();
      const ids = await Promise.all(Array.from({ length: CROWD }, submit));
      for (const id of ids) await settled(id);
      const total = performance.now() - begun;
      const logs = await Promise.all(ids.map(async (id) => (await reader.events(id, 0, 1_000)).items));
      const at = (reason: string): number[] =>
        logs.map((log) => log.find((event) => event.data["reason"] === reason)?.at ?? NaN).sort((a, b) => a - b);
      const claims = at("claimed").slice(SLOTS);
      const ends = at("finished");
      const steps = logs
        .map((log) => log.find((event) => event.type === "tool.started")?.at ?? NaN)
        .sort((a, b) => a - b);
      // The n-th end frees the place of the n-th task after the first four.
      const gaps = claims.map((_, n) => (steps[n + SLOTS] ?? NaN) - (ends[n] ?? NaN));
      return { total, turnaround: percentile(gaps, 50) };
    },
    async close() {
      await reader.close();
      await server.end("SIGTERM");
    },
  };
}

interface Floor {
  /** A container with a worker's settings, until it has ended. @returns ms. */
  run(command: readonly string[]): Promise<number>;
  byHand(repo: string): Promise<number>;
}

/** @param root the upstream's folder, which the container gets a copy of in place of a broker's. */
async function openFloor(root: string, dir: string): Promise<Floor> {
  const docker = new Docker(dockerOptions());
  const socketDir = join(dir, "floor");
  mkdirSync(socketDir);
  cpSync(join(root, "app.git"), join(socketDir, "app.git"), { recursive: true });
  chmodSync(socketDir, 0o755);
  execFileSync("chown", ["-R", String(WORKER_UID), socketDir]);
  const { image } = await newestWorker(docker);
  const defaults = {
    image,
    instance: STAMP,
    memoryMb: 4_096,
    cpus: 2,
    pids: 512,
    seccomp: seccompProfile(),
    socketDir,
    workspace: { kind: "watch", sizeMb: 4_096 } as const,
  };
  let serial = 0;
  return {
    async run(command) {
      const name = `slipway-bench-${process.pid}-${++serial}`;
      const spec = { name, taskId: "bench", attempt: 1, socketDir, token: "", limits: {} };
      const body = { ...createContainerSpec(spec, defaults), Entrypoint: [...command] };
      const begun = performance.now();
      const container = await docker.createContainer(body);
      await container.start();
      const { StatusCode } = (await container.wait()) as { StatusCode: number };
      const ms = performance.now() - begun;
      await container.remove({ force: true });
      await docker.getVolume(name).remove();
      if (StatusCode !== 0) throw new Error(`the bare container ended with ${StatusCode}`);
      return ms;
    },
    async byHand(repo) {
      const name = `slipway-bench-${process.pid}-${++serial}`;
      const begun = performance.now();
      await execFile("docker", [
        "run",
        "--name",
        name,
        "--label",
        `slipway.bench=${STAMP}`,
        "--entrypoint",
        "/bin/true",
        image,
      ]);
      await execFile("git", ["clone", "--quiet", repo, join(dir, name)]);
      const ms = performance.now() - begun;
      await docker.getContainer(name).remove({ force: true, v: true });
      return ms;
    },
  };
}

async function newestWorker(docker: Docker): Promise<{ image: string }> {
  const [found] = await docker.listImages({ filters: { reference: ["slipway-worker"] } });
  if (found === undefined) throw new Error("there is no worker image");
  return { image: found.Id };
}
