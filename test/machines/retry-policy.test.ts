import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  FAILURE_CODES,
  FAILURE_STAGES,
  failureClass,
  makeFailure,
  type FailureClass,
  type FailureCode,
} from "../../src/core/failure.ts";
import { DEFAULT_POLICY as P, type TaskContext } from "../../src/core/task.ts";
import type { AttemptFault } from "../../machines/task-events.ts";
import { finalFailure, retryDelay } from "../../machines/retry-policy.ts";
import { begin, offer, played, stateName, type MoveName, type Play } from "./player.ts";

/**
 * The classes of the design, written by hand: a code that changes its class must change here too.
 */
const CLASSES: Record<FailureClass, readonly FailureCode[]> = {
  infra: ["sandbox_unavailable", "interrupted", "internal"],
  transient: [
    "boot_timeout",
    "repo_unreachable",
    "repo_incomplete",
    "worker_lost",
    "stalled",
    "model_overloaded",
    "remote_unreachable",
    "image_pull_failed",
    "forge_unreachable",
    "forge_rate_limited",
  ],
  resource: ["out_of_memory", "disk_full"],
  agent: ["agent_error"],
  terminal: [
    "repo_not_found",
    "repo_auth",
    "branch_not_found",
    "repo_too_large",
    "image_missing",
    "image_not_allowed",
    "model_auth",
    "model_quota",
    "program_auth",
    "refused",
    "agent_stuck",
    "deadline_exceeded",
    "budget_exceeded",
    "push_rejected",
    "push_auth",
    "push_workflow_scope",
    "pull_request_auth",
    "pull_request_rejected",
    "push_forbidden",
    "branch_conflict",
    "push_held",
    "set_aside",
    "queue_expired",
    "attempts_exhausted",
  ],
};
/**
 * How often a task of three attempts is retried when it fails the same way each time (100 stands
 * for "without a limit").
 */
const RETRIES: Record<FailureClass, number> = { infra: 100, transient: 2, resource: 1, agent: 1, terminal: 0 };
const WAYS: Record<"provisioning" | "running" | "pushing", readonly MoveName[]> = {
  provisioning: ["claim"],
  running: ["claim", "ready"],
  pushing: ["claim", "ready", "finished"],
};
const fault = (code: FailureCode, extra: Partial<AttemptFault> = {}): AttemptFault => ({
  code,
  detail: null,
  evidence: null,
  jitter: 0.5,
  retryAfterMs: null,
  counted: false,
  ...extra,
});
const fail = (play: Play, code: FailureCode): Play =>
  offer(play, { type: "task.state", data: { reason: "failed", ...fault(code) }, after: 1_000 }) as Play;
const cases = FAILURE_CODES.flatMap((code) =>
  (Object.keys(WAYS) as (keyof typeof WAYS)[]).map((stage) => [code, stage] as const),
);

