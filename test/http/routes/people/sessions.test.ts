import { createHmac, hkdfSync, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import jwt from "jsonwebtoken";
import { fixedKeys } from "../../../auth/fixed-keys.ts";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { Accounts } from "../../../../src/core/ports/accounts.ts";
import { isPersonalToken, newPersonalToken } from "../../../../src/auth/tokens/signer.ts";
import type { Store } from "../../../../src/core/ports/store.ts";
import { LOCAL_USER_ID, openSessions, type TokenGrant, type Sessions } from "../../../../src/auth/sessions.ts";
import { openSqliteStore } from "../../../../src/store/sqlite/store.ts";
import { MIGRATIONS } from "../../../store/data-folder.ts";
import { createManualClock, seededIds, type ManualClock } from "../../../support/manual-clock.ts";

const SECOND = 1_000;
const DAY = 86_400 * SECOND;
const PASSWORD = "correct horse battery staple";

let dir: string;
let store: Store;
let accounts: Accounts;
let clock: ManualClock;
let sessions: Sessions;
const secret = randomBytes(32);
/** Look-ups of personal tokens that reached the database. */
let lookups: number;

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-sessions-"));
  const opened = openSqliteStore({ dir, migrations: MIGRATIONS });
  store = opened.store;
  lookups = 0;
  const counted = (hash: string) => {
    lookups += 1;
    return opened.accounts.tokenByHash(hash);
  };
  accounts = { ...opened.accounts, tokenByHash: counted };
  clock = createManualClock();
  sessions = await openSessions({
    accounts,
    clock,
    ids: seededIds(),
    keys: fixedKeys(secret),
    localToken: "local-secret",
    setupToken: "setup-secret",
  });
});

afterEach(async () => {
  await store.close();
  rmSync(dir, { recursive: true, force: true });
});

async function begin(): Promise<TokenGrant> {
  await sessions.createUser({ email: "Ada@Example.com", password: PASSWORD, role: "user" });
  return sessions.login("ada@example.com", PASSWORD);
}

const UNAUTHENTICATED = { code: "unauthenticated" };
const WRONG = { code: "invalid_credentials" };

describe("passwords", () => {
  it("the right one gives a session, in any case of the e-mail", async () => {
    const grant = await begin();
    expect(grant.user).toMatchObject({ email: "ada@example.com", role: "user" });
    expect(grant.expiresIn).toBe(600);
    expect(grant.refreshToken).toMatch(/^rt_/);
    const caller = await sessions.authenticate(grant.accessToken);
    expect(caller).toMatchObject({
      userId: grant.user.id,
      role: "user",
      via: "session",
      expiresAt: clock.now() + 600 * SECOND,
    });
  });

  it("a wrong one, an unknown e-mail and the built-in user get the same answer", async () => {
    await begin();
    for (const [email, password] of [
      ["ada@example.com", "wrong"],
      ["nobody@example.com", PASSWORD],
      ["local@localhost", ""],
    ] as const) {
      await expect(sessions.login(email, password)).rejects.toMatchObject({
        ...WRONG,
        message: "The e-mail or password is wrong",
      });
    }
  });

  it("an unknown e-mail costs a hash too", async () => {
    await begin();
    const measure = async (email: string): Promise<number> => {
      const times: number[] = [];
      for (let i = 0; i < 4; i++) {
        const begun = performance.now();
        await sessions.login(email, "wrong").catch(() => undefined);
        times.push(performance.now() - begun);
      }
      return Math.min(...times);
    };
    const known = await measure("ada@example.com");
    expect(await measure("nobody@example.com")).toBeGreaterThan(known / 5);
  });

  it("a taken e-mail is a conflict", async () => {
    await begin();
    await expect(
      sessions.createUser({ email: "ADA@example.com", password: PASSWORD, role: "user" }),
    ).rejects.toMatchObject({
      code: "conflict",
    });
  });

  it("[S1] no password or token is in the database's files in clear", async () => {
    const grant = await begin();
    const next = await sessions.refresh(grant.refreshToken);
    const { token } = await sessions.createToken(await sessions.authenticate(grant.accessToken), "ci", DAY);
    const files = ["slipway.db", "slipway.db-wal"]
      .map((name) => readFileSync(join(dir, name)).toString("latin1"))
      .join("");
    expect(files).toContain("ada@example.com");
    const secrets = [PASSWORD, grant.accessToken, grant.refreshToken, next.refreshToken, token];
    for (const one of secrets) expect(files).not.toContain(one);
  });
});

