/**
 * Many tasks in containers under random SIGKILLs of the coordinator until everything is quiet: the
 * judge of kills.test.ts, on Docker. Where there can be an engine of its own, that one is restarted
 * and killed too; elsewhere the engine at hand is left alone.
 */
import { setTimeout as delay } from "node:timers/promises";
import { expect, it } from "vitest";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { describeWithDocker, dockerClient } from "../support/docker/engine.ts";
import { openInstallation, type Installation } from "../support/docker/installation.ts";
import { noPrivateEngine, openPrivateEngine, type PrivateEngine } from "../support/docker/private-engine.ts";
import { seededIds } from "../support/manual-clock.ts";

const TASKS = Number(process.env["SLIPWAY_CHAOS_DOCKER_TASKS"] ?? 10);
const SLOTS = 4;
const LIMIT_MS = 60_000 + TASKS * 10_000;
const SEED = Number(process.env["SLIPWAY_CHAOS_SEED"] ?? Date.now() % 100_000);
/** One kill in so many takes the engine along: killed and restarted in turn. */
const ENGINE_EVERY = 5;
const POLICY = { backoffMs: 100, backoffCapMs: 1_000, graceMs: 1_000, cancelMs: 5_000 };
const RULES = "[T1] [T2] [T4] [T5] [T6] [R1] [R5] [D1] [D2] [D3] [D4] [D5] [W1] [W5]";

/** What each task is for; its end must be the same under kills. */
const KINDS = ["pushed", "pushed", "refused", "cancelled", "pushed", "answered"] as const;
type Kind = (typeof KINDS)[number];
const kindOf = (i: number): Kind => KINDS[i % KINDS.length] ?? "pushed";

function scriptOf(i: number): object[] {
  const work = [
    { write: { path: `task-${i}.txt`, content: `${i}\n` } },
    { wait: 300 },
    { finish: { title: `Task ${i}`, summary: "" } },
  ];
  switch (kindOf(i)) {
    case "pushed":
      return work;
    case "refused":
      return [{ fail: { code: "refused", message: "no" } }];
    case "cancelled":
      return [{ hang: true }];
    case "answered":
      return [{ ask: { question: "Go on?" } }, ...work];
  }
}

async function underKills(here: Installation, engine: PrivateEngine | null): Promise<void> {
  const { random } = seededIds(SEED);
  const ids: string[] = [];
  let kills = 0;
  let engineEnds = 0;
  let quiet = false;

  /** A coordinator that is away is asked again. */
  async function ask(method: string, path: string, body?: unknown, headers?: Record<string, string>) {
    for (;;) {
      const answer = await Promise.resolve()
        .then(() => here.server().call(method, path, body, headers))
        .catch(() => null);
      if (answer !== null && answer.status < 500) return answer;
      await delay(50);
    }
  }

  /** Does for the task what people have to, until it is settled. */
  async function accompany(i: number): Promise<WireTask> {
    const body = { repo: here.repo.url, prompt: `Task ${i}`, branch: `work/${i}`, script: scriptOf(i) };
    const submitted = await ask("POST", "/v1/tasks", body, { "idempotency-key": `key-${i}` });
    expect(submitted.status, JSON.stringify(submitted.body)).toBeLessThan(300);
    const { id } = submitted.body as WireTask;
    ids[i] = id;
    for (const end = Date.now() + LIMIT_MS; ; await delay(100)) {
      const task = (await ask("GET", `/v1/tasks/${id}`)).body as WireTask;
      if (task.settledAt !== null) return task;
      if (Date.now() > end) throw new Error(`task ${i} is ${task.state} ${JSON.stringify(task.failure)}`);
      if (kindOf(i) === "cancelled" && task.state === "running") await ask("POST", `/v1/tasks/${id}/cancel`);
      if (task.question) await ask("POST", `/v1/tasks/${id}/answer`, { questionId: task.question.id, text: "yes" });
    }
  }

  async function killAll(engine: PrivateEngine | null): Promise<void> {
    let startMs = 0;
    while (!quiet) {
      // On a machine that takes long to start one, each lives longer: all would die before they did
      // anything.
      await delay(200 + random() * 1_300 + startMs);
      await here.kill("SIGKILL");
      kills += 1;
      if (engine === null || kills % ENGINE_EVERY !== 2) {
        const begun = Date.now();
        await here.start();
        startMs = Date.now() - begun;
        continue;
      }
      engineEnds += 1;
      await (engineEnds % 2 === 1 ? engine.kill() : engine.stop());
      // The coordinator is back first, and finds no engine.
      await here.start();
      await engine.start();
    }
  }

  const all = Promise.all(Array.from({ length: TASKS }, (_, i) => accompany(i))).finally(() => (quiet = true));
  // Whatever fails, nobody is started any more when this ends.
  const [, killed] = await Promise.allSettled([all, killAll(engine)]);
  const tasks = await all;
  if (killed.status === "rejected") throw killed.reason;
  await here.expectInvariants();
  const { created, attempts, refused, mostRunning } = here.seen;
  process.stdout.write(
    `${TASKS} tasks, ${kills} kills, ${engineEnds} of them with the engine: ${attempts} attempts, ${created.size} containers, ` +
      `${refused} refused by the engine, at most ${mostRunning} at once (seed ${SEED})\n`,
  );
  expect(new Set(ids).size).toBe(TASKS);
  expect(kills).toBeGreaterThan(3);
  if (engine !== null) expect(engineEnds).toBeGreaterThan(0);
  // That some were seen shows that this looks at the right engine.
  expect(mostRunning).toBeGreaterThan(0);
  expect(created.size).toBeGreaterThanOrEqual(TASKS);
  tasks.forEach((task, i) => judge(task, i));

  function judge(task: WireTask, i: number): void {
    const end = kindOf(i) === "refused" ? "failed" : kindOf(i) === "cancelled" ? "cancelled" : "done";
    expect([i, task.state, task.failure?.code ?? null]).toEqual([i, end, end === "failed" ? "refused" : null]);
    if (end !== "done") return;
    expect(here.upstream.git("app", "rev-parse", `refs/heads/work/${i}`)).toBe(task.headSha);
    expect(here.upstream.git("app", "rev-list", "--count", `main..work/${i}`)).toBe("1");
    expect(here.upstream.git("app", "show", `work/${i}:task-${i}.txt`)).toBe(String(i));
  }
}

const why = noPrivateEngine();
const what = why === null ? "coordinator and engine" : `the coordinator (the engine is left alone: ${why})`;

describeWithDocker("Docker under kills", () => {
  it(`${RULES} ${TASKS} tasks under random kills of ${what} (seed ${SEED})`, { timeout: 2 * LIMIT_MS }, async () => {
    const engine = why === null ? await openPrivateEngine() : null;
    const here = await openInstallation({
      docker: engine?.docker ?? dockerClient(),
      host: engine?.host ?? null,
      slots: SLOTS,
      policy: POLICY,
    });
    try {
      await here.start();
      await underKills(here, engine);
    } finally {
      await here.close();
      await engine?.close();
    }
  });
});
