/**
 * What the reviewer's turn costs a task (decision 056): the same task without a reviewer, with one
 * that accepts the change, and with one that sends it back once, in turns. A real server and
 * worker; the model is the fake one, which answers at once, so the times hold no thinking. Tokens
 * and dollars are those of the task's `usage` events, which are booked with the ledger.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Scenario, Turn } from "../../src/broker/model/fake/scenario.ts";
import { startFakeModel } from "../../src/broker/model/fake/server.ts";
import type { WireEvent } from "../../src/core/protocol/events.ts";
import type { WireTask } from "../../src/core/protocol/rest.ts";
import { startServer, startUpstream, type Server } from "../server.ts";
import { percentile } from "../support.ts";

const MODEL = "claude-sonnet-5-5";
const REVIEWER = "claude-haiku-5-5";
const KEY = "sk-bench";
const ROUNDS = 7;
const LIMIT_MS = 60_000;

export interface ReviewFigures {
  readonly rounds: number;
  /** Lines of the change. */
  readonly lines: number;
  readonly unreviewed: TaskCost;
  readonly accepted: ReviewedCost;
  /** With the agent's second delivery, and its review. */
  readonly sentBack: ReviewedCost;
}

interface TaskCost {
  readonly usd: number;
  readonly requests: number;
  /** From the agent's first delivery to the push, ms. */
  readonly ms: number;
}

export interface ReviewedCost extends TaskCost {
  /** Of the reviewer's requests alone. */
  readonly review: {
    readonly usd: number;
    readonly inputTokens: number;
    readonly outputTokens: number;
    /** From the request to the verdict, ms. */
    readonly ms: number;
  };
  /** How much more than the unreviewed task of the same round, ms. */
  readonly addedMs: number;
}

const CODE = Array.from(
  { length: 150 },
  (_, n) => `export const double${n} = (value) => (value === undefined ? ${n} : value * 2);\n`,
).join("");
const TEST = Array.from(
  { length: 50 },
  (_, n) => `test("double ${n}", () => equal(double${n}(${n}), ${2 * n}));\n`,
).join("");
const call = (name: string, input: Record<string, unknown>): Turn => ({ tools: [{ name, input }] });
const write = (path: string, content: string): Turn => call("write", { path, content });
const finish = call("finish", { title: "Double numbers", summary: "Each number has a function, and each a test." });
const WORK: readonly Turn[] = [
  { say: "I look at what is there.", ...call("bash", { command: "git log --oneline && ls -la" }) },
  call("read", { path: "README.md" }),
  call("grep", { pattern: "double" }),
  write("double.js", CODE),
  write("double.test.js", TEST),
  call("bash", { command: "wc -l double.js double.test.js" }),
  call("read", { path: "double.js", start: 1, end: 40 }),
  call("bash", { command: "git status --short && git diff --stat" }),
  finish,
];
const VERDICT: Turn = {
  say: "ACCEPT\nI read each function beside its test, the value that is missing, and the names; the task asks for no more.",
};
const OBJECTION: Turn = {
  say: "SEND BACK\n1. double.test.js: 100 of the 150 functions have no test, so a wrong factor in them is not found.",
};
const SCENARIOS: Readonly<Record<string, Scenario>> = {
  accepted: { turns: [...WORK], reviews: [VERDICT] },
  sentBack: {
    turns: [...WORK, write("more.test.js", TEST), finish],
    reviews: [OBJECTION, VERDICT],
  },
};

