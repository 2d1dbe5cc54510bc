/**
 * Faults of the engine: restart, kill, hang, full disk (decision 020). A private engine and the
 * real coordinator, with a task in each of the seven open states. At the end of each test no
 * container is left, every slot can be used, and the log satisfies the invariants.
 */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, beforeEach, expect } from "vitest";
import { isSettledState, type Policy } from "../../../src/core/task.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { openInstallation, type Installation } from "../../support/docker/installation.ts";
import {
  describeWithPrivateEngine,
  openPrivateEngine,
  type PrivateEngine,
} from "../../support/docker/private-engine.ts";
import { eventually } from "../../support/process/server.ts";
import { sampled } from "../../support/random.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const SLOTS = 4;
const POLICY: Partial<Policy> = {
  backoffMs: 20_000,
  backoffCapMs: 20_000,
  graceMs: 10_000,
  cancelMs: 16_000,
  parkMs: 300,
  // A push stays where it is until the test lets it go on, however slow the machine is.
  pushMs: 3_600_000,
};
/** Keeps a task in provisioning, and another running, until `release`. */
const HELD = "until [ -e /tmp/go ]; do sleep 0.2; done";
/** Remaining backoff that suffices to bring the last tasks into their states, ms. */
const LEAD_MS = 8_000;
/** SLIPWAY_HANG_MS=40000 makes the hang longer than the timeout of one call (30 s). */
const HANG_MS = Number(process.env["SLIPWAY_HANG_MS"] ?? 12_000);

const FILE = { bash: "echo one > one.txt" };
const FINISH = { finish: { title: "One", summary: "" } };
const IGNORES_SIGNALS = { bash: "trap '' TERM INT HUP; while :; do sleep 1; done" };

const run = promisify(execFile);
const it = inTurn(4);

/** Tasks by the state in which the fault finds them. */
interface TasksByState {
  readonly parked: string;
  readonly pushing: string;
  readonly retrying: readonly string[];
  readonly running: string;
  readonly provisioning: string;
  readonly cancelling: string;
  readonly queued: readonly string[];
}

