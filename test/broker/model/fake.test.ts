/**
 * The fake model through the real SDK: its answers, its refusals, and each way in which it
 * fails.
 */
import { readFileSync } from "node:fs";
import Anthropic from "@anthropic-ai/sdk";
import { afterEach, describe, expect, it } from "vitest";
import { startFakeModel, type FakeModel } from "../../../src/broker/model/fake/server.ts";
import { PromptCache } from "../../../src/broker/model/fake/prompt-cache.ts";
import { requestSchema, type FakeRequest } from "../../../src/broker/model/fake/strict.ts";
import { faultSchema, type Fault, type Scenario } from "../../../src/broker/model/fake/scenario.ts";

type Params = Anthropic.MessageStreamParams;
type Content = Anthropic.ContentBlock[];

const KEY = "sk-fake";
const CALL = { name: "bash", input: { command: "echo a longer command than one piece of the stream" } };
const TWO_TURNS: Scenario = { turns: [{ say: "First I look.", tools: [CALL, CALL] }, { say: "All done." }] };
const open: FakeModel[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.close()));
});

async function start(
  scenarios: Record<string, Scenario> = { default: TWO_TURNS },
): Promise<{ fake: FakeModel; client: Anthropic }> {
  const fake = await startFakeModel({ scenarios, apiKey: KEY });
  open.push(fake);
  return { fake, client: new Anthropic({ apiKey: KEY, baseURL: fake.url, maxRetries: 0 }) };
}

const BASE: Params = {
  model: "claude-opus-5-5",
  max_tokens: 1_000,
  system: [{ type: "text", text: "You work.", cache_control: { type: "ephemeral" } }],
  tools: [{ name: "bash", input_schema: { type: "object" } }],
  messages: [{ role: "user", content: "Do it." }],
};

const results = (content: Content): Anthropic.ToolResultBlockParam[] =>
  content.flatMap((one) =>
    one.type === "tool_use" ? [{ type: "tool_result" as const, tool_use_id: one.id, content: "ok" }] : [],
  );
const followed = (content: Content): Params => ({
  ...BASE,
  messages: [...BASE.messages, { role: "assistant", content }, { role: "user", content: results(content) }],
});

describe("[K1] the fake model speaks the Messages API", () => {
  it("streams thinking, text and tool calls, and goes on with the next turn", async () => {
    const { fake, client } = await start();
    const first = await client.messages.stream(BASE).finalMessage();
    expect(first.stop_reason).toBe("tool_use");
    expect(first.content.map((one) => one.type)).toEqual(["thinking", "text", "tool_use", "tool_use"]);
    expect(first.content[3]).toMatchObject(CALL);
    const second = await client.messages.stream(followed(first.content)).finalMessage();
    expect(second.stop_reason).toBe("end_turn");
    expect(second.usage.cache_read_input_tokens).toBeGreaterThan(0);
    expect(fake.requests().map(({ turn, status }) => [turn, status])).toEqual([
      [0, 200],
      [1, 200],
    ]);
    expect(fake.spentUsd()).toBeGreaterThan(0);
  });

  it("gives the same answer without a stream, counts tokens, and lists its models", async () => {
    const { client } = await start();
    const { content, stop_reason: reason } = await client.messages.create({
      ...BASE,
      stream: false,
    } as Anthropic.MessageCreateParamsNonStreaming);
    expect(reason).toBe("tool_use");
    expect(content).toHaveLength(4);
    const { max_tokens: _max, ...rest } = BASE;
    expect(
      (await client.messages.countTokens(rest as Anthropic.MessageCountTokensParams)).input_tokens,
    ).toBeGreaterThan(10);
    expect(await client.models.retrieve("claude-opus-5-5")).toMatchObject({ max_input_tokens: 1_000_000 });
  });

  it("a request that is sent again gets the same turn, and a summed-up conversation goes on where it was", async () => {
    const { client } = await start({ default: { turns: [{ tools: [CALL] }, { tools: [CALL] }, { say: "third" }] } });
    const metadata = { user_id: "task_1" };
    const first = await client.messages.stream({ ...BASE, metadata }).finalMessage();
    const again = await client.messages.stream({ ...BASE, metadata }).finalMessage();
    expect(again.content[1]).toMatchObject({ input: CALL.input });
    const second = { ...followed(first.content), metadata };
    await client.messages.stream(second).finalMessage();
    const summed = await client.messages
      .stream({ ...BASE, metadata, messages: [{ role: "user", content: "Summary so far" }] })
      .finalMessage();
    expect(summed.content[0]).toMatchObject({ type: "thinking" });
    expect(summed.stop_reason).toBe("tool_use");
  });
});

