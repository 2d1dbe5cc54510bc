/** The contract suite of the accounts port (rule M1). */
import { describe, expect, it } from "vitest";
import type {
  AccessToken,
  Accounts,
  Credential,
  Reply,
  Session,
  StoredVariable,
} from "../../src/core/ports/accounts.ts";
import { identitySuite, linkSuite, passkeySuite } from "./people/people.ts";

const newUser = (id: string, email = `${id}@example.org`) => ({
  id,
  email,
  role: "user" as const,
  createdAt: 1,
  disabledAt: null,
  passwordHash: `hash of ${id}`,
});

const session = (id: string, tokenHash: string): Session => ({
  id,
  userId: "u1",
  tokenHash,
  previousHash: null,
  confirmedAt: null,
  rotatedAt: 10,
  createdAt: 10,
  expiresAt: 1_000,
  revokedAt: null,
  device: "Firefox on Linux",
  address: "192.0.2.1",
});

const token = (id: string, userId: string): AccessToken => ({
  id,
  userId,
  name: "laptop",
  hash: `hash of ${id}`,
  createdAt: 5,
  expiresAt: null,
  lastUsedAt: null,
  scopes: null,
});

const credential = (id: string, userId: string, host: string): Credential => ({
  id,
  userId,
  host,
  username: null,
  sealed: `sealed ${id}`,
  createdAt: 5,
  check: null,
  lastUsedAt: null,
  lastUse: null,
});

export function accountsContract(get: () => Accounts): void {
  describe("users", () => userSuite(get));
  describe("sessions", () => sessionSuite(get));
  describe("tokens and credentials", () => secretSuite(get));
  describe("identities", () => identitySuite(get));
  describe("passkeys", () => passkeySuite(get));
  describe("links", () => linkSuite(get));
}

function userSuite(get: () => Accounts): void {
  it("[M1] e-mails are compared in lower case, and a taken one is a conflict", async () => {
    await get().createUser(newUser("u1", "Ada@Example.org"));
    expect(await get().login("aDA@example.ORG")).toEqual(newUser("u1", "ada@example.org"));
    const { passwordHash: _, ...withoutHash } = newUser("u1", "ada@example.org");
    expect(await get().user("u1")).toEqual(withoutHash);
    await expect(get().createUser(newUser("u2", "ADA@EXAMPLE.ORG"))).rejects.toMatchObject({ code: "conflict" });
    await get().createUser({ ...newUser("u2"), createdAt: 0 });
    expect((await get().users()).map(({ id }) => id)).toEqual(["u2", "u1"]);
    expect(await get().user("none")).toBeNull();
    expect(await get().login("none@example.org")).toBeNull();
  });

  it("a change of a user changes the named fields only", async () => {
    await get().createUser(newUser("u1"));
    expect(await get().changeUser("u1", { role: "operator" })).toBe(true);
    expect(await get().changeUser("u1", { disabledAt: 7 })).toBe(true);
    expect(await get().login("u1@example.org")).toEqual({ ...newUser("u1"), role: "operator", disabledAt: 7 });
    expect(await get().changeUser("u1", { passwordHash: "other", disabledAt: null })).toBe(true);
    expect(await get().login("u1@example.org")).toEqual({ ...newUser("u1"), role: "operator", passwordHash: "other" });
    expect(await get().changeUser("none", { role: "admin" })).toBe(false);
  });

  it("a user may have no password", async () => {
    await get().createUser({ ...newUser("u1"), passwordHash: null });
    expect(await get().login("u1@example.org")).toMatchObject({ id: "u1", passwordHash: null });
  });

  it("one of several concurrent sign-ups with one e-mail wins", async () => {
    const results = await Promise.allSettled(
      [1, 2, 3, 4].map((n) => get().createUser(newUser(`u${n}`, "one@example.org"))),
    );
    expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected", "rejected", "rejected"]);
    expect(await get().users()).toHaveLength(1);
  });
}

