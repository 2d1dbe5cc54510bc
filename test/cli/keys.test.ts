/** Keys of a real server: rotated under requests, killed in the middle, stolen, lost. */
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  createReadStream,
  createWriteStream,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, expect } from "vitest";
import { writeBackup } from "../../src/app/data-folder/backup.ts";
import { restoreBackup } from "../../src/app/data-folder/restore.ts";
import { rotateMaster } from "../../src/app/data-folder/rotate-master.ts";
import { openSecretKey, readKeyFacts } from "../../src/app/secrets.ts";
import { openKeyRing, openWrapper } from "../../src/auth/keys/key-ring.ts";
import { variableContext } from "../../src/auth/vault.ts";
import { systemClock } from "../../src/core/lib/runtime/system-clock.ts";
import Database from "../../src/store/sqlite/driver.ts";
import { openSqliteStore } from "../../src/store/sqlite/store.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { eventually, launch, ROOT, startServer, type RealServer } from "../support/process/server.ts";
import { openScanner } from "../support/scanner.ts";
import { killAll, makeHome, run, type Ended } from "./command.ts";
import { inTurnTogether } from "../support/vitest/full-run.ts";

const it = inTurnTogether(3, 2);

const PASSWORD = "seven green lanterns";
const GIT = { username: "ann", password: "git-Secret-0123456789" };
const VARIABLES = 60;

let dir: string;
let data: string;
let upstream: GitServer;
let repo: { url: string };
let server: RealServer;
let home: string;
let remove: () => void;
/** Restored from a backup that was taken before any rotation, and the secret key of then. */
let before: { readonly folder: string; readonly key: string };
/** Everything that must not be in the files, by its name. */
const secrets: Record<string, string> = { password: PASSWORD, credential: GIT.password };

const start = async (crash?: string, env: Record<string, string> = {}): Promise<RealServer> => {
  const trusted = { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, SLIPWAY_LOG_LEVEL: "warn" };
  const crashing = crash === undefined ? {} : { SLIPWAY_CRASH: crash };
  return (server = await startServer({ dataDir: data, env: { ...trusted, ...crashing, ...env } }));
};
const admin = (...args: string[]): Promise<Ended> => run(home, [...args, "--data-dir", data]);
/** Without a server: what `keys rotate` and a start have to do with the folder alone. */
const offline = (env: Record<string, string>, ...args: string[]): Promise<Ended> =>
  run(home, [...args, "--data-dir", data], { env });

type Settings = Parameters<typeof openSecretKey>[0];
const NONE: Settings = { secretKey: null, secretKeyFile: null };
/**
 * What a start does with a folder that no server uses: finds the secret key, opens the keys, and
 * with them each value.
 * @throws SlipwayError as a start.
 */
async function openFolder(folder: string, settings = NONE): Promise<string[]> {
  const opened = openSqliteStore({ dir: folder, migrations: join(ROOT, "migrations", "sqlite") });
  try {
    const { key, name } = openSecretKey(settings, folder, await readKeyFacts(opened.keys), false);
    const log = { info: () => undefined, warn: () => undefined };
    const ring = await openKeyRing({ keys: opened.keys, master: key, masterName: name, clock: systemClock, log });
    const user = (await opened.accounts.users()).find(({ email }) => email === "ann@example.com");
    const stored = await opened.accounts.variables(user?.id ?? "", null);
    return stored.map((row) => ring.vault.open(row.sealed, variableContext(row.userId, row.repo, row.name))).toSorted();
  } finally {
    await opened.store.close();
  }
}

/** A backup of the folder without its key, restored into a new folder. */
async function copyByBackup(name: string): Promise<string> {
  const file = join(dir, `${name}.tar.gz`);
  await writeBackup(data, createWriteStream(file, { flags: "wx", mode: 0o600 }), { hasKey: false });
  const copy = join(dir, name);
  await restoreBackup(createReadStream(file), copy);
  return copy;
}
const readKey = (): string => readFileSync(join(data, "secret.key"), "utf8").trim();
const putKey = (folder: string, key: string): void => writeFileSync(join(folder, "secret.key"), key, { mode: 0o600 });

interface Grant {
  readonly accessToken: string;
  readonly refreshToken: string;
}
const login = async (): Promise<Grant> => {
  const body = { email: "ann@example.com", password: PASSWORD };
  const answer = await server.call("POST", "/v1/auth/login", body, { authorization: "" });
  expect(answer.status).toBe(200);
  return answer.body as Grant;
};
const refresh = async ({ refreshToken }: Grant): Promise<Grant> => {
  const answer = await server.call("POST", "/v1/auth/refresh", { refreshToken }, { authorization: "" });
  expect([answer.status, answer.body]).toEqual([200, expect.anything()]);
  return answer.body as Grant;
};
const as = ({ accessToken }: Grant, path: string) =>
  server.call("GET", path, undefined, { authorization: `Bearer ${accessToken}` });