describeWithPrivateEngine("[D2] [D3] [D5] (90) a private engine", () => {
  let engine: PrivateEngine;
  let installation: Installation;
  /** The upstream accepts pushes to `blocked` once this file exists. */
  let pushAllowed: string;

  beforeAll(async () => {
    engine = await openPrivateEngine();
  });
  afterAll(() => engine.close());

  beforeEach(async () => {
    installation = await openInstallation({ docker: engine.docker, host: engine.host, slots: SLOTS, policy: POLICY });
    const { upstream } = installation;
    pushAllowed = join(upstream.root, "push-allowed");
    upstream.createRepo("slow", { ".slipway.yml": `setup:\n  - ${HELD}\n` });
    upstream.createRepo("blocked");
    // What it says keeps git from ending a silent push.
    upstream.hook("blocked", "pre-receive", `while [ ! -e ${pushAllowed} ]; do echo held; sleep 1; done`);
    await installation.start();
  });
  afterEach(async () => {
    engine.resume();
    await installation.close();
  });

  const inRepo = (name: string): object => ({ repo: installation.repo.url.replace("/app.git", `/${name}.git`) });
  const hasState = (task: WireTask, state: string): boolean => task.state === state || task.phase === state;
  const waitForState = (id: string, state: string): Promise<WireTask> =>
    installation.until(id, `${id} is ${state}`, (task) => hasState(task, state));

  /**
   * Resolves when all seven open states occur at the same moment. The states that end by themselves
   * come last: a retry is due after a random backoff, so tasks are submitted until one has LEAD_MS
   * left.
   * @param options of the tasks that are expected to be done in the end.
   */
  async function submitInAllStates(options: object = {}): Promise<TasksByState> {
    const { submit, says, server } = installation;
    const parked = await submit([{ ask: { question: "Go on?" } }, FILE, FINISH], options);
    await waitForState(parked, "parked");
    const pushing = await submit([FILE, FINISH], { ...inRepo("blocked"), ...options });
    await waitForState(pushing, "pushing");
    const cancelling = await submit([FILE, IGNORES_SIGNALS]);
    const running = await submit([FILE, { bash: "echo up" }, { bash: HELD, timeoutMs: 600_000 }, FINISH], options);
    await Promise.all([says(cancelling, "trap"), says(running, "up")]);
    const provisioning = await submit([FILE, FINISH], { ...inRepo("slow"), ...options });
    await waitForState(provisioning, "provisioning");
    const retrying: string[] = [];
    await eventually(async () => {
      const tasks = await Promise.all(retrying.map((id) => server().task(id)));
      if (tasks.filter(({ state }) => !isSettledState(state)).length < 2)
        retrying.push(await submit([{ exit: 7 }], { maxAttempts: 2 }));
      const isEarly = ({ state, dueAt }: WireTask): boolean =>
        state === "retrying" && Date.parse(String(dueAt)) - Date.now() > LEAD_MS;
      return tasks.some(isEarly) ? true : null;
    }, "a task is retrying");
    const queued = [await submit([FILE, FINISH], options), await submit([FILE, FINISH], options)];
    await server().call("POST", `/v1/tasks/${cancelling}/cancel`);
    const tasks: TasksByState = { parked, pushing, retrying, running, provisioning, cancelling, queued };
    const { items } = (await server().call("GET", "/v1/tasks?limit=100")).body as { items: WireTask[] };
    for (const [state, ids] of Object.entries(tasks)) {
      const found = items.filter(({ id }) => [ids].flat().includes(id));
      const seen = found.map((task) => `${task.state} ${task.attempt} ${JSON.stringify(task.failure)}`);
      expect(
        found.some((task) => hasState(task, state)),
        `no task is ${state}: ${seen.join(", ")}`,
      ).toBe(true);
    }
    return tasks;
  }

  /** Ends HELD in the containers that run now and in those that come, until the signal. */
  async function release(signal: AbortSignal): Promise<void> {
    for (; !signal.aborted; await delay(300)) {
      for (const { Id } of await installation.containers().catch(() => [])) {
        const touch = await engine.docker
          .getContainer(Id)
          .exec({ Cmd: ["touch", "/tmp/go"] })
          .catch(() => null);
        await touch?.start({ Detach: true }).catch(() => undefined);
      }
    }
  }

  /** Each task ends as its script demands, and the installation is clean. */
  async function expectOutcomes(tasks: TasksByState): Promise<void> {
    const { settled, upstream } = installation;
    writeFileSync(pushAllowed, "");
    const over = new AbortController();
    const releasing = release(over.signal);
    await answer(tasks.parked);
    const ids = [tasks.parked, tasks.pushing, tasks.running, tasks.provisioning, ...tasks.queued];
    const done = await Promise.all(ids.map((id) => settled(id))).finally(() => over.abort());
    await releasing;
    for (const task of done) {
      expect(task, JSON.stringify(task.failure)).toMatchObject({ state: "done", outcome: "pushed" });
      const name = task.id === tasks.pushing ? "blocked" : task.id === tasks.provisioning ? "slow" : "app";
      expect(upstream.git(name, "rev-parse", `refs/heads/${task.branch}`)).toBe(task.headSha);
      expect(upstream.git(name, "show", `${task.branch}:one.txt`)).toBe("one");
    }
    expect(await settled(tasks.cancelling)).toMatchObject({ state: "cancelled" });
    for (const id of tasks.retrying)
      expect(await settled(id)).toMatchObject({ state: "failed", failure: { code: "attempts_exhausted" } });
    await expectAllSlotsUsable();
    await installation.expectInvariants();
  }

  async function answer(id: string): Promise<void> {
    const { question } = await waitForState(id, "parked");
    const { status, body } = await installation
      .server()
      .call("POST", `/v1/tasks/${id}/answer`, { questionId: question?.id, text: "yes" });
    expect(status, JSON.stringify(body)).toBeLessThan(300);
  }

  /** As many tasks as there are slots run at the same time, so no slot was lost. */
  async function expectAllSlotsUsable(): Promise<void> {
    const ids = await Promise.all(Array.from({ length: SLOTS }, () => installation.submit([{ hang: true }])));
    await Promise.all(ids.map((id) => waitForState(id, "running")));
    await Promise.all(ids.map((id) => installation.server().call("POST", `/v1/ops/tasks/${id}/kill`)));
    for (const id of ids) expect((await installation.settled(id)).state).toBe("cancelled");
  }

  /** test/chaos/docker-kills causes the same faults at random moments. */
  const LONG = process.env["SLIPWAY_CHAOS_LONG"] === "1";
  const FAULTS: readonly (readonly [string, boolean, () => Promise<void>])[] = [
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
      "whose coordinator is killed",
      LONG,
      async () => {
        await installation.kill();
        await installation.start();
      },
    ],
    [
      "killed together with its coordinator, which restarts first,",
      true,
      async () => {
        await Promise.all([engine.kill(), installation.kill()]);
        await installation.start();
        await delay(1_000);
        await engine.start();
      },
    ],
  ];
  const enabled = FAULTS.filter(([, isEnabled]) => isEnabled);
  for (const [fault, , cause] of sampled(enabled, LONG ? enabled.length : 1)) {
    it(`[T5] [D1] an engine ${fault} with a task in each open state: every task continues or ends as it should`, async () => {
      const tasks = await submitInAllStates();
      await cause();
      await expectOutcomes(tasks);
    });
  }

  const TICKS = Array.from({ length: 20 }, (_, i) => [{ bash: `echo tick-${i}` }, { wait: 300 }]).flat();
  const queue = async (): Promise<{ breaker: string; reason: string | null }> => {
    const { body } = await installation.server().call("GET", "/v1/ops/overview");
    return (body as { queue: { breaker: string; reason: string | null } }).queue;
  };

  it("[D7] [D9] [T5] a hung engine: claiming pauses with a reason, a cancel ends in time, workers continue, no attempt is lost", async () => {
    const once = { maxAttempts: 1 };
    const lively = await installation.submit([FILE, ...TICKS, FINISH], once);
    const doomed = await installation.submit([FILE, IGNORES_SIGNALS], once);
    const second = await installation.submit([FILE, IGNORES_SIGNALS], once);
    await Promise.all([
      installation.says(lively, "tick-0"),
      installation.says(doomed, "trap"),
      installation.says(second, "trap"),
    ]);
    engine.hang();
    const hungAt = Date.now();
    const caught = await installation.submit([FILE, FINISH], once);
    await eventually(async () => ((await queue()).breaker === "open" ? true : null), "claiming is paused");
    const asked = Date.now();
    expect((await queue()).reason).toContain("does not answer");
    expect(Date.now() - asked).toBeLessThan(15_000);
    const waiting = await installation.submit([FILE, FINISH], once);
    expect((await installation.server().task(waiting)).wait).toMatchObject({ reason: "sandbox_unavailable" });
    expect(await installation.cancelled(doomed)).toBeLessThan(POLICY.cancelMs! + 6_000);
    await installation.says(lively, "tick-19");
    // The bounds also hold for a coordinator that starts while the engine hangs.
    await installation.kill();
    await installation.start();
    expect(await installation.cancelled(second)).toBeLessThan(POLICY.cancelMs! + 6_000);
    await delay(Math.max(0, HANG_MS - (Date.now() - hungAt)));
    engine.resume();
    for (const id of [lively, caught, waiting])
      expect(await installation.settled(id)).toMatchObject({ state: "done", outcome: "pushed" });
    expect((await installation.server().task(lively)).attempt).toBe(1);
    expect((await installation.server().task(waiting)).attempt).toBe(1);
    expect(await queue()).toMatchObject({ breaker: "closed" });
    await expectAllSlotsUsable();
    await installation.expectInvariants();
  });

  /** Fills the disk, including space that is freed during the next half second. */
  async function fill(): Promise<void> {
    const { bavail, bsize } = await statfs(engine.dataRoot);
    await run("fallocate", ["-l", String(bavail * bsize - 32 * 2 ** 20), join(engine.dataRoot, "filler")]);
    const rest = join(engine.dataRoot, "filler-rest");
    await run("sh", [
      "-c",
      `for i in 1 2 3 4 5; do head -c 1000000000 /dev/zero >> ${rest} 2>/dev/null; sleep 0.1; done; true`,
    ]);
  }

  async function freeDisk(): Promise<void> {
    for (const name of ["filler", "filler-rest"]) await rm(join(engine.dataRoot, name), { force: true });
  }

  async function expectDiskFull(id: string): Promise<void> {
    const { failure } = await installation.until(id, "it fails", (task) => task.failure !== null);
    expect(failure).toMatchObject({ code: "sandbox_unavailable", message: expect.stringMatching(/disk is full/) });
  }

  it("[T5] a full engine: neither containers nor images can be created; tasks wait with that reason and continue when space is free", async () => {
    const once = { maxAttempts: 1 };
    const tags = (await engine.docker.listImages()).flatMap(({ RepoTags }) => RepoTags ?? []);
    const tag = (tags.find((name) => name.startsWith("slipway-worker:")) ?? "").slice("slipway-worker:".length);
    try {
      await fill();
      const noContainer = await installation.submit([FILE, FINISH], once);
      await expectDiskFull(noContainer);
      await freeDisk();
      expect(await installation.settled(noContainer)).toMatchObject({ state: "done", outcome: "pushed" });
      await engine.docker.getImage(`slipway-worker:${tag}`).tag({ repo: "kept", tag });
      await engine.docker.getImage(`slipway-worker:${tag}`).remove();
      await fill();
      const noImage = await installation.submit([FILE, FINISH], once);
      await expectDiskFull(noImage);
      await freeDisk();
      await engine.docker.getImage(`kept:${tag}`).tag({ repo: "slipway-worker", tag });
      expect(await installation.settled(noImage)).toMatchObject({ state: "done", outcome: "pushed" });
    } finally {
      await freeDisk();
    }
    await expectAllSlotsUsable();
    await installation.expectInvariants();
  });

  it("[T5] [D1] a full engine with a task in each open state: every task continues or ends as it should", async () => {
    // A clone that finds the disk full is the worker's failure, which costs an attempt.
    const tasks = await submitInAllStates({ maxAttempts: 10 });
    try {
      await fill();
      await delay(5_000);
    } finally {
      await freeDisk();
    }
    await expectOutcomes(tasks);
  });
});
