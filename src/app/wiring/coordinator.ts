/**
 * Which adapter serves which port of the coordinator, and with which settings. No other file names
 * them, except for the sandbox (sandbox.ts).
 */
import { join } from "node:path";
import type { GitGrants } from "../../auth/providers/git-grants.ts";
import type { KeyRing } from "../../auth/keys/key-ring.ts";
import type { Variables } from "../../auth/variables.ts";
import type { Vault } from "../../auth/vault.ts";
import { createConnectProxy } from "../../broker/connect-proxy.ts";
import { serveGit } from "../../broker/git-http.ts";
import { createModelGateway, type ModelGatewayOptions, type ServeModel } from "../../broker/model/gateway.ts";
import { createProviderAgent } from "../../broker/model/provider-request.ts";
import { createProviderRateLimit, type ProviderRateLimit } from "../../broker/model/rate-limit.ts";
import { DEFAULT_RULES } from "../../broker/model/request/policy.ts";
import { openBroker } from "../../broker/server.ts";
import { createCoordinator, type Coordinator, type CoordinatorDeps } from "../../coordinator/coordinator.ts";
import type { Heartbeat } from "../../coordinator/working-time.ts";
import { errorMessage } from "../../core/error.ts";
import { TaskFailure } from "../../core/failure.ts";
import type { Disposers } from "../../core/lib/disposers.ts";
import type { Crashpoint } from "../../core/lib/runtime/crashpoint.ts";
import type { DescriptorPlan } from "../../core/lib/runtime/descriptors.ts";
import { deriveInstanceId } from "../../core/lib/runtime/instance-id.ts";
import { systemClock } from "../../core/lib/runtime/system-clock.ts";
import type { Accounts } from "../../core/ports/accounts.ts";
import type { AuditLog } from "../../core/ports/records/audit.ts";
import type { Forge } from "../../core/ports/repositories.ts";
import type { Bus, Ids, Log } from "../../core/ports/runtime.ts";
import type { Sandbox } from "../../core/ports/sandbox.ts";
import type { Store } from "../../core/ports/store.ts";
import type { UsageLedger } from "../../core/ports/records/usage-ledger.ts";
import { parseRepositoryUrl } from "../../core/values/repository-url.ts";
import { openForges } from "../../git/forges/open-forges.ts";
import { openRepositories } from "../../git/repositories.ts";
import type { Config } from "../config.ts";
import { openFileStores } from "../data-folder/file-stores.ts";
import { describeShortage, getDisks, openPushSpace, readDiskSpace, readReserve } from "../disk-space.ts";
import { findGitAuth } from "../secrets.ts";
import { getFetchFloorMb, toGitLimits } from "../settings/bound-settings.ts";
import { readCoordinatorSettings, readPrices } from "./coordinator-settings.ts";

/** Workers in containers run as this user, who must be able to open the broker's socket. */
const WORKER_UID = 10_001;
/** Longest pause of all tasks after one Retry-After; then one request is sent as a probe, ms. */
const LONGEST_RATE_LIMIT_MS = 60_000;

export interface CoordinatorParts {
  readonly config: Config;
  readonly descriptors: DescriptorPlan;
  readonly dir: string;
  readonly log: Log;
  readonly crashpoint: Crashpoint;
  readonly store: Store;
  readonly accounts: Accounts;
  readonly audit: AuditLog;
  readonly ledger: UsageLedger;
  readonly ring: KeyRing;
  readonly vault: Vault;
  readonly variables: Variables;
  readonly grants: GitGrants;
  readonly sandbox: Sandbox;
  readonly bus: Bus;
  readonly disposers: Disposers;
  readonly heartbeat: Heartbeat;
  readonly ids: Ids;
}

