/**
 * Workers that were started ahead of their task: containers that lack nothing but whom they work
 * for.
 *
 * P1 A claim is the rename of a container to the attempt's name: the name stays the only fence
 *    (rule D1).
 * P2 A claimed container is bound by moving its folder to the attempt's address and then naming the
 *    attempt in it. Each step may be repeated; the container's mount tells whoever comes after a
 *    crash how far it went.
 * P3 Only what is, to the last setting, the container that would be made now is claimed; every
 *    other task goes the cold way.
 * P4 No container serves two attempts: from the claim on it lives and goes as its attempt's own.
 */
import { createHash, randomBytes } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import type Docker from "dockerode";
import { errorMessage } from "../../core/error.ts";
import { WORKER_ENV, type Assignment } from "../../core/protocol/worker.ts";
import { LABELS, SOCKET_TARGET, WORKER_UID } from "./container-spec.ts";
import { EngineError, hasStatus, type Engine } from "./engine.ts";
import type { SandboxSpec, PoolStatus } from "../../core/ports/sandbox.ts";

export interface WarmPoolOptions {
  /** How many wait; 0 = none, and what an earlier start left is removed. */
  readonly size: number;
  /**
   * The folder that holds the attempts' socket folders: whoever moves into one of them must come
   * from the same file system.
   */
  readonly dir: string;
}

export interface WarmPoolDeps extends WarmPoolOptions {
  readonly engine: Engine;
  readonly instance: string;
  /** The name of the image that tasks without one of their own get. */
  readonly image: () => Promise<string>;
  /** The container that would be made for this attempt. */
  readonly body: (spec: SandboxSpec) => Promise<Docker.ContainerCreateOptions>;
  /** Makes what must be there before it. */
  readonly disk: (spec: SandboxSpec) => Promise<void>;
  /** Kills and forgets a container. */
  readonly remove: (nameOrId: string) => Promise<void>;
  readonly crashpoint: (name: string) => void;
}

export interface WarmPool {
  /**
   * @returns true when a container bears the attempt's name now, or somebody else's does; false
   * when one has to be made.
   */
  claim(spec: SandboxSpec, signal: AbortSignal): Promise<boolean>;
  /**
   * Makes a claimed container the attempt's. @returns false when it had ended before it knew its
   * attempt: it serves nobody.
   */
  bind(spec: SandboxSpec, info: Docker.ContainerInspectInfo): boolean;
  /** See Sandbox.tend. */
  maintain(growth: "grow" | "hold", signal: AbortSignal): Promise<void>;
  status(signal?: AbortSignal): Promise<PoolStatus>;
}

const FOLDER = "pool-";
const FOLDER_NAME = /^pool-[0-9a-f]{12}$/;
const ASSIGNMENT = "attempt.json";
/** How often a full pool is looked at, ms. */
const LOOK_MS = 10_000;
/** Longest rest after failures, ms. */
const REST_MAX_MS = 60_000;
/**
 * A folder without a container may belong to one that is being made; after this it does not, ms.
 */
const STALE_MS = 60_000;
const NO_ONE: Pick<SandboxSpec, "name" | "taskId" | "attempt" | "token" | "socketDir"> = {
  name: "",
  taskId: "",
  attempt: 0,
  token: "",
  socketDir: "/",
};

/** Names of containers that wait, by installation. */
const waitingName = (instance: string, id: string): string => `slipway-pool-${instance}-${id}`;

/** True for a container that waits for its attempt, not for one that was claimed. */
export function isWaiting(name: string, labels: Readonly<Record<string, string>>): boolean {
  return Boolean(labels[LABELS.pool]) && name.startsWith("slipway-pool-");
}

interface Look {
  readonly fit: readonly string[];
  readonly unfit: readonly { readonly name: string; readonly ended: boolean }[];
  /** Folders that a container of ours mounts, waiting or claimed. */
  readonly mounted: ReadonlySet<string>;
  /** Null = the engine does not have it yet. */
  readonly imageId: string | null;
}

