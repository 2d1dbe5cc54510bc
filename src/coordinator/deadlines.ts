/**
 * The clock-driven part: deadlines, orphans, retention.
 *
 * J1 A deadline is data (`dueAt`); the tick turns an overdue one into `timed_out`. The chart
 *    refuses one that is early, so it fires once and never early (rule D6).
 * J2 A sandbox is legitimate while its task is in a state that holds a slot, at that very attempt.
 *    Every other one is removed (rule D3), and so is what belonged to it. What exists is listed
 *    first and each task is read after it, so what was made meanwhile is never judged by an older
 *    row.
 * J3 Repositories, artifacts and transcripts are kept for `retentionMs` after their task settled,
 *    mirrors for `mirrorMs` after their last use.
 */
import type { Artifacts } from "../core/ports/artifacts.ts";
import { deadlineFailure, holdsSlot } from "../../machines/fold.ts";
import type { TaskLog } from "./task-log.ts";
import type { Crashpoint } from "../core/lib/crashpoint.ts";
import { errorMessage } from "../core/error.ts";
import { removeGarbage, totalBytes, type GcMode, type Garbage } from "../core/lib/garbage.ts";
import type { Store } from "../core/ports/store.ts";
import type { Salvage } from "./effects/salvage.ts";
import { parseSandboxName, isSettledState } from "../core/task.ts";
import { withTimeout } from "../core/lib/async.ts";
import type { Clock, Ids, Log } from "../core/ports/runtime.ts";
import type { Sandbox, SandboxInfo } from "../core/ports/sandbox.ts";
import type { Repositories } from "../core/ports/repositories.ts";
import type { Broker } from "../core/ports/broker.ts";

export interface HousekeepingDeps {
  readonly taskLog: TaskLog;
  readonly store: Store;
  readonly sandbox: Sandbox;
  readonly repos: Repositories;
  readonly broker: Broker;
  readonly artifacts: Artifacts;
  readonly salvage: Salvage;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  /** Longest wait for one sandbox to be removed, ms. */
  readonly clearMs: number;
  /** Task repositories and artifacts of settled tasks are kept this long, ms. */
  readonly retentionMs: number;
  /** Mirrors are kept this long after their last use, ms. */
  readonly mirrorMs: number;
}

export interface Housekeeping {
  /** Fires every overdue deadline. */
  fireDeadlines(): Promise<void>;
  /**
   * Removes sandboxes that no task needs, and what belonged to one. @returns how many sandboxes.
   */
  removeOrphans(): Promise<number>;
  /**
   * Everything that nobody needs, or only a look at it. One run at a time; a second one waits.
   * Never rejects for one thing that resists.
   */
  collectGarbage(mode: GcMode, signal: AbortSignal): Promise<Garbage[]>;
}

const DUE_BATCH = 500;

