/** The API and the live stream, with what they show besides tasks: people, metrics, backups. */
import type { AddressInfo } from "node:net";
import { DeviceLogins } from "../../auth/device-logins.ts";
import { Passkeys } from "../../auth/passkeys/passkeys.ts";
import { People } from "../../auth/people.ts";
import { ProviderLogins } from "../../auth/providers/provider-logins.ts";
import type { Sessions } from "../../auth/sessions.ts";
import { openDeviceSealer } from "../../auth/vault.ts";
import type { Coordinator } from "../../coordinator/coordinator.ts";
import { systemClock } from "../../core/lib/runtime/system-clock.ts";
import { createApp } from "../../http/app.ts";
import { openHub } from "../../http/live/hub.ts";
import { attachWebSocketServer } from "../../http/live/websocket-server.ts";
import { toTaskViews } from "../../http/routes/tasks.ts";
import { createServer } from "../../http/server/server.ts";
import { openNotifications } from "../../notifications/open.ts";
import type { NotificationService } from "../../notifications/service.ts";
import type { SqliteStore } from "../../store/sqlite/store.ts";
import { openBackupPlace } from "../data-folder/backup-bucket.ts";
import { BackupSchedule, type BackupStatus } from "../data-folder/backup-schedule.ts";
import { isInBucket } from "../data-folder/open-bucket.ts";
import { closeServer, formatAddress, isLoopback, listen } from "../listening.ts";
import { logTasks } from "../monitoring/day-log.ts";
import { openMetrics, type Metrics, type MetricSources } from "../monitoring/metrics.ts";
import { findWebApp, version } from "../system.ts";
import type { CoordinatorParts } from "./coordinator.ts";
import type { StartContext } from "./start-context.ts";

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
export async function openHttp(
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

/** Opens the notifications of people: Web Push, ntfy topics and webhooks. */
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