function sessionSuite(get: () => Accounts): void {
  it("a rotation is a compare-and-swap, and the previous token still finds the session", async () => {
    await get().createUser(newUser("u1"));
    await get().createSession(session("s1", "h1"));
    const won = await Promise.all(["h2", "h3", "h4"].map((to) => get().rotateSession("s1", "h1", to, 20)));
    expect(won.filter(Boolean)).toHaveLength(1);
    const stored = await get().session("s1");
    expect(stored).toMatchObject({ previousHash: "h1", rotatedAt: 20, tokenHash: `h${won.indexOf(true) + 2}` });
    expect(await get().sessionByHash(stored!.tokenHash)).toEqual(stored);
    expect(await get().sessionByHash("h1")).toEqual(stored);
    expect(await get().rotateSession("s1", stored!.tokenHash, "h9", 30)).toBe(true);
    expect(await get().sessionByHash("h1")).toBeNull();
    expect(await get().rotateSession("none", "h9", "h10", 30)).toBe(false);
    expect(await get().session("none")).toBeNull();
  });

  it("[H19] a rotation is confirmed once, and for its own token only", async () => {
    await get().createUser(newUser("u1"));
    await get().createSession(session("s1", "h1"));
    expect(await get().rotateSession("s1", "h1", "h2", 20)).toBe(true);
    await get().confirmSession("s1", "h1", 25);
    await get().confirmSession("none", "h2", 25);
    expect(await get().session("s1")).toMatchObject({ confirmedAt: null });
    await get().confirmSession("s1", "h2", 30);
    await get().confirmSession("s1", "h2", 40);
    expect(await get().session("s1")).toMatchObject({ tokenHash: "h2", confirmedAt: 30 });
    await get().rotateSession("s1", "h2", "h3", 50);
    expect(await get().session("s1")).toMatchObject({ confirmedAt: null });
  });

  it("a revoked session keeps its first revocation time and does not rotate", async () => {
    await get().createUser(newUser("u1"));
    await get().createSession(session("s1", "h1"));
    await get().revokeSession("s1", 50);
    await get().revokeSession("s1", 60);
    await get().revokeSession("none", 60);
    expect(await get().sessionByHash("h1")).toMatchObject({ id: "s1", revokedAt: 50 });
    expect(await get().rotateSession("s1", "h1", "h2", 70)).toBe(false);
  });

  it("open sessions are listed last used first, and all but one are ended at once", async () => {
    await get().createUser(newUser("u1"));
    await get().createUser(newUser("u2"));
    for (const id of ["s1", "s2", "s3"]) await get().createSession(session(id, `h ${id}`));
    await get().createSession({ ...session("other", "h other"), userId: "u2" });
    expect(await get().rotateSession("s2", "h s2", "next", 99, "2001:db8::1")).toBe(true);
    await get().revokeSession("s3", 40);
    const open = await get().openSessions("u1");
    expect(open.map(({ id, address }) => [id, address])).toEqual([
      ["s2", "2001:db8::1"],
      ["s1", "192.0.2.1"],
    ]);
    expect(await get().revokeSessions("u1", 60, "s1")).toBe(1);
    expect((await get().openSessions("u1")).map(({ id }) => id)).toEqual(["s1"]);
    expect(await get().session("s3")).toMatchObject({ revokedAt: 40 });
    expect(await get().revokeSessions("u1", 61, null)).toBe(1);
    expect(await get().openSessions("u1")).toEqual([]);
    expect(await get().openSessions("u2")).toHaveLength(1);
  });
}

