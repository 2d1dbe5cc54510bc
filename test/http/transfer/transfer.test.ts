/** Conditional requests, compression and other origins, on a real port. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LOCAL_TOKEN, openApiServer, REPO, type ApiServer } from "../api-server.ts";

const SHELL = "capacitor://localhost";
let api: ApiServer;
beforeAll(async () => {
  api = await openApiServer({ deps: { origins: [SHELL] } });
  // What waits does not change by itself.
  await api.harness.coordinator.operations.setQueueMode("paused");
  for (let i = 0; i < 5; i++)
    await api.call("POST", "/v1/tasks", { token: LOCAL_TOKEN, body: { repo: REPO, prompt: `Do it ${i}.` } });
});
afterAll(() => api.close());

const send = (path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Response> =>
  fetch(`http://127.0.0.1:${api.port}${path}`, {
    method,
    headers: { authorization: `Bearer ${LOCAL_TOKEN}`, ...headers },
  });

describe("conditional requests", () => {
  it.each(["/v1/tasks", "/v1/me", "/openapi.json"])("[V5] %s is 304 while it stays the same", async (path) => {
    const first = await send(path);
    const etag = first.headers.get("etag") ?? "";
    expect(etag).toMatch(/^W\/"[\w-]{27}"$/);
    expect(first.headers.get("cache-control")).toBe("private, no-cache");
    expect(first.headers.get("vary")).toContain("Authorization");
    const second = await send(path, { "if-none-match": etag });
    expect([second.status, await second.text(), second.headers.get("etag")]).toEqual([304, "", etag]);
    expect((await send(path, { "if-none-match": 'W/"other"' })).status).toBe(200);
    const head = await send(path, { "if-none-match": etag }, "HEAD");
    expect(head.status).toBe(304);
  });

  it("[V5] a change is a new answer", async () => {
    const before = (await send("/v1/tasks")).headers.get("etag") ?? "";
    await api.call("POST", "/v1/tasks", { token: LOCAL_TOKEN, body: { repo: REPO, prompt: "One more." } });
    const after = await send("/v1/tasks", { "if-none-match": before });
    expect(after.status).toBe(200);
    expect(after.headers.get("etag")).not.toBe(before);
  });

  it("[V5] an error, and the answer to a call that changes something, have no ETag and are not stored", async () => {
    const missing = await send("/v1/tasks/task_00000000000000000000000000");
    const made = await send("/v1/tickets", {}, "POST");
    for (const { headers } of [missing, made])
      expect([headers.get("etag"), headers.get("cache-control")]).toEqual([null, "no-store"]);
  });
});

describe("compression", () => {
  it("[V5] a long answer is compressed, in a form that the client accepts", async () => {
    for (const encoding of ["gzip", "br"]) {
      const { headers } = await send("/v1/tasks", { "accept-encoding": encoding });
      expect([headers.get("content-encoding"), headers.get("vary")]).toEqual([
        encoding,
        expect.stringContaining("Accept-Encoding"),
      ]);
    }
    const plain = await send("/v1/tasks", { "accept-encoding": "identity" });
    expect(plain.headers.get("content-encoding")).toBeNull();
    const packed = await send("/v1/tasks", { "accept-encoding": "gzip" });
    expect(await packed.json()).toEqual(await plain.json());
  });

  it("[V5] a short answer is not, nor one that may contain a new secret", async () => {
    expect((await send("/v1/me")).headers.get("content-encoding")).toBeNull();
    const body = JSON.stringify({ name: "n".repeat(100) });
    const made = await fetch(`http://127.0.0.1:${api.port}/v1/tasks`, {
      method: "POST",
      headers: { authorization: `Bearer ${LOCAL_TOKEN}`, "content-type": "application/json" },
      body: JSON.stringify({ repo: REPO, prompt: body.repeat(50) }),
    });
    expect([made.status, made.headers.get("content-encoding")]).toEqual([201, null]);
  });
});

describe("other origins", () => {
  const preflight = (origin: string, path = "/v1/tasks") =>
    send(path, { origin, "access-control-request-method": "POST" }, "OPTIONS");

  it("[V6] a native shell that is listed calls the API", async () => {
    const answered = await preflight(SHELL);
    expect(answered.status).toBe(204);
    expect(answered.headers.get("access-control-allow-origin")).toBe(SHELL);
    expect(answered.headers.get("access-control-allow-headers")).toContain("If-None-Match");
    const { headers } = await send("/v1/me", { origin: SHELL });
    expect(headers.get("access-control-allow-origin")).toBe(SHELL);
    expect(headers.get("access-control-expose-headers")).toContain("ETag");
  });

  it("[V6] a preflight from elsewhere is rejected with the name of the setting", async () => {
    const answered = await preflight("https://elsewhere.example");
    expect([answered.status, answered.headers.get("access-control-allow-origin")]).toEqual([403, null]);
    expect(await answered.text()).toContain("SLIPWAY_ALLOWED_ORIGINS");
  });

  it("a call that is no preflight is answered without leave for the page to read it", async () => {
    const answered = await send("/v1/me", { origin: "https://elsewhere.example" });
    expect([answered.status, answered.headers.get("access-control-allow-origin")]).toEqual([200, null]);
  });
});
