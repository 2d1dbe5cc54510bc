/**
 * One repository, one agent: submitted to a real server, and judged by a test that the agent never
 * saw.
 */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { SlipwayClient } from "../../src/client/client.ts";
import type { Upstream } from "../../src/cli/demo/sample-project.ts";
import type { Scenario } from "../../src/broker/model/fake/scenario.ts";
import type { Case } from "./cases.ts";

const run = promisify(execFile);
const CHECK_MS = 60_000;

export const AGENTS = ["gold", "null", "real"] as const;
export type Agent = (typeof AGENTS)[number];

export interface Outcome {
  readonly name: string;
  readonly language: Case["language"];
  readonly agent: Agent;
  /** Null = the check cannot be run here, for the reason beside it. */
  readonly solved: boolean | null;
  readonly why: string;
  readonly turns: number;
  readonly tokens: number;
  readonly usd: number;
  readonly ms: number;
}

/** Runs a command in a folder; @returns true for exit code 0. */
export type Verifier = (command: string, folder: string) => Promise<boolean>;

/** As a plain process of this machine. */
export const verifyHere: Verifier = (command, folder) =>
  run("bash", ["-c", `exec </dev/null\n${command}`], { cwd: folder, timeout: CHECK_MS }).then(
    () => true,
    () => false,
  );

/**
 * In a container of the worker's image, without network and rights: what an agent wrote is not run
 * on this machine.
 */
export const verifyInContainer =
  (image: string): Verifier =>
  (command, folder) => {
    const confined = [
      "--network",
      "none",
      "--cap-drop",
      "ALL",
      "--security-opt",
      "no-new-privileges",
      "--pids-limit",
      "256",
      "--memory",
      "512m",
    ];
    const args = [
      "run",
      "--rm",
      ...confined,
      "--user",
      "0",
      "-v",
      `${folder}:/w`,
      "-w",
      "/w",
      "--entrypoint",
      "bash",
      image,
      "-c",
      command,
    ];
    return run("docker", args, { timeout: CHECK_MS }).then(
      () => true,
      () => false,
    );
  };

/** What the fake model does: one scenario per case, and one for the agent that does nothing. */
export function toScenarios(cases: readonly Case[]): Record<string, Scenario> {
  const nothing: Scenario = {
    turns: [{ tools: [{ name: "finish", input: { title: "Nothing", summary: "I did nothing." } }] }],
  };
  return Object.fromEntries([["null", nothing], ...cases.map((one) => [one.name, { turns: [...one.gold] }])]);
}

/** A folder with those files, gone after `use`. */
export async function withFolder<T>(use: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "slipway-eval-"));
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function lay(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(folder, dirname(path)), { recursive: true });
    writeFileSync(join(folder, path), content);
  }
}

export interface Place {
  readonly client: SlipwayClient;
  readonly upstream: Upstream;
  readonly verify: Verifier;
  readonly signal: AbortSignal;
}

export async function trial({ client, upstream, verify, signal }: Place, one: Case, agent: Agent): Promise<Outcome> {
  const about = { name: one.name, language: one.language, agent };
  const none = { turns: 0, tokens: 0, usd: 0, ms: 0 };
  if (!(await withFolder((folder) => verify(one.needs, folder))))
    return { ...about, ...none, solved: null, why: `skipped: \`${one.needs}\` fails here` };
  const repo = upstream.createRepo(`${one.name}-${agent}`, { ...one.files });
  const mark = agent === "real" ? "" : `\n\n[scenario:${agent === "gold" ? one.name : "null"}]`;
  const begun = performance.now();
  const { id } = await client.submit({ repo: repo.url, prompt: one.task + mark, agent: "anthropic" });
  for await (const _ of client.watch(id, { signal })) continue;
  const ms = performance.now() - begun;
  const task = await client.task(id);
  const tree = task.outcome === "pushed" ? task.branch : "main";
  const solved = await withFolder(async (folder) => {
    await run("bash", ["-c", 'git --git-dir "$1" archive "$2" | tar -x -C "$3"', "archive", repo.path, tree, folder]);
    lay(folder, one.hidden);
    return await verify(one.check, folder);
  });
  const { turns, usd, inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens } = task.usage;
  const tokens = inputTokens + outputTokens + cacheReadTokens + cacheWriteTokens;
  return { ...about, solved, why: task.failure?.code ?? task.outcome ?? task.state, turns, tokens, usd, ms };
}
