/**
 * How a container's worker reaches its broker: by the socket's folder, which it mounts, or by a
 * tunnel where the engine does not see our files.
 */
import type Docker from "dockerode";
import { join } from "node:path";
import { LABELS } from "../container-spec.ts";
import { isLocalEngine, type Engine } from "../engine.ts";
import { openExecTunnels, type TunnelDeps } from "./exec-tunnel.ts";

export type TransportKind = "socket" | "tunnel";

export interface TransportOptions {
  /** Absent or `auto`: a tunnel for an engine on another machine or in a virtual one. */
  readonly transport?: "auto" | TransportKind | undefined;
  /** See DockerSandboxOptions. An engine that was named in code is on this machine. */
  readonly docker?: Docker.DockerOptions | null;
}

export interface WorkerTransport {
  /** Asked of the engine once. Rejects when it does not answer. */
  kind(): Promise<TransportKind>;
  /**
   * To be called by whoever looks after a container: keeps its tunnel open if it has one.
   * Idempotent.
   */
  attend(name: string, info: Docker.ContainerInspectInfo | null): void;
  close(): void;
}

/** A desktop's engine runs in a machine of its own, and says so in its name. */
const DESKTOP = /docker desktop|orbstack|colima|rancher desktop/i;

export function openTransport(options: TransportOptions, engine: Engine, runs: TunnelDeps["runs"]): WorkerTransport {
  const tunnels = openExecTunnels({ engine, runs });
  let chosen: Promise<TransportKind> | null = null;

  function kind(): Promise<TransportKind> {
    const asked = options.transport ?? "auto";
    if (asked !== "auto") return Promise.resolve(asked);
    if (!isLocalEngine() && !options.docker) return Promise.resolve("tunnel");
    chosen ??= engine
      .call((docker) => docker.info() as Promise<{ OperatingSystem?: string }>)
      .then(({ OperatingSystem = "" }) => (DESKTOP.test(OperatingSystem) ? "tunnel" : "socket"));
    chosen.catch(() => (chosen = null));
    return chosen;
  }

  return {
    kind,
    attend(name, info) {
      if (info?.State.Running !== true) return;
      const { Labels, Entrypoint } = info.Config;
      const place = Labels[LABELS.door];
      if (place) tunnels.keep(name, join(place, "b.sock"), [Entrypoint ?? []].flat());
    },
    close: () => tunnels.close(),
  };
}
