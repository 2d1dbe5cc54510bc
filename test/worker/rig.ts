/**
 * The real parts around a worker: a bare repository, a worker API in memory behind the real broker,
 * and the worker's process from the bundle.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openBroker } from "../../src/broker/server.ts";
import type { ScriptStep } from "../../src/core/task.ts";
import { WORKER_ENV } from "../../src/core/protocol/worker.ts";
import { createRepository, git, readGit } from "../support/repository.ts";
import { MemoryWorkerApi } from "./memory-worker-api.ts";
import type { Log } from "../../src/core/ports/runtime.ts";
import type { Broker } from "../../src/core/ports/broker.ts";

export const SECRET = Buffer.alloc(32, 7);
export const BUNDLE = join(import.meta.dirname, "../../dist/worker.mjs");
export const quiet: Log = { debug() {}, info() {}, warn() {}, error() {} };

export interface Running {
  readonly child: ChildProcess;
  readonly exit: Promise<number | null>;
  stderr(): string;
}

export class Rig {
  readonly dir = mkdtempSync(join(tmpdir(), "sw-"));
  readonly repo = join(this.dir, "repo.git");
  readonly workerApi = new MemoryWorkerApi();
  readonly #children: Running[] = [];
  broker: Broker = this.newBroker();

  private constructor() {}

  static async open(
    files: Readonly<Record<string, string>> = { "a.txt": "one\ntwo\nthree\n", ".gitignore": "ignored/\n" },
  ): Promise<Rig> {
    const rig = new Rig();
    const seed = join(rig.dir, "seed");
    rig.workerApi.baseSha = await createRepository(seed, files);
    await git(rig.dir, "clone", "-q", "--bare", seed, rig.repo);
    return rig;
  }

  newBroker(): Broker {
    const broker = openBroker({
      dir: join(this.dir, "sock"),
      workerApi: this.workerApi,
      repoPath: () => this.repo,
      secrets: () => [SECRET],
      instance: "test",
      log: quiet,
    });
    this.broker = broker;
    return broker;
  }

  get workspace(): string {
    return join(this.dir, `a${this.workerApi.attempt}`, "work");
  }

  get state(): string {
    return join(this.dir, `a${this.workerApi.attempt}`, "state");
  }

  get home(): string {
    return join(this.dir, `a${this.workerApi.attempt}`, "home");
  }

  async start(script: ScriptStep[] | null, env: NodeJS.ProcessEnv = {}): Promise<Running> {
    this.workerApi.script = script;
    const { socketDir, token } = await this.broker.open(this.workerApi.taskId, this.workerApi.attempt);
    const child = spawn(process.execPath, [BUNDLE], {
      env: {
        ...process.env,
        [WORKER_ENV.socket]: join(socketDir, "b.sock"),
        [WORKER_ENV.token]: token,
        [WORKER_ENV.attempt]: String(this.workerApi.attempt),
        [WORKER_ENV.workspace]: this.workspace,
        [WORKER_ENV.state]: this.state,
        HOME: this.home,
        ...env,
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (stderr += text));
    const exit = new Promise<number | null>((resolve) => child.on("exit", (code) => resolve(code)));
    const running = { child, exit, stderr: () => stderr };
    this.#children.push(running);
    return running;
  }

  /** Runs a whole attempt. */
  async run(script: ScriptStep[] | null, env: NodeJS.ProcessEnv = {}): Promise<number | null> {
    const running = await this.start(script, env);
    const code = await running.exit;
    if (running.stderr() !== "") throw new Error(`the worker wrote to standard error: ${running.stderr()}`);
    return code;
  }

  /** The commit that the attempt reported. */
  finalSha(): string {
    const finished = this.workerApi.of("finished").at(-1);
    if (finished === undefined) throw new Error(`not finished: ${JSON.stringify(this.workerApi.events.slice(-5))}`);
    return String(finished.data["sha"]);
  }

  async show(sha: string, path: string): Promise<string> {
    return readGit(this.repo, "show", `${sha}:${path}`);
  }

  async files(sha: string): Promise<string[]> {
    return (await git(this.repo, "ls-tree", "-r", "--name-only", sha)).split("\n");
  }

  async subjects(sha: string): Promise<string[]> {
    return (await git(this.repo, "log", "--format=%s", `${this.workerApi.baseSha}..${sha}`))
      .split("\n")
      .filter(Boolean);
  }

  async close(): Promise<void> {
    for (const { child, exit } of this.#children) {
      if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
      await exit;
    }
    await this.broker.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
