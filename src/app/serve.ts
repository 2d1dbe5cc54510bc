/**
 * The wiring: the one file that names adapters. `serve` starts a coordinator and says where it
 * listens.
 */
import { createHash, createHmac, randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import type { AddressInfo } from "node:net";
import { availableParallelism, totalmem } from "node:os";
import { join, resolve } from "node:path";
import pino from "pino";
import type { Accounts } from "../core/ports/accounts.ts";
import { createConnectProxy } from "../broker/connect-proxy.ts";
import { openArtifactFiles } from "../store/artifacts/artifact-files.ts";
import { openBroker } from "../broker/server.ts";
import { DEFAULT_RULES } from "../broker/model/request-policy.ts";
import { createModelGateway, type ServeModel } from "../broker/model/gateway.ts";
import { SocketDirs } from "../broker/socket-dirs.ts";
import { serveGit } from "../broker/git-http.ts";
import { memoryBus } from "./memory-bus.ts";
import type { Config } from "./config.ts";
import { assertMayListen, isLoopback } from "./listening.ts";
import { crashpointFrom, noCrash, type Crashpoint } from "../core/lib/crashpoint.ts";
import { errorMessage, SlipwayError } from "../core/error.ts";
import { openRepositories } from "../git/repositories.ts";
import { createApp } from "../http/app.ts";
import { attachWebSocketServer } from "../http/live/websocket-server.ts";
import { watchLoop } from "../http/routes/metrics.ts";
import { createServer } from "../http/server.ts";
import { toTaskView } from "../http/routes/tasks.ts";
import { openHub } from "../http/live/hub.ts";
import { createCoordinator, DEFAULT_SETTINGS, type Coordinator } from "../coordinator/coordinator.ts";
import type { Store } from "../core/ports/store.ts";
import type { UsageLedger } from "../core/ports/usage-ledger.ts";
import { PRICES, priceTableSchema, type PriceTable } from "../broker/model/prices.ts";
import { describeShortage, type Disk } from "./disk-space.ts";
import { createProviderRateLimit, type ProviderRateLimit } from "../broker/model/rate-limit.ts";
import { parseRepositoryUrl } from "../core/values/repository-url.ts";
import { openProcessSandbox } from "../sandbox/process/sandbox.ts";
import { openSimulatedSandbox } from "../sandbox/simulated.ts";
import { packageRoot } from "../core/lib/package-root.ts";
import { openSessions, type Sessions } from "../auth/sessions.ts";
import { openSqliteStore } from "../store/sqlite/store.ts";
import { systemClock } from "../core/lib/system-clock.ts";
import { systemIds } from "./system.ts";
import { DEFAULT_POLICY, MODEL_AGENTS, type MaxLimits } from "../core/task.ts";
import { credentialContext, loadKey, openVault, type Vault } from "../auth/vault.ts";
import type { Log } from "../core/ports/runtime.ts";
import type { Sandbox } from "../core/ports/sandbox.ts";
import type { GitAuth } from "../core/ports/repositories.ts";
import type { ModelBudget } from "../core/ports/broker.ts";

/** Workers in containers run as this user; it must be able to open the broker's socket. */
const WORKER_UID = 10_001;
/** A provider may name hours; after this it is asked again, ms. */
const LONGEST_RATE_LIMIT_MS = 5 * 60_000;
const DAY_MS = 24 * 3_600_000;
/** For tasks that name none. */
const DEFAULT_MEMORY_MB = 4_096;
const DEFAULT_CPUS = 2;

export interface RunningServer {
  readonly url: string;
  /** One-time link for the first admin; null when there is an admin. */
  readonly setupUrl: string | null;
  readonly sandbox: { readonly kind: string; readonly isolates: boolean; readonly line: string };
  readonly agent: string;
  /** Stops claiming, finishes commits, leaves sandboxes running. Idempotent. */
  close(): Promise<void>;
}

/**
 * Starts a coordinator on its data folder. Listening does not wait for the clean-up that follows a
 * crash.
 * @throws SlipwayError config_invalid, locked, newer_schema: nothing runs then.
 */
export async function serve(config: Config, hooks: { readonly log?: Log } = {}): Promise<RunningServer> {
  checkAgent(config);
  const dir = resolve(config.dataDir);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const log: Log =
    hooks.log ?? pino({ level: config.logLevel, base: null }, pino.destination({ dest: 2, sync: false }));
  const crash = process.env["SLIPWAY_CRASH"];
  const crashpoint = crashpointFrom(crash);
  const { store, accounts, ledger } = openSqliteStore({
    dir,
    migrations: join(packageRoot(), "migrations", "sqlite"),
    crash,
  });
  const key = loadKey({ file: join(dir, "secret.key"), env: config.secretKey });
  const vault = openVault(derive(key, "vault"));
  const sessions = await openSessions({
    accounts,
    clock: systemClock,
    ids: systemIds(),
    secret: derive(key, "sessions"),
    localToken: operatorToken(dir),
    setupToken: derive(key, "setup").toString("base64url"),
  });
  try {
    await firstAdmin(config, sessions);
    await rememberSlots(store, config.maxConcurrent);
    assertMayListen(config, !(await sessions.needsSetup()));
    const sandbox = await openSandbox(config, dir, crashpoint);
    const line = await checkSandbox(sandbox, config);
    return await start({ config, dir, log, crashpoint, store, accounts, ledger, key, vault, sessions, sandbox, line });
  } catch (error) {
    await store.close();
    throw error;
  }
}

interface Opened {
  readonly config: Config;
  readonly dir: string;
  readonly log: Log;
  readonly crashpoint: (name: string) => void;
  readonly store: Store;
  readonly accounts: Accounts;
  readonly ledger: UsageLedger;
  readonly key: Buffer;
  readonly vault: Vault;
  readonly sessions: Sessions;
  readonly sandbox: Sandbox;
  readonly line: string;
}

async function start(parts: Opened): Promise<RunningServer> {
  const { config, dir, log, store, accounts, sessions, sandbox } = parts;
  const bus = memoryBus(log);
  const coordinator = await assemble(parts, bus);
  const loop = watchLoop();
  let events = 0;
  coordinator.taskLog.onCommit((_task, committed) => (events += committed.length));
  const deps = {
    tasks: coordinator.tasks,
    operations: coordinator.operations,
    egress: coordinator.egress,
    sessions,
    store,
    accounts,
    vault: parts.vault,
    clock: systemClock,
    ids: systemIds(),
    log,
    checkSandbox: (signal: AbortSignal) => sandbox.check(signal),
    dataDir: dir,
    version: version(),
    origins: config.allowedOrigins,
    trustProxy: config.trustProxy,
    isFronted: config.publicUrl !== null && !isLoopback(new URL(config.publicUrl).hostname),
    gauges: { sockets: () => live.connections(), events: () => events, loopLagSeconds: () => loop.seconds() },
  };
  const hub = openHub({ store, bus, clock: systemClock, log, view: (task) => toTaskView(deps, task) });
  const server = createServer(createApp(deps));
  const live = attachWebSocketServer(server, {
    hub,
    clock: systemClock,
    log,
    authenticate: (bearer) => sessions.authenticate(bearer),
    redeemTicket: (ticket) => sessions.redeemTicket(ticket),
    isSessionValid: (sessionId) => sessions.isSessionValid(sessionId),
    allowedOrigins: () => [origin(config, url), ...config.allowedOrigins],
  });
  await new Promise<void>((done, failed) => {
    server.once("error", failed);
    server.listen(config.port, config.host, () => done());
  }).catch((error: unknown) => {
    throw new SlipwayError(
      "config_invalid",
      `Cannot listen on ${config.host}:${config.port}: ${errorMessage(error)}. Choose another SLIPWAY_PORT.`,
    );
  });
  const url = addressOf(server.address() as AddressInfo, config.host);
  writeFileSync(join(dir, "server.json"), `${JSON.stringify({ url, pid: process.pid })}\n`, { mode: 0o600 });
  // Listening does not wait for the clean-up after a crash.
  const booting = coordinator
    .boot()
    .catch((error: unknown) => log.error({ error: errorMessage(error) }, "the boot failed"));
  const setupUrl = (await sessions.needsSetup())
    ? `${config.publicUrl ?? url}/setup#${derive(parts.key, "setup").toString("base64url")}`
    : null;

  let closing: Promise<void> | null = null;
  async function close(): Promise<void> {
    const closed = new Promise<void>((done) => server.close(() => done()));
    await live.close();
    hub.close();
    server.closeIdleConnections();
    await booting;
    await coordinator.close();
    server.closeAllConnections();
    await closed;
    loop.close();
    await sandbox.close();
    await bus.close();
    await store.close();
  }
  return {
    url,
    setupUrl,
    agent: config.agent,
    sandbox: { kind: sandbox.kind, isolates: sandbox.isolates, line: parts.line },
    close: () => (closing ??= close()),
  };
}

function assemble(parts: Opened, bus: ReturnType<typeof memoryBus>): Promise<Coordinator> {
  const { config, dir, log, store, accounts, ledger, key, vault, sandbox, crashpoint } = parts;
  const trustedHosts = config.trustedRepoHosts;
  const repos = openRepositories({ dir: join(dir, "git"), trustedHosts });
  const prices = pricesOf(config);
  const rate = createProviderRateLimit({ clock: systemClock, longestMs: LONGEST_RATE_LIMIT_MS });
  return createCoordinator({
    rateLimitedUntil: () => rate.until(),
    store,
    ledger,
    bus,
    sandbox,
    repos,
    artifacts: openArtifactFiles({
      dir: join(dir, "artifacts"),
      maxBytes: config.salvageMb * 2 ** 20,
      now: () => systemClock.now(),
    }),
    log,
    crashpoint,
    forges: [],
    clock: systemClock,
    ids: systemIds(),
    shortage: async () => describeShortage(await getDisks(dir, sandbox), config.minFreeMb),
    authFor: (userId, repo) => authFor(accounts, vault, userId, parseRepositoryUrl(repo, { trustedHosts }).host),
    broker: ({ worker, model, egress }) =>
      openBroker({
        dir: join(dir, "run"),
        workerApi: worker,
        log,
        serveGit,
        serveTunnel: createConnectProxy({ api: egress, trustedHosts: config.trustedEgressHosts, log }),
        serveModel: gatewayOf(config, model, prices, rate, log),
        repoPath: (taskId) => repos.path(taskId),
        secret: derive(key, "attempts"),
        instance: deriveInstanceId(dir),
        ...(sandbox.kind === "docker" ? { uid: WORKER_UID } : {}),
      }),
    settings: {
      ...DEFAULT_SETTINGS,
      trustedHosts,
      images: sandbox.kind === "docker" ? config.images : null,
      agents: agentsOf(config),
      acpCommands: config.acpCommands,
      egress: config.egress,
      model: config.model,
      models: config.anthropicApiKey === null ? [] : config.models,
      policy: { ...DEFAULT_POLICY, ...config.policy },
      maxConcurrent: config.maxConcurrent,
      userLimit: config.userLimit,
      userDayUsd: config.userDayUsd,
      dayUsd: config.dayUsd,
      retentionMs: config.retentionDays * DAY_MS,
      mirrorMs: config.mirrorDays * DAY_MS,
      maxLimits: maxLimits(config),
    },
  });
}

/** The disks that tasks write to. */
export async function getDisks(dir: string, sandbox: Pick<Sandbox, "storage">): Promise<Disk[]> {
  const path = await sandbox.storage();
  return [{ label: "the data folder", path: dir }, ...(path === null ? [] : [{ label: "the sandbox engine", path }])];
}

/** What a task may have at most. */
function maxLimits({ maxMemoryMb, maxCpus, maxDiskMb }: Config): MaxLimits {
  const memoryMb = maxMemoryMb ?? Math.max(64, Math.min(65_536, Math.floor(totalmem() / 2 ** 20 / 2)));
  return { memoryMb, cpus: maxCpus ?? availableParallelism(), diskMb: maxDiskMb };
}

/** Null without a key: then workers have no model. */
function gatewayOf(
  config: Config,
  workerApi: ModelBudget,
  prices: PriceTable,
  rate: ProviderRateLimit,
  log: Log,
): ServeModel | null {
  const { anthropicApiKey: apiKey, anthropicBaseUrl: baseUrl, models } = config;
  if (apiKey === null) return null;
  const Agent = baseUrl.startsWith("https:") ? HttpsAgent : HttpAgent;
  const agent = new Agent({ keepAlive: true });
  return createModelGateway({
    baseUrl,
    apiKey,
    budget: workerApi,
    rules: { ...DEFAULT_RULES, models },
    prices,
    rate,
    log,
    agent,
  });
}

/** @throws SlipwayError config_invalid when the operator's table cannot be used. */
function pricesOf({ pricesFile }: Config): PriceTable {
  if (pricesFile === null) return PRICES;
  try {
    return priceTableSchema.parse(JSON.parse(readFileSync(pricesFile, "utf8")));
  } catch (error) {
    throw new SlipwayError(
      "config_invalid",
      `SLIPWAY_PRICES names ${pricesFile}, which is no price table: ${errorMessage(error).slice(0, 300)}`,
    );
  }
}

async function authFor(accounts: Accounts, vault: Vault, userId: string, host: string): Promise<GitAuth | null> {
  const found = await accounts.credentialFor(userId, host);
  if (found === null) return null;
  return {
    username: found.username ?? "x-access-token",
    token: vault.open(found.sealed, credentialContext(userId, host)),
  };
}

export async function openSandbox(config: Config, dir: string, crashpoint: Crashpoint = noCrash): Promise<Sandbox> {
  const instance = deriveInstanceId(dir);
  const workerFile = join(packageRoot(), "dist", "worker.mjs");
  switch (config.sandbox) {
    case "docker": {
      const { memoryMb, cpus } = maxLimits(config);
      // The engine's client is two fifths of all that a start loads: only who uses it waits for it.
      return (await import("../sandbox/docker/sandbox.ts")).openDockerSandbox({
        instance,
        workerFile,
        dockerfile: join(packageRoot(), "Dockerfile"),
        transport: config.transport,
        pool: { size: config.warm, dir: new SocketDirs(join(dir, "run"), instance, null).base() },
        memoryMb: Math.min(DEFAULT_MEMORY_MB, memoryMb),
        cpus: Math.min(DEFAULT_CPUS, cpus),
        disk: { mode: config.disk, dir: join(dir, "disks"), defaultMb: config.diskMb },
        crashpoint,
      });
    }
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
 * Never silently less isolated: without an engine the start ends here, unless docker was asked for
 * by name (then tasks wait for the engine).
 */
async function checkSandbox(sandbox: Sandbox, config: Config): Promise<string> {
  try {
    // Where tasks may wait for the engine, listening does not.
    return await sandbox.check(AbortSignal.timeout(config.sandboxChosen ? 2_000 : 10_000));
  } catch (error) {
    if (config.sandboxChosen) return `${errorMessage(error)} Tasks wait until it does.`;
    throw new SlipwayError(
      "config_invalid",
      `No Docker engine answers (${errorMessage(error)}). Start one, or set SLIPWAY_SANDBOX=process to run agents as plain processes, which does not isolate them from this machine.`,
    );
  }
}

async function firstAdmin(config: Config, sessions: Sessions): Promise<void> {
  if (config.admin !== null && (await sessions.needsSetup()))
    await sessions.createUser({ ...config.admin, role: "admin" });
}

/** Agents that this server can run, the default first. */
function agentsOf({
  agent,
  anthropicApiKey,
  acpCommands,
}: Pick<Config, "agent" | "anthropicApiKey" | "acpCommands">): string[] {
  const all = [...(anthropicApiKey === null ? [] : MODEL_AGENTS), ...Object.keys(acpCommands), "scripted"];
  return [agent, ...all.filter((one) => one !== agent)];
}

function checkAgent({ agent, ...config }: Config): void {
  const all = agentsOf({ ...config, agent: "scripted" });
  if (!all.includes(agent))
    throw new SlipwayError(
      "config_invalid",
      `SLIPWAY_AGENT names "${agent}", but this server offers: ${all.join(", ")}.`,
    );
}

/** The largest number of slots that this installation ever had: what `doctor` judges the log by. */
async function rememberSlots(store: Store, max: number): Promise<void> {
  const before = Number((await store.setting("slots.max")) ?? 0);
  if (max > before) await store.setSetting("slots.max", String(max));
}

/** One secret at rest; what is made of it for each use tells nothing about the others. */
function derive(key: Buffer, use: string): Buffer {
  return createHmac("sha256", key).update(`slipway ${use}`).digest();
}

/**
 * The token with which this machine's owner needs no login: whoever can read the data folder owns
 * the installation anyway.
 */
function operatorToken(dir: string): string {
  const file = join(dir, "operator.token");
  if (!existsSync(file)) writeFileSync(file, `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600 });
  return readFileSync(file, "utf8").trim();
}

/** Tells installations on one machine apart; the same over restarts. */
export function deriveInstanceId(dir: string): string {
  return createHash("sha256").update(dir).digest("hex").slice(0, 12);
}

function version(): string {
  const { version: text } = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as {
    version: string;
  };
  return text;
}

function addressOf({ address, port, family }: AddressInfo, host: string): string {
  const shown = host === "0.0.0.0" || host === "::" ? "localhost" : family === "IPv6" ? `[${address}]` : address;
  return `http://${shown}:${port}`;
}

function origin(config: Config, url: string): string {
  return new URL(config.publicUrl ?? url).origin;
}
