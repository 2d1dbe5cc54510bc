/**
 * What a task's sandbox may reach: the lists that operators maintain, and the notices of refused
 * connections.
 *
 * O1 Policy and lists are read for each connection: a change applies to the next connection, also
 *    for tasks that were submitted before it, and ends open ones that it does not allow.
 *    The setup of a repository has a policy of its own until the coordinator has recorded that it
 *    is over; its connections are cut then.
 * O2 A refusal is one notice per endpoint and attempt; after `NOTICES` of them one last notice
 *    replaces the rest. That the bytes of the task are used up is one more.
 */
import { z } from "zod";
import { holdsSlot } from "../../../machines/fold.ts";
import type { TaskLog } from "../task-log.ts";
import {
  DEFAULT_HOSTS,
  narrowerEgress,
  parseEndpoints,
  widerEgress,
  type EgressPolicy,
} from "../../core/values/egress-policy.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { KeyedMutex } from "../../core/lib/concurrency/keyed-mutex.ts";
import type { Store } from "../../core/ports/store.ts";
import { parseRepositoryUrl } from "../../core/values/repository-url.ts";
import { OPEN_STATES, sandboxName, type Egress, type Task } from "../../core/task.ts";
import type { Repositories } from "../../core/ports/repositories.ts";
import type { Sandbox } from "../../core/ports/sandbox.ts";
import type { RepositoryConfig } from "./repositories/repository-config.ts";
import { readRepositorySettings } from "./repositories/repository-settings.ts";
import type { Log } from "../../core/ports/runtime.ts";
import type { EgressApi } from "../../core/ports/broker.ts";
import { serverNotice, type ServerNoticeCode } from "../../core/notices.ts";
import { EgressBytes } from "./budget/egress-bytes.ts";
import { assertCurrentAttempt } from "./current-attempt.ts";
import type { AttemptVariables } from "./worker/variables.ts";

export interface EgressSettings {
  /** Policies that a task may have; the first is the default. */
  readonly egress: readonly [Egress, ...Egress[]];
  /** What the setup may reach, unless the task may reach more; absent = the lists. */
  readonly setupEgress?: Egress;
  /** What one task may move in all of its attempts, MiB; null or absent = no limit. */
  readonly egressMb?: number | null;
}

export interface EgressDeps extends Pick<EgressSettings, "setupEgress" | "egressMb"> {
  readonly taskLog: TaskLog;
  readonly repos: Pick<Repositories, "file">;
  readonly sandbox: Pick<Sandbox, "runsRepositoryCommands">;
  readonly store: Pick<Store, "task" | "setting" | "setSetting">;
  readonly variables: Pick<AttemptVariables, "redactNow">;
  readonly log: Log;
  /** Policies that a task may have. */
  readonly egress: readonly Egress[];
  /** Hosts of repositories that may be named by plain http. */
  readonly trustedHosts: readonly string[];
}

export interface EgressList {
  /** Canonical address; null = the installation's list. */
  readonly repo: string | null;
  /** `host:port`, sorted. */
  readonly hosts: readonly string[];
  /** True until an operator changes the shipped list. */
  readonly shipped: boolean;
}

export interface EgressService extends EgressApi {
  /** What the setup of the attempt may reach; null = it has none. */
  setupEgress(task: Task): Promise<Egress | null>;
  /**
   * The installation's list; with a repository the hosts that its tasks may reach in addition.
   * @throws SlipwayError `invalid_repository`.
   */
  list(repo: string | null): Promise<EgressList>;
  /**
   * Idempotent. Concurrent changes are applied one after another. @throws SlipwayError
   * `invalid_request`, `invalid_repository`, and then nothing was changed.
   */
  change(repo: string | null, change: EgressChange): Promise<EgressList>;
}

export interface EgressChange {
  readonly allow?: readonly string[] | undefined;
  readonly remove?: readonly string[] | undefined;
  /** First resets to the shipped list (of a repository: to the empty list). */
  readonly reset?: boolean | undefined;
}

const NOTICES = 20;
const LONGEST_LIST = 500;

export function createEgressService(deps: EgressDeps): EgressService {
  return new EgressLists(deps);
}

class EgressLists implements EgressService {
  readonly #deps: EgressDeps;
  readonly #mutex = new KeyedMutex();
  /** By task: `attempt endpoint` of the refusals that were recorded. */
  readonly #reported = new Map<string, Set<string>>();
  /** By task, while it is prepared. */
  readonly #setups = new Map<string, Setup>();
  readonly #listeners: (() => void)[] = [];
  readonly #bytes: EgressBytes;

