/**
 * Which adapter serves which port, and with which settings. No other file names an adapter of the
 * coordinator.
 */
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import { findWeakness } from "../auth/password-rules.ts";
import type { GitGrants } from "../auth/providers/git-grants.ts";
import type { Sessions } from "../auth/sessions.ts";
import type { Variables } from "../auth/variables.ts";
import type { KeyRing } from "../auth/keys/key-ring.ts";
import type { Vault } from "../auth/vault.ts";
import { createConnectProxy } from "../broker/connect-proxy.ts";
import { serveGit } from "../broker/git-http.ts";
import { createModelGateway, type ModelGatewayOptions, type ServeModel } from "../broker/model/gateway.ts";
import { createProviderAgent } from "../broker/model/provider-request.ts";
import { mergePrices, PRICES, priceTableSchema, type PriceTable } from "../broker/model/price-table.ts";
import { createProviderRateLimit, type ProviderRateLimit } from "../broker/model/rate-limit.ts";
import { DEFAULT_RULES } from "../broker/model/request-policy.ts";
import { openBroker } from "../broker/server.ts";
import { SocketDirs } from "../broker/socket-dirs.ts";
import {
  createCoordinator,
  DEFAULT_SETTINGS,
  type Coordinator,
  type CoordinatorDeps,
} from "../coordinator/coordinator.ts";
import { errorMessage, SlipwayError } from "../core/error.ts";
import { TaskFailure } from "../core/failure.ts";
import { noCrash, type Crashpoint } from "../core/lib/runtime/crashpoint.ts";
import type { Disposers } from "../core/lib/disposers.ts";
import type { DescriptorPlan } from "../core/lib/runtime/descriptors.ts";
import { packageRoot } from "../core/lib/runtime/package-root.ts";
import type { Accounts } from "../core/ports/accounts.ts";
import type { AuditLog } from "../core/ports/audit.ts";
import type { Forge } from "../core/ports/repositories.ts";
import type { Bus, Ids, Log } from "../core/ports/runtime.ts";
import type { Heartbeat } from "../coordinator/working-time.ts";
import type { Sandbox } from "../core/ports/sandbox.ts";
import type { Store } from "../core/ports/store.ts";
import type { UsageLedger } from "../core/ports/usage-ledger.ts";
import { DEFAULT_POLICY, MODEL_AGENTS, type MaxLimits } from "../core/task.ts";
import { parseRepositoryUrl } from "../core/values/repository-url.ts";
import { openForges } from "../git/forges/open-forges.ts";
import { openRepositories } from "../git/repositories.ts";
import { ProcessFallback } from "../sandbox/process-fallback.ts";
import { openProcessSandbox } from "../sandbox/process/sandbox.ts";
import { openSimulatedSandbox } from "../sandbox/simulated.ts";
import type { Config } from "./config.ts";
import { deriveInstanceId } from "../core/lib/runtime/instance-id.ts";
import { openFileStores } from "./data-folder/file-stores.ts";
import { describeShortage, getDisks, openPushSpace, readDiskSpace, readReserve } from "./disk-space.ts";
import { getFetchFloorMb, toGitLimits, toWorkspaceRules } from "./settings/bound-settings.ts";
import { findGitAuth } from "./secrets.ts";
import { systemClock } from "../core/lib/runtime/system-clock.ts";

/** Workers in containers run as this user, who must be able to open the broker's socket. */
const WORKER_UID = 10_001;
/** Longest pause of all tasks after one Retry-After; then one request is sent as a probe, ms. */
const LONGEST_RATE_LIMIT_MS = 60_000;
/** "1" once an engine has answered for this data folder, "0" until then. */
const ENGINE_SEEN = "sandbox.engine_seen";
/** Listening does not wait longer for the engine, ms. */
const CHECK_MS = 2_500;
const DAY_MS = 24 * 3_600_000;
/** For tasks that name no limits. */
const DEFAULT_LIMITS = { memoryMb: 4_096, cpus: 2 };

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
  const serveModel = prepareModelGateway(parts, rate);
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
    settings: readCoordinatorSettings(config),
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