const values = async (grant: Grant): Promise<string[]> =>
  ((await as(grant, "/v1/variables?limit=100")).body as { items: { value: string }[] }).items.map(({ value }) => value);
const expected = Array.from({ length: VARIABLES }, (_, i) => `value-${i}-of-ann`).sort();

interface Key {
  readonly id: string;
  readonly use: string;
  readonly state: string;
  readonly sealed: number | null;
}
const listKeys = async (): Promise<Key[]> =>
  ((await server.call("GET", "/v1/keys?limit=1000")).body as { items: Key[] }).items;
const sealedBy = async (): Promise<Key[]> => (await listKeys()).filter(({ sealed }) => (sealed ?? 0) > 0);

const submit = async (grant: Grant, script: readonly object[]): Promise<string> => {
  const body = { repo: repo.url, prompt: "Do it.", script, agent: "scripted", maxAttempts: 1 };
  const answer = await server.call("POST", "/v1/tasks", body, { authorization: `Bearer ${grant.accessToken}` });
  expect([answer.status, answer.body]).toEqual([201, expect.anything()]);
  return (answer.body as { id: string }).id;
};
const until = (id: string, state: string): Promise<unknown> =>
  eventually(async () => ((await server.task(id)).state === state ? true : null), `${id} is ${state}`);

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-keys-"));
  data = join(dir, "data");
  upstream = await startGitServer({ auth: GIT });
  repo = upstream.createRepo("app");
  ({ home, remove } = makeHome());
  await start();
  const user = { email: "ann@example.com", password: PASSWORD, role: "user" };
  expect((await server.call("POST", "/v1/users", user)).status).toBe(201);
  const { accessToken } = await login();
  const authorization = `Bearer ${accessToken}`;
  const credential = { host: upstream.host, kind: "token", username: GIT.username, token: GIT.password };
  expect((await server.call("POST", "/v1/credentials", credential, { authorization })).status).toBe(201);
  const put = (i: number) => {
    const body = { repo: `https://example.com/o/r${i % 2}`, name: `V_${i}`, value: `value-${i}-of-ann`, secret: false };
    return server.call("POST", "/v1/variables", body, { authorization });
  };
  const made = await Promise.all(expected.map((_, i) => put(i)));
  expect(made.filter(({ status }) => status >= 300)).toEqual([]);
  before = { folder: await copyByBackup("before"), key: readKey() };
});

