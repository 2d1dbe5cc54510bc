/** Commands about people against a real server: what an admin and a person do without a browser. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { startServer, type RealServer } from "../support/process/server.ts";
import Database from "../../src/store/sqlite/driver.ts";
import { killAll, makeHome, run, type Ended } from "./command.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(3);

const PASSWORD = "seven green lanterns";
let dir: string;
let server: RealServer;
let home: string;
let remove: () => void;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-people-"));
  const key = join(dir, "signing.key");
  execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  const env = { SLIPWAY_SIGNING_KEY_FILE: key, SLIPWAY_GIT_AUTHOR: "Bot <bot@example.org>" };
  server = await startServer({ dataDir: join(dir, "data"), sandbox: "simulated", env });
  ({ home, remove } = makeHome());
});
afterAll(async () => {
  killAll();
  await server.kill();
  remove();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

/** As the operator of the data folder. */
const admin = (...args: string[]): Promise<Ended> => run(home, [...args, "--data-dir", join(dir, "data")]);
/** As a person elsewhere. */
const person = (env: Record<string, string>, ...args: string[]): Promise<Ended> =>
  run(home, [...args, "--url", server.url], { env });

/** The server's own file, for what needs a browser or ten minutes. */
function withDatabase<T>(work: (db: InstanceType<typeof Database>) => T): T {
  const db = new Database(join(dir, "data", "slipway.db"));
  try {
    return work(db);
  } finally {
    db.close();
  }
}