describe("refresh tokens", () => {
  it("each is valid once; its successor continues the session", async () => {
    const first = await begin();
    const second = await sessions.refresh(first.refreshToken);
    const third = await sessions.refresh(second.refreshToken);
    expect(new Set([first, second, third].map((grant) => grant.refreshToken)).size).toBe(3);
    expect(await sessions.authenticate(third.accessToken)).toMatchObject({ userId: first.user.id });
  });

  it("parallel refreshes with one token get one successor", async () => {
    const first = await begin();
    const all = await Promise.all(Array.from({ length: 8 }, () => sessions.refresh(first.refreshToken)));
    expect(new Set(all.map((grant) => grant.refreshToken)).size).toBe(1);
    expect(await sessions.refresh(all[0]!.refreshToken)).toBeDefined();
  });

  it("the same token within the grace gives the same successor, also after a restart", async () => {
    const first = await begin();
    const second = await sessions.refresh(first.refreshToken);
    await clock.advance(29 * SECOND);
    const again = await openSessions({
      accounts,
      clock,
      ids: seededIds(9),
      keys: fixedKeys(secret),
      localToken: null,
      setupToken: null,
    });
    expect((await again.refresh(first.refreshToken)).refreshToken).toBe(second.refreshToken);
  });

  it("[H19] a token whose successor was lost on its way is good until that is used, days later", async () => {
    const first = await begin();
    await clock.advance(600 * SECOND);
    const lost = await sessions.refresh(first.refreshToken);
    await clock.advance(3 * DAY);
    const again = await sessions.refresh(first.refreshToken);
    expect(again.refreshToken).toBe(lost.refreshToken);
    await sessions.authenticate(again.accessToken);
    await expect.poll(async () => (await sessions.sessionOf(again.refreshToken))?.confirmedAt).not.toBeNull();
    await clock.advance(31 * SECOND);
    await expect(sessions.refresh(first.refreshToken)).rejects.toMatchObject(UNAUTHENTICATED);
    await expect(sessions.refresh(again.refreshToken)).rejects.toMatchObject(UNAUTHENTICATED);
  });

  it("[H19] the access token of before a rotation does not show that its successor arrived", async () => {
    const first = await begin();
    await clock.advance(300 * SECOND);
    const lost = await sessions.refresh(first.refreshToken);
    await sessions.authenticate(first.accessToken);
    await clock.advance(31 * SECOND);
    expect((await sessions.refresh(first.refreshToken)).refreshToken).toBe(lost.refreshToken);
  });

  it("[H19] after the grace, reuse ends the whole family", async () => {
    const first = await begin();
    const second = await sessions.refresh(first.refreshToken);
    await sessions.authenticate(second.accessToken);
    await expect.poll(async () => (await sessions.sessionOf(second.refreshToken))?.confirmedAt).not.toBeNull();
    await clock.advance(31 * SECOND);
    await expect(sessions.refresh(first.refreshToken)).rejects.toMatchObject(UNAUTHENTICATED);
    await expect(sessions.refresh(second.refreshToken)).rejects.toMatchObject(UNAUTHENTICATED);
    await expect(sessions.authenticate(second.accessToken)).rejects.toMatchObject(UNAUTHENTICATED);
  });

  it("a token whose successor was used is reuse, however soon and however old", async () => {
    const first = await begin();
    const second = await sessions.refresh(first.refreshToken);
    const third = await sessions.refresh(second.refreshToken);
    await expect(sessions.refresh(first.refreshToken)).rejects.toMatchObject(UNAUTHENTICATED);
    await expect(sessions.refresh(third.refreshToken)).rejects.toMatchObject(UNAUTHENTICATED);
  });

  it("a forged token ends no session", async () => {
    const first = await begin();
    const [head, body, tag] = first.refreshToken.split(".") as [string, string, string];
    const forged = [
      `${head}.${randomBytes(32).toString("base64url")}.${tag}`,
      `${head}.${body}.${randomBytes(16).toString("base64url")}`,
      `${head}.${body}`,
      `${first.refreshToken}.`,
      "rt_",
      first.accessToken,
    ];
    for (const one of forged) await expect(sessions.refresh(one)).rejects.toMatchObject(UNAUTHENTICATED);
    expect(await sessions.refresh(first.refreshToken)).toBeDefined();
  });

  it("30 idle days end a session, use keeps it, 90 days end it anyway", async () => {
    const idle = await begin();
    await clock.advance(30 * DAY);
    await expect(sessions.refresh(idle.refreshToken)).rejects.toMatchObject(UNAUTHENTICATED);
    let used = await sessions.login("ada@example.com", PASSWORD);
    for (let i = 0; i < 4; i++) {
      await clock.advance(22 * DAY);
      used = await sessions.refresh(used.refreshToken);
    }
    await clock.advance(3 * DAY);
    await expect(sessions.refresh(used.refreshToken)).rejects.toMatchObject(UNAUTHENTICATED);
  });

  it("logout ends access and refresh at once", async () => {
    const grant = await begin();
    const caller = await sessions.authenticate(grant.accessToken);
    expect(await sessions.isSessionValid(caller.sessionId)).toBe(true);
    await sessions.logout(caller);
    expect(await sessions.isSessionValid(caller.sessionId)).toBe(false);
    await expect(sessions.authenticate(grant.accessToken)).rejects.toMatchObject(UNAUTHENTICATED);
    await expect(sessions.refresh(grant.refreshToken)).rejects.toMatchObject(UNAUTHENTICATED);
  });
});

