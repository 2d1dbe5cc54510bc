/**
 * Model-driven workers, killed at random records of their transcripts until every task is done;
 * then trees, transcripts and logs are checked.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import Database from "../../src/store/sqlite/driver.ts";
import { expect } from "vitest";
import { checkInvariants } from "../../src/coordinator/invariants.ts";
import { deriveInstanceId } from "../../src/core/lib/runtime/instance-id.ts";
import type { Scenario } from "../../src/broker/model/fake/scenario.ts";
import { startFakeModel } from "../../src/broker/model/fake/server.ts";
import { openProcessSandbox } from "../../src/sandbox/process/sandbox.ts";
import { openSqliteReader } from "../../src/store/sqlite/store.ts";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { WORKER_ENV } from "../../src/core/protocol/worker.ts";
import { startGitServer } from "../support/git-server.ts";
import { createRandom, SEED, sized } from "../support/random.ts";
import { killProcess } from "../support/process/running.ts";
import { eventually, ROOT, startServer } from "../support/process/server.ts";
import { inTurnTogether } from "../support/vitest/full-run.ts";

const it = inTurnTogether(3, 1);

const KILLS = Number(process.env["SLIPWAY_CHAOS_WORKER_KILLS"] ?? process.env["SLIPWAY_CHAOS_KILLS"] ?? sized(5, 30));
/** A task has ten attempts; the last one is left alone. */
const PER_TASK = 9;
/** One more than needed: a task may be done before all of its deaths are due. */
const TASKS = Math.ceil(KILLS / PER_TASK) + 1;
const SLOTS = 4;
/** A bound for hangs. */
const LIMIT_MS = 300_000 + KILLS * 6_000;
const KEY = "sk-real-key-of-the-server-0123456789";

const NAMES = ["a", "b", "c", "d", "e", "f", "g", "h"];
/** Beside the workspace, where no checkpoint reaches: what really ran, and to its end. */
const step = (dir: string, name: string) => ({
  name: "bash",
  input: {
    command: `echo "$PWD begin ${name}" >> ${dir}/ran; echo ${name} >> log.txt; echo "$PWD end ${name}" >> ${dir}/ran`,
  },
});
/** What an agent does that looks before it repeats. */
const REPAIR = {
  tools: [
    {
      name: "bash",
      input: {
        command: `touch log.txt; ${NAMES.map((n) => `grep -qx ${n} log.txt || echo ${n} >> log.txt`).join("; ")}`,
      },
    },
  ],
};
const FINISH = { tools: [{ name: "finish", input: { title: "Do the work", summary: "It is done." } }] };
const CHECK = NAMES.map((name) => `grep -qx ${name} log.txt`).join(" && ");
/** Records of an uninterrupted run: the begin record, one per turn, two per call. */
const LINES = 1 + 7 + 2 * 12;

function work(dir: string): Scenario {
  const [a, b, c, d, e, f, g, h] = NAMES.map((name) => step(dir, name)) as [
    ReturnType<typeof step>,
    ...ReturnType<typeof step>[],
  ];
  const list = { name: "todo", input: { items: [{ text: "more", status: "pending" }] } };
  const turns = [
    { say: "I begin.", tools: [a, b], delayMs: 5 },
    { say: "On.", tools: [list, c], delayMs: 5 },
    { say: "Half way there.", tools: [d], delayMs: 5 },
    { tools: [e, { name: "read", input: { path: "log.txt" } }, f] },
    { say: "The rest.", tools: [g, h], delayMs: 5 },
    ...[1, 2, 3].flatMap(() => [REPAIR, FINISH]),
  ];
  return { turns } as Scenario;
}

interface Row {
  readonly n: number;
  readonly attempt: number;
  readonly record: string;
}

