import { connect, type Socket } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SlipwayError } from "../../src/core/error.ts";
import { BODY_LIMIT } from "../../src/core/protocol/rest.ts";
import { openApiServer, REPO, type Asked, type ApiServer } from "./api-server.ts";

let api: ApiServer;
let token: string;
beforeAll(async () => {
  api = await openApiServer();
  token = (await api.person("ada@example.com")).accessToken;
});
afterAll(() => api.close());

const submit = (asked: Asked) => api.call("POST", "/v1/tasks", { token, ...asked });
const alive = async () => expect((await api.call("GET", "/healthz")).status).toBe(200);
const bearer = () => `Authorization: Bearer ${token}\r\n`;
const parseStatus = (text: string) => Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1]);
const parseCode = (text: string) => /"code":"(\w+)"/.exec(text)?.[1];

describe("[S6] what is not HTTP", () => {
  const body = '{"name":"x"}';
  const smuggles: Record<string, string> = {
    "length and chunks": `POST /v1/tokens HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    "two lengths": `POST /v1/tokens HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nContent-Length: 5\r\n\r\n${body}`,
    "a folded header": `GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n`,
    "a bare line feed": `GET /healthz HTTP/1.1\nHost: a\n\n`,
    "a space before the colon": `GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n`,
    "no host": `GET /healthz HTTP/1.1\r\n\r\n`,
    "a nul in a header": `GET /healthz HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n`,
    "another encoding of transfer": `POST /v1/tokens HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
    "a bad chunk": `POST /v1/tokens HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n`,
    "another protocol": `\x16\x03\x01\x02\x00\x01\x00`,
  };
  for (const [name, text] of Object.entries(smuggles)) {
    it(`${name} is 400`, async () => {
      const answered = await api.raw(text);
      expect(parseStatus(answered), answered).toBe(400);
      expect(answered.split("HTTP/1.1 ")).toHaveLength(2);
      await alive();
    });
  }

  it("a refusal of the parser is a problem document too", async () => {
    const answered = await api.raw("nonsense\r\n\r\n");
    expect(answered).toContain("application/problem+json");
    expect(parseCode(answered)).toBe("invalid_request");
  });
});

describe("[S6] what does not arrive in time", () => {
  let hasty: ApiServer;
  beforeAll(async () => {
    hasty = await openApiServer({ limits: { headersMs: 400, requestMs: 800, checkMs: 100 } });
  });
  afterAll(() => hasty.close());

  it("headers that never end are 408", async () => {
    const answered = await hasty.raw("GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow:");
    expect([parseStatus(answered), parseCode(answered)]).toEqual([408, "request_timeout"]);
  });

  it("a body that never comes is 408", async () => {
    const { accessToken } = await hasty.person("eve@example.com");
    const answered = await hasty.raw(
      `POST /v1/tokens HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${accessToken}\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"name":`,
    );
    expect([parseStatus(answered), parseCode(answered)]).toEqual([408, "request_timeout"]);
    expect(answered.split("HTTP/1.1 ")).toHaveLength(2);
    await expect.poll(async () => (await hasty.call("GET", "/healthz")).status).toBe(200);
  });
});

describe("[S6] slow and many", () => {
  it("a body that breaks off changes nothing and logs no error", async () => {
    const before = api.lines.filter((line) => line.level === "error").length;
    const socket = connect(api.port, "127.0.0.1");
    socket.write(
      `POST /v1/tokens HTTP/1.1\r\nHost: a\r\n${bearer()}Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{"name":`,
    );
    await new Promise((resolve) => setTimeout(resolve, 50));
    socket.destroy();
    await new Promise((resolve) => setTimeout(resolve, 50));
    await alive();
    expect(api.lines.filter((line) => line.level === "error")).toHaveLength(before);
  });

  it("10,000 headers, one of 64 KiB, and 101 small ones are 431; 100 pass", async () => {
    const many = (count: number) => Array.from({ length: count }, (_, i) => `X-${i}: 1\r\n`).join("");
    const get = (headers: string) => api.raw(`GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${headers}\r\n`);
    for (const headers of [many(10_000), `X: ${"a".repeat(65_536)}\r\n`, many(99)]) {
      const answered = await get(headers);
      expect([parseStatus(answered), parseCode(answered)]).toEqual([431, "headers_too_large"]);
    }
    expect(parseStatus(await get(many(98)))).toBe(200);
  });

  it("a token of a megabyte is 431, one of 9 KB is 401", async () => {
    const answered = await api.raw(
      `GET /v1/me HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${"x".repeat(1_000_000)}\r\n\r\n`,
    );
    expect(parseStatus(answered)).toBe(431);
    expect((await api.call("GET", "/v1/me", { token: "x".repeat(9_000) })).status).toBe(401);
  });

  it("more connections than allowed are dropped, and the rest are served", async () => {
    const small = await openApiServer({ limits: { connections: 3 } });
    try {
      const held = await Promise.all(
        Array.from(
          { length: 3 },
          () =>
            new Promise<Socket>((resolve) => {
              const socket = connect(small.port, "127.0.0.1", () => resolve(socket));
            }),
        ),
      );
      expect(await small.raw("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")).toBe("");
      held[0]!.destroy();
      // The server sees the end a moment later.
      const health = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
      await expect.poll(() => small.raw(health)).toMatch(/^HTTP\/1\.1 200 /);
      for (const socket of held) socket.destroy();
    } finally {
      await small.close();
    }
  });
});