describe("access tokens under attack", () => {
  /** The server's own key, so that each forgery differs from a good token in one thing only. */
  async function forger() {
    const key = Buffer.from(hkdfSync("sha256", secret, "", "slipway access token", 32));
    const grant = await begin();
    const good = jwt.decode(grant.accessToken) as Record<string, unknown>;
    const b64 = (value: unknown): string =>
      Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");
    const sign = (header: unknown, payload: unknown): string => {
      const head = `${b64(header)}.${b64(payload)}`;
      return `${head}.${createHmac("sha256", key).update(head).digest("base64url")}`;
    };
    return { grant, good, key, sign, b64, header: { alg: "HS256", typ: "at+jwt" } };
  }

  /** Returns the forged tokens that are accepted: none is expected. */
  async function admitted(tokens: readonly string[]): Promise<string[]> {
    expect(tokens.length).toBeGreaterThan(0);
    const outcomes = await Promise.all(
      tokens.map((token) =>
        sessions.authenticate(token).then(
          () => token.slice(0, 200),
          (error: { code?: string }) =>
            error.code === "unauthenticated" ? null : `${error.code}: ${token.slice(0, 200)}`,
        ),
      ),
    );
    return outcomes.filter((one) => one !== null);
  }

  it("the unmodified token passes, so each forgery fails for its one difference", async () => {
    const { good, sign, header, grant } = await forger();
    expect(await sessions.authenticate(sign(header, good))).toMatchObject({ userId: grant.user.id });
  });

  it("no algorithm, in any spelling, and other algorithms", async () => {
    const { good, sign, b64, key } = await forger();
    const tokens = ["none", "nOnE", "", "HS384", "RS256", "EdDSA"].flatMap((alg) => {
      return [sign({ alg, typ: "at+jwt" }, good), `${b64({ alg, typ: "at+jwt" })}.${b64(good)}.`];
    });
    tokens.push(jwt.sign(good, key, { algorithm: "HS512", header: { alg: "HS512", typ: "at+jwt" } }));
    tokens.push(jwt.sign(good, randomBytes(32), { header: { alg: "HS256", typ: "at+jwt" } }));
    expect(await admitted(tokens)).toEqual([]);
  });

  it("other types of token, and headers that point at keys", async () => {
    const { good, sign, header } = await forger();
    const types = ["JWT", "rt+jwt", undefined, "AT+JWT "].map((typ) => sign({ alg: "HS256", typ }, good));
    const tricks = [
      { kid: "../../dev/null" },
      { kid: "x' UNION SELECT 'k'--" },
      { jku: "https://evil.example/jwks" },
      { jwk: { kty: "oct", k: "AAAA" } },
      { x5u: "https://evil.example" },
      { crit: ["exp"] },
      { crit: ["x"], x: 1 },
    ].map((trick) => sign({ ...header, ...trick }, good));
    expect(await admitted([...types, ...tricks])).toEqual([]);
  });

  it("claims that are wrong, missing, or of another kind", async () => {
    const { good, sign, header } = await forger();
    const now = clock.now() / 1_000;
    const missing = ["iss", "aud", "sub", "sid", "jti", "iat", "exp"].map((claim) => {
      const { [claim]: _, ...rest } = good;
      return sign(header, rest);
    });
    const wrong = [
      { iss: "evil" },
      { aud: "evil" },
      { aud: ["slipway-api", "evil"] },
      { sub: "user_00000000000000000000000009" },
      { sid: "sess_00000000000000000000000009" },
      { exp: String(now + 600) },
      { exp: -1 },
      { exp: now - 1 },
      { nbf: now + 600 },
      { role: "admin" },
    ].map((change) => sign(header, { ...good, ...change }));
    const endless = sign(header, JSON.stringify(good).replace(/"exp":\d+/, '"exp":1e309'));
    expect(await admitted([...missing, ...wrong, endless, sign(header, "null"), sign(header, "{")])).toEqual([]);
  });

  it("malformed tokens are refused", async () => {
    const { grant } = await forger();
    const good = grant.accessToken;
    const [a, b, c] = good.split(".") as [string, string, string];
    // The last character of a signature of 32 bytes carries two bits that decode to nothing.
    const twin = c.slice(0, -1) + String.fromCharCode(c.charCodeAt(c.length - 1) + 1);
    const shapes = [
      `${good}.`,
      `${good}.x`,
      `.${good}`,
      `${a}.${b}`,
      `${a}.${b}.`,
      `${a}.${b}.${c}=`,
      `${a}.${b}.${twin}`,
      "",
      "..",
      "a.b.c",
    ];
    const huge = ["x".repeat(1_000_000), `${a}.${"A".repeat(1_000_000)}.${c}`];
    expect(await admitted([...shapes, ...huge, grant.refreshToken])).toEqual([]);
  });

  it("a token expires to the second", async () => {
    const { grant } = await forger();
    await clock.advance(599 * SECOND);
    expect(await sessions.authenticate(grant.accessToken)).toBeDefined();
    await clock.advance(SECOND);
    expect(await admitted([grant.accessToken])).toEqual([]);
  });
});

