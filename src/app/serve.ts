/**
 * Starts and stops the server.
 *
 * A1 Each part registers how to close it as soon as it is open. A start that fails closes what is
 *    open in reverse order and rejects; nothing runs afterwards.
 * A2 Listening does not wait for the clean-up that follows a crash.
 * A3 `close` aborts a boot that still runs, then closes every part in reverse order. Sandboxes go
 *    on running.
 */
import type { AddressInfo } from "node:net";
import { join, resolve } from "node:path";
import { DeviceLogins } from "../auth/device-logins.ts";
import { Passkeys } from "../auth/passkeys/passkeys.ts";
import { People } from "../auth/people.ts";
import { ProviderLogins } from "../auth/providers/provider-logins.ts";
import { openGitGrants } from "../auth/providers/git-grants.ts";
import { openSessions, type Sessions } from "../auth/sessions.ts";
import { keepAuditShort } from "./data-folder/audit-retention.ts";
import { openAliveFile } from "./data-folder/alive-file.ts";
import { Variables } from "../auth/variables.ts";
import { openKeyRing, type KeyRing } from "../auth/keys/key-ring.ts";
import { openDeviceSealer, type Vault } from "../auth/vault.ts";
import type { Coordinator } from "../coordinator/coordinator.ts";
import { explainUnreadable } from "../../machines/fold.ts";
import { errorMessage, isAbort } from "../core/error.ts";
import { crashpointFrom, type Crashpoint } from "../core/lib/runtime/crashpoint.ts";
import { Disposers } from "../core/lib/disposers.ts";
import {
  describeReduction,
  planDescriptors,
  readDescriptorLimit,
  type DescriptorPlan,
} from "../core/lib/runtime/descriptors.ts";
import { packageRoot } from "../core/lib/runtime/package-root.ts";
import { limitLogRate } from "../core/lib/runtime/rate-limited-log.ts";
import type { Log } from "../core/ports/runtime.ts";
import { cleanMirrors } from "../git/mirrors.ts";
import { createApp } from "../http/app.ts";
import { openNotifications } from "../notifications/open.ts";
import type { NotificationService } from "../notifications/service.ts";
import { openHub } from "../http/live/hub.ts";
import { attachWebSocketServer } from "../http/live/websocket-server.ts";
import { toTaskViews } from "../http/routes/tasks.ts";
import { createServer } from "../http/server/server.ts";
import { openSqliteStore, type SqliteStore } from "../store/sqlite/store.ts";
import type { Config } from "./config.ts";
import { openBackupPlace } from "./data-folder/backup-bucket.ts";
import { BackupSchedule, type BackupStatus } from "./data-folder/backup-schedule.ts";
import { isInBucket, loadBucketKeys, usesBucket } from "./data-folder/open-bucket.ts";
import { openDataFolder, recordServer } from "./data-folder/data-folder.ts";
import { assertMayListen, closeServer, formatAddress, isLoopback, listen } from "./listening.ts";
import { memoryBus } from "./memory-bus.ts";
import { logTasks } from "./monitoring/day-log.ts";
import { KnownSecrets, openLog, secretsOf } from "./monitoring/open-log.ts";
import { openMetrics, type Metrics, type MetricSources } from "./monitoring/metrics.ts";
import { loadOperatorToken, newSetupToken, openSecretKey, readKeyFacts } from "./secrets.ts";
import { systemClock } from "../core/lib/runtime/system-clock.ts";
import { checkSigningKey } from "../git/branch/sign.ts";
import { RESERVE_BYTES } from "./disk-space.ts";
import { findWebApp, rememberSlots, systemIds, version } from "./system.ts";
import {
  checkAgent,
  createFirstAdmin,
  describeSandbox,
  openCoordinator,
  openServerSandbox,
  type CoordinatorParts,
} from "./wiring.ts";

/** The steps of a start, in order. */
export const START_STEPS = [
  "data folder",
  "database",
  "secret key",
  "sessions",
  "sandbox",
  "coordinator",
  "http",
  "listening",
  "boot",
] as const;
export type StartStep = (typeof START_STEPS)[number];

export interface ServeHooks {
  readonly log?: Log;
  /** Called after each step; an error that it throws fails the start. For tests. */
  readonly onStep?: (step: StartStep) => void;
}

