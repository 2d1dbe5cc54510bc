import { join } from "node:path";
import Database from "../../../src/store/sqlite/driver.ts";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { openapiDocument, toOpenapiPath } from "../../../src/http/openapi/document.ts";
import { ROUTES } from "../../../src/http/routes/index.ts";
import { sandboxName, TASK_STATES } from "../../../src/core/task.ts";
import { LOCAL_TOKEN, openApiServer, REPO, type ApiServer } from "../api-server.ts";

let api: ApiServer;
beforeAll(async () => {
  api = await openApiServer();
});
afterAll(() => api.close());

describe("probes", () => {
  it("healthz and readyz need no authentication", async () => {
    expect((await api.call("GET", "/healthz")).body).toEqual({ status: "alive", version: "0.0.0-test" });
    expect((await api.call("GET", "/readyz?from=balancer")).body).toEqual({ status: "ready" });
    const head = await api.call("HEAD", "/healthz");
    expect([head.status, head.text]).toEqual([200, ""]);
  });

  it("not ready names the part without the reason, and checks again only after a second", async () => {
    let looks = 0;
    let works = false;
    const checkSandbox = (): Promise<string> => {
      looks += 1;
      return works ? Promise.resolve("fine") : Promise.reject(new Error("connect ENOENT /var/run/docker.sock"));
    };
    const mine = await openApiServer({ deps: { checkSandbox } });
    try {
      for (let i = 0; i < 5; i++) {
        const answered = await mine.call("GET", "/readyz");
        expect([answered.status, answered.body.code]).toEqual([503, "unavailable"]);
        expect(answered.body.errors).toEqual([{ path: "sandbox", message: "is not usable" }]);
        expect(answered.text).not.toContain("docker.sock");
      }
      expect(looks).toBe(1);
      expect(JSON.stringify(mine.lines.map((line) => String(line.fields["err"])))).toContain("docker.sock");
      works = true;
      await mine.clock.advance(1_000);
      expect((await mine.call("GET", "/readyz")).status).toBe(200);
    } finally {
      await mine.close();
    }
  });

  it("[D10] low disk space is reported by readyz, overview and metrics", async () => {
    const mine = await openApiServer();
    try {
      mine.harness.disks.shortage = "Too little disk space: the disk of the data folder has 5 MB free, 10 are needed.";
      await mine.clock.advance(5_000);
      expect((await mine.call("GET", "/readyz")).body.errors).toEqual([{ path: "disk", message: "is not usable" }]);
      const { body } = await mine.call("GET", "/v1/ops/overview", { token: LOCAL_TOKEN });
      expect(body.queue).toMatchObject({
        paused: false,
        breaker: "closed",
        disk: "low",
        reason: expect.stringMatching(/5 MB free/),
      });
      expect((await mine.call("GET", "/metrics")).text).toMatch(/^slipway_disk_low 1$/m);
      mine.harness.disks.shortage = null;
      await mine.clock.advance(5_000);
      expect((await mine.call("GET", "/readyz")).status).toBe(200);
      expect((await mine.call("GET", "/metrics")).text).toMatch(/^slipway_disk_low 0$/m);
    } finally {
      await mine.close();
    }
  });

  it("a store that does not answer is not ready, but alive", async () => {
    const mine = await openApiServer();
    const broken = { ...mine.store, ping: () => Promise.reject(new Error("disk I/O error")) };
    await mine.close();
    const again = await openApiServer({ deps: { store: broken } });
    try {
      expect((await again.call("GET", "/readyz")).body.errors).toEqual([{ path: "store", message: "is not usable" }]);
      expect((await again.call("GET", "/healthz")).status).toBe(200);
    } finally {
      await again.close();
    }
  });
});

