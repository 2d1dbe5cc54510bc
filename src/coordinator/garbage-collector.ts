/**
 * Removes what no task needs any more.
 *
 * J2 A sandbox is needed while its task is in a state that holds a slot, at that very attempt.
 *    Every other sandbox is removed (rule D3), with everything that belonged to it. Sandboxes are
 *    listed before each task is read, so a sandbox that is created later is never tested against an
 *    older row. Data of a task that is set aside is kept, because its state is unknown (rule M11).
 * J3 Repositories, artifacts and transcripts are kept for `retentionMs` after their task settled,
 *    mirrors for `mirrorMs` after their last use.
 * J4 An attachment is kept while a task that it was given to is kept. One that no task has stays
 *    for a week: its prompt may not be sent yet.
 */
import PQueue from "p-queue";
import type { Attachments } from "../core/ports/files/attachments.ts";
import type { SetupCaches } from "../core/ports/files/setup-caches.ts";
import type { Artifacts } from "../core/ports/files/artifacts.ts";
import { holdsSlot } from "../../machines/fold.ts";
import { errorMessage } from "../core/error.ts";
import { removeGarbage, totalBytes, type GcMode, type Garbage } from "../core/lib/garbage.ts";
import type { Crashpoint } from "../core/lib/runtime/crashpoint.ts";
import { KeyedMutex } from "../core/lib/concurrency/keyed-mutex.ts";
import type { Store } from "../core/ports/store.ts";
import type { Salvage } from "./effects/salvage.ts";
import { parseSandboxName, isSettledState } from "../core/task.ts";
import { withTimeout } from "../core/lib/concurrency/async.ts";
import type { Clock, Log } from "../core/ports/runtime.ts";
import type { Sandbox, SandboxInfo } from "../core/ports/sandbox.ts";
import type { Repositories } from "../core/ports/repositories.ts";
import type { Broker } from "../core/ports/broker.ts";

export interface GarbageCollectorDeps {
  readonly store: Pick<Store, "task" | "deletedTask" | "oldTranscripts" | "dropTranscript">;
  readonly sandbox: Sandbox;
  readonly repos: Repositories;
  readonly broker: Broker;
  readonly artifacts: Artifacts;
  readonly attachments?: Attachments;
  readonly setupCaches?: SetupCaches;
  readonly salvage: Salvage;
  readonly clock: Clock;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  /** Longest wait for one sandbox to be removed, ms. */
  readonly clearMs: number;
  /**
   * How long task repositories, artifacts and transcripts are kept after their task settled, ms.
   */
  readonly retentionMs: number;
  /** How long mirrors are kept after their last use, ms. */
  readonly mirrorMs: number;
}

type Collect = (mode: GcMode, signal: AbortSignal) => Promise<Garbage[]>;

const ERROR_LENGTH = 300;
/** How long an upload that no task has is kept, ms. */
const UNUSED_ATTACHMENT_MS = 7 * 24 * 3_600_000;
/** Sandboxes that are removed at once. */
const REMOVALS = 8;

export class GarbageCollector {
  readonly #deps: GarbageCollectorDeps;
  readonly #mutex = new KeyedMutex();
  readonly #removals = new PQueue({ concurrency: REMOVALS });

  constructor(deps: GarbageCollectorDeps) {
    this.#deps = deps;
  }

  /**
   * Removes sandboxes that no task needs, and what belonged to one. Several at a time, each within
   * its own time. An abort begins no further removal. @returns how many could not be removed.
   */
  async removeOrphans(signal: AbortSignal): Promise<number> {
    const { log } = this.#deps;
    let failed = 0;
    const remove = async (info: SandboxInfo): Promise<void> => {
      if (signal.aborted) return;
      try {
        await this.#removeSandbox(info);
      } catch (error) {
        failed += 1;
        if (signal.aborted) return;
        const fields = { name: info.name, error: errorMessage(error) };
        log.warn(fields, "an orphan could not be removed; the next tick tries again");
      }
    };
    const orphans = await this.#listOrphans();
    await this.#removals.addAll(orphans.map((info) => () => remove(info)));
    await this.#removeSandboxParts(signal);
    return failed;
  }