describe("personal tokens", () => {
  it("work until they expire or are deleted, and cannot make more", async () => {
    const caller = await sessions.authenticate((await begin()).accessToken);
    const { row, token } = await sessions.createToken(caller, "ci", DAY);
    const byToken = await sessions.authenticate(token);
    expect(byToken).toMatchObject({ userId: caller.userId, via: "token" });
    expect((await accounts.tokens(caller.userId))[0]).toMatchObject({ name: "ci", lastUsedAt: clock.now() });
    await expect(sessions.createToken(byToken, "more", DAY)).rejects.toMatchObject({ code: "forbidden" });
    await expect(sessions.logout(byToken)).rejects.toMatchObject({ code: "forbidden" });
    expect(await sessions.isSessionValid(byToken.sessionId)).toBe(true);
    const other = await sessions.createToken(caller, "short", 10 * SECOND);
    await clock.advance(10 * SECOND);
    await expect(sessions.authenticate(other.token)).rejects.toMatchObject(UNAUTHENTICATED);
    await accounts.deleteToken(caller.userId, row.id);
    await expect(sessions.authenticate(token)).rejects.toMatchObject(UNAUTHENTICATED);
    expect(await sessions.isSessionValid(byToken.sessionId)).toBe(false);
  });

  it("a wrong checksum is refused without a query", async () => {
    const token = newPersonalToken();
    expect(token).toMatch(/^slp_[0-9A-Za-z]{49}$/);
    expect(isPersonalToken(token)).toBe(true);
    const last = token.endsWith("0") ? "1" : "0";
    const body = token[10] === "a" ? "b" : "a";
    const broken = [
      token.slice(0, -1) + last,
      token.slice(0, 10) + body + token.slice(11),
      token.slice(0, -1),
      `${token}0`,
      "slp_",
    ];
    for (const one of broken) await expect(sessions.authenticate(one)).rejects.toMatchObject(UNAUTHENTICATED);
    expect(lookups).toBe(0);
    await expect(sessions.authenticate(token)).rejects.toMatchObject(UNAUTHENTICATED);
    expect(lookups).toBe(1);
  });
});

