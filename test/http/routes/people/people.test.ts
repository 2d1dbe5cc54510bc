/**
 * Sessions, passwords, roles, links: what people do to their own account, and admins to others'.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LOCAL_TOKEN, openApiServer, PASSWORD, REPO, type ApiServer, type Answered } from "../../api-server.ts";

const NEXT = "seven green lanterns";
let api: ApiServer;
let root: { userId: string; accessToken: string };
beforeAll(async () => {
  api = await openApiServer();
  root = await api.person("root@example.com", "admin");
});
afterAll(() => api.close());

let people = 0;
const person = async (role?: "user" | "operator" | "admin") => {
  const email = `person${++people}@example.com`;
  return { email, ...(await api.person(email, role)) };
};
const post = (path: string, token: string | undefined, body?: object): Promise<Answered> =>
  api.call("POST", path, { ...(token === undefined ? {} : { token }), ...(body === undefined ? {} : { body }) });
const get = (path: string, token: string): Promise<Answered> => api.call("GET", path, { token });
const remove = (path: string, token: string): Promise<Answered> => api.call("DELETE", path, { token });
const login = (email: string, password: string, headers: Record<string, string> = {}): Promise<Answered> =>
  api.call("POST", "/v1/auth/login", { body: { email, password }, headers });

describe("sessions", () => {
  it("[H5] are listed with device, address and last use, and end one by one", async () => {
    const { email, accessToken } = await person();
    await api.clock.advance(60_000);
    const agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    const other = (await login(email, PASSWORD, { "user-agent": agent })).body;
    const list = await get("/v1/sessions", accessToken);
    expect(list.body.items).toMatchObject([
      { device: "Firefox on Linux", address: "127.0.0.1", current: false },
      { device: "", current: true },
    ]);
    await api.clock.advance(60_000);
    await post("/v1/auth/refresh", undefined, { refreshToken: other.refreshToken });
    const [used] = (await get("/v1/sessions", accessToken)).body.items;
    expect(Date.parse(used.lastUsedAt) - Date.parse(used.createdAt)).toBe(60_000);
    expect((await remove(`/v1/sessions/${used.id}`, accessToken)).status).toBe(204);
    expect((await get("/v1/me", other.accessToken)).status).toBe(401);
    expect((await get("/v1/sessions", accessToken)).body.items).toHaveLength(1);
  });

  it("[H5] all end at once, with or without this one, and nobody ends another's", async () => {
    const { email, accessToken } = await person();
    const second = (await login(email, PASSWORD)).body.accessToken;
    const stranger = await person();
    const [mine] = (await get("/v1/sessions", accessToken)).body.items;
    expect((await remove(`/v1/sessions/${mine.id}`, stranger.accessToken)).status).toBe(404);
    expect((await remove("/v1/sessions?keep=current", accessToken)).status).toBe(204);
    expect([(await get("/v1/me", accessToken)).status, (await get("/v1/me", second)).status]).toEqual([200, 401]);
    expect((await remove("/v1/sessions", accessToken)).status).toBe(204);
    expect((await get("/v1/me", accessToken)).status).toBe(401);
    expect((await get("/v1/me", stranger.accessToken)).status).toBe(200);
  });
});

describe("tokens", () => {
  it("[H6] have scopes, an expiry and a last use, and one from before there were scopes works on", async () => {
    const { userId, accessToken } = await person();
    const made = await post("/v1/tokens", accessToken, { name: "ci", scopes: ["read"], expiresInDays: 3 });
    expect(made.body.scopes).toEqual(["read"]);
    const refused = await post("/v1/tasks", made.body.token, { repo: REPO, prompt: "x" });
    expect([refused.status, refused.body.code, refused.body.detail]).toEqual([
      403,
      "forbidden",
      "This token was made without the scope submit. Make another one.",
    ]);
    expect((await get("/v1/tasks", made.body.token)).status).toBe(200);
    const [shown] = (await get("/v1/tokens", accessToken)).body.items;
    expect(shown).toMatchObject({ scopes: ["read"], lastUsedAt: new Date(api.clock.now()).toISOString() });
    const old = await post("/v1/tokens", accessToken, { name: "old" });
    expect(old.body.scopes).toEqual(["read", "submit", "operate"]);
    const [row] = (await api.accounts.tokens(userId)).filter(({ name }) => name === "old");
    await api.accounts.deleteToken(userId, row!.id);
    await api.accounts.createToken({ ...row!, scopes: null });
    expect((await post("/v1/tasks", old.body.token, { repo: REPO, prompt: "x" })).status).toBe(201);
  });

  it("[H6] a token without the scope read opens no live stream", async () => {
    const { accessToken } = await person();
    const made = await post("/v1/tokens", accessToken, { name: "ci", scopes: ["submit"] });
    await expect(api.sessions.authenticateReader(made.body.token)).rejects.toMatchObject({ code: "forbidden" });
    expect((await post("/v1/tickets", made.body.token)).status).toBe(403);
  });
});

describe("passwords", () => {
  it("[H7] change with the old one, and every other session ends", async () => {
    const { email, accessToken } = await person();
    const other = (await login(email, PASSWORD)).body.accessToken;
    const wrong = await post("/v1/me/password", accessToken, { currentPassword: "wrong", newPassword: NEXT });
    expect([wrong.status, wrong.body.code]).toEqual([401, "invalid_credentials"]);
    expect((await post("/v1/me/password", accessToken, { newPassword: NEXT })).status).toBe(401);
    const weak = { currentPassword: PASSWORD, newPassword: "password123" };
    const refused = await post("/v1/me/password", accessToken, weak);
    expect(refused.body.errors).toEqual([{ path: "newPassword", message: expect.stringContaining("most common") }]);
    const body = { currentPassword: PASSWORD, newPassword: NEXT };
    expect((await post("/v1/me/password", accessToken, body)).status).toBe(204);
    expect([(await get("/v1/me", accessToken)).status, (await get("/v1/me", other)).status]).toEqual([200, 401]);
    expect([(await login(email, PASSWORD)).status, (await login(email, NEXT)).status]).toEqual([401, 200]);
  });

  it("[H4] a stolen session guesses the old password no faster than a stranger", async () => {
    const { accessToken } = await person();
    const guess = () => post("/v1/me/password", accessToken, { currentPassword: "wrong", newPassword: NEXT });
    for (let n = 0; n < 5; n++) expect((await guess()).status).toBe(401);
    expect((await guess()).status).toBe(429);
    await api.clock.advance(61_000);
  });

  it("[H7] an admin's link sets a new one, once and for a day, and ends the sessions", async () => {
    const { userId, email, accessToken } = await person();
    const made = await post(`/v1/users/${userId}/password-link`, root.accessToken);
    expect(made.status).toBe(201);
    expect(new URL(made.body.url).hash).toBe(`#${made.body.token}`);
    const { token } = made.body;
    expect((await post("/v1/links/look", undefined, { token })).body).toMatchObject({ kind: "password", email });
    const weak = await post("/v1/links/accept", undefined, { token, password: "password123" });
    expect(weak.body.code).toBe("invalid_request");
    expect((await get("/v1/me", accessToken)).status).toBe(200);
    const both = await Promise.all(
      [NEXT, `${NEXT}!`].map((password) => post("/v1/links/accept", undefined, { token, password })),
    );
    expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([201, 410]);
    expect((await get("/v1/me", accessToken)).status).toBe(401);
    expect((await post("/v1/links/look", undefined, { token })).body.code).toBe("expired");
    const late = (await post(`/v1/users/${userId}/password-link`, root.accessToken)).body.token;
    await api.clock.jump(24 * 3_600_000);
    root = { ...root, accessToken: (await login("root@example.com", PASSWORD)).body.accessToken };
    expect((await post("/v1/links/accept", undefined, { token: late, password: NEXT })).body.code).toBe("expired");
  });

  it("[H7] a common password makes no account, wherever it is chosen", async () => {
    const body = { email: "weak@example.com", password: "iloveyou123", role: "user" };
    expect((await post("/v1/users", root.accessToken, body)).body.errors[0].path).toBe("password");
    const { token } = (await post("/v1/links", root.accessToken, { role: "user" })).body;
    const accepted = await post("/v1/links/accept", undefined, {
      token,
      email: "weak@example.com",
      password: "weakweakweak",
    });
    expect(accepted.body.errors[0].path).toBe("password");
    expect(await api.accounts.login("weak@example.com")).toBeNull();
  });
});

describe("invitations", () => {
  it("[H7] make one account with their role and e-mail, and log in", async () => {
    const body = { role: "operator", email: "Guest@example.com", days: 1 };
    const { token, url, id } = (await post("/v1/links", root.accessToken, body)).body;
    expect(url).toContain("/join#lnk_");
    const list = await get("/v1/links", root.accessToken);
    expect(list.body.items).toContainEqual(expect.objectContaining({ id, role: "operator" }));
    expect(list.text).not.toContain(token);
    const entered = { token, email: "other@example.com", password: NEXT };
    const joined = await api.call("POST", "/v1/session/link", { body: entered });
    expect([joined.status, joined.body.user]).toMatchObject([201, { email: "guest@example.com", role: "operator" }]);
    expect(joined.headers.get("set-cookie")).toContain("slipway=");
    expect((await post("/v1/links/accept", undefined, entered)).body.code).toBe("expired");
    const foreign = { "sec-fetch-site": "cross-site" };
    expect((await api.call("POST", "/v1/session/link", { body: entered, headers: foreign })).status).toBe(403);
  });

  it("[H7] one without an e-mail asks for it, a taken one is a conflict and uses nothing up, a withdrawn one is over", async () => {
    const { token, id } = (await post("/v1/links", root.accessToken, { role: "user" })).body;
    const missing = await post("/v1/links/accept", undefined, { token, password: NEXT });
    expect(missing.body.errors[0].path).toBe("email");
    const taken = await post("/v1/links/accept", undefined, { token, email: "root@example.com", password: NEXT });
    expect(taken.body.code).toBe("conflict");
    expect((await post("/v1/links", root.accessToken, { role: "user", email: "root@example.com" })).status).toBe(409);
    expect((await remove(`/v1/links/${id}`, root.accessToken)).status).toBe(204);
    const late = await post("/v1/links/accept", undefined, { token, email: "late@example.com", password: NEXT });
    expect(late.body.code).toBe("expired");
    for (const forged of ["", "lnk_", `${token}x`, token.toUpperCase()].filter((text) => text !== ""))
      expect((await post("/v1/links/look", undefined, { token: forged })).body.code).toBe("expired");
  });
});

describe("others' accounts", () => {
  it("[H6] a role changes at once, and the last admin keeps theirs", async () => {
    const { userId, accessToken } = await person();
    expect((await get("/v1/ops/overview", accessToken)).status).toBe(403);
    const raised = await post(`/v1/users/${userId}/role`, root.accessToken, { role: "operator" });
    expect(raised.body.role).toBe("operator");
    expect((await get("/v1/ops/overview", accessToken)).status).toBe(200);
    const mine = await openApiServer();
    try {
      const [ann, ben] = [await mine.person("ann@example.com", "admin"), await mine.person("ben@example.com", "admin")];
      const demote = (id: string) =>
        mine.call("POST", `/v1/users/${id}/role`, { token: LOCAL_TOKEN, body: { role: "user" } });
      const disable = (id: string) =>
        mine.call("POST", `/v1/users/${id}/disable`, { token: LOCAL_TOKEN, body: { tasks: "keep" } });
      const both = await Promise.all([demote(ann.userId), disable(ben.userId)]);
      expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409]);
      expect(await mine.sessions.needsSetup()).toBe(false);
    } finally {
      await mine.close();
    }
  });

  it("[H5] a disabled person is out: log-in, session, refresh, token, ticket; enabled, the token works again", async () => {
    const { userId, email, accessToken, refreshToken } = await person();
    const pat = (await post("/v1/tokens", accessToken, { name: "ci" })).body.token;
    const { ticket } = (await post("/v1/tickets", accessToken)).body;
    const path = `/v1/users/${userId}`;
    expect((await post(`${path}/disable`, root.accessToken, {})).body.errors[0].path).toBe("tasks");
    const off = await post(`${path}/disable`, root.accessToken, { tasks: "keep" });
    expect(off.body.disabledAt).toBe(new Date(api.clock.now()).toISOString());
    expect((await login(email, PASSWORD)).body.code).toBe("invalid_credentials");
    expect([(await get("/v1/me", accessToken)).status, (await get("/v1/me", pat)).status]).toEqual([401, 401]);
    expect((await post("/v1/auth/refresh", undefined, { refreshToken })).status).toBe(401);
    await expect(api.sessions.redeemTicket(ticket)).rejects.toMatchObject({ code: "unauthenticated" });
    expect((await post(`${path}/enable`, root.accessToken)).body.disabledAt).toBeNull();
    expect([(await get("/v1/me", accessToken)).status, (await get("/v1/me", pat)).status]).toEqual([401, 200]);
    expect((await login(email, PASSWORD)).status).toBe(200);
  });

  it("[H5] their open tasks go on or are cancelled, as the admin says", async () => {
    const [keeps, loses] = [await person(), await person()];
    const submit = async (token: string) => (await post("/v1/tasks", token, { repo: REPO, prompt: "x" })).body.id;
    const kept = await submit(keeps.accessToken);
    const lost = [await submit(loses.accessToken), await submit(loses.accessToken)];
    await post(`/v1/users/${keeps.userId}/disable`, root.accessToken, { tasks: "keep" });
    await post(`/v1/users/${loses.userId}/disable`, root.accessToken, { tasks: "cancel" });
    for (const id of lost)
      await expect
        .poll(async () => (await get(`/v1/tasks/${id}`, root.accessToken)).body.state)
        .toMatch(/^cancell(ing|ed)$/);
    expect((await get(`/v1/tasks/${kept}`, root.accessToken)).body.state).not.toMatch(/^cancel/);
  });

  it("[H5] an admin ends somebody's sessions, and the built-in user is nobody's", async () => {
    const { userId, accessToken } = await person();
    expect((await remove(`/v1/users/${userId}/sessions`, root.accessToken)).status).toBe(204);
    expect((await get("/v1/me", accessToken)).status).toBe(401);
    const local = `/v1/users/user_${"0".repeat(26)}`;
    for (const [path, body] of [
      ["role", { role: "user" }],
      ["disable", { tasks: "keep" }],
      ["password-link", undefined],
    ] as const)
      expect((await post(`${local}/${path}`, root.accessToken, body)).status, path).toBe(404);
  });
});