  constructor(deps: EgressDeps) {
    this.#deps = deps;
    this.#bytes = new EgressBytes(deps);
    deps.taskLog.onCommit((task) => {
      if (task.state !== "provisioning") this.#endSetup(task);
      if (!holdsSlot(task.snapshot)) this.#reported.delete(task.id);
      if (!OPEN_STATES.some((state) => state === task.state)) this.#bytes.forget(task.id);
    });
  }

  async list(repo: string | null): Promise<EgressList> {
    const { store, trustedHosts } = this.#deps;
    const url = repo === null ? null : parseRepositoryUrl(repo, { trustedHosts }).url;
    const stored = await store.setting(toSettingKey(url));
    if (stored !== null) return { repo: url, hosts: this.#readHosts(stored), shipped: false };
    return { repo: url, hosts: url === null ? DEFAULT_HOSTS.toSorted() : [], shipped: true };
  }

  change(repo: string | null, change: EgressChange): Promise<EgressList> {
    return this.#mutex.run("change", async () => {
      const list = await this.#applyChange(repo, change);
      for (const listener of this.#listeners) listener();
      return list;
    });
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async policy(taskId: string, attempt: number): Promise<EgressPolicy> {
    // Before the task is read: a setup that ends while it is read ends this policy.
    const setup = this.#openSetup(taskId);
    await this.#bytes.open(taskId);
    const task = await this.#deps.store.task(taskId);
    if (task?.state !== "provisioning") this.#setups.delete(taskId);
    if (!OPEN_STATES.some((state) => state === task?.state)) this.#bytes.forget(taskId);
    assertCurrentAttempt(task, attempt);
    const own = restrictToOffered(task.spec.egress, this.#deps.egress);
    const egress = task.state === "provisioning" ? await this.#readSetupEgress(setup, task) : null;
    if (egress === null) return { egress: own, hosts: await this.#hosts(own, task.spec.repo) };
    setup.isUsed = true;
    return { egress, hosts: await this.#hosts(egress, task.spec.repo), isSetup: true, ends: setup.ended.signal };
  }

  async setupEgress(task: Task): Promise<Egress | null> {
    const { repos, sandbox, egress: offered, setupEgress = "allowlist" } = this.#deps;
    const { attempt, baseSha } = task.snapshot.context;
    if (sandbox.runsRepositoryCommands?.(sandboxName(task.id, attempt)) === false) return null;
    const { config } = await readRepositorySettings(repos, task.id, baseSha);
    return resolveSetupEgress(
      config,
      restrictToOffered(task.spec.egress, offered),
      restrictToOffered(setupEgress, offered),
    );
  }

  reportRefusal(taskId: string, attempt: number, asked: string, reason: string): void {
    // A command may have put a secret into the name.
    const [endpoint = "", why = ""] = [asked, reason].map((text) => this.#deps.variables.redactNow(taskId, text));
    const reported = this.#reported.get(taskId) ?? new Set<string>();
    this.#reported.set(taskId, reported);
    const key = `${attempt} ${endpoint}`;
    if (reported.has(key) || reported.size > NOTICES) return;
    reported.add(key);
    this.#deps.log.info({ task: taskId, attempt, place: endpoint }, "egress refused");
    const text =
      reported.size > NOTICES
        ? "More endpoints were refused; they are not listed one by one."
        : `The sandbox may not reach ${endpoint}. ${why}`;
    this.#recordNotice(taskId, text);
  }

  spend(taskId: string, attempt: number, bytes: number): string | null {
    const spending = this.#bytes.spend(taskId, bytes);
    if (spending === "fits") return null;
    if (spending === "over") return "The task is over.";
    const megabytes = (this.#deps.egressMb ?? 0).toLocaleString("en");
    const text =
      `The task has moved ${megabytes} MB through the egress proxy, which is all that one task may. ` +
      "Continue in a follow-up task, or ask an operator to raise SLIPWAY_EGRESS_MB.";
    const reported = this.#reported.get(taskId) ?? new Set<string>();
    this.#reported.set(taskId, reported);
    const key = `${attempt} bytes`;
    if (!reported.has(key)) this.#recordNotice(taskId, text, { level: "warning", code: "egress_used_up" });
    reported.add(key);
    return text;
  }

  /** A list that cannot be read permits nothing: an operator sets it again. */
  #readHosts(stored: string): readonly string[] {
    try {
      return z.array(z.string()).parse(JSON.parse(stored));
    } catch {
      this.#deps.log.error({}, "a list of endpoints cannot be read: nothing of it is permitted until it is set again");
      return [];
    }
  }

  async #applyChange(repo: string | null, change: EgressChange): Promise<EgressList> {
    const { store } = this.#deps;
    const added = parseEndpoints(change.allow ?? []);
    const removed = new Set(parseEndpoints(change.remove ?? []));
    const { repo: url } = await this.list(repo);
    if (change.reset === true) await store.setSetting(toSettingKey(url), null);
    if (added.length + removed.size === 0) return this.list(url);
    const { hosts } = await this.list(url);
    const changed = parseEndpoints([...hosts, ...added]).filter((endpoint) => !removed.has(endpoint));
    if (changed.length > LONGEST_LIST)
      throw new SlipwayError("invalid_request", `A list holds at most ${LONGEST_LIST} hosts.`);
    await store.setSetting(toSettingKey(url), JSON.stringify(changed));
    return this.list(url);
  }

  async #hosts(egress: Egress, repo: string): Promise<ReadonlySet<string>> {
    if (egress !== "allowlist") return new Set();
    const [common, added] = await Promise.all([this.list(null), this.list(repo)]);
    return new Set([...common.hosts, ...added.hosts]);
  }

  #openSetup(taskId: string): Setup {
    const setup = this.#setups.get(taskId) ?? { ended: new AbortController(), isUsed: false, egress: new Map() };
    this.#setups.set(taskId, setup);
    return setup;
  }

  /** The file is read once per attempt: each package is a connection. */
  #readSetupEgress(setup: Setup, task: Task): Promise<Egress | null> {
    const { attempt, baseSha } = task.snapshot.context;
    const key = `${attempt} ${baseSha}`;
    const read = setup.egress.get(key) ?? this.setupEgress(task);
    setup.egress.set(key, read);
    read.catch(() => setup.egress.delete(key));
    return read;
  }

  #endSetup(task: Task): void {
    const setup = this.#setups.get(task.id);
    if (setup === undefined) return;
    this.#setups.delete(task.id);
    setup.ended.abort();
    if (!setup.isUsed || task.state !== "running") return;
    const egress = restrictToOffered(task.spec.egress, this.#deps.egress);
    const text = `The setup is over, and what it had connected is cut. From here on the task has egress ${egress}.`;
    this.#recordNotice(task.id, text, { level: "info", code: "egress_phase" });
  }

  #recordNotice(taskId: string, text: string, kind: NoticeKind = { level: "warning", code: "egress_refused" }): void {
    const { taskLog, log } = this.#deps;
    taskLog
      .record(taskId, () => [serverNotice(kind.level, kind.code, text)])
      .then(({ task }) => {
        // A refusal that is reported late begins the list of a settled task again.
        if (!holdsSlot(task.snapshot)) this.#reported.delete(taskId);
      })
      .catch((error: unknown) =>
        log.error({ task: taskId, error: errorMessage(error) }, "a notice could not be recorded"),
      );
  }
}

/** The setup of a task that is being prepared. */
interface Setup {
  readonly ended: AbortController;
  /** It has asked for a connection. */
  isUsed: boolean;
  /** By attempt and base: what it may reach. */
  readonly egress: Map<string, Promise<Egress | null>>;
}

/**
 * Null = there is no setup. The setup reaches at least what the agent does, unless the repository
 * says less.
 */
function resolveSetupEgress(
  { setup, setupEgress }: RepositoryConfig,
  own: Egress,
  installation: Egress,
): Egress | null {
  if (setup.length === 0) return null;
  const widest = widerEgress(own, installation);
  return setupEgress === null ? widest : narrowerEgress(setupEgress, widest);
}

interface NoticeKind {
  readonly level: "info" | "warning";
  readonly code: ServerNoticeCode;
}

function toSettingKey(repo: string | null): string {
  return repo === null ? "egress.hosts" : `egress.hosts ${repo}`;
}

/** The task's policy, or the next narrower one where the operator no longer offers it. */
function restrictToOffered(policy: Egress, offered: readonly Egress[]): Egress {
  if (offered.includes(policy)) return policy;
  return policy === "open" && offered.includes("allowlist") ? "allowlist" : "none";
}
