/** The setup of a repository and its cache, with a real server and real workers. */
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { PREPARE_LABEL } from "../../../src/sandbox/docker/image/names.ts";
import { disksDir, findRemains, removeRemains } from "../../support/docker/cleanup.ts";
import { EngineEvents } from "../../support/docker/engine-events.ts";
import { describeWithDocker, dockerClient, needsLoops } from "../../support/docker/engine.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(6);

const SETUP = `
setup:
  - run: mkdir -p deps "$HOME/.tools/bin" && cat package-lock.json > deps/lock && ln -s lock deps/link && echo tool > "$HOME/.tools/bin/tool"
    cached: true
  - run: cat source.txt > deps/generated
`;
const FILES = {
  ".slipway.yml": SETUP,
  ".gitignore": "deps/\n",
  "package-lock.json": '{"lockfileVersion":3}\n',
  "source.txt": "one\n",
};
/** Shows what the setup made, and spoils all of it. */
const SCRIPT = [
  { bash: 'cat deps/link deps/generated "$HOME/.tools/bin/tool"' },
  {
    bash: 'for file in deps/lock deps/generated "$HOME/.tools/bin/tool"; do echo poison > "$file"; done; echo x > deps/more',
  },
  { bash: "ls deps" },
  { finish: { title: "Looked", summary: "It looked." } },
];

interface Seen {
  readonly task: WireTask;
  /** Commands of the setup that ran. */
  readonly ran: readonly string[];
  /** How the step `setup` ended. */
  readonly detail: string | null;
  /** Outputs of the agent's commands. */
  readonly outputs: readonly string[];
}

