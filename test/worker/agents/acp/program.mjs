/**
 * A real agent program that speaks the Agent Client Protocol. Each line of the prompt is one
 * action; it works on real files. Its abilities are words of its command line: `load`, `resume`
 * (it keeps its conversation in its home), `steer`, `options`, `modes`, `login` (it has none),
 * `key` (its login needs a key), `old`.
 */
import { spawn } from "node:child_process";
import { appendFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { once } from "node:events";
import { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { agent, methods, ndJsonStream, RequestError } from "@agentclientprotocol/sdk";

let cancelled = false;
let asked = 0;
let stubborn = false;
const cwd = process.cwd();
const can = (word) => process.argv.includes(word);
const memory = join(process.env.HOME ?? "/", "memory", "s1.jsonl");
const steered = [];
let loggedIn = !can("login") && !can("key");
const options = {
  mode: { category: "mode", values: ["ask", "bypassPermissions", "plan"] },
  model: { category: "model", values: ["maker/claude-a", "maker/claude-b"] },
  effort: { category: "thought_level", values: ["low", "max"] },
};
const chosen = { mode: "ask", model: "maker/claude-a", effort: "low" };
const offer = () => ({
  ...(can("options") && {
    configOptions: Object.entries(options).map(([id, { category, values }]) => ({
      id,
      name: id,
      category,
      type: "select",
      currentValue: chosen[id],
      options: values.map((value) => ({ value, name: value })),
    })),
  }),
  ...(can("modes") && {
    modes: { currentModeId: chosen.mode, availableModes: options.mode.values.map((id) => ({ id, name: id })) },
  }),
});
function recall(sessionId) {
  try {
    const lines = readFileSync(memory, "utf8").trim().split("\n");
    if (sessionId !== "s1" || lines[0] === "torn") throw new Error("torn");
    return lines;
  } catch (error) {
    throw new RequestError(-32603, `no conversation: ${error.message}`);
  }
}
const text = (words) => ({ type: "text", text: words });

function acts(client, sessionId) {
  const tell = async (update) => await client.notify(methods.client.session.update, { sessionId, update });
  const say = async (words) => await tell({ sessionUpdate: "agent_message_chunk", content: text(words) });
  return {
    say,
    think: async (words) => await tell({ sessionUpdate: "agent_thought_chunk", content: text(words) }),
    plan: async () =>
      await tell({
        sessionUpdate: "plan",
        entries: [
          { content: "Look", priority: "high", status: "completed" },
          { content: "Write", priority: "low", status: "in_progress" },
        ],
      }),
    write: async (line) => {
      const [path, content] = line.split("=");
      await tell({
        sessionUpdate: "tool_call",
        toolCallId: "c1",
        title: `Write ${path}`,
        kind: "edit",
        status: "in_progress",
        rawInput: { path },
      });
      writeFileSync(path, content);
      await tell({
        sessionUpdate: "tool_call_update",
        toolCallId: "c1",
        status: "completed",
        content: [{ type: "content", content: text("writ\u200bten") }],
      });
    },
    announce: async () => {
      await tell({
        sessionUpdate: "tool_call",
        toolCallId: "c5",
        title: "Terminal",
        kind: "execute",
        name: "Bash",
        status: "pending",
        rawInput: {},
      });
      await tell({
        sessionUpdate: "tool_call_update",
        toolCallId: "c5",
        title: "ls -l",
        rawInput: { command: "ls -l" },
      });
      await tell({ sessionUpdate: "tool_call_update", toolCallId: "c5", status: "completed", rawOutput: "a.txt" });
    },
    begin: async (line) => {
      const [command, waitMs = "0"] = line.split("@");
      const call = { toolCallId: "c6", kind: "execute" };
      await tell({ ...call, sessionUpdate: "tool_call", title: "bash", status: "pending", rawInput: { cwd } });
      await sleep(Number(waitMs));
      await tell({
        ...call,
        sessionUpdate: "tool_call_update",
        status: "in_progress",
        title: command,
        rawInput: { command, cwd },
      });
      await tell({ ...call, sessionUpdate: "tool_call_update", status: "completed", rawOutput: "ok" });
    },
    note: async (words) =>
      await tell({
        sessionUpdate: "agent_message_chunk",
        content: text(words),
        _meta: { claudeCode: { kind: "informational" } },
      }),
    chosen: async () => await say(JSON.stringify(chosen)),
    recall: async () => await say(`I know: ${recall("s1").join(" | ")}`),
    injected: async () => {
      while (steered.length === 0) await sleep(20);
      await say(`steered: ${steered.join()}`);
    },
    fail: async () =>
      await tell({
        sessionUpdate: "tool_call",
        toolCallId: "c2",
        title: "Try",
        kind: "execute",
        name: "shell",
        status: "failed",
        rawOutput: { why: "no luck" },
      }),
    open: async () =>
      await tell({
        sessionUpdate: "tool_call",
        toolCallId: "c3",
        title: "Never told again",
        kind: "read",
        status: "pending",
      }),
    permit: async () => {
      const options = [
        { optionId: "no", name: "No", kind: "reject_once" },
        { optionId: "ever", name: "Always", kind: "allow_always" },
        { optionId: "yes", name: "Yes", kind: "allow_once" },
      ];
      const { outcome } = await client.request(methods.client.session.requestPermission, {
        sessionId,
        toolCall: { toolCallId: "c4", title: "rm -rf build" },
        options,
      });
      await say(`permission: ${outcome.optionId}`);
    },
    ask: async () => {
      const properties = {
        colour: { type: "string", enum: ["red", "green"] },
        sure: { type: "boolean", title: "Are you sure?" },
      };
      const answer = await client.request(methods.client.elicitation.create, {
        sessionId,
        mode: "form",
        message: "Which colour?",
        requestedSchema: { type: "object", properties },
      });
      await say(`answer: ${JSON.stringify(answer)}`);
    },
    visit: async () => {
      const answer = await client.request(methods.client.elicitation.create, {
        sessionId,
        mode: "url",
        elicitationId: "e",
        url: "https://example.com",
        message: "Log in",
      });
      await say(`visit: ${answer.action}`);
    },
    usage: async () => {
      for (const amount of [0.25, 0.75])
        await tell({ sessionUpdate: "usage_update", used: 10, size: 100, cost: { amount, currency: "USD" } });
    },
    env: async () =>
      await say(
        ["ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_MODEL", "SLIPWAY_TOKEN", "HTTPS_PROXY"]
          .map((name) => process.env[name] ?? "-")
          .join(" "),
      ),
    model: async () => {
      const headers = {
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "x-api-key": process.env.ANTHROPIC_API_KEY,
      };
      const messages = [{ role: "user", content: "hello" }];
      const body = JSON.stringify({ model: process.env.ANTHROPIC_MODEL, max_tokens: 100, stream: false, messages });
      const response = await fetch(`${process.env.ANTHROPIC_BASE_URL}/v1/messages`, { method: "POST", headers, body });
      const answer = await response.json();
      if (!response.ok) throw new Error(`${response.status} ${JSON.stringify(answer)}`);
      await say(answer.content.map((block) => block.text).join(""));
    },
    daemon: async (mark) => spawn("setsid", ["sleep", mark], { stdio: "ignore", detached: true }).unref(),
    stubborn: async () => {
      stubborn = true;
      process.on("SIGTERM", () => {});
    },
    wait: async (ms) => {
      for (let left = Number(ms); left > 0 && (!cancelled || stubborn); left -= 20) await sleep(20);
    },
    die: async () => {
      process.stderr.write("the disk of dreams is full\n");
      process.exit(9);
    },
    error: async (words) => {
      throw new Error(words);
    },
    flood: async () => {
      for (;;) if (!process.stdout.write("x".repeat(1_000_000))) await once(process.stdout, "drain");
    },
  };
}

agent({ name: "test" })
  .onRequest(methods.agent.initialize, () => ({
    protocolVersion: can("old") ? 7 : 1,
    agentCapabilities: { loadSession: can("load"), ...(can("resume") && { sessionCapabilities: { resume: {} } }) },
    authMethods: can("key")
      ? [{ id: "maker-api-key", name: "Use an API key" }]
      : [{ id: "web", name: "Log in", description: "Opens a browser" }],
    ...(can("steer") && { _meta: { steering: { supported: true } } }),
  }))
  .onRequest(methods.agent.authenticate, ({ params }) => {
    if (params.methodId !== "maker-api-key") throw RequestError.authRequired();
    loggedIn = true;
    return {};
  })
  .onRequest(methods.agent.session.load, async ({ params, client }) => {
    for (const line of recall(params.sessionId))
      await client.notify(methods.client.session.update, {
        sessionId: params.sessionId,
        update: { sessionUpdate: "agent_message_chunk", content: text(`replayed ${line}`) },
      });
    return offer();
  })
  .onRequest(methods.agent.session.resume, ({ params }) => {
    recall(params.sessionId);
    return offer();
  })
  .onRequest(methods.agent.session.setConfigOption, ({ params }) => {
    chosen[params.configId] = params.value;
    return offer();
  })
  .onRequest(methods.agent.session.setMode, ({ params }) => {
    chosen.mode = params.modeId;
    return {};
  })
  .onRequest(
    "_session/steering",
    (params) => params,
    ({ params }) => {
      steered.push(params.prompt[0].text);
      return { outcome: "injected" };
    },
  )
  .onRequest(methods.agent.session.new, ({ params }) => {
    if (!loggedIn) throw RequestError.authRequired();
    if (params.mcpServers.length > 0) appendFileSync("mcp.json", JSON.stringify(params.mcpServers));
    return { sessionId: "s1", ...offer() };
  })
  .onNotification(methods.agent.session.cancel, () => {
    cancelled = true;
  })
  .onRequest(methods.agent.session.prompt, async ({ params, client }) => {
    cancelled = false;
    asked += 1;
    const prompt = params.prompt.map((block) => block.text).join("\n");
    appendFileSync(`${cwd}/../prompts.txt`, `--- ${asked}\n${prompt}\n`);
    if (can("load") || can("resume")) {
      mkdirSync(join(memory, ".."), { recursive: true });
      appendFileSync(memory, `${prompt.split("\n")[0]}\n`);
    }
    const act = acts(client, params.sessionId);
    const [script = ""] = prompt.split("\n\n");
    if (asked > 1 && prompt.includes("checks do not pass")) await act.write("a.txt=fixed");
    for (const line of script.split("\n")) {
      const [, name = "", rest = ""] = /^(\w+) ?(.*)$/.exec(line) ?? [];
      if (cancelled) return { stopReason: "cancelled" };
      if (name === "stop" && asked < 3) return { stopReason: rest };
      if (Object.hasOwn(act, name)) await act[name](rest);
    }
    return { stopReason: cancelled ? "cancelled" : "end_turn" };
  })
  .connect(ndJsonStream(Writable.toWeb(process.stdout), Readable.toWeb(process.stdin)));
