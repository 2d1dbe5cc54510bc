/**
 * A data folder with tasks in several states, made by a real server with real workers, git and the
 * fake model; and copies of it.
 */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { readConfig } from "../../../src/app/config.ts";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import { startFakeModel } from "../../../src/broker/model/fake/server.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { openProcessSandbox } from "../../../src/sandbox/process/sandbox.ts";
import Database, { type Connection } from "../../../src/store/sqlite/driver.ts";
import { startGitServer } from "../../support/git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../../support/process/server.ts";

/** The tasks of the folder, by what they are. */
export interface Tasks {
  /** Done, by the agent with a model. */
  readonly done: string;
  /** Its follow-up, which inherits its transcript. */
  readonly followUp: string;
  /** Its question about its budget is parked; it has a checkpoint and a transcript. */
  readonly parked: string;
  /** Its worker ended without a report; an artifact has its workspace. */
  readonly failed: string;
  readonly cancelled: string;
  /** Its sandbox is gone; a message to it, with an attachment, is queued. */
  readonly running: string;
  /** With an attachment. */
  readonly queued: string;
}

export interface HealthyFolder {
  readonly dir: string;
  readonly tasks: Tasks;
  readonly env: Readonly<Record<string, string>>;
  /** A copy of the folder for one test. */
  copy(): string;
  serve(dir: string): Promise<RealServer>;
  /** Stops the server and removes the sandboxes that it left running. */
  stop(server: RealServer, dir: string): Promise<void>;
  close(): Promise<void>;
}

const KEY = "sk-real-key-of-the-server-0123456789";
const FINISH = { name: "finish", input: { title: "Do the work", summary: "It is done." } };
const step = (name: string) => ({ tools: [{ name: "bash", input: { command: `echo ${name} >> work.txt` } }] });

export async function makeHealthyFolder(): Promise<HealthyFolder> {
  const root = mkdtempSync(join(tmpdir(), "slipway-checker-"));
  const dir = join(root, "data");
  const upstream = await startGitServer();
  const { url: repo } = upstream.createRepo("app");
  const turns = [step("one"), { tools: [FINISH] }, step("two"), { tools: [FINISH] }];
  const model = await startFakeModel({ scenarios: { default: { turns } }, apiKey: KEY });
  const env = {
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
    SLIPWAY_LOG_LEVEL: "error",
    SLIPWAY_MAX_CONCURRENT: "1",
    ANTHROPIC_API_KEY: KEY,
    ANTHROPIC_BASE_URL: model.url,
  };
  const policy = { parkMs: 300, graceMs: 500, backoffMs: 50, backoffCapMs: 50 };
  const serve = (on: string): Promise<RealServer> => startServer({ dataDir: on, env, policy });
  let copies = 0;
  const server = await serve(dir);
  try {
    const tasks = await fill(server, repo);
    await stop(server, dir);
    return {
      dir,
      tasks,
      env,
      serve,
      stop,
      copy() {
        copies += 1;
        const copy = join(root, `copy-${copies}`);
        cpSync(dir, copy, { recursive: true, preserveTimestamps: true });
        return copy;
      },
      async close() {
        await model.close();
        await upstream.close();
        rmSync(root, { recursive: true, force: true, maxRetries: 5 });
      },
    };
  } catch (error) {
    await server.kill("SIGKILL");
    throw error;
  }
}

async function stop(server: RealServer, dir: string): Promise<void> {
  await server.kill("SIGTERM");
  const workerFile = join(ROOT, "dist/worker.mjs");
  const sandbox = openProcessSandbox({ dir, workerFile, instance: deriveInstanceId(dir) });
  for (const { name } of await sandbox.list()) await sandbox.remove(name);
  await sandbox.close();
}

async function fill(server: RealServer, repo: string): Promise<Tasks> {
  async function call(path: string, body: object, key?: string): Promise<WireTask> {
    const headers: Record<string, string> = key === undefined ? {} : { "idempotency-key": key };
    const answer = await server.call("POST", `/v1/tasks${path}`, body, headers);
    expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300);
    return answer.body as WireTask;
  }
  const submit = (more: object, key?: string) => call("", { repo, prompt: "Do the work.", ...more }, key);
  const script = (...steps: object[]) => ({ agent: "scripted", script: steps });
  const until = (id: string, what: string): Promise<WireTask> =>
    eventually(async () => {
      const task = await server.task(id);
      return task.state === what || task.phase === what ? task : null;
    }, `${id} is ${what}`);

  const done = await submit({}, "the-first");
  await until(done.id, "done");
  const followUp = await call(`/${done.id}/messages`, { text: "And now the rest." });
  await until(followUp.id, "done");
  const parked = await submit({ budget: { turns: 1 } });
  await until(parked.id, "parked");
  const failing = script({ bash: "echo lost > lost.txt" }, { exit: 7 });
  const failed = await submit({ ...failing, maxAttempts: 1 });
  await until(failed.id, "failed");
  const working = script({ bash: "echo one > one.txt" }, { say: "one" }, { wait: 80_000_000 });
  const running = await submit(working);
  await until(running.id, "working");
  await eventually(
    async () => ((await server.events(running.id)).some(({ type }) => type === "message") ? true : null),
    "a message",
  );
  const attach = async (name: string): Promise<string> =>
    ((await server.call("POST", `/v1/attachments?name=${name}`, name)).body as { id: string }).id;
  await call(`/${running.id}/messages`, { text: "Mind the gap.", attachments: [await attach("gap.txt")] });
  const last = script({ bash: "echo q > q.txt" }, { finish: { title: "Q", summary: "Q." } });
  const queued = await submit({ ...last, attachments: [await attach("last.txt")] }, "the-last");
  const cancelled = await submit(script({ say: "no" }));
  await call(`/${cancelled.id}/cancel`, {});
  await until(cancelled.id, "cancelled");
  // Rows of the audit log.
  for (const word of ["pause", "resume", "pause", "resume"]) await server.call("POST", `/v1/ops/queue/${word}`, {});
  const ids = { done, followUp, parked, failed, cancelled, running, queued };
  return Object.fromEntries(Object.entries(ids).map(([name, { id }]) => [name, id])) as unknown as Tasks;
}

export function configFor(folder: HealthyFolder, dir: string) {
  return readConfig({ ...folder.env, SLIPWAY_SANDBOX: "process" }, { dataDir: dir });
}

/**
 * Changes the database of a stopped server as no Slipway would: without triggers and foreign keys.
 */
export function injure(dir: string, change: (db: Connection) => void): void {
  const db = new Database(join(dir, "slipway.db"));
  try {
    db.unsafeMode(true);
    db.pragma("foreign_keys = OFF");
    const triggers = db
      .prepare<[], { name: string; sql: string }>("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
      .all();
    for (const { name } of triggers) db.exec(`DROP TRIGGER ${name}`);
    change(db);
    for (const { sql } of triggers) db.exec(sql);
  } finally {
    db.close();
  }
}
