/**
 * One repository, one agent: submitted to a real server, and judged by a test that the agent never
 * saw.
 */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { SlipwayClient } from "../../src/client/client.ts";
import { SlipwayProblem } from "../../src/client/problem.ts";
import { isBudgetQuestion } from "../../src/core/budget.ts";
import { GUARD_OPTIONS, isGuardQuestion } from "../../src/core/values/push-guard.ts";
import type { SubmitRequest } from "../../src/core/protocol/rest.ts";
import type { Upstream } from "../../src/cli/demo/sample-project.ts";
import type { Scenario } from "../../src/broker/model/fake/scenario.ts";
import type { Case } from "./cases.ts";

const run = promisify(execFile);
const CHECK_MS = 60_000;
const EVENTS_PER_PAGE = 500;
const [, LEAVE_OUT] = GUARD_OPTIONS;

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
  /** Its number among the trials of this case and agent, from 1. */
  readonly trial: number;
  /** File with all events of the task; null = it did not run. */
  readonly trajectory: string | null;
}

/** Runs a command in a folder; @returns what it wrote, null unless it ended with exit code 0. */
export type Verifier = (command: string, folder: string) => Promise<string | null>;

/** As a plain process of this machine. */
export const verifyHere: Verifier = (command, folder) =>
  run("bash", ["-c", `exec </dev/null\n${command}`], { cwd: folder, timeout: CHECK_MS }).then(
    ({ stdout }) => stdout,
    () => null,
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
      ({ stdout }) => stdout,
      () => null,
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

const SAY: Readonly<Record<Case["language"], (text: string) => string>> = {
  JavaScript: (text) => `console.log("${text}");`,
  TypeScript: (text) => `console.log("${text}");`,
  Python: (text) => `print("${text}")`,
  shell: (text) => `echo ${text}`,
};

/**
 * Whether the hidden test passes on the tree in the folder. The test ends with a statement that
 * writes a number made for this run: a tested module that ends the process with success does not
 * pass. One that reads the test and writes the number itself would; a person sees it in its diff.
 */
export async function prove(verify: Verifier, folder: string, one: Case): Promise<boolean> {
  const proof = `passed-${randomBytes(16).toString("hex")}`;
  const files = Object.entries(one.hidden);
  const [path, content] = files.at(-1) ?? ["", ""];
  lay(folder, { ...one.hidden, [path]: `${content}${SAY[one.language](proof)}\n` });
  return (await verify(one.check, folder))?.trimEnd().split("\n").at(-1) === proof;
}

/** What a task is submitted with. */
export interface Settings {
  readonly agent?: string;
  readonly model?: string;
  readonly effort?: SubmitRequest["effort"];
  /** Budget of each task. */
  readonly usd?: number;
}

export interface Place {
  readonly client: SlipwayClient;
  readonly upstream: Upstream;
  readonly verify: Verifier;
  readonly settings: Settings;
  /** Folder of the trajectories. */
  readonly out: string;
  readonly signal: AbortSignal;
}

export interface Attempted {
  readonly agent: Agent;
  readonly trial: number;
}

export async function trial(place: Place, one: Case, { agent, trial: nth }: Attempted): Promise<Outcome> {
  const { client, upstream, verify, settings, signal } = place;
  const about = { name: one.name, language: one.language, agent, trial: nth };
  const none = { turns: 0, tokens: 0, usd: 0, ms: 0, trajectory: null };
  if ((await withFolder((folder) => verify(one.needs, folder))) === null)
    return { ...about, ...none, solved: null, why: `skipped: \`${one.needs}\` fails here` };
  const repo = upstream.createRepo(`${one.name}-${agent}-${nth}`, { ...one.files });
  const mark = agent === "real" ? "" : `\n\n[scenario:${agent === "gold" ? one.name : "null"}]`;
  const begun = performance.now();
  const { usd: budgetUsd, ...given } = settings;
  const budget = budgetUsd === undefined ? {} : { budget: { usd: budgetUsd } };
  const asked = { agent: "anthropic", ...given, ...budget, maxAttempts: 1 };
  const { id } = await client.submit({ repo: repo.url, prompt: one.task + mark, ...asked });
  for await (const event of client.watch(id, { signal })) {
    if (event.type === "question") await answerFor(client, id, event.data);
  }
  const ms = performance.now() - begun;
  const task = await client.task(id);
  const tree = task.outcome === "pushed" ? task.branch : "main";
  const solved = await withFolder(async (folder) => {
    await run("bash", ["-c", 'git --git-dir "$1" archive "$2" | tar -x -C "$3"', "archive", repo.path, tree, folder]);
    return await prove(verify, folder, one);
  });
  const trajectory = await keep(place, id, `${one.name}-${agent}-${nth}`);
  const { turns, usd, inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens } = task.usage;
  const tokens = inputTokens + outputTokens + cacheReadTokens + cacheWriteTokens;
  const why = task.failure?.code ?? task.outcome ?? task.state;
  return { ...about, solved, why, turns, tokens, usd, ms, trajectory };
}

/** Nobody watches: a question that has no answer ends the task, instead of waiting for a month. */
async function answerFor(
  client: SlipwayClient,
  taskId: string,
  { id: questionId, options }: { readonly id: string; readonly options: readonly string[] | null },
): Promise<void> {
  try {
    await client.answer(taskId, { questionId, text: chooseAnswer(questionId, options ?? []) });
  } catch (error) {
    if (error instanceof SlipwayProblem && error.code === "already_answered") return;
    await client.cancel(taskId);
  }
}

/** A budget is never raised, and changes that the guard holds back are left out. */
function chooseAnswer(questionId: string, options: readonly string[]): string {
  if (isBudgetQuestion(questionId)) return "stop";
  if (!isGuardQuestion(questionId)) return "Nobody answers here: decide yourself.";
  return options.find((option) => option === LEAVE_OUT) ?? "stop";
}

/** Writes all events of the task, one JSON text per line, and its diff beside them. */
async function keep({ client, out }: Place, id: string, name: string): Promise<string> {
  const file = join(out, `${name}.jsonl`);
  const lines: string[] = [];
  for (let after = 0; ;) {
    const page = await client.events(id, { after, limit: EVENTS_PER_PAGE });
    lines.push(...page.items.map((event) => JSON.stringify(event)));
    after = page.items.at(-1)?.seq ?? after;
    if (page.items.length < EVENTS_PER_PAGE) break;
  }
  mkdirSync(out, { recursive: true });
  writeFileSync(file, `${lines.join("\n")}\n`);
  writeFileSync(join(out, `${name}.patch`), await client.patch(id).catch(() => ""));
  return file;
}
