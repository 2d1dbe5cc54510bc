/**
 * Whether a failure has a cause in the simulated world. A failure without one is a mistake of the
 * coordinator: it charges a task for time or trouble that was not the task's (rule T5), or gives up
 * work that was going on.
 */
import { timeLimit } from "../../../machines/time-limit.ts";
import type { TaskEvent } from "../../../src/core/event.ts";
import type { FailureCode } from "../../../src/core/failure.ts";
import type { Policy } from "../../../src/core/task.ts";
import type { Faults } from "../model/faults.ts";
import type { Upstream } from "../model/upstream.ts";
import type { Attempt, Misfortune, TaskHistory } from "./history.ts";

export interface Situation {
  readonly now: number;
  readonly faults: Faults;
  readonly upstream: Upstream;
  readonly policy: Policy;
  readonly livenessMs: number;
  readonly task: TaskHistory;
  /** `<repo>#<branch>` of the task. */
  readonly branch: string;
}

const STORE = [
  "store.fails",
  "store.answer_lost",
  "store.locked",
  "store.full",
  "store.reads_fail",
  "store.slow",
] as const;
const ENGINE = ["engine.down", "engine.hangs", "engine.slow", "engine.answer_lost"] as const;
const GIT = ["upstream.down", "fetch.breaks", "fetch.slow"] as const;
const PUSH = ["upstream.down", "push.answer_lost", "push.slow", "fetch.breaks", "fetch.slow"] as const;
const NETWORK = ["network.cut", "network.lossy"] as const;

/** @returns why the failure is a mistake; null when it has a cause. */
export function findMistake(event: TaskEvent, code: FailureCode, given: Situation): string | null {
  const { now, faults, task } = given;
  const attempt = task.attempts.at(-1);
  const since = attempt === undefined ? task.enteredAt : Math.min(attempt.claimedAt, task.enteredAt);
  const had = (...kinds: Misfortune[]): boolean => kinds.some((kind) => attempt?.misfortunes.has(kind));
  const met = (kinds: Parameters<Faults["touched"]>[0]): boolean => faults.touched(kinds, since, now);
  const unless = (isJustified: boolean): string | null =>
    isJustified ? null : `${code} in ${event.from} (attempt ${event.attempt}) has no cause`;
  switch (code) {
    case "worker_lost":
      return unless(
        had("dies", "exits", "killed", "vanished", "out_of_memory") || cut(given, since, given.livenessMs / 3),
      );
    case "stalled":
      return unless(had("dies", "falls_silent") || cut(given, since, given.policy.silenceMs / 3) || met(STORE));
    case "deadline_exceeded":
      return unless(task.askedAt !== null || had("overruns", "reports_failure") || usedUpWall(given, attempt));
    case "boot_timeout":
      return unless(had("never_ready", "dies") || met([...ENGINE, ...GIT, ...NETWORK, ...STORE, "broker.fails"]));
    case "repo_unreachable":
      return unless(met(GIT));
    case "remote_unreachable":
      return unless(met([...PUSH, ...STORE]));
    case "push_rejected":
      return unless(!isDelivered(given));
    case "branch_conflict":
      return unless(hadOtherWork(given, since));
    case "out_of_memory":
      return unless(had("out_of_memory", "killed"));
    case "disk_full":
      return unless(met(["disk.nearly_full"]));
    case "agent_error":
    case "budget_exceeded":
      return unless(had("reports_failure"));
    case "sandbox_unavailable":
      return unless(met(ENGINE));
    case "interrupted":
      return unless(had("killed", "vanished", "dies", "exits") || met(["down"]));
    case "internal":
      return unless(met([...STORE, "broker.fails"]));
    case "queue_expired":
      return null;
    default:
      return `${code} is not expected here`;
  }
}

function cut({ now, faults }: Situation, since: number, ms: number): boolean {
  return faults.overlap(NETWORK, since, now) >= ms;
}

/** True when the worker had all of its time; lost time does not count. */
function usedUpWall({ now, faults, task }: Situation, attempt: Attempt | undefined): boolean {
  if (attempt?.readyAt === undefined || attempt.readyAt === null) return false;
  const lost = faults.overlap(["down", "paused"], attempt.readyAt, now) + attempt.askedMs;
  return now - attempt.readyAt - lost >= timeLimit(task.snapshot.context) * 0.9;
}

/** True when the branch has pointed at a commit that this task did not make: it was read then. */
function hadOtherWork({ upstream, task, branch }: Situation, since: number): boolean {
  const replaced = upstream.updates.filter((update) => update.branch === branch && update.at >= since);
  const tips = [upstream.tips.get(branch), ...replaced.map(({ from }) => from)];
  return tips.some((tip) => tip !== undefined && tip !== null && upstream.commits.get(tip)?.by !== task.id);
}

/** True when the task's commit is on its branch, perhaps below others. */
function isDelivered({ upstream, task, branch }: Situation): boolean {
  const { headSha } = task.snapshot.context;
  return headSha !== null && upstream.holds(upstream.tips.get(branch) ?? null, headSha);
}