export interface RunningServer {
  readonly url: string;
  /** One-time link for the first admin, another at each start; null when there is an admin. */
  readonly setupUrl: string | null;
  readonly sandbox: { readonly kind: string; readonly isolates: boolean; readonly line: string };
  readonly agent: string;
  /** Stops claiming, finishes commits, leaves sandboxes running. Idempotent. */
  close(): Promise<void>;
}

/** @throws SlipwayError config_invalid, locked, newer_schema. Nothing is open afterwards (A1). */
export async function serve(config: Config, hooks: ServeHooks = {}): Promise<RunningServer> {
  checkAgent(config);
  if (config.signingKeyFile !== null) await checkSigningKey(config.signingKeyFile);
  const disposers = new Disposers();
  const secrets = new KnownSecrets();
  secrets.add(...secretsOf(config));
  if (usesBucket(config)) secrets.add(loadBucketKeys(config.s3).secret);
  const lines = hooks.log ?? openLog(config.logLevel, secrets);
  const log = limitLogRate(lines, systemClock);
  disposers.add(() => log.close());
  const descriptors = planDescriptors(readDescriptorLimit(), config.maxConcurrent);
  const reduction = describeReduction(descriptors, config.maxConcurrent);
  if (reduction !== null) log.warn({}, reduction);
  const fitted = { ...config, maxConcurrent: descriptors.slots };
  const context = { config: fitted, descriptors, log, secrets, disposers, onStep: hooks.onStep ?? (() => undefined) };
  try {
    return await start(context);
  } catch (error) {
    await disposers
      .close()
      .catch((failure: unknown) => log.error({ error: errorMessage(failure) }, "a part of the server did not close"));
    throw error;
  }
}

interface StartContext {
  readonly config: Config;
  readonly descriptors: DescriptorPlan;
  readonly log: Log;
  readonly secrets: KnownSecrets;
  readonly disposers: Disposers;
  readonly onStep: (step: StartStep) => void;
}

async function start(context: StartContext): Promise<RunningServer> {
  const { config, descriptors, log, disposers, onStep } = context;
  log.info({ version: version(), node: process.version, pid: process.pid }, "starting");
  disposers.add(() => log.info({}, "stopped; workers go on, and the next start adopts them"));
  for (const warning of config.warnings) log.warn({}, warning);
  const dir = resolve(config.dataDir);
  const crashpoint = crashpointFrom(process.env["SLIPWAY_CRASH"]);
  const storage = await openStorage(context, dir, crashpoint);
  const setupToken = newSetupToken();
  const sessions = await openAccounts(context, storage, dir, setupToken);
  onStep("sessions");
  const sandbox = await openServerSandbox(config, dir, { store: storage.store, crashpoint, log });
  disposers.add(() => sandbox.close());
  for (const { id, reason } of await storage.store.setAside())
    log.warn({ task: id }, `the task is set aside: ${reason}`);
  const line = await describeSandbox(sandbox);
  log.info({}, `sandbox: ${line}`);
  onStep("sandbox");
  const heartbeat = openAliveFile(dir, log);
  disposers.add(() => heartbeat.close());
  const ids = systemIds(systemClock, heartbeat.last() ?? 0);
  const bus = memoryBus(log);
  disposers.add(() => bus.close());
  const variables = new Variables({ ...storage, clock: systemClock, log, trustedHosts: config.trustedRepoHosts });
  const grants = await openGitGrants(config.providers, { ...storage, clock: systemClock, ids, log });
  const open = { ...storage, variables, grants, sandbox, bus, disposers, heartbeat, ids };
  const parts = { config, descriptors, dir, log, crashpoint, ...open };
  const coordinator = await openCoordinator(parts);
  disposers.add(() => coordinator.close());
  onStep("coordinator");
  const url = await openHttp(context, parts, coordinator, sessions);
  recordServer(dir, url);
  log.info({}, `listening on ${url}`);
  onStep("listening");
  startBoot(context, coordinator);
  void storage.ring
    .resume()
    .catch((error: unknown) => log.warn({ error: errorMessage(error) }, "a rotation of the keys did not go on"));
  onStep("boot");
  disposers.add(() => log.info({}, "stopping"));
  return {
    url,
    setupUrl: (await sessions.needsSetup()) ? `${config.publicUrl ?? url}/setup#${setupToken}` : null,
    agent: config.agent,
    sandbox: { kind: sandbox.kind, isolates: sandbox.isolates, line },
    close: () => disposers.close(),
  };
}

