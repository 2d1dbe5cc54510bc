/**
 * Egress: connections of real tools through the worker's proxy and the broker to servers on this
 * machine.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import { connect, createServer as createTcpServer, type AddressInfo, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createConnectProxy } from "../../src/broker/connect-proxy.ts";
import { openBroker } from "../../src/broker/server.ts";
import type { EgressPolicy } from "../../src/core/values/egress-policy.ts";
import { SlipwayError } from "../../src/core/error.ts";
import { openProxy, proxyEnv, type Proxy } from "../../worker/connection/forwarding/proxy.ts";
import { MemoryWorkerApi } from "../worker/memory-worker-api.ts";
import { quiet, SECRET } from "../worker/rig.ts";
import type { Broker, BrokerEndpoint, EgressApi } from "../../src/core/ports/broker.ts";

const run = promisify(execFile);
const closers: (() => unknown)[] = [];
let dir: string;
let refusals: string[];
let policy: () => EgressPolicy;
/** Says that an operator changed a list. */
let listChanged: () => void;
let names: Record<string, string[]>;
let trusted: string[];
let broker: Broker;
let endpoint: BrokerEndpoint;

const workerApi: EgressApi = {
  policy: async () => policy(),
  reportRefusal: (_task, _attempt, place, why) => void refusals.push(`${place} ${why}`),
  spend: () => null,
  onChange: (listener) => void (listChanged = listener),
};

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "sw-egress-"));
  [refusals, names, trusted] = [[], {}, []];
  policy = () => ({ egress: "allowlist", hosts: new Set(trusted) });
  broker = openBroker({
    dir: join(dir, "run"),
    workerApi: new MemoryWorkerApi(),
    repoPath: () => join(dir, "repo.git"),
    secrets: () => [SECRET],
    instance: "test",
    log: quiet,
    serveTunnel: createConnectProxy({
      api: workerApi,
      log: quiet,
      trustedHosts: trusted,
      resolve: async (name) => names[name] ?? [],
      ownAddresses: () => ["93.184.215.99"],
    }),
  });
  endpoint = await broker.open("task_a", 1);
});
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
  await broker.close();
  rmSync(dir, { recursive: true, force: true });
});

const socketPath = (): string => join(endpoint.socketDir, "b.sock");

async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closers.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

/**
 * A web server on this machine that an operator trusts under a name; @returns `host:port` and how
 * often it was reached.
 */
async function site(name = "packages.example"): Promise<{ place: string; hits: () => number }> {
  let hits = 0;
  const server = createServer((request, response) => {
    hits += 1;
    response.end(`${request.method} ${request.url} ${request.headers.host}`);
  });
  const port = await listening(server);
  closers.push(() => server.closeAllConnections());
  names[name] = ["127.0.0.1"];
  trusted.push(`${name}:${port}`);
  return { place: `${name}:${port}`, hits: () => hits };
}

async function proxy(token = endpoint.token): Promise<Proxy> {
  const opened = await openProxy(socketPath(), token);
  closers.push(() => opened.close());
  return opened;
}

/**
 * One request with nothing but the head; @returns the status line and what follows, until the
 * connection ends.
 */
function raw(head: string, path = socketPath()): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path, () => socket.write(head));
    let text = "";
    socket.setEncoding("utf8").on("data", (piece: string) => {
      text += piece;
      if (text.startsWith("HTTP/1.1 200")) socket.end();
    });
    socket.on("error", reject).on("close", () => resolve(text));
  });
}
const CONNECT = (place: string, token = endpoint.token): string =>
  `CONNECT ${place} HTTP/1.1\r\nhost: x\r\nproxy-authorization: Bearer ${token}\r\n\r\n`;

