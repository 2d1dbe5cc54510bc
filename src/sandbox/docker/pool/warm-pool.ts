/**
 * Warm pool: containers that are started before their task and wait for an attempt.
 *
 * P1 A claim renames the container to the attempt's name, so the name remains the only fence (rule
 *    D1).
 * P2 A claimed container is bound by moving its socket folder to the attempt's path and then
 *    writing the assignment into it. Each step is idempotent; after a crash the container's mount
 *    shows which steps are done.
 * P3 A container is claimed only if its settings equal those that a new one for the task would get.
 *    Otherwise a new container is created.
 * P4 No container serves two attempts: after the claim it belongs to its attempt.
 */
import { createHash, randomBytes } from "node:crypto";
import type Docker from "dockerode";
import { errorMessage } from "../../../core/error.ts";
import { WORKER_ENV } from "../../../core/protocol/worker.ts";
import type { SandboxSpec, PoolStatus } from "../../../core/ports/sandbox.ts";
import { LABELS, SOCKET_TARGET } from "../container-spec.ts";
import { EngineError, hasStatus, type Engine } from "../engine.ts";
import { ASSIGNMENT, getPoolId, SocketDirs } from "./socket-dirs.ts";

export interface WarmPoolOptions {
  /** Number of waiting containers. 0 = none, and those of an earlier start are removed. */
  readonly size: number;
  /** Parent of the attempts' socket folders. Pooled folders are created in it, to be movable. */
  readonly dir: string;
}

export interface WarmPoolDeps extends WarmPoolOptions {
  readonly engine: Engine;
  readonly instance: string;
  /** The image of tasks that name none. */
  readonly image: () => Promise<string>;
  /** The settings of a new container for this attempt. */
  readonly createBody: (spec: SandboxSpec) => Promise<Docker.ContainerCreateOptions>;
  /** Creates the disk of a container. */
  readonly makeDisk: (spec: SandboxSpec) => Promise<void>;
  /** Kills and removes a container and its disk. */
  readonly remove: (nameOrId: string) => Promise<void>;
  readonly crashpoint: (name: string) => void;
}

/** Time between two checks of a full pool, ms. */
const CHECK_MS = 10_000;
/** Longest pause after failures, ms. */
const MAX_PAUSE_MS = 60_000;
const UNASSIGNED: Pick<SandboxSpec, "name" | "taskId" | "attempt" | "token" | "socketDir"> = {
  name: "",
  taskId: "",
  attempt: 0,
  token: "",
  socketDir: "/",
};
const DEFAULT_SPEC: SandboxSpec = { ...UNASSIGNED, limits: {} };

const getContainerName = (instance: string, id: string): string => `slipway-pool-${instance}-${id}`;

/** True for a container of the pool that has not been claimed. */
export function isPooled(name: string, labels: Readonly<Record<string, string>>): boolean {
  return Boolean(labels[LABELS.pool]) && name.startsWith("slipway-pool-");
}

interface Inventory {
  readonly unusable: readonly { readonly name: string; readonly hasEnded: boolean }[];
  /** Pool ids of all containers of the pool, claimed ones too. */
  readonly mounted: ReadonlySet<string>;
  /** False = the engine has no worker image yet. */
  readonly hasImage: boolean;
}

export class WarmPool {
  readonly #deps: WarmPoolDeps;
  readonly #dirs: SocketDirs;
  /** Pool ids of containers that may be claimed. */
  #usable: string[] = [];
  /** Claimed by this process; a container list from before the claim still contains them. */
  readonly #claimed = new Set<string>();
  /** Digest of the settings that a container must have to be claimed (P3). */
  #settingsDigest = "";
  #checkedAt = -Infinity;
  #pausedUntil = 0;
  #failures = 0;
  #reason: string | null = null;
  #maintenance: Promise<void> | null = null;

  constructor(deps: WarmPoolDeps) {
    this.#deps = deps;
    this.#dirs = new SocketDirs(deps.dir, deps.crashpoint);
  }

