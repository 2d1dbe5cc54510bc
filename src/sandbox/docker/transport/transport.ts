/**
 * How a worker in a container reaches its broker: over the broker's socket, whose folder is
 * mounted, or over an exec tunnel when the engine cannot mount files of this machine.
 */
import type Docker from "dockerode";
import { join } from "node:path";
import { LABELS } from "../container-spec.ts";
import { isLocalEngine, type Engine } from "../engine.ts";
import { ExecTunnels, type ExecTunnelDeps } from "./exec-tunnel.ts";

export type TransportKind = "socket" | "tunnel";

export interface TransportOptions {
  /** Absent or `auto`: a tunnel for an engine on another machine or in a virtual machine. */
  readonly transport?: "auto" | TransportKind | undefined;
  /** See DockerSandboxOptions. With explicit options the engine counts as local. */
  readonly docker?: Docker.DockerOptions | null;
}

/** Desktop products run the engine in a virtual machine; its operating system names the product. */
const DESKTOP = /docker desktop|orbstack|colima|rancher desktop/i;

export class WorkerTransport {
  readonly #options: TransportOptions;
  readonly #engine: Engine;
  readonly #tunnels: ExecTunnels;
  #detected: Promise<TransportKind> | null = null;

  constructor(options: TransportOptions, engine: Engine, isRunning: ExecTunnelDeps["isRunning"]) {
    this.#options = options;
    this.#engine = engine;
    this.#tunnels = new ExecTunnels({ engine, isRunning });
  }

  /** Detected once. Rejects when the engine does not answer; the next call then detects again. */
  kind(): Promise<TransportKind> {
    const { transport = "auto", docker } = this.#options;
    if (transport !== "auto") return Promise.resolve(transport);
    if (!isLocalEngine() && !docker) return Promise.resolve("tunnel");
    const detected = (this.#detected ??= this.#detect());
    detected.catch(() => (this.#detected = null));
    return detected;
  }

  /** Opens the container's tunnel if it uses one and is running. Idempotent. */
  connect(name: string, info: Docker.ContainerInspectInfo | null): void {
    if (info?.State.Running !== true) return;
    const { Labels, Entrypoint } = info.Config;
    const socketDir = Labels[LABELS.socketDir];
    if (socketDir) this.#tunnels.open(name, join(socketDir, "b.sock"), [Entrypoint ?? []].flat());
  }

  close(): void {
    this.#tunnels.close();
  }

  async #detect(): Promise<TransportKind> {
    const { OperatingSystem = "" } = await this.#engine.call(
      (docker) => docker.info() as Promise<{ OperatingSystem?: string }>,
    );
    return DESKTOP.test(OperatingSystem) ? "tunnel" : "socket";
  }
}
