/**
 * The guard before the push: a real coordinator process, real workers, a real git server. What does
 * not belong into a repository is not pushed, is said, and a person decides.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { secretForms } from "../../../src/core/lib/json/redaction.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(3);

/** Made up, and put together here, so that no search of this repository finds it. */
const KEY = ["ghp", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].join("_");
let upstream: GitServer;
let server: RealServer;
let dir: string;
let repos = 0;

const start = (): Promise<RealServer> =>
  startServer({
    dataDir: join(dir, "data"),
    policy: { backoffMs: 100, backoffCapMs: 500 },
    env: { SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host },
  });
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-guard-"));
  upstream = await startGitServer();
  server = await start();
});
afterAll(async () => {
  await server.kill("SIGTERM");
  await upstream.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

interface Run {
  readonly name: string;
  readonly task: WireTask;
}
async function submit(steps: readonly object[], files: Record<string, string> = {}): Promise<Run> {
  repos += 1;
  const name = `guard${repos}`;
  const repo = upstream.createRepo(name, { "README.md": "# App\n", ...files }).url;
  const script = [...steps, { finish: { title: "A change", summary: "Done." } }];
  const answer = await server.call("POST", "/v1/tasks", { repo, prompt: "A change.", script });
  expect(answer.status).toBe(201);
  return { name, task: answer.body as WireTask };
}
const settled = (id: string): Promise<WireTask> =>
  eventually(async () => {
    const task = await server.task(id);
    return task.settledAt === null ? null : task;
  }, `task ${id} settles`);
const asked = (id: string) =>
  eventually(async () => {
    const task = await server.task(id);
    if (task.settledAt !== null) throw new Error(`it ended as ${task.state} ${task.failure?.message}`);
    return task.question;
  }, `task ${id} asks`);
const answer = (id: string, questionId: string, text: string) =>
  server.call("POST", `/v1/tasks/${id}/answer`, { questionId, text });
const tip = ({ name, task }: Run): string =>
  upstream.git(name, "for-each-ref", "--format=%(objectname)", `refs/heads/${task.branch}`);
const files = ({ name, task }: Run): string[] =>
  upstream.git(name, "ls-tree", "-r", "--name-only", task.branch).split("\n");
const write = (path: string, content: string) => ({ write: { path, content } });

it("[S9] a clean change is pushed without a question", async () => {
  const { task } = await submit([write("src/a.ts", "export const token = process.env.TOKEN;\n")]);
  const done = await settled(task.id);
  expect([done.outcome, done.failure]).toEqual(["pushed", null]);
  expect((await server.events(task.id)).filter(({ type }) => type === "question")).toEqual([]);
});

it("[S9] a 60 MB file, a planted key and node_modules are not pushed, and the question prints no key", async () => {
  const run = await submit([
    {
      bash: "head -c 60000000 /dev/urandom > big.bin && mkdir -p node_modules/x && echo 1 > node_modules/x/index.js",
    },
    { commit: "A first commit with the file" },
    write(".env", `GITHUB_TOKEN=${KEY}\n`),
    write("src/a.ts", "export const a = 1;\n"),
  ]);
  const question = await asked(run.task.id);
  expect(question.question).toMatch(/big\.bin: 57 MB/);
  expect(question.question).toMatch(/57 MB of new files in all|node_modules: a generated folder/);
  expect(question.question).toMatch(/\.env: line 1, github/);
  expect(JSON.stringify(await server.events(run.task.id)).split(KEY)).toHaveLength(2);
  expect(question.question).not.toContain(KEY);
  expect(tip(run)).toBe("");
  expect((await answer(run.task.id, question.id, "maybe")).status).toBe(400);
  expect((await answer(run.task.id, question.id, "stop")).status).toBe(200);
  const stopped = await settled(run.task.id);
  expect([stopped.state, stopped.failure?.code]).toEqual(["failed", "push_held"]);
  expect(tip(run)).toBe("");
});

it("[S9] what a person leaves out is in no commit that is pushed, and the rest is", async () => {
  const run = await submit(
    [
      write(".env", `GITHUB_TOKEN=${KEY}\n`),
      { bash: "mkdir -p node_modules/x && echo 1 > node_modules/x/index.js && ln -s /etc/passwd out" },
      { commit: "A first commit with the key" },
      { bash: "rm .env" },
      write("src/a.ts", "export const a = 1;\n"),
      write("kept.txt", `changed\nsecret_token = "${KEY}"\n`),
    ],
    { "kept.txt": "as it was\n" },
  );
  const question = await asked(run.task.id);
  expect(question.options).toEqual(["push anyway", "leave these out", "stop"]);
  expect(question.question).toContain("out: a link that leads out of the repository");
  await answer(run.task.id, question.id, "leave these out");
  const done = await settled(run.task.id);
  expect([done.outcome, done.failure]).toEqual(["pushed", null]);
  expect(files(run)).toEqual(["README.md", "kept.txt", "src/a.ts"]);
  expect(upstream.git(run.name, "show", `${run.task.branch}:kept.txt`)).toBe("as it was");
  expect(done.headSha).toBe(tip(run));
  const all = upstream.git(run.name, "log", "-p", "--all");
  expect(all).not.toContain(KEY);
  expect(all).toContain("export const a = 1;");
});

it("[S9] [D2] the question survives a kill of the coordinator, and the answer pushes all of it", async () => {
  const run = await submit([write(".github/workflows/ci.yml", "on: push\n")]);
  const question = await asked(run.task.id);
  await server.kill("SIGKILL");
  server = await start();
  expect((await asked(run.task.id)).id).toBe(question.id);
  await answer(run.task.id, question.id, "push anyway");
  expect((await settled(run.task.id)).outcome).toBe("pushed");
  expect(files(run)).toContain(".github/workflows/ci.yml");
});

it("[S9] what the base has already is not found again, and a lock file is only told", async () => {
  const key = `const key = "${KEY}";\n`;
  const { task } = await submit(
    [write("old.ts", `${key}export const b = 2;\n`), write("dist/b.js", "2\n"), write("package-lock.json", "{}\n")],
    { "old.ts": key, "dist/a.js": "1\n" },
  );
  expect((await settled(task.id)).outcome).toBe("pushed");
  const told = (await server.events(task.id)).filter(
    ({ type, data }) => type === "notice" && "code" in data && data.code === "guard_told",
  );
  expect(told).toHaveLength(1);
});

/** Made up; in no script and in no file of the test's repositories. */
const [SETUP_SECRET, AGENT_SECRET] = ["s3tup-9fK2mQz7Lw-only", 'ag3nt/X4vB8nRt6Y+"kept'];
const COMMANDS = `printf '%s\\n' "$SETUP_KEY" "$AGENT_KEY" "$STAGE"; printf %s "$AGENT_KEY$SETUP_KEY" | base64 -w0; env | grep -c _KEY`;

it("[S11] variables reach the commands that their owner says, and no event, log or table has their values", async () => {
  const run = await submitWithVariables([{ bash: COMMANDS }, { bash: "echo $((RANDOM)) > once.txt" }]);
  const done = await settled(run.task.id);
  expect([done.outcome, done.failure]).toEqual(["pushed", null]);
  const events = await server.events(run.task.id);
  const outputs = events.filter(({ type }) => type === "tool.finished").map(({ data }) => String(data["output"]));
  expect(outputs[0]).toMatch(/^\[secret\]\n\[secret\]\nstaging\n.*2\n$/);
  expect(outputs[1]).toMatch(/^\n\[secret\]\nstaging\n.*1\n$/);
  const said = JSON.stringify(events) + server.stderr();
  const stored = ["slipway.db", "slipway.db-wal"].map((name) => readFileSync(join(dir, "data", name), "latin1"));
  for (const form of [SETUP_SECRET, AGENT_SECRET].flatMap(secretForms))
    for (const text of [said, ...stored]) expect(text).not.toContain(form);
});

it("[S11] [S9] a commit with the value of a secret is not pushed, whatever a person says", async () => {
  const run = await submitWithVariables([
    { bash: `printf 'a\\nkey=%s\\n' "$AGENT_KEY" > config.txt; printf '\\0%s' "$AGENT_KEY" > key.bin` },
    write("src/a.ts", "export const a = 1;\n"),
  ]);
  const question = await asked(run.task.id);
  expect(question.options).toEqual(["leave these out", "stop"]);
  expect(question.question).toContain("config.txt: line 2, the value of the variable AGENT_KEY");
  expect(question.question).toContain("key.bin");
  expect((await answer(run.task.id, question.id, "push anyway")).status).toBe(400);
  await answer(run.task.id, question.id, "leave these out");
  expect((await settled(run.task.id)).outcome).toBe("pushed");
  expect(files(run)).toEqual([".slipway.yml", "README.md", "src/a.ts"]);
});

async function submitWithVariables(steps: readonly object[]): Promise<Run> {
  repos += 1;
  const name = `variables${repos}`;
  const setup = { ".slipway.yml": JSON.stringify({ setup: [COMMANDS] }) };
  const repo = upstream.createRepo(name, { "README.md": "# App\n", ...setup }).url;
  for (const variable of [
    { name: "SETUP_KEY", value: SETUP_SECRET },
    { name: "AGENT_KEY", value: AGENT_SECRET, phase: "agent" },
    { name: "STAGE", value: "staging", secret: false },
  ])
    expect((await server.call("POST", "/v1/variables", { repo, ...variable })).status).toBe(201);
  const script = [...steps, { finish: { title: "A change", summary: "Done." } }];
  const { status, body } = await server.call("POST", "/v1/tasks", { repo, prompt: "A change.", script });
  expect(status, JSON.stringify(body)).toBe(201);
  return { name, task: body as WireTask };
}
