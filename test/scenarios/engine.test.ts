/**
 * What befalls the engine itself: it restarts, dies, hangs, fills up. A private engine, the real coordinator, tasks in every state;
 * at the end of each test nothing is left, every slot can be taken again, and the log obeys the rules.
 */
import { execFileSync } from "node:child_process";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import type { Policy } from "../../src/task.ts";
import type { WireTask } from "../../src/wire.ts";
import { openInstallation, type Installation } from "../support/installation.ts";
import { describeWithPrivateEngine, openPrivateEngine, type PrivateEngine } from "../support/private-engine.ts";
import { eventually } from "../support/server.ts";

const SLOTS = 4;
const POLICY: Partial<Policy> = { backoffMs: 1_500, backoffCapMs: 1_500, graceMs: 3_000, cancelMs: 6_000, parkMs: 300 };
/** Longer than one call may take (30 s) with SLIPWAY_HANG_MS=40000. */
const HANG_MS = Number(process.env["SLIPWAY_HANG_MS"] ?? 12_000);

const FILE = { bash: "echo one > one.txt" };
const FINISH = { finish: { title: "One", summary: "" } };
const DEAF = { bash: "trap '' TERM INT HUP; echo deaf; while :; do sleep 1; done" };

interface Cast {
  readonly parked: string;
  readonly pushing: string;
  readonly retrying: readonly string[];
  readonly running: string;
  readonly provisioning: string;
  readonly cancelling: string;
  readonly queued: readonly string[];
}

describeWithPrivateEngine("[D2] [D3] [D5] an engine of one's own", () => {
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
    await here.settled(await here.submit([{ say: "hello" }]));
  }, 60_000);
  afterEach(async () => {
    engine.resume();
    await here.close();
  });

  const at = (name: string): object => ({ repo: here.repo.url.replace("/app.git", `/${name}.git`) });
  const inState = (id: string, state: string): Promise<WireTask> =>
    here.until(id, `${id} is ${state}`, (task) => task.state === state || task.phase === state);

  /** One task in each state, all at the same moment. */
  async function cast(): Promise<Cast> {
    const parked = await here.submit([{ ask: { question: "Go on?" } }, FILE, FINISH]);
    await inState(parked, "parked");
    const pushing = await here.submit([FILE, FINISH], at("gated"));
    await inState(pushing, "pushing");
    const cancelling = await here.submit([FILE, DEAF]);
    const running = await here.submit([FILE, { bash: "echo up" }, { wait: 3_000 }, FINISH]);
    await Promise.all([here.says(cancelling, "trap"), here.says(running, "up")]);
    const retrying = await Promise.all([here.submit([{ exit: 7 }], { maxAttempts: 2 }), here.submit([{ exit: 7 }], { maxAttempts: 2 })]);
    await eventually(async () => {
      const tasks = await Promise.all(retrying.map((id) => here.server().task(id)));
      return tasks.some((task) => task.state === "retrying") ? true : null;
    }, "one is retrying");
    const provisioning = await here.submit([FILE, FINISH], at("slow"));
    const queued = await Promise.all([here.submit([FILE, FINISH]), here.submit([FILE, FINISH])]);
    await here.server().call("POST", `/v1/tasks/${cancelling}/cancel`);
    return { parked, pushing, retrying, running, provisioning, cancelling, queued };
  }

  async function judge(all: Cast): Promise<void> {
    writeFileSync(gate, "");
    const { task } = await parkedAnswer(all.parked);
    const done = [task, ...(await Promise.all([all.pushing, all.running, all.provisioning, ...all.queued].map((id) => here.settled(id))))];
    for (const one of done) {
      expect(one, JSON.stringify(one.failure)).toMatchObject({ state: "done", outcome: "pushed" });
      const name = one.id === all.pushing ? "gated" : one.id === all.provisioning ? "slow" : "app";
      expect(here.upstream.git(name, "rev-parse", `refs/heads/${one.branch}`)).toBe(one.headSha);
      expect(here.upstream.git(name, "show", `${one.branch}:one.txt`)).toBe("one");
    }
    expect(await here.settled(all.cancelling)).toMatchObject({ state: "cancelled" });
    for (const id of all.retrying) expect(await here.settled(id)).toMatchObject({ state: "failed", failure: { code: "attempts_exhausted" } });
    await allSlotsWork();
    await here.lawful();
  }

  async function parkedAnswer(id: string): Promise<{ task: WireTask }> {
    const { question } = await inState(id, "parked");
    const answer = await here.server().call("POST", `/v1/tasks/${id}/answer`, { questionId: question?.id, text: "yes" });
    expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300);
    return { task: await here.settled(id) };
  }

  /** A slot that was lost would show here: as many tasks as there are slots run side by side. */
  async function allSlotsWork(): Promise<void> {
    const ids = await Promise.all(Array.from({ length: SLOTS }, () => here.submit([{ hang: true }])));
    await Promise.all(ids.map((id) => inState(id, "running")));
    await Promise.all(ids.map((id) => here.server().call("POST", `/v1/ops/tasks/${id}/kill`)));
    for (const id of ids) expect((await here.settled(id)).state).toBe("cancelled");
  }

  it("restarted while tasks are in every state: each goes on or ends by its name", { timeout: 120_000 }, async () => {
    const all = await cast();
    await engine.stop();
    await engine.start();
    await judge(all);
  });
});
