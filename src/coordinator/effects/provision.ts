/**
 * The effect of `provisioning`: the task's repository and its sandbox, in parallel where the
 * sandbox does not depend on the repository. Ends when the sandbox ends.
 */
import type { Crashpoint } from "../../core/lib/runtime/crashpoint.ts";
import { allOrAbort } from "../../core/lib/concurrency/async.ts";
import type { Broker } from "../../core/ports/broker.ts";
import type { Repositories } from "../../core/ports/repositories.ts";
import type { Sandbox, SandboxSpec } from "../../core/ports/sandbox.ts";
import { sandboxName, type Limits, type MaxLimits, type Task } from "../../core/task.ts";
import { serverNotice } from "../../core/notices.ts";
import type { ParsedConfig } from "../services/repositories/repository-config.ts";
import type { WorkerService } from "../services/worker.ts";
import {
  NO_SETTINGS,
  commandsWithheldNotice,
  readRepositorySettings,
  resolveImage,
  settingsNotices,
} from "../services/repositories/repository-settings.ts";
import type { PersonStorage } from "../services/people/person-storage.ts";
import { removeEarlier, type ClearDeps } from "./clear.ts";
import { ProvisioningSteps } from "./provisioning-steps.ts";
import { chooseStart, type ChosenStart, type StartRequest } from "./branch/start-point.ts";
import { findSource, resolveUpstream, type GetAuth, type SourceDeps, type Upstream } from "./upstream.ts";
import { watch, type WatchDeps } from "./watch.ts";

export interface ProvisionDeps extends WatchDeps, ClearDeps {
  readonly store: WatchDeps["store"] & SourceDeps["store"];
  readonly sandbox: Sandbox;
  readonly broker: Pick<Broker, "open" | "revoke">;
  readonly repos: Repositories;
  readonly authFor: GetAuth;
  /** Absent = each workspace begins empty. */
  readonly workerApi?: Pick<WorkerService, "hasSetupDisks" | "findSetupDisk">;
  readonly crashpoint: Crashpoint;
  /** Images that may be chosen; null = the sandbox has no images. */
  readonly images: readonly string[] | null;
  /** What a task may have at most; also a second try after out_of_memory. */
  readonly maxLimits: MaxLimits;
  readonly storage: Pick<PersonStorage, "allowance">;
}

export async function provision(deps: ProvisionDeps, task: Task, signal: AbortSignal): Promise<void> {
  await new Provisioning(deps, task, signal).run();
  await watch(deps, task, signal);
}

class Provisioning {
  readonly #deps: ProvisionDeps;
  readonly #task: Task;
  readonly #signal: AbortSignal;
  readonly #steps: ProvisioningSteps;
  #hasSetupDisks = false;
  /** Set once the repository's file was read. */
  #settings: ParsedConfig = NO_SETTINGS;

  constructor(deps: ProvisionDeps, task: Task, signal: AbortSignal) {
    this.#deps = deps;
    this.#task = task;
    this.#signal = signal;
    this.#steps = new ProvisioningSteps(task, deps);
  }

