/** SIGKILL of a real coordinator while a real worker goes on, a new one at once: until the worker's next event is in the database. */
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { openSqliteReader } from "../src/store/sqlite.ts";
import { packageRoot, percentile } from "./support.ts";

export interface Recovery {
  /** From SIGKILL to the first event that the adopted worker sent and the new coordinator stored. */
  readonly ms: number;
  /** From the start of the new process to the line that says it listens. */
  readonly startMs: number;
}

const ROUNDS = 5;
/** Longest wait for a word of the worker, ms. */
const LIMIT_MS = 20_000;

export async function recovery(): Promise<Recovery> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-recovery-"));
  const data = join(dir, "data");
  const git = spawn(process.execPath, [join(packageRoot(), "scripts", "git-server.mjs"), join(dir, "upstream"), "--repo", "app"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let server: Server | null = null;
  try {
    const upstream = await said(git, /listening on (http:\S+)/);
    const start = (): Promise<Server> => startServer(data, new URL(upstream).host);
    server = await start();
    const script = Array.from({ length: 500 }, (_, i) => (i % 2 ? { say: `step ${i}` } : { wait: 100 }));
    const token = readFileSync(join(data, "operator.token"), "utf8").trim();
    const answer = await fetch(`${server.url}/v1/tasks`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ repo: `${upstream}/app.git`, prompt: "Talk.", script }),
    });
    if (!answer.ok) throw new Error(`the task was refused: ${await answer.text()}`);
    const { id } = (await answer.json()) as { id: string };
    const reader = openSqliteReader({ dir: data, migrations: join(packageRoot(), "migrations", "sqlite") });
    const spoken = async (after: number): Promise<number> => {
      for (const until = Date.now() + LIMIT_MS; Date.now() < until;) {
        const last = (await reader.events(id, after, 1_000)).findLast((event) => event.workerSeq !== null && event.type === "message");
        if (last !== undefined) return last.seq;
        await delay(2);
      }
      throw new Error("the worker says nothing");
    };
    const rounds: Recovery[] = [];
    let seq = await spoken(0);
    for (let i = 0; i < ROUNDS; i += 1) {
      await delay(300);
      seq = (await reader.task(id))?.seq ?? seq;
      const begun = performance.now();
      await server.kill();
      const starting = performance.now();
      const before = (await reader.task(id))?.seq ?? seq;
      const next = start().then((started) => ({ started, startMs: performance.now() - starting }));
      seq = await spoken(before);
      const ms = performance.now() - begun;
      const { started, startMs } = await next;
      server = started;
      rounds.push({ ms, startMs });
    }
    await reader.close();
    await fetch(`${server.url}/v1/ops/tasks/${id}/kill`, { method: "POST", headers: { authorization: `Bearer ${token}` } });
    await delay(500);
    return {
      ms: percentile(
        rounds.map((one) => one.ms),
        50,
      ),
      startMs: percentile(
        rounds.map((one) => one.startMs),
        50,
      ),
    };
  } finally {
    await server?.kill();
    git.kill();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

interface Server {
  readonly url: string;
  kill(): Promise<void>;
}

async function startServer(dataDir: string, host: string): Promise<Server> {
  const child = spawn(process.execPath, [join(packageRoot(), "dist", "src", "cli.js"), "serve"], {
    stdio: ["ignore", "pipe", "ignore"],
    env: {
      ...process.env,
      SLIPWAY_PORT: "0",
      SLIPWAY_DATA_DIR: dataDir,
      SLIPWAY_SANDBOX: "process",
      SLIPWAY_AGENT: "scripted",
      SLIPWAY_TRUSTED_REPO_HOSTS: host,
    },
  });
  const url = await said(child, /listening on (http:\S+)/);
  return {
    url,
    kill: () =>
      new Promise((resolve) => {
        if (child.exitCode !== null || child.signalCode !== null) return resolve();
        child.once("exit", () => resolve());
        child.kill("SIGKILL");
      }),
  };
}

function said(child: ChildProcess, words: RegExp): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      const found = words.exec(text)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once("exit", (code) => reject(new Error(`it ended with ${code} before it said ${String(words)}`)));
  });
}
