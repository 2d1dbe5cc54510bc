/**
 * One installation under attack: a real coordinator with planted secrets, a private upstream, and
 * tasks whose agent is the attacker. What an attacker does is a script of the scripted agent, so it
 * runs where an injected agent would: in the task's own container.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import { sandboxName, type Policy, type ScriptStep } from "../../../src/core/task.ts";
import type { WireEvent } from "../../../src/core/protocol/events.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { dockerClient } from "./engine.ts";
import { disksDir, removeRemains } from "./cleanup.ts";
import { startGitServer, type GitServer } from "../git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../process/server.ts";
import { PATIENCE_MS } from "../vitest/patience.ts";

export const SECRETS = {
  gitToken: "gh0_Pl4nted/Git+Token~0123456789",
  secretKey: "9f4c1b".repeat(10) + "77aa",
  adminPassword: "Pl4nted admin pässword/+&",
  modelKey: "sk-ant-api03-Pl4nted_Model-Key_0123456789abcdef",
} as const;
export const ADMIN = "admin@example.org";

/** Programs that the attacks use; they come with the repository, as an attacker's would. */
const INSIDE = join(import.meta.dirname, "inside");

export interface Attack {
  readonly id: string;
  readonly task: WireTask;
  readonly events: WireEvent[];
  /** The output of each command of the script, in order. */
  readonly said: { readonly output: string; readonly exitCode: number | null }[];
}

export interface AttackTarget {
  readonly server: RealServer;
  readonly upstream: GitServer;
  readonly repo: { readonly url: string; readonly sha: string };
  readonly docker: Docker;
  readonly dir: string;
  readonly data: string;
  readonly instance: string;
  submit(script: readonly ScriptStep[], more?: object): Promise<string>;
  settled(id: string): Promise<Attack>;
  /** Submits and waits for the end. */
  attack(script: readonly ScriptStep[], more?: object): Promise<Attack>;
  /** Resolves when a command of the task has printed this, with all that it printed. */
  says(id: string, words: string): Promise<string>;
  /** Runs a program in the container of a running task, as its user; what it printed. */
  execIn(id: string, args: readonly string[], attempt?: number): Promise<string>;
  inspect(id: string, attempt?: number): Promise<Docker.ContainerInspectInfo>;
  token(id: string, attempt?: number): Promise<string>;
  /** Containers of this installation. */
  containers(): Promise<Docker.ContainerInfo[]>;
  close(): Promise<void>;
}

export interface AttackTargetOptions {
  readonly policy?: Partial<Policy>;
  readonly env?: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, string>>;
  readonly maxConcurrent?: number;
  /** The image that the worker's is built on, in place of the one that the Dockerfile names. */
  readonly baseImage?: string;
}