interface Storage extends SqliteStore {
  readonly ring: KeyRing;
  readonly vault: Vault;
}

/** The data folder, its lock and database, and the secret key. */
async function openStorage(
  { config, log, secrets, disposers, onStep }: StartContext,
  dir: string,
  crashpoint: Crashpoint,
): Promise<Storage> {
  const created = openDataFolder(dir);
  log.info({}, `data folder: ${dir} (${created ? "new" : "existing"})`);
  onStep("data folder");
  const opened = openSqliteStore({
    dir,
    migrations: join(packageRoot(), "migrations", "sqlite"),
    crash: process.env["SLIPWAY_CRASH"],
    reserveBytes: RESERVE_BYTES,
    explainUnreadable,
    onLocked: () => cleanMirrors(join(dir, "git", "mirrors")),
  });
  disposers.add(() => opened.store.close());
  disposers.add(keepAuditShort({ audit: opened.audit, clock: systemClock, log, days: config.auditDays }));
  const [first, last] = [opened.migrated.at(0), opened.migrated.at(-1)];
  if (first !== undefined) log.info({ before: opened.copy }, `database: applied migrations ${first} to ${last}`);
  onStep("database");
  const { keys } = opened;
  const master = openSecretKey(config, dir, await readKeyFacts(keys), created);
  secrets.add(master.key.toString("hex"), master.key.toString("base64"));
  if (master.warning !== null) log.warn({}, master.warning);
  const isNamed = master.source === "setting" || master.source === "file";
  log.info({}, `secret key: ${isNamed ? `from ${master.name}` : `${master.source}, in secret.key`}`);
  const clock = systemClock;
  const ring = await openKeyRing({ keys, master: master.key, masterName: master.name, clock, log, crashpoint });
  disposers.add(() => ring.close());
  onStep("secret key");
  return { ...opened, ring, vault: ring.vault };
}

async function openAccounts(
  { config, secrets, log }: StartContext,
  { store, accounts, ring }: Storage,
  dir: string,
  setupToken: string,
): Promise<Sessions> {
  const localToken = loadOperatorToken(dir);
  secrets.add(localToken);
  const sessions = await openSessions({
    accounts,
    clock: systemClock,
    ids: systemIds(),
    keys: ring.source("sessions"),
    localToken,
    setupToken,
  });
  await createFirstAdmin(config, sessions);
  await rememberSlots(store, config.maxConcurrent);
  assertMayListen(config, !(await sessions.needsSetup()), log);
  return sessions;
}

/** The services of people: their own accounts, and log-ins with providers. */
function openLogins(parts: CoordinatorParts & { readonly sessions: Sessions }, baseUrl: () => string) {
  const { accounts, sessions, vault, grants, ids, log } = parts;
  const { providers } = grants;
  const passkeys = new Passkeys({ accounts, sessions, vault, ids, log, clock: systemClock, baseUrl });
  return {
    passkeys,
    devices: new DeviceLogins({ accounts, sessions, clock: systemClock }),
    people: new People({ accounts, sessions, passkeys, grants, clock: systemClock, ids, log }),
    logins: new ProviderLogins({ providers, grants, accounts, sessions, vault, ids, log, clock: systemClock, baseUrl }),
  };
}
type HttpParts = CoordinatorParts & Pick<SqliteStore, "audit" | "notifications">;