it("[H7] an invitation, a log-in, sessions, a new password, a role, and the end of it", async () => {
  const invited = await admin("users", "invite", "--role", "operator", "--email", "ann@example.com", "--json");
  const { token, url } = JSON.parse(invited.out) as { token: string; url: string };
  expect(url).toBe(`${server.url}/join#${token}`);
  const joined = await server.call("POST", "/v1/links/accept", { token, password: PASSWORD }, { authorization: "" });
  expect(joined.status).toBe(201);

  const login = await person({ SLIPWAY_PASSWORD: PASSWORD }, "login", "--email", "ann@example.com");
  expect(login.out).toContain("as ann@example.com (operator)");
  const sessions = await person({}, "sessions", "list");
  expect(sessions.out).toMatch(/slipway \(this one\)/);
  expect(sessions.out.trim().split("\n")).toHaveLength(3);
  expect((await person({}, "sessions", "end", "--all")).out).toBe("Ended.\n");
  expect((await person({}, "sessions", "list")).out.trim().split("\n")).toHaveLength(2);
  expect((await person({}, "sessions", "end")).code).toBe(2);

  const secrets = { SLIPWAY_PASSWORD: PASSWORD, SLIPWAY_NEW_PASSWORD: "password1234" };
  const weak = await person(secrets, "password");
  expect([weak.code, weak.err]).toEqual([2, expect.stringContaining("is one of the most common passwords")]);
  const changed = await person({ ...secrets, SLIPWAY_NEW_PASSWORD: `${PASSWORD}!` }, "password");
  expect(changed.out).toContain("Changed.");

  expect((await person({}, "identity")).out).toBe(
    "you        by the e-mail address of your account\n" +
      "as         co-author; the author is Bot <bot@example.org>\n" +
      "signed     yes, by the server when it pushes\n",
  );
  const named = ["identity", "set", "--name", "Ann Lee", "--email", "ann@example.org"];
  expect((await person({}, ...named, "--as", "author")).out).toContain("next attempt");
  const mine = await person({}, "identity");
  expect(mine.out).toMatch(/^you +Ann Lee <ann@example.org>\nas +author\n/);
  const refused = await person({}, "identity", "set", "--name", "A <b>", "--email", "nobody");
  expect([refused.code, refused.err]).toEqual([2, expect.stringMatching(/name[^]*e-mail address/)]);
  expect((await person({}, "identity", "reset")).code).toBe(0);
  expect(JSON.parse((await person({}, "identity", "--json")).out)).toMatchObject({ identity: null });

  const made = await person({}, "token", "add", "ci", "--scopes", "read,submit", "--json");
  expect((JSON.parse(made.out) as { scopes: string[] }).scopes).toEqual(["read", "submit"]);
  expect((await person({}, "token", "add", "ci", "--scopes", "all")).code).toBe(2);
  expect((await person({}, "token", "list")).out).toContain("read,submit");

  expect((await admin("users", "role", "ann@example.com", "user")).out).toContain("ann@example.com  user");
  expect((await admin("users", "disable", "ann@example.com")).code).toBe(2);
  expect((await admin("users", "disable", "Ann@example.com", "--tasks", "keep")).out).toContain("disabled");
  expect((await person({}, "tasks")).code).not.toBe(0);
  expect((await admin("users", "list")).out).toContain("user, disabled");
  expect((await admin("users", "enable", "ann@example.com")).out).not.toContain("disabled");
  const reset = await admin("users", "reset", "ann@example.com");
  expect(reset.out).toMatch(/^http:\/\/\S+\/join#lnk_[\w-]{43}\n$/);
  expect((await admin("users", "reset", "nobody@example.com")).err).toContain("There is no person");

  const out = join(dir, "ann.tar.gz");
  expect((await admin("export", "--user", "ann@example.com", "--out", out)).out).toContain("Written to");
  expect(gunzipSync(readFileSync(out)).includes("ann@example.com")).toBe(true);
  expect((await admin("export", "--user", "ann@example.com", "--out", out)).err).toContain("EEXIST");
  expect((await admin("users", "delete", "ann@example.com")).err).toContain("Add --yes: this is no terminal.");
  expect((await admin("users", "delete", "ann@example.com", "--yes")).out).toContain("Deleted.");
  expect((await admin("users", "list")).out).not.toContain("ann@example.com");
});

it("[N6] a topic and a webhook are added, listed, tried and removed", async () => {
  const topic = ["notifications", "ntfy", "https://ntfy.example.com/my-topic", "--for", "needs_you,failed", "--token"];
  const added = await run(home, [...topic, "--data-dir", join(dir, "data")], { env: { SLIPWAY_NTFY_TOKEN: "tk_1" } });
  expect([added.code, added.out]).toEqual([0, expect.stringMatching(/^Added dev_\w+\. Try it: /)]);
  const hook = await admin("notifications", "webhook", "https://hook.example.com/x", "--label", "Chat");
  expect([hook.out, hook.err]).toEqual([
    expect.stringMatching(/^whsec_\S+\n$/),
    expect.stringContaining("not shown again"),
  ]);
  const listed = await admin("notifications");
  expect(listed.out).toMatch(/^ID +VIA +NAME +AT +FOR +SHOWN\n/);
  expect(listed.out).toMatch(/webhook +Chat +hook\.example\.com +needs_you,budget,done,failed +0 of 0/);
  expect(listed.out).toMatch(/ntfy +ntfy\.example\.com +ntfy\.example\.com +needs_you,failed +0 of 0/);
  const [id = ""] = /dev_\w+/.exec(hook.err) ?? [];
  expect((await admin("notifications", "test", id)).out).toContain("Sent.");
  expect((await admin("notifications", "remove", id)).out).toBe(`Removed ${id}.\n`);
  expect((await admin("notifications", "remove", id)).code).not.toBe(0);
  expect((await admin("notifications", "webhook", "https://10.0.0.1/x")).err).toContain("must name a public host");
  expect((await admin("notifications", "ntfy", "https://ntfy.sh/x", "--for", "everything")).code).toBe(2);
});

it("[H4] passkeys are listed and removed, and an account is deleted by its person, after a fresh log-in", async () => {
  const email = "pat@example.com";
  await server.call("POST", "/v1/users", { email, password: PASSWORD, role: "user" });
  const login = (): Promise<Ended> => person({ SLIPWAY_PASSWORD: PASSWORD }, "login", "--email", email);
  await login();
  const [first, second] = ["1", "2"].map((digit) => `pky_${digit.repeat(26)}`) as [string, string];
  const { userId } = withDatabase((db) => {
    const user = db.prepare<[string], { userId: string }>("SELECT id AS userId FROM users WHERE email = ?").get(email);
    const row = `INSERT INTO passkeys VALUES (?, '${user?.userId}', ?, 'k', 0, '', 'example.com', 'Phone', 1, NULL)`;
    for (const id of [first, second]) db.prepare(row).run(id, `credential ${id}`);
    return user ?? { userId: "" };
  });
  expect((await person({}, "passkeys", "list")).out).toMatch(/ +Phone \(for another address/);
  expect((await person({}, "passkeys", "remove", "Phone")).err).toContain("Several passkeys are called");
  expect((await person({}, "passkeys", "remove", "Tablet")).err).toContain("There is no passkey");
  expect(await person({}, "passkeys", "remove", first)).toMatchObject({ out: "Removed.\n", err: "" });
  const age = () =>
    withDatabase((db) => db.prepare("UPDATE sessions SET created_at = 1 WHERE user_id = ?").run(userId));
  age();
  for (const command of [
    ["passkeys", "remove", second],
    ["account", "delete", "--yes"],
  ]) {
    const refused = await person({}, ...command);
    expect([refused.code, refused.err]).toEqual([2, expect.stringMatching(/fresh_login_required.*\n.*slipway login/)]);
  }
  await login();
  expect((await person({}, "account", "delete")).err).toContain("Add --yes: this is no terminal.");
  expect((await person({}, "account", "delete", "--yes")).out).toContain("Deleted.");
  expect((await person({}, "passkeys", "list")).err).toContain("You are not logged in.");
  expect((await admin("users", "list")).out).not.toContain(email);
});
