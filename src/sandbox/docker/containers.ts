/**
 * Operations on single containers, by name. Each is idempotent and treats a container that is gone,
 * or already in the wanted state, as success. Errors of the engine reject with TaskFailure
 * `sandbox_unavailable`.
 */
import type Docker from "dockerode";
import { TaskFailure } from "../../core/failure.ts";
import { parseSandboxName } from "../../core/task.ts";
import type { SandboxInfo } from "../../core/ports/sandbox.ts";
import { LABELS, WORKSPACE } from "./container-spec.ts";
import { EngineError, hasStatus, toTaskFailure, withTaskFailures, type Engine } from "./engine.ts";
import { waitUntil, type EngineEvents } from "./engine-events.ts";
import { isPooled } from "./pool/warm-pool.ts";

/** Longest time from SIGKILL to the end of a container, ms. */
export const KILL_MS = 20_000;

export type ContainerInfo = Docker.ContainerInspectInfo;

/** `created`: never started. `stopped`: its exit code is final. */
export function getState(info: ContainerInfo): "created" | "running" | "stopped" {
  const { Status, Running } = info.State;
  if (Status === "created") return "created";
  return Running || Status === "restarting" || Status === "removing" ? "running" : "stopped";
}

export class Containers {
  readonly #engine: Engine;
  readonly #events: EngineEvents;

  constructor(engine: Engine, events: EngineEvents) {
    this.#engine = engine;
    this.#events = events;
  }

  /** @returns null when there is no container of that name. */
  async inspect(name: string, signal?: AbortSignal): Promise<ContainerInfo | null> {
    try {
      return await this.#engine.call(
        (docker, stop) => docker.getContainer(name).inspect({ abortSignal: stop }),
        signal,
      );
    } catch (error) {
      if (hasStatus(error, 404)) return null;
      throw toTaskFailure(error);
    }
  }

  /** Rejects with EngineError: 409 = the name is taken, 404 = there is no such image. */
  async create(body: Docker.ContainerCreateOptions, signal: AbortSignal): Promise<void> {
    await this.#engine.call((docker, stop) => docker.createContainer({ ...body, abortSignal: stop }), signal);
  }

  async start(name: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#engine.call((docker, stop) => docker.getContainer(name).start({ abortSignal: stop }), signal);
    } catch (error) {
      if (!hasStatus(error, 304)) throw toTaskFailure(error);
    }
  }

  async sendSignal(name: string, which: "SIGTERM" | "SIGKILL", signal: AbortSignal): Promise<void> {
    try {
      await this.#engine.call(
        (docker, stop) => docker.getContainer(name).kill({ signal: which, abortSignal: stop }),
        signal,
      );
    } catch (error) {
      // 404: gone; 409: not running. Some engines answer 500 for the latter.
      const isStopped = error instanceof EngineError && /not running/i.test(error.message);
      if (!isStopped && !hasStatus(error, 404, 409)) throw toTaskFailure(error);
    }
  }

  /** @returns true when the container is not running within `ms`. */
  waitForEnd(name: string, ms: number, signal: AbortSignal): Promise<boolean> {
    const end = Date.now() + ms;
    const pollMs = (): number => Math.max(1, Math.min(1_000, end - Date.now()));
    return waitUntil(this.#events, name, pollMs, signal, async () => {
      const isLate = Date.now() >= end;
      const info = await this.inspect(name, signal);
      if (info === null || getState(info) !== "running") return true;
      return isLate ? false : null;
    });
  }

  /** Kills the container if it runs, and removes it. Resolves when it cannot be found any more. */
  async remove(name: string, signal: AbortSignal): Promise<void> {
    try {
      await this.#engine.call((docker, stop) =>
        docker.getContainer(name).remove({ force: true, v: true, abortSignal: stop }),
      );
    } catch (error) {
      if (hasStatus(error, 404)) return;
      // 409: its removal is already in progress.
      if (!hasStatus(error, 409)) throw toTaskFailure(error);
    }
    const end = Date.now() + KILL_MS;
    const pollMs = (): number => 200;
    await waitUntil(this.#events, name, pollMs, signal, async () => {
      if ((await this.inspect(name)) === null) return true;
      if (Date.now() <= end) return null;
      throw new TaskFailure("sandbox_unavailable", { detail: `The container ${name} cannot be removed.` });
    });
  }

  /** Containers with the installation's label, except unclaimed ones of the warm pool. */
  async list(instance: string): Promise<SandboxInfo[]> {
    return (await this.#listOwn(instance)).map(({ name, State }) => {
      const { taskId, attempt } = parseSandboxName(name) ?? { taskId: "", attempt: 0 };
      const state = State === "created" ? "created" : State === "exited" || State === "dead" ? "exited" : "running";
      return { name, taskId, attempt, state };
    });
  }

  /** The workspace's volume of each of these containers, by the container's name. */
  async volumes(instance: string): Promise<Map<string, string>> {
    const found = await this.#listOwn(instance);
    const volumeOf = ({ Mounts }: Docker.ContainerInfo): string | undefined =>
      Mounts.find(({ Destination }) => Destination === WORKSPACE)?.Name;
    return new Map(found.map((info) => [info.name, volumeOf(info) ?? info.name]));
  }

  async #listOwn(instance: string): Promise<(Docker.ContainerInfo & { readonly name: string })[]> {
    const filters = { label: [`${LABELS.instance}=${instance}`] };
    const containers = await withTaskFailures(
      this.#engine.call((docker, stop) => docker.listContainers({ all: true, filters, abortSignal: stop })),
    );
    const named = containers.map((info) => ({ ...info, name: info.Names[0]?.replace(/^\//, "") ?? info.Id }));
    return named.filter(({ name, Labels }) => !isPooled(name, Labels));
  }
}
