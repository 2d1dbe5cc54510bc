/**
 * What Slipway adds to a model's turn, against the bare client that asks the fake model itself: the loop, its transcript (here a file that is synced
 * line by line), the worker's forwarder, the broker and the gateway with its durable books. Each pair is measured in turns, so that a noisy
 * neighbour hits both.
 */
import Anthropic from "@anthropic-ai/sdk";
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { openBroker } from "../src/broker/listener.ts";
import { DEFAULT_RULES } from "../src/broker/model-request.ts";
import { createModelGateway } from "../src/broker/model.ts";
import { memoryBus } from "../src/bus/memory.ts";
import { createCoordinator } from "../src/coordinator.ts";
import { noCrash } from "../src/crash.ts";
import type { Scenario } from "../src/model/fake/scenario.ts";
import { startFakeModel } from "../src/model/fake/server.ts";
import { PRICES } from "../src/model/prices.ts";
import { createRate } from "../src/model/rate.ts";
import { createSpend } from "../src/spend.ts";
import { systemClock, systemIds } from "../src/system.ts";
import type { WorkerSpec } from "../src/worker-wire.ts";
import { createModelAgent } from "../worker/agents/anthropic/agent.ts";
import type { AgentContext } from "../worker/agents/agent.ts";
import { forward } from "../worker/forward.ts";
import { runningTasks } from "./record.ts";
import { openBenchStore, percentile, quiet } from "./support.ts";

export interface AgentFigures {
  /** p50 of one turn with one call of a tool that does nothing, ms. */
  readonly turn: Pair;
  /** p50 from the request to the first piece of the answer, ms. */
  readonly firstPiece: Pair;
  /** All of 50 streams at once, ms. */
  readonly streams: Pair;
}

interface Pair {
  readonly ours: number;
  readonly floor: number;
}

const KEY = "sk-bench";
const TURNS = 40;
const ROUNDS = 3;
const STREAMS = 50;
const TOOL = { name: "look", description: "Looks.", inputSchema: { type: "object", properties: { at: { type: "number" } } } };

const turns = Array.from({ length: TURNS }, (_, at) => ({ say: "I look at the next place.", tools: [{ name: "look", input: { at } }] }));
const SCENARIOS: Readonly<Record<string, Scenario>> = {
  default: { turns: [...turns, { tools: [{ name: "finish", input: { title: "Looked", summary: "Everywhere." } }] }] },
  words: { turns: [{ say: "Some words. ".repeat(20) }], afterwards: "again" },
  slow: { turns: [{ say: "Some words. ".repeat(40), delayMs: 10 }], afterwards: "again" },
};

interface House {
  readonly direct: string;
  /** The model as the worker of a task sees it. */
  readonly through: string;
  readonly token: string;
  readonly dir: string;
  close(): Promise<void>;
}

async function open(): Promise<House> {
  const fake = await startFakeModel({ scenarios: SCENARIOS, apiKey: KEY });
  const { store, ledger, dir, close } = await openBenchStore();
  const [taskId = ""] = await runningTasks(store, 1);
  const coordinator = createCoordinator({ store, bus: memoryBus(), clock: systemClock, log: quiet, crashpoint: noCrash });
  const limits = { userDayUsd: null, dayUsd: null };
  const desk = createSpend({ coordinator, store, ledger, clock: systemClock, ids: systemIds(), log: quiet, ...limits });
  const rate = createRate({ clock: systemClock, longestMs: 60_000 });
  const serveModel = createModelGateway({ baseUrl: fake.url, apiKey: KEY, desk, rules: DEFAULT_RULES, prices: PRICES, rate, log: quiet });
  const never = (): Promise<never> => Promise.reject(new Error("not asked here"));
  const broker = openBroker({
    dir: join(dir, "sock"),
    desk: { spec: never, accept: never, commands: never },
    repoPath: () => dir,
    secret: Buffer.alloc(32, 7),
    instance: "bench",
    log: quiet,
    serveModel,
  });
  const { socketDir, token } = await broker.open(taskId, 1);
  const forwarder = await forward(join(socketDir, "b.sock"));
  return {
    direct: fake.url,
    through: `http://127.0.0.1:${forwarder.port}/anthropic`,
    token,
    dir,
    async close() {
      await forwarder.close();
      await broker.close();
      await close();
      await fake.close();
    },
  };
}

