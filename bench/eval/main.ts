/**
 * `npm run eval`: small repositories with a hidden failing test, through the whole product; one
 * table and, if wanted, a JSON file.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openUpstream, SAMPLE_USER } from "../../src/cli/demo/sample-project.ts";
import { createSocketFactory } from "../../src/cli/connect.ts";
import { SlipwayClient } from "../../src/client/client.ts";
import { readConfig, type Flags } from "../../src/app/config.ts";
import { serve } from "../../src/app/serve.ts";
import { packageRoot } from "../../src/core/lib/runtime/package-root.ts";
import { startFakeModel } from "../../src/broker/model/fake/server.ts";
import { EFFORTS } from "../../src/core/task.ts";
import { openEngine } from "../../src/sandbox/docker/engine.ts";
import { WorkerImage } from "../../src/sandbox/docker/image/worker-image.ts";
import { CASES, type Case } from "./cases.ts";
import {
  verifyHere,
  verifyInContainer,
  toScenarios,
  trial,
  type Agent,
  type Settings,
  type Verifier,
  type Outcome,
} from "./trial.ts";

export interface Plan {
  readonly cases: readonly Case[];
  readonly agents: readonly Agent[];
  readonly sandbox: "docker" | "process";
  /** Address of the real model's provider and its key; null = the fake model. */
  readonly real: Flags | null;
  readonly settings?: Settings;
  /** Trials of each case by each agent; by default one. */
  readonly trials?: number;
  /** Folder that the trajectories are kept in. */
  readonly out: string;
  readonly signal: AbortSignal;
  readonly progress: (text: string) => void;
}

export interface Report {
  readonly outcomes: readonly Outcome[];
  /** US dollars that the fake provider billed; null with a real one. */
  readonly billed: number | null;
}

/**
 * Everything is in a temporary folder, and gone afterwards. Rejects with the signal's reason when
 * it is aborted.
 */
