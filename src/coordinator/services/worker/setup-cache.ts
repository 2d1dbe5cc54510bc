/**
 * What the setup of a repository made, kept for later attempts (decision 057).
 *
 * C1 The key is the coordinator's own: person, repository, base branch, the system of the sandbox,
 *    the commands, plain variables, and the content of the files that decide what is installed.
 *    Nothing that a worker says is part of it.
 * C2 Only an attempt that is still in its setup saves, so nothing that an agent did is in it. An
 *    archive never changes.
 * C4 Where workspaces are disks of their own, a disk image is made of an archive beside the tasks,
 *    and later workspaces begin as copies of it (decision 072). Each copy is one task's alone.
 */
import { createHash } from "node:crypto";
import PQueue from "p-queue";
import { errorMessage } from "../../../core/error.ts";
import { secretForms } from "../../../core/lib/json/redaction.ts";
import type { Log } from "../../../core/ports/runtime.ts";
import type { OpenedSetup, SetupCaches, SetupDiskKey, SetupSaved } from "../../../core/ports/files/setup-caches.ts";
import type { Repositories } from "../../../core/ports/repositories.ts";
import type { Sandbox, SetupDisk, SetupDiskPlace } from "../../../core/ports/sandbox.ts";
import { sandboxName, type Egress, type Task } from "../../../core/task.ts";
import type { RepositoryConfig } from "../repositories/repository-config.ts";
import { readRepositorySettings } from "../repositories/repository-settings.ts";
import { createDecider, isInstall } from "./setup-commands.ts";
import type { AttemptVariables } from "./variables.ts";

export interface SetupCacheDeps {
  /** Absent = nothing is kept. */
  readonly setupCaches?: SetupCaches;
  readonly repos: Pick<Repositories, "file" | "fileIds">;
  readonly sandbox: Pick<Sandbox, "runsRepositoryCommands" | "setupPlace" | "makeSetupDisk">;
  readonly variables: Pick<AttemptVariables, "give" | "secrets">;
  setupEgress(task: Task): Promise<Egress | null>;
  /** Absent = nothing is logged. */
  readonly log?: Log;
}

/** Counts up when archives of earlier versions are of no use. */
const FORMAT = 1;

interface Place {
  readonly key: Omit<SetupDiskKey, "sizeMb">;
  readonly environment: string;
  /** See SetupPlace. */
  readonly folder: string | null;
  readonly digest: string | null;
  readonly sizeMb: number | null;
}

type Environment = Omit<Place, "key">;

export class SetupCacheService {
  readonly #deps: SetupCacheDeps;
  /** Each reads and writes as much as a setup made. */
  readonly #diskMaking = new PQueue({ concurrency: 1 });
  readonly #closing = new AbortController();

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
    const place = await this.#placeOf(task, signal);
    const found = place === null ? null : ((await this.#deps.setupCaches?.open(place.key)) ?? null);
    if (place === null || found === null) return null;
    if (place.digest === place.key.digest)
      return { bytes: 0, savedAt: found.savedAt, content: nothing(), isOnDisk: true };
    this.#makeDisk(place);
    return found;
  }

  /** C4. True when a workspace of the task may begin as a copy, once its base is known. */
  async hasDisks(task: Task): Promise<boolean> {
    const key = { userId: task.userId, repo: toRepoKey(task) };
    return (await this.#deps.setupCaches?.hasDisks(key)) === true;
  }

  /** C4. What the workspace of an attempt that has no sandbox yet may begin as a copy of. */
  async findDisk(task: Task, { environment, sizeMb }: SetupDiskPlace): Promise<SetupDisk | null> {
    const place = await this.#place(task, { environment, folder: null, digest: null, sizeMb });
    const path = place === null ? null : ((await this.#deps.setupCaches?.disk({ ...place.key, sizeMb })) ?? null);
    return place === null || path === null ? null : { digest: place.key.digest, path };
  }

  /** Disks that are being made are given up. */
  close(): Promise<void> {
    this.#closing.abort();
    return this.#diskMaking.onIdle();
  }

  /** @param newest reads the task again. */
  async save(
    task: Task,
    content: AsyncIterable<Uint8Array>,
    newest: () => Promise<Task>,
    signal: AbortSignal,
  ): Promise<SetupSaved> {
    const { setupCaches, variables } = this.#deps;
    const place = await this.#placeOf(task, signal);
    if (place === null || setupCaches === undefined) return { saved: false, reason: "the setup is over" };
    const secrets = (await variables.secrets(task)).flatMap(({ name, value }) =>
      secretForms(value).map((text) => ({ text, what: `the value of ${name}` })),
    );
    const folder = place.folder === null ? [] : [{ text: place.folder, what: "the path of this sandbox" }];
    const mayPublish = async (): Promise<boolean> => isInSetup(await newest());
    const options = { forbidden: [...secrets, ...folder], mayPublish };
    const result = await setupCaches.save(place.key, content, options, signal);
    if (result.saved) this.#makeDisk(place);
    return result;
  }

  /** Beside the task, which does not wait. What fails is tried again when the archive is used. */
  #makeDisk({ key, environment, sizeMb }: Place): void {
    const { setupCaches, sandbox, log } = this.#deps;
    const { signal } = this.#closing;
    if (sizeMb === null || setupCaches === undefined || sandbox.makeSetupDisk === undefined || signal.aborted) return;
    void this.#diskMaking
      .add(async () => {
        if (signal.aborted) return;
        await setupCaches.saveDisk({ ...key, sizeMb }, async (files) =>
          sandbox.makeSetupDisk?.({ environment, sizeMb }, files, signal),
        );
      })
      .catch((error: unknown) => {
        if (signal.aborted) return;
        log?.warn({ error: errorMessage(error) }, "a setup could not be made a disk; it is unpacked instead");
      });
  }

  async #placeOf(task: Task, signal: AbortSignal): Promise<Place | null> {
    const { sandbox } = this.#deps;
    const found = await sandbox.setupPlace?.(sandboxName(task.id, task.snapshot.context.attempt), signal);
    if (!found) return null;
    const { digest = null, sizeMb = null } = found;
    return await this.#place(task, { ...found, digest, sizeMb });
  }

  /** C1. */
  async #place(task: Task, place: Environment): Promise<Place | null> {
    const { repos, sandbox, variables, setupEgress } = this.#deps;
    const { base, baseSha, attempt } = task.snapshot.context;
    const name = sandboxName(task.id, attempt);
    if (!isInSetup(task) || baseSha === null || sandbox.runsRepositoryCommands?.(name) === false) return null;
    const { config } = await readRepositorySettings(repos, task.id, baseSha);
    const count = this.count(config);
    const files = count === 0 ? null : await repos.fileIds(task.id, baseSha);
    if (files === null) return null;
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
      // Secrets count by name only: a new token gives access to the same packages.
      variables: given.map(({ name: variable, value, secret }) => [variable, secret ? null : value]),
      files: files.filter(({ path }) => decides(path)).map(({ path, id }) => [path, id]),
    };
    const digest = createHash("sha256").update(JSON.stringify(parts)).digest("hex");
    return { ...place, key: { userId: task.userId, digest, repo: toRepoKey(task) } };
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

const toRepoKey = ({ spec }: Task): string => createHash("sha256").update(spec.repo).digest("hex").slice(0, 16);

const isInSetup = ({ state }: Task): boolean => state === "provisioning";