export function openWarmPool(deps: WarmPoolDeps): WarmPool {
  const { engine, instance, size, remove, crashpoint } = deps;
  const dir = resolve(deps.dir);
  /** Ids of containers that may be claimed. */
  let ready: string[] = [];
  /**
   * Ids that this process has claimed, so that a list that is older than the claim does not bring
   * them back.
   */
  const taken = new Set<string>();
  let recipe = "";
  let lookedAt = -Infinity;
  let restUntil = 0;
  let failures = 0;
  let reason: string | null = null;

  async function recipeOf(spec: SandboxSpec): Promise<string> {
    const body = await deps.body({ ...spec, ...NO_ONE });
    return createHash("sha256").update(JSON.stringify(body)).digest("hex").slice(0, 16);
  }

  const plain = (): SandboxSpec => ({ ...NO_ONE, limits: {} });

  async function imageId(signal?: AbortSignal): Promise<string | null> {
    const name = await deps.image();
    try {
      return (await engine.call((docker) => docker.getImage(name).inspect(), signal)).Id;
    } catch (error) {
      if (hasStatus(error, 404)) return null;
      throw error;
    }
  }

  async function look(signal?: AbortSignal): Promise<Look> {
    const [image, wanted] = await Promise.all([imageId(signal), recipeOf(plain())]);
    const filters = { label: [`${LABELS.instance}=${instance}`, LABELS.pool] };
    const found = await engine.call(
      (docker, stop) => docker.listContainers({ all: true, filters, abortSignal: stop }),
      signal,
    );
    const fit: string[] = [];
    const unfit: { name: string; ended: boolean }[] = [];
    const mounted = new Set<string>();
    for (const one of found) {
      const name = one.Names[0]?.replace(/^\//, "") ?? one.Id;
      const folder = folderOf(one.Mounts);
      mounted.add(folder);
      const id = folder.slice(FOLDER.length);
      if (name !== waitingName(instance, id) || taken.has(id)) continue;
      const same = one.Labels[LABELS.pool] === wanted && one.ImageID === image;
      if (one.State === "running" && !one.Status.includes("Paused") && same && existsSync(join(dir, folder)))
        fit.push(id);
      else unfit.push({ name, ended: one.State === "exited" && same });
    }
    recipe = wanted;
    ready = fit.filter((id) => !taken.has(id));
    return { fit: ready, unfit, mounted, imageId: image };
  }

  async function claim(spec: SandboxSpec, signal: AbortSignal): Promise<boolean> {
    if (size === 0 || dirname(resolve(spec.socketDir)) !== dir) return false;
    if (lookedAt === -Infinity) {
      await look(signal);
      lookedAt = Date.now();
    }
    if (ready.length === 0 || (await recipeOf(spec)) !== recipe) return false;
    for (let id = ready.shift(); id !== undefined; id = ready.shift()) {
      taken.add(id);
      try {
        const name = waitingName(instance, id);
        await engine.call(
          (docker, stop) => docker.getContainer(name).rename({ name: spec.name, abortSignal: stop }),
          signal,
        );
        crashpoint("sandbox.claimed");
        return true;
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        // The attempt has its container: this one goes on waiting.
        if (error.status === 409) {
          taken.delete(id);
          return true;
        }
      }
    }
    return false;
  }

  function bind(spec: SandboxSpec, info: Docker.ContainerInspectInfo): boolean {
    const place = resolve(spec.socketDir);
    const home = join(dir, folderOf(info.Mounts));
    const alive = info.State.Running && !info.State.Paused;
    if (existsSync(home)) {
      if (!alive) {
        rmSync(home, { recursive: true, force: true });
        return false;
      }
      moveInto(place, home);
    } else if (existsSync(join(place, ASSIGNMENT))) return true;
    else if (!alive) return false;
    crashpoint("sandbox.moved");
    assign(place, { token: spec.token, attempt: spec.attempt });
    return true;
  }

  /**
   * The container sees `home` whatever its name: it gets what lies at the attempt's address (the
   * socket), and then that address.
   */
  function moveInto(place: string, home: string): void {
    unlessGone(() =>
      readdirSync(place).forEach((name) => unlessGone(() => renameSync(join(place, name), join(home, name)))),
    );
    crashpoint("sandbox.emptied");
    unlessGone(() => renameSync(home, place));
  }

  async function make(signal: AbortSignal): Promise<void> {
    const id = randomBytes(6).toString("hex");
    const folder = join(dir, FOLDER + id);
    const name = waitingName(instance, id);
    makeFolder(dir, folder);
    const spec = { ...plain(), name, socketDir: folder };
    const [body] = await Promise.all([deps.body(spec), deps.disk(spec)]);
    const secret = [`${WORKER_ENV.token}=`, `${WORKER_ENV.attempt}=`];
    const Env = (body.Env ?? []).filter((one) => !secret.some((word) => one.startsWith(word)));
    Env.push(`${WORKER_ENV.assignment}=${SOCKET_TARGET}/${ASSIGNMENT}`);
    const Labels = { [LABELS.instance]: instance, [LABELS.pool]: recipe, [LABELS.door]: "" };
    try {
      await engine.call((docker, stop) => docker.createContainer({ ...body, Env, Labels, abortSignal: stop }), signal);
      crashpoint("pool.created");
      await engine.call((docker, stop) => docker.getContainer(name).start({ abortSignal: stop }), signal);
      if (!ready.includes(id)) ready.push(id);
    } catch (error) {
      // What is left behind is unfit, and goes with the next look.
      if (error instanceof EngineError) {
        await remove(name).catch(() => undefined);
        rmSync(folder, { recursive: true, force: true });
      }
      throw error;
    }
  }

  function rest(why: string): void {
    failures += 1;
    restUntil = Date.now() + Math.min(REST_MAX_MS, 1_000 * 2 ** failures);
    reason = why;
  }

  async function tendNow(growth: "grow" | "hold", signal: AbortSignal): Promise<void> {
    const { fit, unfit, mounted, imageId: image } = await look(signal);
    lookedAt = Date.now();
    const surplus = fit.slice(size);
    ready = fit.slice(0, size);
    for (const name of [...unfit.map((one) => one.name), ...surplus.map((id) => waitingName(instance, id))])
      await remove(name);
    sweep(dir, mounted, new Set(surplus.map((id) => FOLDER + id)));
    if (unfit.some(({ ended }) => ended)) return rest("a worker that waited has ended");
    if (image === null && size > 0) {
      reason = "the worker image is made with the first task";
      return;
    }
    while (growth === "grow" && ready.length < size) await make(signal);
    if (growth === "hold" && ready.length < size) return;
    failures = 0;
    reason = null;
  }

  let tending: Promise<void> | null = null;

  return {
    claim,
    bind,
    maintain(growth, signal) {
      const now = Date.now();
      const content = ready.length === size && now - lookedAt < LOOK_MS;
      if (tending !== null || content || now < restUntil) return tending ?? Promise.resolve();
      tending = tendNow(growth, signal)
        .catch((error: unknown) => {
          if (!signal.aborted) rest(errorMessage(error));
        })
        .finally(() => (tending = null));
      return tending;
    },
    async status(signal) {
      const { fit } = await look(signal);
      return { wanted: size, ready: fit.length, reason: fit.length >= size ? null : reason };
    },
  };
}

/**
 * The name of the folder that the container mounts as its door, as it was called when the container
 * was made.
 */
function folderOf(mounts: readonly { readonly Destination: string; readonly Source: string }[]): string {
  return basename(mounts.find(({ Destination }) => Destination === SOCKET_TARGET)?.Source ?? "");
}

/** Of two that do the same step, one comes late. */
function unlessGone(step: () => void): void {
  try {
    step();
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
  }
}

function makeFolder(base: string, folder: string): void {
  mkdirSync(base, { recursive: true, mode: 0o700 });
  const found = lstatSync(base);
  if (!found.isDirectory()) throw new Error(`${base} is not a folder`);
  mkdirSync(folder);
  // Readable, because the worker watches it.
  chmodSync(folder, 0o755);
}

/** Whole, closed to everyone but the worker, and last: the worker begins when it sees it. */
function assign(place: string, assignment: Assignment): void {
  const draft = join(place, `.${randomBytes(6).toString("hex")}`);
  // Without root the worker is "others" for us; the folder above lets nobody else of this machine
  // in.
  const isRoot = process.getuid?.() === 0;
  writeFileSync(draft, JSON.stringify(assignment), { mode: isRoot ? 0o400 : 0o444 });
  if (isRoot) chownSync(draft, WORKER_UID, WORKER_UID);
  renameSync(draft, join(place, ASSIGNMENT));
}

/** Folders of containers that are gone. */
function sweep(dir: string, mounted: ReadonlySet<string>, gone: ReadonlySet<string>): void {
  if (!existsSync(dir)) return;
  for (const name of readdirSync(dir).filter((one) => FOLDER_NAME.test(one))) {
    const folder = join(dir, name);
    if (gone.has(name)) rmSync(folder, { recursive: true, force: true });
    else if (!mounted.has(name)) {
      unlessGone(() => {
        if (Date.now() - statSync(folder).ctimeMs > STALE_MS) rmSync(folder, { recursive: true, force: true });
      });
    }
  }
}