describe("a disk that hangs", () => {
  it("is not ready within seconds; reads still work, and tasks submitted during the hang are done after it", async () => {
    const mine = await openApiServer();
    const held = new Database(join(mine.dir, "slipway.db"));
    try {
      held.exec("BEGIN IMMEDIATE");
      const submitted = mine.call("POST", "/v1/tasks", {
        token: LOCAL_TOKEN,
        body: { repo: REPO, prompt: "Wait for the disk." },
      });
      const asked = mine.call("GET", "/readyz");
      expect((await mine.call("GET", "/healthz")).status).toBe(200);
      expect((await mine.call("GET", "/v1/tasks", { token: LOCAL_TOKEN })).body.items).toEqual([]);
      const askedAt = mine.clock.monotonic();
      let isAnswered = false;
      void asked.finally(() => (isAnswered = true));
      // In small steps: the check of the disk, which has the same deadline, takes real time.
      const wait = async (): Promise<boolean> => {
        await mine.clock.advance(100);
        return isAnswered;
      };
      await expect.poll(wait).toBe(true);
      expect(mine.clock.monotonic() - askedAt).toBeLessThan(10_000);
      expect((await asked).body.errors).toEqual([{ path: "store", message: "is not usable" }]);
      held.exec("COMMIT");
      expect((await submitted).status).toBe(201);
      await mine.clock.advance(1_000);
      expect((await mine.call("GET", "/readyz")).status).toBe(200);
    } finally {
      held.close();
      await mine.close();
    }
  });
});

