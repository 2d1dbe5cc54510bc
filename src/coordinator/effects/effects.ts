/**
 * What each state's drive does. Effects are at-least-once and idempotent: each may run again from
 * its start after a crash.
 *
 * E1 An effect changes a task only through `record`, with the attempt that it was started for (the
 *    fence).
 * E2 Names are derived from (task, attempt): what exists already is adopted, never doubled.
 * E3 A state without a slot begins by clearing the attempt's sandbox; only then is the slot given
 *    back (rule D5).
 * E4 Before a sandbox is removed, and before its end is recorded where that is possible, what no
 *    checkpoint holds is salvaged (rule W6).
 */
import { isAbort, errorMessage } from "../../core/error.ts";
import { effectOf, phaseOf } from "../../../machines/fold.ts";
import type { StateEffect } from "../../../machines/task-events.ts";
import type { TaskLog } from "../task-log.ts";
import type { Crashpoint } from "../../core/lib/crashpoint.ts";
import type { Proposal } from "../../core/event.ts";
import { TaskFailure, type FailureCode } from "../../core/failure.ts";
import type { Store } from "../../core/ports/store.ts";
import type { Salvage } from "./salvage.ts";
import { createProvisioningSteps } from "./provisioning-steps.ts";
import { sandboxName, type Limits, type MaxLimits, type Task } from "../../core/task.ts";
import { resolveImage, NO_SETTINGS, settingsNotices, readRepositorySettings } from "../services/repository-settings.ts";
import type { ParsedConfig } from "../services/repository-config.ts";
import { allOrAbort, withTimeout } from "../../core/lib/async.ts";
import { WORKER_EXIT } from "../../core/protocol/worker.ts";
import type { Clock, Ids, Log } from "../../core/ports/runtime.ts";
import type { Sandbox, SandboxExit } from "../../core/ports/sandbox.ts";
import type { Forge, GitAuth, Repositories } from "../../core/ports/repositories.ts";
import type { Broker } from "../../core/ports/broker.ts";

export interface EffectDeps {
  readonly taskLog: TaskLog;
  readonly store: Pick<Store, "recordExit">;
  readonly sandbox: Sandbox;
  readonly repos: Repositories;
  readonly broker: Broker;
  readonly salvage: Salvage;
  readonly forges: readonly Forge[];
  /** The owner's git credential for a repository, in clear; null when there is none. */
  readonly authFor: (userId: string, repo: string) => Promise<GitAuth | null>;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  /** Longest wait for a sandbox to be removed before its slot is given back anyway, ms. */
  readonly clearMs: number;
  /** Images that may be chosen; null = the sandbox has no images. */
  readonly images: readonly string[] | null;
  /** What a task may have at most; also a second try after out_of_memory. */
  readonly maxLimits: MaxLimits;
}

/**
 * Runs until its state is left (the signal aborts it) or its work is recorded. Never throws.
 * `release` gives the slot back.
 */
export type Effect = (task: Task, signal: AbortSignal, release: () => void) => Promise<void>;

/**
 * 0: without a report a worker ends well only when it was asked to end. 255: what Docker notes of
 * one that ended while the engine was away.
 */
const STOPPED_FROM_OUTSIDE: readonly number[] = [WORKER_EXIT.reported, 255];
/** A worker chooses its exit code, so that such an end is not excused for ever. */
const EXCUSES = 3;