it(
  `[A10] [X1] [X2] [X3] [W1] [W3] ${KILLS} SIGKILLs of workers at random lines: no finished call runs again, nothing is lost (seed ${SEED})`,
  { timeout: LIMIT_MS + 60_000 },
  async () => {
    const random = createRandom();
    const dir = mkdtempSync(join(tmpdir(), "slipway-kills-"));
    const data = join(dir, "data");
    const upstream = await startGitServer();
    const repo = upstream.createRepo("app");
    const fake = await startFakeModel({ scenarios: { default: work(dir) }, apiKey: KEY });
    const env = {
      SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
      SLIPWAY_LOG_LEVEL: "error",
      SLIPWAY_MAX_CONCURRENT: String(SLOTS),
      ANTHROPIC_API_KEY: KEY,
      ANTHROPIC_BASE_URL: fake.url,
    };
    const server = await startServer({ dataDir: data, env, policy: { backoffMs: 20, backoffCapMs: 50 } });
    const db = new Database(join(data, "slipway.db"), { readonly: true });
    const lines = db.prepare<[string], Row>("SELECT n, attempt, record FROM transcripts WHERE task_id = ? ORDER BY n");
    const lengths = db.prepare<[], { id: string; n: number }>(
      "SELECT task_id AS id, max(n) AS n FROM transcripts GROUP BY task_id",
    );
    const deaths: number[] = [];
    let settled = false;

    /** Worker processes of a task. */
    function findWorkers(id: string): number[] {
      return readdirSync("/proc").flatMap((name) => {
        try {
          const pairs = /^\d+$/.test(name) ? readFileSync(`/proc/${name}/environ`, "utf8").split("\0") : [];
          const mine = pairs.some((pair) => pair.startsWith(`${WORKER_ENV.workspace}=${data}`) && pair.includes(id));
          return mine && pairs.some((pair) => pair.startsWith(WORKER_ENV.token)) ? [Number(name)] : [];
        } catch {
          return [];
        }
      });
    }

    /**
     * Kills each task's worker whenever its transcript has reached the next of its random lengths.
     * What was read before must still be there.
     */
    async function killAll(): Promise<void> {
      const due = new Map<string, number[]>();
      const seen = new Map<string, string>();
      while (!settled) {
        for (const { id, n } of lengths.all()) {
          if (!due.has(id))
            due.set(
              id,
              Array.from({ length: PER_TASK }, () => 1 + Math.floor(random() * LINES)).sort((x, y) => x - y),
            );
          const next = due.get(id)?.[0];
          if (next === undefined || n < next) continue;
          await delay(random() * 8);
          const killed = findWorkers(id).filter(killProcess);
          if (killed.length === 0) {
            await delay(30);
            continue;
          }
          due.get(id)?.shift();
          const now = lines.all(id);
          const text = JSON.stringify(now).slice(0, -1);
          expect(text.startsWith(seen.get(id) ?? ""), `[X1] the transcript of ${id} only grows`).toBe(true);
          seen.set(id, text);
          deaths.push(now.length);
          // One death each: the next one needs another life.
          await eventually(
            async () => (findWorkers(id).some((pid) => killed.includes(pid)) ? null : true),
            "it is dead",
          );
        }
        await delay(2);
      }
    }

    try {
      const ids: string[] = [];
      const submit = async (): Promise<void> => {
        const body = {
          repo: repo.url,
          prompt: "Do the work.",
          branch: `work/${ids.length}`,
          maxAttempts: PER_TASK + 1,
          verify: [CHECK],
        };
        const { body: made } = await server.call("POST", "/v1/tasks", body);
        ids.push((made as WireTask).id);
      };
      for (let i = 0; i < TASKS; i += 1) await submit();
      const settle = async (): Promise<void> => {
        for (const id of ids) {
          await eventually(
            async () => ((await server.task(id)).settledAt === null ? null : true),
            `${id} settles`,
            LIMIT_MS,
          );
          // A task whose turn came late may have run to its end.
          if (id === ids.at(-1) && deaths.length < KILLS && !settled) await submit();
        }
      };
      const all = [settle(), killAll()].map((part) => part.finally(() => (settled = true)));
      for (const end of await Promise.allSettled(all)) if (end.status === "rejected") throw end.reason;

      const ran = existsSync(join(dir, "ran")) ? readFileSync(join(dir, "ran"), "utf8").trim().split("\n") : [];
      for (const [i, id] of ids.entries()) {
        const task = await server.task(id);
        expect(task, JSON.stringify(task.failure)).toMatchObject({ state: "done", outcome: "pushed" });
        expect(upstream.git("app", "show", `work/${i}:log.txt`).split("\n").toSorted()).toEqual(NAMES);
        const mine = ran.filter((line) => line.includes(id)).map((line) => line.replace(/^\S+ /, ""));
        expect(new Set(mine).size, `[A10] no call of ${id} ran twice: ${mine.join()}`).toBe(mine.length);
        const rows = lines.all(id);
        expect(rows.map(({ n }) => n)).toEqual(rows.map((_, at) => at + 1));
        const attempts = rows.map(({ attempt }) => attempt);
        expect(attempts).toEqual(attempts.toSorted((x, y) => x - y));
        const seqs = (await server.events(id)).map(({ seq }) => seq);
        expect(seqs).toEqual(seqs.map((_, at) => at + 1));
      }
      const store = openSqliteReader({ dir: data, migrations: join(ROOT, "migrations/sqlite") });
      const sandbox = openProcessSandbox({
        dir: data,
        workerFile: join(ROOT, "dist/worker.mjs"),
        instance: deriveInstanceId(data),
      });
      expect((await checkInvariants({ store, sandbox, maxConcurrent: SLOTS })).violations).toEqual([]);
      await store.close();
      await sandbox.close();
      process.stdout.write(
        `${deaths.length} kills at ${new Set(deaths).size} different lengths of ${Math.max(...deaths)}, ${ids.length} tasks\n`,
      );
      expect(deaths.length).toBeGreaterThanOrEqual(KILLS);
    } finally {
      settled = true;
      db.close();
      await server.kill("SIGKILL");
      for (const name of readdirSync("/proc").filter((one) => /^\d+$/.test(one))) {
        const environ = await Promise.resolve()
          .then(() => readFileSync(`/proc/${name}/environ`, "utf8"))
          .catch(() => "");
        if (environ.includes(`${WORKER_ENV.workspace}=${data}`)) killProcess(Number(name));
      }
      await fake.close();
      await upstream.close();
      rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
    }
  },
);
