/** Shows what an agent program says and does: its updates become the task's events. Nothing that it sends is trusted to be whole or short. */
import type { SessionUpdate, ToolCallContent, ToolCallUpdate } from "@agentclientprotocol/sdk";
import { cut } from "../../text.ts";
import { stripHidden } from "../../tools/hidden.ts";
import type { AgentContext } from "../agent.ts";

/** A message is told when it is so long, characters. */
const MESSAGE_LIMIT = 32 * 1024;
const DELTA_LIMIT = 16_000;
const OUTPUT_LIMIT = 16 * 1024;
const OPEN_CALLS = 200;

type Shown = "text" | "thinking";

interface Call {
  readonly id: string;
  readonly name: string;
  readonly begun: number;
  output: string;
}

export class Screen {
  readonly #context: AgentContext;
  readonly #calls = new Map<string, Call>();
  #open: { readonly id: string; readonly kind: Shown; readonly source: string | null; text: string } | null = null;
  #said = "";
  #title: string | null = null;
  #usd = 0;
  /** Tools have ended since it was asked. */
  #worked = false;

  constructor(context: AgentContext) {
    this.#context = context;
  }

  /** The last whole message: what the agent says about its work. */
  get said(): string {
    return this.#said;
  }

  /** The program's own title of the session. */
  get title(): string | null {
    return this.#title;
  }

  /** Whether a tool has ended since the last call of this. */
  takeWorked(): boolean {
    const worked = this.#worked;
    this.#worked = false;
    return worked;
  }

  update(update: SessionUpdate): void {
    switch (update.sessionUpdate) {
      case "agent_message_chunk":
        return this.#piece(
          "text",
          update.messageId ?? null,
          update.content.type === "text" ? update.content.text : `[${update.content.type}]`,
        );
      case "agent_thought_chunk":
        return this.#piece("thinking", update.messageId ?? null, update.content.type === "text" ? update.content.text : "");
      case "tool_call":
      case "tool_call_update":
        return this.#call(update);
      case "plan":
        this.#context.emit("todo", { items: update.entries.slice(0, 200).map(({ content, status }) => ({ text: content, status })) });
        return;
      case "usage_update":
        return this.#cost(update.cost ?? null);
      case "session_info_update":
        if (typeof update.title === "string") this.#title = update.title;
        return;
      case "compaction_update":
        return this.notice("info", "acp_compaction", "The agent sums up its conversation to make room.");
      case "notice":
        return this.notice("info", "acp_notice", cut(JSON.stringify(update), 2_000));
      case "user_message_chunk":
      case "available_commands_update":
      case "current_mode_update":
      case "config_option_update":
      case "compaction_summary_chunk":
        return;
    }
  }

  notice(level: "info" | "warning", code: string, text: string): void {
    this.#context.emit("notice", { level, code, text: stripHidden(text).text });
  }

  /** The turn is over: what is open is told. */
  endOfTurn(): void {
    this.#flush();
    for (const call of this.#calls.values()) this.#finish(call, "[no end was told]", null);
    this.#calls.clear();
  }

  #piece(kind: Shown, source: string | null, text: string): void {
    if (text === "") return;
    if (this.#open !== null && (this.#open.kind !== kind || this.#open.source !== source || this.#open.text.length > MESSAGE_LIMIT))
      this.#flush();
    this.#open ??= { id: this.#context.newId("msg"), kind, source, text: "" };
    const kept = stripHidden(cut(text, MESSAGE_LIMIT)).text;
    this.#open.text += kept;
    if (kind === "text")
      for (let at = 0; at < kept.length; at += DELTA_LIMIT) this.#context.delta(this.#open.id, kept.slice(at, at + DELTA_LIMIT));
  }

  #flush(): void {
    if (this.#open === null) return;
    const { id, kind, text } = this.#open;
    this.#open = null;
    if (text.trim() === "") return;
    if (kind === "text") this.#said = text.trim();
    this.#context.emit("message", { id, role: "assistant", content: [{ type: kind, text }] });
  }

  #call(update: ToolCallUpdate): void {
    this.#flush();
    const known = this.#calls.get(update.toolCallId);
    const call = known ?? this.#start(update);
    if (call === null) return;
    call.output = outputOf(update) || call.output;
    if (update.status !== "completed" && update.status !== "failed") return;
    this.#calls.delete(update.toolCallId);
    this.#finish(call, call.output, update.status === "completed" ? 0 : 1);
  }

  #start(update: ToolCallUpdate): Call | null {
    if (this.#calls.size >= OPEN_CALLS) return null;
    const name = stripHidden(update.name ?? update.kind ?? "tool").text;
    const call: Call = { id: this.#context.newId("tool"), name, begun: performance.now(), output: "" };
    this.#calls.set(update.toolCallId, call);
    const { rawInput, title, locations } = update;
    const input = typeof rawInput === "object" && rawInput !== null ? { ...rawInput } : { input: rawInput ?? null };
    this.#context.emit("tool.started", {
      id: call.id,
      name,
      input: { title: title ?? name, ...input, ...(locations?.length ? { paths: locations.map(({ path }) => path) } : {}) },
    });
    return call;
  }

  #finish({ id, name, begun }: Call, output: string, exitCode: number | null): void {
    this.#worked = true;
    const kept = cut(stripHidden(output).text, OUTPUT_LIMIT);
    this.#context.emit("tool.finished", {
      id,
      name,
      output: kept,
      exitCode,
      ms: Math.round(performance.now() - begun),
      truncated: kept.length < output.length,
    });
  }

  /** Where our gateway serves the model it counts; elsewhere the program's own word is all there is. */
  #cost(cost: { readonly amount: number; readonly currency: string } | null): void {
    if (this.#context.model !== null || cost === null || cost.currency !== "USD" || !(cost.amount > this.#usd)) return;
    const usd = cost.amount - this.#usd;
    this.#usd = cost.amount;
    this.#context.emit("usage", { inputTokens: 0, outputTokens: 0, cacheReadTokens: 0, cacheWriteTokens: 0, usd, turns: 0 });
  }
}

function outputOf({ content, rawOutput }: ToolCallUpdate): string {
  const parts = (content ?? []).map((part: ToolCallContent) => {
    if (part.type === "diff") return `[changed ${part.path}]`;
    if (part.type === "terminal") return "";
    return part.content.type === "text" ? part.content.text : `[${part.content.type}]`;
  });
  const text = parts.filter((part) => part !== "").join("\n");
  if (text !== "" || rawOutput === undefined || rawOutput === null) return text;
  return typeof rawOutput === "string" ? rawOutput : JSON.stringify(rawOutput);
}