export function createHousekeeping(deps: HousekeepingDeps): Housekeeping {
  const { taskLog, store, sandbox, repos, artifacts, clock, log } = deps;
  let collecting: Promise<unknown> = Promise.resolve();

  async function deadlines(): Promise<void> {
    for (;;) {
      const ids = await store.due(clock.now(), DUE_BATCH);
      if (ids.length === 0) return;
      deps.crashpoint("timer");
      const fired = await Promise.all(ids.map(fire));
      if (!fired.includes(true) || ids.length < DUE_BATCH) return;
    }
  }

  async function fire(taskId: string): Promise<boolean> {
    try {
      const { events } = await taskLog.record(taskId, ({ snapshot }) => {
        const code = deadlineFailure(snapshot, clock.now());
        return [
          {
            type: "task.state",
            data: { reason: "timed_out", ...(code === null ? {} : { code }), jitter: deps.ids.random() },
          },
        ];
      });
      return events.length > 0;
    } catch (error) {
      log.error({ task: taskId, error: errorMessage(error) }, "a deadline could not be recorded");
      return false;
    }
  }

  async function needed(taskId: string, attempt: number): Promise<boolean> {
    const task = await store.task(taskId);
    return task !== null && holdsSlot(task.snapshot) && task.snapshot.context.attempt <= attempt;
  }

  /** J2, for what is named after a sandbox. A name that says nothing is nobody's. */
  async function wanted(name: string): Promise<boolean> {
    const whose = parseSandboxName(name);
    return whose !== null && (await needed(whose.taskId, whose.attempt));
  }

  async function unwanted(): Promise<SandboxInfo[]> {
    const found: SandboxInfo[] = [];
    for (const one of await sandbox.list()) if (!(await needed(one.taskId, one.attempt))) found.push(one);
    return found;
  }

  async function dismiss(one: SandboxInfo): Promise<void> {
    log.info({ task: one.taskId, attempt: one.attempt }, "removing a sandbox that no task needs");
    await deps.broker.revoke(one.taskId, one.attempt);
    const task = await store.task(one.taskId);
    if (task !== null && task.state !== "done" && task.state !== "pushing")
      await deps.salvage(one.taskId, one.attempt, "perhaps_running", new AbortController().signal);
    // One that resists must not keep the others waiting.
    await withTimeout(deps.clearMs, sandbox.remove(one.name), clock);
  }

  /** What a crash left between the steps that make or remove a sandbox. */
  async function debris(): Promise<void> {
    for (const { kind, name, error } of await sandbox.reclaim(wanted, "remove", new AbortController().signal)) {
      if (error === null) log.info({ name }, `removed a ${kind} that no task needs`);
      else log.warn({ name, error }, `a ${kind} could not be removed; the next tick tries again`);
    }
  }

  async function orphans(): Promise<number> {
    let removed = 0;
    for (const one of await unwanted()) {
      try {
        await dismiss(one);
        removed += 1;
      } catch (error) {
        log.warn(
          { name: one.name, error: errorMessage(error) },
          "an orphan could not be removed; the next tick tries again",
        );
      }
    }
    await debris();
    return removed;
  }

  /** J3. What belongs to no known task is left alone: the database may be an older copy. */
  async function expired(taskId: string): Promise<boolean> {
    const task = await store.task(taskId);
    return task !== null && isSettledState(task.state) && clock.now() - task.updatedAt > deps.retentionMs;
  }

  async function repositories(mode: GcMode, signal: AbortSignal): Promise<Garbage[]> {
    const found: Garbage[] = [];
    for (const taskId of await repos.list()) {
      signal.throwIfAborted();
      if (!(await expired(taskId))) continue;
      found.push(
        await removeGarbage(mode, { kind: "repository", name: taskId, bytes: await repos.size(taskId) }, () =>
          repos.remove(taskId),
        ),
      );
    }
    return found;
  }

  async function oldArtifacts(mode: GcMode): Promise<Garbage[]> {
    const found: Garbage[] = [];
    for (const { taskId, bytes } of await artifacts.usage()) {
      if (!(await expired(taskId))) continue;
      found.push(await removeGarbage(mode, { kind: "artifacts", name: taskId, bytes }, () => artifacts.remove(taskId)));
    }
    return found;
  }

  async function oldTranscripts(mode: GcMode): Promise<Garbage[]> {
    const old = await store.oldTranscripts(clock.now() - deps.retentionMs);
    return await Promise.all(
      old.map(({ taskId, bytes }) =>
        removeGarbage(mode, { kind: "transcript", name: taskId, bytes }, () => store.dropTranscript(taskId)),
      ),
    );
  }

  async function everything(mode: GcMode, signal: AbortSignal): Promise<Garbage[]> {
    const parts: [string, () => Promise<Garbage[]>][] = [
      [
        "sandboxes",
        async () =>
          Promise.all(
            (await unwanted()).map((one) =>
              removeGarbage(mode, { kind: "sandbox", name: one.name, bytes: null }, () => dismiss(one)),
            ),
          ),
      ],
      ["what sandboxes left", () => sandbox.reclaim(wanted, mode, signal)],
      ["images", () => sandbox.reclaimImages(mode, signal)],
      ["sockets", () => deps.broker.reclaim(wanted, mode)],
      ["repositories", () => repositories(mode, signal)],
      ["artifacts", () => oldArtifacts(mode)],
      ["transcripts", () => oldTranscripts(mode)],
      ["mirrors", () => repos.reclaim(clock.now() - deps.mirrorMs, mode, signal)],
    ];
    const found: Garbage[] = [];
    for (const [name, look] of parts) {
      try {
        found.push(...(await look()));
      } catch (error) {
        signal.throwIfAborted();
        log.warn({ error: errorMessage(error) }, `${name} could not be looked through`);
        found.push({ kind: "folder", name, bytes: null, error: errorMessage(error).slice(0, 300) });
      }
    }
    if (mode === "remove" && found.length > 0)
      log.info({ removed: found.length, bytes: totalBytes(found) }, "removed what nobody needs");
    return found;
  }

  return {
    fireDeadlines: deadlines,
    removeOrphans: orphans,
    collectGarbage(mode, signal) {
      const mine = collecting.then(() => everything(mode, signal));
      collecting = mine.catch(() => undefined);
      return mine;
    },
  };
}
