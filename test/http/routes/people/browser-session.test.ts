/** Sessions of browsers: the refresh token is in a cookie. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openApiServer, PASSWORD, SETUP_TOKEN, type ApiServer, type Answered } from "../../api-server.ts";

let api: ApiServer;
const email = "ann@example.com";

beforeAll(async () => {
  api = await openApiServer({ deps: { trustProxy: 1 } });
  await api.sessions.createUser({ email, password: PASSWORD, role: "user" });
});
afterAll(async () => api.close());

const readCookie = (answer: Answered): string => answer.headers.get("set-cookie") ?? "";
const pair = (cookie: string): string => cookie.split(";", 1)[0] ?? "";

const logIn = (headers: Record<string, string> = {}): Promise<Answered> =>
  api.call("POST", "/v1/session", { body: { email, password: PASSWORD }, headers });

describe("[P2] the session of a browser", () => {
  it("the refresh token is in a cookie that scripts cannot read, and not in the answer", async () => {
    const answer = await logIn();
    expect(answer.status).toBe(200);
    expect(Object.keys(answer.body as object).toSorted()).toEqual(["accessToken", "expiresIn", "user"]);
    expect(readCookie(answer)).toMatch(/^slipway=[^;]+; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Strict$/);
    expect((await api.call("GET", "/v1/me", { token: answer.body.accessToken })).body.email).toBe(email);
  });

  it("over https the cookie is bound to the host and is sent over https only", async () => {
    const answer = await logIn({ "x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.9" });
    expect(readCookie(answer)).toMatch(/^__Host-slipway=[^;]+; Path=\/; .*; HttpOnly; SameSite=Strict; Secure$/);
  });

  it("the cookie renews the session and is replaced; without one the answer is 401", async () => {
    const first = await logIn();
    const renewed = await api.call("POST", "/v1/session/refresh", { headers: { cookie: pair(readCookie(first)) } });
    expect(renewed.status).toBe(200);
    expect(pair(readCookie(renewed))).not.toBe(pair(readCookie(first)));
    expect((await api.call("POST", "/v1/session/refresh")).status).toBe(401);
  });

  it("log-out ends the session at the server and removes the cookie", async () => {
    const first = await logIn();
    const ended = await api.call("DELETE", "/v1/session", { token: first.body.accessToken });
    expect(ended.status).toBe(204);
    expect(readCookie(ended)).toMatch(/^slipway=; Path=\/; Max-Age=0;/);
    const again = await api.call("POST", "/v1/session/refresh", { headers: { cookie: pair(readCookie(first)) } });
    expect(again.status).toBe(401);
  });

  it.each([
    ["a fetch of another site", { "sec-fetch-site": "cross-site" }],
    ["a page of another port", { "sec-fetch-site": "same-site" }],
    ["another origin, from a browser without Sec-Fetch-Site", { origin: "https://evil.example" }],
    ["an opaque origin", { origin: "null" }],
  ])("%s is rejected on every route, and nothing is set", async (_name, headers) => {
    const cookie = pair(readCookie(await logIn()));
    const answers = [
      await logIn(headers),
      await api.call("POST", "/v1/session/refresh", { headers: { ...headers, cookie } }),
      await api.call("POST", "/v1/session/setup", {
        body: { token: SETUP_TOKEN, email: "root@example.com", password: PASSWORD },
        headers,
      }),
    ];
    expect(answers.map(({ status, body }) => [status, body.code])).toEqual(answers.map(() => [403, "forbidden"]));
    expect(answers.map(readCookie)).toEqual(["", "", ""]);
  });

  it("the one-time token makes the first admin and logs in as it", async () => {
    const answer = await api.call("POST", "/v1/session/setup", {
      body: { token: SETUP_TOKEN, email: "root@example.com", password: PASSWORD },
    });
    expect(answer.status).toBe(201);
    expect(answer.body.user.role).toBe("admin");
    expect(readCookie(answer)).toContain("HttpOnly");
  });
});