export function openCoordinator(parts: CoordinatorParts): Promise<Coordinator> {
  const { config, descriptors, dir, log, store, ledger, ring, sandbox, bus, crashpoint, heartbeat, ids } = parts;
  const repos = openRepositories({
    dir: join(dir, "git"),
    trustedHosts: config.trustedRepoHosts,
    limits: toGitLimits(config),
    guard: config.guard,
    floorMb: getFetchFloorMb(config),
    crashpoint,
    signingKeyFile: config.signingKeyFile ?? undefined,
  });
  const rate = createProviderRateLimit({ clock: systemClock, longestMs: LONGEST_RATE_LIMIT_MS });
  const pushSpace = openPushSpace(dir, getFetchFloorMb(config), log);
  parts.disposers.add(() => repos.close());
  const { windows, serveModel } = prepareModelGateway(parts, rate);
  return createCoordinator({
    rateLimitedUntil: (model) => rate.until(model),
    store,
    ledger,
    audit: parts.audit,
    bus,
    sandbox,
    repos,
    ...openFileStores(dir, config, { ...parts, clock: systemClock }),
    log,
    crashpoint,
    forges: openConfiguredForges(parts),
    clock: systemClock,
    heartbeat,
    ids,
    ...openSpace(parts),
    emailOf: async (userId) => (await parts.accounts.user(userId))?.email ?? null,
    variablesFor: (userId, repo) => parts.variables.open(userId, repo),
    authFor: openCredentials(parts),
    broker: ({ worker, model, egress, secrets }) =>
      openBroker({
        dir: join(dir, "run"),
        workerApi: worker,
        log,
        serveGit: (call) => serveGit({ ...call, space: pushSpace }),
        serveTunnel: createConnectProxy({
          api: egress,
          trustedHosts: config.trustedEgressHosts,
          maxTunnels: descriptors.tunnels,
          log,
        }),
        maxConnections: descriptors.workerConnections,
        serveModel: serveModel({ budget: model, secrets }),
        repoPath: (taskId) => repos.path(taskId),
        isBaseUnreadable: (taskId, signal) => repos.isBaseUnreadable(taskId, signal),
        secrets: () =>
          ring
            .source("attempts")()
            .map(({ bytes }) => bytes),
        instance: deriveInstanceId(dir),
        ...(config.sandbox === "docker" ? { uid: WORKER_UID } : {}),
      }),
    settings: readCoordinatorSettings(config, windows),
  });
}

type Space = Pick<CoordinatorDeps, "shortage" | "readSpace" | "readReserve">;

function openSpace({ dir, sandbox, config }: CoordinatorParts): Space {
  return {
    shortage: async () => describeShortage(await getDisks(dir, sandbox), config.minFreeMb),
    readSpace: () => readDiskSpace(sandbox),
    readReserve: () => readReserve(dir),
  };
}

/** A credential that is shown to its host is used; others are not recorded. */
function openCredentials(parts: CoordinatorParts): CoordinatorDeps["authFor"] {
  return async (userId, repo, purpose) => {
    const host = readHost(repo, parts.config.trustedRepoHosts);
    return await findGitAuth({ ...parts, clock: systemClock }, userId, host, purpose && { purpose, repo });
  };
}

function openConfiguredForges({ config, disposers }: CoordinatorParts): readonly Forge[] {
  const { githubUrl: url, githubApiUrl: apiUrl, trustedRepoHosts: trustedHosts } = config;
  const addresses = [{ kind: "github", url, apiUrl } as const, ...config.forges];
  const { forges, close } = openForges({ addresses, trustedHosts, now: () => systemClock.now() });
  disposers.add(close);
  return forges;
}

interface PreparedGateway {
  /** The most tokens of a request by model, as the gateway learns them. */
  readonly windows: ReadonlyMap<string, number>;
  /** Of what the gateway asks about tasks; null without a key: then workers have no model. */
  readonly serveModel: (asks: Pick<ModelGatewayOptions, "budget" | "secrets">) => ServeModel | null;
}

/** The gateway to the model's provider. */
function prepareModelGateway({ config, log, disposers }: CoordinatorParts, rate: ProviderRateLimit): PreparedGateway {
  const { anthropicApiKey: apiKey, anthropicBaseUrl: baseUrl, models } = config;
  const prices = readPrices(config);
  const windows = new Map<string, number>();
  if (apiKey === null) return { windows, serveModel: () => null };
  const agent = createProviderAgent(baseUrl);
  disposers.add(() => agent.destroy());
  const rules = { ...DEFAULT_RULES, models, betas: [...DEFAULT_RULES.betas, ...config.modelBetas] };
  const settings = { baseUrl, apiKey, rules, prices, rate, log, agent, windows };
  return { windows, serveModel: (asks) => createModelGateway({ ...asks, ...settings }) };
}

/**
 * The host of a task's repository. @throws TaskFailure `repo_not_found` when the server's rules for
 * addresses have changed since the task was submitted.
 */
function readHost(repo: string, trustedHosts: readonly string[]): string {
  try {
    return parseRepositoryUrl(repo, { trustedHosts }).host;
  } catch (cause) {
    throw new TaskFailure("repo_not_found", { detail: errorMessage(cause), cause });
  }
}