  async run(): Promise<void> {
    const { repos, images, workerApi } = this.#deps;
    const { userId, spec } = this.#task;
    // A repository that was never reached may be a wrong address or credential, so no sandbox is
    // started before it. Nor where the repository may choose the image, or its base decides what
    // the workspace begins with.
    const mayChooseImage = images !== null && images.length > 0 && (spec.image ?? null) === null;
    this.#hasSetupDisks = (await workerApi?.hasSetupDisks(this.#task)) === true;
    const isParallel = !mayChooseImage && !this.#hasSetupDisks && (await repos.hasMirror(userId, spec.repo));
    const prepareRepository = (stop: AbortSignal): Promise<void> => this.#prepareRepository(stop);
    const prepareSandbox = (stop: AbortSignal): Promise<void> => this.#prepareSandbox(stop);
    if (isParallel) await allOrAbort(this.#signal, [prepareRepository, prepareSandbox]);
    else {
      await prepareRepository(this.#signal);
      await prepareSandbox(this.#signal);
    }
    this.#reportWithheldCommands();
    await this.#steps.flush();
  }

  /** Without isolation the worker gets no commands of the repository (WorkerService). */
  #reportWithheldCommands(): void {
    const { sandbox } = this.#deps;
    const { setup, verify, mcp } = this.#settings.config;
    const hasCommands = setup.length > 0 || verify.length > 0 || Object.keys(mcp).length > 0;
    const name = sandboxName(this.#task.id, this.#task.snapshot.context.attempt);
    if (hasCommands && sandbox.runsRepositoryCommands?.(name) === false) this.#steps.add(commandsWithheldNotice());
  }

  async #prepareRepository(stop: AbortSignal): Promise<void> {
    const { repos, images, authFor, storage } = this.#deps;
    const task = this.#task;
    // Not repeated when an earlier process has recorded it for this attempt.
    const isDone = task.snapshot.context.steps.some((step) => step.name === "mirror" && step.endedAt !== null);
    let { baseSha } = task.snapshot.context;
    if (!isDone) {
      await this.#steps.run("mirror", async (progress) => {
        const upstream = await resolveUpstream(authFor, task, "read");
        const parentTaskId = await findSource(this.#deps, task);
        const getAllowance = (): Promise<number | null> => storage.allowance(task.userId);
        const asked = { ...upstream, base: task.spec.base, parentTaskId, getAllowance };
        const { base, ...prepared } = await repos.prepare(asked, stop, progress);
        const { start, news, ...chosen } = await this.#chooseStart(
          upstream,
          { name: base, sha: prepared.baseSha },
          stop,
        );
        baseSha = chosen.baseSha;
        if (news !== null) {
          const { code, text, ...more } = news;
          this.#steps.add(serverNotice("warning", code, text, more));
        }
        const found = { base, baseSha, ...(start === null ? {} : { start }) };
        return { detail: `${base} at ${baseSha.slice(0, 8)}`, found };
      });
    }
    this.#settings = await readRepositorySettings(repos, task.id, baseSha);
    if (!isDone) {
      this.#steps.add(...settingsNotices(this.#settings, images));
      // The worker may be waiting for this step (WorkerApi.spec).
      await this.#steps.flush();
    }
    // Checked here as well, because the sandbox may have been prepared before the file was read: an
    // image that is not allowed ends the task instead of being ignored.
    resolveImage(task.spec, this.#settings.config, images);
  }

  /** What has happened to the branch upstream is known before the agent begins (rule W10). */
  async #chooseStart(upstream: Upstream, base: StartRequest["base"], stop: AbortSignal): Promise<ChosenStart> {
    const { repos } = this.#deps;
    const { id: taskId, spec, snapshot } = this.#task;
    const saved = snapshot.context.checkpoint?.sha ?? null;
    const work = saved !== null && (await repos.has(taskId, saved)) ? saved : null;
    const { branch, expectSha: expect } = spec;
    const found = await repos.compareBranch({ ...upstream, branch, baseSha: base.sha, work, expect }, stop);
    const chosen = chooseStart({ spec, base, work }, found);
    if (saved === null || work !== null || chosen.start !== null || chosen.news !== null) return chosen;
    const text = `The saved work (${saved.slice(0, 8)}) is no longer on this server. The work begins from ${base.name} at ${base.sha.slice(0, 8)}.`;
    return { ...chosen, news: { code: "work_gone", text } };
  }

  async #prepareSandbox(stop: AbortSignal): Promise<void> {
    const { sandbox, images } = this.#deps;
    const image = resolveImage(this.#task.spec, this.#settings.config, images);
    await this.#steps.run("image", async (progress) => {
      await sandbox.prepare(progress, stop, image);
      return image === null ? {} : { detail: image };
    });
    stop.throwIfAborted();
    await this.#steps.run("container", async () => {
      // Not `stop`: an aborted create may still take effect after `allOrAbort` has returned.
      await this.#ensureSandbox(image);
      return { detail: sandbox.kind };
    });
  }

  async #ensureSandbox(image: string | null): Promise<void> {
    const { sandbox, broker, crashpoint, maxLimits, workerApi } = this.#deps;
    const { id: taskId, snapshot, spec } = this.#task;
    const { attempt } = snapshot.context;
    if (attempt > 1) await removeEarlier(this.#deps, taskId, attempt, this.#signal);
    const { socketDir, token } = await broker.open(taskId, attempt);
    crashpoint("sandbox.before");
    const limits = resolveLimits(this.#task, maxLimits);
    const name = sandboxName(taskId, attempt);
    const given = { name, taskId, attempt, socketDir, token, limits, agent: spec.agent, image };
    const findSetupDisk: SandboxSpec["findSetupDisk"] = async (place) =>
      (await workerApi?.findSetupDisk(taskId, attempt, place).catch(() => null)) ?? null;
    await sandbox.ensure(this.#hasSetupDisks ? { ...given, findSetupDisk } : given, this.#signal);
    crashpoint("sandbox.after");
  }
}

/**
 * The task's limits, bounded by what the server allows now: that may have changed since the submit.
 */
function resolveLimits(task: Task, max: MaxLimits): Limits {
  const { memoryMb, cpus, diskMb } = task.spec.limits;
  const { memoryFactor } = task.snapshot.context;
  const memory = memoryFactor === 1 ? memoryMb : (memoryMb ?? Math.floor(max.memoryMb / 2)) * memoryFactor;
  return {
    ...(memory === undefined ? {} : { memoryMb: Math.min(max.memoryMb, memory) }),
    ...(cpus === undefined ? {} : { cpus: Math.min(max.cpus, cpus) }),
    ...(diskMb === undefined ? {} : { diskMb: Math.min(max.diskMb, diskMb) }),
  };
}
