/** `doctor --public` through a real TLS proxy, with one mistake of its operator at a time. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createPlainServer, request, type IncomingMessage } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { checkPublic } from "../../../src/app/checker/public/check-public.ts";
import { readConfig } from "../../../src/app/config.ts";
import { startServer, type RealServer } from "../../support/process/server.ts";

const EMAIL = "ada@example.org";
const PASSWORD = "a long enough word 17";

interface Mistakes {
  readonly noHsts?: true;
  /** The headers of Slipway are removed. */
  readonly noHeaders?: true;
  /** X-Forwarded-For of the client is passed on as it came. */
  readonly passesForged?: true;
  readonly noProto?: true;
  readonly noUpgrade?: true;
  readonly anyOrigin?: true;
  /** It answers without asking Slipway whether the caller may. */
  readonly addsToken?: true;
}

let dir = "";
let ca = "";
let server: RealServer;
const proxies: Server[] = [];

/** The headers that the proxy sends on. */
function forwarded(incoming: IncomingMessage, mistakes: Mistakes): Record<string, string | string[] | undefined> {
  const { "x-forwarded-for": claimed, "x-forwarded-proto": _, ...headers } = incoming.headers;
  const address = mistakes.passesForged === undefined ? incoming.socket.remoteAddress : claimed;
  return {
    ...headers,
    ...(address === undefined ? {} : { "x-forwarded-for": address }),
    ...(mistakes.noProto === undefined ? { "x-forwarded-proto": "https" } : {}),
    ...(mistakes.addsToken === undefined ? {} : { authorization: `Bearer ${server.token}` }),
  };
}