export async function evaluate(plan: Plan): Promise<Report> {
  const { cases, agents, sandbox, real, signal, progress, out, settings = {}, trials = 1 } = plan;
  const folder = mkdtempSync(join(tmpdir(), "slipway-eval-"));
  const { upstream, token } = await openUpstream(packageRoot(), join(folder, "upstream"));
  const apiKey = `sk-eval-${randomBytes(16).toString("hex")}`;
  const fake = await startFakeModel({ scenarios: toScenarios(cases), apiKey });
  const model = real ?? { anthropicApiKey: apiKey, anthropicBaseUrl: fake.url };
  const dataDir = join(folder, "data");
  const flags = {
    port: "0",
    warm: "0",
    logLevel: "error",
    sandbox,
    dataDir,
    trustedRepoHosts: upstream.host,
    ...model,
  };
  const server = await serve(readConfig({}, flags));
  try {
    const operator = readFileSync(join(dataDir, "operator.token"), "utf8").trim();
    const client = new SlipwayClient({ baseUrl: server.url, token: operator, WebSocket: createSocketFactory() });
    await client.putCredential({ host: upstream.host, kind: "token", username: SAMPLE_USER, token });
    const verify = await chooseVerifier(sandbox, progress);
    const outcomes: Outcome[] = [];
    const place = { client, upstream, verify, settings, out, signal };
    const all = cases.flatMap((one) =>
      agents.flatMap((agent) => Array.from({ length: trials }, (_, index) => ({ one, agent, trial: index + 1 }))),
    );
    for (const { one, ...attempted } of all) {
      signal.throwIfAborted();
      progress(`${outcomes.length + 1} of ${all.length}: ${one.name}, ${attempted.agent} agent`);
      outcomes.push(await trial(place, one, attempted));
    }
    return { outcomes, billed: real === null ? fake.spentUsd() : null };
  } finally {
    await server.close();
    await fake.close();
    await upstream.close();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** The image that tasks get by default, with Python. Until it is there they get a slim one. */
async function chooseVerifier(sandbox: Plan["sandbox"], progress: Plan["progress"]): Promise<Verifier> {
  if (sandbox === "process") return verifyHere;
  const source = {
    dockerfile: join(packageRoot(), "Dockerfile"),
    workerFile: join(packageRoot(), "dist", "worker.mjs"),
  };
  const never = new AbortController().signal;
  const full = new WorkerImage(openEngine({}), source, "full");
  try {
    await full.prepare(progress, never);
    return verifyInContainer(await full.name());
  } catch (error) {
    progress(`the image with Python could not be made: ${error instanceof Error ? error.message : String(error)}`);
  }
  const slim = new WorkerImage(openEngine({}), source);
  await slim.prepare(progress, never);
  return verifyInContainer(await slim.name());
}

export function formatTable({ outcomes, billed }: Report): string {
  const rows = outcomes.map(({ name, language, agent, solved, why, turns, tokens, usd, ms }) => [
    name,
    language,
    agent,
    solved === null ? "-" : solved ? "yes" : "no",
    String(turns),
    String(tokens),
    `$${usd.toFixed(4)}`,
    `${(ms / 1_000).toFixed(1)} s`,
    why,
  ]);
  const head = ["case", "language", "agent", "solved", "turns", "tokens", "cost", "time", "end"];
  const widths = head.map((title, at) => Math.max(title.length, ...rows.map((row) => row[at]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join("  ")
      .trimEnd();
  const agents = [...new Set(outcomes.map(({ agent }) => agent))].map((agent) => {
    const judged = outcomes.filter((one) => one.agent === agent && one.solved !== null);
    return `${agent}: ${judged.filter(({ solved }) => solved === true).length} of ${judged.length} solved`;
  });
  const trials = Math.max(1, ...outcomes.map(({ trial: nth }) => nth));
  const always = trials === 1 ? "" : `; ${describeCases(outcomes)}`;
  const sum = outcomes.reduce((total, { usd }) => total + usd, 0);
  const books = billed === null ? "" : `; the provider billed $${billed.toFixed(4)}`;
  return [line(head), ...rows.map(line), "", `${agents.join("; ")}${always}; cost $${sum.toFixed(4)}${books}`].join(
    "\n",
  );
}

/** Cases that were solved in some trial, and in each. */
function describeCases(outcomes: readonly Outcome[]): string {
  const byCase = new Map<string, (boolean | null)[]>();
  for (const { name, agent, solved } of outcomes)
    byCase.set(`${name} ${agent}`, [...(byCase.get(`${name} ${agent}`) ?? []), solved]);
  const all = [...byCase.values()];
  const some = all.filter((solved) => solved.includes(true)).length;
  return `${some} of ${all.length} cases at least once, ${all.filter((one) => one.every(Boolean)).length} each time`;
}

const USAGE = `npm run eval -- [--only <case>] [-k <trials>] [--sandbox docker|process] [--json <file>] [--out <folder>]
  [--agent gold|null|both]                                              with the fake model
  --real [--agent <name>] [--model <name>] [--effort <level>] [--usd <budget of a task>]   with a real one`;

async function main(): Promise<number> {
  const options = {
    only: { type: "string" },
    agent: { type: "string" },
    real: { type: "boolean" },
    sandbox: { type: "string" },
    json: { type: "string" },
    out: { type: "string" },
    model: { type: "string" },
    effort: { type: "string" },
    usd: { type: "string" },
    trials: { type: "string", short: "k" },
  } as const;
  const { values } = parseArgs({ options });
  const cases = values.only === undefined ? CASES : CASES.filter(({ name }) => name === values.only);
  const key = process.env["ANTHROPIC_API_KEY"];
  const chosen = values.agent ?? "both";
  const [trials, usd] = [Number(values.trials ?? 1), values.usd === undefined ? undefined : Number(values.usd)];
  const effort = EFFORTS.find((level) => level === values.effort);
  const isFake = values.real !== true;
  const isBad =
    (isFake && !["gold", "null", "both"].includes(chosen)) ||
    !(Number.isInteger(trials) && trials > 0) ||
    (usd !== undefined && !(usd > 0)) ||
    (values.effort !== undefined && effort === undefined);
  if (cases.length === 0 || isBad) throw new Error(`${USAGE}\ncases: ${CASES.map(({ name }) => name).join(", ")}`);
  if (values.real === true && !key) throw new Error("A real model needs ANTHROPIC_API_KEY.");
  const real = values.real === true && key ? { anthropicApiKey: key, ...baseUrl() } : null;
  const agents: Agent[] =
    real !== null ? ["real"] : chosen === "both" ? ["gold", "null"] : [chosen === "gold" ? "gold" : "null"];
  const stop = new AbortController();
  // A terminal sends the signal to this process and to its parent, which forwards it.
  process.on("SIGINT", () => stop.abort(new Error("interrupted")));
  const progress = (text: string): void => void process.stderr.write(`eval: ${text}\n`);
  const sandbox = values.sandbox === "process" ? "process" : "docker";
  const settings = {
    ...(isFake || values.agent === undefined ? {} : { agent: values.agent }),
    ...(values.model === undefined ? {} : { model: values.model }),
    ...(effort === undefined ? {} : { effort }),
    ...(usd === undefined ? {} : { usd }),
  };
  const out = values.out ?? join(tmpdir(), `slipway-eval-${new Date().toISOString().replaceAll(/[:.]/g, "-")}`);
  const plan = { cases, agents, sandbox, real, settings, trials, out, signal: stop.signal, progress } as const;
  const report = await evaluate(plan);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(report, null, 2)}\n`);
  process.stdout.write(`${formatTable(report)}\n\nEvery event of every task: ${out}\n`);
  const wrong = report.outcomes.filter(
    ({ agent, solved }) => (agent === "gold" && solved === false) || (agent === "null" && solved === true),
  );
  return wrong.length === 0 ? 0 : 1;
}

function baseUrl(): Flags {
  const given = process.env["ANTHROPIC_BASE_URL"];
  return given === undefined || given === "" ? {} : { anthropicBaseUrl: given };
}

if (process.argv[1]?.endsWith(join("eval", "main.js")) === true) {
  main().then(
    (code) => process.exit(code),
    (error: unknown) => {
      process.stderr.write(`eval: ${error instanceof Error ? error.message : String(error)}\n`);
      process.exit(1);
    },
  );
}
