/** Open sockets of people whose session, token, account or role has ended, on a real server. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { WebSocket } from "ws";
import { startServer, type RealServer } from "../../support/process/server.ts";

const PASSWORD = "seven green lanterns";
let dir: string;
let server: RealServer;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-ended-"));
  server = await startServer({ dataDir: join(dir, "data"), sandbox: "simulated" });
});
afterAll(async () => {
  await server.kill();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

const as = (token: string) => ({ authorization: `Bearer ${token}` });

async function person(name: string): Promise<{ id: string; token: string }> {
  const email = `${name}@example.com`;
  const { id } = (await server.call("POST", "/v1/users", { email, password: PASSWORD, role: "operator" })).body as {
    id: string;
  };
  const login = await server.call("POST", "/v1/auth/login", { email, password: PASSWORD });
  return { id, token: (login.body as { accessToken: string }).accessToken };
}

/** Resolves with the close code and the time from the end of `act` to it, ms. */
async function closes(bearer: string, act: () => Promise<unknown>): Promise<{ code: number; ms: number }> {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/v1/stream`, { headers: as(bearer) });
  await new Promise((resolve, reject) => socket.once("message", resolve).once("error", reject));
  const closed = new Promise<number>((resolve) => socket.once("close", resolve));
  await act();
  const begun = performance.now();
  return { code: await closed, ms: performance.now() - begun };
}

it.each([
  ["a session that was ended elsewhere", ({ token }) => server.call("DELETE", "/v1/sessions", undefined, as(token))],
  ["a disabled person", ({ id }) => server.call("POST", `/v1/users/${id}/disable`, { tasks: "keep" })],
  ["another role", ({ id }) => server.call("POST", `/v1/users/${id}/role`, { role: "user" })],
  ["sessions that an admin ended", ({ id }) => server.call("DELETE", `/v1/users/${id}/sessions`)],
] satisfies [string, (who: { id: string; token: string }) => Promise<unknown>][])(
  "[H5] %s closes its sockets with 4401 within five seconds",
  async (name, act) => {
    const who = await person(name.replaceAll(/\W+/g, "-"));
    const { code, ms } = await closes(who.token, () => act(who));
    expect(code).toBe(4401);
    expect(ms).toBeLessThan(5_000);
  },
);

it("[H5] a token that was revoked, and a disabled person's, close their sockets too", async () => {
  const who = await person("token");
  const make = async (): Promise<{ id: string; token: string }> =>
    (await server.call("POST", "/v1/tokens", { name: "ci" }, as(who.token))).body as { id: string; token: string };
  const [revoked, kept] = [await make(), await make()];
  const first = await closes(revoked.token, () =>
    server.call("DELETE", `/v1/tokens/${revoked.id}`, undefined, as(who.token)),
  );
  const second = await closes(kept.token, () => server.call("POST", `/v1/users/${who.id}/disable`, { tasks: "keep" }));
  expect([first.code, second.code]).toEqual([4401, 4401]);
  expect(Math.max(first.ms, second.ms)).toBeLessThan(5_000);
});

it("[H7] a new password closes the sockets of other devices, and not of this one", async () => {
  const who = await person("password");
  const login = await server.call("POST", "/v1/auth/login", { email: "password@example.com", password: PASSWORD });
  const other = (login.body as { accessToken: string }).accessToken;
  const body = { currentPassword: PASSWORD, newPassword: `${PASSWORD} again` };
  const { code } = await closes(other, () => server.call("POST", "/v1/me/password", body, as(who.token)));
  expect(code).toBe(4401);
  expect((await server.call("GET", "/v1/me", undefined, as(who.token))).status).toBe(200);
});