  /**
   * Finds, and removes unless it is a dry run, everything that no task needs. Runs one at a time: a
   * concurrent call waits. A resource that cannot be removed is returned with its error; rejects
   * only when aborted.
   */
  collect(mode: GcMode, signal: AbortSignal): Promise<Garbage[]> {
    return this.#mutex.run("collect", () => this.#collectAll(mode, signal));
  }

  async #collectAll(mode: GcMode, signal: AbortSignal): Promise<Garbage[]> {
    const { sandbox, broker, repos, clock, log, crashpoint, mirrorMs } = this.#deps;
    const isNeeded = (name: string): Promise<boolean> => this.#isNamedSandboxNeeded(name);
    const kinds: readonly (readonly [string, Collect])[] = [
      ["sandboxes", () => this.#collectSandboxes(mode)],
      ["what sandboxes left", () => sandbox.reclaim(isNeeded, mode, signal)],
      ["images", () => sandbox.reclaimImages(mode, signal)],
      ["sockets", () => broker.reclaim(isNeeded, mode)],
      ["repositories", () => this.#collectRepositories(mode, signal)],
      ["artifacts", () => this.#collectArtifacts(mode)],
      ["attachments", () => this.#collectAttachments(mode)],
      ["setup caches", async () => (await this.#deps.setupCaches?.collect(mode)) ?? []],
      ["transcripts", () => this.#collectTranscripts(mode)],
      ["mirrors", () => repos.reclaim(clock.now() - mirrorMs, mode, signal)],
    ];
    const found: Garbage[] = [];
    for (const [name, collect] of kinds) {
      try {
        found.push(...(await collect(mode, signal)));
        if (mode === "remove") crashpoint("collection.removed");
      } catch (error) {
        signal.throwIfAborted();
        log.warn({ error: errorMessage(error) }, `${name} could not be listed`);
        found.push({ kind: "folder", name, bytes: null, error: errorMessage(error).slice(0, ERROR_LENGTH) });
      }
    }
    if (mode === "remove") await this.#mergePacks(signal);
    if (mode === "remove" && found.length > 0)
      log.info({ removed: found.length, bytes: totalBytes(found) }, "removed what no task needs");
    return found;
  }

  /** Not garbage, but the same janitor: each fetch and each push leaves a pack. */
  async #mergePacks(signal: AbortSignal): Promise<void> {
    const { repos, log } = this.#deps;
    for (const { kind, name, packs, error } of await repos.mergePacks(signal))
      if (error === null) log.info({ kind, name, packs }, "merged the packs of a repository");
      else log.warn({ kind, name, error }, "the packs of a repository could not be merged; the next tick tries again");
  }

  /** J2. */
  async #isNeeded(taskId: string, attempt: number): Promise<boolean> {
    const task = await this.#deps.store.task(taskId);
    if (task?.setAside !== undefined) return true;
    return task !== null && holdsSlot(task.snapshot) && task.snapshot.context.attempt <= attempt;
  }

  /** J2, for a resource that is named after a sandbox. One with another name is not needed. */
  async #isNamedSandboxNeeded(name: string): Promise<boolean> {
    const parsed = parseSandboxName(name);
    return parsed !== null && (await this.#isNeeded(parsed.taskId, parsed.attempt));
  }

  async #listOrphans(): Promise<SandboxInfo[]> {
    const found: SandboxInfo[] = [];
    for (const info of await this.#deps.sandbox.list())
      if (!(await this.#isNeeded(info.taskId, info.attempt))) found.push(info);
    return found;
  }

  /** Bounded: an engine that hangs does not keep the other sandboxes waiting for ever. */
  async #removeSandbox(info: SandboxInfo): Promise<void> {
    const { clock, clearMs } = this.#deps;
    await withTimeout(clearMs * 2, this.#salvageAndRemove(info), clock);
  }

  async #salvageAndRemove({ name, taskId, attempt }: SandboxInfo): Promise<void> {
    const { store, sandbox, broker, salvage, clock, log, clearMs } = this.#deps;
    log.info({ task: taskId, attempt }, "removing a sandbox that no task needs");
    await broker.revoke(taskId, attempt);
    const task = await store.task(taskId);
    if (task !== null && task.state !== "done" && task.state !== "pushing")
      await salvage(taskId, attempt, "perhaps_running", new AbortController().signal);
    await withTimeout(clearMs, sandbox.remove(name), clock);
  }

  /** What a crash left between the steps that create or remove a sandbox. */
  async #removeSandboxParts(signal: AbortSignal): Promise<void> {
    const { sandbox, log } = this.#deps;
    const isNeeded = (name: string): Promise<boolean> => this.#isNamedSandboxNeeded(name);
    for (const { kind, name, error } of await sandbox.reclaim(isNeeded, "remove", signal)) {
      if (error === null) log.info({ name }, `removed a ${kind} that no task needs`);
      else log.warn({ name, error }, `a ${kind} could not be removed; the next tick tries again`);
    }
  }

  async #collectSandboxes(mode: GcMode): Promise<Garbage[]> {
    const orphans = await this.#listOrphans();
    const collect = (info: SandboxInfo) => (): Promise<Garbage> =>
      removeGarbage(mode, { kind: "sandbox", name: info.name, bytes: null }, () => this.#removeSandbox(info));
    return await this.#removals.addAll(orphans.map(collect));
  }

  /**
   * J3. True for a deleted task; false for an unknown one: the database may be restored from an
   * older copy.
   */
  async #isExpired(taskId: string): Promise<boolean> {
    const { store, clock, retentionMs } = this.#deps;
    const task = await store.task(taskId);
    if (task === null) return (await store.deletedTask(taskId)) !== null;
    if (task.setAside !== undefined) return false;
    return isSettledState(task.state) && clock.now() - task.updatedAt > retentionMs;
  }

  async #collectRepositories(mode: GcMode, signal: AbortSignal): Promise<Garbage[]> {
    const { repos } = this.#deps;
    const found: Garbage[] = [];
    for (const taskId of await repos.list()) {
      signal.throwIfAborted();
      if (!(await this.#isExpired(taskId))) continue;
      const bytes = await repos.size(taskId);
      found.push(await removeGarbage(mode, { kind: "repository", name: taskId, bytes }, () => repos.remove(taskId)));
    }
    return found;
  }

  async #collectArtifacts(mode: GcMode): Promise<Garbage[]> {
    const { artifacts } = this.#deps;
    const found: Garbage[] = [];
    for (const { taskId, bytes } of await artifacts.usage()) {
      if (!(await this.#isExpired(taskId))) continue;
      found.push(await removeGarbage(mode, { kind: "artifacts", name: taskId, bytes }, () => artifacts.remove(taskId)));
    }
    return found;
  }

  /** J4. */
  async #collectAttachments(mode: GcMode): Promise<Garbage[]> {
    const { attachments, clock } = this.#deps;
    const before = clock.now() - UNUSED_ATTACHMENT_MS;
    const found: Garbage[] = [];
    for (const { id, bytes, at, tasks } of (await attachments?.usage()) ?? []) {
      const over: string[] = [];
      for (const given of tasks) if (await this.#isOver(given)) over.push(given.taskId);
      if (over.length < tasks.length || at >= before) continue;
      const remove = async (): Promise<unknown> => await attachments?.release(id, over, before);
      found.push(await removeGarbage(mode, { kind: "attachment", name: id, bytes }, remove));
    }
    return found;
  }

  /**
   * A task that was never recorded has no end: its request was sent again, or a crash came first.
   */
  async #isOver({ taskId, at }: { readonly taskId: string; readonly at: number }): Promise<boolean> {
    const { store, clock, retentionMs } = this.#deps;
    if (await this.#isExpired(taskId)) return true;
    return clock.now() - at > retentionMs && (await store.task(taskId)) === null;
  }

  async #collectTranscripts(mode: GcMode): Promise<Garbage[]> {
    const { store, clock, retentionMs } = this.#deps;
    const found: Garbage[] = [];
    // One after the other: together they would be one transaction, and other writes would wait.
    for (const { taskId, bytes } of await store.oldTranscripts(clock.now() - retentionMs)) {
      const transcript = { kind: "transcript", name: taskId, bytes } as const;
      found.push(await removeGarbage(mode, transcript, () => store.dropTranscript(taskId)));
    }
    return found;
  }
}
