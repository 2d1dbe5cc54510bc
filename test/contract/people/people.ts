/** The contract of identities, passkeys, one-time links and the audit log (rule M1). */
import { expect, it } from "vitest";
import { AuditCheck } from "../../../src/core/lib/audit/chain.ts";
import type { Act, AuditEntry, AuditLog } from "../../../src/core/ports/records/audit.ts";
import type { Accounts, Link, Passkey, ProviderIdentity, User } from "../../../src/core/ports/accounts.ts";

const user = (id: string): User & { readonly passwordHash: string } => ({
  id,
  email: `${id}@example.org`,
  role: "user",
  createdAt: 1,
  disabledAt: null,
  passwordHash: "hash",
});

const identity = (id: string, userId: string, more: Partial<ProviderIdentity> = {}): ProviderIdentity => ({
  id,
  userId,
  issuer: "https://id.example",
  subject: `subject of ${id}`,
  name: "Ada",
  createdAt: 5,
  lastUsedAt: null,
  ...more,
});

const passkey = (id: string, userId: string, more: Partial<Passkey> = {}): Passkey => ({
  id,
  userId,
  credentialId: `credential of ${id}`,
  publicKey: "key",
  counter: 3,
  transports: ["internal", "hybrid"],
  rpId: "slipway.example",
  name: "Phone",
  createdAt: 5,
  lastUsedAt: null,
  ...more,
});

const link = (id: string, more: Partial<Link> = {}): Link => ({
  id,
  hash: `hash of ${id}`,
  kind: "invitation",
  userId: null,
  email: null,
  role: "operator",
  madeBy: "u1",
  createdAt: 5,
  expiresAt: 100,
  usedAt: null,
  ...more,
});

export function identitySuite(get: () => Accounts): void {
  it("an identity belongs to one user, is found by issuer and subject, and only its owner removes it", async () => {
    await get().createUser(user("u1"));
    await get().createUser(user("u2"));
    await get().createIdentity(identity("i1", "u1"));
    const same = identity("i2", "u2", { subject: "subject of i1" });
    await expect(get().createIdentity(same)).rejects.toMatchObject({ code: "conflict" });
    await get().createIdentity({ ...same, issuer: "https://other.example" });
    expect(await get().identity("https://id.example", "subject of i1")).toEqual(identity("i1", "u1"));
    expect(await get().identity("https://other.example", "subject of i1")).toMatchObject({ userId: "u2" });
    expect(await get().identity("https://id.example", "none")).toBeNull();
    await get().touchIdentity("i1", 40);
    await get().touchIdentity("i1", 30);
    await get().touchIdentity("none", 30);
    expect(await get().identities("u1")).toEqual([identity("i1", "u1", { lastUsedAt: 40 })]);
    expect(await get().deleteIdentity("u2", "i1")).toBe(false);
    expect(await get().deleteIdentity("u1", "i1")).toBe(true);
    expect(await get().identities("u1")).toEqual([]);
  });

  it("[M1] a user and its first identity are created together or not at all", async () => {
    await get().createUser(user("u1"), identity("i1", "u1"));
    const taken = { ...identity("i2", "u2"), subject: "subject of i1" };
    await expect(get().createUser(user("u2"), taken)).rejects.toMatchObject({ code: "conflict" });
    expect(await get().user("u2")).toBeNull();
    await expect(get().createUser({ ...user("u3"), email: "u1@example.org" }, identity("i3", "u3"))).rejects.toThrow();
    expect(await get().identity("https://id.example", "subject of i3")).toBeNull();
  });
}