function secretSuite(get: () => Accounts): void {
  it("a token is found by hash, its last use only moves forward, and only its owner deletes it", async () => {
    await get().createUser(newUser("u1"));
    await get().createUser(newUser("u2"));
    await get().createToken(token("t1", "u1"));
    await get().createToken({ ...token("t2", "u2"), expiresAt: 99, scopes: ["read", "submit"] });
    await get().touchToken("t1", 40);
    await get().touchToken("t1", 30);
    await get().touchToken("none", 30);
    expect(await get().tokenByHash("hash of t1")).toEqual({ ...token("t1", "u1"), lastUsedAt: 40 });
    expect(await get().tokens("u2")).toEqual([{ ...token("t2", "u2"), expiresAt: 99, scopes: ["read", "submit"] }]);
    expect(await get().deleteToken("u2", "t1")).toBe(false);
    expect(await get().deleteToken("u1", "t1")).toBe(true);
    expect(await get().deleteToken("u1", "t1")).toBe(false);
    expect(await get().tokenByHash("hash of t1")).toBeNull();
  });

  it("there is one credential per owner and host, and a new one replaces it", async () => {
    await get().createUser(newUser("u1"));
    await get().createUser(newUser("u2"));
    await get().putCredential(credential("c1", "u1", "git.example"));
    await get().putCredential(credential("c2", "u2", "git.example"));
    const newer = { ...credential("c3", "u1", "git.example"), username: "ada" };
    await get().putCredential(newer);
    await get().putCredential(credential("c4", "u1", "a.example"));
    expect(await get().credentials("u1")).toEqual([credential("c4", "u1", "a.example"), newer]);
    expect(await get().credentialFor("u1", "git.example")).toEqual(newer);
    expect(await get().credentialFor("u2", "git.example")).toMatchObject({ id: "c2" });
    expect(await get().credentialFor("u2", "a.example")).toBeNull();
    expect(await get().deleteCredential("u2", "c3")).toBe(false);
    expect(await get().deleteCredential("u1", "c1")).toBe(false);
    expect(await get().deleteCredential("u1", "c3")).toBe(true);
    expect(await get().credentialFor("u1", "git.example")).toBeNull();
  });

  it("[V10] a credential keeps what its check said, and its last use only moves forward", async () => {
    const push = { purpose: "push", repo: "https://git.example/app" } as const;
    const check = {
      result: "passed",
      repo: push.repo,
      canRead: true,
      canPush: true,
      account: null,
      scopes: ["repo"],
      message: "It works.",
    } as const;
    await get().createUser(newUser("u1"));
    const saved = { ...credential("c1", "u1", "git.example"), check: { ...check, scopes: ["repo"] } };
    await get().putCredential(saved);
    expect(await get().credentialFor("u1", "git.example")).toEqual(saved);
    await get().touchCredential("u1", "c1", 40, push);
    await get().touchCredential("u1", "c1", 30, { purpose: "read", repo: push.repo });
    await get().touchCredential("u2", "c1", 50, { purpose: "read", repo: push.repo });
    expect(await get().credentials("u1")).toEqual([{ ...saved, lastUsedAt: 40, lastUse: push }]);
    await get().putCredential(credential("c2", "u1", "git.example"));
    expect(await get().credentialFor("u1", "git.example")).toEqual(credential("c2", "u1", "git.example"));
  });

  it("there is one variable per owner, repository and name, and a new one replaces it", async () => {
    const variable = (userId: string, repo: string, name: string): StoredVariable => ({
      userId,
      repo: `https://git.example/${repo}`,
      name,
      sealed: `sealed ${name}`,
      secret: true,
      phase: "setup",
      updatedAt: 10,
    });
    await get().createUser(newUser("u1"));
    await get().createUser(newUser("u2"));
    for (const [userId, repo, name] of [
      ["u1", "b", "TOKEN"],
      ["u1", "a", "TOKEN"],
      ["u1", "b", "HOST"],
      ["u2", "b", "TOKEN"],
    ] as const)
      await get().putVariable(variable(userId, repo, name));
    const newer: StoredVariable = { ...variable("u1", "b", "TOKEN"), secret: false, phase: "agent", updatedAt: 11 };
    await get().putVariable(newer);
    const host = variable("u1", "b", "HOST");
    expect(await get().variables("u1", "https://git.example/b")).toEqual([host, newer]);
    expect(await get().variables("u1", null)).toEqual([variable("u1", "a", "TOKEN"), host, newer]);
    expect(await get().deleteVariable("u2", host.repo, "HOST")).toBe(false);
    expect(await get().deleteVariable("u1", host.repo, "HOST")).toBe(true);
    expect(await get().deleteVariable("u1", host.repo, "HOST")).toBe(false);
    expect(await get().variables("u2", null)).toEqual([variable("u2", "b", "TOKEN")]);
  });

  it("[R5] an answer is found by user, endpoint and key, replaced, and removed by age and number", async () => {
    const reply = (n: number, more: Partial<Reply> = {}): Reply => ({
      userId: "u1",
      endpoint: "POST /v1/tasks",
      key: `k${n}`,
      at: n,
      sealed: `answer ${n}`,
      ...more,
    });
    const all = { after: -1, perUser: 10 };
    await get().putReply(reply(1), all);
    expect(await get().reply(reply(1))).toEqual(reply(1));
    await get().putReply(reply(1, { sealed: "again" }), all);
    expect(await get().reply(reply(1))).toMatchObject({ sealed: "again" });
    for (const other of [{ userId: "u2" }, { endpoint: "POST /v1/users" }, { key: "k9" }])
      expect(await get().reply(reply(1, other))).toBeNull();
    await get().putReply(reply(1, { userId: "u2" }), all);
    await get().putReply(reply(2), all);
    await get().putReply(reply(3), { after: -1, perUser: 2 });
    expect(await get().reply(reply(1))).toBeNull();
    expect(await get().reply(reply(2))).toEqual(reply(2));
    expect(await get().reply(reply(1, { userId: "u2" }))).not.toBeNull();
    await get().putReply(reply(4), { after: 2, perUser: 10 });
    expect(await get().reply(reply(1, { userId: "u2" }))).toBeNull();
    expect(await get().reply(reply(2))).toBeNull();
    expect(await get().reply(reply(3))).toEqual(reply(3));
  });
}