export async function openAttackTarget(options: AttackTargetOptions = {}): Promise<AttackTarget> {
  const upstream = await startGitServer({ auth: { username: "x-access-token", password: SECRETS.gitToken } });
  const inside = Object.fromEntries(
    readdirSync(INSIDE).map((name) => [`attack/${name}`, readFileSync(join(INSIDE, name), "utf8")]),
  );
  const repo = upstream.createRepo("app", { "README.md": "# app\n", ...inside, ...options.files });
  const dir = mkdtempSync(join(tmpdir(), "slipway-attack-"));
  const data = join(dir, "data");
  const instance = createHash("sha256").update(data).digest("hex").slice(0, 12);
  const docker = dockerClient();
  const server = await startServer({
    dataDir: data,
    ...(options.baseImage === undefined ? {} : { home: copyOn(options.baseImage, join(dir, "home")) }),
    sandbox: "docker",
    policy: { backoffMs: 100, backoffCapMs: 200, graceMs: 4_000, ...options.policy },
    env: {
      SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
      SLIPWAY_SECRET_KEY: SECRETS.secretKey,
      SLIPWAY_ADMIN_EMAIL: ADMIN,
      SLIPWAY_ADMIN_PASSWORD: SECRETS.adminPassword,
      ANTHROPIC_API_KEY: SECRETS.modelKey,
      SLIPWAY_MAX_CONCURRENT: String(options.maxConcurrent ?? 4),
      ...options.env,
    },
  });
  const credential = await server.call("POST", "/v1/credentials", {
    host: upstream.host,
    kind: "token",
    token: SECRETS.gitToken,
  });
  if (credential.status !== 201) throw new Error(`the credential was refused: ${JSON.stringify(credential.body)}`);

  async function submit(script: readonly ScriptStep[], more: object = {}): Promise<string> {
    const answer = await server.call("POST", "/v1/tasks", {
      repo: repo.url,
      prompt: "Do it.",
      agent: "scripted",
      script,
      ...more,
    });
    if (answer.status >= 300) throw new Error(`the task was refused: ${JSON.stringify(answer.body)}`);
    return (answer.body as WireTask).id;
  }

  async function settled(id: string): Promise<Attack> {
    const words = (): string => `task ${id} settles; ${server.stderr().slice(-2_000)}`;
    const task = await eventually(
      async () => ((await server.task(id)).settledAt === null ? null : await server.task(id)),
      words(),
    );
    const events = await server.events(id);
    const said = events
      .filter((event) => event.type === "tool.finished")
      .map(({ data: { output, exitCode } }) => ({
        output: String(output),
        exitCode: typeof exitCode === "number" ? exitCode : null,
      }));
    return { id, task, events, said };
  }

  const all = (): Promise<Docker.ContainerInfo[]> =>
    docker.listContainers({ all: true, filters: { label: [`slipway.instance=${instance}`] } });
  const containers = async (): Promise<Docker.ContainerInfo[]> =>
    (await all()).filter(({ Names }) => Names[0]?.startsWith("/slipway-pool-") !== true);
  const execIn = (id: string, args: readonly string[], attempt = 1): Promise<string> =>
    new Promise((resolve) => {
      const options = { timeout: PATIENCE_MS, maxBuffer: 16 * 2 ** 20 };
      execFile("docker", ["exec", sandboxName(id, attempt), ...args], options, (_error, stdout, stderr) =>
        resolve(stdout + stderr),
      );
    });
  const inspect = (id: string, attempt = 1): Promise<Docker.ContainerInspectInfo> =>
    docker.getContainer(sandboxName(id, attempt)).inspect();

  return {
    server,
    upstream,
    repo,
    docker,
    dir,
    data,
    instance,
    submit,
    settled,
    attack: async (script, more) => settled(await submit(script, more)),
    says: (id, words) =>
      eventually(async () => {
        const outputs = (await server.events(id)).map(({ data }) => String(data["output"] ?? ""));
        return outputs.find((output) => output.includes(words)) ?? null;
      }, `"${words}" is said`),
    execIn,
    inspect,
    async token(id, attempt = 1) {
      const found = await execIn(
        id,
        ["grep", "-haom", "1", "att_[A-Za-z0-9_-]*", "/proc/1/environ", "/run/slipway/attempt.json"],
        attempt,
      );
      return /att_[A-Za-z0-9_-]+/.exec(found)?.[0] ?? "";
    },
    containers,
    async close() {
      await server.kill("SIGTERM");
      await removeRemains(instance, disksDir(data));
      await upstream.close();
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/**
 * A copy of the program whose worker image starts from another image, as an operator makes it who
 * changes the Dockerfile.
 */
function copyOn(baseImage: string, home: string): string {
  mkdirSync(home);
  cpSync(join(ROOT, "dist"), join(home, "dist"), { recursive: true });
  cpSync(join(ROOT, "package.json"), join(home, "package.json"));
  for (const name of ["node_modules", "migrations"]) symlinkSync(join(ROOT, name), join(home, name));
  writeFileSync(
    join(home, "Dockerfile"),
    readFileSync(join(ROOT, "Dockerfile"), "utf8").replace(/^ARG BASE=.*$/m, `ARG BASE=${baseImage}`),
  );
  return home;
}

/** Watches a server from outside while it is attacked. */
export interface Pulse {
  /**
   * @returns the slowest answer to a health check in ms, and the largest resident memory of the
   * process in MiB.
   */
  stop(): Promise<{ readonly slowestMs: number; readonly peakMb: number; readonly answers: number }>;
}

export function watchPulse(server: RealServer): Pulse {
  let on = true;
  let [slowestMs, peakMb, answers] = [0, 0, 0];
  const watching = (async () => {
    while (on) {
      const begun = performance.now();
      const { status } = await server.call("GET", "/healthz");
      if (status !== 200) throw new Error(`the server's health is ${status}`);
      slowestMs = Math.max(slowestMs, performance.now() - begun);
      answers += 1;
      peakMb = Math.max(peakMb, residentMb(server.pid));
      await delay(50);
    }
  })();
  watching.catch(() => undefined);
  return {
    async stop() {
      on = false;
      await watching;
      return { slowestMs: Math.round(slowestMs), peakMb: Math.round(peakMb), answers };
    },
  };
}

/** MiB. */
export function residentMb(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
}
