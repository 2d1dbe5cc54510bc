import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { credentialContext } from "../../../../src/auth/vault.ts";
import { normalizeHost } from "../../../../src/http/routes/people/log-in/auth.ts";
import { LOCAL_TOKEN, openApiServer, PASSWORD, SETUP_TOKEN, type ApiServer } from "../../api-server.ts";

let api: ApiServer;
beforeAll(async () => {
  api = await openApiServer();
});
afterAll(() => api.close());

const login = (email: string, password = PASSWORD) => api.call("POST", "/v1/auth/login", { body: { email, password } });
const minute = () => api.clock.advance(61_000);

/** The answer of a refresh has arrived: its access token is used (H19). */
async function arrives(server: ApiServer, answer: { accessToken: string; refreshToken: string }): Promise<void> {
  expect((await server.call("GET", "/v1/me", { token: answer.accessToken })).status).toBe(200);
  await expect.poll(async () => (await server.sessions.sessionOf(answer.refreshToken))?.confirmedAt).not.toBeNull();
}

describe("setup", () => {
  it("[S7] only an admin can create a user", async () => {
    const eve = { email: "eve@example.com", password: PASSWORD, role: "admin" };
    expect((await api.call("POST", "/v1/users", { body: eve })).status).toBe(401);
    expect(
      (await api.call("POST", "/v1/setup", { body: { token: "wrong", email: eve.email, password: PASSWORD } })).status,
    ).toBe(401);
  });

  it("[S7] the one-time link makes the first admin once", async () => {
    const body = { token: SETUP_TOKEN, email: "Root@example.com", password: PASSWORD };
    expect((await api.call("POST", "/v1/setup", { body: { ...body, password: "short" } })).body.errors[0].path).toBe(
      "password",
    );
    const done = await api.call("POST", "/v1/setup", { body });
    expect(done.status).toBe(201);
    expect(done.body.user).toMatchObject({ email: "root@example.com", role: "admin" });
    expect((await api.call("GET", "/v1/me", { token: done.body.accessToken })).body.role).toBe("admin");
    expect((await api.call("POST", "/v1/setup", { body: { ...body, email: "eve@example.com" } })).status).toBe(401);
    await minute();
  });
});

describe("sessions over the wire", () => {
  it("login, me, refresh, replay in the grace, reuse, logout", async () => {
    await api.person("ada@example.com");
    const first = await login("ADA@example.com");
    expect(first.status).toBe(200);
    expect(first.headers.get("cache-control")).toBe("no-store");
    expect((await api.call("GET", "/v1/me", { token: first.body.accessToken })).body).toEqual(first.body.user);
    const refresh = (refreshToken: string) => api.call("POST", "/v1/auth/refresh", { body: { refreshToken } });
    const [a, b] = await Promise.all([refresh(first.body.refreshToken), refresh(first.body.refreshToken)]);
    expect([a.status, b.status]).toEqual([200, 200]);
    expect(a.body.refreshToken).toBe(b.body.refreshToken);
    await arrives(api, a.body);
    await api.clock.advance(31_000);
    expect((await refresh(first.body.refreshToken)).body.code).toBe("unauthenticated");
    expect((await refresh(a.body.refreshToken)).status).toBe(401);
    expect((await api.call("GET", "/v1/me", { token: a.body.accessToken })).status).toBe(401);
    await minute();
    const again = await login("ada@example.com");
    expect((await api.call("POST", "/v1/auth/logout", { token: again.body.accessToken })).status).toBe(204);
    const after = await api.call("GET", "/v1/me", { token: again.body.accessToken });
    expect(after.status).toBe(401);
    expect(after.headers.get("www-authenticate")).toBe("Bearer");
  });

  it("wrong credentials are 401 with one body for every reason", async () => {
    await minute();
    await api.person("bea@example.com");
    const wrong = await login("bea@example.com", "wrong");
    const unknown = await login("nobody@example.com", "wrong");
    expect(wrong.status).toBe(401);
    expect(wrong.body).toEqual(unknown.body);
    expect(wrong.body.code).toBe("invalid_credentials");
  });

  it("a missing or invalid Authorization header is 401 before the body is read", async () => {
    for (const authorization of [
      undefined,
      "",
      "Basic YTpi",
      "Bearer",
      "Bearer ",
      "Bearer a b",
      "bearer nothing",
      `Bearer ${"x".repeat(9_000)}`,
    ]) {
      const answered = await api.call("POST", "/v1/tasks", {
        raw: "not json",
        ...(authorization === undefined ? {} : { headers: { authorization } }),
      });
      expect([answered.status, answered.body.code]).toEqual([401, "unauthenticated"]);
    }
  });
});