  /**
   * Renames a pooled container to the attempt's name. @returns true when a container of that name
   * exists now; false when one must be created.
   */
  async claim(spec: SandboxSpec, signal: AbortSignal): Promise<boolean> {
    const { size, instance, crashpoint } = this.#deps;
    if (size === 0 || !this.#dirs.contains(spec.socketDir)) return false;
    if (this.#checkedAt === -Infinity) {
      await this.#takeInventory(signal);
      this.#checkedAt = Date.now();
    }
    if (this.#usable.length === 0 || (await this.#digestSettings(spec)) !== this.#settingsDigest) return false;
    for (let id = this.#usable.shift(); id !== undefined; id = this.#usable.shift()) {
      this.#claimed.add(id);
      try {
        await this.#rename(getContainerName(instance, id), spec.name, signal);
        crashpoint("sandbox.claimed");
        return true;
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        // The attempt has a container already, so this one keeps waiting.
        if (error.status === 409) {
          this.#claimed.delete(id);
          return true;
        }
      }
    }
    return false;
  }

  /**
   * Assigns the attempt to a claimed container. Idempotent. @returns false when the container ended
   * before it was assigned, so that it must be replaced.
   */
  bind(spec: SandboxSpec, info: Docker.ContainerInspectInfo): boolean {
    const isAlive = info.State.Running && !info.State.Paused;
    return this.#dirs.assign(info.Mounts, isAlive, spec.socketDir, { token: spec.token, attempt: spec.attempt });
  }

  /** See Sandbox.maintainPool. A call during another one joins it. */
  maintain(options: { readonly grow: boolean }, signal: AbortSignal): Promise<void> {
    const now = Date.now();
    const isFull = this.#usable.length === this.#deps.size && now - this.#checkedAt < CHECK_MS;
    if (this.#maintenance !== null || isFull || now < this.#pausedUntil) return this.#maintenance ?? Promise.resolve();
    this.#maintenance = this.#maintainNow(options.grow, signal)
      .catch((error: unknown) => {
        if (!signal.aborted) this.#pause(errorMessage(error));
      })
      .finally(() => (this.#maintenance = null));
    return this.#maintenance;
  }

  async status(signal?: AbortSignal): Promise<PoolStatus> {
    const wanted = this.#deps.size;
    await this.#takeInventory(signal);
    const ready = this.#usable.length;
    return { wanted, ready, reason: ready >= wanted ? null : this.#reason };
  }

  /** Leaves out what differs between attempts. */
  async #digestSettings(spec: SandboxSpec): Promise<string> {
    const body = await this.#deps.createBody({ ...spec, ...UNASSIGNED });
    return createHash("sha256").update(JSON.stringify(body)).digest("hex").slice(0, 16);
  }

  async #findImageId(signal?: AbortSignal): Promise<string | null> {
    const name = await this.#deps.image();
    try {
      return (await this.#deps.engine.call((docker) => docker.getImage(name).inspect(), signal)).Id;
    } catch (error) {
      if (hasStatus(error, 404)) return null;
      throw error;
    }
  }

  /** Lists the pool's containers and sets `#usable` and `#settingsDigest`. */
  async #takeInventory(signal?: AbortSignal): Promise<Inventory> {
    const { engine, instance } = this.#deps;
    const [imageId, digest] = await Promise.all([this.#findImageId(signal), this.#digestSettings(DEFAULT_SPEC)]);
    const filters = { label: [`${LABELS.instance}=${instance}`, LABELS.pool] };
    const containers = await engine.call(
      (docker, stop) => docker.listContainers({ all: true, filters, abortSignal: stop }),
      signal,
    );
    const usable: string[] = [];
    const unusable: { name: string; hasEnded: boolean }[] = [];
    const mounted = new Set<string>();
    for (const container of containers) {
      const name = container.Names[0]?.replace(/^\//, "") ?? container.Id;
      const id = getPoolId(container.Mounts);
      mounted.add(id);
      if (name !== getContainerName(instance, id) || this.#claimed.has(id)) continue;
      const isCurrent = container.Labels[LABELS.pool] === digest && container.ImageID === imageId;
      const isRunning = container.State === "running" && !container.Status.includes("Paused");
      if (isRunning && isCurrent && this.#dirs.exists(id)) usable.push(id);
      else unusable.push({ name, hasEnded: container.State === "exited" && isCurrent });
    }
    this.#settingsDigest = digest;
    this.#usable = usable.filter((id) => !this.#claimed.has(id));
    return { unusable, mounted, hasImage: imageId !== null };
  }

  async #maintainNow(grow: boolean, signal: AbortSignal): Promise<void> {
    const { size, instance, remove } = this.#deps;
    const { unusable, mounted, hasImage } = await this.#takeInventory(signal);
    this.#checkedAt = Date.now();
    const surplus = this.#usable.slice(size);
    this.#usable = this.#usable.slice(0, size);
    for (const { name } of unusable) await remove(name);
    for (const id of surplus) await remove(getContainerName(instance, id));
    this.#dirs.deleteUnused(mounted, new Set(surplus));
    if (unusable.some(({ hasEnded }) => hasEnded)) return this.#pause("a pooled worker has ended");
    if (!hasImage && size > 0) {
      this.#reason = "the first task builds the worker image";
      return;
    }
    while (grow && this.#usable.length < size) await this.#add(signal);
    if (this.#usable.length < size) return;
    this.#failures = 0;
    this.#reason = null;
  }

  async #add(signal: AbortSignal): Promise<void> {
    const { engine, instance, createBody, makeDisk, remove, crashpoint } = this.#deps;
    const id = randomBytes(6).toString("hex");
    const name = getContainerName(instance, id);
    const spec = { ...DEFAULT_SPEC, name, socketDir: this.#dirs.create(id) };
    const [body] = await Promise.all([createBody(spec), makeDisk(spec)]);
    const unknown = [`${WORKER_ENV.token}=`, `${WORKER_ENV.attempt}=`];
    const Env = (body.Env ?? []).filter((variable) => !unknown.some((prefix) => variable.startsWith(prefix)));
    Env.push(`${WORKER_ENV.assignment}=${SOCKET_TARGET}/${ASSIGNMENT}`);
    const Labels = {
      [LABELS.instance]: instance,
      [LABELS.pool]: this.#settingsDigest,
      [LABELS.socketDir]: "",
      [LABELS.setup]: "",
    };
    try {
      await engine.call((docker, stop) => docker.createContainer({ ...body, Env, Labels, abortSignal: stop }), signal);
      crashpoint("pool.created");
      await engine.call((docker, stop) => docker.getContainer(name).start({ abortSignal: stop }), signal);
      if (!this.#usable.includes(id)) this.#usable.push(id);
    } catch (error) {
      // After any other error the next maintenance finds the container unusable and removes it.
      if (error instanceof EngineError) {
        await remove(name).catch(() => undefined);
        this.#dirs.delete(id);
      }
      throw error;
    }
  }

  async #rename(from: string, to: string, signal: AbortSignal): Promise<void> {
    await this.#deps.engine.call(
      (docker, stop) => docker.getContainer(from).rename({ name: to, abortSignal: stop }),
      signal,
    );
  }

  #pause(reason: string): void {
    this.#failures += 1;
    this.#pausedUntil = Date.now() + Math.min(MAX_PAUSE_MS, 1_000 * 2 ** this.#failures);
    this.#reason = reason;
  }
}
