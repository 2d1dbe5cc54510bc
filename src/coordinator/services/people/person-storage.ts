/**
 * What is stored for each person on this server (rule S14), measured from what is there: right
 * after a crash, and after files were removed by hand.
 *
 * B1 Mirrors belong to one person; everything else belongs to the owner of its task. Data that all
 *    people share, and data with a limit of its own (setup caches), count for no person.
 * B2 A submission never waits for a measurement unless the last one would refuse it; a new one runs
 *    in the background. Before the first measurement after a start every submission is accepted.
 * B3 Only what was measured just now is a reason to refuse.
 */
import { errorMessage } from "../../../core/error.ts";
import { every } from "../../../core/lib/pagination.ts";
import type { Artifacts } from "../../../core/ports/files/artifacts.ts";
import type { Attachments } from "../../../core/ports/files/attachments.ts";
import type { Repositories, StoredRepository } from "../../../core/ports/repositories.ts";
import type { Clock, Log } from "../../../core/ports/runtime.ts";
import type { Store } from "../../../core/ports/store.ts";
import { readQuotas, type QuotaSettings } from "../../../core/quotas.ts";

/** Bytes. */
export interface StoredBytes {
  readonly mirrors: number;
  readonly repositories: number;
  readonly artifacts: number;
  readonly attachments: number;
  readonly transcripts: number;
}

export interface StorageDeps extends QuotaSettings {
  readonly store: Pick<Store, "setting" | "taskOwners" | "transcriptSizes">;
  readonly repos: Pick<Repositories, "usage">;
  readonly artifacts: Pick<Artifacts, "usage">;
  readonly attachments?: Pick<Attachments, "bytesOf"> | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

type FileBytes = { -readonly [kind in "mirrors" | "repositories" | "artifacts"]: number };

interface Measurement {
  /** Epoch ms. */
  readonly at: number;
  /** By person. */
  readonly files: ReadonlyMap<string, Readonly<FileBytes>>;
  /** The largest repositories, the largest first. */
  readonly largest: readonly StoredRepository[];
  /** By person; read when they are asked for. */
  readonly transcripts: Map<string, Promise<number>>;
}

const NO_FILES: Readonly<FileBytes> = { mirrors: 0, repositories: 0, artifacts: 0 };
const MIB = 2 ** 20;
/** Age of a measurement that is good enough to admit and to show, ms. */
const RECENT_MS = 30_000;
/** Age of one that is good enough to refuse, ms. */
const JUST_NOW_MS = 1_000;
/** Repositories that operators see. */
const LISTED = 5;
/** Owners that are read in one turn of the event loop. */
const OWNERS_AT_ONCE = 500;
/**
 * What a task that was accepted may fetch, however much is stored: a base branch that moved costs
 * no task its next attempt, bytes.
 */
const GRACE_BYTES = 64 * MIB;

export const sumOf = (stored: StoredBytes): number => Object.values(stored).reduce((sum, bytes) => sum + bytes, 0);

export class PersonStorage {
  readonly #deps: StorageDeps;
  /** Owners of the tasks that the last measurement found. */
  #owners = new Map<string, string>();
  #last: Measurement | null = null;
  #running: Promise<Measurement> | null = null;

  constructor(deps: StorageDeps) {
    this.#deps = deps;
  }

  async of(userId: string): Promise<StoredBytes> {
    return await this.#sum(await this.#measure(RECENT_MS), userId);
  }

