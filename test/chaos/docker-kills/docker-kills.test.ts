/**
 * Many tasks in containers while the coordinator is killed at random moments and containers are
 * restarted, with the expectations of coordinator-kills.test.ts. Where a private engine can run, it
 * is killed and restarted too, with the coordinator and under it.
 */
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { describeWithDocker, dockerClient } from "../../support/docker/engine.ts";
import { openInstallation, type Installation } from "../../support/docker/installation.ts";
import { noPrivateEngine, openPrivateEngine, type PrivateEngine } from "../../support/docker/private-engine.ts";
import { seededIds } from "../../support/manual-clock.ts";
import { hasEnded } from "../../support/process/server.ts";
import { SEED, sized } from "../../support/random.ts";
import { inTurnTogether } from "../../support/vitest/full-run.ts";
import { createDockerFaults } from "./faults.ts";

const it = inTurnTogether(3, 0);

const TASKS = Number(process.env["SLIPWAY_CHAOS_DOCKER_TASKS"] ?? sized(6, 10));
const SLOTS = 4;
/** Ends from outside are excused three times, then they count. */
const MAX_ATTEMPTS = 10;
const MIN_KILLS = 4;
const MAX_KILLS = 6 * TASKS;
/** After this time no further kill follows: on a busy machine each costs many seconds. */
const KILLS_MS = 60_000 + TASKS * 10_000;
const LIMIT_MS = 3 * KILLS_MS;
const POLICY = { backoffMs: 100, backoffCapMs: 1_000, graceMs: 1_000, cancelMs: 5_000 };
const RULES = "[T1] [T2] [T4] [T5] [T6] [R1] [R5] [D1] [D2] [D3] [D4] [D5] [W1] [W5]";

/** The expected outcomes, which kills must not change. */
const KINDS = ["pushed", "pushed", "refused", "cancelled", "pushed", "answered"] as const;
type Kind = (typeof KINDS)[number];
const getKind = (i: number): Kind => KINDS[i % KINDS.length] ?? "pushed";

