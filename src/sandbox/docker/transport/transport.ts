/** How a container's worker reaches its broker: by the socket's folder, which it mounts, or by a tunnel where the engine does not see our files. */
import type Docker from "dockerode";
import { join } from "node:path";
import { LABELS } from "../container-spec.ts";
import { isLocalEngine, type Engine } from "../engine.ts";
import { openTunnels, type TunnelDeps } from "./exec-tunnel.ts";

export type DoorKind = "socket" | "tunnel";

export interface DoorOptions {
  /** Absent or `auto`: a tunnel for an engine on another machine or in a virtual one. */
  readonly door?: "auto" | DoorKind | undefined;
  /** See DockerSandboxOptions. An engine that was named in code is on this machine. */
  readonly docker?: Docker.DockerOptions | null;
}

export interface Door {
  /** Asked of the engine once. Rejects when it does not answer. */
  kind(): Promise<DoorKind>;
  /** To be called by whoever looks after a container: keeps its tunnel open if it has one. Idempotent. */
  attend(name: string, info: Docker.ContainerInspectInfo | null): void;
  close(): void;
}

/** A desktop's engine runs in a machine of its own, and says so in its name. */
const DESKTOP = /docker desktop|orbstack|colima|rancher desktop/i;

export function openDoor(options: DoorOptions, engine: Engine, runs: TunnelDeps["runs"]): Door {
  const tunnels = openTunnels({ engine, runs });
  let chosen: Promise<DoorKind> | null = null;

  function kind(): Promise<DoorKind> {
    const asked = options.door ?? "auto";
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
