/** The command line in a shell: servers by name, completion, waits, mistakes. */
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { startServer, type RealServer } from "../support/process/server.ts";
import { CLI, cleanEnv, killAll, makeHome, run, start, type Ended } from "./command.ts";

const EMAIL = "ada@example.org";
const PASSWORD = "a long enough word 17";

let home = "";
let remove = (): void => undefined;
let server: RealServer;
let taskId = "";

/** Without the data folder: as on another machine. */
const slipway = (...args: string[]): Promise<Ended> => run(home, args, { env: { SLIPWAY_PASSWORD: PASSWORD } });

beforeAll(async () => {
  ({ home, remove } = makeHome());
  server = await startServer({
    dataDir: join(home, "data"),
    sandbox: "simulated",
    env: { SLIPWAY_ADMIN_EMAIL: EMAIL, SLIPWAY_ADMIN_PASSWORD: PASSWORD },
  });
  await server.call("POST", "/v1/ops/queue/pause");
  const repo = "https://example.org/ada/app.git";
  taskId = ((await server.call("POST", "/v1/tasks", { repo, prompt: "Wait here." })).body as WireTask).id;
});
afterAll(async () => {
  await server.kill("SIGTERM");
  killAll();
  remove();
});

describe("servers by name", () => {
  it("a log-in elsewhere is remembered: the next command talks to that server", async () => {
    const login = await slipway("login", "--url", server.url, "--email", EMAIL, "--name", "work");
    expect([login.code, login.out]).toEqual([0, expect.stringContaining("context work")]);
    const tasks = await slipway("tasks");
    expect([tasks.code, tasks.err, tasks.out]).toEqual([0, "", expect.stringContaining(taskId)]);
    expect((await slipway("context")).out).toMatch(new RegExp(`\\* +work +${server.url} +logged in`));
  });

  it("another one is chosen for one command, or from now on; `local` is the data folder's", async () => {
    const elsewhere = await slipway("tasks", "--context", "nowhere");
    expect([elsewhere.code, elsewhere.err]).toEqual([2, expect.stringContaining("Known are: local, work.")]);
    expect((await slipway("context", "use", "local")).code).toBe(0);
    // A Slipway of this machine may listen there: it knows neither this log-in nor this task.
    const local = await slipway("tasks");
    expect(local.out).toBe("");
    expect(local.code).not.toBe(0);
    expect((await slipway("tasks", "--context", "work")).code).toBe(0);
    const own = await slipway("tasks", "--data-dir", join(home, "data"));
    expect([own.code, own.out]).toEqual([0, expect.stringContaining(taskId)]);
    expect((await slipway("context", "use", "work")).out).toContain(server.url);
  });

  it("the file holds no secret, and a damaged one counts as empty", async () => {
    const file = join(home, "config", "slipway", "contexts.json");
    const before = readFileSync(file, "utf8");
    expect(JSON.parse(before)).toEqual({ current: "work", servers: { work: server.url } });
    expect(statSync(file).mode & 0o077).toBe(0);
    writeFileSync(file, "{");
    expect((await slipway("context", "list", "--json")).code).toBe(0);
    writeFileSync(file, before);
  });
});

it("watch says why a task waits, also into a pipe", async () => {
  const watch = start(home, ["watch", taskId, "--context", "work"]);
  await watch.saw("waits: an operator paused the queue (paused); next in the queue");
  watch.process.kill("SIGINT");
  expect((await watch.ended).code).toBe(130);
});

describe("completion", () => {
  /** What bash would offer for the words. */
  function complete(...words: string[]): string[] {
    const bin = join(home, "bin");
    mkdirSync(bin, { recursive: true });
    writeFileSync(join(bin, "slipway"), `#!/bin/sh\nexec ${process.execPath} ${CLI} "$@"\n`);
    chmodSync(join(bin, "slipway"), 0o755);
    const typed = words.map((word) => `'${word}'`).join(" ");
    const script = `source <(slipway completion bash); COMP_WORDS=(slipway ${typed}); COMP_CWORD=${words.length}
      _slipway; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const env = { ...cleanEnv(home), PATH: `${bin}:${process.env["PATH"]}` };
    return execFileSync("bash", ["-c", script], { encoding: "utf8", cwd: home, env }).trim().split("\n");
  }

  it("offers commands, options, their values and tasks", () => {
    expect(complete("su")).toEqual(["submit"]);
    expect(complete("context", "")).toEqual(expect.arrayContaining(["list", "use", "remove"]));
    expect(complete("submit", "--ef")).toEqual(["--effort"]);
    expect(complete("submit", "--effort", "x")).toEqual(["xhigh"]);
    expect(complete("watch", "")).toEqual(expect.arrayContaining(["last", taskId]));
    expect(complete("context", "use", "")).toEqual(["local", "work"]);
    expect(complete("nonsense", "--x")).toEqual([""]);
  });

  it.each(["bash", "zsh", "fish"])("there is a script for %s, and its help says where it goes", async (shell) => {
    expect((await slipway("completion", shell)).out).toContain("slipway __complete --");
    expect((await slipway("completion", "--help")).out).toContain(`slipway completion ${shell}`);
  });
});

describe("a mistake is a sentence with the name that was typed", () => {
  const submit = (...options: string[]) => slipway("submit", "https://example.org/a.git", "x", ...options);
  it.each([
    [["--memory", "1"], "--memory must be at least 64."],
    [["--priority", "99"], "--priority must be at most 10."],
    [["--max-attempts", "0"], "--max-attempts must be at least 1."],
    [["--usd", "-1"], "'--usd <amount>' argument '-1' is invalid. It must be a number of 0 or more."],
    [["--effort", "huge"], "argument 'huge' is invalid. Allowed choices are"],
    [["--title", ""], "--title must have at least 1 character."],
  ])("submit %j", async (options, sentence) => {
    const { code, err } = await submit(...options);
    expect([code, err]).toEqual([2, expect.stringContaining(sentence)]);
    expect(err).toMatch(/^slipway: /);
  });

  it("a step of a script is counted as people count", async () => {
    const file = join(home, "script.json");
    writeFileSync(file, JSON.stringify([{ say: "yes" }, { say: 1 }]));
    const { code, err } = await submit("--script", file);
    expect([code, err]).toEqual([2, expect.stringContaining("step 2 of --script")]);
    expect(err).not.toContain("Invalid input");
  });

  it("a log-out ends the log-in once, and says when there is none", async () => {
    expect((await slipway("logout")).code).toBe(0);
    const again = await slipway("logout");
    expect([again.code, again.err]).toEqual([1, expect.stringContaining("There is no log-in at")]);
    const tasks = await slipway("tasks");
    expect([tasks.code, tasks.err]).toEqual([2, expect.stringMatching(/^slipway: You are not logged in/)]);
    expect((await slipway("context", "remove", "work")).code).toBe(0);
    expect((await slipway("context")).out).not.toContain("work");
  });
});
