/**
 * SIGKILL of a real coordinator while a real worker goes on, a new one at once: until the worker's
 * next event is in the database.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { openSqliteReader } from "../../src/store/sqlite/store.ts";
import { startServer, startUpstream, type Server } from "../server.ts";
import { packageRoot } from "../../src/core/lib/runtime/package-root.ts";
import { percentile } from "../support.ts";

export interface Recovery {
  /**
   * From SIGKILL to the first event that the adopted worker sent and the new coordinator stored.
   */
  readonly ms: number;
  /** From the start of the new process to its line with the address, ms. */
  readonly startMs: number;
}

const ROUNDS = 5;
/** Longest wait for an event of the worker, ms. */
const LIMIT_MS = 20_000;

export async function recovery(): Promise<Recovery> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-recovery-"));
  const data = join(dir, "data");
  const upstream = await startUpstream(join(dir, "upstream"));
  let server: Server | null = null;
  try {
    const env = { SLIPWAY_SANDBOX: "process", SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host };
    const start = (): Promise<Server> => startServer(data, env);
    server = await start();
    const script = Array.from({ length: 500 }, (_, i) => (i % 2 ? { say: `step ${i}` } : { wait: 100 }));
    const { id } = (await server.call("POST", "/v1/tasks", {
      repo: `${upstream.url}/app.git`,
      prompt: "Talk.",
      script,
    })) as { id: string };
    const reader = openSqliteReader({ dir: data, migrations: join(packageRoot(), "migrations", "sqlite") });
    const spoken = async (after: number): Promise<number> => {
      for (const until = Date.now() + LIMIT_MS; Date.now() < until;) {
        const last = (await reader.events(id, after, 1_000)).items.findLast(
          (event) => event.workerSeq !== null && event.type === "message",
        );
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
      await server.end("SIGKILL");
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
    await server.call("POST", `/v1/ops/tasks/${id}/kill`);
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
    await server?.end("SIGKILL");
    upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}