describe("[K2] the fake model refuses what the provider refuses", () => {
  const refused = async (change: (first: Content) => object, words: RegExp): Promise<void> => {
    const { client } = await start();
    const { content } = await client.messages.stream(BASE).finalMessage();
    await expect(
      client.messages.stream({ ...followed(content), ...change(content) } as Params).finalMessage(),
    ).rejects.toThrow(words);
  };
  const withMessages = (messages: unknown[]): object => ({ messages });

  it("a changed prefix", async () => {
    await refused(
      (content) => withMessages([{ role: "user", content: "Do it!" }, ...followed(content).messages.slice(1)]),
      /bound to a different/,
    );
    await refused(() => ({ system: "Something else" }), /bound to a different/);
    await refused(() => ({ tools: [] }), /bound to a different/);
  });

  it("a changed answer", async () => {
    const changed = (content: Content): unknown[] =>
      content.map((one) => (one.type === "text" ? { ...one, text: "Other words." } : one));
    await refused(
      (content) =>
        withMessages([
          BASE.messages[0],
          { role: "assistant", content: changed(content) },
          followed(content).messages[2],
        ]),
      /bound to a different/,
    );
  });

  it("an answer that ends with thinking, and blank text", async () => {
    const { client } = await start({ default: { turns: [{ think: "Only a thought.", stop: "max_tokens" }] } });
    const { content, stop_reason: reason } = await client.messages.stream(BASE).finalMessage();
    expect([reason, content.map(({ type }) => type)]).toEqual(["max_tokens", ["thinking"]]);
    const sentBack = (answer: Content): Params => ({
      ...BASE,
      messages: [...BASE.messages, { role: "assistant", content: answer }, { role: "user", content: "Go on." }],
    });
    await expect(client.messages.stream(sentBack(content)).finalMessage()).rejects.toThrow(
      /final block in an assistant message cannot be `thinking`/,
    );
    const blank = { type: "text", text: "\n\n", citations: null } as const;
    await expect(client.messages.stream(sentBack([...content, blank])).finalMessage()).rejects.toThrow(/non-empty/);
  });

  it("settings that a model lacks; its list of models names them, unless a proxy has none", async () => {
    const { client } = await start();
    const says = async (model: string, part: object, words: RegExp): Promise<void> =>
      await expect(client.messages.stream({ ...BASE, model, ...part } as Params).finalMessage()).rejects.toThrow(words);
    await says("claude-haiku-4-5", { thinking: { type: "adaptive" } }, /adaptive thinking is not supported/);
    await says("claude-haiku-4-5", { output_config: { effort: "low" } }, /does not support the effort/);
    await says("claude-opus-4-5", { output_config: { effort: "xhigh" } }, /xhigh is not supported/);
    await says("claude-opus-5-5", { max_tokens: 200_000 }, /maximum allowed number of output tokens/);
    expect((await client.models.retrieve("claude-opus-4-5")).capabilities).toMatchObject({
      effort: { supported: true, high: { supported: true }, max: { supported: false } },
      thinking: { types: { adaptive: { supported: false }, enabled: { supported: true } } },
    });
    const proxy = await startFakeModel({ scenarios: { default: TWO_TURNS }, apiKey: KEY, models: "unlisted" });
    open.push(proxy);
    const behind = new Anthropic({ apiKey: KEY, baseURL: proxy.url, maxRetries: 0 });
    await expect(behind.models.retrieve("claude-opus-5-5")).rejects.toMatchObject({ status: 404 });
  });

  it("calls without results, results without calls, results in the wrong place", async () => {
    const results3 = (content: Content) => results(content);
    await refused(
      (c) => withMessages([...followed(c).messages.slice(0, 2), { role: "user", content: results3(c).slice(1) }]),
      /without tool_result/,
    );
    await refused(
      (c) =>
        withMessages([
          ...followed(c).messages.slice(0, 2),
          { role: "user", content: [...results3(c), ...results3(c)] },
        ]),
      /single result/,
    );
    await refused(
      (c) =>
        withMessages([
          ...followed(c).messages.slice(0, 2),
          { role: "user", content: [{ type: "text", text: "hm" }, ...results3(c)] },
        ]),
      /must come first/,
    );
  });

  it("a summary of the provider without its beta, changed, or in another place", async () => {
    const { client } = await start();
    const compaction = { type: "compaction", content: "Summary", signature: "none" };
    const says = async (messages: unknown[], words: RegExp, beta = "compact-2026-09-04"): Promise<void> =>
      await expect(
        client.messages.stream({ ...BASE, messages } as Params, { headers: { "anthropic-beta": beta } }).finalMessage(),
      ).rejects.toThrow(words);
    await says([{ role: "assistant", content: [compaction] }, BASE.messages[0]], /signature does not verify/);
    await says(
      [BASE.messages[0], { role: "assistant", content: [compaction] }, BASE.messages[0]],
      /must be the first block/,
    );
    const made = await client.beta.messages
      .stream({
        ...BASE,
        betas: ["compact-2026-09-04"],
        compaction: { type: "summarize" },
      } as Anthropic.Beta.MessageCreateParams)
      .finalMessage();
    expect(made).toMatchObject({ stop_reason: "compaction", content: [{ type: "compaction" }] });
    const gone = [{ role: "assistant", content: made.content }, BASE.messages[0]];
    await says(gone, /Extra inputs/, "none");
    const after = await client.messages
      .stream({ ...BASE, messages: gone } as Params, { headers: { "anthropic-beta": "compact-2026-09-04" } })
      .finalMessage();
    expect(after.stop_reason).toBe("tool_use");
  });

  it("forced tools, sampling parameters, old thinking modes, five breakpoints, a foreign key", async () => {
    const { fake, client } = await start();
    const says = async (part: object, words: RegExp): Promise<void> =>
      await expect(client.messages.stream({ ...BASE, ...part } as Params).finalMessage()).rejects.toThrow(words);
    await says({ tool_choice: { type: "any" } }, /forced tool use/);
    await says({ temperature: 0 }, /temperature/);
    await says({ thinking: { type: "enabled", budget_tokens: 2_000 } }, /thinking/);
    const marked = { type: "text", text: "x", cache_control: { type: "ephemeral" } };
    await says({ system: [marked, marked, marked, marked, marked] }, /maximum of 4/);
    const stranger = new Anthropic({ apiKey: "sk-other", baseURL: fake.url, maxRetries: 0 });
    await expect(stranger.messages.stream(BASE).finalMessage()).rejects.toMatchObject({ status: 401 });
    expect(fake.spentUsd()).toBe(0);
  });
});