export function passkeySuite(get: () => Accounts): void {
  it("a passkey belongs to one user, is found by its credential, and only its owner changes it", async () => {
    await get().createUser(user("u1"));
    await get().createUser(user("u2"));
    await get().createPasskey(passkey("p1", "u1"));
    const same = passkey("p2", "u2", { credentialId: "credential of p1" });
    await expect(get().createPasskey(same)).rejects.toMatchObject({ code: "conflict" });
    await get().createPasskey(passkey("p0", "u1", { transports: [], createdAt: 9 }));
    expect((await get().passkeys("u1")).map(({ id }) => id)).toEqual(["p1", "p0"]);
    expect(await get().passkeyFor("credential of p0")).toEqual(passkey("p0", "u1", { transports: [], createdAt: 9 }));
    expect([await get().passkeyFor("none"), await get().passkeys("u2")]).toEqual([null, []]);
    expect(await get().changePasskey("u2", "p1", { name: "Mine" })).toBe(false);
    expect(await get().changePasskey("u1", "p1", { name: "Old phone" })).toBe(true);
    expect(await get().passkeyFor("credential of p1")).toEqual(passkey("p1", "u1", { name: "Old phone" }));
    expect(await get().deletePasskey("u2", "p1")).toBe(false);
    expect(await get().deletePasskey("u1", "p1")).toBe(true);
    expect(await get().deletePasskey("u1", "p1")).toBe(false);
  });

  it("[H17] of two uses with one counter one counts, and a counter of 0 stays usable", async () => {
    await get().createUser(user("u1"));
    await get().createPasskey(passkey("p1", "u1"));
    await get().createPasskey(passkey("p0", "u1", { counter: 0 }));
    const use = (id: string, counter: number, at: number) => get().usePasskey(id, counter, at);
    expect(await Promise.all([use("p1", 4, 20), use("p1", 4, 21)])).toEqual([true, false]);
    expect([await use("p1", 3, 30), await use("p1", 0, 30), await use("p1", 9, 10)]).toEqual([false, false, true]);
    expect([await use("p0", 0, 20), await use("p0", 0, 21), await use("none", 1, 1)]).toEqual([true, true, false]);
    expect((await get().passkeys("u1")).map(({ id, counter, lastUsedAt }) => [id, counter, lastUsedAt])).toEqual([
      ["p0", 0, 21],
      ["p1", 9, 20],
    ]);
  });

  it("[H17] disabling a person removes their passkeys, enabling brings none back, and no other change does", async () => {
    await get().createUser(user("u1"));
    await get().createUser(user("u2"));
    for (const id of ["u1", "u2"]) await get().createPasskey(passkey(`p of ${id}`, id));
    await get().changeUser("u1", { role: "admin", disabledAt: null });
    expect(await get().passkeys("u1")).toHaveLength(1);
    await get().changeUser("u1", { disabledAt: 7 });
    await get().changeUser("u1", { disabledAt: null });
    expect([await get().passkeys("u1"), (await get().passkeys("u2")).length]).toEqual([[], 1]);
  });
}

export function linkSuite(get: () => Accounts): void {
  it("an invitation makes one user, and stays when its e-mail is taken", async () => {
    await get().createUser(user("u1"));
    await get().createLink(link("l1"));
    await get().createLink(link("l2", { createdAt: 9 }));
    await expect(get().createLink(link("l3", { hash: "hash of l1" }))).rejects.toMatchObject({ code: "conflict" });
    expect(await get().linkByHash("hash of l1")).toEqual(link("l1"));
    expect((await get().openLinks()).map(({ id }) => id)).toEqual(["l2", "l1"]);
    const taken = { ...user("u2"), email: "u1@example.org" };
    await expect(get().acceptInvitation("l1", 20, taken)).rejects.toMatchObject({ code: "conflict" });
    const both = await Promise.all([
      get().acceptInvitation("l1", 20, user("u2")),
      get().acceptInvitation("l1", 21, user("u3")),
    ]);
    expect(both).toEqual([true, false]);
    expect(await get().user("u3")).toBeNull();
    expect(await get().linkByHash("hash of l1")).toMatchObject({ usedAt: 20 });
    expect((await get().openLinks()).map(({ id }) => id)).toEqual(["l2"]);
    expect(await get().deleteLink("l1")).toBe(false);
    expect(await get().deleteLink("l2")).toBe(true);
    expect(await get().acceptInvitation("l2", 20, user("u4"))).toBe(false);
    expect(await get().linkByHash("hash of l2")).toBeNull();
  });

  it("a link for a password sets it once and ends the sessions", async () => {
    await get().createUser(user("u1"));
    await get().createUser(user("u2"));
    await get().createSession({
      id: "s1",
      userId: "u2",
      tokenHash: "h1",
      previousHash: null,
      confirmedAt: null,
      rotatedAt: 1,
      createdAt: 1,
      expiresAt: 99,
      revokedAt: null,
      device: "",
      address: "",
    });
    await get().createLink(link("l1", { kind: "password", userId: "u2", role: null }));
    expect(await get().acceptInvitation("l1", 20, user("u3"))).toBe(false);
    expect(await get().acceptPassword("l1", 20, "new hash")).toBe(true);
    expect(await get().acceptPassword("l1", 21, "newer hash")).toBe(false);
    expect(await get().login("u2@example.org")).toMatchObject({ passwordHash: "new hash" });
    expect(await get().openSessions("u2")).toEqual([]);
    await get().createLink(link("l2"));
    expect(await get().acceptPassword("l2", 20, "x")).toBe(false);
  });
}

