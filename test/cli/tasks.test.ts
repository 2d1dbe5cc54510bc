/** Commands on tasks of a real server, as a person types them. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../support/process/server.ts";
import { killAll, makeHome, run, start, type Ended } from "./command.ts";
import { inTurn } from "../support/vitest/full-run.ts";

const it = inTurn(3);

let home = "";
let remove = (): void => undefined;
let upstream: GitServer;
let server: RealServer;
let done: string;
let asking: string;

const slipway = (...args: string[]): Promise<Ended> => run(home, [...args, "--data-dir", join(home, "data")]);

async function submit(prompt: string, script: readonly object[], until: string): Promise<string> {
  const { url: repo } = upstream.createRepo(prompt);
  const budget = { usd: 2, threadUsd: 12.5 };
  const { body } = await server.call("POST", "/v1/tasks", { repo, prompt, agent: "scripted", script, budget });
  const { id } = body as WireTask;
  await eventually(async () => {
    const task = await server.task(id);
    return task.state === until || task.phase === until ? true : null;
  }, `${prompt} is ${until}`);
  return id;
}

beforeAll(async () => {
  ({ home, remove } = makeHome());
  upstream = await startGitServer();
  server = await startServer({ dataDir: join(home, "data"), env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host } });
  const failing = { bash: "echo first; echo to standard error >&2; exit 3" };
  const finish = { finish: { title: "Work", summary: "Done." } };
  done = await submit("one", [{ bash: "echo quiet" }, failing, finish], "done");
  asking = await submit("two", [{ ask: { question: "Delete it?", options: ["yes", "no"] } }, finish], "awaiting_input");
});
afterAll(async () => {
  await server.kill("SIGTERM");
  killAll();
  await upstream.close();
  remove();
});

it("a task is named by the end or the beginning of its id, and by `last`", async () => {
  const lookUp = async (name: string) =>
    (JSON.parse((await slipway("inspect", name, "--json")).out) as { task: WireTask }).task.id;
  expect(await lookUp(done.slice(-8))).toBe(done);
  expect(await lookUp(done.slice(-8).toUpperCase())).toBe(done);
  expect(await lookUp("last")).toBe(asking);
  const shared = await slipway("inspect", done.slice(0, 10));
  expect([shared.code, shared.out]).toEqual([2, ""]);
  expect(shared.err).toContain("Several tasks match");
  for (const id of [done, asking]) expect(shared.err).toContain(id);
});

it.each(["inspect", "diff", "cancel", "logs", "artifacts", "retry", "keep"])(
  "%s of an unknown task is an error",
  async (command) => {
    for (const name of ["nope", "task_00000000000000000000000000"]) {
      const { code, out, err } = await slipway(command, name);
      expect([code, out], err).toEqual([1, ""]);
      expect(err).toMatch(/No task matches|There is no such task/);
    }
  },
);

it("logs shows what the tools printed, and --failed only what went wrong", async () => {
  const { code, out } = await slipway("logs", done.slice(-8));
  expect(code).toBe(0);
  for (const part of ["quiet", "first\n", "to standard error", "✗ exit 3"]) expect(out).toContain(part);
  const failed = (await slipway("logs", done, "--failed")).out;
  expect(failed).toContain("to standard error");
  expect(failed).not.toContain("quiet");
  const lines = (await slipway("logs", done, "--json")).out.trim().split("\n");
  expect(lines.map((line) => (JSON.parse(line) as { seq: number }).seq)).toEqual(lines.map((_, index) => index + 1));
});

it("a number that is no option of the question is refused, and the question stays open", async () => {
  const { code, err } = await slipway("answer", "last", "9");
  expect(code).toBe(2);
  expect(err).toMatch(/no option 9[^]*1\. yes[^]*2\. no/);
  expect((await server.task(asking)).question).not.toBeNull();
  expect((await slipway("answer", "last", "2")).code).toBe(0);
});

it("inspect tells a person's view: the thread, what is left of the budgets, and no alarm for a question that was just asked", async () => {
  const { out } = await slipway("inspect", asking);
  expect(out).toMatch(/^thread +thread_/m);
  expect(out).toMatch(/^budget +\$0\.00 of \$2\.00, thread \$0\.00 of \$12\.50$/m);
  expect(out).not.toMatch(/^(?:accepts|stuck) /m);
  const ofThread = await slipway("tasks", "--thread", asking.slice(-8));
  expect([ofThread.code, ofThread.out]).toEqual([0, expect.stringContaining(asking)]);
});

it("what is not there is named, with the command that lists", async () => {
  const token = await slipway("token", "remove", "nope");
  expect([token.code, token.err]).toEqual([1, 'slipway: There is no token "nope". `slipway token list` lists them.\n']);
  const credential = await slipway("credential", "remove", "nope");
  expect(credential.err).toContain('There is no credential "nope". `slipway credential list`');
});

it("a model for the scripted agent is refused instead of ignored", async () => {
  const refused = await slipway("submit", "https://example.org/a.git", "x", "--agent", "scripted", "--model", "gpt-5");
  expect([refused.code, refused.err]).toEqual([2, expect.stringContaining('"scripted" uses no model')]);
});

it("[R8] keep marks a task that expiry leaves alone, says so, and --off takes it back", async () => {
  const isKept = async () => (await server.call("GET", `/v1/tasks/${done}/keep`)).body;
  expect(await isKept()).toEqual({ keep: false });
  for (let times = 0; times < 2; times += 1)
    expect(await slipway("keep", done.slice(-8))).toEqual({ code: 0, out: `${done}  kept\n`, err: "" });
  expect(await isKept()).toEqual({ keep: true });
  const off = await slipway("keep", done, "--off", "--json");
  expect([off.code, JSON.parse(off.out)]).toEqual([0, { id: done, keep: false }]);
  expect(await isKept()).toEqual({ keep: false });
  expect((await slipway("keep", done, "--off")).out).toBe(`${done}  expires as others do\n`);
});

it("[D15] queue drain --wait names what runs and ends when nothing does; a resume ends the wait as a failure", async () => {
  const gate = join(home, "gate");
  const held = { bash: `while [ ! -e '${gate}' ]; do sleep 0.05; done` };
  const finish = { finish: { title: "Work", summary: "Done." } };
  const id = await submit("three", [held, finish], "working");
  const drain = ["queue", "drain", "--wait", "--data-dir", join(home, "data")];
  const first = start(home, drain);
  await first.saw(id);
  const shown = await slipway("queue");
  expect(shown.out).toMatch(new RegExp(`^${id} +working .*three$`, "m"));
  expect(shown.out).toMatch(/^Draining: .* still runs?\b/m);
  const given = await slipway("queue", "drain", "--wait", "--minutes", "0");
  expect([given.code, given.out, given.err]).toEqual([1, "", expect.stringContaining("still drains")]);
  expect((await slipway("queue", "resume")).out).toContain("Tasks are started");
  expect(await first.ended).toMatchObject({ code: 1, out: "", err: expect.stringContaining("ended the drain") });
  const second = start(home, [...drain, "--json"]);
  await second.saw(id);
  writeFileSync(gate, "");
  const ended = await second.ended;
  expect([ended.code, JSON.parse(ended.out)]).toMatchObject([0, { paused: true, drain: { state: "drained" } }]);
  expect(await server.task(id)).toMatchObject({ state: "done" });
  expect((await slipway("queue", "pause")).out).toContain("paused the queue");
  expect(JSON.parse((await slipway("queue", "resume", "--json")).out)).toMatchObject({ paused: false, drain: null });
});