afterAll(async () => {
  killAll();
  await server.kill();
  await upstream.close();
  remove();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

it("[H16] a folder from before there were data keys goes on with its sessions, workers and values", async () => {
  const grant = await login();
  await server.kill();
  // The first data keys are the secrets that were derived from the secret key before.
  const db = new Database(join(data, "slipway.db"));
  db.exec("DELETE FROM data_keys");
  db.close();
  await start();
  expect((await as(grant, "/v1/me")).status).toBe(200);
  const next = await refresh(grant);
  expect((await values(next)).sort()).toEqual(expected);
  expect(await sealedBy()).toMatchObject([{ state: "active", sealed: VARIABLES + 1 }]);
  await until(await submit(next, [{ write: { path: "a.txt", content: "a" } }]), "done");
});

it("[H16] rotations under log-ins, requests, refreshes and a running worker lose nothing", async () => {
  const gate = join(dir, "gate");
  const first = await login();
  const running = await submit(first, [{ bash: `until [ -e ${gate} ]; do sleep 0.1; done; echo 1 > done.txt` }]);
  await until(running, "running");
  const environs = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  for (const pid of environs) {
    const pairs = readEnviron(pid);
    const token = pairs.find((pair) => pair.startsWith("SLIPWAY_TOKEN="));
    if (token !== undefined && pairs.some((pair) => pair.includes(data))) secrets["worker"] = token.slice(14);
  }
  expect(secrets["worker"]).toMatch(/^att_/);

  const stop = new AbortController();
  let [refreshes, logins] = [0, 0];
  const refreshing = Array.from({ length: 2 }, async () => {
    let grant = await login();
    while (!stop.signal.aborted) {
      // Every second answer is lost: the same token comes again, perhaps under another key.
      if (refreshes % 2 === 0) await refresh(grant);
      grant = await refresh(grant);
      refreshes += 1;
      expect((await as(grant, "/v1/me")).status).toBe(200);
    }
    return grant;
  });
  const loggingIn = (async () => {
    for (; !stop.signal.aborted; logins += 1, await delay(250))
      expect((await as(await login(), "/v1/me")).status).toBe(200);
  })();
  // 50 requests a second, whatever the answers take.
  const reading = (async () => {
    const answers: Promise<number>[] = [];
    // However fast the rotations are, there is load before and after them.
    for (; !stop.signal.aborted || answers.length <= 50; await delay(20))
      answers.push(as(first, "/v1/me").then(({ status }) => status));
    const statuses = await Promise.all(answers);
    expect(statuses.filter((status) => status !== 200)).toEqual([]);
    expect(statuses.length).toBeGreaterThan(50);
  })();
  const load = Promise.all([...refreshing, loggingIn, reading]);
  load.catch(() => undefined);
  for (let i = 1; i <= 2; i++) {
    const seen = refreshes;
    if (i === 1) {
      const rotated = await admin("keys", "rotate");
      expect(rotated).toMatchObject({ code: 0, out: expect.stringContaining(`${VARIABLES + 1} stored values sealed`) });
    } else {
      const rotated = await server.call("POST", "/v1/keys/rotate");
      expect(rotated).toMatchObject({ status: 200, body: { resealed: VARIABLES + 1, unreadable: 0 } });
    }
    await expect.poll(() => refreshes).toBeGreaterThan(seen + 2);
    expect(await sealedBy()).toMatchObject([{ state: "active", sealed: VARIABLES + 1 }]);
  }
  stop.abort();
  const [grant] = await load;
  expect(logins).toBeGreaterThan(0);
  expect((await as(first, "/v1/me")).status).toBe(200);
  const keys = await listKeys();
  expect(keys.map(({ state }) => state)).toEqual([...Array(4).fill("active"), ...Array(8).fill("retired")]);

  // A restart derives the worker's token from a key that was retired twice.
  await server.kill();
  await start();
  writeFileSync(gate, "");
  await until(running, "done");
  const last = await refresh(grant as Grant);
  expect((await values(last)).sort()).toEqual(expected);
  await until(await submit(last, [{ write: { path: "b.txt", content: "b" } }]), "done");
  const { body } = await server.call("GET", "/v1/audit?action=rotateKeys");
  expect((body as { items: unknown[] }).items).toMatchObject(Array(2).fill({ outcome: "ok", via: "local" }));
  Object.assign(secrets, { access: last.accessToken, refresh: last.refreshToken });
});

it("[H16] killed in a rotation, a restart opens everything and goes on; sent again, it has no second effect", async () => {
  const grant = await login();
  await server.kill();
  // Half of the values are sealed again then.
  await start("keys.resealed:1");
  const count = (await listKeys()).length;
  const headers = { authorization: `Bearer ${server.token}`, "idempotency-key": "rotate-once" };
  await expect(server.call("POST", "/v1/keys/rotate", undefined, headers)).rejects.toThrow();
  expect(await server.exited).toBe("SIGKILL");
  await start();
  expect((await values(await refresh(grant))).sort()).toEqual(expected);
  await expect.poll(sealedBy).toMatchObject([{ state: "active", sealed: VARIABLES + 1 }]);
  expect((await server.call("POST", "/v1/keys/rotate", undefined, headers)).status).toBe(200);
  expect((await listKeys()).length).toBe(count + 4);
});

it("[H16] the secret key is replaced while the server is stopped, also when that is killed", async () => {
  const grant = await login();
  const first = readKey();
  const beside = await offline({}, "keys", "rotate", "--master");
  expect(beside).toMatchObject({ code: 2, err: expect.stringMatching(/Stop it first/) });
  await server.kill();
  for (const [crash, isNew] of [
    ["keys.written:1", false],
    ["store.inside:1", false],
    ["keys.wrapped:1", true],
  ] as const) {
    const old = readKey();
    expect((await offline({ SLIPWAY_CRASH: crash }, "keys", "rotate", "--master")).code).toBe(null);
    expect(await openFolder(data)).toEqual(expected);
    expect(readKey() !== old).toBe(isNew);
    expect(existsSync(join(data, "secret.key.next"))).toBe(false);
  }

  const own = readKey();
  putKey(data, first);
  expect(await refused({})).toMatch(/secret\.key is not the secret key of .* Restore that key/);
  rmSync(join(data, "secret.key"));
  await expect(openFolder(data)).rejects.toThrow(/The secret key of .* is missing/);
  expect(existsSync(join(data, "secret.key"))).toBe(false);

  const [file, next] = [join(dir, "key"), join(dir, "next")];
  writeFileSync(file, own, { mode: 0o644 });
  const named = { secretKey: null, secretKeyFile: file };
  await expect(openFolder(data, named)).rejects.toThrow(/Other users can read .*key\. Run: chmod 600/);
  chmodSync(file, 0o600);
  writeFileSync(next, "00".repeat(32), { mode: 0o600 });
  await expect(rotateMaster({ ...named, dataDir: data }, next)).rejects.toThrow(/next would be guessed/);
  writeFileSync(next, randomBytes(32).toString("hex"));
  const args = ["keys", "rotate", "--master", "--new-key-file", next];
  const rotated = await offline({ SLIPWAY_SECRET_KEY_FILE: file }, ...args);
  expect(rotated).toMatchObject({ code: 0, out: expect.stringMatching(/Now set SLIPWAY_SECRET_KEY_FILE/) });
  await expect(openFolder(data, named)).rejects.toThrow(/key is not the secret key of/);
  await start(undefined, { SLIPWAY_SECRET_KEY_FILE: next });
  const last = await refresh(grant);
  expect((await values(last)).sort()).toEqual(expected);
  const master = readFileSync(next, "utf8");
  Object.assign(secrets, { master, access2: last.accessToken, refresh2: last.refreshToken });
});

it("[H16] [M10] a backup from before the rotations opens with the key of then, one from after with the new one", async () => {
  const after = { folder: await copyByBackup("after"), key: secrets["master"] ?? "" };
  for (const [mine, other] of [
    [before, after],
    [after, before],
  ] as const) {
    putKey(mine.folder, other.key);
    await expect(openFolder(mine.folder)).rejects.toThrow(/is not the secret key of/);
    putKey(mine.folder, mine.key);
    expect(await openFolder(mine.folder)).toEqual(expected);
  }
});

it("[H16] the files of a data folder without its keys contain no secret in any form", async () => {
  const grant = await login();
  const token = await server.call(
    "POST",
    "/v1/tokens",
    { name: "ci" },
    { authorization: `Bearer ${grant.accessToken}` },
  );
  Object.assign(secrets, {
    access3: grant.accessToken,
    refresh3: grant.refreshToken,
    token: (token.body as { token: string }).token,
  });
  expected.forEach((value, i) => void (secrets[`variable ${i}`] = value));
  const bytes = readDataKeys();
  expect(bytes).toHaveLength(16);
  for (const [i, key] of bytes.entries())
    Object.assign(secrets, { [`key ${i} hex`]: key.toString("hex"), [`key ${i}`]: key.toString("base64") });
  const scanner = openScanner(secrets, join(dir, "patterns"));
  const files = readdirSync(data, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && entry.name !== "operator.token",
  );
  const found = files.flatMap(({ parentPath, name }) => {
    const content = readFileSync(join(parentPath, name));
    const raw = bytes.filter((key) => content.includes(key)).map(() => "a data key");
    return [...raw, ...scanner.bytes(content)].map((secret) => `${secret} in ${join(parentPath, name)}`);
  });
  expect(files.length).toBeGreaterThan(5);
  expect(found).toEqual([]);
});

it("[H16] a lost secret key costs what it sealed, and nothing else", async () => {
  await server.kill();
  expect((await offline({}, "keys", "reset")).code).toBe(2);
  expect(await offline({}, "keys", "reset", "--yes")).toMatchObject({ code: 0 });
  await start();
  const grant = await login();
  expect(await values(grant)).toEqual([]);
  expect(((await as(grant, "/v1/tasks")).body as { items: unknown[] }).items).toHaveLength(3);
  expect((await listKeys()).map(({ state }) => state)).toEqual(Array(4).fill("active"));
});

/** Unwrapped with the secret key, as the server does. */
function readDataKeys(): Buffer[] {
  const db = new Database(join(data, "slipway.db"), { readonly: true });
  const rows = db
    .prepare<[], { id: string; use: string; wrapped: string }>("SELECT id, use, wrapped FROM data_keys")
    .all();
  db.close();
  const wrapper = openWrapper(Buffer.from(secrets["master"] ?? "", "hex"));
  return rows.map(({ id, use, wrapped }) => Buffer.from(wrapper.open(wrapped, `data key ${use} ${id}`), "base64"));
}

/** What a start says that is refused. */
async function refused(env: Record<string, string>): Promise<string> {
  const starting = launch({ dataDir: data, env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host, ...env } });
  await expect(starting.exited).resolves.toBe(2);
  return starting.stderr();
}

function readEnviron(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
  } catch {
    // It has ended.
    return [];
  }
}