const entry = (at: number, more: Partial<AuditEntry> = {}): AuditEntry => ({
  at,
  actor: "u1",
  via: "session",
  address: "192.0.2.1",
  action: "changeRole",
  target: null,
  outcome: "ok",
  detail: { role: "admin" },
  ...more,
});

async function findFault(audit: AuditLog): Promise<string | null> {
  const check = new AuditCheck(await audit.ends());
  for (const row of await audit.rowsAfter(check.last, 1_000)) check.add(row);
  return check.finish();
}

/** The contract of the audit log, and of the writes of accounts that carry a row of it. */
export function auditSuite(get: () => { readonly accounts: Accounts; readonly audit: AuditLog }): void {
  it("[M1] [H9] rows of the audit log are numbered, chained and listed newest first", async () => {
    const { audit } = get();
    expect(await findFault(audit)).toBeNull();
    await Promise.all([1, 2, 3].map((at) => audit.append(entry(at, { target: `t${at}` }))));
    await audit.append(entry(4, { actor: null, action: "login", outcome: "invalid_credentials", detail: {} }));
    const rows = await audit.rows({ limit: 10 });
    expect(rows.map(({ n, at }) => [n, at])).toEqual([4, 3, 2, 1].map((n) => [n, n]));
    expect(rows[1]).toMatchObject(entry(3, { target: "t3" }));
    expect((await audit.rows({ limit: 1, before: 3 })).map(({ n }) => n)).toEqual([2]);
    expect((await audit.rows({ limit: 9, actor: "u1", target: "t2" })).map(({ n }) => n)).toEqual([2]);
    expect((await audit.rows({ limit: 9, action: "login" })).map(({ n }) => n)).toEqual([4]);
    expect((await audit.ends()).end).toEqual({ n: 4, hash: rows[0]?.hash });
    expect(await findFault(audit)).toBeNull();
  });

  it("[M1] [H9] the row of an act is written with the change, once, and not without one", async () => {
    const { accounts, audit } = get();
    const act = (): Act => ({ entry: entry(9, { actor: null }), isWritten: false });
    const made = act();
    await accounts.with(made).createUser(user("u1"));
    await accounts.with(made).changeUser("u1", { role: "operator" });
    const [row, ...more] = await audit.rows({ limit: 9 });
    expect([made.isWritten, row?.target, more.length]).toEqual([true, "u1", 0]);
    const taken = act();
    await expect(accounts.with(taken).createUser(user("u1"))).rejects.toMatchObject({ code: "conflict" });
    const absent = act();
    expect(await accounts.with(absent).deleteToken("u1", "none")).toBe(false);
    expect([taken.isWritten, absent.isWritten, (await audit.rows({ limit: 9 })).length]).toEqual([false, false, 1]);
    await accounts.with(absent).changeUser("u1", { role: "user" });
    expect(await audit.rows({ limit: 9 })).toHaveLength(2);
    expect(await findFault(audit)).toBeNull();
  });

  it("[M1] [H9] old rows are removed, and what stays is still a chain", async () => {
    const { audit } = get();
    for (const at of [1, 2, 3, 4]) await audit.append(entry(at));
    expect(await audit.prune(3)).toBe(2);
    expect(await audit.prune(3)).toBe(0);
    expect((await audit.rows({ limit: 9 })).map(({ n }) => n)).toEqual([4, 3]);
    expect((await audit.ends()).start.n).toBe(2);
    await audit.append(entry(5));
    expect(await findFault(audit)).toBeNull();
    expect(await audit.prune(9)).toBe(3);
    expect(await findFault(audit)).toBeNull();
    await audit.append(entry(10));
    expect((await audit.rows({ limit: 9 })).map(({ n }) => n)).toEqual([6]);
  });
}
