/**
 * The files of docs/deploy: Caddy gets a certificate from an ACME server (pebble), and a person
 * logs in, submits and watches through it.
 */
import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { openHttpsClient, ORIGIN, type HttpsClient } from "./https-client.ts";
import { findFixedPort } from "../../support/process/fixed-port.ts";
import { eventually, ROOT, startServer, type RealServer } from "../../support/process/server.ts";

const DEPLOY = join(ROOT, "docs/deploy");
const EMAIL = "ada@example.org";
const PASSWORD = "a long enough word 17";
const hasProgram = (name: string): boolean => spawnSync("which", [name]).status === 0;
const isMissing = !hasProgram("caddy") || !hasProgram("pebble");
if (isMissing && process.env["SLIPWAY_REQUIRE_ENGINES"] === "1") throw new Error("caddy and pebble are not installed");

describe.skipIf(isMissing)("https as docs/deploy sets it up (needs caddy and pebble)", () => {
  let dir: string;
  let server: RealServer;
  let upstream: GitServer;
  let origin: string;
  let ca: string;
  let ports: { https: number; http: number; acme: number; management: number };
  const children: ChildProcess[] = [];
  const output: string[] = [];

  function start(command: string, args: readonly string[], env: Readonly<Record<string, string>>): void {
    const child = spawn(command, args, { env: { PATH: process.env["PATH"] ?? "", HOME: dir, ...env } });
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text: Buffer) => output.push(String(text)));
    children.push(child);
  }

  /** It checks no challenge, because no DNS names this machine. */
  function startPebble(): void {
    const own = ["-keyout", join(dir, "pebble.key"), "-out", join(dir, "pebble.pem"), "-subj", "/CN=localhost"];
    const names = ["-addext", "subjectAltName=DNS:localhost", "-days", "2"];
    execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", ...own, ...names], { stdio: "ignore" });
    const config = {
      listenAddress: `127.0.0.1:${ports.acme}`,
      managementListenAddress: `127.0.0.1:${ports.management}`,
      certificate: join(dir, "pebble.pem"),
      privateKey: join(dir, "pebble.key"),
      httpPort: ports.http,
      tlsPort: ports.https,
    };
    writeFileSync(join(dir, "pebble.json"), JSON.stringify({ pebble: config }));
    start("pebble", ["-config", join(dir, "pebble.json")], { PEBBLE_VA_ALWAYS_VALID: "1", PEBBLE_VA_NOSLEEP: "1" });
  }

  function startCaddy(): void {
    const options = [
      "admin off",
      "skip_install_trust",
      `http_port ${ports.http}`,
      `https_port ${ports.https}`,
      `acme_ca https://localhost:${ports.acme}/dir`,
      `acme_ca_root ${join(dir, "pebble.pem")}`,
      `storage file_system ${join(dir, "caddy")}`,
    ];
    // As shipped, with options that only a test needs.
    writeFileSync(join(dir, "Caddyfile"), `{\n${options.join("\n")}\n}\nimport ${join(DEPLOY, "Caddyfile")}\n`);
    start("caddy", ["run", "--config", join(dir, "Caddyfile"), "--adapter", "caddyfile"], {
      SLIPWAY_DOMAIN: "slipway.test",
      SLIPWAY_UPSTREAM: new URL(server.url ?? "").host,
    });
  }

  const call: HttpsClient["call"] = (...given) => openHttpsClient(ports.https, ca).call(...given);

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), "slipway-https-"));
    ports = {
      https: await findFixedPort(),
      http: await findFixedPort(),
      acme: await findFixedPort(),
      management: await findFixedPort(),
    };
    origin = ORIGIN;
    upstream = await startGitServer();
    server = await startServer({
      dataDir: join(dir, "data"),
      env: {
        SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
        SLIPWAY_PUBLIC_URL: origin,
        SLIPWAY_TRUST_PROXY: "1",
        SLIPWAY_ADMIN_EMAIL: EMAIL,
        SLIPWAY_ADMIN_PASSWORD: PASSWORD,
      },
    });
    startPebble();
    const management = { host: "127.0.0.1", port: ports.management, path: "/roots/0" };
    ca = await eventually(
      () =>
        new Promise<string | null>((resolve) => {
          const pem = readFileSync(join(dir, "pebble.pem"), "utf8");
          request({ ...management, ca: pem, servername: "localhost" }, (answer) => {
            let text = "";
            answer.setEncoding("utf8").on("data", (piece: string) => (text += piece));
            answer.on("end", () => resolve(text));
          })
            .on("error", () => resolve(null))
            .end();
        }),
      "pebble answers",
    );
    startCaddy();
    await eventually(
      async () => ((await call("GET", "/healthz").catch(() => null))?.status === 200 ? true : null),
      "Caddy has its certificate",
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${output.join("").slice(-3_000)}`);
    });
  });
  afterAll(async () => {
    for (const child of children) child.kill("SIGKILL");
    await server.kill("SIGTERM");
    await upstream.close();
    rmSync(dir, { recursive: true, force: true });
  });

  it("[S8] a person logs in over https, submits, and watches the task to its branch", async () => {
    const page = await call("GET", "/");
    expect(page.status).toBe(200);
    expect(page.headers["strict-transport-security"]).toMatch(/max-age=\d{7}/);
    const login = await call("POST", "/v1/session", { email: EMAIL, password: PASSWORD }, { origin });
    expect(login.status, login.text).toBe(200);
    expect(String(login.headers["set-cookie"])).toMatch(/__Host-slipway=.*HttpOnly.*Secure/);
    const { accessToken } = JSON.parse(login.text) as { accessToken: string };
    const auth = { authorization: `Bearer ${accessToken}` };
    const script = [{ bash: "echo hello > hello.txt" }, { finish: { title: "Say hello", summary: "Done." } }];
    const { url: repo } = upstream.createRepo("app");
    const made = await call("POST", "/v1/tasks", { repo, prompt: "Hello", agent: "scripted", script }, auth);
    expect(made.status, made.text).toBe(201);
    const { id } = JSON.parse(made.text) as WireTask;
    await openHttpsClient(ports.https, ca).untilDone(id, auth);
    const task = JSON.parse((await call("GET", `/v1/tasks/${id}`, undefined, auth)).text) as WireTask;
    expect(task).toMatchObject({ state: "done", outcome: "pushed" });
  });

  it("the server keeps an idle connection for longer than a proxy does", async () => {
    expect((await fetch(`${server.url}/healthz`)).headers.get("keep-alive")).toBe("timeout=75");
  });

  it("[S8] limits count the address of the person, not that of the proxy", async () => {
    const guess = (from: string) =>
      call(
        "POST",
        "/v1/session",
        { email: `${from}@example.org`, password: "wrong wrong" },
        { origin, "x-forwarded-for": from },
      );
    // A forged header is replaced: all of these come from 127.0.0.1.
    let last = 0;
    for (let n = 0; n < 40 && last !== 429; n += 1) last = (await guess(`198.51.100.${n}`)).status;
    expect(last).toBe(429);
  });
});

describe("the files of docs/deploy", () => {
  const hasSystemd = spawnSync("systemd-analyze", ["--version"]).status === 0;
  it.skipIf(!hasSystemd)("systemd accepts the unit, and knows every word of it", () => {
    const folder = mkdtempSync(join(tmpdir(), "slipway-unit-"));
    try {
      // What it starts and whom it runs as are of another machine.
      const unit = readFileSync(join(DEPLOY, "slipway.service"), "utf8")
        .replace(/^ExecStart=.*$/m, `ExecStart=${process.execPath} serve`)
        .replace(/^(?:User|SupplementaryGroups)=.*$/gm, "");
      writeFileSync(join(folder, "slipway.service"), unit);
      const { status, stdout, stderr } = spawnSync("systemd-analyze", ["verify", join(folder, "slipway.service")], {
        encoding: "utf8",
      });
      const said = `${stdout}${stderr}`.split("\n").filter((line) => line.includes("slipway.service"));
      expect([status, said]).toEqual([0, []]);
      writeFileSync(join(folder, "slipway.service"), unit.replace("KillMode=process", "KillMod=process"));
      const wrong = spawnSync("systemd-analyze", ["verify", join(folder, "slipway.service")], { encoding: "utf8" });
      expect(`${wrong.stdout}${wrong.stderr}`).toContain("KillMod");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("the compose file mounts the data folder at the same path inside and outside, publishes Caddy alone, and gives the engine's socket to the proxy alone", () => {
    const file = parse(readFileSync(join(DEPLOY, "compose.yaml"), "utf8")) as {
      services: Record<string, { environment: Record<string, string>; volumes: string[]; ports?: string[] }>;
    };
    const { slipway } = file.services;
    const data = slipway?.environment["SLIPWAY_DATA_DIR"];
    expect(slipway?.volumes).toContain(`${data}:${data}`);
    const having = (has: (service: { volumes: string[]; ports?: string[] }) => boolean): string[] =>
      Object.keys(file.services).filter((name) => has(file.services[name] ?? { volumes: [] }));
    expect(having(({ ports }) => ports !== undefined)).toEqual(["caddy"]);
    expect(having(({ volumes }) => volumes.some((volume) => volume.includes("docker.sock")))).toEqual(["engine-proxy"]);
  });
});
