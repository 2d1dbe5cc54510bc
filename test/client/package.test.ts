/**
 * The SDK as others get it: packed, installed in a project outside this repository, and used from
 * there against a real server.
 */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import vm from "node:vm";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { startGitServer, type GitServer } from "../support/git-server.ts";
import { eventually, ROOT, startServer, type RealServer } from "../support/process/server.ts";
import { PATIENCE_MS } from "../support/vitest/patience.ts";

const run = promisify(execFile);
const ADMIN = { email: "boss@example.com", password: "four words make one" };

let dir: string;
let project: string;
let server: RealServer;
let git: GitServer;
let repo: string;

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), "slipway-sdk-"));
  project = join(dir, "project");
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "outside", private: true, type: "module" }));
  const { stdout } = await run("npm", ["pack", join(ROOT, "dist/sdk"), "--pack-destination", dir], { cwd: dir });
  const file = join(dir, stdout.trim().split("\n").at(-1) ?? "");
  await run("npm", ["install", "--offline", "--no-audit", "--no-fund", file], { cwd: project });
  git = await startGitServer();
  repo = git.createRepo("app", { "README.md": "# App\n" }).url;
  const env = {
    SLIPWAY_TRUSTED_REPO_HOSTS: git.host,
    SLIPWAY_ADMIN_EMAIL: ADMIN.email,
    SLIPWAY_ADMIN_PASSWORD: ADMIN.password,
  };
  server = await startServer({ dataDir: join(dir, "data"), env });
});
afterAll(async () => {
  await server?.kill("SIGTERM");
  await git?.close();
  rmSync(dir, { recursive: true, force: true });
});

const installed = (): string => join(project, "node_modules/slipway-client");
const example = (name: string, args: readonly string[], env: object = {}) =>
  run(process.execPath, [join(installed(), "examples", name), ...args], {
    cwd: project,
    timeout: PATIENCE_MS,
    env: { PATH: process.env["PATH"], SLIPWAY_URL: server.url, SLIPWAY_TOKEN: server.token, ...env },
  });
const ask = (script: readonly object[]) => ({ repo, prompt: "x", agent: "scripted", script });

