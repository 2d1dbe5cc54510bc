/**
 * Shows what an agent program says and does: its updates become the task's events. Nothing that it
 * sends is trusted to be whole or short.
 */
import type { SessionUpdate, ToolCallContent, ToolCallUpdate } from "@agentclientprotocol/sdk";
import { truncate } from "../../lib/text.ts";
import { stripHidden } from "../../lib/hidden-characters.ts";
import type { AgentContext } from "../agent.ts";

/** A message is told when it is so long, characters. */
const MESSAGE_LIMIT = 32 * 1024;
const DELTA_LIMIT = 16_000;
const OUTPUT_LIMIT = 16 * 1024;
const OPEN_CALLS = 200;

type Shown = "text" | "thinking";

interface Call {
  readonly id: string;
  readonly begun: number;
  /** `tool.started` was told. */
  shown: boolean;
  name: string | null;
  title: string | null;
  input: unknown;
  paths: readonly string[];
  output: string;
}

export class AcpEventMapper {
  readonly #context: AgentContext;
  readonly #calls = new Map<string, Call>();
  #open: { readonly id: string; readonly kind: Shown; readonly source: string | null; text: string } | null = null;
  #said = "";
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
        return this.#piece(
          "thinking",
          update.messageId ?? null,
          update.content.type === "text" ? update.content.text : "",
        );
      case "tool_call":
      case "tool_call_update":
        return this.#call(update);
      case "plan":
        this.#context.emit("todo", {
          items: update.entries.slice(0, 200).map(({ content, status }) => ({ text: content, status })),
        });
        return;
      case "usage_update":
        return this.#cost(update.cost ?? null);
      case "compaction_update":
        return this.notice("info", "acp_compaction", "The agent sums up its conversation to make room.");
      case "notice":
        return this.notice("info", "acp_notice", truncate(JSON.stringify(update), 2_000));
      case "session_info_update":
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
    if (
      this.#open !== null &&
      (this.#open.kind !== kind || this.#open.source !== source || this.#open.text.length > MESSAGE_LIMIT)
    )
      this.#flush();
    this.#open ??= { id: this.#context.newId("msg"), kind, source, text: "" };
    const kept = stripHidden(truncate(text, MESSAGE_LIMIT)).text;
    this.#open.text += kept;
    if (kind === "text")
      for (let at = 0; at < kept.length; at += DELTA_LIMIT)
        this.#context.delta(this.#open.id, kept.slice(at, at + DELTA_LIMIT));
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
    const call = this.#calls.get(update.toolCallId) ?? this.#openCall(update.toolCallId);
    if (call === null) return;
    if (update.title) call.title = update.title;
    call.name = update.name ?? call.name ?? update.kind ?? null;
    if (!isEmpty(update.rawInput)) call.input = update.rawInput;
    if (update.locations?.length) call.paths = update.locations.map(({ path }) => path);
    call.output = outputOf(update) || call.output;
    const over = update.status === "completed" || update.status === "failed";
    // Some programs announce a call first and say afterwards what it is.
    if (call.input !== null || over || update.status === "in_progress") this.#start(call);
    if (!over) return;
    this.#calls.delete(update.toolCallId);
    this.#finish(call, call.output, update.status === "completed" ? 0 : 1);
  }

  #openCall(key: string): Call | null {
    if (this.#calls.size >= OPEN_CALLS) return null;
    const id = this.#context.newId("tool");
    const call: Call = {
      id,
      begun: performance.now(),
      shown: false,
      name: null,
      title: null,
      input: null,
      paths: [],
      output: "",
    };
    this.#calls.set(key, call);
    return call;
  }

  #start(call: Call): void {
    if (call.shown) return;
    call.shown = true;
    const { id, title, input, paths } = call;
    const given =
      typeof input === "object" && input !== null && !Array.isArray(input)
        ? { ...input }
        : input === null
          ? {}
          : { input };
    const more = { ...(title === null ? {} : { title }), ...(paths.length === 0 ? {} : { paths }) };
    this.#context.emit("tool.started", { id, name: nameOf(call), input: { ...more, ...given } });
  }

  #finish(call: Call, output: string, exitCode: number | null): void {
    this.#start(call);
    this.#worked = true;
    const { id, begun } = call;
    const kept = truncate(stripHidden(output).text, OUTPUT_LIMIT);
    this.#context.emit("tool.finished", {
      id,
      name: nameOf(call),
      output: kept,
      exitCode,
      ms: Math.round(performance.now() - begun),
      truncated: kept.length < output.length,
    });
  }

  /**
   * Where our gateway serves the model it counts; elsewhere the program's own word is all there is.
   */
  #cost(cost: { readonly amount: number; readonly currency: string } | null): void {
    if (this.#context.model !== null || cost === null || cost.currency !== "USD" || !(cost.amount > this.#usd)) return;
    const usd = cost.amount - this.#usd;
    this.#usd = cost.amount;
    this.#context.emit("usage", {
      inputTokens: 0,
      outputTokens: 0,
      cacheReadTokens: 0,
      cacheWriteTokens: 0,
      usd,
      turns: 0,
    });
  }
}

const nameOf = ({ name }: Call): string => stripHidden(name ?? "tool").text;

function isEmpty(input: unknown): boolean {
  return input === undefined || input === null || (typeof input === "object" && Object.keys(input).length === 0);
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