describe("[S6] bodies", () => {
  const bad: Record<string, [Asked, number, string]> = {
    "another media type": [{ raw: "{}", headers: { "content-type": "text/plain" } }, 415, "unsupported_media_type"],
    "no media type": [{ raw: "{}", headers: { "content-type": "" } }, 415, "unsupported_media_type"],
    "another charset": [
      { raw: "{}", headers: { "content-type": "application/json; charset=utf-16" } },
      415,
      "unsupported_media_type",
    ],
    "a compressed body": [{ raw: "{}", headers: { "content-encoding": "gzip" } }, 415, "unsupported_media_type"],
    "five megabytes": [{ raw: `{"prompt":"${"a".repeat(5_000_000)}"}` }, 413, "payload_too_large"],
    "one byte too many": [{ raw: `"${"a".repeat(BODY_LIMIT - 1)}"` }, 413, "payload_too_large"],
    "not JSON": [{ raw: "{" }, 400, "invalid_request"],
    NaN: [{ raw: '{"repo":NaN}' }, 400, "invalid_request"],
    "an array": [{ raw: "[]" }, 400, "invalid_request"],
    null: [{ raw: "null" }, 400, "invalid_request"],
    "nothing at all": [{}, 400, "invalid_request"],
    "an array for a string": [{ body: { repo: [REPO], prompt: "x" } }, 400, "invalid_request"],
    "bytes that are not UTF-8": [
      { raw: Buffer.from(`{"repo":"${REPO}","prompt":"\xc3("}`, "latin1") },
      400,
      "invalid_request",
    ],
    "half a surrogate pair": [{ raw: `{"repo":"${REPO}","prompt":"\\ud800"}` }, 400, "invalid_request"],
    "a depth of 10,000": [{ raw: "[".repeat(10_000) + "]".repeat(10_000) }, 400, "invalid_request"],
    "a depth of 100,000 that never closes": [{ raw: '{"a":'.repeat(40_000) }, 400, "invalid_request"],
    "a prompt of blanks": [{ body: { repo: REPO, prompt: " \n\t" } }, 400, "invalid_request"],
    "a prompt with a nul": [{ body: { repo: REPO, prompt: "a\0b" } }, 400, "invalid_request"],
    "a prompt of 64 KiB and one": [{ body: { repo: REPO, prompt: "a".repeat(65_537) } }, 400, "invalid_request"],
    "a title with control characters": [
      { body: { repo: REPO, prompt: "x", title: "a\r\nb\u001b[31m" } },
      400,
      "invalid_request",
    ],
  };
  for (const [name, [asked, status, code]] of Object.entries(bad)) {
    it(`${name} is ${status}`, async () => {
      const answered = await submit(asked);
      expect([answered.status, answered.body.code]).toEqual([status, code]);
      await alive();
    });
  }

  it("exactly the limit is read", async () => {
    const frame = JSON.stringify({ repo: REPO, prompt: "" }).length;
    const answered = await submit({ raw: JSON.stringify({ repo: REPO, prompt: "" }) + " ".repeat(BODY_LIMIT - frame) });
    expect(answered.body.errors).toMatchObject([{ path: "prompt" }]);
  });

  it("an endless chunked body is 413, and the server closes the connection", async () => {
    const chunk = `10000\r\n${"a".repeat(0x10000)}\r\n`;
    const mine = await openApiServer({ limits: { requestMs: 5_000 } });
    try {
      const person = await mine.person("x@example.com");
      const answered = await mine.raw(
        `POST /v1/tokens HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${person.accessToken}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(8)}`,
      );
      expect([parseStatus(answered), parseCode(answered)]).toEqual([413, "payload_too_large"]);
      expect((await mine.call("GET", "/healthz")).status).toBe(200);
    } finally {
      await mine.close();
    }
  });

  it("a byte order mark is accepted", async () => {
    const answered = await api.call("POST", "/v1/tokens", { token, raw: `\ufeff${JSON.stringify({ name: "bom" })}` });
    expect(answered.status).toBe(201);
  });

  it("`__proto__` and its like are unknown fields, once or twice, at any depth", async () => {
    const raws = [
      `{"repo":"${REPO}","prompt":"x","__proto__":{"role":"admin"}}`,
      `{"repo":"${REPO}","prompt":"x","__proto__":1,"__proto__":{"isAdmin":true}}`,
      `{"repo":"${REPO}","prompt":"x","constructor":{"prototype":{"role":"admin"}}}`,
      `{"repo":"${REPO}","prompt":"x","budget":{"__proto__":{"usd":1}}}`,
      `{"repo":"${REPO}","prompt":"x","script":[{"say":"x","prototype":1}]}`,
    ];
    for (const raw of raws) {
      const answered = await submit({ raw });
      expect([answered.status, answered.body.errors[0].message]).toEqual([400, "is not a known field"]);
    }
    expect(({} as Record<string, unknown>)["role"]).toBeUndefined();
    expect(({} as Record<string, unknown>)["isAdmin"]).toBeUndefined();
  });

  it("unknown fields are refused by name at any depth", async () => {
    const body = {
      repo: REPO,
      prompt: "x",
      owner_id: "1",
      role: "admin",
      hostConfig: {},
      mounts: ["/"],
      budget: { euro: 1 },
    };
    const answered = await submit({ body });
    const paths = answered.body.errors.map((one: { path: string }) => one.path).sort();
    expect(paths).toEqual(["budget.euro", "hostConfig", "mounts", "owner_id", "role"]);
    const { task } = await api.harness.coordinator.tasks.submit(
      { userId: (await api.call("GET", "/v1/me", { token })).body.id, role: "user" },
      { repo: REPO, prompt: "x" },
      null,
    );
    const cancel = await api.call("POST", `/v1/tasks/${task.id}/cancel`, { token, body: { force: true } });
    expect(cancel.body.errors).toEqual([{ path: "force", message: "is not a known field" }]);
    expect((await api.call("GET", "/v1/tasks?owner_id=1", { token })).body.errors[0].path).toBe("owner_id");
    expect((await api.call("GET", "/v1/tasks?limit=1&limit=2", { token })).status).toBe(400);
  });
});