function createScript(i: number): object[] {
  const work = [
    { write: { path: `task-${i}.txt`, content: `${i}\n` } },
    { wait: 300 },
    { finish: { title: `Task ${i}`, summary: "" } },
  ];
  switch (getKind(i)) {
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

async function underKills(installation: Installation, engine: PrivateEngine | null): Promise<void> {
  const { random } = seededIds(SEED);
  const ids: string[] = [];
  const faults = createDockerFaults({ installation, engine, docker: engine?.docker ?? dockerClient(), random });
  let quiet = false;
  const areEnough = (): boolean => faults.counts.kills >= MIN_KILLS;

  /** Repeats the request while the coordinator is down. */
  async function callUntilAnswered(method: string, path: string, body?: unknown, headers?: Record<string, string>) {
    for (;;) {
      const answer = await Promise.resolve()
        .then(async () => {
          const asked = installation.server();
          const given = await asked.call(method, path, body, headers);
          // The port of a coordinator that has ended may be another server's by now.
          return hasEnded(asked) ? null : given;
        })
        .catch(() => null);
      if (answer !== null && answer.status < 500) return answer;
      await delay(50);
    }
  }

  /** Submits the task, and cancels or answers it as its kind demands, until it is settled. */
  async function runTask(i: number): Promise<WireTask> {
    const body = {
      repo: installation.repo.url,
      prompt: `Task ${i}`,
      branch: `work/${i}`,
      script: createScript(i),
      maxAttempts: MAX_ATTEMPTS,
    };
    const submitted = await callUntilAnswered("POST", "/v1/tasks", body, { "idempotency-key": `key-${i}` });
    expect(submitted.status, JSON.stringify(submitted.body)).toBeLessThan(300);
    const { id } = submitted.body as WireTask;
    ids[i] = id;
    for (const end = Date.now() + LIMIT_MS; ; await delay(100)) {
      const task = (await callUntilAnswered("GET", `/v1/tasks/${id}`)).body as WireTask;
      if (task.settledAt !== null) return task;
      if (Date.now() > end) throw new Error(`task ${i} is ${task.state} ${JSON.stringify(task.failure)}`);
      if (getKind(i) === "cancelled" && task.state === "running")
        await callUntilAnswered("POST", `/v1/tasks/${id}/cancel`);
      if (task.question)
        await callUntilAnswered("POST", `/v1/tasks/${id}/answer`, { questionId: task.question.id, text: "yes" });
    }
  }

  async function runAll(): Promise<WireTask[]> {
    const settled = await Promise.all(Array.from({ length: TASKS }, (_, i) => runTask(i)));
    // Where tasks are quick, they have all settled before there were enough kills.
    while (!areEnough() && !quiet) settled.push(await runTask(settled.length));
    return settled;
  }

  async function strikeAll(): Promise<void> {
    // Bounded, so that tasks end on a machine that is too busy to do anything between two kills.
    const end = Date.now() + KILLS_MS;
    while (!quiet && faults.counts.kills < MAX_KILLS && (Date.now() < end || !areEnough())) await faults.strike();
  }

  const all = runAll().finally(() => (quiet = true));
  const striking = strikeAll().catch((error: unknown) => {
    quiet = true;
    throw error;
  });
  // Wait for both, so that no coordinator is started after this function returns.
  const [, killed] = await Promise.allSettled([all, striking]);
  const tasks = await all;
  if (killed.status === "rejected") throw killed.reason;
  await installation.expectInvariants();
  const { kills, engineEnds, containerRestarts } = faults.counts;
  const { created, attempts, refused, mostRunning } = installation.seen;
  process.stdout.write(
    `${tasks.length} tasks, ${kills} kills, ${engineEnds} ends of the engine, ${containerRestarts} restarts of a container: ` +
      `${attempts} attempts, ${created.size} containers, ` +
      `${refused} refused by the engine, at most ${mostRunning} at once (seed ${SEED})\n`,
  );
  expect(new Set(ids).size).toBe(tasks.length);
  expect(kills).toBeGreaterThanOrEqual(MIN_KILLS);
  if (engine !== null) expect(engineEnds).toBeGreaterThan(0);
  // Proves that the observations are of the right engine.
  expect(mostRunning).toBeGreaterThan(0);
  expect(created.size).toBeGreaterThanOrEqual(tasks.length);
  tasks.forEach((task, i) => expectOutcome(task, i));

  function expectOutcome(task: WireTask, i: number): void {
    const end = getKind(i) === "refused" ? "failed" : getKind(i) === "cancelled" ? "cancelled" : "done";
    expect([i, task.state, task.failure?.code ?? null]).toEqual([i, end, end === "failed" ? "refused" : null]);
    if (end !== "done") return;
    expect(installation.upstream.git("app", "rev-parse", `refs/heads/work/${i}`)).toBe(task.headSha);
    expect(installation.upstream.git("app", "rev-list", "--count", `main..work/${i}`)).toBe("1");
    expect(installation.upstream.git("app", "show", `work/${i}:task-${i}.txt`)).toBe(String(i));
  }
}

const why = noPrivateEngine();
const what = why === null ? "coordinator and engine" : `the coordinator (the engine is left alone: ${why})`;

describeWithDocker("Docker under kills", () => {
  it(
    `${RULES} ${TASKS} tasks under random kills of ${what} (seed ${SEED})`,
    { timeout: LIMIT_MS + 300_000 },
    async () => {
      const engine = why === null ? await openPrivateEngine() : null;
      const installation = await openInstallation({
        docker: engine?.docker ?? dockerClient(),
        host: engine?.host ?? null,
        slots: SLOTS,
        policy: POLICY,
      });
      try {
        await installation.start();
        await underKills(installation, engine);
      } finally {
        await installation.close();
        await engine?.close();
      }
    },
  );
});