export function createEffects(deps: EffectDeps): Effect {
  const { taskLog, sandbox, repos, broker, clock, log, crashpoint } = deps;

  const say = (task: Task, ...proposals: Proposal[]): Promise<unknown> =>
    taskLog.record(task.id, () =>
      proposals.map((proposal) => ({ attempt: task.snapshot.context.attempt, ...proposal })),
    );

  async function fail(
    task: Task,
    code: FailureCode,
    options: { detail?: string | undefined; evidence?: string | null; retryAfterMs?: number | null } = {},
  ): Promise<void> {
    await say(task, failureProposal(code, deps.ids.random(), options));
  }

  /**
   * Ends the broker and the sandbox of the current attempt; bounded, because an engine may hang.
   */
  async function clear(task: Task, release: () => void): Promise<void> {
    const attempt = task.snapshot.context.attempt;
    const begun = clock.now();
    try {
      if (attempt > 0) {
        await broker.revoke(task.id, attempt);
        // What finished has pushed all of it.
        if (task.state !== "done" && task.state !== "pushing")
          await deps.salvage(task.id, attempt, "perhaps_running", new AbortController().signal);
        const left = deps.clearMs - (clock.now() - begun);
        await withTimeout(Math.max(left, deps.clearMs / 10), sandbox.remove(sandboxName(task.id, attempt)), clock);
      }
    } catch (error) {
      log.warn(
        { task: task.id, attempt, error: errorMessage(error) },
        "the sandbox could not be removed; the janitor will",
      );
    } finally {
      release();
    }
  }

  async function repoTask(task: Task) {
    const { repo } = task.spec;
    return { taskId: task.id, userId: task.userId, repo, auth: await deps.authFor(task.userId, repo) };
  }

  async function provision(task: Task, signal: AbortSignal): Promise<void> {
    const steps = createProvisioningSteps(task, say, clock, log);
    // What an earlier life of the coordinator did for this attempt is not done again.
    const mirrored = task.snapshot.context.steps.some((step) => step.name === "mirror" && step.endedAt !== null);
    /** What the repository says, as soon as it is there. */
    let settings: ParsedConfig = NO_SETTINGS;
    async function mirror(stop: AbortSignal): Promise<void> {
      let { baseSha } = task.snapshot.context;
      if (!mirrored) {
        await steps.run("mirror", async () => {
          const found = await repos.prepare(
            { ...(await repoTask(task)), base: task.spec.base, parentTaskId: task.parentId },
            stop,
          );
          baseSha = found.baseSha;
          return { detail: `${found.base} at ${found.baseSha.slice(0, 8)}`, found };
        });
      }
      settings = await readRepositorySettings(repos, task.id, baseSha);
      if (!mirrored) {
        steps.add(...settingsNotices(settings, deps.images));
        // The worker may be waiting for this (WorkerDesk.spec).
        await steps.flush();
      }
      // Also where the sandbox did not wait for it: a wish that is not granted ends the task rather
      // than being passed over.
      resolveImage(task.spec, settings.config, deps.images);
    }
    async function box(stop: AbortSignal): Promise<void> {
      const image = resolveImage(task.spec, settings.config, deps.images);
      await steps.run("image", async (progress) => {
        await sandbox.prepare(progress, stop, image);
        return image === null ? {} : { detail: image };
      });
      stop.throwIfAborted();
      await steps.run("container", async () => {
        // Not `stop`: a create that is broken off may still happen, after everybody has looked.
        await ensure(task, image, signal);
        return { detail: sandbox.kind };
      });
    }
    // A repository that nobody has reached yet may well be a wrong address or a wrong credential:
    // no sandbox is started on that. Nor where the repository has a say in what it is.
    const mayChoose = deps.images !== null && deps.images.length > 0 && (task.spec.image ?? null) === null;
    if (!mayChoose && (await repos.hasMirror(task.userId, task.spec.repo))) await allOrAbort(signal, [mirror, box]);
    else {
      await mirror(signal);
      await box(signal);
    }
    await steps.flush();
    await watch(task, signal);
  }

  async function ensure(task: Task, image: string | null, signal: AbortSignal): Promise<void> {
    const attempt = task.snapshot.context.attempt;
    if (attempt > 1) await removeEarlier(task.id, attempt, signal);
    const { socketDir, token } = await broker.open(task.id, attempt);
    crashpoint("sandbox.before");
    const limits = limitsFor(task, deps.maxLimits);
    await sandbox.ensure(
      { name: sandboxName(task.id, attempt), taskId: task.id, attempt, socketDir, token, limits, image },
      signal,
    );
    crashpoint("sandbox.after");
  }

  /**
   * What `clear` could not remove (the engine hung) must be gone before the next one runs (rule
   * D1).
   */
  async function removeEarlier(taskId: string, attempt: number, signal: AbortSignal): Promise<void> {
    const left = (await sandbox.list()).filter((one) => one.taskId === taskId && one.attempt < attempt);
    for (const { name, attempt: earlier } of left) {
      await deps.salvage(taskId, earlier, "perhaps_running", signal);
      await sandbox.remove(name);
    }
  }

  /**
   * Waits for the end of the sandbox. A report that arrived before has moved the task on and
   * aborted this.
   */
  async function watch(task: Task, signal: AbortSignal): Promise<void> {
    const { attempt } = task.snapshot.context;
    const exit = await sandbox.wait(sandboxName(task.id, attempt), signal);
    if (signal.aborted) return;
    await deps.store.recordExit(task.id, attempt, exit.exitCode);
    await deps.salvage(task.id, attempt, "stopped", signal);
    await judge(task, exit);
  }

  async function judge(task: Task, exit: SandboxExit): Promise<void> {
    const evidence = exit.tail === "" ? null : exit.tail;
    if (exit.outOfMemory) return fail(task, "out_of_memory", { evidence });
    if (exit.diskFull) return fail(task, "disk_full", { detail: "Its workspace is full.", evidence });
    if (exit.exitCode === null) return fail(task, "interrupted", { detail: "Its sandbox is gone.", evidence });
    if (STOPPED_FROM_OUTSIDE.includes(exit.exitCode) && task.snapshot.context.excused < EXCUSES)
      return fail(task, "interrupted", {
        detail: "It was stopped from outside, as when the engine or the machine restarts.",
        evidence,
      });
    return fail(task, "worker_lost", { detail: `Its exit code was ${exit.exitCode}.`, evidence });
  }

  async function supervise(task: Task, signal: AbortSignal): Promise<void> {
    await broker.open(task.id, task.snapshot.context.attempt);
    await watch(task, signal);
  }

  async function kill(task: Task, signal: AbortSignal): Promise<void> {
    const { attempt, forced, policy } = task.snapshot.context;
    const name = sandboxName(task.id, attempt);
    if (!forced) await broker.open(task.id, attempt);
    await sandbox.stop(name, forced ? 0 : policy.graceMs, signal);
    await deps.salvage(task.id, attempt, "stopped", signal);
    await say(task, { type: "task.state", data: { reason: "stopped" } });
  }

  async function push(task: Task, signal: AbortSignal): Promise<void> {
    const { headSha, report, base } = task.snapshot.context;
    if (headSha === null) return fail(task, "internal", { detail: "There is nothing to push." });
    const { branch, expectSha, repo, pullRequest } = task.spec;
    const upstream = await repoTask(task);
    if (phaseOf(task.snapshot) === "branch") {
      await fetchSaved(task, headSha, signal);
      crashpoint("push.before");
      await repos.push({ ...upstream, sha: headSha, branch, expect: expectSha }, signal);
      crashpoint("push.after");
      await say(task, { type: "push", data: { branch, sha: headSha } });
      return;
    }
    const forge = deps.forges.find((one) => one.serves(repo));
    if (forge === undefined)
      return fail(task, "push_rejected", { detail: "No forge is set up for pull requests on this repository." });
    const opened = await forge.openPullRequest(
      {
        repo,
        auth: upstream.auth,
        head: branch,
        base: base ?? "main",
        title: report?.title || task.spec.title,
        body: report?.summary ?? "",
        draft: pullRequest === "draft",
      },
      signal,
    );
    await say(task, { type: "pull_request", data: { ...opened } });
  }

  /** A retry of the push alone has no task repository yet: it is made from the parent's. */
  async function fetchSaved(task: Task, sha: string, signal: AbortSignal): Promise<void> {
    if (await repos.has(task.id, sha)) return;
    await repos.prepare({ ...(await repoTask(task)), base: task.spec.base, parentTaskId: task.parentId }, signal);
    if (await repos.has(task.id, sha)) return;
    throw new TaskFailure("push_rejected", { detail: "The saved work is no longer on this server." });
  }

  const act: Record<Exclude<StateEffect, "claim">, Effect> = {
    provision,
    supervise,
    kill,
    push: async (task, signal, release) => {
      await clear(task, release);
      if (!signal.aborted) await push(task, signal);
    },
    park: (task, _signal, release) => clear(task, release),
    wait: (task, _signal, release) => clear(task, release),
    retire: (task, _signal, release) => clear(task, release),
  };

  return async (task, signal, release) => {
    const drive = effectOf(task.snapshot);
    if (drive === "claim") return;
    crashpoint("effect.before");
    try {
      await act[drive](task, signal, release);
      crashpoint("effect.after");
    } catch (error) {
      if (signal.aborted || isAbort(error)) return;
      await report(task, error).catch((again: unknown) =>
        log.error({ task: task.id, error: errorMessage(again) }, "a failure could not be recorded"),
      );
    }
  };

  async function report(task: Task, error: unknown): Promise<void> {
    if (error instanceof TaskFailure) {
      return fail(task, error.code, {
        detail: error.message,
        evidence: error.evidence,
        retryAfterMs: error.retryAfterMs,
      });
    }
    log.error({ task: task.id, err: error }, "an effect failed unexpectedly");
    return fail(task, "internal", { evidence: errorMessage(error) });
  }
}

