/**
 * What Slipway adds to a model's turn, against the bare client that asks the fake model itself: the
 * loop with its transcript, events and results at the coordinator (durable before the next step),
 * the worker's forwarder, the broker, and the gateway with its books. Everything runs in one
 * process, so what is measured is work, not the wait for another core. The two are measured in
 * turns, so that a noisy neighbour hits both.
 */
import { NO_QUOTAS } from "../../src/core/quotas.ts";
import Anthropic from "@anthropic-ai/sdk";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { openBroker } from "../../src/broker/server.ts";
import { DEFAULT_RULES } from "../../src/broker/model/request/policy.ts";
import { createModelGateway } from "../../src/broker/model/gateway.ts";
import { memoryBus } from "../../src/app/memory-bus.ts";
import { AttemptVariables } from "../../src/coordinator/services/worker/variables.ts";
import { createWorkerService } from "../../src/coordinator/services/worker.ts";
import { openRepositories } from "../../src/git/repositories.ts";
import type { Scenario } from "../../src/broker/model/fake/scenario.ts";
import { startFakeModel } from "../../src/broker/model/fake/server.ts";
import { PRICES } from "../../src/broker/model/price-table.ts";
import { createProviderRateLimit } from "../../src/broker/model/rate-limit.ts";
import { createBudgetService } from "../../src/coordinator/services/budget.ts";
import { systemClock } from "../../src/core/lib/runtime/system-clock.ts";
import { systemIds } from "../../src/app/system.ts";
import { createModelAgent } from "../../worker/agents/anthropic/agent.ts";
import { systemPrompt, getTools } from "../../worker/agents/anthropic/model/request.ts";
import { Deadline } from "../../worker/lib/deadline.ts";
import { openForwarder } from "../../worker/connection/forwarding/forward.ts";
import { HttpLink } from "../../worker/connection/http-link.ts";
import { Journal } from "../../worker/connection/journal.ts";
import { CommandVariables } from "../../worker/tools/shell/variables.ts";
import { Session } from "../../worker/session.ts";
import { NO_INSTRUCTIONS } from "../../worker/workspace/instructions.ts";
import { toolSchemas } from "../../worker/tools/schemas.ts";
import { openTranscript } from "../../worker/connection/transcript.ts";
import type { Workspace } from "../../worker/workspace/workspace.ts";
import { runningTasks } from "./record.ts";
import { openBenchStore, openBenchTaskLog, percentile, quiet } from "../support.ts";

export interface AgentFigures {
  /** p50 of one turn with one call of a tool that does nothing, ms. */
  readonly turn: Pair;
  /** p50 from the request to the first piece of the answer, ms. */
  readonly firstPiece: Pair;
  /** All of 50 streams at once, ms. */
  readonly streams: Pair;
  /** What the budgets add to a request: the reservation is durable before it is sent, ms. */
  readonly admission: { readonly p50: number; readonly p99: number };
}

interface Pair {
  readonly ours: number;
  readonly floor: number;
}

const KEY = "sk-bench";
const TURNS = 40;
const ROUNDS = 3;
const STREAMS = 50;
/** An attempt sends four messages at once. */
const DOORS = Math.ceil(STREAMS / 4);
const ADMISSIONS = 400;

/** As the agent sends it. */
const PROMPT: Pick<Anthropic.MessageStreamParams, "system" | "tools"> = {
  system: [{ type: "text", text: systemPrompt(), cache_control: { type: "ephemeral" } }],
  tools: getTools({ toolSchemas: toolSchemas([]) }) as unknown as Anthropic.Tool[],
};

const turns = Array.from({ length: TURNS }, (_, at) => ({
  say: "I look at the next place.",
  tools: [{ name: "look", input: { at } }],
}));
const SCENARIOS: Readonly<Record<string, Scenario>> = {
  default: { turns: [...turns, { tools: [{ name: "finish", input: { title: "Looked", summary: "Everywhere." } }] }] },
  words: { turns: [{ say: "Some words. ".repeat(20) }], afterwards: "again" },
  slow: { turns: [{ say: "Some words. ".repeat(40), delayMs: 10 }], afterwards: "again" },
};

/** A task as its worker reaches it. */
interface Door {
  readonly socketPath: string;
  readonly token: string;
  readonly baseURL: string;
}

