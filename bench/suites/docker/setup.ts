/**
 * Real containers and the real registry of npm (`SLIPWAY_TRUSTED_EGRESS_HOSTS` where it has a
 * private address): `npm ci` of a project with 500 packages in the
 * first task of a repository, and what takes its place in later ones.
 */
import { execFileSync, type ExecFileSyncOptions } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { packageRoot } from "../../../src/core/lib/runtime/package-root.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { openSqliteReader } from "../../../src/store/sqlite/store.ts";
import { startServer, startUpstream } from "../../server.ts";
import { percentile } from "../../support.ts";

/** Milliseconds. */
export interface SetupFigures {
  readonly packages: number;
  /** `npm ci` itself, in the first task. */
  readonly installMs: number;
  /** The setup of the first task, which also keeps what it made. */
  readonly coldMs: number;
  /** From submit to the agent's first step, in the first task. */
  readonly coldFirstMs: number;
  readonly rounds: number;
  /** Making the container with its disk, and the setup, of later tasks, together; median. */
  readonly cachedMs: number;
  /** From submit to the agent's first step, in later tasks; median. */
  readonly cachedFirstMs: number;
  /** Making the container of the first task. */
  readonly containerMs: number;
}

/** Together 500 packages and more. */
const DEPENDENCIES = {
  "@babel/preset-env": "7.26.9",
  eslint: "8.57.1",
  express: "4.21.2",
  jest: "29.7.0",
  webpack: "5.98.0",
};
const SCRIPT = [
  { bash: "ls node_modules | wc -l; echo spoiled > node_modules/express/package.json" },
  { finish: { title: "Looked", summary: "It looked." } },
];
const LIMIT_MS = 180_000;
const DISK_MS = 30_000;

export async function setupFigures(rounds = 5): Promise<SetupFigures> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-bench-setup-"));
  const upstream = await startUpstream(join(dir, "upstream"));
  const repo = `${upstream.url}/app.git`;
  const packages = commitProject(join(dir, "clone"), repo);
  const data = join(dir, "data");
  const server = await startServer(data, {
    SLIPWAY_SANDBOX: "docker",
    SLIPWAY_WORKER_TOOLS: "slim",
    SLIPWAY_WARM: "1",
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
  });
  const reader = openSqliteReader({ dir: data, migrations: join(packageRoot(), "migrations", "sqlite") });

  async function run(): Promise<Times> {
    const submitted = Date.now();
    const body = { repo, prompt: "Look.", script: SCRIPT };
    const { id } = (await server.call("POST", "/v1/tasks", body)) as WireTask;
    for (const end = Date.now() + LIMIT_MS; (await reader.task(id))?.state !== "done"; await delay(50))
      if (Date.now() > end) throw new Error(`the task ${id} does not end`);
    return readTimes((await reader.events(id, 0, 1_000)).items, submitted);
  }

  try {
    const first = await run();
    if (first.installMs === null || first.packages < 100) throw new Error("npm ci failed in the first task");
    // Where workspaces are disk images, the next one is a copy of the image that is created now.
    for (const end = Date.now() + DISK_MS; Date.now() < end && !hasDisk(data);) await delay(100);
    await delay(2_000);
    const later: Times[] = [];
    for (let round = 0; round < rounds; round += 1) {
      later.push(await run());
      await delay(500);
    }
    if (later.some(({ installMs }) => installMs !== null)) throw new Error("a later task installed again");
    const middle = (pick: (times: Times) => number): number => percentile(later.map(pick), 50);
    return {
      packages,
      rounds,
      installMs: first.installMs ?? NaN,
      coldMs: first.setupMs,
      coldFirstMs: first.firstMs,
      containerMs: first.containerMs,
      cachedMs: middle(({ containerMs, setupMs }) => containerMs + setupMs),
      cachedFirstMs: middle(({ firstMs }) => firstMs),
    };
  } finally {
    await reader.close();
    await server.end("SIGTERM");
    upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** @returns how many packages its lock file has. */
function commitProject(clone: string, repo: string): number {
  mkdirSync(clone);
  const options: ExecFileSyncOptions = { cwd: clone, stdio: ["ignore", "ignore", "inherit"] };
  const git = (...args: string[]): void =>
    void execFileSync("git", ["-c", "user.name=bench", "-c", "user.email=bench@localhost", ...args], options);
  git("clone", "--quiet", repo, ".");
  const project = { name: "bench", version: "1.0.0", private: true, dependencies: DEPENDENCIES };
  writeFileSync(join(clone, "package.json"), JSON.stringify(project));
  writeFileSync(join(clone, ".gitignore"), "node_modules/\n");
  writeFileSync(
    join(clone, ".slipway.yml"),
    `setup: [{ run: ${JSON.stringify(installCommand(clone))}, cached: true }]\n`,
  );
  execFileSync("npm", ["install", "--package-lock-only", "--ignore-scripts"], options);
  git("add", "--all");
  git("commit", "--quiet", "--message", "A project");
  git("push", "--quiet", "origin", "HEAD");
  const lock = JSON.parse(readFileSync(join(clone, "package-lock.json"), "utf8")) as { packages: object };
  return Object.keys(lock.packages).length - 1;
}

/** Where this machine reaches the registry by an authority of its own, the container does too. */
function installCommand(clone: string): string {
  const authority = process.env["NODE_EXTRA_CA_CERTS"];
  if (authority === undefined) return "npm ci";
  copyFileSync(authority, join(clone, "authority.pem"));
  return 'NODE_EXTRA_CA_CERTS="$PWD/authority.pem" npm ci';
}

function hasDisk(data: string): boolean {
  try {
    const names = readdirSync(join(data, "setup-cache"), { recursive: true }) as string[];
    return names.some((name) => name.endsWith(".img"));
  } catch {
    return false;
  }
}

interface Times {
  /** Null = it did not run. */
  readonly installMs: number | null;
  /** What the agent saw in `node_modules`. */
  readonly packages: number;
  readonly containerMs: number;
  readonly setupMs: number;
  readonly firstMs: number;
}

interface Logged {
  readonly type: string;
  readonly at: number;
  readonly data: Readonly<Record<string, unknown>>;
}

function readTimes(events: readonly Logged[], submitted: number): Times {
  const step = (name: string, status: string): Logged | undefined =>
    events.find(({ type, data }) => type === "task.step" && data["name"] === name && data["status"] === status);
  const tools = (name: string): readonly Logged[] => events.filter(({ data }) => data["name"] === name);
  const container = step("container", "ended");
  const finished = tools("setup").find(({ type }) => type === "tool.finished");
  const first = tools("bash").find(({ type }) => type === "tool.started");
  const listed = tools("bash").find(({ type }) => type === "tool.finished");
  return {
    packages: Number.parseInt(String(listed?.data["output"]), 10) || 0,
    installMs: finished === undefined ? null : Number(finished.data["ms"]),
    containerMs: (container?.at ?? NaN) - Number(container?.data["startedAt"]),
    setupMs: (step("setup", "ended")?.at ?? NaN) - (step("setup", "started")?.at ?? NaN),
    firstMs: (first?.at ?? NaN) - submitted,
  };
}