describe("[S5] hosts that the policy lists are reached by tools that read only their environment", () => {
  it("through a tunnel, and as a plain request", async () => {
    const { place, hits } = await site();
    const env = { PATH: process.env["PATH"], ...proxyEnv((await proxy()).port) };
    const plain = await run("curl", ["-sS", `http://${place}/a?b=c`], { env });
    expect(plain.stdout).toBe(`GET /a?b=c ${place}`);
    const tunnel = await run("curl", ["-sS", "--proxytunnel", `http://${place}/d`], { env });
    expect(tunnel.stdout).toBe(`GET /d ${place}`);
    const post = await run("curl", ["-sS", "-X", "POST", "-d", "x".repeat(100_000), `http://${place}/e`], { env });
    expect(post.stdout).toBe(`POST /e ${place}`);
    expect(hits()).toBe(3);
    expect(refusals).toEqual([]);
  });

  it("a refused tool fails immediately and gets the reason", async () => {
    const env = { PATH: process.env["PATH"], ...proxyEnv((await proxy()).port) };
    const tunnel = await run("curl", ["-sS", "https://evil.example/"], { env }).catch(
      (error: { stderr: string }) => error,
    );
    expect(tunnel.stderr).toMatch(/403/);
    const plain = await run("curl", ["-sS", "http://evil.example/"], { env });
    expect(plain.stdout).toMatch(/egress_refused.*slipway egress allow evil\.example:80/);
    expect(refusals.map((one) => one.split(" ")[0])).toEqual(["evil.example:443", "evil.example:80"]);
  });

  it("git asks the same proxy", async () => {
    const env = { PATH: process.env["PATH"], HOME: dir, GIT_TERMINAL_PROMPT: "0", ...proxyEnv((await proxy()).port) };
    await expect(run("git", ["ls-remote", "https://evil.example/x.git"], { env })).rejects.toThrow(/403/);
    expect(refusals).toHaveLength(1);
  });

  it("bytes pass in both directions, also after one side has ended", async () => {
    const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
      let seen = 0;
      socket.on("data", (piece) => (seen += piece.length));
      socket.on("end", () => socket.end(`saw ${seen}`));
    });
    const place = `deep.example:${await listening(server)}`;
    names["deep.example"] = ["127.0.0.1"];
    trusted.push(place);
    const asked = httpRequest({
      socketPath: socketPath(),
      method: "CONNECT",
      path: place,
      headers: { "proxy-authorization": `Bearer ${endpoint.token}` },
    });
    const said = new Promise<string>((resolve) => {
      asked.on("connect", (_answer, socket) => {
        let text = "";
        socket.on("data", (piece: Buffer) => (text += piece.toString()));
        socket.on("end", () => resolve(text));
        socket.end(Buffer.alloc(5_000_000));
      });
    });
    asked.end();
    expect(await said).toBe("saw 5000000");
  });
});

it("[S5] a tunnel ends with the policy that allowed it, while the listener goes on", async () => {
  const server = createTcpServer((socket) => void socket.on("error", () => socket.destroy()).write("hello"));
  const place = `setup.example:${await listening(server)}`;
  names["setup.example"] = ["127.0.0.1"];
  trusted.push(place);
  const setup = new AbortController();
  policy = () => ({ egress: "allowlist", hosts: new Set(trusted), isSetup: true, ends: setup.signal });
  const socket = connect(socketPath(), () => socket.write(CONNECT(place)));
  closers.push(() => socket.destroy());
  let text = "";
  socket.setEncoding("utf8").on("data", (piece: string) => (text += piece));
  const closed = new Promise<void>((resolve) => socket.on("error", () => undefined).on("close", () => resolve()));
  await expect.poll(() => text).toMatch(/^HTTP\/1\.1 200 [^]*hello/);
  setup.abort();
  await closed;
  policy = () => ({ egress: "none", hosts: new Set() });
  expect(await raw(CONNECT(place))).toMatch(/^HTTP\/1\.1 403 /);
});

