/**
 * `slipway demo`: a whole task from end to end on a sample repository, with everything in a
 * temporary folder. Fails when anything is not as it should be.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Option, type Command } from "commander";
import { SlipwayClient } from "../../client/client.ts";
import { readConfig, SANDBOX_KINDS, type Config, type Flags } from "../../app/config.ts";
import { errorMessage } from "../../core/error.ts";
import { Disposers } from "../../core/lib/disposers.ts";
import type { RunningServer } from "../../app/serve.ts";
import { packageRoot } from "../../core/lib/runtime/package-root.ts";
import type { WireTask } from "../../core/protocol/rest.ts";
import { CliExit, EXIT } from "../exit.ts";
import { untilInterrupted, print, type Io } from "../io.ts";
import {
  openUpstream,
  SAMPLE,
  SAMPLE_CHANGES,
  SAMPLE_FILES,
  SAMPLE_PROMPT,
  SAMPLE_SCENARIO,
  SAMPLE_SCRIPT,
  SAMPLE_TEST,
  SAMPLE_USER,
  type Upstream,
} from "./sample-project.ts";
import { createSocketFactory } from "../connect.ts";
import { stripControlsKeepLines, createPaint } from "../terminal/text.ts";
import { showLiveView } from "../terminal/live-view.ts";

export function demoCommand(program: Command, io: Io): void {
  program
    .command("demo")
    .description("run a whole task on a sample repository; needs no key and leaves nothing behind")
    .addOption(
      new Option("--sandbox <kind>", "docker, or a plain process when no engine answers").choices([...SANDBOX_KINDS]),
    )
    .addOption(
      new Option("--model <kind>", "use the agent that drives a model; the fake model needs no key").choices(["fake"]),
    )
    .action((options: DemoOptions) => untilInterrupted((signal) => demo(io, options, signal)));
}

interface DemoOptions {
  readonly sandbox?: string;
  readonly model?: "fake";
}

async function demo(io: Io, options: DemoOptions, signal: AbortSignal): Promise<void> {
  const disposers = new Disposers();
  const cleanUp = (): Promise<unknown> => disposers.close().then(() => null, errorMessage);
  try {
    const folder = mkdtempSync(join(tmpdir(), "slipway-demo-"));
    disposers.add(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
    await play({ io, folder, options, disposers, signal });
  } catch (error) {
    // The first failure is the one to report.
    await cleanUp();
    throw error;
  }
  const failure = await cleanUp();
  if (failure !== null) throw new CliExit(EXIT.failed, `The demo could not clean up: ${String(failure)}`);
}

interface DemoRun {
  readonly io: Io;
  readonly folder: string;
  readonly options: DemoOptions;
  readonly disposers: Disposers;
  readonly signal: AbortSignal;
}

async function play(demoRun: DemoRun): Promise<void> {
  const { io, folder, disposers, signal } = demoRun;
  const { bold, dim, green } = createPaint(io.out, io.env);
  const { upstream, token } = await openUpstream(packageRoot(), join(folder, "upstream"));
  disposers.add(() => upstream.close());
  const repo = upstream.createRepo(SAMPLE, { ...SAMPLE_FILES });
  print(io, `${bold("upstream")} ${repo.url} ${dim("a sample repository whose test fails, behind a password")}`);
  const model = await openModel(demoRun);

  const dataDir = join(folder, "data");
  const running = await begin(io, demoConfig(demoRun, { dataDir, trustedRepoHosts: upstream.host, ...model?.flags }));
  disposers.add(() => running.close());
  print(io, `${bold("server")}   ${running.url} ${dim(`sandbox: ${running.sandbox.kind}; ${running.sandbox.line}`)}`);

  const client = new SlipwayClient({
    baseUrl: running.url,
    token: readFileSync(join(dataDir, "operator.token"), "utf8").trim(),
    WebSocket: createSocketFactory(),
  });
  await client.putCredential({ host: upstream.host, kind: "token", username: SAMPLE_USER, token });
  const script = model === null ? { script: [...SAMPLE_SCRIPT] } : {};
  const submitted = await client.submit({ repo: repo.url, prompt: SAMPLE_PROMPT, verify: [SAMPLE_TEST], ...script });
  disposers.add(() => leave(client, submitted.id));
  print(io, `${bold("task")}     ${submitted.id} ${dim(`"${SAMPLE_PROMPT}"`)}\n`);
  const task = await live(io, client, submitted.id, signal);
  const wrong = [...(await examine(client, upstream, task, repo.sha)), ...(model?.examine(task) ?? [])];
  if (wrong.length > 0)
    throw new CliExit(EXIT.failed, `the demo went wrong:\n${wrong.map((line) => `  ${line}`).join("\n")}`);
  await showResult(io, client, upstream, task);
  print(io, `\n${green("It works.")} To use it: npm start`);
}

function demoConfig({ io, options }: DemoRun, flags: Flags): Config {
  const sandbox = options.sandbox ?? (io.env["SLIPWAY_SANDBOX"] || undefined);
  return readConfig(
    {},
    {
      port: "0",
      warm: "0",
      workerTools: "slim",
      logLevel: "error",
      ...flags,
      ...(sandbox === undefined ? {} : { sandbox }),
    },
  );
}

interface DemoModel {
  readonly flags: Flags;
  /** The differences between the usage ledger and the bill of that task, as text. */
  examine(task: WireTask): string[];
}