describe("[S6] addresses", () => {
  it("an unknown path is 404, another method is 405 with Allow", async () => {
    for (const path of ["/", "/v1", "/v1/", "/v2/tasks", "/v1/Tasks", "/v1/tasks/", "/wp-login.php", "/v1/stream"]) {
      expect((await api.call("GET", path, { token })).body.code, path).toBe("not_found");
    }
    const wrong = await api.call("PUT", "/v1/tasks", { token, body: {} });
    expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "POST, GET, HEAD"]);
    expect((await api.call("PATCH", "/v1/auth/login")).headers.get("allow")).toBe("POST");
    expect((await api.call("OPTIONS", "/v1/me")).status).toBe(405);
    expect(parseStatus(await api.raw(`TRACE /v1/me HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`))).toBe(405);
  });

  it("[S2] malformed ids are 404 before the store is queried", async () => {
    let asked = 0;
    const store = new Proxy(api.store, {
      get(target, key, receiver) {
        const value: unknown = Reflect.get(target, key, receiver);
        return typeof value === "function" ? (...args: unknown[]) => ((asked += 1), value.apply(target, args)) : value;
      },
    });
    const service = new Proxy(api.harness.coordinator.tasks, {
      get(target, key, receiver) {
        asked += 1;
        return Reflect.get(target, key, receiver) as unknown;
      },
    });
    const mine = await openApiServer({ deps: { store, tasks: service } });
    try {
      const person = await mine.person("x@example.com");
      const ids = [
        "1%20OR%201=1",
        "..%2f..%2fetc",
        "%00",
        "task_x",
        "user_00000000000000000000000001%00",
        "__proto__",
        "a".repeat(5_000),
        "%F0%9F%92%A9",
      ];
      for (const id of ids) {
        for (const suffix of ["", "/events", "/diff", "/machine", "/messages", "/attempts", "/tool-calls"]) {
          const answered = await mine.call("GET", `/v1/tasks/${id}${suffix}`, { token: person.accessToken });
          expect([answered.status, answered.body.code], id).toEqual([404, "not_found"]);
        }
        expect((await mine.call("POST", `/v1/tasks/${id}/cancel`, { token: person.accessToken })).status).toBe(404);
        expect((await mine.call("DELETE", `/v1/tokens/${id}`, { token: person.accessToken })).status).toBe(404);
      }
      expect(asked).toBe(0);
    } finally {
      await mine.close();
    }
  });

  it("an address that does not decode is 400", async () => {
    const answered = await api.raw(`GET /v1/tasks/%zz HTTP/1.1\r\nHost: a\r\n${bearer()}Connection: close\r\n\r\n`);
    expect([parseStatus(answered), parseCode(answered)]).toEqual([400, "invalid_request"]);
  });

  it("a path that climbs is 404", async () => {
    for (const path of ["/v1/tasks/../../etc/passwd", "//v1/me", "/v1/./me", "http://evil/v1/nothing", "*"]) {
      const answered = await api.raw(`GET ${path} HTTP/1.1\r\nHost: a\r\n${bearer()}Connection: close\r\n\r\n`);
      expect([400, 404], answered).toContain(parseStatus(answered));
    }
  });
});

