/**
 * What befalls the engine itself: it restarts, dies, hangs, fills up. A private engine, the real
 * coordinator, tasks in every state; at the end of each test nothing is left, every slot can be
 * taken again, and the log obeys the rules.
 */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import type { Policy } from "../../../src/core/task.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { openInstallation, type Installation } from "../../support/docker/installation.ts";
import {
  describeWithPrivateEngine,
  openPrivateEngine,
  type PrivateEngine,
} from "../../support/docker/private-engine.ts";
import { eventually } from "../../support/process/server.ts";

const SLOTS = 4;
const POLICY: Partial<Policy> = { backoffMs: 1_500, backoffCapMs: 1_500, graceMs: 1_500, cancelMs: 3_000, parkMs: 300 };
/** Longer than one call may take (30 s) with SLIPWAY_HANG_MS=40000. */
const HANG_MS = Number(process.env["SLIPWAY_HANG_MS"] ?? 12_000);

const FILE = { bash: "echo one > one.txt" };
const FINISH = { finish: { title: "One", summary: "" } };
const DEAF = { bash: "trap '' TERM INT HUP; echo deaf; while :; do sleep 1; done" };

const run = promisify(execFile);

interface Cast {
  readonly parked: string;
  readonly pushing: string;
  readonly retrying: readonly string[];
  readonly running: string;
  readonly provisioning: string;
  readonly cancelling: string;
  readonly queued: readonly string[];
}

