/**
 * Faults of single containers, and load that containers cause: one coordinator, all tests in
 * parallel on the shared engine. A bystander task runs throughout and must not be affected; the
 * coordinator's memory and the engine's log files stay bounded.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type Docker from "dockerode";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { sandboxName, type Policy } from "../../../src/core/task.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { EngineEvents } from "../../support/docker/engine-events.ts";
import { describeWithDocker, dockerClient } from "../../support/docker/engine.ts";
import { openInstallation, type Installation } from "../../support/docker/installation.ts";
import { eventually } from "../../support/process/server.ts";
import { sampled } from "../../support/random.ts";
import { inTurn } from "../../support/vitest/full-run.ts";
import { PATIENCE_MS } from "../../support/vitest/patience.ts";

const it = inTurn(6);

const POLICY: Partial<Policy> = { backoffMs: 100, backoffCapMs: 200, graceMs: 4_000, cancelMs: 15_000 };
/** 10 GB with SLIPWAY_FLOOD_MB=10000. */
const FLOOD_MB = Number(process.env["SLIPWAY_FLOOD_MB"] ?? 200);
/** Enables tests that take minutes: a pause that exceeds the liveness limit. */
const LONG = process.env["SLIPWAY_CHAOS_LONG"] === "1";
const RSS_MORE_MB = 200;
const GAP_MS = 10_000;

const FILE = { bash: "echo one > one.txt" };
const FINISH = { finish: { title: "One", summary: "" } };
const SMALL = { limits: { memoryMb: 256, cpus: 0.5 } };
const ONCE = { ...SMALL, maxAttempts: 1 };
/** Writes to the container's output, which the engine keeps as its log. */
const STDOUT = "/proc/1/fd/1";
/** Until `release`. */
const HOLD = { bash: "until [ -e /tmp/go ]; do sleep 0.2; done", timeoutMs: 600_000 };
const BOMB = ":(){ :|:& };:; sleep 600";

