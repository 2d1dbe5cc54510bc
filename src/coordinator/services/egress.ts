/**
 * Whose task may reach what, now: the lists that operators keep, and the notices of what was
 * refused.
 *
 * O1 The lists are read for each connection: what an operator takes away is gone for the next one.
 *    So is a policy that the operator no longer offers, also for tasks that were given it.
 * O2 A refusal is one notice per place and attempt; after `NOTICES` places one last notice says
 *    that there are more.
 */
import { holdsSlot } from "../../../machines/fold.ts";
import type { TaskLog } from "../task-log.ts";
import { DEFAULT_HOSTS, parseEndpoints } from "../../core/values/egress-policy.ts";
import { errorMessage, SlipwayError } from "../../core/error.ts";
import type { Store } from "../../core/ports/store.ts";
import { parseRepositoryUrl } from "../../core/values/repository-url.ts";
import type { Egress } from "../../core/task.ts";
import type { Log } from "../../core/ports/runtime.ts";
import type { EgressApi } from "../../core/ports/broker.ts";

export interface EgressDeps {
  readonly taskLog: TaskLog;
  readonly store: Store;
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
  /** True while nobody has changed the shipped list. */
  readonly shipped: boolean;
}

export interface EgressService extends EgressApi {
  /**
   * The installation's list, or with a repository what that one's tasks may reach besides. @throws
   * SlipwayError `invalid_repository`.
   */
  list(repo: string | null): Promise<EgressList>;
  /**
   * Idempotent. Changes are made one after the other. @throws SlipwayError `invalid_request`,
   * `invalid_repository`: nothing was changed then.
   */
  change(repo: string | null, change: EgressChange): Promise<EgressList>;
}

export interface EgressChange {
  readonly allow?: readonly string[] | undefined;
  readonly remove?: readonly string[] | undefined;
  /** First back to the shipped list (of a repository: to none). */
  readonly reset?: boolean | undefined;
}

const NOTICES = 20;
const LONGEST_LIST = 500;

const keyOf = (repo: string | null): string => (repo === null ? "egress.hosts" : `egress.hosts ${repo}`);

/**
 * What is left of a task's policy where the operator no longer offers it: the next narrower one.
 */
function granted(asked: Egress, offered: readonly Egress[]): Egress {
  if (offered.includes(asked)) return asked;
  return asked === "open" && offered.includes("allowlist") ? "allowlist" : "none";
}

export function createEgressService(deps: EgressDeps): EgressService {
  const { taskLog, store, log, trustedHosts } = deps;
  const told = new Map<string, Set<string>>();
  let changing: Promise<void> = Promise.resolve();
  taskLog.onCommit((task) => {
    if (!holdsSlot(task.snapshot)) told.delete(task.id);
  });

  async function list(named: string | null): Promise<EgressList> {
    const repo = named === null ? null : parseRepositoryUrl(named, { trustedHosts }).url;
    const stored = await store.setting(keyOf(repo));
    if (stored !== null) return { repo, hosts: JSON.parse(stored) as string[], shipped: false };
    return { repo, hosts: repo === null ? DEFAULT_HOSTS.toSorted() : [], shipped: true };
  }

  async function apply(
    named: string | null,
    { allow = [], remove = [], reset = false }: EgressChange,
  ): Promise<EgressList> {
    const [more, less] = [parseEndpoints(allow), new Set(parseEndpoints(remove))];
    const { repo } = await list(named);
    if (reset) await store.setSetting(keyOf(repo), null);
    if (more.length + less.size === 0) return list(repo);
    const { hosts } = await list(repo);
    const next = parseEndpoints([...hosts, ...more]).filter((place) => !less.has(place));
    if (next.length > LONGEST_LIST)
      throw new SlipwayError("invalid_request", `A list holds at most ${LONGEST_LIST} hosts.`);
    await store.setSetting(keyOf(repo), JSON.stringify(next));
    return list(repo);
  }

  function notice(taskId: string, code: string, text: string): void {
    taskLog
      .record(taskId, () => [{ type: "notice", data: { level: "warning", code, text } }])
      .catch((error: unknown) =>
        log.error({ task: taskId, error: errorMessage(error) }, "a refusal could not be recorded"),
      );
  }

  return {
    list,
    change(repo, change) {
      const mine = changing.then(() => apply(repo, change));
      changing = mine.then(
        () => undefined,
        () => undefined,
      );
      return mine;
    },
    async policy(taskId, attempt) {
      const task = await store.task(taskId);
      if (task === null || task.snapshot.context.attempt !== attempt || !holdsSlot(task.snapshot)) {
        throw new SlipwayError("stale_attempt", "This attempt is over. Stop, and push nothing more.");
      }
      const { repo } = task.spec;
      const egress = granted(task.spec.egress, deps.egress);
      if (egress !== "allowlist") return { egress, hosts: new Set() };
      const [all, own] = await Promise.all([list(null), list(repo)]);
      return { egress, hosts: new Set([...all.hosts, ...own.hosts]) };
    },
    reportRefusal(taskId, attempt, place, why) {
      const known = told.get(taskId) ?? new Set<string>();
      told.set(taskId, known);
      const name = `${attempt} ${place}`;
      if (known.has(name) || known.size > NOTICES) return;
      known.add(name);
      log.info({ task: taskId, attempt, place }, "egress refused");
      if (known.size > NOTICES)
        return notice(taskId, "egress_refused", "Still more places were refused; they are not listed one by one.");
      notice(taskId, "egress_refused", `The sandbox may not reach ${place}. ${why}`);
    },
  };
}