describe("guessing", () => {
  it("five failures slow an account down, more and more; the owner is not locked out", async () => {
    const mine = await openApiServer();
    try {
      await mine.person("cleo@example.com");
      const guess = (password: string) =>
        mine.call("POST", "/v1/auth/login", { body: { email: "Cleo@example.com", password } });
      for (let i = 0; i < 5; i++) expect((await guess("wrong")).status).toBe(401);
      const blocked = await guess(PASSWORD);
      expect([blocked.status, blocked.body.code, blocked.headers.get("retry-after")]).toEqual([
        429,
        "rate_limited",
        "1",
      ]);
      await mine.clock.advance(1_000);
      expect((await guess("wrong")).status).toBe(401);
      expect((await guess(PASSWORD)).headers.get("retry-after")).toBe("2");
      await mine.clock.advance(2_000);
      expect((await guess(PASSWORD)).status).toBe(200);
      expect((await guess("wrong")).status).toBe(401);
      expect((await guess(PASSWORD)).status).toBe(200);
    } finally {
      await mine.close();
    }
  });

  it("concurrent guesses are each counted", async () => {
    const mine = await openApiServer();
    try {
      await mine.person("dora@example.com");
      const all = await Promise.all(
        Array.from({ length: 9 }, () =>
          mine.call("POST", "/v1/auth/login", { body: { email: "dora@example.com", password: "wrong" } }),
        ),
      );
      expect(all.filter((one) => one.status === 401)).toHaveLength(5);
      expect(all.filter((one) => one.status === 429)).toHaveLength(4);
    } finally {
      await mine.close();
    }
  });

  it("many valid logins and refreshes at once are not limited", async () => {
    const mine = await openApiServer();
    try {
      const { refreshToken } = await mine.person("emil@example.com");
      const enter = () =>
        mine.call("POST", "/v1/auth/login", { body: { email: "emil@example.com", password: PASSWORD } });
      const renew = () => mine.call("POST", "/v1/auth/refresh", { body: { refreshToken } });
      const all = await Promise.all([...Array.from({ length: 20 }, enter), ...Array.from({ length: 20 }, renew)]);
      expect(all.map((one) => one.status)).toEqual(Array.from({ length: 40 }, () => 200));
    } finally {
      await mine.close();
    }
  });

  it("ten failures a minute per address; X-Forwarded-For of an untrusted client is ignored", async () => {
    const mine = await openApiServer();
    try {
      const guess = (i: number) =>
        mine.call("POST", "/v1/auth/login", {
          body: { email: `user${i}@example.com`, password: "wrong" },
          headers: { "x-forwarded-for": `203.0.113.${i}`, forwarded: `for=203.0.113.${i}` },
        });
      for (let i = 0; i < 10; i++) expect((await guess(i)).status).toBe(401);
      const blocked = await guess(11);
      expect([blocked.status, blocked.headers.get("retry-after")]).toEqual([429, "60"]);
      await mine.clock.advance(60_000);
      expect((await guess(12)).status).toBe(401);
    } finally {
      await mine.close();
    }
  });

  it("valid logins are not counted, and the header of a trusted proxy is used", async () => {
    const mine = await openApiServer({ deps: { trustProxy: 1 } });
    try {
      for (const name of ["finn", "gerd"]) await mine.person(`${name}@example.com`);
      const enter = (ip: string, password: string, email = "finn@example.com") =>
        mine.call("POST", "/v1/auth/login", {
          body: { email, password },
          headers: { "x-forwarded-for": ip },
        });
      for (let i = 0; i < 15; i++) expect((await enter("203.0.113.1", PASSWORD)).status).toBe(200);
      for (let i = 0; i < 10; i++) {
        const other = { email: `x${i}@example.com`, password: "wrong" };
        // Left of the proxy's own entry stands what the client made up.
        await mine.call("POST", "/v1/auth/login", {
          body: other,
          headers: { "x-forwarded-for": `198.51.100.${i}, 203.0.113.1` },
        });
      }
      expect((await enter("203.0.113.1", PASSWORD, "gerd@example.com")).status).toBe(429);
      expect((await enter("203.0.113.2", PASSWORD, "gerd@example.com")).status).toBe(200);
      expect((await enter("203.0.113.1", PASSWORD)).status).toBe(200);
    } finally {
      await mine.close();
    }
  });
});