/** The API and the live stream. @returns the address that the server listens on. */
async function openHttp(
  context: StartContext,
  parts: HttpParts,
  coordinator: Coordinator,
  sessions: Sessions,
): Promise<string> {
  const { config, descriptors, disposers, onStep } = context;
  const { log, store, bus, sandbox, dir } = parts;
  const notifications = await openTelling(context, parts, sessions);
  const backups = await openBackups(context, dir);
  const metrics = openMonitoring(context, coordinator, { store, backups, dir, sockets: () => live.connections() });
  let url = "";
  const baseUrl = (): string => config.publicUrl ?? url;
  const deps = {
    ...openLogins({ ...parts, sessions }, baseUrl),
    tasks: coordinator.tasks,
    operations: coordinator.operations,
    budget: coordinator.budget,
    egress: coordinator.egress,
    notifications,
    sessions,
    store,
    accounts: parts.accounts,
    audit: parts.audit,
    vault: parts.vault,
    keys: parts.ring,
    variables: parts.variables,
    clock: systemClock,
    ids: parts.ids,
    log,
    checkSandbox: (signal: AbortSignal) => sandbox.check(signal),
    dataDir: dir,
    version: version(),
    webDir: findWebApp(),
    origins: config.allowedOrigins,
    trustProxy: config.trustProxy,
    isFronted: config.publicUrl !== null && !isLoopback(new URL(config.publicUrl).hostname),
    metrics,
    backup: () => backups?.status() ?? null,
  };
  const hub = openHub({ store, bus, clock: systemClock, log, views: (tasks) => toTaskViews(deps, tasks) });
  disposers.add(() => hub.close());
  const server = createServer(createApp(deps), {
    connections: descriptors.httpConnections,
    perAddress: config.addressConnections,
  });
  const live = attachWebSocketServer(server, {
    hub,
    clock: systemClock,
    log,
    authenticate: (bearer) => sessions.authenticateReader(bearer),
    redeemTicket: (ticket) => sessions.redeemTicket(ticket),
    isSessionValid: (sessionId, role) => sessions.isSessionValid(sessionId, role),
    // The latter is localhost for a loopback address, where people open it for their passkeys.
    allowedOrigins: () =>
      [new URL(baseUrl()).origin, deps.passkeys.relyingParty?.origin ?? [], config.allowedOrigins].flat(),
  });
  disposers.add(() => closeServer(server, () => live.close()));
  onStep("http");
  await listen(server, config, log);
  url = formatAddress(server.address() as AddressInfo, config.host);
  return url;
}

/** Metrics, and the log of what happens to tasks. */
function openMonitoring(
  { log, disposers }: StartContext,
  { operations, taskLog }: Coordinator,
  {
    backups,
    dir,
    ...others
  }: Pick<MetricSources, "store" | "sockets"> & { backups: BackupSchedule | null; dir: string },
): Metrics {
  const backup = (): BackupStatus | null => backups?.status() ?? null;
  const metrics = openMetrics({ ...others, operations, backup, clock: systemClock, dataDir: dir, version: version() });
  disposers.add(() => metrics.close());
  for (const listener of [metrics.onCommit, logTasks(log)]) taskLog.onCommit(listener);
  return metrics;
}

/** Null = none are scheduled. @throws SlipwayError config_invalid when a folder is not writable. */
async function openBackups({ config, log, disposers }: StartContext, dir: string): Promise<BackupSchedule | null> {
  const { backup } = config;
  if (backup === null) return null;
  const place = openBackupPlace(backup.to, config);
  // A bucket that cannot be reached now does not keep the server from its tasks.
  if (!isInBucket(backup.to)) await place.prepare();
  const schedule = new BackupSchedule({ ...backup, place, dir, clock: systemClock, log });
  disposers.add(() => schedule.close());
  return schedule;
}

/** What tells people about their tasks. */
async function openTelling(
  { config, disposers }: StartContext,
  parts: HttpParts,
  sessions: Sessions,
): Promise<NotificationService> {
  const { store, accounts, notifications, bus, ids, log, dir, ring, vault } = parts;
  const { service, close } = await openNotifications({
    store,
    notifications,
    bus,
    clock: systemClock,
    ids,
    log,
    isSessionValid: (sessionId) => sessions.isSessionValid(sessionId),
    isActive: async (userId) => (await accounts.user(userId))?.disabledAt === null,
    sealer: openDeviceSealer(vault),
    dir,
    secrets: () =>
      ring
        .source("receipts")()
        .map(({ bytes }) => bytes),
    publicUrl: config.publicUrl,
    trustedHosts: config.trustedPushHosts,
  });
  disposers.add(close);
  return service;
}

/** Runs the boot in the background; closing aborts it. */
function startBoot({ log, disposers }: StartContext, coordinator: Coordinator): void {
  const stop = new AbortController();
  const booting = coordinator.boot(stop.signal).then(
    ({ adopted }) => {
      if (adopted > 0) log.info({}, `open tasks: adopted ${adopted}`);
    },
    (error: unknown) => {
      if (!isAbort(error)) log.error({ error: errorMessage(error) }, "the boot failed");
    },
  );
  disposers.add(() => {
    stop.abort();
    return booting;
  });
}
