/** The broker's listeners: socket paths, tokens, limits, hostile callers. */
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { openBroker, type BrokerOptions } from "../../src/broker/server.ts";
import { MemoryWorkerApi } from "../worker/memory-worker-api.ts";
import { quiet, SECRET } from "../worker/rig.ts";
import type { Broker } from "../../src/core/ports/broker.ts";

let dir: string;
let workerApi: MemoryWorkerApi;
let brokers: Broker[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "sw-broker-"));
  workerApi = new MemoryWorkerApi();
  brokers = [];
});
afterEach(async () => {
  await Promise.all(brokers.map(async (broker) => await broker.close()));
  rmSync(dir, { recursive: true, force: true });
});

function make(overrides: Partial<BrokerOptions> = {}): Broker {
  const options: BrokerOptions = {
    dir: join(dir, "run"),
    workerApi: workerApi,
    repoPath: () => join(dir, "repo.git"),
    secrets: () => [SECRET],
    instance: "test",
    log: quiet,
    serveGit: async ({ response, attempt, repoPath }) => void response.end(`git ${attempt} ${repoPath}`),
    ...overrides,
  };
  const broker = openBroker(options);
  brokers.push(broker);
  return broker;
}

interface Reply {
  readonly status: number;
  readonly body: Record<string, unknown> & { code?: string };
  readonly headers: Record<string, unknown>;
  readonly text: string;
}

