/**
 * Room on the disk for workspaces.
 *
 * R1 Each open workspace is promised its limit. A task starts only while all promises, its own and
 *    the floor of free space fit into what is free. What a workspace has written is no longer free,
 *    so its promise is what is left of its limit.
 * R2 An operator may promise more than there is: promises count less by the factor `overcommit`.
 * R3 Below the low mark the running task with the largest workspace is ended, one at a time, while
 *    the store's own reserve holds. The next one is ended when its room is free and was not enough.
 */
import { holdsSlot } from "../../../machines/fold.ts";
import { withTimeout } from "../../core/lib/concurrency/async.ts";
import type { Clock, Ids, Log } from "../../core/ports/runtime.ts";
import type { Store } from "../../core/ports/store.ts";
import { sandboxName, type Task, type TaskState } from "../../core/task.ts";
import { failureProposal } from "../effects/failure-proposal.ts";
import { readTasks } from "../read-lists.ts";
import type { TaskLog } from "../task-log.ts";

export interface DiskSpace {
  readonly freeMb: number;
  /** What each workspace takes now, by the name of its sandbox. */
  readonly usedMb: ReadonlyMap<string, number>;
}

/** All sizes in MiB. */
export interface WorkspaceRules {
  /** Limit of tasks that name none. */
  readonly defaultMb: number;
  /** Least free space with which a task starts. */
  readonly floorMb: number;
  /** With less free space running tasks are ended. */
  readonly lowMb: number;
  /** At least 1. */
  readonly overcommit: number;
}

export interface WorkspaceAdmissionDeps {
  /** Null or absent = workspaces take no room of a disk, or nothing bounds their sizes. */
  readonly readSpace?: (() => Promise<DiskSpace | null>) | undefined;
  readonly workspaces: WorkspaceRules;
  readonly maxLimits: { readonly diskMb: number };
  readonly store: Pick<Store, "tasks">;
  readonly taskLog: Pick<TaskLog, "record">;
  readonly clock: Clock;
  readonly ids: Pick<Ids, "random">;
  readonly log: Pick<Log, "error">;
  readonly engineMs: number;
  readonly clearMs: number;
}

/** What is left to promise. */
export interface Promises {
  /** @param take true = the room is promised to this task from now on. */
  fits(task: Task, take: boolean): boolean;
}

/** How long one look at the disk is used, ms. */
const LOOK_MS = 1_000;
const HOLDING: readonly TaskState[] = ["provisioning", "running", "cancelling"];
/** Everything fits. */
export const UNBOUNDED: Promises = { fits: () => true };

export class WorkspaceAdmission {
  readonly #deps: WorkspaceAdmissionDeps;
  #seen: { readonly at: number; readonly space: DiskSpace | null } = { at: -Infinity, space: null };
  /** The sandbox that was ended last, and when. */
  #ended: { readonly name: string; readonly at: number } | null = null;

  constructor(deps: WorkspaceAdmissionDeps) {
    this.#deps = deps;
  }

  async promises(): Promise<Promises> {
    const space = await this.#look();
    if (space === null) return UNBOUNDED;
    let leftMb = space.freeMb - this.#deps.workspaces.floorMb;
    for (const task of await this.#holders()) leftMb -= this.#promisedMb(task, space);
    return {
      fits: (task, take) => {
        const sizeMb = this.#promisedMb(task, space);
        const isRoom = sizeMb <= leftMb;
        if (isRoom && take) leftMb -= sizeMb;
        return isRoom;
      },
    };
  }

  /** R3. Call it periodically. */
  async relieve(): Promise<void> {
    const { taskLog, clock, ids, log, workspaces, clearMs } = this.#deps;
    const space = await this.#look();
    if (space === null || space.freeMb >= workspaces.lowMb) return;
    const now = clock.monotonic();
    if (this.#ended !== null && space.usedMb.has(this.#ended.name) && now - this.#ended.at < clearMs) return;
    const usedMb = (task: Task): number => space.usedMb.get(nameOf(task)) ?? 0;
    const candidates = (await this.#holders()).filter((task) => task.state !== "cancelling" && usedMb(task) > 0);
    const [largest] = candidates.toSorted((a, b) => usedMb(b) - usedMb(a));
    if (largest === undefined) return;
    const mb = { freeMb: Math.floor(space.freeMb), usedMb: Math.round(usedMb(largest)) };
    const { attempt } = largest.snapshot.context;
    this.#ended = { name: nameOf(largest), at: now };
    this.#seen = { ...this.#seen, at: -Infinity };
    log.error({ task: largest.id, ...mb }, "the disk is nearly full: the task with the largest workspace is ended");
    const detail = `The server's disk had ${mb.freeMb} MB left, and no workspace took more of it (${mb.usedMb} MB).`;
    const failure = failureProposal("disk_full", ids.random(), { detail });
    await taskLog.record(largest.id, () => [{ attempt, ...failure }]);
  }

  /** While the engine does not answer, the last sizes are used. */
  async #look(): Promise<DiskSpace | null> {
    const { readSpace, clock, engineMs } = this.#deps;
    if (readSpace === undefined) return null;
    const now = clock.monotonic();
    if (now - this.#seen.at < LOOK_MS) return this.#seen.space;
    const { space } = this.#seen;
    this.#seen = { at: now, space };
    this.#seen = { at: now, space: await withTimeout(engineMs, readSpace(), clock).catch(() => space) };
    return this.#seen.space;
  }

  async #holders(): Promise<Task[]> {
    const found: Task[] = [];
    for await (const task of readTasks(this.#deps.store, { userId: null, states: HOLDING }))
      if (holdsSlot(task.snapshot)) found.push(task);
    return found;
  }

  #promisedMb(task: Task, { usedMb }: DiskSpace): number {
    const { workspaces, maxLimits } = this.#deps;
    const limitMb = Math.min(maxLimits.diskMb, task.spec.limits.diskMb ?? workspaces.defaultMb);
    return Math.max(0, limitMb - (usedMb.get(nameOf(task)) ?? 0)) / workspaces.overcommit;
  }
}

const nameOf = ({ id, snapshot }: Task): string => sandboxName(id, snapshot.context.attempt);
