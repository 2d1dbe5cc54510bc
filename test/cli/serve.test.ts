/** The server, the demo and a fresh clone, as a new user runs them. */
import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { cleanEnv, killAll, makeHome, ROOT, run, start } from "./command.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(3);

const RUN = join(ROOT, "scripts", "run.mjs");
let home = "";
let remove = (): void => undefined;
beforeAll(() => {
  ({ home, remove } = makeHome());
});
afterAll(() => {
  killAll();
  remove();
});

function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("serve", () => {
  it("gc, artifacts and doctor work beside the running server; gc without a server ends with 3", async () => {
    const env = {
      SLIPWAY_PORT: "0",
      SLIPWAY_SANDBOX: "process",
      SLIPWAY_DATA_DIR: "keep",
      SLIPWAY_LOG_LEVEL: "silent",
    };
    const none = await run(home, ["gc", "--dry-run", "--data-dir", "keep", "--url", "http://127.0.0.1:9"]);
    expect([none.code, none.out]).toEqual([3, ""]);
    expect(none.err).toContain("cannot be reached");
    const server = start(home, ["serve"], { env });
    await server.saw(/listening on/);
    const lost = `task_${"0".repeat(26)}-a1`;
    mkdirSync(join(home, "keep", "run", lost), { recursive: true });
    const look = await run(home, ["gc", "--dry-run", "--data-dir", "keep"]);
    expect([look.code, look.out]).toEqual([
      0,
      expect.stringMatching(/sockets +slipway-task_0{26}-a1[^]*1 item can be removed/),
    ]);
    const gone = await run(home, ["gc", "--json", "--data-dir", "keep"]);
    expect(JSON.parse(gone.out)).toMatchObject({
      dryRun: false,
      items: [{ kind: "sockets", name: `slipway-${lost}`, error: null }],
    });
    expect((await run(home, ["gc", "--data-dir", "keep"])).out).toBe("Nothing to remove.\n");
    const task = JSON.parse((await run(home, ["tasks", "--json", "--data-dir", "keep"])).out) as { items: unknown[] };
    expect(task.items).toEqual([]);
    const missing = await run(home, ["artifacts", `task_${"0".repeat(26)}`, "--data-dir", "keep"]);
    expect([missing.code, missing.err]).toEqual([1, expect.stringContaining("not_found")]);
    const doctor = await run(home, ["doctor", "--json", "--data-dir", "keep"], { env });
    const rules = (JSON.parse(doctor.out) as { rule: string; ok: boolean }[]).map((one) => one.rule);
    expect(rules).toEqual(expect.arrayContaining(["node", "git", "descriptors", "disk", "clock", "sandbox", "D3"]));
    expect(doctor.code).toBe(0);
    const bare = await run(home, ["doctor", "--json", "--data-dir", "keep"], { env: { ...env, PATH: "/nonexistent" } });
    expect([bare.code, bare.out]).toEqual([1, expect.stringContaining("there is no git on the PATH")]);
    server.process.kill("SIGTERM");
    expect((await server.ended).code).toBe(0);
  });

  it("prints its address, serves a reader of its data folder without a login, and stops on SIGTERM", async () => {
    const env = {
      SLIPWAY_PORT: "0",
      SLIPWAY_SANDBOX: "process",
      SLIPWAY_DATA_DIR: "data",
      SLIPWAY_LOG_LEVEL: "silent",
    };
    const server = start(home, ["serve"], { env });
    const line = await server.saw(/slipway: listening on (http:\/\/127\.0\.0\.1:\d+)\n/);
    await server.saw("/setup#");
    await server.saw("NOT ISOLATED");
    const tasks = await run(home, ["tasks", "--json", "--data-dir", "data"]);
    expect({ code: tasks.code, err: tasks.err, body: JSON.parse(tasks.out) as unknown }).toEqual({
      code: 0,
      err: "",
      body: { items: [], next: null, watchAfter: expect.toBeOneOf([null, expect.any(Number)]) },
    });
    expect(statSync(join(home, "data", "operator.token")).mode & 0o777).toBe(0o600);

    const second = await run(home, ["serve"], { env });
    expect({ code: second.code, out: second.out }).toEqual({ code: 2, out: "" });

    const asked = performance.now();
    server.process.kill("SIGTERM");
    const { code, out } = await server.ended;
    expect({ code, out }).toEqual({ code: 0, out: line });
    expect(performance.now() - asked).toBeLessThan(30_000);
    expect((await run(home, ["tasks", "--data-dir", "data"])).code).toBe(3);
  });

  it("[S8] does not listen beyond loopback without an admin, nor without https unless that is said", async () => {
    const env = { SLIPWAY_HOST: "0.0.0.0", SLIPWAY_PORT: "0", SLIPWAY_SANDBOX: "process", SLIPWAY_DATA_DIR: "open" };
    const { code, out, err } = await run(home, ["serve"], { env });
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(err).toContain("SLIPWAY_ADMIN_EMAIL");
    const admin = { SLIPWAY_ADMIN_EMAIL: "a@example.org", SLIPWAY_ADMIN_PASSWORD: "seven green lanterns" };
    const clear = await run(home, ["serve"], { env: { ...env, ...admin } });
    expect([clear.code, clear.err]).toEqual([2, expect.stringContaining("--insecure-lan 1")]);
    const server = start(home, ["serve", "--insecure-lan", "1"], { env: { ...env, ...admin } });
    await server.saw(/listening on/);
    server.process.kill("SIGTERM");
    expect((await server.ended).err).toMatch(/"level":"warn".*people reach this server without https/);
  });

  it("without a Docker engine it serves, and names what works and how to install one", async () => {
    const env = { SLIPWAY_PORT: "0", SLIPWAY_DATA_DIR: "none", DOCKER_HOST: "unix:///nonexistent/docker.sock" };
    const server = start(home, ["serve"], { env });
    await server.saw(/listening on/);
    await server.saw(/sandbox.* No Docker engine answers .*NOT ISOLATED.*apt-get install -y docker\.io/s);
    server.process.kill("SIGTERM");
    expect((await server.ended).code).toBe(0);
  });
});

