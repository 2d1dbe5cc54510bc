/**
 * A Slipway installation on Docker as a test sees it: a coordinator that can be killed and started
 * again, its containers, its upstream.
 */
import type Docker from "dockerode";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { checkInvariants } from "../../../src/coordinator/invariants.ts";
import { deriveInstanceId } from "../../../src/app/data-folder.ts";
import { openDockerSandbox } from "../../../src/sandbox/docker/sandbox.ts";
import { openSqliteReader } from "../../../src/store/sqlite/store.ts";
import type { StoreReader } from "../../../src/store/sqlite/store.ts";
import { TASK_STATES, type Policy } from "../../../src/core/task.ts";
import type { WireEvent, WireTask } from "../../../src/core/protocol/rest.ts";
import { disksOf, removeRemains } from "./cleanup.ts";
import { startGitServer, type GitServer } from "../git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../process/server.ts";

export interface InstallationOptions {
  readonly docker: Docker;
  /** DOCKER_HOST of the coordinator; null = the shared engine. */
  readonly host: string | null;
  readonly slots: number;
  readonly policy: Partial<Policy>;
}

/** What was seen of the engine from beside the coordinator. */
export interface Sightings {
  /**
   * Names of all containers that were ever seen or reported as made, by the engine's id: each once
   * per making.
   */
  readonly created: Map<string, string>;
  /** Counted by `lawful`: all attempts, and those of them that the engine gave no container. */
  attempts: number;
  refused: number;
  mostRunning: number;
  mostPerTask: number;
}

export interface Installation {
  readonly upstream: GitServer;
  readonly repo: { readonly url: string };
  readonly seen: Sightings;
  readonly data: string;
  server(): RealServer;
  start(): Promise<RealServer>;
  kill(signal?: NodeJS.Signals): Promise<void>;
  submit(script: readonly object[], more?: object): Promise<string>;
  until(id: string, what: string, test: (task: WireTask) => boolean, ms?: number): Promise<WireTask>;
  settled(id: string, ms?: number): Promise<WireTask>;
  says(id: string, words: string, ms?: number): Promise<WireEvent>;
  containers(): Promise<Docker.ContainerInfo[]>;
  /** Nothing is left, no slot is held, and the checker finds nothing. */
  lawful(): Promise<void>;
  close(): Promise<void>;
}

/** How often the janitor looks, and some. */
export const TICK_MS = 15_000;
const LOOK_MS = 100;