it("[S5] a host that is taken off the list loses its open tunnels, and the others keep theirs", async () => {
  const server = createTcpServer((socket) => void socket.on("error", () => socket.destroy()).pipe(socket));
  const port = await listening(server);
  const tunnels = ["stays.example", "goes.example"].map((name) => {
    names[name] = ["127.0.0.1"];
    trusted.push(`${name}:${port}`);
    const tunnel = {
      socket: connect(socketPath(), () => tunnel.socket.write(CONNECT(`${name}:${port}`))),
      text: "",
      isClosed: false,
    };
    closers.push(() => tunnel.socket.destroy());
    tunnel.socket.setEncoding("utf8").on("data", (piece: string) => (tunnel.text += piece));
    tunnel.socket.on("error", () => undefined).on("close", () => (tunnel.isClosed = true));
    return tunnel;
  });
  const [stays, goes] = tunnels as [(typeof tunnels)[number], (typeof tunnels)[number]];
  await expect.poll(() => tunnels.map(({ text }) => text.slice(9, 12))).toEqual(["200", "200"]);
  policy = () => ({ egress: "allowlist", hosts: new Set([`stays.example:${port}`]) });
  listChanged();
  await expect.poll(() => goes.isClosed).toBe(true);
  stays.socket.write("still there");
  await expect.poll(() => stays.text).toMatch(/still there$/);
  expect(refusals.join()).toContain(`goes.example:${port}`);
});

describe("[S5] what no policy allows", () => {
  it.each([
    "127.0.0.1:80",
    "169.254.169.254:80",
    "[::1]:80",
    "packages.example",
    "packages.example.:443",
    "user@packages.example:443",
    "packages.example:22",
    "packages.example.evil.com:443",
    "packages.example:99999",
    "2130706433:443",
  ])("%s is refused, and the refusal is reported", async (place) => {
    trusted.push("packages.example:443");
    expect(await raw(CONNECT(place))).toMatch(/^HTTP\/1\.1 40[03] /);
    expect(refusals).toHaveLength(1);
  });

  it("a listed or open name that resolves into a private network is not dialled", async () => {
    policy = () => ({ egress: "open", hosts: new Set() });
    let reached = 0;
    const port = await listening(createTcpServer(() => (reached += 1)));
    const inside = [
      "127.0.0.1",
      "::ffff:127.0.0.1",
      "169.254.169.254",
      "168.63.129.16",
      "10.1.2.3",
      "fd00::1",
      "64:ff9b::7f00:1",
      "100.64.0.1",
    ];
    for (const address of inside) {
      names["rebind.example"] = ["93.184.215.14", address];
      expect(await raw(CONNECT(`rebind.example:${port}`)), address).toMatch(/^HTTP\/1\.1 403 .*private network/);
    }
    expect(refusals).toHaveLength(inside.length);
    expect(reached).toBe(0);
  });

  it("a name that resolves to this machine's public address is not dialled", async () => {
    policy = () => ({ egress: "open", hosts: new Set() });
    const port = await listening(createTcpServer());
    names["here.example"] = ["93.184.215.99"];
    expect(await raw(CONNECT(`here.example:${port}`))).toMatch(/^HTTP\/1\.1 403 .*this machine/);
    expect(refusals).toHaveLength(1);
  });

  it("data of one side still arrives after the other side has ended", async () => {
    const size = 8 * 2 ** 20;
    let heard = 0;
    // Listens to the end, and only then answers, slowly read.
    const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
      socket.on("data", (piece) => (heard += piece.length)).on("end", () => socket.end(Buffer.alloc(size, "b")));
    });
    const port = await listening(server);
    names["packages.example"] = ["127.0.0.1"];
    trusted.push(`packages.example:${port}`);
    const got = await new Promise<number>((resolve, reject) => {
      let count = 0;
      const socket = connect({ path: socketPath(), allowHalfOpen: true }, () =>
        socket.write(CONNECT(`packages.example:${port}`)),
      );
      socket.once("data", () => {
        socket.end(Buffer.alloc(size, "a"));
        socket.on("data", (piece) => {
          count += piece.length;
          socket.pause();
          setTimeout(() => socket.resume(), 1);
        });
      });
      socket.on("error", reject).on("end", () => resolve(count));
    });
    expect([heard, got]).toEqual([size, size]);
  });

  it("with none nothing is reached, not even what an operator trusts", async () => {
    const { place, hits } = await site();
    policy = () => ({ egress: "none", hosts: new Set([place]) });
    expect(await raw(CONNECT(place))).toMatch(/^HTTP\/1\.1 403 .*--egress allowlist/);
    expect(hits()).toBe(0);
  });

  it("a policy that cannot be read allows nothing", async () => {
    const { place, hits } = await site();
    policy = () => {
      throw new Error("the database is gone");
    };
    expect(await raw(CONNECT(place))).toMatch(/^HTTP\/1\.1 502 .*refused/);
    policy = () => {
      throw new SlipwayError("stale_attempt", "Over.");
    };
    expect(await raw(CONNECT(place))).toMatch(/^HTTP\/1\.1 410 /);
    expect(hits()).toBe(0);
  });

  it("an unresolvable name, a host that does not answer and a refusal are different errors", async () => {
    trusted.push("nowhere.example:443", "closed.example:1");
    names["closed.example"] = ["127.0.0.1"];
    expect(await raw(CONNECT("nowhere.example:443"))).toMatch(/^HTTP\/1\.1 502 .*does not resolve/);
    expect(await raw(CONNECT("closed.example:1"))).toMatch(/^HTTP\/1\.1 502 .*cannot be reached/);
    expect(refusals).toEqual([]);
  });

  it("the proxy accepts absolute addresses only", async () => {
    const { port } = await proxy();
    const answer = await fetch(`http://127.0.0.1:${port}/worker/v1/spec`);
    expect(answer.status).toBe(400);
  });
});

