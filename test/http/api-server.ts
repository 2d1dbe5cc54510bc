/**
 * The HTTP API on a real port with a real coordinator and a real database; every answer is checked
 * against the route table.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { AuditLog } from "../../src/core/ports/records/audit.ts";
import type { UsageLedger } from "../../src/core/ports/records/usage-ledger.ts";
import type { Accounts, Role } from "../../src/core/ports/accounts.ts";
import { createApp } from "../../src/http/app.ts";
import { openMetrics } from "../../src/app/monitoring/metrics.ts";
import { routeProblems } from "../../src/http/openapi/document.ts";
import type { ApiDeps, Route } from "../../src/http/route.ts";
import { createServer, type ServerLimits } from "../../src/http/server/server.ts";
import { ROUTES } from "../../src/http/routes/index.ts";
import type { Store } from "../../src/core/ports/store.ts";
import { DeviceLogins } from "../../src/auth/device-logins.ts";
import { Passkeys } from "../../src/auth/passkeys/passkeys.ts";
import { People } from "../../src/auth/people.ts";
import { GitGrants } from "../../src/auth/providers/git-grants.ts";
import type { Provider } from "../../src/auth/providers/provider.ts";
import { ProviderLogins } from "../../src/auth/providers/provider-logins.ts";
import { openSessions, type Sessions } from "../../src/auth/sessions.ts";
import { openSqliteStore } from "../../src/store/sqlite/store.ts";
import { Variables } from "../../src/auth/variables.ts";
import { openKeyRing, type KeyRing } from "../../src/auth/keys/key-ring.ts";
import { openDeviceSealer, type Vault } from "../../src/auth/vault.ts";
import { problemSchema, type Problem } from "../../src/core/protocol/rest.ts";
import type { ManualClock } from "../support/manual-clock.ts";
import { seededIds } from "../support/manual-clock.ts";
import { openHarness, type Harness } from "../support/coordinator/harness.ts";
import { openNotifications } from "../../src/notifications/open.ts";
import type { Log } from "../../src/core/ports/runtime.ts";

export const LOCAL_TOKEN = `local_${"a".repeat(43)}`;
export const SETUP_TOKEN = `setup_${"b".repeat(43)}`;
export const PASSWORD = "correct horse battery staple";
export const REPO = "https://git.example.com/team/app";

export interface Line {
  readonly level: "debug" | "info" | "warn" | "error";
  readonly fields: Record<string, unknown>;
  readonly text: string;
}

export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The JSON of the answer; null when it is none. */
  // Each answer was checked against its schema, so tests read it without types.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: any;
}

export interface Asked {
  readonly token?: string;
  readonly body?: unknown;
  /** The raw body, in place of the JSON of `body`. */
  readonly raw?: string | Uint8Array;
  readonly headers?: Record<string, string>;
}

export interface ApiServer {
  readonly harness: Harness;
  readonly clock: ManualClock;
  readonly store: Store;
  readonly accounts: Accounts;
  readonly audit: AuditLog;
  readonly ledger: UsageLedger;
  readonly sessions: Sessions;
  readonly people: People;
  readonly vault: Vault;
  readonly grants: GitGrants;
  /** Signs receipts of notifications. */
  readonly receiptSecrets: () => Uint8Array[];
  readonly ring: KeyRing;
  readonly server: Server;
  readonly port: number;
  readonly dir: string;
  readonly lines: Line[];
  call(method: string, path: string, asked?: Asked): Promise<Answered>;
  /** Bytes in, bytes out until the server closes the connection. */
  raw(text: string | Uint8Array): Promise<string>;
  /** Creates a user with a session. */
  person(email: string, role?: Role): Promise<{ userId: string; accessToken: string; refreshToken: string }>;
  close(): Promise<void>;
}

export interface ApiServerOptions {
  readonly deps?: Partial<ApiDeps>;
  readonly limits?: Partial<ServerLimits>;
  readonly setupToken?: string | null;
  readonly providers?: readonly Provider[];
  /** The configured origin; by default where the server listens. */
  readonly publicUrl?: string;
  readonly wrapAccounts?: (accounts: Accounts) => Accounts;
}

function createLog(lines: Line[]): Log {
  const write = (level: Line["level"]) => (fields: object, text: string) => {
    lines.push({ level, fields: fields as Record<string, unknown>, text });
  };
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}