/** @returns its address. */
async function proxy(mistakes: Mistakes): Promise<string> {
  const key = readFileSync(join(dir, "key.pem"));
  const one = createServer({ key, cert: ca }, (incoming, outgoing) => {
    const target = new URL(incoming.url ?? "/", server.url);
    const asked = request(
      target,
      { method: incoming.method ?? "GET", headers: forwarded(incoming, mistakes) },
      (answer) => {
        const headers = { ...answer.headers };
        if (mistakes.noHeaders !== undefined)
          for (const name of ["x-frame-options", "content-security-policy"]) delete headers[name];
        if (mistakes.noHsts === undefined) headers["strict-transport-security"] = "max-age=31536000";
        if (mistakes.anyOrigin !== undefined) headers["access-control-allow-origin"] = "*";
        outgoing.writeHead(answer.statusCode ?? 502, headers);
        answer.pipe(outgoing);
      },
    );
    asked.on("error", () => outgoing.destroy());
    incoming.pipe(asked);
  });
  one.on("upgrade", (incoming: IncomingMessage, socket) => {
    if (mistakes.noUpgrade !== undefined)
      return void socket.end("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    const target = new URL(incoming.url ?? "/", server.url);
    const asked = request(target, {
      headers: { ...forwarded(incoming, mistakes), connection: "Upgrade", upgrade: "websocket" },
    });
    asked.on("upgrade", (answer, behind) => {
      const accept = answer.headers["sec-websocket-accept"] ?? "";
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`,
      );
      behind.pipe(socket).pipe(behind);
      behind.on("error", () => socket.destroy());
      socket.on("error", () => behind.destroy());
    });
    asked.on("error", () => socket.destroy());
    asked.end();
  });
  await new Promise<void>((listening) => one.listen(0, "127.0.0.1", listening));
  proxies.push(one);
  return `https://localhost:${(one.address() as AddressInfo).port}`;
}

async function broken(mistakes: Mistakes, env: Record<string, string> = {}): Promise<string[]> {
  const url = await proxy(mistakes);
  const config = readConfig({ SLIPWAY_TRUST_PROXY: "1", SLIPWAY_PUBLIC_URL: url, ...env });
  const checks = await checkPublic({ url, config, account: { email: EMAIL, password: PASSWORD }, ca });
  expect(checks.length).toBeGreaterThan(6);
  return checks.filter(({ ok }) => !ok).map(({ rule, detail }) => `${rule}: ${detail}`);
}

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-public-"));
  const own = ["-keyout", join(dir, "key.pem"), "-out", join(dir, "cert.pem"), "-subj", "/CN=localhost", "-days", "90"];
  execFileSync(
    "openssl",
    ["req", "-x509", "-newkey", "rsa:2048", "-nodes", ...own, "-addext", "subjectAltName=DNS:localhost"],
    {
      stdio: "ignore",
    },
  );
  ca = readFileSync(join(dir, "cert.pem"), "utf8");
  server = await startServer({
    dataDir: join(dir, "data"),
    sandbox: "simulated",
    env: { SLIPWAY_TRUST_PROXY: "1", SLIPWAY_ADMIN_EMAIL: EMAIL, SLIPWAY_ADMIN_PASSWORD: PASSWORD },
  });
});
afterAll(async () => {
  for (const one of proxies) {
    one.closeAllConnections();
    one.close();
  }
  await server.kill("SIGTERM");
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

it("[S12] finds nothing where the proxy does as docs/deploy does", async () => {
  expect(await broken({})).toEqual([]);
});

it.each<[Mistakes, RegExp]>([
  [{ noHsts: true }, /^HSTS: .*max-age=31536000/],
  [{ noHeaders: true }, /^headers: .*x-frame-options, content-security-policy/],
  [{ passesForged: true }, /^forwarding: an address that a client made up is believed/],
  [{ noProto: true }, /^cookies: .*X-Forwarded-Proto/],
  [{ noUpgrade: true }, /^stream: .* gets 400/],
  [{ anyOrigin: true }, /^origins: pages of \* may call/],
  [{ addsToken: true }, /^open endpoints: without a log-in anyone reads .*\/v1\/tasks/],
])("[S12] finds %j, and says what to do", async (mistakes, words) => {
  expect((await broken(mistakes)).filter((line) => words.test(line))).toHaveLength(1);
});

it("[S12] an engine that listens without TLS at the same name is found", async () => {
  const engine = createPlainServer((_incoming, outgoing) => void outgoing.end("OK"));
  await new Promise<void>((listening) => engine.listen(0, "127.0.0.1", listening));
  const { port } = engine.address() as AddressInfo;
  const look = async (enginePort: number) => {
    const checks = await checkPublic({ url: server.url, config: readConfig({}), account: null, enginePort });
    return checks.find(({ rule }) => rule === "engine port");
  };
  expect(await look(port)).toMatchObject({ ok: false, detail: expect.stringContaining("root there") as string });
  engine.closeAllConnections();
  await new Promise((closed) => engine.close(closed));
  expect(await look(port)).toMatchObject({ ok: true });
});

it("[S12] plain http, a name that is not Slipway's, and settings that do not fit are named", async () => {
  const config = readConfig({
    SLIPWAY_PUBLIC_URL: "https://other.example.org",
    SLIPWAY_SECRET_KEY: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    SLIPWAY_ADMIN_EMAIL: EMAIL,
    SLIPWAY_ADMIN_PASSWORD: "password123",
    SLIPWAY_OIDC_COMPANY_ISSUER: "https://id.example.org",
    SLIPWAY_OIDC_COMPANY_CLIENT_ID: "slipway",
    SLIPWAY_OIDC_COMPANY_CLIENT_SECRET: "secret",
    SLIPWAY_OIDC_COMPANY_ALLOW: "@example.org,@gmail.com",
  });
  const checks = await checkPublic({ url: server.url, config, account: null });
  const lines = checks.filter(({ ok }) => !ok).map(({ rule, detail }) => `${rule}: ${detail}`);
  expect(lines).toEqual(
    expect.arrayContaining([
      expect.stringMatching(/^https: .* plain http/),
      expect.stringMatching(/^settings: SLIPWAY_PUBLIC_URL is https:\/\/other\.example\.org/),
      expect.stringMatching(/^secrets: SLIPWAY_ADMIN_PASSWORD /),
      expect.stringMatching(/^secrets: SLIPWAY_SECRET_KEY /),
      expect.stringMatching(/^registration: everybody with an address at gmail\.com gets an account through company/),
    ]),
  );
  expect(lines.join()).not.toMatch(/password123|aaaaaaaa/);
  const dead = await checkPublic({ url: "http://127.0.0.1:9", config, account: null });
  expect(dead[0]).toMatchObject({ rule: "reachable", ok: false });
});