describe("[K4] the fake model bills as the provider does", () => {
  const MARK = { cache_control: { type: "ephemeral" as const } };
  const marked = (text: string): Anthropic.TextBlockParam => ({ type: "text", text, ...MARK });
  const long = "A sentence of the prompt. ".repeat(100);
  const request = (part: Partial<Params> = {}): Params => ({
    ...BASE,
    messages: [{ role: "user", content: [marked(long)] }],
    ...part,
  });

  /** The usage of the second of two requests. */
  async function second(first: Params, then: Params): Promise<Anthropic.Usage> {
    const { client } = await start({ default: { turns: [{ say: "Yes." }], afterwards: "again" } });
    await client.messages.stream(first).finalMessage();
    return (await client.messages.stream(then).finalMessage()).usage;
  }

  it("the same prefix is read; what follows it is written at the mark, and is input without one", async () => {
    expect(await second(request(), request())).toMatchObject({ input_tokens: 0, cache_creation_input_tokens: 0 });
    const more = (last: Anthropic.TextBlockParam): Params =>
      request({ messages: [{ role: "user", content: [marked(long), last] }] });
    const written = await second(request(), more(marked(long)));
    expect(written.cache_read_input_tokens).toBeGreaterThan(600);
    expect(written.cache_creation_input_tokens).toBeGreaterThan(600);
    const unmarked = await second(request(), more({ type: "text", text: long }));
    expect(unmarked).toMatchObject({ cache_creation_input_tokens: 0 });
    expect(unmarked.input_tokens).toBeGreaterThan(600);
  });

  it("other tools invalidate everything; another system prompt, choice or thinking what follows", async () => {
    const reads = async (part: Partial<Params>): Promise<number> =>
      (await second(request(), request(part))).cache_read_input_tokens ?? 0;
    expect(await reads({ tools: [{ name: "other", input_schema: { type: "object" } }] })).toBe(0);
    expect(await reads({ system: [marked("Another.")] })).toBe(0);
    const system = await reads({ tool_choice: { type: "none" } });
    expect(system).toBeGreaterThan(0);
    expect(system).toBeLessThan(50);
    expect(await reads({ thinking: { type: "adaptive" } })).toBe(system);
    expect(await reads({ model: "claude-sonnet-5-5" })).toBe(0);
  });

  it("an entry is found at most 19 blocks before a mark", async () => {
    const after = (blocks: number): Params => {
      const others = Array.from({ length: blocks - 1 }, (_, i) => ({ type: "text" as const, text: `${i}` }));
      return request({ messages: [{ role: "user", content: [{ type: "text", text: long }, ...others, marked("x")] }] });
    };
    expect((await second(request(), after(19))).cache_read_input_tokens).toBeGreaterThan(600);
    expect((await second(request(), after(21))).cache_read_input_tokens).toBeLessThan(50);
  });

  it("entries for an hour cost more, and live longer", async () => {
    let now = 0;
    const cache = new PromptCache(() => now);
    const body = (ttl: "5m" | "1h"): FakeRequest =>
      requestSchema.parse({
        ...BASE,
        system: [{ type: "text", text: long, cache_control: { type: "ephemeral", ttl } }],
      });
    expect(cache.use(body("1h"))).toMatchObject({ written5m: 0, read: 0 });
    now += 6 * 60_000;
    expect(cache.use(body("1h")).read).toBeGreaterThan(600);
    expect(new PromptCache().use(body("5m"))).toMatchObject({ written1h: 0, read: 0 });
    const short = new PromptCache(() => now);
    short.use(body("5m"));
    now += 6 * 60_000;
    expect(short.use(body("5m")).read).toBe(0);
  });

  it("old results are left out of the tokens, streamed or not, with the beta only", async () => {
    const { client } = await start({ default: { turns: [{ tools: [CALL, CALL, CALL] }, { say: "Yes." }] } });
    const first = await client.messages.stream(BASE).finalMessage();
    const long = results(first.content).map((one) => ({ ...one, content: "x".repeat(4_000) }));
    const messages = [...BASE.messages, { role: "assistant", content: first.content }, { role: "user", content: long }];
    const ask = (keep: number, least: number): Anthropic.Beta.MessageCreateParamsNonStreaming =>
      ({
        ...BASE,
        messages,
        betas: ["context-management-2025-06-27"],
        context_management: {
          edits: [
            {
              type: "clear_tool_uses_20250919",
              trigger: { type: "input_tokens", value: 500 },
              keep: { type: "tool_uses", value: keep },
              clear_at_least: { type: "input_tokens", value: least },
            },
          ],
        },
      }) as Anthropic.Beta.MessageCreateParamsNonStreaming;
    const streamed = await client.beta.messages.stream(ask(1, 1_500)).finalMessage();
    const whole = await client.beta.messages.create(ask(1, 1_500));
    for (const answer of [streamed, whole])
      expect(answer.context_management?.applied_edits).toMatchObject([{ cleared_tool_uses: 2 }]);
    const tokens = ({ usage }: Anthropic.Beta.BetaMessage): number =>
      usage.input_tokens + (usage.cache_creation_input_tokens ?? 0) + (usage.cache_read_input_tokens ?? 0);
    expect(tokens(streamed)).toBeLessThan(2_000);
    const kept = await client.beta.messages.create(ask(1, 5_000));
    expect([tokens(kept) > 3_000, kept.context_management?.applied_edits]).toEqual([true, []]);
    const { betas: _betas, ...without } = ask(1, 1_500);
    await expect(client.beta.messages.create(without)).rejects.toThrow("Extra inputs are not permitted");
  });

  it("each recorded request of Claude Code has a form that is served, with its edits of thinking", () => {
    const file = new URL("request/claude-code.json", import.meta.url);
    const recorded = JSON.parse(readFileSync(file, "utf8")) as { path: string; body: object }[];
    const asked = recorded.filter(({ path }) => path.startsWith("/v1/messages") && !path.includes("count_tokens"));
    expect(asked.length).toBeGreaterThan(2);
    for (const { body } of asked) expect(requestSchema.safeParse(body).error?.issues ?? []).toEqual([]);
    expect(asked.some(({ body }) => JSON.stringify(body).includes("clear_thinking_20251015"))).toBe(true);
  });

  it("a refusal before the first output is free", async () => {
    const { fake, client } = await start({ default: { turns: [{ say: "No.", faults: [{ kind: "refusal" }] }] } });
    await client.messages.stream(BASE).finalMessage();
    expect(fake.spentUsd()).toBe(0);
  });
});