describe("tokens, credentials, users, tickets", () => {
  it("a personal token is shown once, lists without itself, works, and is revoked by its owner only", async () => {
    const gus = await api.person("gus@example.com");
    const hal = await api.person("hal@example.com");
    const made = await api.call("POST", "/v1/tokens", {
      token: gus.accessToken,
      body: { name: "laptop", expiresInDays: 7 },
    });
    expect(made.status).toBe(201);
    const { token, ...shown } = made.body;
    expect(Date.parse(shown.expiresAt) - Date.parse(shown.createdAt)).toBe(7 * 86_400_000);
    expect((await api.call("GET", "/v1/me", { token })).body.id).toBe(gus.userId);
    const list = await api.call("GET", "/v1/tokens", { token: gus.accessToken });
    expect(list.body.items).toMatchObject([{ id: shown.id, name: "laptop" }]);
    expect(list.text).not.toContain(token);
    expect((await api.call("POST", "/v1/tokens", { token, body: { name: "child" } })).body.code).toBe("forbidden");
    expect((await api.call("DELETE", `/v1/tokens/${shown.id}`, { token: hal.accessToken })).status).toBe(404);
    expect((await api.call("GET", "/v1/me", { token })).status).toBe(200);
    expect((await api.call("DELETE", `/v1/tokens/${shown.id}`, { token: gus.accessToken })).status).toBe(204);
    expect((await api.call("GET", "/v1/me", { token })).status).toBe(401);
    expect((await api.call("DELETE", `/v1/tokens/${shown.id}`, { token: gus.accessToken })).status).toBe(404);
  });

  it("lists come in pages", async () => {
    const ivy = await api.person("ivy@example.com");
    for (const name of ["a", "b", "c"])
      await api.call("POST", "/v1/tokens", { token: ivy.accessToken, body: { name } });
    const first = await api.call("GET", "/v1/tokens?limit=2", { token: ivy.accessToken });
    const rest = await api.call("GET", `/v1/tokens?limit=2&cursor=${first.body.next}`, { token: ivy.accessToken });
    expect([...first.body.items, ...rest.body.items].map((one: { name: string }) => one.name).sort()).toEqual([
      "a",
      "b",
      "c",
    ]);
    expect(rest.body.next).toBeNull();
  });

  it("[S1] a credential is sealed at rest and never returned; the same host replaces", async () => {
    const jan = await api.person("jan@example.com");
    const secret = "ghp_thisIsTheSecretOfJan";
    const put = (host: string) =>
      api.call("POST", "/v1/credentials", {
        token: jan.accessToken,
        body: { host, kind: "token", token: secret, username: "jan" },
      });
    const made = await put("GitHub.com:443");
    expect(made.body).toMatchObject({ host: "github.com", kind: "token", username: "jan" });
    expect((await put("github.com")).status).toBe(201);
    const list = await api.call("GET", "/v1/credentials", { token: jan.accessToken });
    expect(list.body.items).toHaveLength(1);
    expect(made.text + list.text).not.toContain(secret);
    const [row] = await api.accounts.credentials(jan.userId);
    expect(row!.sealed).not.toContain(secret);
    expect(api.vault.open(row!.sealed, credentialContext(jan.userId, "github.com"))).toBe(secret);
    expect(() => api.vault.open(row!.sealed, credentialContext(jan.userId, "evil.example"))).toThrow();
    expect(JSON.stringify(api.lines)).not.toContain(secret);
    const kim = await api.person("kim@example.com");
    expect((await api.call("DELETE", `/v1/credentials/${row!.id}`, { token: kim.accessToken })).status).toBe(404);
    expect((await api.call("DELETE", `/v1/credentials/${row!.id}`, { token: jan.accessToken })).status).toBe(204);
  });

  it("[V10] a credential says what its check said and what it was used for; the check can be left out", async () => {
    const { accessToken: token, userId } = await api.person("ola@example.com");
    const host = "git.example.com";
    const put = (more: object) =>
      api.call("POST", "/v1/credentials", { token, body: { host, kind: "token", token: "s3cret-token", ...more } });
    expect((await put({})).body.check).toMatchObject({
      result: "unknown",
      message: expect.stringMatching(/^Not checked: /),
    });
    const foreign = await put({ repo: "https://github.com/team/app" });
    expect([foreign.status, foreign.body.code]).toEqual([400, "invalid_repository"]);
    const made = await put({ check: false, repo: "https://github.com/team/app" });
    expect(made.body).toMatchObject({ check: { result: "skipped" }, lastUsedAt: null, lastUse: null });
    const use = { purpose: "push", repo: "https://git.example.com/team/app" } as const;
    await api.accounts.touchCredential(userId, made.body.id, api.clock.now(), use);
    const { items } = (await api.call("GET", "/v1/credentials", { token })).body;
    expect(items).toMatchObject([{ lastUsedAt: new Date(api.clock.now()).toISOString(), lastUse: use }]);
  });

  it("a credential's host is a plain host", async () => {
    expect(normalizeHost("git.example.com:8443")).toBe("git.example.com:8443");
    expect(normalizeHost("127.0.0.1:3000")).toBe("127.0.0.1:3000");
    const bad = [
      "https://github.com",
      "github.com/o/r",
      "u@github.com",
      "github.com:99999",
      "github.com:",
      "[::1]",
      "0x7f.1",
      "a b",
      "-x",
      "x-",
      "a..b",
      "git hub.com",
      "github.com.",
      "gïthub.com",
      "github.com\n",
      "a:0",
    ];
    for (const host of bad)
      expect(() => normalizeHost(host), host).toThrow(expect.objectContaining({ code: "invalid_request" }));
    const lea = await api.person("lea@example.com");
    const body = { host: "https://github.com", kind: "token", token: "x" };
    const answered = await api.call("POST", "/v1/credentials", { token: lea.accessToken, body });
    expect(answered.body.errors).toEqual([{ path: "host", message: expect.any(String) }]);
  });

  it("roles: what users, operators and admins may do", async () => {
    const user = await api.person("mia@example.com");
    const operator = await api.person("ned@example.com", "operator");
    const admin = await api.person("oda@example.com", "admin");
    const body = { email: "pia@example.com", password: PASSWORD, role: "operator" };
    expect((await api.call("POST", "/v1/users", { token: user.accessToken, body })).body.code).toBe("forbidden");
    expect((await api.call("POST", "/v1/users", { token: operator.accessToken, body })).body.code).toBe("forbidden");
    expect((await api.call("POST", "/v1/users", { token: admin.accessToken, body })).body).toMatchObject({
      role: "operator",
    });
    expect((await api.call("POST", "/v1/users", { token: LOCAL_TOKEN, body })).body.code).toBe("conflict");
    const list = await api.call("GET", "/v1/users?limit=1000", { token: LOCAL_TOKEN });
    expect(list.body.items.map((one: { email: string }) => one.email)).toContain("pia@example.com");
    expect(list.text).not.toMatch(/hash|argon2|local@/);
    expect((await api.call("GET", "/v1/ops/overview", { token: user.accessToken })).status).toBe(403);
    expect((await api.call("GET", "/v1/ops/overview", { token: operator.accessToken })).status).toBe(200);
    const pat = (await api.call("POST", "/v1/tokens", { token: admin.accessToken, body: { name: "x" } })).body.token;
    expect(
      (await api.call("POST", "/v1/users", { token: pat, body: { ...body, email: "q@example.com" } })).body.code,
    ).toBe("forbidden");
  });

  it("a ticket stands for its caller once", async () => {
    const rob = await api.person("rob@example.com");
    const made = await api.call("POST", "/v1/tickets", { token: rob.accessToken });
    expect([made.status, made.body.expiresIn]).toEqual([201, 30]);
    expect(await api.sessions.redeemTicket(made.body.ticket)).toMatchObject({ userId: rob.userId });
    await expect(api.sessions.redeemTicket(made.body.ticket)).rejects.toMatchObject({ code: "unauthenticated" });
    expect((await api.call("GET", "/v1/me", { token: made.body.ticket })).status).toBe(401);
  });
});

