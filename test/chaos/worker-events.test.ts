/**
 * 20,000 events of one worker through seven SIGKILLs of the real coordinator. The worker talks on
 * while nobody listens, and a subscriber follows.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import { WebSocket } from "ws";
import { SlipwayClient } from "../../src/client/client.ts";
import { readLog } from "../../src/coordinator/read-lists.ts";
import { openSqliteReader } from "../../src/store/sqlite/store.ts";
import { WORKER_ENV } from "../../src/core/protocol/worker.ts";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { systemClock } from "../../src/core/lib/runtime/system-clock.ts";
import { HttpLink } from "../../worker/connection/http-link.ts";
import { Journal } from "../../worker/connection/journal.ts";
import { startGitServer } from "../support/git-server.ts";
import { findFixedPort } from "../support/process/fixed-port.ts";
import { eventually, ROOT, startServer } from "../support/process/server.ts";
import { sized } from "../support/random.ts";

const EVENTS = sized(5_000, 20_000);
const KILLS = sized(3, 7);
const STEP = Math.floor(EVENTS / (KILLS + 1));

/**
 * The environment of the worker process that Slipway started: where its broker listens, and its
 * token.
 */
function workerEnvironment(data: string): Record<string, string> | null {
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const env = Object.fromEntries(
        readFileSync(`/proc/${pid}/environ`, "utf8")
          .split("\0")
          .map((pair) => [pair.slice(0, pair.indexOf("=")), pair.slice(pair.indexOf("=") + 1)]),
      ) as Record<string, string>;
      if (env[WORKER_ENV.workspace]?.startsWith(data) && env[WORKER_ENV.token]) return env;
    } catch {
      // It is gone, or not ours.
    }
  }
  return null;
}

it.runIf(process.platform === "linux")(
  `[W2] [F1] ${EVENTS} events through ${KILLS} kills arrive once each, in order`,
  async () => {
    const dir = mkdtempSync(join(tmpdir(), "slipway-w2-"));
    const data = join(dir, "data");
    const upstream = await startGitServer();
    const repo = upstream.createRepo("app");
    const settings = { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, SLIPWAY_LOG_LEVEL: "error" };
    // The subscriber finds the next coordinator at the address of the first.
    const options = { dataDir: data, env: { ...settings, SLIPWAY_PORT: String(await findFixedPort()) } };
    let server = await startServer(options);
    try {
      const { body } = await server.call("POST", "/v1/tasks", {
        repo: repo.url,
        prompt: "Hold the line.",
        script: [{ hang: true }],
      });
      const { id } = body as WireTask;
      await eventually(async () => ((await server.task(id)).state === "running" ? true : null), "it runs");
      // The real worker hangs without output; the real link continues in its name, from where it
      // stood.
      const env = await eventually(() => Promise.resolve(workerEnvironment(data)), "the worker is found");
      const attempt = Number(env[WORKER_ENV.attempt]);
      const link = new HttpLink({
        socketPath: env[WORKER_ENV.socket] ?? "",
        token: env[WORKER_ENV.token] ?? "",
        attempt,
        journal: new Journal(join(dir, "state"), attempt),
        clock: systemClock,
      });
      const forever = new AbortController().signal;
      await link.spec(forever);
      const client = new SlipwayClient({ baseUrl: server.url, token: server.token, WebSocket });
      const followed: number[] = [];
      const following = (async () => {
        for await (const { seq } of client.watch(id)) followed.push(seq);
      })();
      following.catch(() => undefined);
      let kills = 0;
      let emitted = 0;
      /** So that every kill falls into the talk. */
      let limit = 1.5 * STEP;
      async function killAll(): Promise<void> {
        for (; kills < KILLS; kills += 1) {
          await eventually(() => Promise.resolve(emitted >= (kills + 1) * STEP ? true : null), "it talks on");
          await server.kill("SIGKILL");
          const heard = emitted;
          limit = heard + STEP / 2;
          await eventually(() => Promise.resolve(emitted > heard ? true : null), "it talks while nobody listens");
          server = await startServer(options);
          limit = Math.max(limit, (kills + 2.5) * STEP);
        }
      }
      async function talk(): Promise<void> {
        for (let n = 1; n <= EVENTS; n += 1) {
          link.emit("message", { id: `m${n}`, role: "assistant", content: [{ type: "text", text: `number ${n}` }] });
          emitted = n;
          if (n % 50 === 0) await delay(1);
          while (n >= limit && n < EVENTS) await delay(5);
        }
      }
      await Promise.all([killAll(), talk()]);
      // Bounded, so that a broken dedupe fails this assertion and the server is ended.
      await link.flush(AbortSignal.timeout(120_000));
      await link.close();
      expect(kills).toBe(KILLS);
      const store = openSqliteReader({ dir: data, migrations: join(ROOT, "migrations/sqlite") });
      const texts: string[] = [];
      const numbers: number[] = [];
      for await (const event of readLog(store, id)) {
        if (event.workerSeq !== null) numbers.push(event.workerSeq);
        if (event.type === "message") texts.push((event.data["content"] as { text: string }[])[0]?.text ?? "");
      }
      await store.close();
      expect(texts).toEqual(Array.from({ length: EVENTS }, (_, i) => `number ${i + 1}`));
      expect(numbers).toEqual(numbers.map((_, i) => i + 1));
      expect((await server.task(id)).attempt).toBe(1);
      await server.call("POST", `/v1/ops/tasks/${id}/kill`);
      await eventually(async () => ((await server.task(id)).state === "cancelled" ? true : null), "it is cancelled");
      await following;
      expect(followed).toEqual(Array.from({ length: (await server.task(id)).seq }, (_, i) => i + 1));
    } finally {
      await server.kill("SIGTERM");
      await upstream.close();
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    }
  },
);
