/**
 * A Slipway installation on Docker: a coordinator process that can be killed and restarted, its
 * containers, and its upstream repository.
 */
import type Docker from "dockerode";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { checkInvariants } from "../../../src/coordinator/invariants.ts";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import { openDockerSandbox } from "../../../src/sandbox/docker/sandbox.ts";
import { openSqliteReader } from "../../../src/store/sqlite/store.ts";
import type { StoreReader } from "../../../src/store/sqlite/store.ts";
import { TASK_STATES, type Policy } from "../../../src/core/task.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { disksDir, removeRemains } from "./cleanup.ts";
import { startGitServer, type GitServer } from "../git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../process/server.ts";

export interface InstallationOptions {
  readonly docker: Docker;
  /** DOCKER_HOST of the coordinator; null = the shared engine. */
  readonly host: string | null;
  readonly slots: number;
  readonly policy: Partial<Policy>;
}

/** Observed on the engine, independently of the coordinator. */
export interface Observations {
  /** Names of all containers ever created, by id. */
  readonly created: Map<string, string>;
  /** Set by `expectInvariants`: all attempts, and those without a container. */
  attempts: number;
  refused: number;
  mostRunning: number;
  mostPerTask: number;
}

export interface Installation {
  readonly upstream: GitServer;
  readonly repo: { readonly url: string };
  readonly seen: Observations;
  readonly data: string;
  server(): RealServer;
  start(): Promise<RealServer>;
  kill(signal?: NodeJS.Signals): Promise<void>;
  submit(script: readonly object[], more?: object): Promise<string>;
  until(id: string, what: string, test: (task: WireTask) => boolean, ms?: number): Promise<WireTask>;
  settled(id: string, ms?: number): Promise<WireTask>;
  says(id: string, text: string, ms?: number): Promise<WireEvent>;
  /** @returns the time from the cancel to the end as the coordinator has it, ms. */
  cancelled(id: string): Promise<number>;
  containers(): Promise<Docker.ContainerInfo[]>;
  /** No container is left, no slot is in use, and the invariants hold. */
  expectInvariants(): Promise<void>;
  close(): Promise<void>;
}

const POLL_MS = 100;

export async function openInstallation(options: InstallationOptions): Promise<Installation> {
  const { docker, host, slots, policy } = options;
  const dir = mkdtempSync(join(tmpdir(), "slipway-in-"));
  const data = join(dir, "data");
  const instance = deriveInstanceId(data);
  const label = `slipway.instance=${instance}`;
  const upstream = await startGitServer();
  const repo = upstream.createRepo("app");
  const seen: Observations = { created: new Map(), attempts: 0, refused: 0, mostRunning: 0, mostPerTask: 0 };
  const closing = new AbortController();
  let current: RealServer | null = null;
  let serial = 0;
  const env = {
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
    SLIPWAY_MAX_CONCURRENT: String(slots),
    // The disk of the private engine is smaller than the default minimum.
    SLIPWAY_MIN_FREE_MB: "0",
    SLIPWAY_WARM: "0",
    SLIPWAY_WORKER_TOOLS: "slim",
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

  /** Polls the engine. Tolerates an engine that is down or hangs. */
  async function watchRunning(): Promise<void> {
    for (; !closing.signal.aborted; await delay(POLL_MS)) {
      const found = await containers().catch(() => []);
      for (const { Id, Names } of found) seen.created.set(Id, (Names[0] ?? "").slice(1));
      const running = found.filter(({ State }) => State === "running" || State === "paused");
      const perTask = new Map<string, number>();
      for (const { Labels } of running)
        perTask.set(Labels["slipway.task"] ?? "", (perTask.get(Labels["slipway.task"] ?? "") ?? 0) + 1);
      seen.mostRunning = Math.max(seen.mostRunning, running.length);
      seen.mostPerTask = Math.max(seen.mostPerTask, ...perTask.values());
    }
  }

  /**
   * Reads the events since the engine's start. Events that an engine lost when it was killed are
   * covered by `watchRunning`, which lists the containers.
   */
  async function watchCreated(): Promise<void> {
    for (; !closing.signal.aborted; await delay(POLL_MS)) {
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
          for (const line of lines.filter((text) => text !== "")) {
            const { id, Actor } = JSON.parse(line) as { id: string; Actor: { Attributes: { name: string } } };
            seen.created.set(id, Actor.Attributes.name);
          }
        }
      } catch {
        // The engine is down; the next round reconnects.
      }
    }
  }

  const watching = [watchRunning(), watchCreated()];

  async function until(id: string, what: string, test: (task: WireTask) => boolean, ms?: number): Promise<WireTask> {
    const check = async (): Promise<WireTask | null> => {
      const task = await server().task(id);
      return test(task) ? task : null;
    };
    try {
      return await eventually(check, what, ms);
    } catch (error) {
      const { state, failure } = await server().task(id);
      throw new Error(`${id} is ${state} ${JSON.stringify(failure)}; ${server().stderr().slice(-2_000)}`, {
        cause: error,
      });
    }
  }

  const settled = (id: string, ms?: number): Promise<WireTask> =>
    until(id, `task ${id} settles`, (task) => task.settledAt !== null, ms);

  async function cancelled(id: string): Promise<number> {
    const { status } = await server().call("POST", `/v1/tasks/${id}/cancel`);
    expect(status).toBeLessThan(300);
    const { state, settledAt } = await settled(id);
    expect(state).toBe("cancelled");
    const cancel = (await server().events(id)).find(({ data }) => data["reason"] === "cancel");
    return Date.parse(String(settledAt)) - Date.parse(String(cancel?.at));
  }

  async function expectInvariants(): Promise<void> {
    await eventually(async () => ((await containers()).length === 0 ? true : null), "[D3] no container is left");
    // An attempt that fails as `internal` is tried again, so the ends of tasks do not show it.
    const defects = server().stderr().split("\n");
    expect(defects.filter((line) => line.includes("a defect of Slipway"))).toEqual([]);
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
      await expectAllContainersKnown(store);
    } finally {
      await sandbox.close();
      await store.close();
    }
  }

  /**
   * [D1] Each attempt has exactly one container. An attempt may have none only if the engine
   * refused it, or was killed while creating it.
   */
  async function expectAllContainersKnown(store: StoreReader): Promise<void> {
    const tasks = (await store.tasks({ userId: null, states: TASK_STATES, limit: 1_000 })).items;
    const attempts = (await Promise.all(tasks.map(({ id }) => store.attempts(id)))).flat();
    const created = [...seen.created.values()];
    const mayHaveNone: readonly (string | null)[] = ["sandbox_unavailable", "interrupted"];
    const refused = new Set(
      attempts.filter(({ failure }) => mayHaveNone.includes(failure)).map(({ container }) => container),
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
    settled,
    cancelled,
    says: (id, text, ms) =>
      eventually(
        async () => (await server().events(id)).find((event) => JSON.stringify(event.data).includes(text)) ?? null,
        `task ${id} outputs "${text}"; ${server().stderr().slice(-2_000)}`,
        ms,
      ),
    containers,
    expectInvariants,
    async close() {
      closing.abort();
      await current?.kill("SIGTERM");
      await Promise.all(watching);
      await removeRemains(instance, disksDir(data), docker).catch(() => undefined);
      await upstream.close();
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}