function readCoordinatorSettings(config: Config) {
  const prices = readPrices(config);
  return {
    ...DEFAULT_SETTINGS,
    trustedHosts: config.trustedRepoHosts,
    publicUrl: config.publicUrl,
    pullRequest: config.pullRequest,
    images: config.sandbox === "docker" ? config.images : null,
    agents: listAgents(config),
    programs: config.programs,
    egress: config.egress,
    setupEgress: config.setupEgress,
    egressMb: config.egressMb,
    model: config.model,
    models: config.anthropicApiKey === null ? [] : config.models,
    ...(config.gitAuthor === null ? {} : { gitAuthor: config.gitAuthor }),
    signsCommits: config.signingKeyFile !== null,
    knownModels: Object.keys(prices.models),
    prices: prices.models,
    ...(config.compactAt === null ? {} : { compactAt: config.compactAt }),
    ...(config.fallbackModel === null ? {} : { fallbackModel: config.fallbackModel }),
    ...(config.reviewModel === null ? {} : { review: { model: config.reviewModel, mode: config.review } }),
    policy: { ...DEFAULT_POLICY, ...config.policy },
    maxConcurrent: config.maxConcurrent,
    userLimit: config.userLimit,
    quotas: config.quotas,
    userDayUsd: config.userDayUsd,
    threadUsd: config.threadUsd,
    dayUsd: config.dayUsd,
    tasksExpireDays: config.tasksExpireDays,
    retentionMs: config.retentionDays * DAY_MS,
    mirrorMs: config.mirrorDays * DAY_MS,
    maxLimits: getMaxLimits(config),
    workspaces: toWorkspaceRules(config),
  };
}

/**
 * The gateway to the model's provider, as a function of what it asks about tasks. It returns null
 * without a key: then workers have no model.
 */
function prepareModelGateway(
  { config, log, disposers }: CoordinatorParts,
  rate: ProviderRateLimit,
): (asks: Pick<ModelGatewayOptions, "budget" | "secrets">) => ServeModel | null {
  const { anthropicApiKey: apiKey, anthropicBaseUrl: baseUrl, models } = config;
  const prices = readPrices(config);
  if (apiKey === null) return () => null;
  const agent = createProviderAgent(baseUrl);
  disposers.add(() => agent.destroy());
  const rules = { ...DEFAULT_RULES, models, betas: [...DEFAULT_RULES.betas, ...config.modelBetas] };
  return (asks) => createModelGateway({ ...asks, baseUrl, apiKey, rules, prices, rate, log, agent });
}