const gaps = (times: readonly number[]): number[] => times.slice(1).map((time, i) => time - (times[i] ?? time));

/** The agent's own way: each call of the tool is one turn after the last. */
async function ourTurns({ through, token, dir }: House, round: number): Promise<number[]> {
  const times: number[] = [];
  const file = openSync(join(dir, `transcript-${round}.jsonl`), "a");
  const done = async (): Promise<void> => {};
  const spec = { ...SPEC, taskId: `bench_${round}` };
  const context: AgentContext = {
    spec,
    cursor: null,
    signal: new AbortController().signal,
    emit: () => undefined,
    delta: () => undefined,
    newId: (prefix) => `${prefix}_${times.length}`,
    say: done,
    tool: async () => {
      times.push(performance.now());
      return { output: "Nothing here.", exitCode: 0, truncated: false };
    },
    ask: async () => "",
    heard: async () => [],
    mark: () => undefined,
    checkpoint: done,
    commit: async () => null,
    transcript: {
      records: [],
      async append(data) {
        writeSync(file, `${JSON.stringify(data)}\n`);
        fsyncSync(file);
      },
    },
    model: { baseURL: through, token },
    toolSchemas: [TOOL],
    instructions: "",
    verify: async () => [],
    budgetQuestion: async () => "stop",
    sleep: (ms) => systemClock.sleep(ms),
    hang: () => Promise.reject(new Error("this agent does not hang")),
  };
  await createModelAgent().run(context);
  closeSync(file);
  return gaps(times);
}

const SPEC: WorkerSpec = {
  taskId: "",
  attempt: 1,
  prompt: "Look everywhere.",
  agent: "anthropic",
  model: null,
  script: null,
  verify: [],
  budget: {},
  base: "main",
  baseSha: "0".repeat(40),
  workRef: "",
  checkpointRef: "",
  resume: null,
  answers: {},
  commandsAfter: 0,
  ack: 0,
  wallMs: 3_600_000,
};

/** The shortest loop that does the same. */
async function bareTurns({ direct }: House, round: number): Promise<number[]> {
  const client = new Anthropic({ apiKey: KEY, baseURL: direct, maxRetries: 0 });
  const times: number[] = [];
  const messages: Anthropic.MessageParam[] = [{ role: "user", content: "Look everywhere." }];
  for (;;) {
    const answer = await client.messages
      .stream({
        model: "claude-opus-5-5",
        max_tokens: 32_000,
        messages,
        tools: [{ name: TOOL.name, input_schema: { type: "object" } }],
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
  const house = await open();
  const options = { maxRetries: 0 };
  const direct = new Anthropic({ ...options, apiKey: KEY, baseURL: house.direct });
  const through = new Anthropic({ ...options, apiKey: house.token, baseURL: house.through });
  const turn = { ours: [] as number[], floor: [] as number[] };
  const first = { ours: [] as number[], floor: [] as number[] };
  const streams = { ours: [] as number[], floor: [] as number[] };
  const all = async (client: Anthropic): Promise<number> =>
    Math.max(...(await Promise.all(Array.from({ length: STREAMS }, async () => (await answer(client, "slow")).end))));
  try {
    for (let round = 0; round <= ROUNDS; round += 1) {
      const [bare, ours] = [await bareTurns(house, round), await ourTurns(house, round)];
      // The first round warms up.
      if (round === 0) continue;
      turn.floor.push(...bare);
      turn.ours.push(...ours);
      for (let i = 0; i < TURNS; i += 1) {
        first.floor.push((await answer(direct, "words")).first);
        first.ours.push((await answer(through, "words")).first);
      }
      streams.floor.push(await all(direct));
      streams.ours.push(await all(through));
    }
  } finally {
    await house.close();
  }
  const p50 = ({ ours, floor }: { ours: number[]; floor: number[] }): Pair => ({
    ours: percentile(ours, 50),
    floor: percentile(floor, 50),
  });
  return { turn: p50(turn), firstPiece: p50(first), streams: p50(streams) };
}