/** The proposal that ends an attempt with a failure. */
export function failureProposal(
  code: FailureCode,
  jitter: number,
  options: { detail?: string | undefined; evidence?: string | null; retryAfterMs?: number | null } = {},
): Proposal {
  const { detail, evidence, retryAfterMs } = options;
  return {
    type: "task.state",
    data: {
      reason: "failed",
      code,
      detail: detail || null,
      evidence: evidence?.slice(-4_000) ?? null,
      jitter,
      retryAfterMs: retryAfterMs ?? null,
    },
  };
}

/** Never more than the server allows now, whatever it allowed when the task was submitted. */
function limitsFor(task: Task, max: MaxLimits): Limits {
  const { memoryMb, cpus, diskMb } = task.spec.limits;
  const { memoryFactor } = task.snapshot.context;
  const memory = memoryFactor === 1 ? memoryMb : (memoryMb ?? Math.floor(max.memoryMb / 2)) * memoryFactor;
  return {
    ...(memory === undefined ? {} : { memoryMb: Math.min(max.memoryMb, memory) }),
    ...(cpus === undefined ? {} : { cpus: Math.min(max.cpus, cpus) }),
    ...(diskMb === undefined ? {} : { diskMb: Math.min(max.diskMb, diskMb) }),
  };
}
