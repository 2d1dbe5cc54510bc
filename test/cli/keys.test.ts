/** Keys of a real server: rotated under requests, killed in the middle, stolen, lost. */
import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openWrapper } from "../../src/auth/keys/key-ring.ts";
import Database from "../../src/store/sqlite/driver.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { eventually, launch, startServer, type RealServer } from "../support/process/server.ts";
import { openScanner } from "../support/scanner.ts";
import { killAll, makeHome, run, type Ended } from "./command.ts";

const PASSWORD = "seven green lanterns";
const GIT = { username: "ann", password: "git-Secret-0123456789" };
const VARIABLES = 60;
const TIMEOUT = { timeout: 240_000 };

let dir: string;
let data: string;
let upstream: GitServer;
let repo: { url: string };
let server: RealServer;
let home: string;
let remove: () => void;
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
}, 120_000);

afterAll(async () => {
  killAll();
  await server.kill();
  await upstream.close();
  remove();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

it("[H16] three rotations under log-ins, refreshes and a running worker lose nothing", TIMEOUT, async () => {
  const gate = join(dir, "gate");
  const before = await login();
  const running = await submit(before, [{ bash: `until [ -e ${gate} ]; do sleep 0.1; done; echo 1 > done.txt` }]);
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
    for (; !stop.signal.aborted; logins += 1) expect((await as(await login(), "/v1/me")).status).toBe(200);
  })();
  const load = Promise.all([...refreshing, loggingIn]);
  load.catch(() => undefined);
  for (let i = 1; i <= 3; i++) {
    const seen = refreshes;
    const rotated = await admin("keys", "rotate");
    expect(rotated).toMatchObject({ code: 0, out: expect.stringContaining(`${VARIABLES + 1} stored values sealed`) });
    await expect.poll(() => refreshes, { timeout: 30_000 }).toBeGreaterThan(seen + 4);
    expect(await sealedBy()).toMatchObject([{ state: "active", sealed: VARIABLES + 1 }]);
  }
  stop.abort();
  const [grant] = await load;
  expect(logins).toBeGreaterThan(0);
  const old = await as(before, "/v1/me");
  expect(old.status).toBe(200);
  const keys = await listKeys();
  expect(keys.map(({ state }) => state)).toEqual([...Array(4).fill("active"), ...Array(12).fill("retired")]);

  // A restart derives the worker's token from a key that was retired three times ago.
  await server.kill();
  await start();
  writeFileSync(gate, "");
  await until(running, "done");
  const last = await refresh(grant as Grant);
  expect((await values(last)).sort()).toEqual(expected);
  await until(await submit(last, [{ write: { path: "b.txt", content: "b" } }]), "done");
  const { body } = await server.call("GET", "/v1/audit?action=rotateKeys");
  expect((body as { items: unknown[] }).items).toMatchObject(Array(3).fill({ outcome: "ok", via: "local" }));
  Object.assign(secrets, { access: last.accessToken, refresh: last.refreshToken });
});

it("[H16] killed at each step of a rotation, a restart opens everything and goes on", TIMEOUT, async () => {
  let grant = await login();
  for (const crash of ["keys.added:1", "keys.resealed:1", "keys.resealed:2"]) {
    await server.kill();
    await start(crash);
    const count = (await listKeys()).length;
    const again = { "idempotency-key": `rotate-after-${crash}` };
    const headers = { authorization: `Bearer ${server.token}`, ...again };
    await expect(server.call("POST", "/v1/keys/rotate", undefined, headers)).rejects.toThrow();
    expect(await server.exited).toBe("SIGKILL");
    await start();
    grant = await refresh(grant);
    expect((await values(grant)).sort()).toEqual(expected);
    await expect.poll(sealedBy).toMatchObject([{ state: "active", sealed: VARIABLES + 1 }]);
    // Sent again, the call has no second effect.
    expect((await server.call("POST", "/v1/keys/rotate", undefined, headers)).status).toBe(200);
    expect((await listKeys()).length).toBe(count + 4);
  }
});

it("[H16] the secret key is replaced while the server is stopped, also when that is killed", TIMEOUT, async () => {
  let grant = await login();
  const key = (): string => readFileSync(join(data, "secret.key"), "utf8").trim();
  const first = key();
  expect(await offline({}, "keys", "rotate", "--master")).toMatchObject({
    code: 2,
    err: expect.stringMatching(/Stop it first/),
  });
  for (const [crash, isNew] of [
    ["keys.written:1", false],
    ["store.inside:1", false],
    ["keys.wrapped:1", true],
    ["", true],
  ] as const) {
    const before = key();
    await server.kill();
    await offline(crash === "" ? {} : { SLIPWAY_CRASH: crash }, "keys", "rotate", "--master");
    await start();
    expect(key() !== before).toBe(isNew);
    expect(existsSync(join(data, "secret.key.next"))).toBe(false);
    grant = await refresh(grant);
    expect((await values(grant)).sort()).toEqual(expected);
  }
  await server.kill();

  const own = key();
  writeFileSync(join(data, "secret.key"), first, { mode: 0o600 });
  expect(await refused({})).toMatch(/secret\.key is not the secret key of .* Restore that key/);
  rmSync(join(data, "secret.key"));
  expect(await refused({})).toMatch(/The secret key of .* is missing/);
  expect(existsSync(join(data, "secret.key"))).toBe(false);

  const [file, next] = [join(dir, "key"), join(dir, "next")];
  writeFileSync(file, own, { mode: 0o644 });
  expect(await refused({ SLIPWAY_SECRET_KEY_FILE: file })).toMatch(/Other users can read .*key\. Run: chmod 600/);
  chmodSync(file, 0o600);
  expect(await refused({ SLIPWAY_SECRET_KEY_FILE: file, SLIPWAY_SECRET_KEY: own })).toMatch(/not both/);
  writeFileSync(next, "00".repeat(32), { mode: 0o600 });
  const rotate = () => offline({ SLIPWAY_SECRET_KEY_FILE: file }, "keys", "rotate", "--master", "--new-key-file", next);
  expect((await rotate()).err).toMatch(/next would be guessed/);
  writeFileSync(next, randomBytes(32).toString("hex"));
  expect(await rotate()).toMatchObject({ code: 0, out: expect.stringMatching(/Now set SLIPWAY_SECRET_KEY_FILE/) });
  expect(await refused({ SLIPWAY_SECRET_KEY_FILE: file })).toMatch(/key is not the secret key of/);
  await start(undefined, { SLIPWAY_SECRET_KEY_FILE: next });
  grant = await refresh(grant);
  expect((await values(grant)).sort()).toEqual(expected);
  Object.assign(secrets, {
    master: readFileSync(next, "utf8"),
    access2: grant.accessToken,
    refresh2: grant.refreshToken,
  });
});

it("[H16] the files of a data folder without its keys contain no secret in any form", TIMEOUT, async () => {
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
  expect(bytes.length).toBeGreaterThan(20);
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

it("[H16] a lost secret key costs what it sealed, and nothing else", TIMEOUT, async () => {
  await server.kill();
  expect((await offline({}, "keys", "reset")).code).toBe(2);
  expect(await offline({}, "keys", "reset", "--yes")).toMatchObject({ code: 0 });
  await start();
  const grant = await login();
  expect(await values(grant)).toEqual([]);
  expect(((await as(grant, "/v1/tasks")).body as { items: unknown[] }).items).toHaveLength(2);
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