/**
 * The largest accepted difference between the cost that the provider billed and the cost that the
 * task shows, relative to the former.
 */
const TOLERANCE = 0.01;

/** The demo's model provider, if any: its bill must equal the cost of the task. */
async function openModel({ io, options, disposers }: DemoRun): Promise<DemoModel | null> {
  if (options.model === undefined) return null;
  const { startFakeModel } = await import("../../broker/model/fake/server.ts");
  const { bold, dim } = createPaint(io.out, io.env);
  const apiKey = `sk-demo-${randomBytes(16).toString("hex")}`;
  const fake = await startFakeModel({ scenarios: { default: SAMPLE_SCENARIO }, apiKey });
  disposers.add(() => fake.close());
  print(io, `${bold("model")}    ${fake.url} ${dim("a fake one: real HTTP, words from a scenario")}`);
  return {
    flags: { anthropicApiKey: apiKey, anthropicBaseUrl: fake.url },
    examine({ agent, usage }) {
      const billed = fake.spentUsd();
      const wrong = agent === "anthropic" ? [] : [`the agent was ${agent}`];
      if (billed > 0 && Math.abs(usage.usd - billed) <= billed * TOLERANCE) return wrong;
      return [...wrong, `the task says that it cost $${usage.usd}, and the provider billed $${billed}`];
    },
  };
}

/** Docker when an engine answers; otherwise a plain process, with a warning. */
async function begin(io: Io, config: Config): Promise<RunningServer> {
  const { serve } = await import("../../app/serve.ts");
  const running = await serve(config);
  if (running.sandbox.isolates || config.sandboxChosen) return running;
  await running.close();
  const { yellow, bold } = createPaint(io.out, io.env);
  print(io, `${yellow(bold("NOT ISOLATED"))} No Docker engine answers.`);
  print(io, yellow("             The demo's own script is harmless, so the demo runs it as a plain process."));
  return serve({ ...config, sandbox: "process", sandboxChosen: true });
}

async function live(io: Io, client: SlipwayClient, taskId: string, signal: AbortSignal): Promise<WireTask> {
  try {
    return await showLiveView(client, taskId, { out: io.out, env: io.env, signal, command: io.command });
  } catch (thrown) {
    if (signal.aborted) throw new CliExit(EXIT.interrupted, "Interrupted; cleaning up.");
    throw thrown;
  }
}

/** What differs from the expected result, one text each. */
async function examine(client: SlipwayClient, upstream: Upstream, task: WireTask, base: string): Promise<string[]> {
  const wrong: string[] = [];
  if (task.state !== "done" || task.outcome !== "pushed")
    return [`the task ended as ${task.state} (${task.outcome ?? "nothing pushed"})`];
  const branches = readBranches(upstream);
  if (branches.get(task.branch) !== task.headSha) wrong.push(`${task.branch} is not at ${task.headSha} upstream`);
  if (branches.get("main") !== base) wrong.push("main was changed upstream");
  if (branches.size !== 2) wrong.push(`the upstream has other branches: ${[...branches.keys()].join(", ")}`);
  const { files } = await client.diff(task.id);
  const found = Object.fromEntries(files.map(({ path, status }) => [path, status]));
  for (const [path, status] of Object.entries(SAMPLE_CHANGES))
    if (found[path] !== status) wrong.push(`${path} should be ${status}`);
  if (files.length !== Object.keys(SAMPLE_CHANGES).length)
    wrong.push(`other files changed: ${Object.keys(found).join(", ")}`);
  return wrong;
}

function readBranches(upstream: Upstream): Map<string, string> {
  const lines = upstream
    .git(SAMPLE, "for-each-ref", "--format=%(refname:short) %(objectname)", "refs/heads/")
    .split("\n");
  return new Map(lines.map((line) => [line.split(" ")[0] ?? "", line.split(" ")[1] ?? ""]));
}

async function showResult(io: Io, client: SlipwayClient, upstream: Upstream, task: WireTask): Promise<void> {
  const { bold, dim, green, red } = createPaint(io.out, io.env);
  print(io, `\n${bold("the upstream now")}`);
  for (const [branch, sha] of readBranches(upstream))
    print(io, `  ${dim(sha.slice(0, 10))} ${branch === task.branch ? green(branch) : branch}`);
  print(io, `\n${bold("the change")}`);
  for (const line of stripControlsKeepLines((await client.patch(task.id)).trimEnd())) {
    print(io, `  ${line.startsWith("+") ? green(line) : line.startsWith("-") ? red(line) : line}`);
  }
}

const LEAVE_MS = 20_000;

/**
 * Ends the sandboxes: a stopped server leaves them for the next one, and the demo has no next one.
 */
async function leave(client: SlipwayClient, taskId: string): Promise<void> {
  const deadline = Date.now() + LEAVE_MS;
  const { settledAt } = await client.task(taskId);
  if (settledAt === null) await client.cancel(taskId).catch(() => undefined);
  while (Date.now() < deadline) {
    const [task, { sandbox }] = await Promise.all([client.task(taskId), client.overview()]);
    if (task.settledAt !== null && sandbox.containers === 0) return;
    await new Promise((done) => setTimeout(done, 100));
  }
}