describe("[S3] whose connection it is", () => {
  it("CONNECT requires the token of the same attempt", async () => {
    const { place, hits } = await site();
    const other = await broker.open("task_b", 1);
    expect(await raw(`CONNECT ${place} HTTP/1.1\r\nhost: x\r\n\r\n`)).toMatch(/^HTTP\/1\.1 407 /);
    expect(await raw(CONNECT(place, other.token))).toMatch(/^HTTP\/1\.1 407 /);
    expect(hits()).toBe(0);
  });

  it("tunnels end with the attempt", async () => {
    const server = createTcpServer((socket) => socket.write("hello"));
    const place = `long.example:${await listening(server)}`;
    names["long.example"] = ["127.0.0.1"];
    trusted.push(place);
    const socket = connect(socketPath(), () => socket.write(CONNECT(place)));
    await new Promise<void>((resolve) => socket.on("data", (piece) => String(piece).includes("hello") && resolve()));
    const ended = new Promise<void>((resolve) => socket.on("close", () => resolve()));
    socket.on("error", () => undefined);
    await broker.revoke("task_a", 1);
    await ended;
  });

  it("a flood of connections keeps the worker's own line open", async () => {
    const server = createTcpServer(() => undefined);
    const place = `slow.example:${await listening(server)}`;
    names["slow.example"] = ["127.0.0.1"];
    trusted.push(place);
    const flood = Array.from({ length: 400 }, () => {
      const socket = connect(socketPath(), () => socket.write(CONNECT(place)));
      return socket.on("error", () => undefined);
    });
    closers.push(() => flood.forEach((socket) => socket.destroy()));
    await expect
      .poll(
        () =>
          new Promise<number>((resolve) => {
            const headers = { authorization: `Bearer ${endpoint.token}` };
            const asked = httpRequest(
              { socketPath: socketPath(), path: "/worker/v1/spec", headers, agent: false },
              (answer) => resolve(answer.statusCode ?? 0),
            );
            asked.on("error", () => resolve(0)).end();
          }),
      )
      // The service of this test knows no task; its answer is enough.
      .toBe(410);
  });
});
