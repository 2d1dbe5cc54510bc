/**
 * Starts and stops the server.
 *
 * A1 Each part registers how to close it as soon as it is open. A start that fails closes what is
 *    open in reverse order and rejects; nothing runs afterwards.
 * A2 Listening does not wait for the clean-up that follows a crash.
 * A3 `close` aborts a boot that still runs, then closes every part in reverse order. Sandboxes go
 *    on running.
 */
import { join, resolve } from "node:path";
import { findWeakness } from "../auth/password-rules.ts";
import { openGitGrants } from "../auth/providers/git-grants.ts";
import { openSessions, type Sessions } from "../auth/sessions.ts";
import { keepAuditShort } from "./data-folder/audit-retention.ts";
import { openAliveFile } from "./data-folder/alive-file.ts";
import { Variables } from "../auth/variables.ts";
import { openKeyRing, type KeyRing } from "../auth/keys/key-ring.ts";
import type { Vault } from "../auth/vault.ts";
import type { Coordinator } from "../coordinator/coordinator.ts";
import { explainUnreadable } from "../../machines/fold.ts";
import { errorMessage, isAbort, SlipwayError } from "../core/error.ts";
import { crashpointFrom, type Crashpoint } from "../core/lib/runtime/crashpoint.ts";
import { Disposers } from "../core/lib/disposers.ts";
import { describeReduction, planDescriptors, readDescriptorLimit } from "../core/lib/runtime/descriptors.ts";
import { packageRoot } from "../core/lib/runtime/package-root.ts";
import { limitLogRate } from "../core/lib/runtime/rate-limited-log.ts";
import type { Log } from "../core/ports/runtime.ts";
import { cleanMirrors } from "../git/mirrors.ts";
import { openSqliteStore, type SqliteStore } from "../store/sqlite/store.ts";
import type { Config } from "./config.ts";
import { loadBucketKeys, usesBucket } from "./data-folder/open-bucket.ts";
import { openDataFolder, recordServer } from "./data-folder/data-folder.ts";
import { assertMayListen } from "./listening.ts";
import { memoryBus } from "./memory-bus.ts";
import { KnownSecrets, openLog, secretsOf } from "./monitoring/open-log.ts";
import { loadOperatorToken, newSetupToken, openSecretKey, readKeyFacts } from "./secrets.ts";
import { systemClock } from "../core/lib/runtime/system-clock.ts";
import { checkSigningKey } from "../git/branch/sign.ts";
import { RESERVE_BYTES } from "./disk-space.ts";
import { rememberSlots, systemIds, version } from "./system.ts";
import { checkAgent } from "./wiring/coordinator-settings.ts";
import { openCoordinator } from "./wiring/coordinator.ts";
import { openHttp } from "./wiring/http.ts";
import { describeSandbox, openServerSandbox } from "./wiring/sandbox.ts";
import type { StartContext, StartStep } from "./wiring/start-context.ts";

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
  recordServer(dir, url, log);
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

async function createFirstAdmin({ admin }: Config, sessions: Sessions): Promise<void> {
  if (admin === null || !(await sessions.needsSetup())) return;
  const weakness = findWeakness(admin.password, admin.email);
  if (weakness !== null)
    throw new SlipwayError("config_invalid", `SLIPWAY_ADMIN_PASSWORD ${weakness}: choose several words.`);
  await sessions.createUser({ ...admin, role: "admin" });
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