describe("tickets, the local operator, and the first admin", () => {
  it("a ticket is valid once and for 30 seconds", async () => {
    const caller = await sessions.authenticate((await begin()).accessToken);
    const { ticket } = sessions.issueTicket(caller);
    expect(await sessions.redeemTicket(ticket)).toEqual(caller);
    await expect(sessions.redeemTicket(ticket)).rejects.toMatchObject(UNAUTHENTICATED);
    const late = sessions.issueTicket(caller).ticket;
    await clock.advance(30 * SECOND);
    await expect(sessions.redeemTicket(late)).rejects.toMatchObject(UNAUTHENTICATED);
    await expect(sessions.redeemTicket("x")).rejects.toMatchObject(UNAUTHENTICATED);
  });

  it("a ticket dies with the session that asked for it", async () => {
    const caller = await sessions.authenticate((await begin()).accessToken);
    const { ticket } = sessions.issueTicket(caller);
    await sessions.logout(caller);
    await expect(sessions.redeemTicket(ticket)).rejects.toMatchObject(UNAUTHENTICATED);
  });

  it("the data folder's token authenticates the local admin; a similar one does not", async () => {
    expect(await sessions.authenticate("local-secret")).toMatchObject({
      userId: LOCAL_USER_ID,
      role: "admin",
      via: "local",
    });
    for (const near of ["local-secre", "local-secret ", "Local-secret", ""]) {
      await expect(sessions.authenticate(near)).rejects.toMatchObject(UNAUTHENTICATED);
    }
    await openSessions({
      accounts,
      clock,
      ids: seededIds(3),
      keys: fixedKeys(secret),
      localToken: "local-secret",
      setupToken: null,
    });
    expect((await accounts.users()).filter((user) => user.id === LOCAL_USER_ID)).toHaveLength(1);
  });

  it("[S7] the setup token makes one admin, also for two concurrent requests, and is invalid afterwards", async () => {
    await expect(sessions.setUp("wrong", "eve@example.com", PASSWORD)).rejects.toMatchObject(UNAUTHENTICATED);
    expect(await sessions.needsSetup()).toBe(true);
    const both = await Promise.allSettled([
      sessions.setUp("setup-secret", "root@example.com", PASSWORD),
      sessions.setUp("setup-secret", "eve@example.com", PASSWORD),
    ]);
    expect(both.map((one) => one.status).sort()).toEqual(["fulfilled", "rejected"]);
    expect((await sessions.listUsers()).map((user) => user.role)).toEqual(["admin"]);
    await expect(sessions.setUp("setup-secret", "eve2@example.com", PASSWORD)).rejects.toMatchObject(UNAUTHENTICATED);
    expect(await sessions.needsSetup()).toBe(false);
  });

  it("a short secret stops the start", async () => {
    const weak = openSessions({
      accounts,
      clock,
      ids: seededIds(),
      keys: fixedKeys(Buffer.alloc(31, 1)),
      localToken: null,
      setupToken: null,
    });
    await expect(weak).rejects.toMatchObject({ code: "config_invalid" });
  });
});
