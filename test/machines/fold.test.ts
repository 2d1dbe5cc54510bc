import { describe, expect, it } from "vitest";
import { DEFAULT_POLICY as P, OPEN_STATES, type Snapshot } from "../../src/core/task.ts";
import { accepts, effectOf, fold, holdsSlot, isSettled, phaseOf, start, step } from "../../machines/fold.ts";
import { countedAttempts } from "../../machines/retry-policy.ts";
import {
  begin,
  EPOCH,
  toEvent,
  MOVES,
  MOVE_NAMES,
  offer,
  played,
  sha,
  stateName,
  submission,
  valueName,
  type MoveName,
  type Play,
} from "./player.ts";
import { reachable, taskPaths } from "./paths.ts";

const open = reachable().filter(({ play }) => !isSettled(play.snapshot));
const settled = reachable().filter(({ play }) => isSettled(play.snapshot));
/** One play that ends at each value of the chart. */
const at = (value: string): Play => {
  const found = open.find(({ play }) => valueName(play.snapshot) === value);
  if (found === undefined) throw new Error(`no play reaches ${value}`);
  return found.play;
};
const c = (play: Play) => play.snapshot.context;

describe("fold", () => {
  it("[T1] folding twice gives the same bytes, and stepping through stored JSON gives them too", () => {
    for (const { log, name } of taskPaths()) {
      const text = JSON.stringify(fold(log));
      expect(JSON.stringify(fold(log)), name).toBe(text);
      let stored = JSON.stringify(start(log[0]!));
      for (const event of log.slice(1)) {
        const next = step(JSON.parse(stored) as Snapshot, JSON.parse(JSON.stringify(event)));
        stored = JSON.stringify(next);
      }
      expect(stored, name).toBe(text);
    }
  });

  it("[T1] a step changes neither the snapshot nor the event that it is given", () => {
    const play = played(begin(), "claim", "step_started");
    const before = JSON.stringify(play.snapshot);
    const event = toEvent(play, MOVES.step_ended(play));
    const eventBefore = JSON.stringify(event);
    expect(step(play.snapshot, event)).not.toBeNull();
    expect(JSON.stringify(play.snapshot)).toBe(before);
    expect(JSON.stringify(event)).toBe(eventBefore);
  });

  it("returns null for an empty log and for a log with an event that the chart refuses", () => {
    const play = begin();
    expect(fold([...play.log, toEvent(play, MOVES.ready(play))])).toBeNull();
    expect(fold([])).toBeNull();
  });

  it("[T2] a settled task refuses every event", () => {
    expect(new Set(settled.map(({ play }) => stateName(play)))).toEqual(new Set(["done", "failed", "cancelled"]));
    for (const { play } of settled) {
      for (const name of MOVE_NAMES) expect(offer(play, MOVES[name](play)), `${stateName(play)} ${name}`).toBeNull();
      expect(accepts(play.snapshot)).toEqual([]);
      expect(effectOf(play.snapshot)).toBe("retire");
      expect(holdsSlot(play.snapshot)).toBe(false);
      expect(c(play).dueAt).toBeNull();
    }
  });

  it("[T3] every open state accepts cancel and time-out", () => {
    expect(new Set(open.map(({ play }) => stateName(play)))).toEqual(new Set(OPEN_STATES));
    for (const { play } of open) {
      const where = valueName(play.snapshot);
      expect(accepts(play.snapshot), where).toEqual(expect.arrayContaining(["cancel", "timed_out"]));
      expect(offer(play, MOVES.timed_out(play)), where).not.toBeNull();
      if (!c(play).forced) expect(offer(play, MOVES.cancel_force(play)), where).not.toBeNull();
    }
  });

  it("[T3] cancel settles at once where no sandbox runs, and goes through cancelling where one does", () => {
    for (const { play } of open) {
      const next = offer(play, MOVES.cancel(play));
      if (next === null) expect(stateName(play)).toBe("cancelling");
      else
        expect(stateName(next), valueName(play.snapshot)).toBe(holdsSlot(play.snapshot) ? "cancelling" : "cancelled");
    }
  });

  it("[D7] a repeated cancel changes nothing, a forced one is accepted once, and neither moves the deadline", () => {
    const play = played(begin(), "claim", "ready", "cancel");
    expect(c(play).dueAt).toBe(play.at + P.cancelMs);
    expect(offer(play, MOVES.cancel(play))).toBeNull();
    const forced = played(play, "cancel_force");
    expect(c(forced)).toMatchObject({ forced: true, dueAt: c(play).dueAt });
    expect(offer(forced, MOVES.cancel_force(forced))).toBeNull();
    for (const move of ["says", "usage", "checkpoint", "notice"] as const)
      expect(c(played(forced, move)).dueAt).toBe(c(play).dueAt);
    expect(stateName(played(forced, "stopped"))).toBe("cancelled");
    expect(stateName(played(forced, "timed_out"))).toBe("cancelled");
  });

  it("[D6] a deadline never fires early and fires on the millisecond", () => {
    for (const { play } of open) {
      const where = valueName(play.snapshot);
      expect(offer(play, MOVES.timed_out_early(play)), where).toBeNull();
      expect(offer(play, MOVES.timed_out(play)), where).not.toBeNull();
    }
  });

  it("[D6] a deadline that passed during downtime fires late", () => {
    const play = begin();
    const late = offer(play, { ...MOVES.timed_out(play), after: 30 * P.queueMs });
    expect(late && stateName(late)).toBe("failed");
  });
});