  /** What is stored for the person, when it is all that may be; else null. */
  async excess(userId: string): Promise<{ readonly stored: StoredBytes; readonly limitMb: number } | null> {
    const { storageMb: limitMb } = await readQuotas(this.#deps.store, this.#deps, userId);
    if (limitMb === null) return null;
    const isBelow = async (measured: Measurement): Promise<boolean> =>
      sumOf(await this.#sum(measured, userId)) < limitMb * MIB;
    const known = this.#last;
    const renewed = this.#orNothing(this.#measure(RECENT_MS));
    if (known === null ? limitMb > 0 : await isBelow(known)) return null;
    await renewed;
    const measured = await this.#orNothing(this.#measure(JUST_NOW_MS));
    if (measured === null || (await isBelow(measured))) return null;
    return { stored: await this.#sum(measured, userId), limitMb };
  }

  /** Bytes that may be fetched for the person now; null = no limit. */
  async allowance(userId: string): Promise<number | null> {
    const { storageMb: limitMb } = await readQuotas(this.#deps.store, this.#deps, userId);
    const measured = limitMb === null ? null : await this.#orNothing(this.#measure(JUST_NOW_MS));
    if (limitMb === null || measured === null) return null;
    return Math.max(GRACE_BYTES, limitMb * MIB - sumOf(await this.#sum(measured, userId)));
  }

  /**
   * The largest repositories of all people, of the last measurement, which is renewed beside; null
   * before the first one has ended.
   */
  largest(): readonly StoredRepository[] | null {
    void this.#orNothing(this.#measure(RECENT_MS));
    return this.#last?.largest ?? null;
  }

  /** Returns null when the disk cannot be read: that refuses no submission. */
  #orNothing(measurement: Promise<Measurement>): Promise<Measurement | null> {
    return measurement.catch((error: unknown) => {
      this.#deps.log.warn({ error: errorMessage(error) }, "what is stored for people could not be measured");
      return null;
    });
  }

  async #sum({ files, transcripts }: Measurement, userId: string): Promise<StoredBytes> {
    const read = transcripts.get(userId) ?? this.#readTranscripts(userId);
    transcripts.set(userId, read);
    return {
      ...(files.get(userId) ?? NO_FILES),
      attachments: (await this.#deps.attachments?.bytesOf(userId)) ?? 0,
      transcripts: await read,
    };
  }

  async #readTranscripts(userId: string): Promise<number> {
    const read = (last: { readonly taskId: string } | null): ReturnType<Store["transcriptSizes"]> =>
      this.#deps.store.transcriptSizes(userId, last?.taskId ?? null);
    let sum = 0;
    for await (const { bytes } of every(read)) sum += bytes;
    return sum;
  }

  /** Joins a measurement that runs. */
  #measure(maxAgeMs: number): Promise<Measurement> {
    const age = this.#last === null ? Infinity : this.#deps.clock.now() - this.#last.at;
    if (this.#last !== null && age >= 0 && age < maxAgeMs) return Promise.resolve(this.#last);
    this.#running ??= this.#measureAll().finally(() => (this.#running = null));
    return this.#running;
  }

  async #measureAll(): Promise<Measurement> {
    const { repos, artifacts, clock } = this.#deps;
    const repositories = await repos.usage();
    const ofTasks = [
      ...repositories.flatMap(({ kind, owner, bytes }) =>
        kind === "task" && owner !== null ? [{ taskId: owner, kind: "repositories" as const, bytes }] : [],
      ),
      ...(await artifacts.usage()).map(({ taskId, bytes }) => ({ taskId, kind: "artifacts" as const, bytes })),
    ];
    this.#owners = await this.#readOwners(new Set(ofTasks.map(({ taskId }) => taskId)));
    const files = new Map<string, FileBytes>();
    const add = (userId: string | null | undefined, kind: keyof FileBytes, bytes: number): void => {
      if (userId === null || userId === undefined) return;
      const sum = files.get(userId) ?? { ...NO_FILES };
      sum[kind] += bytes;
      files.set(userId, sum);
    };
    for (const { kind, owner, bytes } of repositories) if (kind === "mirror") add(owner, "mirrors", bytes);
    for (const { taskId, kind, bytes } of ofTasks) add(this.#owners.get(taskId), kind, bytes);
    const largest = repositories.toSorted((a, b) => b.bytes - a.bytes).slice(0, LISTED);
    this.#last = { at: clock.now(), files, largest, transcripts: new Map() };
    return this.#last;
  }

  async #readOwners(taskIds: ReadonlySet<string>): Promise<Map<string, string>> {
    const owners = new Map([...this.#owners].filter(([taskId]) => taskIds.has(taskId)));
    const unknown = [...taskIds].filter((taskId) => !owners.has(taskId));
    const read = async (last: { readonly end: number } | null) => {
      const end = (last?.end ?? 0) + OWNERS_AT_ONCE;
      const found = await this.#deps.store.taskOwners(unknown.slice(end - OWNERS_AT_ONCE, end));
      return { items: [{ end, found }], more: end < unknown.length };
    };
    for await (const { found } of every(read)) for (const [taskId, userId] of found) owners.set(taskId, userId);
    return owners;
  }
}

/** What is stored, and how there is room again, for people. */
export function describeExcess(stored: StoredBytes, limitMb: number): string {
  const parts = Object.entries(stored).filter(([, bytes]) => bytes >= MIB);
  const list = parts.map(([name, bytes]) => `${name} ${Math.ceil(bytes / MIB)}`).join(", ");
  return (
    `${Math.ceil(sumOf(stored) / MIB)} of ${limitMb} MB are stored for you${list === "" ? "" : ` (${list})`}. ` +
    "Delete tasks that have ended (slipway delete), wait until the server removes what they left " +
    "(SLIPWAY_RETENTION_DAYS after their end), or ask an admin for more (slipway users quota --storage-mb)."
  );
}