function caches(kind: "docker" | "process"): void {
  let upstream: GitServer;
  let dir: string;
  let data: string;
  let server: RealServer;

  const start = async (crash?: string): Promise<void> => {
    const env = {
      SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
      SLIPWAY_LOG_LEVEL: "error",
      SLIPWAY_WARM: kind === "docker" ? "1" : "0",
      ...(crash === undefined ? {} : { SLIPWAY_CRASH: crash }),
    };
    server = await startServer({ dataDir: data, sandbox: kind, policy: { backoffMs: 100 }, env });
  };

  beforeAll(async () => {
    upstream = await startGitServer();
    dir = mkdtempSync(join(tmpdir(), "slipway-setup-"));
    data = join(dir, "data");
    await start();
  });
  afterAll(async () => {
    await server.kill("SIGTERM");
    if (kind === "docker") await removeRemains(deriveInstanceId(data), disksDir(data));
    await upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  });

  async function submit(repo: string): Promise<string> {
    const { status, body } = await server.call("POST", "/v1/tasks", { repo, prompt: "Look.", script: SCRIPT });
    expect(status, JSON.stringify(body)).toBe(201);
    return (body as WireTask).id;
  }

  async function settle(id: string): Promise<Seen> {
    const task = await eventually(
      async () => {
        const now = await server.task(id);
        return now.settledAt === null ? null : now;
      },
      `task ${id} settles; ${server.stderr().slice(-2_000)}`,
    );
    const events = await server.events(id);
    expect(task.state, JSON.stringify(events.slice(-4))).toBe("done");
    const data = (event: WireEvent): Record<string, unknown> => event.data as Record<string, unknown>;
    const tools = (type: string) => events.filter((event) => event.type === type).map(data);
    const steps = tools("task.step").filter(({ name, status }) => name === "setup" && status === "ended");
    return {
      task,
      ran: tools("tool.started")
        .filter(({ name }) => name === "setup")
        .map(({ input }) => (input as { command: string }).command),
      detail: (steps.at(-1)?.["detail"] ?? null) as string | null,
      outputs: tools("tool.finished")
        .filter(({ name }) => name === "bash")
        .map(({ output }) => String(output)),
    };
  }

  const run = async (repo: string): Promise<Seen> => await settle(await submit(repo));
  const files = (ending: string): string[] =>
    existsSync(join(data, "setup-cache"))
      ? (readdirSync(join(data, "setup-cache"), { recursive: true }) as string[]).filter((name) =>
          name.endsWith(ending),
        )
      : [];
  const archives = (): string[] => files(".tar");
  const drafts = (): string[] => files("").filter((name) => name.includes("/.new-"));

  /** Counts containers of this server whose workspace begins as a copy. */
  async function watchCopies(): Promise<{ stop(): Promise<number> }> {
    const events = await EngineEvents.follow(dockerClient());
    return {
      async stop() {
        const created = await events.ofContainers("create", { "slipway.instance": deriveInstanceId(data) });
        events.close();
        return created.filter((labels) => /^[0-9a-f]{64}$/.test(labels["slipway.setup"] ?? "")).length;
      },
    };
  }

  it("[C1] [C2] the second task gets what the first setup made, not what the first agent made of it", async () => {
    const { url } = upstream.createRepo("app", FILES);
    const first = await run(url);
    expect(first.ran).toHaveLength(2);
    expect(first.detail).toBe("kept for later tasks");
    const second = await run(url);
    expect(second.ran).toEqual(["cat source.txt > deps/generated"]);
    expect(second.detail).toMatch(/^from the cache of 20.*not run: mkdir -p deps/);
    expect(second.outputs[0]).toContain('{"lockfileVersion":3}\none\ntool\n');
    expect(second.outputs).toEqual(first.outputs);
    expect(archives()).toHaveLength(1);

    upstream.commitOn("app", "main", { "source.txt": "two\n" });
    const third = await run(url);
    expect(third.ran).toHaveLength(1);
    expect(third.outputs[0]).toContain("two\ntool\n");

    upstream.commitOn("app", "main", { "package-lock.json": '{"lockfileVersion":4}\n' });
    const fourth = await run(url);
    expect(fourth.ran).toHaveLength(2);
    expect(fourth.detail).toBe("kept for later tasks");
    expect(fourth.outputs[0]).toContain('{"lockfileVersion":4}\ntwo\n');
    expect(archives()).toHaveLength(2);
  });

  it.runIf(kind === "docker")(
    "[C4] later workspaces begin as copies of a disk: what one agent makes of it, no other sees",
    async ({ skip }) => {
      await needsLoops(skip);
      const { url } = upstream.createRepo("disks", FILES);
      const before = files(".img").length;
      const first = await run(url);
      expect(first.detail).toBe("kept for later tasks");
      await eventually(async () => (files(".img").length > before ? true : null), "a disk is made");
      const copies = await watchCopies();
      for (const second of [await run(url), await run(url)]) {
        expect(second.ran).toEqual(["cat source.txt > deps/generated"]);
        expect(second.detail).toMatch(/^from the cache of 20.*not run: mkdir -p deps/);
        expect(second.outputs).toEqual(first.outputs);
      }
      expect(await copies.stop()).toBe(2);
    },
  );

  /** Resolves when the engine and the disks hold nothing but the pool's container. */
  async function nothingLeft(): Promise<void> {
    const instance = deriveInstanceId(data);
    const filters = { label: [`${PREPARE_LABEL}=${instance}`] };
    await eventually(async () => {
      const preparing = await dockerClient().listContainers({ all: true, filters });
      const { containers, volumes, files: images, devices } = await findRemains(instance, disksDir(data));
      const pooled = containers.filter((name) => name.startsWith("slipway-pool-")).length;
      const counts = [preparing.length, containers.length - pooled, volumes.length - pooled, devices.length - pooled];
      return counts.every((count) => count === 0) && images.every((name) => name.startsWith("slipway-pool-"))
        ? true
        : null;
    }, "nothing is left but the pool");
  }

  it.runIf(kind === "docker")(
    "[C4] [D2] killed when a disk is whole and has no name yet, a restart ends in done; nothing of it is used or left",
    async ({ skip }) => {
      await needsLoops(skip);
      const { url } = upstream.createRepo("killed-disk", FILES);
      const before = files(".img");
      await server.kill("SIGTERM");
      await start("setup_disk.written");
      const id = await submit(url);
      expect(await server.exited).toBe("SIGKILL");
      expect([files(".img"), drafts().length]).toEqual([before, 1]);

      await start();
      const first = await settle(id);
      expect([first.task.attempt, first.ran.length]).toEqual([1, 2]);
      const copies = await watchCopies();
      const second = await run(url);
      expect(await copies.stop()).toBe(0);
      expect(second.ran).toEqual(["cat source.txt > deps/generated"]);
      await eventually(async () => (files(".img").length > before.length ? true : null), "the disk is made again");
      const later = await watchCopies();
      const third = await run(url);
      expect(await later.stop()).toBe(1);
      for (const { outputs } of [second, third]) expect(outputs).toEqual(first.outputs);

      expect((await server.call("POST", "/v1/ops/gc", {})).status).toBe(200);
      expect(drafts()).toEqual([]);
      await nothingLeft();
    },
  );
  if (kind === "docker") return;

  it("[C3] an archive that a kill cut off is not used, and the task goes on without", async () => {
    const { url } = upstream.createRepo("killed", FILES);
    const before = archives();
    await server.kill("SIGTERM");
    await start("setup_cache.written");
    const id = await submit(url);
    expect(await server.exited).toBe("SIGKILL");
    expect(archives()).toEqual(before);
    await start();
    expect((await settle(id)).ran).toHaveLength(2);
    expect(archives()).toEqual(before);
    expect((await run(url)).detail).toBe("kept for later tasks");
    expect((await run(url)).ran).toHaveLength(1);
  });

  it("[C2] a setup that fails, that changes the repository, or whose cache is off is not kept", async () => {
    const before = archives();
    const commands = (run: string, more = "") => `setup: [{ run: ${JSON.stringify(run)}, cached: true }]\n${more}`;
    const cases = [
      [commands("mkdir deps; false"), "failed"],
      [
        commands("echo changed > source.txt"),
        "not kept for later tasks: it changes source.txt, a file of the repository",
      ],
      [commands("mkdir deps; pwd > deps/here"), "not kept for later tasks: it contains the path of this sandbox"],
      [commands("mkdir deps", "cache: false\n"), null],
    ] as const;
    const details = cases.map(async ([config], index) => {
      const { url } = upstream.createRepo(`case-${index}`, { ...FILES, ".slipway.yml": config });
      return (await run(url)).detail;
    });
    expect(await Promise.all(details)).toEqual(cases.map(([, detail]) => detail));
    expect(archives()).toEqual(before);
  });
}

describe("[C1] [C2] [C3] the cache of a setup, in processes", () => caches("process"));
describeWithDocker("[C1] [C2] [C3] the cache of a setup, in containers", () => caches("docker"));