export async function reviewFigures(): Promise<ReviewFigures> {
  const dir = mkdtempSync(join(tmpdir(), "slipway-bench-review-"));
  const upstream = await startUpstream(join(dir, "upstream"));
  const fake = await startFakeModel({ scenarios: SCENARIOS, apiKey: KEY });
  const server = await startServer(join(dir, "data"), {
    SLIPWAY_SANDBOX: "process",
    SLIPWAY_TRUSTED_REPO_HOSTS: upstream.host,
    SLIPWAY_REVIEW_MODEL: REVIEWER,
    SLIPWAY_USER_TASKS_PER_MINUTE: "0",
    ANTHROPIC_API_KEY: KEY,
    ANTHROPIC_BASE_URL: fake.url,
  });
  const repo = `${upstream.url}/app.git`;
  const logs = { unreviewed: [] as Log[], accepted: [] as Log[], sentBack: [] as Log[] };
  let booked = 0;
  try {
    for (let round = 0; round <= ROUNDS; round += 1) {
      const ran = {
        unreviewed: await run(server, { repo, prompt: "[scenario:accepted] Double.", review: false }),
        accepted: await run(server, { repo, prompt: "[scenario:accepted] Double.", review: true }),
        sentBack: await run(server, { repo, prompt: "[scenario:sentBack] Double.", review: true }),
      };
      booked += ran.unreviewed.usd + ran.accepted.usd + ran.sentBack.usd;
      // The first round warms up.
      if (round === 0) continue;
      for (const kind of ["unreviewed", "accepted", "sentBack"] as const) logs[kind].push(ran[kind]);
    }
    const billed = fake.spentUsd();
    if (Math.abs(booked - billed) > billed / 1_000) throw new Error(`booked ${booked}, billed ${billed}`);
    const { unreviewed, accepted, sentBack } = logs;
    return {
      rounds: ROUNDS,
      lines: accepted[0]?.lines ?? 0,
      unreviewed: costOf(unreviewed),
      accepted: { ...reviewedCostOf(accepted, 1), addedMs: addedMs(accepted, unreviewed) },
      sentBack: { ...reviewedCostOf(sentBack, 2), addedMs: addedMs(sentBack, unreviewed) },
    };
  } finally {
    await server.end("SIGTERM");
    await fake.close();
    upstream.close();
    rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

interface Log {
  readonly events: readonly WireEvent[];
  readonly ms: number;
  readonly usd: number;
  readonly lines: number;
}

async function run(server: Server, order: object): Promise<Log> {
  const body = { ...order, agent: "anthropic", model: MODEL };
  const { id } = (await server.call("POST", "/v1/tasks", body)) as WireTask;
  for (const until = Date.now() + LIMIT_MS; Date.now() < until; await delay(20)) {
    const task = (await server.call("GET", `/v1/tasks/${id}`)) as WireTask;
    if (task.settledAt === null) continue;
    if (task.outcome !== "pushed") throw new Error(`a task ended otherwise: ${JSON.stringify(task.failure)}`);
    const { items } = (await server.call("GET", `/v1/tasks/${id}/events?limit=1000`)) as { items: WireEvent[] };
    const delivered = items.filter(({ type, data }) => type === "usage" && data["model"] === MODEL)[WORK.length - 1];
    const pushing = items.find(({ to }) => to === "pushing");
    const ms = Date.parse(pushing?.at ?? "") - Date.parse(delivered?.at ?? "");
    return { events: items, ms, usd: task.usage.usd, lines: task.changes?.additions ?? 0 };
  }
  throw new Error("a task does not end");
}

const usages = ({ events }: Log, of: string | null = null) =>
  events.flatMap((event) => (event.type === "usage" && (of === null || event.data.model === of) ? [event.data] : []));

function costOf(logs: readonly Log[]): TaskCost {
  return {
    usd: percentile(
      logs.map(({ usd }) => usd),
      50,
    ),
    requests: logs.length === 0 ? 0 : usages(logs[0] as Log).length,
    ms: percentile(
      logs.map(({ ms }) => ms),
      50,
    ),
  };
}

const addedMs = (logs: readonly Log[], than: readonly Log[]): number =>
  percentile(
    logs.map(({ ms }, round) => ms - (than[round]?.ms ?? Number.NaN)),
    50,
  );

/** @param reviews of each task; others would be another task than the one that is named. */
function reviewedCostOf(logs: readonly Log[], reviews: number): Omit<ReviewedCost, "addedMs"> {
  const each = logs.map((log) => {
    const booked = usages(log, REVIEWER);
    const verdicts = log.events.flatMap((event) =>
      event.type === "verify" && event.data.command === `review by ${REVIEWER}` ? [event.data] : [],
    );
    if (booked.length !== reviews || verdicts.length !== reviews)
      throw new Error(`a task has ${verdicts.length} verdicts and ${booked.length} reviews in its books`);
    const sum = (values: readonly number[]): number => values.reduce((all, value) => all + value, 0);
    return {
      usd: sum(booked.map(({ usd }) => usd)),
      inputTokens: sum(booked.map((one) => one.inputTokens + one.cacheReadTokens + one.cacheWriteTokens)),
      outputTokens: sum(booked.map(({ outputTokens }) => outputTokens)),
      ms: sum(verdicts.map(({ ms }) => ms)),
    };
  });
  const middle = (name: keyof (typeof each)[number]): number =>
    percentile(
      each.map((one) => one[name]),
      50,
    );
  return {
    ...costOf(logs),
    review: {
      usd: middle("usd"),
      inputTokens: middle("inputTokens"),
      outputTokens: middle("outputTokens"),
      ms: middle("ms"),
    },
  };
}