describe("metrics", () => {
  it("are Prometheus text, for this machine and for operators", async () => {
    await api.call("POST", "/v1/tasks", { token: LOCAL_TOKEN, body: { repo: REPO, prompt: "x" } });
    const answered = await api.call("GET", "/metrics");
    expect(answered.status).toBe(200);
    for (const state of TASK_STATES)
      expect(answered.text).toMatch(new RegExp(`^slipway_tasks\\{state="${state}"\\} \\d+$`, "m"));
    for (const name of [
      "slipway_slots_max",
      "slipway_sockets",
      "slipway_events_total",
      "slipway_oldest_open_age_seconds",
      "process_resident_memory_bytes",
      "nodejs_eventloop_lag_p99_seconds",
    ]) {
      expect(answered.text).toMatch(new RegExp(`^${name} [\\d.e+-]+$`, "m"));
    }
    for (const line of answered.text.trimEnd().split("\n"))
      expect(line).toMatch(/^(# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [\d.e+-]+|)$/);
  });

  it("a request with a foreign Host, and one through a proxy, needs a token", async () => {
    const strange = await api.raw("GET /metrics HTTP/1.1\r\nHost: evil.example:80\r\nConnection: close\r\n\r\n");
    expect(strange).toMatch(/^HTTP\/1.1 401/);
    expect((await api.call("GET", "/metrics", { headers: { "x-forwarded-for": "203.0.113.9" } })).status).toBe(401);
    const user = await api.person("u@example.com");
    const operator = await api.person("o@example.com", "operator");
    const through = (token: string) =>
      api.call("GET", "/metrics", { token, headers: { "x-forwarded-for": "203.0.113.9" } });
    expect((await through(user.accessToken)).status).toBe(403);
    expect((await through(operator.accessToken)).status).toBe(200);
    expect((await through(LOCAL_TOKEN)).status).toBe(200);
  });
});

describe("metrics behind a proxy on the same machine", () => {
  const headers = ["x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via", "forwarded", "cf-connecting-ip"];
  it.each(headers)("with %s the caller counts as remote", async (name) => {
    expect((await api.call("GET", "/metrics", { headers: { [name]: "localhost" } })).status).toBe(401);
  });

  it.each([{ trustProxy: 1 }, { isFronted: true }])(
    "with %o no caller counts as local, even without a header",
    async (deps) => {
      const mine = await openApiServer({ deps });
      try {
        expect((await mine.call("GET", "/metrics")).status).toBe(401);
        expect((await mine.call("GET", "/metrics", { token: LOCAL_TOKEN })).status).toBe(200);
      } finally {
        await mine.close();
      }
    },
  );
});

describe("gc", () => {
  it("operators list or remove garbage", async () => {
    const user = await api.person("gc@example.com");
    expect((await api.call("POST", "/v1/ops/gc", { token: user.accessToken, body: {} })).status).toBe(403);
    expect((await api.call("POST", "/v1/ops/gc", { token: LOCAL_TOKEN, body: { dry: true } })).status).toBe(400);
    const stray = {
      name: "slipway-task_stray-a1",
      taskId: "task_stray",
      attempt: 1,
      socketDir: "/nowhere",
      token: "att_x",
      limits: {},
    };
    await api.harness.sandbox.ensure(stray, new AbortController().signal);
    const gc = async (dryRun: boolean) =>
      (await api.call("POST", "/v1/ops/gc", { token: LOCAL_TOKEN, body: { dryRun } })).body;
    const items = [{ kind: "sandbox", name: stray.name, bytes: null, error: null }];
    expect(await gc(true)).toEqual({ dryRun: true, bytes: 0, items });
    expect(await gc(false)).toEqual({ dryRun: false, bytes: 0, items });
    expect(await gc(false)).toEqual({ dryRun: false, bytes: 0, items: [] });
  });
});

describe("overview", () => {
  it("counts what the store counts", async () => {
    const { body } = await api.call("GET", "/v1/ops/overview", { token: LOCAL_TOKEN });
    const sum = Object.values(body.counts as Record<string, number>).reduce((a, b) => a + b, 0);
    expect(sum).toBe((await api.store.tasks({ userId: null, limit: 200 })).items.length);
    expect(body.slots.max).toBeGreaterThan(0);
    expect(body.host.memoryTotalMb).toBeGreaterThan(0);
    expect(body.sandbox).toMatchObject({ kind: "simulated", isolates: false, error: null });
  });

  it("shows the room on the disk: the store's reserve, what workspaces are promised, and what takes most", async () => {
    const mine = await openApiServer();
    try {
      mine.harness.disks.reserve = { mb: 16, held: false };
      const read = async () => (await mine.call("GET", "/v1/ops/overview", { token: LOCAL_TOKEN })).body.storage;
      expect(await read()).toMatchObject({
        totalMb: expect.any(Number),
        floorMb: 2_048,
        lowMb: 1_024,
        reserve: { mb: 16, held: false },
        workspaces: null,
      });
      const { body: task } = await mine.call("POST", "/v1/tasks", {
        token: LOCAL_TOKEN,
        body: { repo: REPO, prompt: "Take some room.", limits: { diskMb: 1_000 } },
      });
      await mine.harness.until(task.id, "provisioning");
      mine.harness.disks.space = { freeMb: 9_000, usedMb: new Map([[sandboxName(task.id, 1), 400]]) };
      // What was measured of the repositories is used for half a minute.
      await mine.clock.advance(31_000);
      await expect.poll(read).toMatchObject({
        workspaces: {
          freeMb: 9_000,
          usedMb: 400,
          promisedMb: 600,
          leftMb: 9_000 - 2_048 - 600,
          largest: [{ taskId: task.id, usedMb: 400, limitMb: 1_000 }],
        },
        repositories: expect.arrayContaining([
          { kind: "mirror", userId: expect.any(String), repo: REPO, taskId: null, bytes: expect.any(Number) },
          { kind: "task", userId: null, repo: null, taskId: task.id, bytes: expect.any(Number) },
        ]),
      });
    } finally {
      await mine.close();
    }
  });

  it("pausing is durable and idempotent", async () => {
    const post = (word: string) => api.call("POST", `/v1/ops/queue/${word}`, { token: LOCAL_TOKEN });
    expect((await post("pause")).body.paused).toBe(true);
    expect((await post("pause")).body.paused).toBe(true);
    expect((await api.call("GET", "/v1/ops/overview", { token: LOCAL_TOKEN })).body.queue.paused).toBe(true);
    expect((await post("resume")).body.paused).toBe(false);
  });

  it("[D15] a drain names what still runs, says when nothing does, and ends with a resume", async () => {
    const mine = await openApiServer();
    try {
      const post = (word: string) => mine.call("POST", `/v1/ops/queue/${word}`, { token: LOCAL_TOKEN });
      const read = async () => (await mine.call("GET", "/v1/ops/overview", { token: LOCAL_TOKEN })).body.queue;
      const { body: task } = await mine.call("POST", "/v1/tasks", {
        token: LOCAL_TOKEN,
        body: { repo: REPO, prompt: "Run on.", title: "The last one" },
      });
      await mine.harness.until(task.id, "provisioning");
      expect((await read()).drain).toBeNull();
      const { body: begun } = await post("drain");
      const tasks = [{ id: task.id, title: "The last one", state: "provisioning" }];
      expect(begun).toMatchObject({ paused: true, drain: { state: "draining", running: 1, clearing: 0, tasks } });
      expect((await read()).drain).toEqual({ ...begun.drain, tasks: [expect.objectContaining(tasks[0] ?? {})] });
      await mine.call("POST", `/v1/ops/tasks/${task.id}/kill`, { token: LOCAL_TOKEN });
      await mine.harness.until(task.id, "cancelled");
      await expect
        .poll(async () => (await read()).drain)
        .toEqual({ state: "drained", since: begun.drain.since, running: 0, clearing: 0, tasks: [] });
      expect((await post("resume")).body).toMatchObject({ paused: false, drain: null, reason: null });
    } finally {
      await mine.close();
    }
  });
});

describe("the OpenAPI document", () => {
  type Operation = {
    responses: Record<string, unknown>;
    parameters?: { name: string; in: string }[];
    operationId: string;
  };
  const document = async () =>
    (await api.call("GET", "/openapi.json")).body as {
      openapi: string;
      paths: Record<string, Record<string, Operation>>;
      components: { schemas: Record<string, unknown> };
    };

  it("has every route that is registered, and no other", async () => {
    const { paths, openapi } = await document();
    expect(openapi).toBe("3.1.0");
    const told = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method} ${path}`),
    );
    const rows = ROUTES.map((row) => `${row.method} ${toOpenapiPath(row)}`);
    expect(told.toSorted()).toEqual([...rows, "get /v1/stream"].toSorted());
    const ids = Object.values(paths).flatMap((methods) => Object.values(methods).map((one) => one.operationId));
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("every call of the wire's description is there", async () => {
    const { paths } = await document();
    const promised = [
      "post /v1/auth/login",
      "post /v1/auth/refresh",
      "post /v1/auth/logout",
      "get /v1/me",
      "post /v1/tokens",
      "get /v1/tokens",
      "delete /v1/tokens/{id}",
      "post /v1/credentials",
      "get /v1/credentials",
      "delete /v1/credentials/{id}",
      "post /v1/users",
      "get /v1/users",
      "post /v1/tasks",
      "get /v1/tasks",
      "get /v1/tasks/{id}",
      "post /v1/tasks/{id}/cancel",
      "post /v1/tasks/{id}/retry",
      "post /v1/tasks/{id}/messages",
      "get /v1/tasks/{id}/messages",
      "delete /v1/tasks/{id}/messages/{mid}",
      "post /v1/tasks/{id}/answer",
      "get /v1/tasks/{id}/events",
      "get /v1/tasks/{id}/tool-calls",
      "get /v1/tasks/{id}/attempts",
      "get /v1/tasks/{id}/diff",
      "get /v1/tasks/{id}/machine",
      "get /v1/ops/overview",
      "post /v1/ops/queue/pause",
      "post /v1/ops/queue/drain",
      "post /v1/ops/queue/resume",
      "post /v1/ops/tasks/{id}/kill",
      "get /healthz",
      "get /readyz",
      "get /metrics",
      "post /v1/tickets",
      "get /openapi.json",
    ];
    for (const one of promised) {
      const [method = "", path = ""] = one.split(" ");
      expect(paths[path]?.[method], one).toBeDefined();
    }
  });

  it("each reference leads somewhere, each path parameter is named, nothing of ours leaks into schemas", async () => {
    const whole = await document();
    const text = JSON.stringify(whole);
    for (const [, to = ""] of text.matchAll(/"\$ref":"([^"]+)"/g)) {
      const [, kind = "", name = ""] = /^#\/components\/(schemas|headers)\/([\w-]+)$/.exec(to) ?? [];
      expect(Object.keys(whole.components[kind as "schemas"] ?? {}), to).toContain(name);
    }
    for (const [path, methods] of Object.entries(whole.paths)) {
      const wanted = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      for (const one of Object.values(methods)) {
        expect((one.parameters ?? []).filter((p) => p.in === "path").map((p) => p.name)).toEqual(wanted);
      }
    }
    expect(text).not.toContain("passwordHash");
  });

  it("[V1] its Task schema names each field of a real task, and no other", async () => {
    const whole = await document();
    const task = (await api.call("POST", "/v1/tasks", { token: LOCAL_TOKEN, body: { repo: REPO, prompt: "x" } }))
      .body as Record<string, unknown>;
    const schema = whole.components.schemas["Task"] as {
      properties: Record<string, unknown>;
      required: string[];
    };
    expect(Object.keys(schema.properties).sort()).toEqual(Object.keys(task).sort());
    expect([...schema.required].sort()).toEqual(Object.keys(task).sort());
  });

  it("is made without a server too, and of the rows alone", () => {
    const alone = z
      .object({ paths: z.record(z.string(), z.unknown()) })
      .parse(openapiDocument(ROUTES.slice(0, 1), "1"));
    expect(Object.keys(alone.paths)).toHaveLength(2);
  });
});
