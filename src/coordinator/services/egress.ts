/**
 * What a task's sandbox may reach: the lists that operators maintain, and the notices of refused
 * connections.
 *
 * O1 Policy and lists are read for each connection: a change applies to the next connection, also
 *    for tasks that were submitted before it.
 * O2 A refusal is one notice per endpoint and attempt; after `NOTICES` of them one last notice
 *    replaces the rest.
 */
import { z } from "zod";
import { holdsSlot } from "../../../machines/fold.ts";
import type { TaskLog } from "../task-log.ts";
import { DEFAULT_HOSTS, parseEndpoints, type EgressPolicy } from "../../core/values/egress-policy.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import { KeyedMutex } from "../../core/lib/concurrency/keyed-mutex.ts";
import type { Store } from "../../core/ports/store.ts";
import { parseRepositoryUrl } from "../../core/values/repository-url.ts";
import type { Egress } from "../../core/task.ts";
import type { Log } from "../../core/ports/runtime.ts";
import type { EgressApi } from "../../core/ports/broker.ts";
import { assertCurrentAttempt } from "./current-attempt.ts";

export interface EgressDeps {
  readonly taskLog: TaskLog;
  readonly store: Pick<Store, "task" | "setting" | "setSetting">;
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

  constructor(deps: EgressDeps) {
    this.#deps = deps;
    deps.taskLog.onCommit((task) => {
      if (!holdsSlot(task.snapshot)) this.#reported.delete(task.id);
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
    return this.#mutex.run("change", () => this.#applyChange(repo, change));
  }

  async policy(taskId: string, attempt: number): Promise<EgressPolicy> {
    const task = await this.#deps.store.task(taskId);
    assertCurrentAttempt(task, attempt);
    const egress = restrictToOffered(task.spec.egress, this.#deps.egress);
    if (egress !== "allowlist") return { egress, hosts: new Set() };
    const [common, added] = await Promise.all([this.list(null), this.list(task.spec.repo)]);
    return { egress, hosts: new Set([...common.hosts, ...added.hosts]) };
  }

  reportRefusal(taskId: string, attempt: number, endpoint: string, why: string): void {
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

  #recordNotice(taskId: string, text: string): void {
    const { taskLog, log } = this.#deps;
    taskLog
      .record(taskId, () => [{ type: "notice", data: { level: "warning", code: "egress_refused", text } }])
      .catch((error: unknown) =>
        log.error({ task: taskId, error: errorMessage(error) }, "a refusal could not be recorded"),
      );
  }
}

function toSettingKey(repo: string | null): string {
  return repo === null ? "egress.hosts" : `egress.hosts ${repo}`;
}

/** The task's policy, or the next narrower one where the operator no longer offers it. */
function restrictToOffered(policy: Egress, offered: readonly Egress[]): Egress {
  if (offered.includes(policy)) return policy;
  return policy === "open" && offered.includes("allowlist") ? "allowlist" : "none";
}