export async function openInstallation(options: InstallationOptions): Promise<Installation> {
  const { docker, host, slots, policy } = options;
  const dir = mkdtempSync(join(tmpdir(), "slipway-in-"));
  const data = join(dir, "data");
  const instance = deriveInstanceId(data);
  const label = `slipway.instance=${instance}`;
  const upstream = await startGitServer();
  const repo = upstream.createRepo("app");
  const seen: Sightings = { created: new Map(), attempts: 0, refused: 0, mostRunning: 0, mostPerTask: 0 };
  const closing = new AbortController();
  let current: RealServer | null = null;
  let serial = 0;
  const env = {
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
    SLIPWAY_MAX_CONCURRENT: String(slots),
    // The private engine is small: whether there is room is not the question here.
    SLIPWAY_MIN_FREE_MB: "0",
    SLIPWAY_WARM: "0",
    ...(host === null ? {} : { DOCKER_HOST: host }),
  };

  async function start(): Promise<RealServer> {
    current = await startServer({ dataDir: data, sandbox: "docker", policy, env });
    return current;
  }

  function server(): RealServer {
    if (current === null) throw new Error("no coordinator runs");
    return current;
  }

  const containers = (): Promise<Docker.ContainerInfo[]> =>
    docker.listContainers({ all: true, filters: { label: [label] } });

  /**
   * Looks at the engine itself, not at what the coordinator says about it. Survives engines that
   * are away or hang.
   */
  async function watchRunning(): Promise<void> {
    for (; !closing.signal.aborted; await delay(LOOK_MS)) {
      const found = await containers().catch(() => []);
      for (const { Id, Names } of found) seen.created.set(Id, (Names[0] ?? "").slice(1));
      const running = found.filter((one) => one.State === "running" || one.State === "paused");
      const perTask = new Map<string, number>();
      for (const { Labels } of running)
        perTask.set(Labels["slipway.task"] ?? "", (perTask.get(Labels["slipway.task"] ?? "") ?? 0) + 1);
      seen.mostRunning = Math.max(seen.mostRunning, running.length);
      seen.mostPerTask = Math.max(seen.mostPerTask, ...perTask.values());
    }
  }

  /**
   * An engine that comes back tells what it did since its start; what one that was killed did not
   * come to tell is seen in its list.
   */
  async function watchCreated(): Promise<void> {
    for (; !closing.signal.aborted; await delay(LOOK_MS)) {
      try {
        const filters = { type: ["container"], event: ["create"], label: [label] };
        const stream = await docker.getEvents({
          filters,
          since: 1,
          abortSignal: closing.signal,
        } as Docker.GetEventsOptions);
        let rest = "";
        for await (const piece of stream) {
          const lines = (rest + String(piece)).split("\n");
          rest = lines.pop() ?? "";
          for (const line of lines.filter((one) => one !== "")) {
            const { id, Actor } = JSON.parse(line) as { id: string; Actor: { Attributes: { name: string } } };
            seen.created.set(id, Actor.Attributes.name);
          }
        }
      } catch {
        // It is away; the next round asks again.
      }
    }
  }

  const watching = [watchRunning(), watchCreated()];

  async function until(id: string, what: string, test: (task: WireTask) => boolean, ms = 60_000): Promise<WireTask> {
    const look = async (): Promise<WireTask | null> => {
      const task = await server().task(id);
      return test(task) ? task : null;
    };
    try {
      return await eventually(look, what, ms);
    } catch (error) {
      const { state, failure } = await server().task(id);
      throw new Error(`${id} is ${state} ${JSON.stringify(failure)}; ${server().stderr().slice(-2_000)}`, {
        cause: error,
      });
    }
  }

  async function lawful(): Promise<void> {
    await eventually(
      async () => ((await containers()).length === 0 ? true : null),
      "[D3] no container is left",
      TICK_MS,
    );
    const { body } = await server().call("GET", "/v1/ops/overview");
    expect(body).toMatchObject({ slots: { used: 0 } });
    expect(seen.mostPerTask).toBeLessThanOrEqual(1);
    expect(seen.mostRunning).toBeLessThanOrEqual(slots);
    const store = openSqliteReader({ dir: data, migrations: join(ROOT, "migrations/sqlite") });
    const sandbox = openDockerSandbox({
      docker: host === null ? null : { socketPath: host.slice("unix://".length) },
      instance,
      workerFile: join(ROOT, "dist/worker.mjs"),
      dockerfile: join(ROOT, "Dockerfile"),
    });
    try {
      const { violations } = await checkInvariants({ store, sandbox, maxConcurrent: slots });
      expect(violations).toEqual([]);
      await accountFor(store);
    } finally {
      await sandbox.close();
      await store.close();
    }
  }

  /**
   * [D1] Containers created = attempts; only an attempt that the engine gave none, or that went
   * down with the engine while it was made, has none.
   */
  async function accountFor(store: StoreReader): Promise<void> {
    const tasks = (await store.tasks({ userId: null, states: TASK_STATES, limit: 1_000 })).items;
    const attempts = (await Promise.all(tasks.map(({ id }) => store.attempts(id)))).flat();
    const created = [...seen.created.values()];
    const without: readonly (string | null)[] = ["sandbox_unavailable", "interrupted"];
    const refused = new Set(
      attempts.filter(({ failure }) => without.includes(failure)).map(({ container }) => container),
    );
    const named = attempts
      .map(({ container }) => container)
      .filter((name) => created.includes(name) || !refused.has(name));
    expect(created.toSorted()).toEqual(named.toSorted());
    seen.attempts = attempts.length;
    seen.refused = attempts.length - named.length;
  }

  return {
    upstream,
    repo,
    seen,
    data,
    server,
    start,
    async kill(signal = "SIGKILL") {
      await current?.kill(signal);
      current = null;
    },
    async submit(script, more = {}) {
      const body = { repo: repo.url, prompt: "Do it.", script, ...more };
      const answer = await server().call("POST", "/v1/tasks", body, { "idempotency-key": `in-${++serial}` });
      expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300);
      return (answer.body as WireTask).id;
    },
    until,
    settled: (id, ms) => until(id, `task ${id} settles`, (task) => task.settledAt !== null, ms),
    says: (id, words, ms) =>
      eventually(
        async () => (await server().events(id)).find((event) => JSON.stringify(event.data).includes(words)) ?? null,
        `task ${id} says "${words}"; ${server().stderr().slice(-2_000)}`,
        ms,
      ),
    containers,
    lawful,
    async close() {
      closing.abort();
      await current?.kill("SIGTERM");
      await Promise.all(watching);
      await removeRemains(instance, disksOf(data), docker).catch(() => undefined);
      await upstream.close();
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