describe("attempts", () => {
  const foldsToOld = (play: Play, name: MoveName): boolean => {
    const proposal = MOVES[name](play);
    return offer(play, { ...proposal, attempt: c(play).attempt - 1 }) === null;
  };

  it("[T6] an event of an old attempt changes nothing", () => {
    for (const { play } of open.filter(({ play }) => c(play).attempt > 0)) {
      for (const name of MOVE_NAMES.filter((move) => move !== "claim")) {
        expect(foldsToOld(play, name), `${valueName(play.snapshot)} ${name}`).toBe(true);
      }
    }
  });

  it("[T6] an event of an attempt that has not begun changes nothing; only a claim opens the next", () => {
    const queued = begin();
    for (const attempt of [0, 2]) expect(offer(queued, { ...MOVES.claim(queued), attempt })).toBeNull();
    expect(c(played(queued, "claim")).attempt).toBe(1);
    const running = played(queued, "claim", "ready");
    expect(offer(running, { ...MOVES.says(running), attempt: 2 })).toBeNull();
    expect(offer(running, MOVES.claim(running))).toBeNull();
  });

  it("[T5] attempt grows by one, only on entering provisioning", () => {
    for (const { log, name } of taskPaths()) {
      let attempt = 0;
      for (const event of log) {
        const entered = event.to === "provisioning" && event.from !== "provisioning";
        expect(event.attempt - attempt, `${name} at ${event.seq}`).toBe(entered ? 1 : 0);
        attempt = event.attempt;
      }
    }
  });

  it("[T5] infrastructure failures do not count: after a hundred of them every attempt is left", () => {
    let play = begin({ maxAttempts: 1 });
    for (let i = 1; i <= 100; i++) {
      play = played(play, "claim", ...(i % 2 === 0 ? (["ready"] as const) : []), "fail_infra");
      expect([stateName(play), c(play).attempt, countedAttempts(c(play))]).toEqual(["retrying", i, 0]);
      play = played(play, "timed_out");
    }
    expect(stateName(played(play, "claim", "ready", "finished", "push"))).toBe("done");
  });

  it("[T5] a parked attempt does not count", () => {
    let play = played(begin({ maxAttempts: 1 }), "claim", "ready", "question", "timed_out", "answer");
    expect([stateName(play), c(play).attempt, countedAttempts(c(play))]).toEqual(["queued", 1, 0]);
    play = played(play, "claim", "ready");
    expect(countedAttempts(c(play))).toBe(1);
    expect(stateName(played(play, "fail_transient"))).toBe("failed");
  });

  it.each([1, 2, 3, 10])(
    "[T5] of %i attempts each transient failure counts one, and the last is final",
    (maxAttempts) => {
      let play = begin({ maxAttempts });
      for (let i = 1; i < maxAttempts; i++) {
        play = played(play, "claim", "fail_transient");
        expect([stateName(play), countedAttempts(c(play))]).toEqual(["retrying", i]);
        play = played(play, "timed_out");
      }
      play = played(play, "claim", "ready", "fail_transient");
      expect(stateName(play)).toBe("failed");
      expect(countedAttempts(c(play))).toBe(maxAttempts);
      expect(c(play).failure).toMatchObject({ code: "attempts_exhausted", stage: "running", retryable: false });
      expect(c(play).failure?.message).toContain("worker_lost");
    },
  );

  it("[T5] push retries are counted separately and start no attempt", () => {
    let play = played(begin({ maxAttempts: 3 }), "claim", "ready", "finished");
    for (let i = 1; i < 3; i++) {
      play = played(play, "fail_transient");
      expect([stateName(play), c(play).resume, c(play).pushTries]).toEqual(["retrying", "pushing", i]);
      play = played(play, "timed_out");
      expect([valueName(play.snapshot), c(play).attempt]).toEqual(["pushing.branch", 1]);
    }
    for (let i = 0; i < 5; i++) play = played(play, "fail_infra", "timed_out");
    expect(c(play).pushTries).toBe(2);
    expect(stateName(played(play, "push"))).toBe("done");
    expect(stateName(played(play, "fail_transient"))).toBe("failed");
  });

  it("worker numbers start at 1 in each attempt", () => {
    const first = played(begin(), "claim", "ready", "says", "says", "says");
    expect(c(first).workerSeq).toBe(4);
    expect(c(played(first, "fail_transient", "timed_out", "claim")).workerSeq).toBe(0);
  });
});

