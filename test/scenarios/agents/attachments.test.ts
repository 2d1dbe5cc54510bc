/**
 * Attachments end to end: a real server and worker processes, git over HTTP, the fake model, which
 * refuses changed prefixes and damaged pictures, and SIGKILL.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import type { Turn } from "../../../src/broker/model/fake/scenario.ts";
import { startFakeModel, type FakeModel } from "../../../src/broker/model/fake/server.ts";
import type { WireTask } from "../../../src/core/protocol/rest.ts";
import { WORKER_ENV } from "../../../src/core/protocol/worker.ts";
import { run } from "../../cli/command.ts";
import { png } from "../../store/attachments/pictures.ts";
import { startGitServer, type GitServer } from "../../support/git-server.ts";
import { killProcess } from "../../support/process/running.ts";
import { eventually, startServer, type RealServer } from "../../support/process/server.ts";
import { inTurn } from "../../support/vitest/full-run.ts";

const it = inTurn(2);

const KEY = "sk-real-key-of-the-server-0123456789";
const FINISH = { tools: [{ name: "finish", input: { title: "Do the work", summary: "It is done." } }] };
const bash = (command: string): Turn => ({ tools: [{ name: "bash", input: { command } }] });

let dir: string;
let upstream: GitServer;
let model: FakeModel;
let server: RealServer;
const flag = (name: string): string => join(dir, name);
const untilFlag = (name: string): string => `until [ -e ${flag(name)} ]; do sleep 0.05; done`;

const scenarios = () => ({
  thread: {
    turns: [
      bash("sleep 60"),
      bash(`${untilFlag("go-on")}; ls "$SLIPWAY_ATTACHMENTS" | sed 's/^[0-9a-f]*-//' | sort > names.txt`),
      FINISH,
      bash('cat "$SLIPWAY_ATTACHMENTS"/*-notes.txt > again.txt'),
      FINISH,
    ],
  },
  damaged: { turns: [bash("echo done > done.txt"), FINISH] },
});

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-attached-"));
  upstream = await startGitServer();
  model = await startFakeModel({ scenarios: scenarios(), apiKey: KEY });
  const env = {
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
    SLIPWAY_LOG_LEVEL: "error",
    ANTHROPIC_API_KEY: KEY,
    ANTHROPIC_BASE_URL: model.url,
  };
  server = await startServer({ dataDir: join(dir, "data"), env, policy: { backoffMs: 50, graceMs: 500 } });
});
afterAll(async () => {
  await server.kill("SIGKILL");
  workers().forEach(killProcess);
  await model.close();
  await upstream.close();
  rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
});

/** Worker processes of this test's server. */
function workers(): number[] {
  const mine = `${WORKER_ENV.workspace}=${join(dir, "data")}`;
  return readdirSync("/proc").flatMap((name) => {
    try {
      const env = /^\d+$/.test(name) ? readFileSync(`/proc/${name}/environ`, "utf8").split("\0") : [];
      return env.some((pair) => pair.startsWith(mine)) && env.some((pair) => pair.startsWith(WORKER_ENV.token))
        ? [Number(name)]
        : [];
    } catch {
      return [];
    }
  });
}

async function attach(name: string, bytes: Uint8Array | string): Promise<string> {
  const response = await fetch(`${server.url}/v1/attachments?name=${encodeURIComponent(name)}`, {
    method: "POST",
    headers: { authorization: `Bearer ${server.token}`, "content-type": "application/octet-stream" },
    body: bytes as string,
  });
  expect(response.status).toBe(201);
  return ((await response.json()) as { id: string }).id;
}

async function send(path: string, body: object): Promise<WireTask> {
  const answer = await server.call("POST", `/v1/tasks${path}`, body);
  expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300);
  return answer.body as WireTask;
}

const settled = (id: string): Promise<WireTask> =>
  eventually(async () => {
    const task = await server.task(id).catch(() => null);
    return task !== null && task.settledAt !== null ? task : null;
  }, `${id} settles`);

interface Shown {
  readonly type: string;
  readonly text?: string;
  readonly source?: { readonly media_type: string; readonly data: string };
}
const accepted = () => model.requests().filter(({ status }) => status === 200);
const blocks = (message: { readonly content: unknown } | undefined): Shown[] => (message?.content ?? []) as Shown[];
const pictures = (content: readonly Shown[]): string[] =>
  content.flatMap(({ type, source }) => (type === "image" && source !== undefined ? [source.data] : []));