describeWithDocker("[D2] [D5] containers beside each other", () => {
  const docker = dockerClient();
  let events: EngineEvents;
  let here: Installation;
  let bystander: string;
  let rssBefore: number;

  const rss = async (): Promise<number> => {
    const { body } = await here.server().call("GET", "/v1/ops/overview");
    return (body as { host: { rssMb: number } }).host.rssMb;
  };
  const container = (id: string, attempt = 1): Docker.Container => docker.getContainer(sandboxName(id, attempt));
  const attempts = async (id: string): Promise<unknown> =>
    (await here.server().call("GET", `/v1/tasks/${id}/attempts`)).body;
  /** On a busy machine the first attempt to freeze a container may fail. */
  const pause = (id: string): Promise<true> =>
    eventually(
      () =>
        container(id)
          .pause()
          .then(
            () => true as const,
            () => null,
          ),
      `${id} is paused`,
    );
  /** Ends HOLD. */
  const release = (id: string): void => void execFileSync("docker", ["exec", sandboxName(id, 1), "touch", "/tmp/go"]);
  /** Number of these events for the task's containers. */
  const reported = async (id: string, event: string): Promise<number> =>
    (await events.ofContainers(event, { "slipway.task": id })).length;
  /** @returns the time from the cancel to the end, ms. */
  const cancelled = async (id: string): Promise<number> => {
    const took = await here.cancelled(id);
    const gone = async (): Promise<true | null> =>
      (await here.containers()).some(({ Labels }) => Labels["slipway.task"] === id) ? null : true;
    await eventually(gone, "[D3] its container is gone");
    return took;
  };
  const expectPushed = (task: WireTask): void => {
    expect(task, JSON.stringify(task.failure)).toMatchObject({ state: "done", outcome: "pushed" });
    expect(here.upstream.git("app", "show", `${task.branch}:one.txt`)).toBe("one");
  };

  beforeAll(async () => {
    events = await EngineEvents.follow(docker);
    here = await openInstallation({ docker, host: null, slots: 16, policy: POLICY });
    await here.start();
    await here.settled(await here.submit([{ say: "hello" }]));
    rssBefore = await rss();
    const ticks = Array.from({ length: 60 }, (_, i) => [{ say: `tick-${i}` }, { wait: 300 }]).flat();
    bystander = await here.submit([FILE, ...ticks, FINISH], { maxAttempts: 1 });
  });
  afterAll(async () => {
    events.close();
    await here.close();
  });

  describe.concurrent("in parallel", () => {
    it("[T5] a container killed from outside is worker_lost and is retried", async () => {
      const holdFirst = { ...HOLD, bash: `[ "$SLIPWAY_ATTEMPT" != 1 ] || ${HOLD.bash}` };
      const id = await here.submit([FILE, { bash: "echo up" }, holdFirst, FINISH], SMALL);
      await here.says(id, "up");
      await container(id).kill({ signal: "SIGKILL" });
      expectPushed(await here.settled(id));
      expect(await attempts(id)).toMatchObject({
        items: [{ exitCode: 137, failure: "worker_lost" }, { failure: null }],
      });
    });

    it("[D3] a container that is paused and resumed continues", async () => {
      const id = await here.submit([FILE, { bash: "echo up" }, HOLD, FINISH], ONCE);
      await here.says(id, "up");
      await pause(id);
      await delay(4_000);
      expect(await here.server().task(id)).toMatchObject({ state: "running", attempt: 1 });
      await container(id).unpause();
      release(id);
      const task = await here.settled(id);
      expectPushed(task);
      expect(task.attempt).toBe(1);
    });

    it("[D7] a paused container can be cancelled in time", async () => {
      const id = await here.submit([FILE, { hang: true }], ONCE);
      await here.says(id, "one.txt");
      await pause(id);
      expect(await cancelled(id)).toBeLessThan(POLICY.cancelMs! + 5_000);
    });

    it.runIf(LONG)("paused for longer than a worker may be silent: worker_lost, and tried again", async () => {
      const id = await here.submit([FILE, { bash: "echo up" }, { wait: 3_000 }, FINISH], SMALL);
      await here.says(id, "up");
      await pause(id);
      expectPushed(await here.settled(id));
      expect(await attempts(id)).toMatchObject({ items: [{ failure: "worker_lost" }, { failure: null }] });
    });

    it("an out-of-memory kill of a child does not end the worker, although the engine reports it for the container", async () => {
      const eat = `node -e 'const all = []; for (;;) all.push(Buffer.alloc(4194304, 1))' || echo survived`;
      // Longer than the polling interval of 10 s.
      const id = await here.submit([FILE, { bash: eat }, { wait: 11_000 }, HOLD, FINISH], ONCE);
      await here.says(id, "survived");
      await eventually(async () => ((await reported(id, "oom")) > 0 ? true : null), "the engine reports it");
      expect((await container(id).inspect()).State.Running).toBe(true);
      release(id);
      const task = await here.settled(id);
      expectPushed(task);
      expect(task.attempt).toBe(1);
    });

    it("a fork bomb ends with its command, and the task continues", async () => {
      const id = await here.submit([FILE, { bash: BOMB, timeoutMs: 3_000 }, { say: "still here" }, FINISH], ONCE);
      expectPushed(await here.settled(id));
      expect(JSON.stringify(await here.server().events(id))).toContain("still here");
    });

    it("[D7] a running fork bomb can be cancelled in time", async () => {
      const id = await here.submit([FILE, { bash: BOMB }], ONCE);
      await here.says(id, "sleep 600");
      await delay(2_000);
      expect(await cancelled(id)).toBeLessThan(POLICY.cancelMs! + 5_000);
    });

    /**
     * Bytes of all log files that the engine keeps for the container; null when they cannot be read
     * from here.
     */
    async function logBytes(id: string): Promise<number | null> {
      const { LogPath } = await container(id).inspect();
      try {
        const dir = dirname(LogPath);
        return readdirSync(dir)
          .filter((name) => name.includes("-json.log"))
          .reduce((sum, name) => sum + statSync(join(dir, name)).size, 0);
      } catch {
        return null;
      }
    }

    const floods: readonly (readonly [string, string])[] = [
      [`${FLOOD_MB} MB of lines`, `yes "$(printf %0200d 0)" | head -c ${FLOOD_MB}000000 > ${STDOUT}`],
      ["100 MB without a line end", `head -c 100000000 /dev/zero | tr '\\0' x > ${STDOUT}`],
    ];
    for (const [what, command] of sampled(floods, 1)) {
      it(
        `${what} on the container's output: its log stays bounded, and so does the evidence`,
        { timeout: 3 * PATIENCE_MS + FLOOD_MB * 50 },
        async () => {
          const script = [FILE, { bash: `${command} && echo flooded`, timeoutMs: 3_000_000 }, HOLD, { exit: 9 }];
          const id = await here.submit(script, ONCE);
          // Events quote the command too, so only its output is counted.
          await eventually(
            async () =>
              (await here.server().events(id)).find(({ data }) => String(data["output"]).includes("flooded")) ?? null,
            "the flood is over",
            PATIENCE_MS + FLOOD_MB * 50,
          );
          const bytes = await logBytes(id);
          if (bytes !== null) {
            expect(bytes).toBeGreaterThan(1_000_000);
            expect(bytes).toBeLessThan(25_000_000);
          }
          release(id);
          const task = await here.settled(id);
          expect(task).toMatchObject({ state: "failed", failure: { code: "attempts_exhausted" } });
          expect(task.failure?.evidence?.length).toBeLessThanOrEqual(4_000);
        },
      );
    }

    it("a flood and a line of 100 MB in a command's output are truncated, and the task continues", async () => {
      const line = { bash: "head -c 100000000 /dev/zero | tr '\\0' x" };
      const id = await here.submit([FILE, { bash: "yes" }, line, { say: "still here" }, FINISH], ONCE);
      expectPushed(await here.settled(id));
      const outputs = (await here.server().events(id))
        .map(({ data }) => String(data["output"] ?? ""))
        .filter((text) => text.length > 1_000);
      expect(outputs).toHaveLength(2);
      for (const output of outputs) expect(output.length).toBeLessThan(20_000);
    });

    it("binary output and terminal sequences arrive as text", async () => {
      const noise = `printf '\\377\\376 \\303\\050 \\355\\240\\200 \\033[2J\\033]52;c;aGk=\\007 end'`;
      const id = await here.submit([FILE, { bash: noise }, { bash: `${noise} > ${STDOUT}` }, { exit: 9 }], ONCE);
      const task = await here.settled(id);
      expect(task.failure?.evidence).toContain(" end");
      const output = (await here.server().events(id))
        .map(({ data }) => String(data["output"] ?? ""))
        .find((text) => text.endsWith(" end"));
      for (const text of [output ?? "", task.failure?.evidence ?? ""]) {
        expect(text).toContain("\ufffd");
        expect(Buffer.from(text).toString()).toBe(text);
      }
    });
  });

  it.always(
    "[D3] [T1] [T4] the bystander is not affected, the coordinator's memory is bounded, no container is left",
    async () => {
      const task = await here.settled(bystander);
      expectPushed(task);
      expect(task.attempt).toBe(1);
      const told = (await here.server().events(bystander)).filter(({ data }) => JSON.stringify(data).includes("tick-"));
      const times = told.map(({ at }) => Date.parse(at));
      expect(Math.max(...times.slice(1).map((at, i) => at - (times[i] ?? at)))).toBeLessThan(GAP_MS);
      const rssAfter = await rss();
      process.stdout.write(`coordinator: ${rssBefore} MB before, ${rssAfter} MB after\n`);
      expect(rssAfter - rssBefore).toBeLessThan(RSS_MORE_MB);
      await here.expectInvariants();
    },
  );
});
