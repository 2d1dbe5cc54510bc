/** The Docker adapter with stand-in workers, for the contract suite and the adapter's own tests. */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDockerSandbox, type DockerSandboxOptions } from "../../../src/sandbox/docker/sandbox.ts";
import type { SandboxRig } from "../../contract/sandbox.ts";
import { EngineEvents } from "./engine-events.ts";
import { dockerClient } from "./engine.ts";
import { removeRemains } from "./cleanup.ts";
import type { Peer, Peers } from "../process/sandbox-peer.ts";
import type { Sandbox, SandboxSpec } from "../../../src/core/ports/sandbox.ts";

const root = join(import.meta.dirname, "../../..");
export const workerFile = join(root, "test/support/process/stand-in-worker.mjs");
export const dockerfile = join(root, "Dockerfile");
let serial = 0;

export interface DockerRig extends SandboxRig {
  readonly options: DockerSandboxOptions;
  readonly socketBase: string;
  /** Folder of the loop disk images. */
  readonly disks: string;
  /** A coordinator process that ensures, removes, and kills itself at a crash point. */
  startCrashing(spec: SandboxSpec, crashAt: string): Peer;
  open(changes?: Partial<DockerSandboxOptions>): Sandbox;
}

/** @param warm size of the warm pool; absent = no pool. */
export function openDockerRig(peers: () => Peers, warm?: number): () => Promise<DockerRig> {
  return async () => {
    const socketBase = mkdtempSync(join(tmpdir(), "slipway-run-"));
    chmodSync(socketBase, 0o755);
    const disks = mkdtempSync(join(tmpdir(), "slipway-disks-"));
    // A long polling interval: a fast detection is due to an event.
    const options: DockerSandboxOptions = {
      instance: `test-${process.pid}-${++serial}`,
      workerFile,
      dockerfile,
      memoryMb: 256,
      pollMs: 60_000,
      disk: { mode: "auto", dir: disks, defaultMb: 256 },
      ...(warm === undefined ? {} : { pool: { size: warm, dir: socketBase } }),
    };
    const opened: Sandbox[] = [];
    const docker = dockerClient();
    const events = await EngineEvents.follow(docker);
    return {
      options,
      socketBase,
      disks,
      open(changes = {}) {
        const sandbox = openDockerSandbox({ ...options, ...changes });
        opened.push(sandbox);
        return sandbox;
      },
      startCrashing: (spec, crashAt) =>
        peers().start({ adapter: { kind: "docker", options }, spec, crashAt, after: "remove" }),
      peer: (spec, crashAt) =>
        peers().start({ adapter: { kind: "docker", options }, spec, ...(crashAt === undefined ? {} : { crashAt }) }),
      vanish: async (name) => void (await docker.getContainer(name).remove({ force: true, v: true })),
      killWorker: async (name) => void (await docker.getContainer(name).kill({ signal: "SIGKILL" })),
      // Until the container ends, the engine reports the kill only as an event.
      isOutOfMemory: async (name) => (await events.ofContainers("oom", { name })).length > 0,
      async close() {
        events.close();
        await removeRemains(options.instance, disks);
        await Promise.all(opened.map((sandbox) => sandbox.close()));
        rmSync(socketBase, { recursive: true, force: true });
        rmSync(disks, { recursive: true, force: true });
      },
    };
  };
}