interface House {
  readonly direct: string;
  readonly doors: readonly Door[];
  readonly dir: string;
  /** Admits a request of the n-th task and ends it. @returns ms until it may be sent. */
  admit(task: number): Promise<number>;
  close(): Promise<void>;
}

/** @param tasks that are running. */
async function open(tasks: number): Promise<House> {
  const fake = await startFakeModel({ scenarios: SCENARIOS, apiKey: KEY });
  const { store, ledger, dir, close } = await openBenchStore();
  const ids = await runningTasks(store, tasks);
  const bus = memoryBus();
  const taskLog = openBenchTaskLog(store, bus);
  const books = { ledger, quotas: NO_QUOTAS, userDayUsd: 10_000, dayUsd: 10_000 };
  const spend = createBudgetService({ ...books, taskLog, store, clock: systemClock, ids: systemIds(), log: quiet });
  const rate = createProviderRateLimit({ clock: systemClock, longestMs: 60_000 });
  const rules = DEFAULT_RULES;
  const serveModel = createModelGateway({
    baseUrl: fake.url,
    apiKey: KEY,
    budget: spend,
    rules,
    prices: PRICES,
    rate,
    log: quiet,
  });
  mkdirSync(join(dir, "repos"));
  const repos = openRepositories({ dir: join(dir, "repos"), trustedHosts: [] });
  const standing = async () => ({ state: "continue" }) as const;
  const work = { taskLog, store, bus, repos, clock: systemClock, ids: systemIds() };
  const workerApi = createWorkerService({
    ...work,
    abandonMs: 600_000,
    standing,
    setupEgress: async () => null,
    variables: new AttemptVariables({ taskLog, store, sandbox: {} }),
    programs: {},
    sandbox: {},
    models: ["claude-opus-5-5"],
  });
  const secret = Buffer.alloc(32, 7);
  const broker = openBroker({
    dir: join(dir, "sock"),
    workerApi: workerApi,
    repoPath: () => dir,
    secrets: () => [secret],
    instance: "bench",
    log: quiet,
    serveModel,
  });
  const forwarders: Awaited<ReturnType<typeof openForwarder>>[] = [];
  const doors: Door[] = [];
  for (const id of ids) {
    const { socketDir, token } = await broker.open(id, 1);
    const socketPath = join(socketDir, "b.sock");
    const forwarder = await openForwarder(socketPath);
    forwarders.push(forwarder);
    doors.push({ socketPath, token, baseURL: `http://127.0.0.1:${forwarder.port}/anthropic` });
  }
  return {
    direct: fake.url,
    doors,
    dir,
    async admit(task) {
      const begun = performance.now();
      const admission = await spend.admit(ids[task % ids.length] ?? "", 1, "claude-opus-5-5", 0.01);
      const ms = performance.now() - begun;
      await admission.cancel();
      return ms;
    },
    async close() {
      await Promise.all(forwarders.map((one) => one.close()));
      await broker.close();
      await close();
      await fake.close();
    },
  };
}

const gaps = (times: readonly number[]): number[] => times.slice(1).map((time, i) => time - (times[i] ?? time));

const NOTHING = { sha: "0".repeat(40), files: 0, additions: 0, deletions: 0 };
/** A workspace that does nothing: git is not measured here. */
const WORKSPACE: Workspace = {
  root: "/",
  open: async () => {},
  restore: async () => [],
  checkpoint: async () => NOTHING,
  commit: async () => null,
  finalCommit: async () => NOTHING.sha,
};

/** The agent's own way: each call of the tool is one turn after the last. */
async function ourTurns({ socketPath, token, baseURL }: Door, stateDir: string): Promise<number[]> {
  const times: number[] = [];
  mkdirSync(stateDir);
  const { signal } = new AbortController();
  const link = new HttpLink({ socketPath, token, attempt: 1, journal: new Journal(stateDir, 1), clock: systemClock });
  const look = async () => {
    times.push(performance.now());
    return { output: "Nothing here.", exitCode: 0, truncated: false };
  };
  const spec = await link.spec(signal);
  const deadline = new Deadline(systemClock, link, spec.wallMs, () => undefined);
  const parts = {
    link,
    workspace: WORKSPACE,
    tools: { run: look, add: () => {}, close: async () => {} },
    clock: systemClock,
    model: { baseURL, token },
    variables: new CommandVariables({}),
  };
  const ids = systemIds();
  const session = new Session(
    { ...parts, newId: (prefix) => ids.next(prefix), attachmentDir: join(stateDir, "attachments") },
    {
      spec,
      transcript: await openTranscript(link, spec.transcript, signal),
      instructions: NO_INSTRUCTIONS,
      deadline,
      signal,
    },
  );
  await createModelAgent().run(session);
  await link.close();
  return gaps(times);
}