describe("deadlines by state", () => {
  const after = (play: Play) => (c(play).dueAt ?? Number.NaN) - play.at;

  it("queued: queueMs, then queue_expired; a note does not move it", () => {
    const play = begin();
    expect(after(play)).toBe(P.queueMs);
    expect(c(played(play, "notice")).dueAt).toBe(c(play).dueAt);
    expect(c(played(play, "timed_out")).failure).toMatchObject({ code: "queue_expired", stage: "queued" });
  });

  it("provisioning: progressMs after each sign of progress, bootMs in total; then boot_timeout names the open step", () => {
    let play = played(begin(), "claim");
    const claimed = play.at;
    expect(after(play)).toBe(P.progressMs);
    play = played(play, "step_started");
    expect(after(play)).toBe(P.progressMs);
    expect(phaseOf(play.snapshot)).toBe("mirror");
    const late = played(play, "timed_out");
    expect(c(late).failure).toMatchObject({ code: "boot_timeout", stage: "provisioning" });
    expect(c(late).failure?.message).toContain("mirror");
    while (play.at < claimed + P.bootMs - P.progressMs)
      play = offer(play, { ...MOVES.delivered(play), after: P.progressMs / 2 }) as Play;
    expect(c(play).dueAt).toBe(claimed + P.bootMs);
  });

  it("provisioning: progress of a step moves the deadline; other notes of the coordinator do not", () => {
    const play = played(begin(), "claim", "step_started");
    const reported = (code: string): number | null => {
      const notice = {
        type: "notice",
        data: { level: "info", code, text: "half" },
        attempt: 1,
        after: 60_000,
      } as const;
      return c(offer(play, notice) as Play).dueAt;
    };
    expect(reported("step.image")).toBe(play.at + 60_000 + P.progressMs);
    expect(reported("remark")).toBe(c(play).dueAt);
  });

  it("running: silence ends in stalled, the wall clock in a final failure", () => {
    const play = played(begin(), "claim", "ready");
    expect(after(play)).toBe(P.silenceMs);
    expect(c(played(play, "timed_out")).failure).toMatchObject({ code: "stalled", retryable: true });
    let busy = play;
    while (busy.at < play.at + P.wallMs - P.silenceMs)
      busy = offer(busy, { ...MOVES.tool(busy), after: P.silenceMs / 2 }) as Play;
    expect(c(busy).dueAt).toBe(play.at + P.wallMs);
    const end = played(busy, "timed_out");
    expect(stateName(end)).toBe("failed");
    expect(c(end).failure).toMatchObject({ code: "deadline_exceeded", stage: "running" });
  });

  it("messages of people and notes of the coordinator are not signs of life; an adoption is", () => {
    const play = played(begin(), "claim", "ready");
    for (const move of ["user_message", "notice"] as const) expect(c(played(play, move)).dueAt).toBe(c(play).dueAt);
    for (const move of ["adopted", "says", "tool", "usage", "checkpoint"] as const) {
      expect(c(played(play, move)).dueAt).toBe(play.at + 1_000 + P.silenceMs);
    }
  });

  it("retrying: back to the queue, or to pushing if the push failed", () => {
    const boot = played(begin(), "claim", "fail_transient");
    expect(after(boot)).toBe(P.backoffMs / 2);
    expect(after(played(boot, "timed_out"))).toBe(P.queueMs);
    const push = played(begin(), "claim", "ready", "finished", "fail_transient", "timed_out");
    expect([valueName(push.snapshot), after(push)]).toEqual(["pushing.branch", P.pushMs]);
  });

  it("pushing: pushMs for the branch and again for the pull request, then remote_unreachable", () => {
    const play = played(begin({ pullRequest: "draft" }), "claim", "ready", "finished");
    expect(after(play)).toBe(P.pushMs);
    const second = played(play, "push");
    expect([valueName(second.snapshot), after(second)]).toEqual(["pushing.pull_request", P.pushMs]);
    for (const late of [play, second]) {
      expect(c(played(late, "timed_out")).failure).toMatchObject({ code: "remote_unreachable", stage: "pushing" });
    }
  });
});