describeWithPrivateEngine("[D2] [D3] [D5] (90) an engine of one's own", () => {
  let engine: PrivateEngine;
  let here: Installation;
  let gate: string;

  beforeAll(async () => {
    engine = await openPrivateEngine();
  }, 120_000);
  afterAll(() => engine.close());

  beforeEach(async () => {
    here = await openInstallation({ docker: engine.docker, host: engine.host, slots: SLOTS, policy: POLICY });
    gate = join(here.upstream.root, "gate");
    here.upstream.createRepo("slow", { ".slipway/setup.sh": "sleep 2\n" });
    here.upstream.createRepo("gated");
    here.upstream.hook("gated", "pre-receive", `while [ ! -e ${gate} ]; do sleep 0.1; done`);
    await here.start();
  }, 60_000);
  afterEach(async () => {
    engine.resume();
    await here.close();
  });

  const at = (name: string): object => ({ repo: here.repo.url.replace("/app.git", `/${name}.git`) });
  const inState = (id: string, state: string): Promise<WireTask> =>
    here.until(id, `${id} is ${state}`, (task) => task.state === state || task.phase === state);

  /** One task in each state, all at the same moment. @param more of those that are to end well. */
  async function cast(more: object = {}): Promise<Cast> {
    const parked = await here.submit([{ ask: { question: "Go on?" } }, FILE, FINISH], more);
    await inState(parked, "parked");
    const pushing = await here.submit([FILE, FINISH], { ...at("gated"), ...more });
    await inState(pushing, "pushing");
    const cancelling = await here.submit([FILE, DEAF]);
    const running = await here.submit([FILE, { bash: "echo up" }, { wait: 9_000 }, FINISH], more);
    await Promise.all([here.says(cancelling, "trap"), here.says(running, "up")]);
    const retrying = await Promise.all([
      here.submit([{ exit: 7 }], { maxAttempts: 2 }),
      here.submit([{ exit: 7 }], { maxAttempts: 2 }),
    ]);
    await eventually(async () => {
      const tasks = await Promise.all(retrying.map((id) => here.server().task(id)));
      return tasks.some((task) => task.state === "retrying") ? true : null;
    }, "one is retrying");
    const provisioning = await here.submit([FILE, FINISH], { ...at("slow"), ...more });
    const queued = await Promise.all([here.submit([FILE, FINISH], more), here.submit([FILE, FINISH], more)]);
    await here.server().call("POST", `/v1/tasks/${cancelling}/cancel`);
    const all = { parked, pushing, retrying, running, provisioning, cancelling, queued };
    const tasks = await Promise.all(
      Object.values(all)
        .flat()
        .map((id) => here.server().task(id)),
    );
    const states = new Set(tasks.map(({ state, phase }) => (phase === "parked" ? phase : state)));
    expect([...states]).toEqual(expect.arrayContaining(["cancelling", "parked", "pushing", "queued"]));
    // These pass by themselves: a busy machine may miss one of them.
    expect(
      (["provisioning", "retrying", "running"] as const).filter((state) => states.has(state)).length,
    ).toBeGreaterThan(1);
    return all;
  }

  async function judge(all: Cast): Promise<void> {
    writeFileSync(gate, "");
    await answer(all.parked);
    const ids = [all.parked, all.pushing, all.running, all.provisioning, ...all.queued];
    const done = await Promise.all(ids.map((id) => here.settled(id)));
    for (const one of done) {
      expect(one, JSON.stringify(one.failure)).toMatchObject({ state: "done", outcome: "pushed" });
      const name = one.id === all.pushing ? "gated" : one.id === all.provisioning ? "slow" : "app";
      expect(here.upstream.git(name, "rev-parse", `refs/heads/${one.branch}`)).toBe(one.headSha);
      expect(here.upstream.git(name, "show", `${one.branch}:one.txt`)).toBe("one");
    }
    expect(await here.settled(all.cancelling)).toMatchObject({ state: "cancelled" });
    for (const id of all.retrying)
      expect(await here.settled(id)).toMatchObject({ state: "failed", failure: { code: "attempts_exhausted" } });
    await allSlotsWork();
    await here.lawful();
  }

  async function answer(id: string): Promise<void> {
    const { question } = await inState(id, "parked");
    const { status, body } = await here
      .server()
      .call("POST", `/v1/tasks/${id}/answer`, { questionId: question?.id, text: "yes" });
    expect(status, JSON.stringify(body)).toBeLessThan(300);
  }

  /** A slot that was lost would show here: as many tasks as there are slots run side by side. */
  async function allSlotsWork(): Promise<void> {
    const ids = await Promise.all(Array.from({ length: SLOTS }, () => here.submit([{ hang: true }])));
    await Promise.all(ids.map((id) => inState(id, "running")));
    await Promise.all(ids.map((id) => here.server().call("POST", `/v1/ops/tasks/${id}/kill`)));
    for (const id of ids) expect((await here.settled(id)).state).toBe("cancelled");
  }

  /** What test/chaos/docker-kills.test.ts does too, at random. */
  const LONG = process.env["SLIPWAY_CHAOS_LONG"] === "1";
  const HOWS: readonly (readonly [string, boolean, () => Promise<void>])[] = [
    [
      "restarted",
      true,
      async () => {
        await engine.stop();
        await engine.start();
      },
    ],
    [
      "killed and started again",
      LONG,
      async () => {
        await engine.kill();
        await delay(1_000);
        await engine.start();
      },
    ],
    [
      "that loses its coordinator",
      LONG,
      async () => {
        await here.kill();
        await here.start();
      },
    ],
    [
      "killed together with the coordinator, which is back first,",
      true,
      async () => {
        await Promise.all([engine.kill(), here.kill()]);
        await here.start();
        await delay(1_000);
        await engine.start();
      },
    ],
  ];
  for (const [how, runs, befall] of HOWS) {
    it.runIf(runs)(
      `[T5] [D1] ${how} while tasks are in every state: each goes on or ends by its name`,
      { timeout: 120_000 },
      async () => {
        const all = await cast();
        await befall();
        await judge(all);
      },
    );
  }

  const TICKS = Array.from({ length: 20 }, (_, i) => [{ bash: `echo tick-${i}` }, { wait: 300 }]).flat();
  const queue = async (): Promise<{ breaker: string; reason: string | null }> => {
    const { body } = await here.server().call("GET", "/v1/ops/overview");
    return (body as { queue: { breaker: string; reason: string | null } }).queue;
  };
  const cancelled = async (id: string): Promise<number> => {
    const begun = Date.now();
    expect((await here.server().call("POST", `/v1/tasks/${id}/cancel`)).status).toBeLessThan(300);
    expect((await here.settled(id, 30_000)).state).toBe("cancelled");
    return Date.now() - begun;
  };

  it(
    "[D7] [D9] [T5] hung: claims pause and say why, cancel ends in its bound, workers go on, nothing is used up",
    { timeout: 180_000 },
    async () => {
      const once = { maxAttempts: 1 };
      const lively = await here.submit([FILE, ...TICKS, FINISH], once);
      const doomed = await here.submit([FILE, DEAF], once);
      const second = await here.submit([FILE, DEAF], once);
      await Promise.all([here.says(lively, "tick-0"), here.says(doomed, "trap"), here.says(second, "trap")]);
      engine.hang();
      const hungAt = Date.now();
      const caught = await here.submit([FILE, FINISH], once);
      await eventually(async () => ((await queue()).breaker === "open" ? true : null), "claiming is paused", 20_000);
      const asked = Date.now();
      expect((await queue()).reason).toContain("does not answer");
      expect(Date.now() - asked).toBeLessThan(15_000);
      const waiting = await here.submit([FILE, FINISH], once);
      expect((await here.server().task(waiting)).wait).toMatchObject({ reason: "sandbox_unavailable" });
      expect(await cancelled(doomed)).toBeLessThan(POLICY.cancelMs! + 6_000);
      await here.says(lively, "tick-19");
      // A coordinator that starts while the engine hangs keeps the bounds too.
      await here.kill();
      await here.start();
      expect(await cancelled(second)).toBeLessThan(POLICY.cancelMs! + 6_000);
      await delay(Math.max(0, HANG_MS - (Date.now() - hungAt)));
      engine.resume();
      for (const id of [lively, caught, waiting])
        expect(await here.settled(id)).toMatchObject({ state: "done", outcome: "pushed" });
      expect((await here.server().task(lively)).attempt).toBe(1);
      expect((await here.server().task(waiting)).attempt).toBe(1);
      expect(await queue()).toMatchObject({ breaker: "closed" });
      await allSlotsWork();
      await here.lawful();
    },
  );

  /** Takes all space, to the last byte, and what gets free in the next moments. */
  async function fill(): Promise<void> {
    const { bavail, bsize } = await statfs(engine.dataRoot);
    await run("fallocate", ["-l", String(bavail * bsize - 32 * 2 ** 20), join(engine.dataRoot, "filler")]);
    const rest = join(engine.dataRoot, "filler-rest");
    await run("sh", [
      "-c",
      `for i in 1 2 3 4 5; do head -c 1000000000 /dev/zero >> ${rest} 2>/dev/null; sleep 0.1; done; true`,
    ]);
  }

  async function makeRoom(): Promise<void> {
    for (const name of ["filler", "filler-rest"]) await rm(join(engine.dataRoot, name), { force: true });
  }

  async function saysFull(id: string): Promise<void> {
    const { failure } = await here.until(id, "it fails", (task) => task.failure !== null);
    expect(failure).toMatchObject({ code: "sandbox_unavailable", message: expect.stringMatching(/disk is full/) });
  }

  it(
    "[T5] full: no container and no image can be made; tasks wait and say so, and go on when there is room",
    { timeout: 120_000 },
    async () => {
      const once = { maxAttempts: 1 };
      const tags = (await engine.docker.listImages()).flatMap(({ RepoTags }) => RepoTags ?? []);
      const tag = (tags.find((one) => one.startsWith("slipway-worker:")) ?? "").slice("slipway-worker:".length);
      try {
        await fill();
        const noContainer = await here.submit([FILE, FINISH], once);
        await saysFull(noContainer);
        await makeRoom();
        expect(await here.settled(noContainer)).toMatchObject({ state: "done", outcome: "pushed" });
        await engine.docker.getImage(`slipway-worker:${tag}`).tag({ repo: "kept", tag });
        await engine.docker.getImage(`slipway-worker:${tag}`).remove();
        await fill();
        const noImage = await here.submit([FILE, FINISH], once);
        await saysFull(noImage);
        await makeRoom();
        await engine.docker.getImage(`kept:${tag}`).tag({ repo: "slipway-worker", tag });
        expect(await here.settled(noImage)).toMatchObject({ state: "done", outcome: "pushed" });
      } finally {
        await makeRoom();
      }
      await allSlotsWork();
      await here.lawful();
    },
  );

  it(
    "[T5] [D1] full for a while with tasks in every state: each goes on or ends by its name",
    { timeout: 120_000 },
    async () => {
      // A clone without room fails as the worker's own.
      const all = await cast({ maxAttempts: 10 });
      try {
        await fill();
        await delay(5_000);
      } finally {
        await makeRoom();
      }
      await judge(all);
    },
  );
});