describe("demo", () => {
  it.always("runs a whole task without Docker with a warning, and leaves nothing behind", async () => {
    const temp = join(home, "tmp");
    mkdirSync(temp);
    const env = { TMPDIR: temp, DOCKER_HOST: "unix:///nonexistent/docker.sock" };
    const { code, out, err } = await run(home, ["demo"], { env });
    expect({ code, err }).toEqual({ code: 0, err: "" });
    for (const part of [
      "NOT ISOLATED",
      "✓ clone",
      "⏺ bash node test.mjs ✓",
      "✓ verify node test.mjs",
      "done: pushed",
      "+++ b/farewell.mjs",
      "It works.",
    ]) {
      expect(out).toContain(part);
    }
    expect(readdirSync(temp)).toEqual([]);
  });

  it("--model fake: the agent that has a model does it, and the provider's bill is what the task shows", async () => {
    const temp = join(home, "tmp3");
    mkdirSync(temp);
    const { code, out, err } = await run(home, ["demo", "--model", "fake", "--sandbox", "process"], {
      env: { TMPDIR: temp },
    });
    expect({ code, err }).toEqual({ code: 0, err: "" });
    for (const part of [
      "a fake one",
      "is overloaded",
      "✓ verify node test.mjs",
      "7 turns",
      "+++ b/farewell.mjs",
      "It works.",
    ])
      expect(out).toContain(part);
    expect(readdirSync(temp)).toEqual([]);
  });

  it("cleans up when it is interrupted", async () => {
    const temp = join(home, "tmp2");
    mkdirSync(temp);
    // The agent's first `node test.mjs` does not end by itself.
    const held = join(home, "held");
    mkdirSync(held);
    writeFileSync(join(held, "node"), "#!/bin/sh\nexec sleep 600\n", { mode: 0o755 });
    const env = { TMPDIR: temp, PATH: `${held}:${process.env["PATH"] ?? ""}` };
    const demo = start(home, ["demo", "--sandbox", "process"], { env });
    await demo.saw("→ running");
    demo.process.kill("SIGINT");
    expect((await demo.ended).code).toBe(130);
    expect(readdirSync(temp)).toEqual([]);
  });
});

describe("run.mjs", () => {
  it("runs the command line with standard input closed, as on a build machine", async () => {
    const { code, out } = await run(home, ["--version"], { file: RUN, env: { CI: "true" }, cwd: ROOT });
    expect({ code, out }).toEqual({ code: 0, out: "0.1.0\n" });
    expect((await run(home, ["tasks", "--url", "http://127.0.0.1:9"], { file: RUN, env: { CI: "true" } })).code).toBe(
      3,
    );
  });

  it("stops the server when the shell that npm started it in is stopped", async () => {
    const env = {
      ...cleanEnv(home),
      SLIPWAY_PORT: "0",
      SLIPWAY_SANDBOX: "process",
      SLIPWAY_DATA_DIR: "data4",
      npm_lifecycle_event: "start",
    };
    // The second command keeps the shell from replacing itself with the server, so that the signal
    // reaches the shell only.
    const shell = spawn("sh", ["-c", `"${process.execPath}" "${RUN}" serve; exit 9`], {
      cwd: home,
      env,
      stdio: ["ignore", "pipe", "ignore"],
    });
    let out = "";
    shell.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
    await expect.poll(() => out).toContain("slipway: listening on");
    const { pid } = JSON.parse(readFileSync(join(home, "data4", "server.json"), "utf8")) as { pid: number };
    shell.kill("SIGTERM");
    await expect.poll(() => runs(pid)).toBe(false);
  });

  it("passes a stop on to the server", async () => {
    const env = {
      SLIPWAY_PORT: "0",
      SLIPWAY_SANDBOX: "process",
      SLIPWAY_DATA_DIR: "data3",
      SLIPWAY_LOG_LEVEL: "silent",
      CI: "true",
    };
    const server = start(home, ["serve"], { file: RUN, env });
    await server.saw("slipway: listening on");
    server.process.kill("SIGTERM");
    expect((await server.ended).code).toBe(0);
  });
});