describe("questions", () => {
  const asked = played(begin(), "claim", "ready", "question");

  it("an answer continues the run; the wait does not count against the wall clock", () => {
    expect(c(asked)).toMatchObject({
      question: { id: "q1", askedAt: asked.at, options: ["a", "b"] },
      dueAt: asked.at + P.parkMs,
    });
    const answered = offer(asked, { ...MOVES.answer(asked), after: P.parkMs - 1 }) as Play;
    expect(valueName(answered.snapshot)).toBe("running.working");
    expect(c(answered)).toMatchObject({ question: null, wallAt: (c(asked).wallAt ?? 0) + P.parkMs - 1 });
    expect(offer(answered, MOVES.answer(answered))).toBeNull();
  });

  it("an answer to another question is refused", () => {
    for (const play of [asked, played(asked, "timed_out")]) expect(offer(play, MOVES.answer_other(play))).toBeNull();
  });

  it("after parkMs the slot is free and the question stays open; the answer queues the task again", () => {
    const parked = played(asked, "timed_out");
    expect([valueName(parked.snapshot), effectOf(parked.snapshot), holdsSlot(parked.snapshot)]).toEqual([
      "running.parked",
      "park",
      false,
    ]);
    expect(c(parked)).toMatchObject({ question: { id: "q1" }, dueAt: parked.at + P.answerMs });
    const again = played(parked, "answer");
    expect([valueName(again.snapshot), effectOf(again.snapshot)]).toEqual(["queued", "claim"]);
    expect(c(again)).toMatchObject({ question: null, dueAt: again.at + P.queueMs, wallAt: null });
  });

  it("[G5] a grant is permanent; without one the context has no grant field", () => {
    expect("granted" in c(played(asked, "answer"))).toBe(false);
    for (const play of [asked, played(asked, "timed_out")])
      expect(c(played(play, "answer_more")).granted).toEqual({ usd: 10 });
    expect(c(played(asked, "answer_more", "question", "answer")).granted).toEqual({ usd: 10 });
  });

  it("[G5] a parked task whose owner answers `stop` fails and keeps its work", () => {
    const end = played(begin(), "claim", "ready", "checkpoint", "question", "timed_out", "answer_stop");
    expect(stateName(end)).toBe("failed");
    expect(c(end)).toMatchObject({ failure: { code: "budget_exceeded" }, question: null, dueAt: null, attempt: 1 });
    expect(c(end).checkpoint).not.toBeNull();
  });

  it("[G5] used-up minutes park the task; what was left and what is granted is the time of the next attempt", () => {
    const play = played(begin(), "claim", "ready");
    for (const move of ["time_reported", "time_up"] as const) {
      const parked = played(play, "checkpoint", move);
      expect([valueName(parked.snapshot), holdsSlot(parked.snapshot), c(parked).question?.id]).toEqual([
        "running.parked",
        false,
        "budget_minutes_3600000",
      ]);
      expect(c(parked).dueAt).toBe(parked.at + P.answerMs);
      const leftMs = (c(parked).wallAt ?? 0) - parked.at;
      const again = played(parked, "answer_time");
      expect(c(again)).toMatchObject({ question: null, granted: { minutes: 90 }, wallMs: leftMs + 30 * 60_000 });
      const second = played(again, "claim", "ready");
      expect(c(second).wallAt).toBe(second.at + leftMs + 30 * 60_000);
      expect(c(second)).toMatchObject({ attempt: 2, excused: 1, checkpoint: c(parked).checkpoint });
      expect(c(played(parked, "timed_out")).failure).toMatchObject({ code: "deadline_exceeded" });
      expect(c(played(parked, "answer_stop")).failure).toMatchObject({ code: "deadline_exceeded" });
    }
    expect(offer(play, MOVES.time_up_early(play))).toBeNull();
  });

  it("[G5] minutes that are granted while the attempt waits are added to what it has left", () => {
    const near = played(begin(), "claim", "ready", "time_near");
    expect(valueName(near.snapshot)).toBe("running.awaiting_input");
    const more = played(near, "answer_time");
    expect(valueName(more.snapshot)).toBe("running.working");
    expect(c(more)).toMatchObject({
      wallAt: (c(near).wallAt ?? 0) + 1_000 + 30 * 60_000,
      wallMs: P.wallMs + 30 * 60_000,
    });
    const end = played(near, "answer_stop");
    expect([stateName(end), c(end).failure?.code]).toEqual(["failed", "deadline_exceeded"]);
    const parked = played(near, "timed_out");
    const leftMs = (c(near).wallAt ?? 0) - near.at;
    expect(c(played(parked, "answer_time")).wallMs).toBe(leftMs + 30 * 60_000);
  });

  it("a parked question without an answer ends the task", () => {
    const end = played(asked, "timed_out", "timed_out");
    expect(stateName(end)).toBe("failed");
    expect(c(end)).toMatchObject({ failure: { code: "deadline_exceeded" }, question: null });
  });

  it("a parked task accepts no worker event: its sandbox and its broker are gone", () => {
    const parked = played(asked, "timed_out");
    for (const move of [
      "says",
      "usage",
      "checkpoint",
      "fail_transient",
      "fail_infra",
      "fail_agent",
      "finished",
    ] as const)
      expect(offer(parked, MOVES[move](parked))).toBeNull();
  });

  it("messages while a question is open do not delay parking", () => {
    for (const move of ["says", "usage", "checkpoint", "notice"] as const)
      expect(c(played(asked, move)).dueAt).toBe(c(asked).dueAt);
  });
});

