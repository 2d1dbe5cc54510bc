/**
 * Item 77 on whole tasks: a task that fills its disk does not affect other tasks, receives the
 * reason, and its work is kept.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { afterEach, expect, it } from "vitest";
import type { Overview, WireTask } from "../../src/core/protocol/rest.ts";
import { sandboxName } from "../../src/core/task.ts";
import { openAttackTarget, SECRETS, type AttackTarget, type AttackTargetOptions } from "../support/docker/attacker.ts";
import { describeWithDocker, needsLoops } from "../support/docker/engine.ts";
import { disksDir, findRemains } from "../support/docker/cleanup.ts";
import { eventually, startServer } from "../support/process/server.ts";
import { inFullRuns } from "../support/vitest/full-run.ts";

const HONEST = [
  {
    bash: "for i in $(seq 20); do dd if=/dev/zero of=x$i bs=1M count=1 2>/dev/null || exit 1; sleep 0.2; done; rm x*; echo work > work.txt",
  },
  { finish: { title: "Work", summary: "Done." } },
];

inFullRuns(describeWithDocker)("[Y2] (77) an agent that fills its disk", () => {
  let stage: AttackTarget;
  const open = async (options: AttackTargetOptions): Promise<void> => void (stage = await openAttackTarget(options));
  afterEach(async () => await stage.close());

  /** Asserts that no container, volume, image or device of a task remains and its slot is free. */
  const gone = (): Promise<unknown> =>
    eventually(async () => {
      const { containers, volumes, files, devices } = await findRemains(stage.instance, disksDir(stage.data));
      const { slots } = (await stage.server.call("GET", "/v1/ops/overview")).body as Overview;
      const all = [...containers, ...volumes, ...files, ...devices];
      return all.length === 0 && slots.used === 0 ? true : null;
    }, "nothing is left");

  it("on a loop device sees ENOSPC and is done when it frees space; otherwise it fails as disk_full and its work is kept", async ({
    skip,
  }) => {
    await open({ env: { SLIPWAY_DISK_MB: "96", SLIPWAY_WARM: "0" } });
    await needsLoops(skip);
    const fill =
      "dd if=/dev/zero of=big bs=1M; fallocate -l 1G more; for d in /tmp $HOME /dev/shm; do df -m --output=size $d | tail -1; done";
    const flood = "mkdir f; cd f; i=0; while : > $i; do i=$((i+1)); done";
    const [tidy, greedy, swarm, honest] = await Promise.all([
      stage.attack([
        { bash: fill },
        { bash: "rm -f big more; echo tidy > tidy.txt" },
        { finish: { title: "Tidy", summary: "Done." } },
      ]),
      stage.attack(
        [
          { bash: `echo first > first.txt` },
          { wait: 3_000 },
          { bash: `echo late > late.txt; ${fill}` },
          { commit: "all" },
        ],
        {
          maxAttempts: 1,
        },
      ),
      stage.attack([{ bash: flood, timeoutMs: 60_000 }, { commit: "all" }], { maxAttempts: 1 }),
      stage.attack(HONEST),
    ]);
    expect(tidy.said[0]?.output).toMatch(/No space left on device[^]*No space left on device/);
    expect(tidy.task).toMatchObject({ state: "done", outcome: "pushed", attempt: 1 });
    expect(honest.task).toMatchObject({ state: "done", outcome: "pushed", attempt: 1 });
    for (const { task } of [greedy, swarm]) {
      expect(task.state).toBe("failed");
      expect(JSON.stringify(task.failure)).toContain("disk space");
    }
    await gone();
    const { body } = await stage.server.call("GET", `/v1/tasks/${greedy.id}/attempts`);
    expect(body).toMatchObject({ items: [{ failure: "disk_full" }] });
    const { files } = (await stage.server.call("GET", `/v1/tasks/${greedy.id}/diff`)).body as {
      files: { path: string }[];
    };
    expect(files.map(({ path }) => path)).toContain("first.txt");
    // What came after its last checkpoint is in the artifact.
    expect(greedy.events.map(({ data }) => data["code"])).toContain("checkpoint_failed");
    const artifacts = (await stage.server.call("GET", `/v1/tasks/${greedy.id}/artifacts`)).body;
    expect(artifacts).toMatchObject({ items: [{ name: "a1-workspace.tar.gz" }] });
  });

  it("in watch mode is ended at the limit, and its work is salvaged", async () => {
    await open({ env: { SLIPWAY_DISK_MB: "64", SLIPWAY_DISK: "watch", SLIPWAY_WARM: "1", SLIPWAY_SALVAGE_MB: "8" } });
    const [greedy, honest] = await Promise.all([
      stage.attack(
        [{ bash: "echo late > a-late.txt; dd if=/dev/zero of=big bs=1M count=150; sleep 100", timeoutMs: 120_000 }],
        {
          maxAttempts: 1,
        },
      ),
      stage.attack(HONEST),
    ]);
    expect(honest.task).toMatchObject({ state: "done", outcome: "pushed", attempt: 1 });
    expect(greedy.task).toMatchObject({ state: "failed" });
    const { body } = await stage.server.call("GET", `/v1/tasks/${greedy.id}/attempts`);
    expect(body).toMatchObject({ items: [{ failure: "disk_full", exitCode: 137 }] });
    expect(greedy.events.map(({ data }) => data["code"])).toContain("salvaged");
    await stage.server.kill("SIGTERM");
    // Warm workers belong to this server; a server without a pool removes them.
    const next = await again({ SLIPWAY_WARM: "0" });
    await eventually(
      async () => ((await findRemains(stage.instance, disksDir(stage.data))).volumes.length === 0 ? true : null),
      "no volume is left",
    );
    await next.kill("SIGTERM");
  });

  const again = (env: Record<string, string>) =>
    startServer({
      dataDir: stage.data,
      sandbox: "docker",
      env: { SLIPWAY_TRUSTED_REPO_HOSTS: stage.upstream.host, SLIPWAY_SECRET_KEY: SECRETS.secretKey, ...env },
    });

  it("[D10] [Y5] on a disk that is smaller than the promises a task waits for its room; where more is promised, the task that takes most is ended", async ({
    skip,
  }) => {
    await open({ env: { SLIPWAY_WARM: "0" } });
    await needsLoops(skip);
    await stage.server.kill("SIGTERM");
    const disks = disksDir(stage.data);
    mkdirSync(disks, { recursive: true, mode: 0o700 });
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=200m", "tmpfs", disks]);
    try {
      const serve = { SLIPWAY_DISK_MB: "120", SLIPWAY_WARM: "0", SLIPWAY_MIN_FREE_MB: "64", SLIPWAY_SALVAGE_MB: "8" };
      const strict = await again(serve);
      // The first one runs until it was seen.
      const script = (hold: string): object[] => [
        { bash: `${hold}; echo work > work.txt`, timeoutMs: 600_000 },
        { finish: { title: "Work", summary: "Done." } },
      ];
      const first = await submitTo(strict, script("until [ -e /tmp/go ]; do sleep 0.2; done"));
      const second = await submitTo(strict, script("true"));
      const room = await eventually(async () => {
        const { storage } = (await strict.call("GET", "/v1/ops/overview")).body as Overview;
        const isHeld = storage.workspaces?.largest.some(({ taskId }) => taskId === first) === true;
        return isHeld && (await strict.task(second)).wait?.reason === "disk_low" ? storage : null;
      }, "it waits, and the overview shows what takes the room");
      expect(room).toMatchObject({ floorMb: 64, lowMb: 48, reserve: { mb: 16, held: true } });
      expect(room.workspaces?.leftMb).toBeLessThan(120);
      await eventually(
        async () => ((await strict.task(first)).state === "running" ? true : null),
        "the first one runs",
      );
      execFileSync("docker", ["exec", sandboxName(first, 1), "touch", "/tmp/go"]);
      for (const id of [first, second])
        await eventually(async () => ((await strict.task(id)).state === "done" ? true : null), "both are done");
      await strict.kill("SIGTERM");

      const generous = await again({ ...serve, SLIPWAY_MIN_FREE_MB: "180", SLIPWAY_DISK_OVERCOMMIT: "32" });
      const write = "dd if=/dev/urandom of=big bs=1M conv=fsync";
      const greedy = await submitTo(generous, [{ bash: `${write} count=110; sleep 60` }], { maxAttempts: 1 });
      const modest = await submitTo(generous, [{ bash: `${write} count=5; rm big` }, ...script("sleep 3")]);
      const ended = await eventually(
        async () => ((await generous.task(greedy)).settledAt === null ? null : await generous.task(greedy)),
        "the largest is ended",
      );
      expect(ended.state).toBe("failed");
      expect(JSON.stringify(await generous.events(greedy))).toMatch(/disk_full.*no workspace took more of it/);
      await eventually(async () => ((await generous.task(modest)).state === "done" ? true : null), "the other is done");
      await generous.kill("SIGTERM");
    } finally {
      execFileSync("umount", ["--lazy", disks]);
    }
  });

  type Server = Awaited<ReturnType<typeof again>>;
  async function submitTo(server: Server, script: readonly object[], more: object = {}): Promise<string> {
    const task = { repo: stage.repo.url, prompt: "x", agent: "scripted", script, ...more };
    return ((await server.call("POST", "/v1/tasks", task)).body as WireTask).id;
  }

  it("[D2] [D3] killed between the steps that make a disk, a restart ends in done; a task cancelled in between leaves nothing", async ({
    skip,
  }) => {
    await open({ env: { SLIPWAY_DISK_MB: "96", SLIPWAY_WARM: "0" } });
    await needsLoops(skip);
    await stage.attack(HONEST);
    await stage.server.kill("SIGTERM");
    for (const point of ["disk.made", "disk.attached", "sandbox.created", "sandbox.removed", "disk.volume.removed"]) {
      const doomed = await again({ SLIPWAY_DISK_MB: "96", SLIPWAY_WARM: "0", SLIPWAY_CRASH: `${point}:1` });
      const answer = await doomed.call("POST", "/v1/tasks", {
        repo: stage.repo.url,
        prompt: "x",
        agent: "scripted",
        script: HONEST,
      });
      const { id } = answer.body as WireTask;
      expect(await doomed.exited, point).toBe("SIGKILL");
      const next = await again({ SLIPWAY_DISK_MB: "96", SLIPWAY_WARM: "0" });
      const task = await eventually(
        async () => ((await next.task(id)).settledAt === null ? null : await next.task(id)),
        `${point}: settled`,
      );
      expect(task, point).toMatchObject({ state: "done", attempt: 1 });
      await eventually(async () => {
        const { containers, volumes, files, devices } = await findRemains(stage.instance, disksDir(stage.data));
        return [...containers, ...volumes, ...files, ...devices].length === 0 ? true : null;
      }, `${point}: nothing is left`);
      await next.kill("SIGTERM");
    }
  });

  it("[D10] while the host has less free space than the operator's minimum, tasks wait with a reason and start when there is more", async () => {
    await open({ env: { SLIPWAY_WARM: "0" } });
    await stage.server.kill("SIGTERM");
    const low = await again({ SLIPWAY_MIN_FREE_MB: "99999999", SLIPWAY_WARM: "0" });
    const answer = await low.call("POST", "/v1/tasks", {
      repo: stage.repo.url,
      prompt: "x",
      agent: "scripted",
      script: HONEST,
    });
    const { id } = answer.body as WireTask;
    await eventually(
      async () => ((await low.task(id)).wait?.reason === "disk_low" ? true : null),
      "it waits for disk space",
    );
    expect((await low.call("GET", "/v1/ops/overview")).body).toMatchObject({
      queue: { disk: "low", reason: expect.stringMatching(/99999999 are needed/) },
    });
    expect((await low.call("GET", "/readyz")).status).toBe(503);
    await low.kill("SIGTERM");
    const roomy = await again({ SLIPWAY_MIN_FREE_MB: "1", SLIPWAY_WARM: "0" });
    const task = await eventually(
      async () => ((await roomy.task(id)).settledAt === null ? null : await roomy.task(id)),
      "it is done",
    );
    expect(task).toMatchObject({ state: "done", attempt: 1 });
    await roomy.kill("SIGTERM");
  });
});