describe("headers", () => {
  it("every answer carries the security headers, an id, and nothing about the software", async () => {
    const answers = [
      await api.call("GET", "/healthz"),
      await api.call("GET", "/v1/me"),
      await api.call("GET", "/nothing"),
      await api.call("GET", "/v1/me", { token }),
    ];
    for (const { headers } of answers) {
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("x-frame-options")).toBe("DENY");
      expect(headers.get("referrer-policy")).toBe("no-referrer");
      expect(headers.get("content-security-policy")).toContain("default-src 'none'");
      expect(headers.get("x-request-id")).toMatch(/^req_/);
      expect(headers.get("x-powered-by")).toBeNull();
      expect(headers.get("server")).toBeNull();
      expect(headers.get("access-control-allow-origin")).toBeNull();
    }
    expect(answers.slice(1).map(({ headers }) => headers.get("cache-control"))).toEqual([
      "no-store",
      "no-store",
      "private, no-cache",
    ]);
  });

  it("the Host header is never trusted", async () => {
    const answered = await api.raw("GET /v1/me HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    expect(answered).not.toContain("evil.example");
  });

  it("other origins are allowed only when they are listed", async () => {
    const mine = await openApiServer({ deps: { origins: ["https://app.example.com"] } });
    try {
      const preflight = (origin: string) =>
        mine
          .call("OPTIONS", "/v1/none-of-the-rows", { headers: { origin, "access-control-request-method": "POST" } })
          .catch((error: unknown) => error);
      await preflight("https://evil.example");
      const good = await fetch(`http://127.0.0.1:${mine.port}/v1/tasks`, {
        method: "OPTIONS",
        headers: { origin: "https://app.example.com", "access-control-request-method": "POST" },
      });
      expect([good.status, good.headers.get("access-control-allow-origin")]).toEqual([204, "https://app.example.com"]);
      for (const origin of [
        "https://evil.example",
        "https://app.example.com.evil.example",
        "null",
        "http://app.example.com",
      ]) {
        const answered = await mine.call("GET", "/healthz", { headers: { origin } });
        expect(answered.headers.get("access-control-allow-origin")).toBeNull();
      }
    } finally {
      await mine.close();
    }
  });
});

describe("internal errors", () => {
  it("the cause is in the log with the request's id, and not in the answer", async () => {
    const secret = "SELECT the inside of the database";
    const service = { ...api.harness.coordinator.tasks, submit: () => Promise.reject(new Error(secret)) };
    const mine = await openApiServer({ deps: { tasks: service } });
    try {
      const person = await mine.person("x@example.com");
      const answered = await mine.call("POST", "/v1/tasks", {
        token: person.accessToken,
        body: { repo: REPO, prompt: "x" },
      });
      expect([answered.status, answered.body.code]).toEqual([500, "internal"]);
      expect(answered.text).not.toContain("SELECT");
      const line = mine.lines.find((one) => one.level === "error");
      expect(line?.fields["requestId"]).toBe(answered.headers.get("x-request-id"));
      expect(line?.fields["err"]).toMatchObject({ message: secret });
    } finally {
      await mine.close();
    }
  });

  it("coded errors with a 500 do not show their message either", async () => {
    const service = {
      ...api.harness.coordinator.tasks,
      submit: () => Promise.reject(new SlipwayError("newer_schema", "/secret/path")),
    };
    const mine = await openApiServer({ deps: { tasks: service } });
    try {
      const person = await mine.person("x@example.com");
      const answered = await mine.call("POST", "/v1/tasks", {
        token: person.accessToken,
        body: { repo: REPO, prompt: "x" },
      });
      expect([answered.status, answered.body.code]).toEqual([500, "internal"]);
      expect(answered.text).not.toContain("secret");
    } finally {
      await mine.close();
    }
  });

  it("each request is logged once, without its query and without its token", async () => {
    const before = api.lines.length;
    const answered = await api.call("GET", "/v1/tasks?q=what-people-typed", { token });
    const mine = () =>
      api.lines.slice(before).filter((line) => line.fields["requestId"] === answered.headers.get("x-request-id"));
    const expected = [{ level: "debug", fields: { method: "GET", path: "/v1/tasks", status: 200 } }];
    await expect.poll(mine).toMatchObject(expected);
    await alive();
    expect(mine()).toMatchObject(expected);
    expect(JSON.stringify(api.lines)).not.toContain("what-people-typed");
    expect(JSON.stringify(api.lines)).not.toContain(token);
  });
});