describe("pushing", () => {
  const work = (pullRequest: string) => played(begin({ pullRequest }), "claim", "ready", "finished");

  it("without a pull request the pushed branch ends the task", () => {
    const end = played(work("none"), "push");
    expect(c(end)).toMatchObject({
      outcome: "pushed",
      pullRequest: null,
      headSha: sha(3),
      failure: null,
      settledAt: end.at,
    });
  });

  it.each(["draft", "ready"])("with pullRequest %s the opened pull request ends the task", (mode) => {
    const branch = played(work(mode), "push");
    expect(stateName(branch)).toBe("pushing");
    expect(offer(branch, MOVES.push(branch))).toBeNull();
    const end = played(branch, "pull_request");
    expect(c(end)).toMatchObject({ outcome: "pushed", pullRequest: { number: 7, state: "open" } });
  });

  it("a failed pull request is retried from the branch", () => {
    const again = played(work("draft"), "push", "fail_transient", "timed_out");
    expect(valueName(again.snapshot)).toBe("pushing.branch");
    expect(stateName(played(again, "push", "pull_request"))).toBe("done");
  });

  it("no changes end in done without a push", () => {
    const end = played(begin({ pullRequest: "draft" }), "claim", "ready", "finished_unchanged");
    expect(c(end)).toMatchObject({ outcome: "no_changes", headSha: sha(1) });
  });

  it("from=push starts in pushing with the finished work, needs no attempt, and never enters the queue", () => {
    const play = begin({ from: "push", headSha: sha(9), baseSha: sha(1), report: { title: "t", summary: "s" } });
    expect(valueName(play.snapshot)).toBe("pushing.branch");
    expect(c(play)).toMatchObject({
      headSha: sha(9),
      attempt: 0,
      startedAt: EPOCH,
      dueAt: EPOCH + P.pushMs,
      report: { title: "t" },
    });
    expect(offer(play, MOVES.claim(play))).toBeNull();
    expect(valueName(played(play, "fail_transient", "timed_out").snapshot)).toBe("pushing.branch");
    expect(stateName(played(play, "push"))).toBe("done");
  });

  it("from=checkpoint starts in the queue with the saved work", () => {
    const play = begin({ from: "checkpoint", headSha: sha(9), checkpoint: { sha: sha(9), cursor: "c9" } });
    expect(stateName(play)).toBe("queued");
    expect(c(play)).toMatchObject({ checkpoint: { sha: sha(9), cursor: "c9" }, headSha: null });
  });
});