describe("[V9] the packed SDK, in a project of its own", () => {
  it("brings nothing along, and is small", () => {
    expect(readdirSync(join(project, "node_modules")).filter((name) => !name.startsWith("."))).toEqual([
      "slipway-client",
    ]);
    const { dependencies, peerDependencies, version } = JSON.parse(
      readFileSync(join(installed(), "package.json"), "utf8"),
    ) as Record<string, unknown>;
    expect([dependencies, peerDependencies, version]).toEqual([undefined, undefined, "0.1.0"]);
    const code = readFileSync(join(installed(), "index.js"), "utf8");
    expect(code).not.toMatch(/\b(?:import|require)\s*\(?["']|\bprocess\.|\bBuffer\b/);
    expect(code.length).toBeLessThan(64_000);
  });

  it("runs its examples against a server: submit and watch, answer questions, the inbox", async () => {
    const followed = await example("submit-and-watch.mjs", [repo, "Look around"]);
    expect(followed.stdout).toMatch(
      /submitted task_[\s\S]*queued -> provisioning[\s\S]*-> done[\s\S]*(pushed|no_changes):/,
    );
    await expect(example("submit-and-watch.mjs", [`${repo}x`, "Look"])).rejects.toMatchObject({
      stderr: expect.stringMatching(/read: .*no such repository/) as string,
    });
    const asking = [{ ask: { question: "Which one?", options: ["the blue one", "the red one"] } }];
    const { body } = await server.call("POST", "/v1/tasks", ask(asking));
    const { id } = body as { id: string };
    await eventually(async () => (await server.task(id)).question, "a question");
    const inbox = [join(dir, "session.json")];
    const login = { SLIPWAY_EMAIL: ADMIN.email, SLIPWAY_PASSWORD: ADMIN.password };
    expect((await example("inbox.mjs", inbox, login)).stdout).toMatch(/boss@example.com: 0 need you/);
    // The second run has the session of the first.
    expect((await example("inbox.mjs", inbox)).stdout).toMatch(/boss@example.com: 0 need you/);
    const answered = await example("answer-questions.mjs", ["--all", "--questions", "1"]);
    expect(answered.stdout).toContain("Which one? the blue one");
    await eventually(async () => ((await server.task(id)).state === "done" ? true : null), "the end");
  });

  it("has the types of the sources, without their schema library", async () => {
    writeFileSync(join(project, "use.ts"), USE);
    const options = ["--strict", "--noEmit", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess"];
    const target = ["--target", "es2022", "--lib", "es2022,dom", "--module", "nodenext", "--types", ""];
    const tsc = join(createRequire(import.meta.url).resolve("typescript/package.json"), "../bin/tsc");
    /** What the compiler says; nothing when all is well. */
    const compile = (file: string, more: readonly string[] = []): Promise<string> =>
      run(process.execPath, [tsc, ...options, ...target, ...more, file], { cwd: project }).then(
        ({ stdout }) => stdout,
        ({ stdout }: { stdout: string }) => stdout,
      );
    expect(await compile("use.ts")).toBe("");
    writeFileSync(join(project, "same.ts"), SAME.replace("SOURCES", join(ROOT, "dist/src/client/index.js")));
    expect(await compile("same.ts", ["--skipLibCheck"])).toBe("");
  });

  it("runs bundled for a browser and for React Native, with nothing but timers, fetch and a socket", async () => {
    const entry = join(project, "app.js");
    writeFileSync(entry, 'export { SlipwayClient } from "slipway-client";');
    for (const conditions of [["browser"], ["react-native"]]) {
      const { outputFiles } = await build({
        entryPoints: [entry],
        bundle: true,
        write: false,
        globalName: "app",
        platform: "neutral",
        format: "iife",
        conditions,
      });
      class Signal extends EventTarget {
        aborted = false;
      }
      // As React Native has it: no AbortSignal.any, no reason, no crypto, no DOMException.
      class Controller {
        readonly signal = new Signal();
        abort(): void {
          this.signal.aborted = true;
          this.signal.dispatchEvent(new Event("abort"));
        }
      }
      const plainFetch = (url: string, { signal: _, ...init }: RequestInit) => fetch(url, init);
      const globals = { setTimeout, clearTimeout, setInterval, clearInterval, fetch: plainFetch, WebSocket };
      const context = vm.createContext({ ...globals, AbortSignal: Signal, AbortController: Controller });
      vm.runInContext(outputFiles[0]?.text ?? "", context);
      context["done"] = null;
      context["given"] = { baseUrl: server.url, token: server.token, order: ask([{ say: "hello" }]) };
      vm.runInContext(APP, context);
      const states = (await (context["done"] as Promise<string>)).split(" ");
      expect([states[0], states.at(-1)], conditions[0]).toEqual(["queued", "done"]);
    }
  });
});

const APP = `done = (async () => {
  const client = new app.SlipwayClient({ baseUrl: given.baseUrl, token: given.token });
  const stop = new AbortController();
  const task = await client.submit(given.order, { signal: stop.signal });
  const states = [];
  for await (const event of client.watch(task.id, { signal: stop.signal })) states.push(event.to);
  for await (const { id } of client.watchTasks({ signal: stop.signal })) if (id === task.id) break;
  return states.join(" ");
})();`;

const USE = `import { SlipwayClient, SlipwayProblem, type RepositoryCheck, type WireTask } from "slipway-client";
export async function use(token: string | undefined): Promise<string> {
  const client = new SlipwayClient({ baseUrl: "http://x", token });
  const task: WireTask = await client.submit({ repo: "x", prompt: "y", budget: { usd: 1 } });
  // @ts-expect-error there is no such field
  void task.nothing;
  // @ts-expect-error an address is a text
  await client.submit({ repo: 1, prompt: "y" }).catch((error: unknown) => error instanceof SlipwayProblem);
  for await (const event of client.watch(task.id)) {
    if (event.type === "checkpoint") return event.data.sha.toUpperCase();
    if (event.type === "message" && event.data.role === "assistant") return event.data.content[0]?.text ?? "";
  }
  const check: RepositoryCheck = await client.repositories.check({ repo: "x" });
  return check.branches.join(task.state);
}
`;

/** Each type of the package takes what the sources give, and the other way round. */
const SAME = `import type * as Packed from "slipway-client";
import type * as Source from "SOURCES";
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
export const same: true[] = [
  true satisfies Same<Packed.WireTask, Source.WireTask>,
  true satisfies Same<Packed.WireEvent, Source.WireEvent>,
  true satisfies Same<Packed.SubmitRequest, Source.SubmitRequest>,
  true satisfies Same<Packed.RepositoryCheck, Source.RepositoryCheck>,
  true satisfies Same<Packed.ServerConfig, Source.ServerConfig>,
  true satisfies Same<Packed.Conversation, Source.Conversation>,
  true satisfies Same<Packed.Overview, Source.Overview>,
  true satisfies Same<Packed.TaskDiff, Source.TaskDiff>,
  true satisfies Same<Packed.ToolCall, Source.ToolCall>,
  true satisfies Same<Packed.Message, Source.Message>,
];
`;
