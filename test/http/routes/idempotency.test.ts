/**
 * Each unsafe call of the OpenAPI document, sent twice at once with one Idempotency-Key: one effect
 * and equal answers; with another body it is a conflict (rule R5). Over HTTP, on a real database.
 */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openapiDocument } from "../../../src/http/openapi/document.ts";
import { ROUTES } from "../../../src/http/routes/index.ts";
import { LOCAL_TOKEN, openApiServer, type Answered, type ApiServer } from "../api-server.ts";
import { taskSamples, type Samples } from "../idempotency-samples.ts";
import { peopleSamples } from "./people/idempotency-samples.ts";

let api: ApiServer;
let samples: Samples;
beforeAll(async () => {
  api = await openApiServer();
  samples = { ...taskSamples(api), ...peopleSamples(api) };
});
afterAll(() => api.close());

const SAFE = new Set(["get", "head", "options"]);
const document = openapiDocument(ROUTES, "0.0.0") as {
  paths: Record<string, Record<string, { parameters?: { name: string; in: string }[]; responses: object }>>;
};
const unsafe = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).flatMap(([method, operation]) => (SAFE.has(method) ? [] : [{ method, path, operation }])),
);

const seen = ({ status, body, headers }: Answered): unknown => ({
  status,
  body,
  location: headers.get("location"),
  cookie: headers.get("set-cookie"),
});

describe("each unsafe call of the document", () => {
  it("has a sample here, names the header and the conflict", () => {
    expect(unsafe.map(({ method, path }) => `${method} ${path}`).toSorted()).toEqual(Object.keys(samples).toSorted());
    for (const { operation } of unsafe) {
      expect(operation.parameters).toContainEqual(expect.objectContaining({ name: "Idempotency-Key", in: "header" }));
      expect(JSON.stringify(operation.responses)).toContain("idempotency_mismatch");
    }
  });

  it.each(unsafe.map(({ method, path }) => `${method} ${path}`))("[R5] %s", async (name) => {
    const [method = "", path = ""] = name.split(" ");
    const sample = (await samples[name]?.()) ?? {};
    const token = sample.token === undefined ? LOCAL_TOKEN : sample.token;
    const send = (body = sample.body) =>
      (sample.on ?? api).call(method.toUpperCase(), sample.path ?? path, {
        ...(token === null ? {} : { token }),
        ...(body === undefined ? {} : typeof body === "string" ? { raw: body } : { body }),
        headers: { ...sample.headers, "idempotency-key": `key-of-${name.replaceAll(" ", "-")}` },
      });
    const [first, second] = await Promise.all([send(), send()]);
    expect(first.status, first.text).toBeLessThan(300);
    if (name === "post /v1/tasks") {
      // The second is the task as it is now, with 200.
      expect(new Set([first.status, second.status])).toEqual(new Set([200, 201]));
      expect(second.body.id).toBe(first.body.id);
    } else if (name === "post /v1/session/refresh") {
      // The same next refresh token, as long as the cookie may be sent again.
      expect(second.headers.get("set-cookie")).toBe(first.headers.get("set-cookie"));
      const { refreshToken } = await api.person("somebody@example.com");
      const headers = { cookie: `slipway=${refreshToken}`, "idempotency-key": `key-of-${name.replaceAll(" ", "-")}` };
      const other = await api.call("POST", path, { headers });
      expect(other.body.user.email).toBe("somebody@example.com");
    } else expect(seen(second)).toEqual(seen(first));
    if (sample.effects !== undefined) expect(await sample.effects()).toBe(1);
    if (["post /v1/auth/logout", "delete /v1/session", "delete /v1/me"].includes(name))
      return expect((await send()).status).toBe(401);
    const later = await send();
    expect([later.status < 300, later.body?.id]).toEqual([true, first.body?.id]);
    if (sample.effects !== undefined) expect(await sample.effects()).toBe(1);
    if (sample.other === undefined) return;
    const conflict = await send(sample.other);
    expect([conflict.status, conflict.body.code]).toEqual([422, "idempotency_mismatch"]);
    if (sample.effects !== undefined) expect(await sample.effects()).toBe(1);
  });
});