export async function openApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-http-"));
  const { store, accounts, audit, keys, ledger, notifications } = openSqliteStore({
    dir,
    migrations: join(import.meta.dirname, "../../migrations/sqlite"),
  });
  const harness = await openHarness({
    store,
    settings: {
      maxConcurrent: 1_000,
      agents: ["scripted", "anthropic"],
      model: "claude-sonnet-5-5",
      models: ["claude-sonnet-*"],
      prices: {
        "claude-sonnet-5-5": [{ input: 3, output: 15, cacheWrite5m: 3.75, cacheRead: 0.3 }],
        "claude-opus-5": [{ input: 5, output: 25, cacheWrite5m: 6.25, cacheRead: 0.5 }],
      },
    },
  });
  const { clock } = harness;
  const ids = seededIds(7);
  const lines: Line[] = [];
  const setupToken = options.setupToken === undefined ? SETUP_TOKEN : options.setupToken;
  const log = createLog(lines);
  const ring = await openKeyRing({ keys, master: randomBytes(32), masterName: "the key", clock, log });
  const sessions = await openSessions({
    accounts,
    clock,
    ids,
    keys: ring.source("sessions"),
    localToken: LOCAL_TOKEN,
    setupToken,
  });
  const { vault } = ring;
  const baseUrl = (): string => options.publicUrl ?? `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const providers = options.providers ?? [];
  const passkeys = new Passkeys({ accounts, sessions, vault, clock, ids, log, baseUrl });
  const grants = new GitGrants({ providers, accounts, keys, vault, clock, ids, log });
  const people = new People({ accounts, sessions, passkeys, grants, clock, ids, log });
  const receiptSecrets = (): Uint8Array[] =>
    ring
      .source("receipts")()
      .map(({ bytes }) => bytes);
  const told = await openNotifications({
    store,
    notifications,
    bus: harness.bus,
    clock,
    ids,
    log,
    isSessionValid: (sessionId) => sessions.isSessionValid(sessionId),
    isActive: async (userId) => (await accounts.user(userId))?.disabledAt === null,
    sealer: openDeviceSealer(vault),
    dir,
    secrets: receiptSecrets,
    publicUrl: null,
    trustedHosts: ["127.0.0.1:9"],
  });
  const { operations, taskLog } = harness.coordinator;
  const metrics = openMetrics({ store, operations, clock, sockets: () => 0, dataDir: dir, version: "0.0.0-test" });
  taskLog.onCommit(metrics.onCommit);
  const deps: ApiDeps = {
    people,
    passkeys,
    devices: new DeviceLogins({ accounts, sessions, clock }),
    logins: new ProviderLogins({ providers, grants, accounts, sessions, vault, clock, ids, log, baseUrl }),
    tasks: harness.coordinator.tasks,
    operations: harness.coordinator.operations,
    budget: harness.coordinator.budget,
    egress: harness.coordinator.egress,
    notifications: told.service,
    sessions,
    store,
    accounts: options.wrapAccounts?.(accounts) ?? accounts,
    audit,
    vault,
    keys: ring,
    variables: new Variables({ accounts, vault, clock, log, trustedHosts: [] }),
    clock,
    ids,
    log,
    checkSandbox: (signal) => harness.sandbox.check(signal),
    dataDir: dir,
    metrics,
    version: "0.0.0-test",
    ...options.deps,
  };
  const server = createServer(createApp(deps), options.limits);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    harness,
    clock,
    store,
    accounts,
    audit,
    ledger,
    sessions,
    people,
    grants,
    vault,
    receiptSecrets,
    ring,
    server,
    port,
    dir,
    lines,
    call: (method, path, asked = {}) => call(port, method, path, asked),
    raw: (text) => raw(port, text),
    async person(email, role = "user") {
      const user = await sessions.createUser({ email, password: PASSWORD, role });
      const { accessToken, refreshToken } = await sessions.login(email, PASSWORD);
      return { userId: user.id, accessToken, refreshToken };
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      metrics.close();
      await told.close();
      await harness.close();
      await store.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function call(port: number, method: string, path: string, asked: Asked): Promise<Answered> {
  const { token, body, headers } = asked;
  const payload = asked.raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    headers: {
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(payload === undefined ? {} : { "content-type": "application/json" }),
      ...headers,
    },
    ...(payload === undefined ? {} : { body: payload as string }),
  });
  const text = await response.text();
  const isJson = text !== "" && /json/.test(response.headers.get("content-type") ?? "");
  const answered: Answered = {
    status: response.status,
    headers: response.headers,
    text,
    body: isJson ? JSON.parse(text) : null,
  };
  if (method !== "HEAD") conforms(method, path, answered);
  return answered;
}

/**
 * Throws unless the route table declares the status, the media type, the fields and the error code.
 */
export function conforms(method: string, path: string, answered: Answered): void {
  const row = rowFor(method, path);
  if (row === undefined || (answered.status >= 400 && row.answers[answered.status] === undefined)) {
    const problem = problemSchema.parse(answered.body) as Problem;
    expect(answered.headers.get("content-type")).toBe("application/problem+json; charset=utf-8");
    expect(problem.status).toBe(answered.status);
    if (row !== undefined) expect(routeProblems(row)).toContain(problem.code);
    return;
  }
  const answers = row.answers[answered.status];
  if (answers === undefined)
    throw new Error(`${method} ${path} answered ${answered.status}, which its row does not name`);
  const type = answered.headers.get("content-type") ?? "";
  const fits = answers.some((answer) => {
    if ("empty" in answer) return answered.text === "";
    if ("media" in answer) return type === `${answer.media}; charset=utf-8`;
    if ("binary" in answer) return type === answer.binary;
    return type === "application/json; charset=utf-8" && answer.schema.safeParse(answered.body).success;
  });
  if (!fits) throw new Error(`${method} ${path} ${answered.status} does not conform: ${answered.text.slice(0, 2_000)}`);
}

function rowFor(method: string, path: string): Route | undefined {
  const plain = path.split("?", 1)[0] ?? "";
  return ROUTES.find((row) => {
    const pattern = new RegExp(`^${row.path.replaceAll(".", "\\.").replaceAll(/:\w+/g, "[^/]+")}$`);
    return row.method.toUpperCase() === method && pattern.test(plain);
  });
}

function raw(port: number, text: string | Uint8Array): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("error", (error: NodeJS.ErrnoException) =>
      error.code === "ECONNRESET" || error.code === "EPIPE" ? undefined : reject(error),
    );
    socket.on("close", () => resolve(Buffer.concat(chunks).toString("latin1")));
    socket.write(text);
  });
}