describe("retry policy", () => {
  it("every code is in one class", () => {
    expect(Object.values(CLASSES).flat().sort()).toEqual([...FAILURE_CODES].sort());
    for (const [cls, codes] of Object.entries(CLASSES))
      for (const code of codes) expect(failureClass(code), code).toBe(cls);
  });

  it.each(cases)("%s while %s is retried as often as its class allows", (code, stage) => {
    const retries = RETRIES[failureClass(code)];
    let play = played(begin(), ...WAYS[stage]);
    for (let i = 0; i < retries; i++) {
      play = fail(play, code);
      expect([stateName(play), play.snapshot.context.failure?.code, play.snapshot.context.failure?.stage]).toEqual([
        "retrying",
        code,
        stage,
      ]);
      play = played(play, "timed_out");
      if (stage !== "pushing") play = played(play, ...WAYS[stage]);
    }
    if (failureClass(code) === "infra") return;
    play = fail(play, code);
    expect(stateName(play)).toBe("failed");
    expect(play.snapshot.context.failure).toMatchObject({
      code: failureClass(code) === "terminal" ? code : "attempts_exhausted",
      stage,
      retryable: false,
    });
  });

  it("[T5] a mistake of the coordinator uses up attempts; one in a log from before that field does not", () => {
    const broken = (play: Play, counted: boolean): Play =>
      offer(play, {
        type: "task.state",
        data: { reason: "failed", ...fault("internal", { counted }) },
        after: 1,
      }) as Play;
    let play = played(begin({ maxAttempts: 2 }), "claim");
    expect(stateName(broken(played(begin({ maxAttempts: 1 }), "claim"), false))).toBe("retrying");
    play = broken(play, true);
    expect([stateName(play), play.snapshot.context.excused]).toEqual(["retrying", 0]);
    play = broken(played(play, "timed_out", "claim"), true);
    expect([stateName(play), play.snapshot.context.failure?.code]).toEqual(["failed", "attempts_exhausted"]);
    let push = played(begin({ maxAttempts: 2 }), "claim", "ready", "finished");
    push = broken(push, true);
    expect([stateName(push), push.snapshot.context.pushTries]).toEqual(["retrying", 1]);
    expect(stateName(broken(played(push, "timed_out"), true))).toBe("failed");
  });

  it.each(["resource", "agent"] as const)("a %s failure is not retried when only one attempt is allowed", (cls) => {
    const code = CLASSES[cls][0] as FailureCode;
    expect(stateName(fail(played(begin({ maxAttempts: 1 }), "claim", "ready"), code))).toBe("failed");
  });

  it("one resource failure and one agent failure are each retried once", () => {
    let play = fail(played(begin({ maxAttempts: 5 }), "claim", "ready"), "out_of_memory");
    expect(play.snapshot.context.memoryFactor).toBe(2);
    play = fail(played(play, "timed_out", "claim", "ready"), "agent_error");
    expect(stateName(play)).toBe("retrying");
    expect(stateName(fail(played(play, "timed_out", "claim", "ready"), "disk_full"))).toBe("failed");
    expect(stateName(fail(played(play, "timed_out", "claim", "ready"), "agent_error"))).toBe("failed");
    expect(stateName(fail(played(play, "timed_out", "claim", "ready"), "stalled"))).toBe("retrying");
  });

  it("attempts_exhausted keeps the message, evidence and advice of the last failure", () => {
    const context = played(begin({ maxAttempts: 1 }), "claim").snapshot.context;
    const last = makeFailure("repo_unreachable", "provisioning");
    const final = finalFailure(context, "provisioning", fault("repo_unreachable", { evidence: "connection refused" }));
    expect(final).toMatchObject({ code: "attempts_exhausted", evidence: "connection refused", retryable: false });
    expect(final.message).toContain(last.message);
    expect(final.advice).toContain(last.advice);
  });

  it("every failure has a message and advice for every stage", () => {
    for (const code of FAILURE_CODES) {
      for (const stage of FAILURE_STAGES) {
        const failure = makeFailure(code, stage);
        expect(Math.min(failure.message.length, failure.advice.length), code).toBeGreaterThan(10);
        expect(failure.retryable).toBe(failureClass(code) !== "terminal");
      }
    }
  });
});

describe("backoff", () => {
  const context = (streak: number): TaskContext => ({ ...begin().snapshot.context, streak });

  it("doubles from backoffMs to the cap", () => {
    const full = [0, 1, 2, 3, 7, 8, 30, 1_000].map((streak) =>
      retryDelay(context(streak), fault("stalled", { jitter: 1 })),
    );
    expect(full).toEqual([2_000, 4_000, 8_000, 16_000, 256_000, P.backoffCapMs, P.backoffCapMs, P.backoffCapMs]);
  });

  it("honours a forge's rate limit up to an hour, beyond the cap", () => {
    const wait = (retryAfterMs: number) =>
      retryDelay(context(0), fault("forge_rate_limited", { jitter: 0, retryAfterMs }));
    expect([wait(1_800_000), wait(86_400_000)]).toEqual([1_800_000, 3_600_000]);
  });

  it("honours a Retry-After up to the cap", () => {
    expect(retryDelay(context(0), fault("model_overloaded", { jitter: 0, retryAfterMs: 60_000 }))).toBe(60_000);
    expect(retryDelay(context(0), fault("model_overloaded", { jitter: 0, retryAfterMs: 86_400_000 }))).toBe(
      P.backoffCapMs,
    );
  });

  it("stays within its bounds for any jitter, streak and wait", () => {
    const wait = fc.option(fc.nat(10 ** 9));
    fc.assert(
      fc.property(fc.nat(10_000), fc.double({ min: 0, max: 1, noNaN: true }), wait, (streak, jitter, retryAfterMs) => {
        const delay = retryDelay(context(streak), fault("stalled", { jitter, retryAfterMs }));
        const ceiling = Math.min(P.backoffCapMs, P.backoffMs * 2 ** Math.min(streak, 30));
        const asked = Math.min(retryAfterMs ?? 0, P.backoffCapMs);
        return Number.isInteger(delay) && delay >= asked && delay <= Math.max(asked, ceiling);
      }),
    );
  });

  it("a finished run ends the streak", () => {
    const play = played(begin(), "claim", "fail_transient", "timed_out", "claim", "ready");
    expect(play.snapshot.context.streak).toBe(1);
    expect(played(play, "finished").snapshot.context.streak).toBe(0);
  });
});