describe("behind one address", () => {
  it("[H4] forged refresh tokens of a stranger are limited, and keep nobody else out", async () => {
    const mine = await openApiServer();
    try {
      const { refreshToken } = await mine.person("gil@example.com");
      const renew = (token: string) => mine.call("POST", "/v1/auth/refresh", { body: { refreshToken: token } });
      const [head, body] = refreshToken.split(".") as [string, string];
      const forged = `${head}.${body}.${"A".repeat(22)}`;
      for (let n = 0; n < 10; n++) expect((await renew(forged)).status).toBe(401);
      expect((await renew(forged)).status).toBe(429);
      const next = await renew(refreshToken);
      expect(next.status).toBe(200);
      // While nobody has used its successor, the answer may have been lost (H19).
      await mine.clock.advance(31_000);
      expect((await renew(refreshToken)).body.refreshToken).toBe(next.body.refreshToken);
      await arrives(mine, next.body);
      // One that was signed here and is used up is refused each time, and is no guess either.
      await mine.clock.advance(31_000);
      for (let n = 0; n < 12; n++) expect((await renew(refreshToken)).status).toBe(401);
    } finally {
      await mine.close();
    }
  });
});

describe("a proxy that nobody configured", () => {
  const WARNING = /set SLIPWAY_TRUST_PROXY/;
  const headers = { "x-forwarded-for": "203.0.113.7" };

  it("[H8] is told to the operator once, and only where none is trusted", async () => {
    for (const [trustProxy, expected] of [
      [undefined, 1],
      [0, 1],
      [1, 0],
    ] as const) {
      const mine = await openApiServer(trustProxy === undefined ? {} : { deps: { trustProxy } });
      try {
        await mine.call("GET", "/healthz");
        expect(mine.lines.filter(({ text }) => WARNING.test(text))).toEqual([]);
        for (let n = 0; n < 3; n++) await mine.call("GET", "/healthz", { headers });
        expect(mine.lines.filter(({ text }) => WARNING.test(text))).toHaveLength(expected);
      } finally {
        await mine.close();
      }
    }
  });
});
