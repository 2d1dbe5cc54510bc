/**
 * Item 89: a task that only uses CPU is stopped by the wall-clock limit; one whose worker is
 * silent, by the silence limit.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { openAttackTarget, type AttackTarget } from "../support/docker/attacker.ts";
import { describeWithDocker } from "../support/docker/engine.ts";
import { eventually } from "../support/process/server.ts";
import { inFullRuns } from "../support/vitest/full-run.ts";

inFullRuns(describeWithDocker)("[D6] (89) an agent that burns the processor", () => {
  let stage: AttackTarget;
  beforeAll(async () => {
    stage = await openAttackTarget({ policy: { silenceMs: 6_000, answerMs: 1_000 } });
  });
  afterAll(async () => await stage.close());

  it("a task whose worker is silent is stopped although it is busy, others are stopped at their wall time, and honest ones continue", async () => {
    const burn = "for i in 1 2 3 4; do (while :; do :; done) & done; wait";
    const limits = { cpus: 0.5 };
    const [silent, talking, deaf, honest] = await Promise.all([
      stage.attack([{ bash: burn, timeoutMs: 3_600_000 }], { budget: { minutes: 0.1 }, limits }),
      stage.attack(
        Array.from({ length: 200 }, () => ({ bash: "timeout 1 bash -c 'while :; do :; done'; echo hash" })),
        { budget: { minutes: 0.1 }, limits },
      ),
      stage.attack([{ wait: 500 }, { bash: `trap '' TERM INT; kill -STOP $PPID; ${burn}`, timeoutMs: 3_600_000 }], {
        maxAttempts: 1,
        limits,
      }),
      stage.attack([
        { bash: "echo work > work.txt" },
        { wait: 3_000 },
        { finish: { title: "Work", summary: "Done." } },
      ]),
    ]);
    expect(deaf.task).toMatchObject({ state: "failed", failure: { code: "attempts_exhausted" } });
    expect(deaf.task.failure?.message).toContain("stalled");
    for (const { task } of [silent, talking])
      expect(task).toMatchObject({ state: "failed", failure: { code: "deadline_exceeded" } });
    expect(talking.said.length).toBeGreaterThan(1);
    expect(honest.task).toMatchObject({ state: "done", outcome: "pushed" });
    await eventually(async () => ((await stage.containers()).length === 0 ? true : null), "[D3] no container is left");
  });
});
