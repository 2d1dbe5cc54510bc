/**
 * A start that fails leaves nothing open; a wrong setting ends it with one sentence and exit code
 * 2.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect } from "vitest";
import { readConfig } from "../../src/app/config.ts";
import { serve } from "../../src/app/serve.ts";
import { START_STEPS } from "../../src/app/wiring/start-context.ts";
import { launch } from "../support/process/server.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(2);

/** From the error message of a failed start to the end of its process, ms. */
const EXIT_MS = 2_000;
const LOG = { debug: ignore, info: ignore, warn: ignore, error: ignore };

function ignore(): void {}

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "slipway-start-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }));

/**
 * Resolves when the process ends: its exit code, its output, and how long it lived after its first
 * error text.
 */
async function fail(env: Record<string, string>, sandbox: "process" | "simulated" | "docker" = "simulated") {
  const server = launch({ dataDir: join(dir, "data"), sandbox, env });
  let failedAt = Number.NaN;
  server.process.stderr?.on("data", () => {
    if (Number.isNaN(failedAt) && server.stderr().includes("slipway: ")) failedAt = performance.now();
  });
  const code = await server.exited;
  return { code, err: server.stderr(), exitMs: performance.now() - failedAt };
}

function listenAnywhere(): Promise<Server> {
  const server = createServer();
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

describe("a busy port", () => {
  it.each(["process", "simulated", "docker"] as const)(
    "ends the start with exit code 2 and one sentence, sandbox %s",
    async (sandbox) => {
      const taken = await listenAnywhere();
      const port = String((taken.address() as AddressInfo).port);
      const env = { SLIPWAY_PORT: port, SLIPWAY_LOG_LEVEL: "silent", DOCKER_HOST: "unix:///nonexistent/docker.sock" };
      let fastest = Infinity;
      // A busy machine delays one exit, what was left open delays each.
      for (let tries = 0; tries < 3 && fastest >= EXIT_MS; tries += 1) {
        const { code, err, exitMs } = await fail(env, sandbox);
        expect(code).toBe(2);
        expect(err).toMatch(
          new RegExp(`^slipway: Cannot listen on 127\\.0\\.0\\.1:${port}: .* Choose another SLIPWAY_PORT\\.`),
        );
        expect(err.trim().split("\n")).toHaveLength(1);
        fastest = Math.min(fastest, exitMs);
      }
      taken.close();
      expect(fastest).toBeLessThan(EXIT_MS);
    },
  );
});

describe("a data folder that cannot be used ends the start with exit code 2 and names its setting", () => {
  const quiet = { SLIPWAY_LOG_LEVEL: "silent" };

  it("a file stands in its place", async () => {
    writeFileSync(join(dir, "file"), "");
    const { code, err } = await fail({ ...quiet, SLIPWAY_DATA_DIR: join(dir, "file") });
    expect([code, err]).toEqual([2, expect.stringMatching(/^slipway: SLIPWAY_DATA_DIR must be a folder/)]);
  });

  it("the folder lies in /proc, where nothing can be created", async () => {
    const { code, err } = await fail({ ...quiet, SLIPWAY_DATA_DIR: "/proc/slipway" });
    expect([code, err]).toEqual([2, expect.stringMatching(/^slipway: SLIPWAY_DATA_DIR must be a folder/)]);
  });

  it.skipIf(process.getuid?.() === 0)(
    "its parent is not writable (skipped for root, who may write anywhere)",
    async () => {
      mkdirSync(join(dir, "closed"));
      chmodSync(join(dir, "closed"), 0o500);
      const { code, err } = await fail({ ...quiet, SLIPWAY_DATA_DIR: join(dir, "closed", "data") });
      expect([code, err]).toEqual([2, expect.stringMatching(/^slipway: SLIPWAY_DATA_DIR must be a folder/)]);
    },
  );
});

describe("a start that fails closes what it opened", () => {
  const config = () =>
    readConfig({ SLIPWAY_DATA_DIR: join(dir, "data"), SLIPWAY_PORT: "0", SLIPWAY_SANDBOX: "simulated" });
  /** Timers, servers and sockets that keep this process alive. */
  const countResources = (): string[] =>
    process
      .getActiveResourcesInfo()
      .filter((name) => /Timeout|TCPSERVER|TCPServer|PipeServer|FSEvent|MessagePort/.test(name));

  it.each(START_STEPS)("after the step %s", async (failing) => {
    const before = countResources();
    const steps: string[] = [];
    const onStep = (step: string): void => {
      steps.push(step);
      if (step === failing) throw new Error("injected");
    };
    await expect(serve(config(), { log: LOG, onStep })).rejects.toThrow("injected");
    expect(steps.at(-1)).toBe(failing);
    await expect.poll(countResources).toEqual(before);
    // The folder's lock is free, and what the failed start wrote does not hinder the next one.
    const running = await serve(config(), { log: LOG });
    await running.close();
    await expect.poll(countResources).toEqual(before);
  });

  it("closing twice is closing once, and nothing listens afterwards", async () => {
    const running = await serve(config(), { log: LOG });
    await Promise.all([running.close(), running.close()]);
    await expect(fetch(`${running.url}/healthz`)).rejects.toThrow();
  });

  it("an earlier name of a setting works with a warning that names the new one", async () => {
    const warnings: string[] = [];
    const log = { ...LOG, warn: (_fields: object, text: string) => void warnings.push(text) };
    const settings = { SLIPWAY_DATA_DIR: join(dir, "data"), SLIPWAY_PORT: "0", SLIPWAY_SANDBOX: "simulated" };
    const old = readConfig({ ...settings, SLIPWAY_DOOR: "tunnel" });
    expect(old.transport).toBe("tunnel");
    expect(readConfig(settings, { door: "socket" }).transport).toBe("socket");
    expect(readConfig({ ...settings, SLIPWAY_DOOR: "tunnel", SLIPWAY_TRANSPORT: "socket" })).toMatchObject({
      transport: "socket",
      warnings: [],
    });
    await (await serve(old, { log })).close();
    expect(warnings).toContain(
      "SLIPWAY_DOOR is now SLIPWAY_TRANSPORT; the old name stops working in the next minor version.",
    );
  });
});

describe("[H8] a start refuses what would be guessed or read", () => {
  const LINK = /\/setup#([\w-]{43})/;

  it.each([
    ["SLIPWAY_SECRET_KEY would be guessed", { SLIPWAY_SECRET_KEY: "0".repeat(64) }],
    [
      "SLIPWAY_ADMIN_PASSWORD is one of the most common passwords",
      { SLIPWAY_ADMIN_EMAIL: "root@example.org", SLIPWAY_ADMIN_PASSWORD: "password1234" },
    ],
    [
      "SLIPWAY_ADMIN_PASSWORD has fewer than 4 different characters",
      { SLIPWAY_ADMIN_EMAIL: "root@example.org", SLIPWAY_ADMIN_PASSWORD: "x".repeat(10) },
    ],
    [
      "ANTHROPIC_BASE_URL must be",
      { ANTHROPIC_API_KEY: "k", ANTHROPIC_BASE_URL: "https://user:hunter2@model.example" },
    ],
  ])("%s", async (sentence, env) => {
    const { code, err } = await fail({ SLIPWAY_LOG_LEVEL: "silent", ...env });
    expect([code, err.trim().split("\n")]).toEqual([2, [expect.stringContaining(sentence)]]);
    expect(err).not.toMatch(/hunter2|password1234|xxxxxxxxxx|0000/);
  });

  it("an operator's token that others can read, or that is short", async () => {
    const data = join(dir, "data");
    mkdirSync(data, { mode: 0o700 });
    const file = join(data, "operator.token");
    writeFileSync(file, `${"t".repeat(43)}\n`, { mode: 0o644 });
    chmodSync(file, 0o644);
    const open = await fail({ SLIPWAY_LOG_LEVEL: "silent" });
    expect([open.code, open.err]).toEqual([2, expect.stringContaining(`chmod 600 ${file}`)]);
    writeFileSync(file, "t\n");
    chmodSync(file, 0o600);
    const short = await fail({ SLIPWAY_LOG_LEVEL: "silent" });
    expect([short.code, short.err]).toEqual([2, expect.stringContaining("Remove the file, and start again.")]);
  });

  it("keys of push messages that others can read", async () => {
    const file = join(dir, "data", "vapid.json");
    mkdirSync(join(dir, "data"), { mode: 0o700 });
    writeFileSync(file, "{}");
    chmodSync(file, 0o640);
    const open = await fail({ SLIPWAY_LOG_LEVEL: "silent" });
    expect([open.code, open.err]).toEqual([2, expect.stringContaining(`chmod 600 ${file}`)]);
  });

  it("the link for the first admin is another one at each start, and the old one is void", async () => {
    const config = readConfig({ SLIPWAY_DATA_DIR: join(dir, "data"), SLIPWAY_SANDBOX: "simulated", SLIPWAY_PORT: "0" });
    const links: string[] = [];
    for (let n = 0; n < 2; n++) {
      const server = await serve(config, { log: LOG });
      links.push(LINK.exec(server.setupUrl ?? "")?.[1] ?? "");
      if (n === 1) {
        const setUp = async (token: string): Promise<number> => {
          const body = JSON.stringify({ token, email: "root@example.org", password: "seven green lanterns" });
          const headers = { "content-type": "application/json" };
          return (await fetch(`${server.url}/v1/setup`, { method: "POST", headers, body })).status;
        };
        expect([await setUp(links[0]!), await setUp(links[1]!), await setUp(links[1]!)]).toEqual([401, 201, 401]);
      }
      await server.close();
    }
    expect(new Set(links).size).toBe(2);
  });
});
