/** Variables of repositories over HTTP: stored sealed, shown without secrets, bounded. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { openApiServer, type ApiServer } from "../../api-server.ts";

const REPO = "https://git.example.com/team/app";
const SECRET = "9fK2mQz7LwX4vB8n";
let api: ApiServer;
let ada: string;
let bob: string;
let adaId: string;
beforeAll(async () => {
  api = await openApiServer();
  ({ accessToken: ada, userId: adaId } = await api.person("ada@example.com"));
  ({ accessToken: bob } = await api.person("bob@example.com"));
});
afterAll(() => api.close());

const put = (body: object, token = ada) =>
  api.call("POST", "/v1/variables", { token, body: { repo: REPO, name: "NPM_TOKEN", value: SECRET, ...body } });
const list = async (token = ada, query = "") => (await api.call("GET", `/v1/variables${query}`, { token })).body.items;
const remove = (name: string, token = ada) =>
  api.call("DELETE", `/v1/variables?repo=${encodeURIComponent(REPO)}&name=${name}`, { token });

it("[S11] a secret is never shown again, is sealed at rest, and is for the setup unless it is said", async () => {
  const stored = await put({ repo: `${REPO}.git/` });
  expect(stored.status).toBe(201);
  expect(stored.body).toMatchObject({ repo: REPO, name: "NPM_TOKEN", secret: true, phase: "setup", value: null });
  expect((await put({ name: "STAGE", value: "test", secret: false })).body).toMatchObject({
    phase: "agent",
    value: "test",
  });
  expect((await put({ name: "API_KEY", phase: "agent" })).body).toMatchObject({ phase: "agent", value: null });
  expect(JSON.stringify(await list())).not.toContain(SECRET);
  expect((await list()).map(({ name }: { name: string }) => name)).toEqual(["API_KEY", "NPM_TOKEN", "STAGE"]);
  const rows = await api.accounts.variables(adaId, REPO);
  expect(rows).toHaveLength(3);
  expect(JSON.stringify(rows)).not.toMatch(/9fK2mQz7|"test"/);
  expect(api.lines.join("")).not.toContain(SECRET);
});

it("[S2] nobody else sees, replaces or removes it", async () => {
  expect(await list(bob)).toEqual([]);
  expect((await remove("NPM_TOKEN", bob)).status).toBe(404);
  expect((await put({ value: "of somebody else" }, bob)).status).toBe(201);
  expect((await remove("NPM_TOKEN", bob)).status).toBe(204);
  expect(await list(ada, `?repo=${encodeURIComponent(REPO)}`)).toHaveLength(3);
  expect((await api.call("POST", "/v1/variables", { body: {} })).status).toBe(401);
});

it.each([
  ["PATH", SECRET],
  ["LD_PRELOAD", SECRET],
  ["NODE_OPTIONS", SECRET],
  ["SLIPWAY_TOKEN", SECRET],
  ["git_ssh_command", SECRET],
  ["https_proxy", SECRET],
  ["ANTHROPIC_BASE_URL", SECRET],
  ["BASH_ENV", SECRET],
  ["1X", SECRET],
  ["A B", SECRET],
  ["A".repeat(101), SECRET],
  ["OK", "7 chars"],
  ["OK", "padded        "],
  ["OK", `${SECRET}\0`],
  ["OK", "x".repeat(16_385)],
])("[S11] %s with such a value is refused, and the value is not repeated", async (name, value) => {
  const { status, body } = await put({ name, value });
  expect([status, body.code]).toEqual([400, "invalid_request"]);
  expect(JSON.stringify(body)).not.toContain(value);
});

it("[S6] a repository has a bounded number and size of them", async () => {
  const repo = "https://git.example.com/team/full";
  for (let i = 0; i < 4; i += 1)
    expect((await put({ repo, name: `L${i}`, value: "x".repeat(16_000), secret: false })).status).toBe(201);
  expect((await put({ repo, name: "L4", value: "x".repeat(16_000), secret: false })).body.detail).toMatch(
    /65536 bytes/,
  );
  for (let i = 0; i < 46; i += 1) await put({ repo, name: `S${i}`, value: "x", secret: false });
  expect((await put({ repo, name: "MORE", value: "x", secret: false })).body.detail).toMatch(/at most 50/);
  expect((await put({ repo, name: "S0", value: "y", secret: false })).status).toBe(201);
});
