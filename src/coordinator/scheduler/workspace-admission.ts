/**
 * Room on the disk for workspaces.
 *
 * R1 Each open workspace is promised its limit. A task starts only while all promises, its own and
 *    the floor of free space fit into what is free. Bytes that a workspace has written no longer
 *    count as free, so its promise is its limit minus those bytes.
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

/** The open workspaces beside the disk that they are on. All sizes in MiB. */
export interface WorkspaceSurvey {
  readonly freeMb: number;
  /** What they take. */
  readonly usedMb: number;
  /** What they may still take, by the factor `overcommit`. */
  readonly promisedMb: number;
  /** What can be promised to further tasks. */
  readonly leftMb: number;
  /** The largest ones, the largest first. */
  readonly largest: readonly { readonly taskId: string; readonly usedMb: number; readonly limitMb: number }[];
}

/** How long one look at the disk is used, ms. */
const LOOK_MS = 1_000;
const HOLDING: readonly TaskState[] = ["provisioning", "running", "cancelling"];
/** Workspaces that a survey lists. */
const LISTED = 5;
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

  /** Null = workspaces take no room of a disk, or nothing bounds their sizes. */
  async survey(): Promise<WorkspaceSurvey | null> {
    const space = await this.#look();
    if (space === null) return null;
    const { freeMb } = space;
    const open = (await this.#holders()).map((task) => ({
      taskId: task.id,
      usedMb: space.usedMb.get(nameOf(task)) ?? 0,
      limitMb: this.#limitMb(task),
      promisedMb: this.#promisedMb(task, space),
    }));
    const sum = (one: "usedMb" | "promisedMb"): number => open.reduce((total, sizes) => total + sizes[one], 0);
    const promisedMb = sum("promisedMb");
    const largest = open.toSorted((a, b) => b.usedMb - a.usedMb).slice(0, LISTED);
    return {
      freeMb,
      usedMb: sum("usedMb"),
      promisedMb,
      leftMb: Math.max(0, freeMb - this.#deps.workspaces.floorMb - promisedMb),
      largest: largest.map(({ taskId, usedMb, limitMb }) => ({ taskId, usedMb, limitMb })),
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

  #limitMb({ spec }: Task): number {
    const { workspaces, maxLimits } = this.#deps;
    return Math.min(maxLimits.diskMb, spec.limits.diskMb ?? workspaces.defaultMb);
  }

  #promisedMb(task: Task, { usedMb }: DiskSpace): number {
    const leftMb = Math.max(0, this.#limitMb(task) - (usedMb.get(nameOf(task)) ?? 0));
    return leftMb / this.#deps.workspaces.overcommit;
  }
}

const nameOf = ({ id, snapshot }: Task): string => sandboxName(id, snapshot.context.attempt);