describe("queries on a snapshot", () => {
  it.each([
    ["queued", "claim", false],
    ["provisioning", "provision", true],
    ["running.working", "supervise", true],
    ["running.awaiting_input", "supervise", true],
    ["running.parked", "park", false],
    ["pushing.branch", "push", false],
    ["pushing.pull_request", "push", false],
    ["retrying", "wait", false],
    ["cancelling", "kill", true],
  ] as const)("%s is driven by %s (slot: %s)", (value, drive, slot) => {
    const { snapshot } = at(value);
    expect([effectOf(snapshot), holdsSlot(snapshot)]).toEqual([drive, slot]);
  });

  it("the phase is the sub-state, or the open step of provisioning", () => {
    expect(phaseOf(at("running.parked").snapshot)).toBe("parked");
    expect(phaseOf(at("pushing.pull_request").snapshot)).toBe("pull_request");
    expect(phaseOf(begin().snapshot)).toBeNull();
    expect(phaseOf(played(begin(), "claim", "step_started", "step_ended").snapshot)).toBeNull();
  });

  it("the mirror step sets the base of the work", () => {
    expect(c(played(begin(), "claim", "step_started", "step_ended"))).toMatchObject({ base: "main", baseSha: sha(1) });
  });

  it("usage is summed over attempts", () => {
    const play = played(
      begin(),
      "claim",
      "ready",
      "usage",
      "fail_transient",
      "timed_out",
      "claim",
      "usage",
      "ready",
      "question",
      "usage",
    );
    expect(c(play).usage).toEqual({
      inputTokens: 30,
      outputTokens: 15,
      cacheReadTokens: 3,
      cacheWriteTokens: 3,
      usd: 0.75,
      turns: 3,
    });
  });

  it("a submission without settings gets the defaults", () => {
    const bare = start({ ...submission(), data: {} });
    expect(bare.context).toMatchObject({
      maxAttempts: 3,
      policy: P,
      wantsPullRequest: false,
      checkpoint: null,
      base: null,
    });
  });

  it("an unknown reason throws", () => {
    const play = begin();
    expect(() =>
      step(play.snapshot, toEvent(play, { type: "task.state", data: { reason: "nonsense" }, after: 0 })),
    ).toThrow("nonsense");
  });
});