const base64 = (bytes: Buffer): string => bytes.toString("base64");
const withoutMarks = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (key, inner: unknown) => (key === "cache_control" ? undefined : inner)));

it("[U5] [U6] [A9] pictures reach the model, files the commands, through a kill and a follow-up", async () => {
  const [red, green, blue] = [png(20, 10, [255, 0, 0]), png(30, 10, [0, 255, 0]), png(40, 10, [0, 0, 255])];
  const { url: repo } = upstream.createRepo("app");
  const attachments = [await attach("red.png", red), await attach("notes.txt", "the notes\n")];
  const task = await send("", { repo, prompt: "[scenario:thread] Make it like this.", attachments });
  await eventually(() => Promise.resolve(accepted().length >= 1 ? true : null), "the first request");
  const first = accepted()[0]!.request.messages;
  expect(pictures(blocks(first[0]))).toEqual([base64(red)]);
  expect(blocks(first[0])[0]?.text).toMatch(
    /-red\.png \(image\/png, \d+ bytes, 20x10\)\n.*-notes\.txt \(text\/plain, 10 bytes\)/,
  );

  await eventually(() => Promise.resolve(workers().length > 0 ? true : null), "the worker");
  await eventually(
    async () => ((await server.events(task.id)).some(({ type }) => type === "tool.started") ? true : null),
    "the first command",
  );
  workers().forEach(killProcess);
  await eventually(async () => ((await server.task(task.id)).attempt === 2 ? true : null), "the second attempt");
  await send(`/${task.id}/messages`, { text: "And like this.", attachments: [await attach("green.png", green)] });
  writeFileSync(flag("go-on"), "");
  expect(await settled(task.id)).toMatchObject({ state: "done", attempt: 2 });
  const last = accepted().at(-1)!.request.messages;
  expect(withoutMarks(last[0])).toEqual(withoutMarks(first[0]));
  expect(last.flatMap((message) => pictures(blocks(message)))).toEqual([base64(red), base64(green)]);

  const next = await send(`/${task.id}/messages`, { text: "Now this.", attachments: [await attach("blue.png", blue)] });
  expect(await settled(next.id)).toMatchObject({ state: "done", attempt: 1 });
  const followed = accepted().at(-1)!.request.messages;
  expect(followed.flatMap((message) => pictures(blocks(message)))).toEqual([red, green, blue].map(base64));
  const { body } = await server.call("GET", `/v1/tasks/${next.id}/diff`);
  const { files } = body as { files: { path: string; patch: string }[] };
  expect(files.map(({ path }) => path)).toEqual(expect.arrayContaining(["again.txt", "names.txt"]));
  expect(files.map(({ path }) => path).filter((path) => /png|notes/.test(path))).toEqual([]);
  const names = files.find(({ path }) => path === "names.txt")?.patch ?? "";
  expect(names).toMatch(/\+notes\.txt\n\+red\.png/);
  expect(files.find(({ path }) => path === "again.txt")?.patch).toContain("+the notes");
});

it("[U6] a picture that the provider cannot read is a file, and the task goes on", async () => {
  const { url: repo } = upstream.createRepo("other");
  writeFileSync(flag("cut.png"), png(20, 10).subarray(0, 40));
  const env = { SLIPWAY_URL: server.url, SLIPWAY_TOKEN: server.token };
  const order = ["submit", repo, "[scenario:damaged] Look.", "--attach"];
  const missing = await run(dir, [...order, flag("missing.png")], { env });
  expect([missing.code, missing.err]).toEqual([2, expect.stringContaining("missing.png cannot be read")]);
  const { out, err } = await run(dir, [...order, flag("cut.png"), "--json"], { env });
  expect(out, err).not.toBe("");
  const { id } = JSON.parse(out) as WireTask;
  expect(await settled(id)).toMatchObject({ state: "done" });
  const notices = (await server.events(id)).filter(({ type }) => type === "notice");
  expect(notices.map(({ data }) => data["code"])).toContain("picture_unreadable");
  const content = blocks(accepted().at(-1)!.request.messages[0]);
  expect(pictures(content)).toEqual([]);
  expect(content.map(({ text }) => text).join("\n")).toContain('[The picture "cut.png" could not be shown to you');
});
