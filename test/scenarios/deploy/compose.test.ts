/**
 * The coordinator's image and docs/deploy/compose.yaml, built and run: from `compose up` to a
 * log-in over https, streams and a pushed branch. In the place of what the internet has: Debian's
 * Caddy, and for Let's Encrypt pebble, which checks the challenge.
 */
import { execFile, execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { deriveInstanceId } from "../../../src/core/lib/runtime/instance-id.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { removeRemains, disksDir } from "../../support/docker/cleanup.ts";
import { dockerAvailable, required } from "../../support/docker/engine.ts";
import { IS_FULL_RUN } from "../../support/random.ts";
import { inFullRuns } from "../../support/vitest/full-run.ts";
import { findFixedPort } from "../../support/process/fixed-port.ts";
import { eventually, ROOT } from "../../support/process/server.ts";
import { openHttpsClient, ORIGIN } from "./https-client.ts";

const run = promisify(execFile);
const EMAIL = "ada@example.org";
const PASSWORD = "a long enough word 17";
const ADMIN = ["-e", `SLIPWAY_ADMIN_EMAIL=${EMAIL}`, "-e", `SLIPWAY_ADMIN_PASSWORD=${PASSWORD}`];
const IMAGE = "slipway-test-coordinator";
const TOOLS = "slipway-test-deploy";
const UID = 10_000;
const BASE = "node:24-bookworm-slim";
/** The server with its modules: bound, MB. */
const MAX_APP_MB = 50;
/** What the image adds to its base, git included where that has none: bound, MB. */
const MAX_ADDED_MB = 160;
/** Most memory of the server with one task and five who watch it: bound, MiB. */
const MAX_SERVER_MB = 256;
/** In the image's folder and in its dist/, beside the modules and their chunks. */
const FILES = new Set(
  (
    ".: dist: Dockerfile LICENSE chunks dist engine-proxy.mjs migrations node_modules package.json sbom.cdx.json " +
    "scripts secrets-thread.mjs slipway.mjs web worker.mjs writer-thread.mjs"
  ).split(" "),
);
const GIT_PORT = 9_999;
const REVISION = "0123456789abcdef0123456789abcdef01234567";
/** Minutes on a machine that has none of the layers. */
const BUILD_MS = 15 * 60_000;

function findCompose(): string[] | null {
  for (const command of [["docker", "compose"], ["docker-compose"]])
    if (spawnSync(command[0] ?? "", [...command.slice(1), "version"]).status === 0) return command;
  return null;
}

function findObstacle(): string | null {
  if (!dockerAvailable()) return "no Docker engine answers";
  if (findCompose() === null) return "neither docker compose nor docker-compose is installed";
  return null;
}

const obstacle = findObstacle();
if (IS_FULL_RUN && obstacle !== null && required) throw new Error(`SLIPWAY_REQUIRE_ENGINES=1, but ${obstacle}`);

async function docker(...args: string[]): Promise<string> {
  const { stdout } = await run("docker", args, { maxBuffer: 2 ** 26, env: { ...process.env, DOCKER_BUILDKIT: "0" } });
  return stdout.trim();
}

async function buildImages(dir: string): Promise<void> {
  const labels = ["--build-arg", "VERSION=1.2.3", "--build-arg", `REVISION=${REVISION}`];
  await docker("build", "--target", "coordinator", "-t", IMAGE, ...labels, ROOT);
  mkdirSync(join(dir, "tools"));
  const install = "apt-get update && apt-get install -y --no-install-recommends caddy pebble";
  writeFileSync(join(dir, "tools/Dockerfile"), `FROM ${BASE}\nRUN ${install}\n`);
  await docker("build", "-t", TOOLS, join(dir, "tools"));
}

/** What a test puts in the place of what the internet has. */
function createOverride(test: string, rootsPort: number): object {
  const mount = `${test}:/test:ro`;
  return {
    services: {
      "engine-proxy": { image: IMAGE },
      slipway: {
        image: IMAGE,
        mem_limit: "1g",
        cpus: 1,
        environment: {
          SLIPWAY_TRUSTED_REPO_HOSTS: `127.0.0.1:${GIT_PORT}`,
          SLIPWAY_WORKER_TOOLS: "slim",
          SLIPWAY_MIN_FREE_MB: "0",
        },
      },
      upstream: {
        image: IMAGE,
        network_mode: "service:slipway",
        entrypoint: ["node", "/app/scripts/git-server.mjs", "/tmp/git", "--port", String(GIT_PORT), "--repo", "app"],
        healthcheck: { disable: true },
      },
      pebble: {
        image: TOOLS,
        command: "pebble -config /test/pebble.json",
        environment: { PEBBLE_VA_NOSLEEP: "1" },
        ports: [`127.0.0.1:${rootsPort}:15000`],
        volumes: [mount],
      },
      caddy: {
        image: TOOLS,
        command: "caddy run --config /test/Caddyfile --adapter caddyfile",
        environment: { XDG_DATA_HOME: "/data" },
        volumes: [mount],
        networks: { default: { aliases: ["slipway.test"] } },
      },
    },
  };
}

function writeAcme(test: string): void {
  const own = ["-keyout", join(test, "pebble.key"), "-out", join(test, "pebble.pem"), "-subj", "/CN=pebble"];
  const names = ["-addext", "subjectAltName=DNS:pebble,DNS:localhost", "-days", "2"];
  execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", ...own, ...names], { stdio: "ignore" });
  const pebble = {
    listenAddress: "0.0.0.0:14000",
    managementListenAddress: "0.0.0.0:15000",
    certificate: "/test/pebble.pem",
    privateKey: "/test/pebble.key",
    httpPort: 80,
    tlsPort: 443,
  };
  writeFileSync(join(test, "pebble.json"), JSON.stringify({ pebble }));
  const options = [
    "admin off",
    "skip_install_trust",
    "acme_ca https://pebble:14000/dir",
    "acme_ca_root /test/pebble.pem",
  ];
  writeFileSync(join(test, "Caddyfile"), `{\n${options.join("\n")}\n}\nimport /etc/caddy/Caddyfile\n`);
}

/** The root certificate of this run of pebble. */
function readRoot(port: number, pem: string): Promise<string | null> {
  return new Promise((resolve) => {
    request({ host: "127.0.0.1", port, path: "/roots/0", ca: pem, servername: "localhost" }, (answer) => {
      let text = "";
      answer.setEncoding("utf8").on("data", (piece: string) => (text += piece));
      answer.on("end", () => resolve(text));
    })
      .on("error", () => resolve(null))
      .end();
  });
}

/** Sent to the engine from inside of the coordinator's container; prints the statuses. */
const ASK = `
  const { request } = require("node:http");
  const ask = ([method, path, body]) => new Promise((done) => {
    const sent = body === undefined ? undefined : JSON.stringify(body);
    const headers = sent === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(sent) };
    request({ socketPath: "/run/engine/docker.sock", method, path, headers }, (answer) => {
      answer.resume();
      done(answer.statusCode);
    }).on("error", () => done(0)).end(sent);
  });
  (async () => {
    const found = [];
    for (const call of JSON.parse(process.argv[1])) found.push(await ask(call));
    console.log(JSON.stringify(found));
  })();`;

const container = (host: object, top: object = {}): object => ({
  Image: IMAGE,
  Labels: {},
  ...top,
  HostConfig: { NetworkMode: "none", ...host },
});
const CREATE = "/containers/create";
/** Each would be root on the machine, or a part of it; test/sandbox/docker has all. */
const REFUSED: readonly (readonly [string, string, object?])[] = [
  ["POST", CREATE, container({ Privileged: true })],
  ["POST", CREATE, container({ Binds: ["/:/host"] })],
  ["POST", CREATE, container({ Mounts: [{ Type: "bind", Source: "/var/run/docker.sock", Target: "/s" }] })],
  ["POST", CREATE, container({ NetworkMode: "host" })],
  ["POST", "/containers/PROXY/exec", { Cmd: ["sh"], Privileged: true }],
  ["PUT", "/containers/PROXY/archive?path=/", {}],
  ["POST", "/containers/PROXY/kill?signal=SIGKILL"],
  ["GET", "/containers/PROXY/json"],
  ["DELETE", "/containers/PROXY?force=true"],
  ["POST", "/v1.23/containers/PROXY/start", { Privileged: true }],
  ["POST", "/build?networkmode=host"],
  ["POST", "/volumes/create", { DriverOpts: { type: "none", o: "bind", device: "/" } }],
];

interface Image {
  readonly Size: number;
  readonly Config: {
    readonly User: string;
    readonly Labels: Readonly<Record<string, string>>;
    readonly Healthcheck?: object;
  };
}
const inspectImage = async (name: string): Promise<Image> =>
  (JSON.parse(await docker("image", "inspect", name)) as [Image])[0];
const runInImage = (...command: string[]): Promise<string> =>
  docker("run", "--rm", "--network", "none", "--entrypoint", ...command.slice(0, 1), IMAGE, ...command.slice(1));
/** Its port is published nowhere. */
const LOCAL = ["-e", "SLIPWAY_PUBLIC_URL=http://localhost:7080"];
const serveIn = (data: string, ...options: string[]): string[] =>
  [options, ["-v", `${data}:${data}`, "-e", `SLIPWAY_DATA_DIR=${data}`], LOCAL, ADMIN].flat();

inFullRuns(describe.skipIf(obstacle !== null))(
  `the image and compose.yaml${obstacle === null ? "" : ` (skipped: ${obstacle})`}`,
  () => {
    const compose = findCompose() ?? ["docker-compose"];
    const project = `slipway-test-${process.pid}`;
    let dir: string;
    let data: string;

    async function inProject(...args: string[]): Promise<string> {
      const [program = "", ...first] = compose;
      const files = ["-p", project, "-f", join(dir, "deploy/compose.yaml"), "-f", join(dir, "override.json")];
      const options = { cwd: join(dir, "deploy"), maxBuffer: 2 ** 26 };
      return (await run(program, [...first, ...files, ...args], options)).stdout;
    }
    const inSlipway = (...args: string[]): Promise<string> => inProject("exec", "-T", "slipway", ...args);
    const withLogs = async (error: unknown): Promise<never> => {
      throw new Error(`${String(error)}\n${(await inProject("logs", "--tail", "50")).slice(-6_000)}`);
    };

    beforeAll(async () => {
      dir = mkdtempSync(join(tmpdir(), "slipway-co-"));
      data = join(dir, "data");
      mkdirSync(data, { mode: 0o700 });
      await buildImages(dir);
    }, BUILD_MS);

    afterAll(async () => {
      await inProject("down", "-v", "-t", "5").catch(() => undefined);
      await removeRemains(deriveInstanceId(data), disksDir(data)).catch(() => undefined);
      rmSync(dir, { recursive: true, force: true });
    });

    it("the image has what the server runs, and nothing to develop or to compile with", async () => {
      const packages = (await runInImage("dpkg-query", "-W", "-f", "${Package}\\n")).split("\n");
      expect(packages.filter((name) => /^(?:gcc|g\+\+|cpp|make|python3|binutils)(?:-\d+)?$/.test(name))).toEqual([]);
      const list = "ls node_modules | grep -v ^@; cd node_modules && ls -d @*/*";
      const modules = (await runInImage("sh", "-c", list)).split("\n");
      expect(modules).toEqual(expect.arrayContaining(["@node-rs/argon2", "better-sqlite3-napi", "dockerode"]));
      const own = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { devDependencies: object };
      expect(Object.keys(own.devDependencies).filter((name) => modules.includes(name))).toEqual([]);
      expect(modules).not.toContain("express");
      expect((await runInImage("ls", "-A", ".", "dist")).split(/\s+/).filter((name) => !FILES.has(name))).toEqual([]);
      const programs = "for p in npm npx yarn cc gcc make python3; do command -v $p; done; true";
      expect(await runInImage("sh", "-c", programs)).toBe("");
      expect(Number.parseInt(await runInImage("du", "-sm", "/app"), 10)).toBeLessThan(MAX_APP_MB);
      const [image, base] = [await inspectImage(IMAGE), await inspectImage(BASE)];
      expect((image.Size - base.Size) / 1e6).toBeLessThan(MAX_ADDED_MB);
      expect(image.Config).toMatchObject({
        User: "slipway",
        Labels: { "org.opencontainers.image.version": "1.2.3", "org.opencontainers.image.revision": REVISION },
        Healthcheck: { Test: expect.any(Array) as unknown },
      });
    });

    it("its bill of materials names all npm packages that run, and no others", async () => {
      const bill = JSON.parse(await runInImage("cat", "sbom.cdx.json")) as { components: { name: string }[] };
      const names = bill.components.map(({ name }) => name);
      // Bundled into the server, loaded by it, bundled into the web app; and what only tests need.
      expect(names).toEqual(expect.arrayContaining(["zod", "express", "dockerode", "react"]));
      for (const name of ["vitest", "fast-check", "knip", "typescript"]) expect(names).not.toContain(name);
    });

    it("[S8] a data folder that an older image made as root is opened once it is given to the server's user", async () => {
      const older = await docker("run", "-d", ...serveIn(data, "--user", "0", "--network", "none"), IMAGE);
      try {
        await eventually(
          async () => ((await docker("logs", older)).includes("listening on") ? true : null),
          "an older server has made the folder",
        );
        await docker("stop", older);
      } finally {
        await docker("rm", "-f", older);
      }
      const refused: unknown = await docker("run", "--rm", ...serveIn(data, "--network", "none"), IMAGE).catch(
        (error: unknown) => error,
      );
      expect(refused).toMatchObject({ code: 2 });
      const advice = `chown -R ${UID}:${UID} ${data}`;
      expect(String(Reflect.get(Object(refused), "stderr"))).toContain(advice);
      execFileSync("sh", ["-c", advice]);
    });

    it("[S16] from compose up to a log-in over https, five streams, and a task whose branch is pushed", async () => {
      const ports = { https: await findFixedPort(), http: await findFixedPort(), roots: await findFixedPort() };
      cpSync(join(ROOT, "docs/deploy"), join(dir, "deploy"), { recursive: true });
      mkdirSync(join(dir, "test"));
      writeAcme(join(dir, "test"));
      writeFileSync(join(dir, "override.json"), JSON.stringify(createOverride(join(dir, "test"), ports.roots)));
      const settings = {
        SLIPWAY_DATA_DIR: data,
        SLIPWAY_DOMAIN: "slipway.test",
        SLIPWAY_ADMIN_EMAIL: EMAIL,
        SLIPWAY_ADMIN_PASSWORD: PASSWORD,
        SLIPWAY_HTTP_PORT: ports.http,
        SLIPWAY_HTTPS_PORT: ports.https,
      };
      const lines = Object.entries(settings).map(([name, value]) => `${name}=${value}\n`);
      writeFileSync(join(dir, "deploy/.env"), lines.join(""));
      await inProject("up", "-d").catch(withLogs);
      const pem = readFileSync(join(dir, "test/pebble.pem"), "utf8");
      const client = openHttpsClient(ports.https, await eventually(() => readRoot(ports.roots, pem), "pebble answers"));
      await eventually(
        async () => ((await client.call("GET", "/healthz").catch(() => null))?.status === 200 ? true : null),
        "Caddy has its certificate",
      ).catch(withLogs);
      const login = await client.call("POST", "/v1/session", { email: EMAIL, password: PASSWORD }, { origin: ORIGIN });
      expect(login.status, login.text).toBe(200);
      expect(String(login.headers["set-cookie"])).toMatch(/__Host-slipway=.*HttpOnly.*Secure/);
      const { accessToken } = JSON.parse(login.text) as { accessToken: string };
      const auth = { authorization: `Bearer ${accessToken}` };
      const script = [
        { bash: "echo hello > hello.txt && id -u" },
        { finish: { title: "Say hello", summary: "Done." } },
      ];
      const repo = `http://127.0.0.1:${GIT_PORT}/app.git`;
      const made = await client.call("POST", "/v1/tasks", { repo, prompt: "Hello", agent: "scripted", script }, auth);
      expect(made.status, made.text).toBe(201);
      const { id } = JSON.parse(made.text) as WireTask;
      await Promise.all(Array.from({ length: 5 }, () => client.untilDone(id, auth))).catch(withLogs);
      const task = JSON.parse((await client.call("GET", `/v1/tasks/${id}`, undefined, auth)).text) as WireTask;
      expect(task).toMatchObject({ state: "done", outcome: "pushed" });
      const show = ["git", "-C", "/tmp/git/app.git", "show", `${task.branch}:hello.txt`];
      expect(await inProject("exec", "-T", "upstream", ...show)).toBe("hello\n");
    });

    it("the server runs as its own user on one core and 1 GiB, is healthy, and `slipway` is on the PATH", async () => {
      expect((await inSlipway("id", "-u")).trim()).toBe(String(UID));
      const id = (await inProject("ps", "-q", "slipway")).trim();
      const health = (): Promise<string> => docker("inspect", "-f", "{{.State.Health.Status}} {{.RestartCount}}", id);
      await expect.poll(health, { interval: 1_000 }).toBe("healthy 0");
      const status = await inSlipway(
        "sh",
        "-c",
        'cat /proc/$(grep -o "[0-9]*}" $SLIPWAY_DATA_DIR/server.json | tr -d })/status',
      );
      const peak = /VmHWM:\s+(\d+) kB/.exec(status);
      expect(Number(peak?.[1]) / 1_024).toBeLessThan(MAX_SERVER_MB);
      expect(await inSlipway("slipway", "--version")).toMatch(/\d+\.\d+\.\d+/);
      const doctor = await inSlipway("slipway", "doctor").catch((error: unknown) =>
        String(Reflect.get(Object(error), "stdout")),
      );
      expect(doctor).not.toMatch(/permission denied|EACCES|refuses this call/i);
    });

    it("[S16] Slipway needed no call that the proxy refuses, and none that it refuses reaches the engine", async () => {
      expect(await inProject("logs", "engine-proxy")).not.toContain("refused");
      const proxy = (await inProject("ps", "-q", "engine-proxy")).trim();
      const calls = REFUSED.map(([method, path, body]) => [method, path.replace("PROXY", proxy), body]);
      const found = JSON.parse(
        await inSlipway("node", "-e", ASK, JSON.stringify([["GET", "/info"], ...calls])),
      ) as number[];
      expect(found).toEqual([200, ...REFUSED.map(() => 403)]);
      expect(await inSlipway("ls", "/run/engine", "/var/run")).not.toMatch(/docker\.sock[^]*docker\.sock/);
    });
  },
);
