/**
 * A real agent program that speaks the Agent Client Protocol. Each line of the prompt is one
 * action; it works on real files.
 */
import { spawn } from "node:child_process";
import { writeFileSync, appendFileSync } from "node:fs";
import { once } from "node:events";
import { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { agent, methods, ndJsonStream } from "@agentclientprotocol/sdk";

let cancelled = false;
let asked = 0;
let stubborn = false;
const cwd = process.cwd();
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
    protocolVersion: process.argv[2] === "old" ? 7 : 1,
    agentCapabilities: { loadSession: false },
  }))
  .onRequest(methods.agent.session.new, ({ params }) => {
    if (params.mcpServers.length > 0) appendFileSync("mcp.json", JSON.stringify(params.mcpServers));
    return { sessionId: "s1" };
  })
  .onNotification(methods.agent.session.cancel, () => {
    cancelled = true;
  })
  .onRequest(methods.agent.session.prompt, async ({ params, client }) => {
    cancelled = false;
    asked += 1;
    const prompt = params.prompt.map((block) => block.text).join("\n");
    appendFileSync(`${cwd}/../prompts.txt`, `--- ${asked}\n${prompt}\n`);
    const can = acts(client, params.sessionId);
    const [script = ""] = prompt.split("\n\n");
    if (asked > 1 && prompt.includes("checks do not pass")) await can.write("a.txt=fixed");
    for (const line of script.split("\n")) {
      const [, name = "", rest = ""] = /^(\w+) ?(.*)$/.exec(line) ?? [];
      if (cancelled) return { stopReason: "cancelled" };
      if (name === "stop" && asked < 3) return { stopReason: rest };
      if (Object.hasOwn(can, name)) await can[name](rest);
    }
    return { stopReason: cancelled ? "cancelled" : "end_turn" };
  })
  .connect(ndJsonStream(Writable.toWeb(process.stdout), Readable.toWeb(process.stdin)));
