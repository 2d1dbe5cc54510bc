/**
 * What the setup of a repository made, kept for later attempts (decision 057).
 *
 * C1 The key is the coordinator's own: person, repository, base branch, the system of the sandbox,
 *    the commands, plain variables, and the content of the files that decide what is installed.
 *    Nothing that a worker says is part of it.
 * C2 Only an attempt that is still in its setup saves, so nothing that an agent did is in it. An
 *    archive never changes.
 */
import { createHash } from "node:crypto";
import { secretForms } from "../../../core/lib/json/redaction.ts";
import type { OpenedSetup, SetupCaches, SetupKey, SetupSaved } from "../../../core/ports/setup-caches.ts";
import type { Repositories } from "../../../core/ports/repositories.ts";
import type { Sandbox } from "../../../core/ports/sandbox.ts";
import { sandboxName, type Egress, type Task } from "../../../core/task.ts";
import type { RepositoryConfig } from "../repository-config.ts";
import { readRepositorySettings } from "../repository-settings.ts";
import { createDecider, isInstall } from "./setup-commands.ts";
import type { AttemptVariables } from "./variables.ts";

export interface SetupCacheDeps {
  /** Absent = nothing is kept. */
  readonly setupCaches?: SetupCaches;
  readonly repos: Pick<Repositories, "file" | "fileIds">;
  readonly sandbox: Pick<Sandbox, "runsRepositoryCommands" | "setupPlace">;
  readonly variables: Pick<AttemptVariables, "give" | "secrets">;
  setupEgress(task: Task): Promise<Egress | null>;
}

/** Counts up when archives of earlier versions are of no use. */
const FORMAT = 1;

interface Place {
  readonly key: SetupKey;
  /** See SetupPlace. */
  readonly folder: string | null;
}

export class SetupCacheService {
  readonly #deps: SetupCacheDeps;

  constructor(deps: SetupCacheDeps) {
    this.#deps = deps;
  }

  /** How many of the first commands have results that are kept. */
  count(config: RepositoryConfig): number {
    const { setupCaches, sandbox } = this.#deps;
    if (setupCaches === undefined || sandbox.setupPlace === undefined || config.cacheFiles === null) return 0;
    const first = config.setup.findIndex(({ run, cached }) => !(cached ?? isInstall(run)));
    return first === -1 ? config.setup.length : first;
  }

  /** Null = there is none, or the setup is over. */
  async open(task: Task, signal: AbortSignal): Promise<OpenedSetup | null> {
    const place = await this.#place(task, signal);
    return place === null ? null : ((await this.#deps.setupCaches?.open(place.key)) ?? null);
  }

  /** @param newest reads the task again. */
  async save(
    task: Task,
    content: AsyncIterable<Uint8Array>,
    newest: () => Promise<Task>,
    signal: AbortSignal,
  ): Promise<SetupSaved> {
    const { setupCaches, variables } = this.#deps;
    const place = await this.#place(task, signal);
    if (place === null || setupCaches === undefined) return { saved: false, reason: "the setup is over" };
    const secrets = (await variables.secrets(task)).flatMap(({ name, value }) =>
      secretForms(value).map((text) => ({ text, what: `the value of ${name}` })),
    );
    const folder = place.folder === null ? [] : [{ text: place.folder, what: "the path of this sandbox" }];
    const mayPublish = async (): Promise<boolean> => isInSetup(await newest());
    return await setupCaches.save(place.key, content, { forbidden: [...secrets, ...folder], mayPublish }, signal);
  }

  /** C1. */
  async #place(task: Task, signal: AbortSignal): Promise<Place | null> {
    const { repos, sandbox, variables, setupEgress } = this.#deps;
    const { base, baseSha, attempt } = task.snapshot.context;
    const name = sandboxName(task.id, attempt);
    if (!isInSetup(task) || baseSha === null || sandbox.runsRepositoryCommands?.(name) === false) return null;
    const { config } = await readRepositorySettings(repos, task.id, baseSha);
    const count = this.count(config);
    const place = count === 0 ? null : ((await sandbox.setupPlace?.(name, signal)) ?? null);
    const files = place === null ? null : await repos.fileIds(task.id, baseSha);
    if (place === null || files === null) return null;
    const commands = config.setup.slice(0, count).map(({ run }) => run);
    const decides = createDecider(commands, config.cacheFiles ?? []);
    const given = (await variables.give(task)).variables.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    const parts = {
      format: FORMAT,
      repo: task.spec.repo,
      base,
      environment: place.environment,
      egress: await setupEgress(task),
      commands,
      // The value of a secret names a thing, and does not change it.
      variables: given.map(({ name: variable, value, secret }) => [variable, secret ? null : value]),
      files: files.filter(({ path }) => decides(path)).map(({ path, id }) => [path, id]),
    };
    const digest = createHash("sha256").update(JSON.stringify(parts)).digest("hex");
    return { key: { userId: task.userId, digest }, folder: place.folder };
  }
}

const isInSetup = ({ state }: Task): boolean => state === "provisioning";