describe("[K3] each fault happens the configured number of times, then the turn succeeds", () => {
  const faults: readonly [string, Fault, object | RegExp][] = [
    ["429", { kind: "status", status: 429, retryAfter: 2 }, { status: 429, type: "rate_limit_error" }],
    ["529", { kind: "status", status: 529 }, { status: 529, type: "overloaded_error" }],
    ["drop", { kind: "drop", after: 3 }, /terminated/],
    ["error event", { kind: "error_event", after: 3 }, { type: "overloaded_error" }],
    ["no message_stop", { kind: "no_message_stop" }, /without producing a Message/],
    ["invalid tool JSON", { kind: "invalid_tool_json" }, /JSON/],
    ["full window", { kind: "context_limit", form: "error" }, /prompt is too long/],
  ];
  it.each(faults)("%s", async (_name, fault, expected) => {
    const { client } = await start({ default: { turns: [{ tools: [CALL], faults: [faultSchema.parse(fault)] }] } });
    const failure = await client.messages
      .stream(BASE)
      .finalMessage()
      .then(
        () => null,
        (error: unknown) => error,
      );
    if (expected instanceof RegExp) expect(String(failure)).toMatch(expected);
    else expect(failure).toMatchObject(expected);
    expect((await client.messages.stream(BASE).finalMessage()).stop_reason).toBe("tool_use");
  });

  it("a stall sends nothing more, and ends with the caller", async () => {
    const { client } = await start({
      default: { turns: [{ say: "x".repeat(500), faults: [{ kind: "stall", after: 5 }] }] },
    });
    const stream = client.messages.stream(BASE);
    let pieces = 0;
    stream.on("streamEvent", () => (pieces += 1));
    setTimeout(() => stream.abort(), 300);
    await expect(stream.finalMessage()).rejects.toThrow(/abort/i);
    expect(pieces).toBeLessThan(6);
  });

  it("stop reasons: refusal, cut tool JSON, full window", async () => {
    const once = async (fault: Fault): Promise<Anthropic.Message> => {
      const { client } = await start({ default: { turns: [{ tools: [CALL], faults: [fault] }] } });
      return await client.messages.stream(BASE).finalMessage();
    };
    expect(await once({ kind: "refusal" })).toMatchObject({
      stop_reason: "refusal",
      stop_details: { category: "cyber" },
    });
    const cut = await once({ kind: "cut_tool_json" });
    expect(cut.stop_reason).toBe("max_tokens");
    expect(cut.content.at(-1)).toMatchObject({ type: "tool_use", input: {} });
    expect((await once({ kind: "context_limit", form: "stop" })).stop_reason).toBe("model_context_window_exceeded");
  });
});