/**
 * The shortest loop with the same system prompt and tools, so that the provider does the same work
 * for both.
 */
async function bareTurns(direct: string, round: number): Promise<number[]> {
  const client = new Anthropic({ apiKey: KEY, baseURL: direct, maxRetries: 0 });
  const times: number[] = [];
  const messages: Anthropic.MessageParam[] = [{ role: "user", content: "Look everywhere." }];
  for (;;) {
    const answer = await client.messages
      .stream({
        model: "claude-opus-5-5",
        max_tokens: 32_000,
        messages,
        ...PROMPT,
        metadata: { user_id: `bare_${round}` },
      })
      .finalMessage();
    const call = answer.content.find((block) => block.type === "tool_use");
    if (call === undefined || call.name === "finish") return gaps(times);
    times.push(performance.now());
    messages.push({ role: "assistant", content: answer.content });
    messages.push({ role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "Nothing here." }] });
  }
}

/** ms to the first piece of an answer, and to its end. */
async function answer(client: Anthropic, scenario: string): Promise<{ first: number; end: number }> {
  const begun = performance.now();
  const stream = client.messages.stream({
    model: "claude-opus-5-5",
    max_tokens: 1_000,
    messages: [{ role: "user", content: `[scenario:${scenario}] Speak.` }],
  });
  let first: number | null = null;
  stream.on("streamEvent", () => (first ??= performance.now() - begun));
  await stream.finalMessage();
  return { first: first ?? Number.NaN, end: performance.now() - begun };
}

export async function agentFigures(): Promise<AgentFigures> {
  const house = await open(Math.max(DOORS, ROUNDS + 1));
  const { direct: address, doors, dir } = house;
  const [door] = doors;
  if (door === undefined) throw new Error("no task is running");
  const options = { maxRetries: 0 };
  const direct = new Anthropic({ ...options, apiKey: KEY, baseURL: address });
  const through = new Anthropic({ ...options, apiKey: door.token, baseURL: door.baseURL });
  const turn = { ours: [] as number[], floor: [] as number[] };
  const first = { ours: [] as number[], floor: [] as number[] };
  const streams = { ours: [] as number[], floor: [] as number[] };
  const clients = doors.map(({ token, baseURL }) => new Anthropic({ ...options, apiKey: token, baseURL }));
  const all = async (many: readonly Anthropic[]): Promise<number> => {
    const streamed = Array.from({ length: STREAMS }, async (_, at) => {
      const client = many[at % many.length] ?? through;
      return (await answer(client, "slow")).end;
    });
    return Math.max(...(await Promise.all(streamed)));
  };
  const admissions: number[] = [];
  try {
    for (let round = 0; round <= ROUNDS; round += 1) {
      const bare = await bareTurns(address, round);
      const ours = await ourTurns(doors[round] ?? door, join(dir, `state-${round}`));
      // The first round warms up.
      if (round === 0) continue;
      turn.floor.push(...bare);
      turn.ours.push(...ours);
      for (let i = 0; i < TURNS; i += 1) {
        first.floor.push((await answer(direct, "words")).first);
        first.ours.push((await answer(through, "words")).first);
      }
      streams.floor.push(await all([direct]));
      streams.ours.push(await all(clients));
    }
    for (let n = 0; n < ADMISSIONS; n += 1) admissions.push(await house.admit(n));
  } finally {
    await house.close();
  }
  const p50 = ({ ours, floor }: { ours: number[]; floor: number[] }): Pair => ({
    ours: percentile(ours, 50),
    floor: percentile(floor, 50),
  });
  return {
    turn: p50(turn),
    firstPiece: p50(first),
    streams: p50(streams),
    admission: { p50: percentile(admissions, 50), p99: percentile(admissions, 99) },
  };
}