async function call(
  socketDir: string,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string | Buffer,
): Promise<Reply> {
  return await new Promise((resolve, reject) => {
    const request = httpRequest(
      { socketPath: join(socketDir, "b.sock"), method, path, headers, agent: false },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        response.on("end", () => {
          let parsed: Reply["body"] = {};
          try {
            parsed = JSON.parse(text) as Reply["body"];
          } catch {
            // not JSON
          }
          resolve({ status: response.statusCode ?? 0, body: parsed, headers: response.headers, text });
        });
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}

const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` });
const SPEC = "/worker/v1/spec";
const EVENTS = "/worker/v1/events";

it("open is idempotent, and a broker that is made again has the same address and token", async () => {
  const first = make();
  const [a, b] = await Promise.all([first.open(workerApi.taskId, 1), first.open(workerApi.taskId, 1)]);
  expect(a).toEqual(b);
  expect(a.token).toMatch(/^att_[A-Za-z0-9_-]{43}$/);
  await first.close();
  const second = make();
  expect(await second.open(workerApi.taskId, 1)).toEqual(a);
  expect((await call(a.socketDir, "GET", SPEC, bearer(a.token))).status).toBe(200);
  expect(
    (await make({ secrets: () => [Buffer.alloc(32, 8)], dir: join(dir, "other") }).open(workerApi.taskId, 1)).token,
  ).not.toBe(a.token);
});

it("only the socket's user may connect, and the socket file of a dead process is replaced", async () => {
  const broker = make();
  const { socketDir } = await broker.open(workerApi.taskId, 1);
  expect(statSync(join(socketDir, "b.sock")).mode & 0o777).toBe(0o600);
  expect(statSync(socketDir).mode & 0o777).toBe(0o711);
  await broker.close();
  writeFileSync(join(socketDir, "b.sock"), "");
  const { token } = await make().open(workerApi.taskId, 1);
  expect((await call(socketDir, "GET", SPEC, bearer(token))).status).toBe(200);
});

it("the socket's owner can be the user that workers run as", async (context) => {
  if (process.getuid?.() !== 0) return context.skip("only root can give a file to another user");
  const { socketDir } = await make({ uid: 10_001 }).open(workerApi.taskId, 1);
  expect(statSync(join(socketDir, "b.sock")).uid).toBe(10_001);
  expect(statSync(socketDir).uid).toBe(0);
});

it("a folder whose name is too long is replaced by a short, stable, private one, which is removed with the last attempt", async () => {
  const long = join(dir, "x".repeat(60), "y".repeat(60));
  const first = make({ dir: long });
  const a = await first.open(workerApi.taskId, 1);
  expect(join(a.socketDir, "b.sock").length).toBeLessThan(100);
  expect(statSync(dirname(a.socketDir)).mode & 0o777).toBe(0o700);
  await first.close();
  expect(await make({ dir: long }).open(workerApi.taskId, 1)).toEqual(a);
  const other = await make({ dir: long, instance: "other" }).open(workerApi.taskId, 1);
  expect(other.socketDir).not.toBe(a.socketDir);
  for (const broker of brokers) await broker.revoke(workerApi.taskId, 1);
  for (const { socketDir } of [a, other]) expect(existsSync(dirname(socketDir))).toBe(false);
});

it("a path that is not a directory of this user is rejected", async () => {
  const broker = make();
  mkdirSync(join(dir, "elsewhere"));
  mkdirSync(join(dir, "run"));
  symlinkSync(join(dir, "elsewhere"), join(dir, "run", `${workerApi.taskId}-a1`));
  await expect(broker.open(workerApi.taskId, 1)).rejects.toThrow("is not a directory of this user");
  rmSync(join(dir, "run", `${workerApi.taskId}-a1`));
  await broker.open(workerApi.taskId, 1);
});

it("[S3] the token opens as bearer, API key or basic password; another attempt's token opens nothing", async () => {
  const broker = make();
  const { socketDir, token } = await broker.open(workerApi.taskId, 1);
  const other = await broker.open(workerApi.taskId, 2);
  const basic = (text: string): Record<string, string> => ({
    authorization: `Basic ${Buffer.from(text).toString("base64")}`,
  });
  for (const good of [
    bearer(token),
    { "x-api-key": token },
    basic(`any:${token}`),
    { authorization: `bearer ${token}` },
  ]) {
    expect((await call(socketDir, "GET", SPEC, good)).status).toBe(200);
  }
  for (const bad of [
    {},
    bearer(other.token),
    bearer(""),
    bearer(`${token}x`),
    basic(token.slice(0, -1)),
    basic(`${token}:`),
    { authorization: token },
  ]) {
    const reply = await call(socketDir, "GET", SPEC, bad as Record<string, string>);
    expect([reply.status, reply.body.code]).toEqual([401, "unauthenticated"]);
    expect(reply.headers["www-authenticate"]).toContain("Basic");
    expect(
      (await call(socketDir, "GET", "/git/repo.git/info/refs?service=git-upload-pack", bad as Record<string, string>))
        .status,
    ).toBe(401);
  }
});

it("[S3] shut ends long polls and refuses everything from then on", async () => {
  const broker = make();
  const { socketDir, token } = await broker.open(workerApi.taskId, 1);
  const poll = call(socketDir, "GET", "/worker/v1/commands?after=0&wait=25", bearer(token)).catch(
    (error: Error) => error.message,
  );
  await workerApi.until(() => workerApi.requestTimes.length === 1);
  const begun = Date.now();
  await broker.revoke(workerApi.taskId, 1);
  expect(await poll).toMatch(/hang up|ECONNRESET/);
  expect(Date.now() - begun).toBeLessThan(5_000);
  await expect(call(socketDir, "GET", SPEC, bearer(token))).rejects.toThrow();
  expect(existsSync(socketDir)).toBe(false);
  await broker.revoke(workerApi.taskId, 1);
});

it("[C2] a setup that is not kept is answered at once, and a worker that reads late is not cut off", async () => {
  workerApi.saveSetup = async () => ({ saved: false, reason: "it is not kept" });
  const { socketDir, token } = await make().open(workerApi.taskId, 1);
  const socket = connect(join(socketDir, "b.sock"));
  let isCut = false;
  socket.on("error", () => undefined).on("close", () => (isCut = true));
  const head = `PUT /worker/v1/setup HTTP/1.1\r\nhost: b\r\nauthorization: Bearer ${token}\r\n`;
  socket.write(`${head}content-type: application/x-tar\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n`);
  await new Promise((resolve) => socket.once("data", resolve));
  await new Promise((resolve) => setTimeout(resolve, 3_000));
  expect(isCut).toBe(false);
  socket.destroy();
});

it("git is served from the task's repository until the attempt ends", async () => {
  const { socketDir, token } = await make().open(workerApi.taskId, 1);
  const path = "/git/repo.git/info/refs?service=git-upload-pack";
  expect((await call(socketDir, "GET", path, bearer(token))).text).toBe(`git 1 ${dir}/repo.git`);
  workerApi.end();
  expect((await call(socketDir, "GET", path, bearer(token))).status).toBe(410);
});

it("an unknown path is 404, a wrong method 405", async () => {
  const { socketDir, token } = await make().open(workerApi.taskId, 1);
  for (const path of [
    "/",
    "/worker/v1",
    "/worker/v1/spec/",
    "/git/repo.git",
    "/git/other.git/info/refs",
    "/constructor",
    "//",
    "/%",
  ]) {
    const reply = await call(socketDir, "GET", path, bearer(token));
    expect([400, 404]).toContain(reply.status);
    expect(reply.body.code).toMatch(/not_found|invalid_request/);
  }
  expect((await call(socketDir, "POST", SPEC, bearer(token))).body.code).toBe("method_not_allowed");
  expect((await call(socketDir, "GET", EVENTS, bearer(token))).status).toBe(405);
});

it("[S6] hostile bodies get a code, and the broker goes on serving", async () => {
  const { socketDir, token } = await make().open(workerApi.taskId, 1);
  const event = { seq: 1, at: "2026-01-01T00:00:00.000Z", type: "notice", data: {} };
  const batch = (events: unknown): string => JSON.stringify({ attempt: 1, events });
  const deep = `${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`;
  const hostile: [string | Buffer, number][] = [
    ["", 400],
    ["{", 400],
    ["null", 400],
    ["[]", 400],
    ['{"attempt":1}', 400],
    [batch([{ ...event, seq: "1" }]), 400],
    [batch([{ ...event, seq: -1 }]), 400],
    [batch([{ ...event, type: "task.state" }]), 400],
    [batch([{ ...event, extra: 1 }]), 400],
    [batch(Array.from({ length: 201 }, () => event)), 400],
    ["[".repeat(1_000_000), 400],
    [
      `{"attempt":1,"events":[{"seq":1,"at":"2026-01-01T00:00:00.000Z","type":"tool.started","data":{"id":"a","name":"b","input":${deep}}}]}`,
      400,
    ],
    [Buffer.from([0x7b, 0xff, 0xfe, 0x7d]), 400],
    [" ".repeat(2 * 1024 * 1024 + 1), 413],
  ];
  for (const [body, status] of hostile) {
    const reply = await call(socketDir, "POST", EVENTS, { ...bearer(token), "content-type": "application/json" }, body);
    expect([body.toString().slice(0, 60), reply.status]).toEqual([body.toString().slice(0, 60), status]);
    expect(reply.body.code).toMatch(/invalid_request|payload_too_large/);
  }
  for (const query of ["after=-1", "after=x", "wait=26", "wait=1e1", "after=99999999999999999999"]) {
    expect((await call(socketDir, "GET", `/worker/v1/commands?${query}`, bearer(token))).status).toBe(400);
  }
  expect(workerApi.events).toEqual([]);
  expect((await call(socketDir, "GET", SPEC, bearer(token))).status).toBe(200);
});

it("[S6] a body without a length is cut off at the limit; headers are bounded", async () => {
  const { socketDir, token } = await make().open(workerApi.taskId, 1);
  const status = await new Promise<number>((resolve, reject) => {
    const headers = { ...bearer(token), "transfer-encoding": "chunked" };
    const request = httpRequest(
      { socketPath: join(socketDir, "b.sock"), method: "POST", path: EVENTS, headers, agent: false },
      (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      },
    );
    request.on("error", reject);
    for (let n = 0; n < 40; n += 1) request.write(" ".repeat(100_000));
    request.end();
  });
  expect(status).toBe(413);
  expect((await call(socketDir, "GET", SPEC, { ...bearer(token), "x-long": "x".repeat(20_000) })).status).toBe(431);
  expect((await call(socketDir, "GET", SPEC, bearer(token))).status).toBe(200);
});

it("[S6] what is not HTTP gets 400 and ends", async () => {
  const { socketDir, token } = await make().open(workerApi.taskId, 1);
  const answer = await new Promise<string>((resolve) => {
    const socket = connect(join(socketDir, "b.sock"));
    let text = "";
    socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
    socket.on("close", () => resolve(text));
    socket.write("\u0016\u0003\u0001 hello\r\n\r\n");
  });
  expect(answer).toMatch(/^HTTP\/1\.1 400 .*invalid_request/s);
  expect((await call(socketDir, "GET", SPEC, bearer(token))).status).toBe(200);
});

it("an unexpected error is a 500 without its message", async () => {
  workerApi.spec = async () => {
    throw new Error("secret path /etc/x");
  };
  const { socketDir, token } = await make().open(workerApi.taskId, 1);
  const reply = await call(socketDir, "GET", SPEC, bearer(token));
  expect([reply.status, reply.body.code]).toEqual([500, "internal"]);
  expect(reply.text).not.toContain("/etc/x");
});

it("attempts that open concurrently get separate sockets", async () => {
  const broker = make();
  const doors = await Promise.all(
    Array.from({ length: 20 }, async (_, index) => await broker.open(workerApi.taskId, index + 1)),
  );
  expect(new Set(doors.map((endpoint) => endpoint.socketDir)).size).toBe(20);
  const replies = await Promise.all(
    doors.map(async (endpoint) => (await call(endpoint.socketDir, "GET", SPEC, bearer(endpoint.token))).status),
  );
  expect(replies).toEqual([200, ...Array<number>(19).fill(410)]);
});