/** @throws SlipwayError config_invalid when the operator's table cannot be used. */
function readPrices({ pricesFile }: Config): PriceTable {
  if (pricesFile === null) return PRICES;
  try {
    return mergePrices(priceTableSchema.parse(JSON.parse(readFileSync(pricesFile, "utf8"))));
  } catch (error) {
    throw new SlipwayError(
      "config_invalid",
      `SLIPWAY_PRICES names ${pricesFile}, which is not a valid price table: ${errorMessage(error).slice(0, 300)}`,
    );
  }
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

/** @param report called with what operators should know about the sandbox. */
export async function openSandbox(
  config: Config,
  dir: string,
  crashpoint: Crashpoint = noCrash,
  report: (text: string) => void = () => undefined,
): Promise<Sandbox> {
  const instance = deriveInstanceId(dir);
  const workerFile = join(packageRoot(), "dist", "worker.mjs");
  switch (config.sandbox) {
    case "docker":
      return openDocker(config, dir, crashpoint, report);
    case "process":
      return openProcessSandbox({ dir, workerFile, instance, crashpoint });
    case "simulated":
      return openSimulatedSandbox({
        dir: join(dir, "sandboxes"),
        run: async ({ name, socketDir, token, attempt }, signal) => {
          const root = join(dir, "sandboxes", name);
          const { runWorker } = await import("../../worker/assemble.ts");
          return runWorker({
            socketPath: join(socketDir, "b.sock"),
            token,
            attempt,
            root: join(root, "workspace"),
            stateDir: join(root, "state"),
            signal,
          });
        },
      });
  }
}

/**
 * The sandbox of a server: as configured, or by default Docker with the process fallback
 * (src/sandbox/process-fallback.ts).
 */
export async function openServerSandbox(
  config: Config,
  dir: string,
  { store, crashpoint, log }: { store: Store; crashpoint: Crashpoint; log: Log },
): Promise<Sandbox> {
  const report = (text: string): void => log.info({}, text);
  if (config.sandboxChosen) return openSandbox(config, dir, crashpoint, report);
  const docker = await openSandbox(config, dir, crashpoint, report);
  const process = await openSandbox({ ...config, sandbox: "process" }, dir, crashpoint);
  return new ProcessFallback({
    docker,
    process,
    isProcess: (name) => existsSync(join(dir, "sandboxes", name)),
    hadEngine: await hadEngine(store),
    rememberEngine: () => store.setSetting(ENGINE_SEEN, "1"),
  });
}

/**
 * A data folder with tasks and without a record comes from a version that needed an engine, so it
 * counts as one that had an engine.
 */
async function hadEngine(store: Store): Promise<boolean> {
  const recorded = await store.setting(ENGINE_SEEN);
  if (recorded !== null) return recorded === "1";
  const { items } = await store.tasks({ userId: null, limit: 1 });
  if (items.length > 0) return true;
  await store.setSetting(ENGINE_SEEN, "0");
  return false;
}

/** dockerode is two fifths of what a start loads, so only installations that use it load it. */
async function openDocker(
  config: Config,
  dir: string,
  crashpoint: Crashpoint,
  report: (text: string) => void,
): Promise<Sandbox> {
  const { openDockerSandbox } = await import("../sandbox/docker/sandbox.ts");
  const instance = deriveInstanceId(dir);
  const { memoryMb, cpus } = getMaxLimits(config);
  return openDockerSandbox({
    instance,
    workerFile: join(packageRoot(), "dist", "worker.mjs"),
    dockerfile: join(packageRoot(), "Dockerfile"),
    imageTools: config.workerTools,
    report,
    transport: config.transport,
    pool: { size: config.warm, dir: new SocketDirs(join(dir, "run"), instance, null).base() },
    memoryMb: Math.min(DEFAULT_LIMITS.memoryMb, memoryMb),
    cpus: Math.min(DEFAULT_LIMITS.cpus, cpus),
    disk: { mode: config.disk, dir: join(dir, "disks"), defaultMb: config.diskMb },
    crashpoint,
  });
}

/**
 * One line about the sandbox for people. The server starts without an engine: then tasks wait for
 * it, or run by the fallback (decision 031).
 */
export async function describeSandbox(sandbox: Sandbox): Promise<string> {
  try {
    return await sandbox.check(AbortSignal.timeout(CHECK_MS));
  } catch (error) {
    return `${errorMessage(error)} Tasks wait until it does.`;
  }
}

/** The most that a task may ask for. */
function getMaxLimits({ maxMemoryMb, maxCpus, maxDiskMb }: Config): MaxLimits {
  const memoryMb = maxMemoryMb ?? Math.max(64, Math.min(65_536, Math.floor(totalmem() / 2 ** 20 / 2)));
  return { memoryMb, cpus: maxCpus ?? availableParallelism(), diskMb: maxDiskMb };
}

/** Agents that this server can run, the default first. */
function listAgents({
  agent,
  anthropicApiKey,
  programs,
}: Pick<Config, "agent" | "anthropicApiKey" | "programs">): string[] {
  const all = [...(anthropicApiKey === null ? [] : MODEL_AGENTS), ...Object.keys(programs), "scripted"];
  return [agent, ...all.filter((name) => name !== agent)];
}

/**
 * @throws SlipwayError config_invalid when the default agent is not one that this server offers.
 */
export function checkAgent({ agent, ...config }: Config): void {
  const all = listAgents({ ...config, agent: "scripted" });
  if (!all.includes(agent))
    throw new SlipwayError(
      "config_invalid",
      `SLIPWAY_AGENT names "${agent}", but this server offers: ${all.join(", ")}.`,
    );
}

export async function createFirstAdmin({ admin }: Config, sessions: Sessions): Promise<void> {
  if (admin === null || !(await sessions.needsSetup())) return;
  const weakness = findWeakness(admin.password, admin.email);
  if (weakness !== null)
    throw new SlipwayError("config_invalid", `SLIPWAY_ADMIN_PASSWORD ${weakness}: choose several words.`);
  await sessions.createUser({ ...admin, role: "admin" });
}
