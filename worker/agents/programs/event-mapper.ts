/**
 * Maps the updates of an agent program to the task's events. Updates may be incomplete or of any
 * size, so all of them are checked and bounded.
 */
import type { SessionUpdate, ToolCallContent, ToolCallUpdate } from "@agentclientprotocol/sdk";
import type { StreamRedactor } from "../../../src/core/lib/json/redaction.ts";
import { truncate } from "../../lib/text.ts";
import { stripHidden } from "../../lib/hidden-characters.ts";
import type { AgentContext } from "../agent.ts";
import type { ProgramConversation } from "./conversation.ts";

/** Characters after which a message is emitted and a new one started. */
const MESSAGE_LIMIT = 32 * 1024;
const DELTA_LIMIT = 16_000;
const OUTPUT_LIMIT = 16 * 1024;
const MAX_OPEN_CALLS = 200;
/** The wait for the rest of a call's input, and for an input at all, ms. */
const QUIET_MS = 300;
const LATE_INPUT_MS = 1_500;

type BlockType = "text" | "thinking";

interface Call {
  readonly id: string;
  readonly startedAt: number;
  /** `tool.started` was emitted. */
  announced: boolean;
  isRunning: boolean;
  /** Until it is announced with what is known. */
  timer: NodeJS.Timeout | undefined;
  name: string | null;
  title: string | null;
  input: unknown;
  paths: readonly string[];
  output: string;
}

export class AcpEventMapper {
  readonly #context: AgentContext;
  readonly #conversation: ProgramConversation;
  readonly #calls = new Map<string, Call>();
  /** The message that chunks are added to. */
  #message: { readonly id: string; readonly type: BlockType; text: string } | null = null;
  /** Of the open message, and of the next where that is its continuation. */
  #pieces: {
    readonly type: BlockType;
    readonly source: string | null;
    readonly stream: StreamRedactor;
  } | null = null;
  #lastMessage = "";
  #turnMessage = "";
  /** The cost of the session that was reported so far. */
  #usd = 0;
  #toolEnded = false;
  #isMuted = false;

  /** @param conversation gets what the program says and does. */
  constructor(context: AgentContext, conversation: ProgramConversation) {
    this.#context = context;
    this.#conversation = conversation;
  }

  /** The text of the last complete message, which serves as the agent's summary. */
  get lastMessage(): string {
    return this.#lastMessage;
  }

  /** The text of the last complete message of this turn. */
  get turnMessage(): string {
    return this.#turnMessage;
  }

  beginTurn(): void {
    this.#turnMessage = "";
  }

  /** True when a tool has ended since the last call of this method. */
  takeToolEnded(): boolean {
    const toolEnded = this.#toolEnded;
    this.#toolEnded = false;
    return toolEnded;
  }

  /** Updates are left out while it is muted: a program repeats its conversation. */
  mute(isMuted: boolean): void {
    this.#isMuted = isMuted;
  }

  update(received: SessionUpdate): void {
    if (this.#isMuted) return;
    // A text in pieces is cleaned when they are put together.
    const update = isChunk(received) ? received : this.#context.secrets.redactValue(received);
    switch (update.sessionUpdate) {
      case "agent_message_chunk":
        if (isMakersNote(update))
          return this.notice("info", "acp_notice", update.content.type === "text" ? update.content.text : "");
        return this.#addChunk(
          "text",
          update.messageId ?? null,
          update.content.type === "text" ? update.content.text : `[${update.content.type}]`,
        );
      case "agent_thought_chunk":
        return this.#addChunk(
          "thinking",
          update.messageId ?? null,
          update.content.type === "text" ? update.content.text : "",
        );
      case "tool_call":
      case "tool_call_update":
        return this.#updateCall(update);
      case "plan":
        this.#context.emit("todo", {
          items: update.entries.slice(0, 200).map(({ content, status }) => ({ text: content, status })),
        });
        return;
      case "usage_update":
        return this.#readCost(update.cost ?? null);
      case "compaction_update":
        return this.notice(
          "info",
          "acp_compaction",
          "The agent summarizes its conversation to free space in its window.",
        );
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
    this.#context.emit("notice", { level, code, text: stripHidden(this.#context.secrets.redact(text)).text });
  }

  /** Emits the open message and ends the open calls. */
  endTurn(): void {
    this.#endMessage();
    for (const call of this.#calls.values()) this.#finishCall(call, "[no end was reported]", null);
    this.#calls.clear();
  }

  #addChunk(type: BlockType, source: string | null, text: string): void {
    if (text === "") return;
    if (this.#pieces !== null && (this.#pieces.type !== type || this.#pieces.source !== source)) this.#endMessage();
    if (this.#message !== null && this.#message.text.length > MESSAGE_LIMIT) this.flushMessage();
    this.#pieces ??= { type, source, stream: this.#context.secrets.stream() };
    this.#addText(type, truncate(this.#pieces.stream.push(stripHidden(text).text), MESSAGE_LIMIT));
  }

  #addText(type: BlockType, text: string): void {
    if (text === "") return;
    this.#message ??= { id: this.#context.newId("msg"), type, text: "" };
    this.#message.text += text;
    if (type === "text")
      for (let offset = 0; offset < text.length; offset += DELTA_LIMIT)
        this.#context.delta(this.#message.id, text.slice(offset, offset + DELTA_LIMIT));
  }

  /** Emits the open message with the end that might have been the beginning of a secret. */
  #endMessage(): void {
    const pieces = this.#pieces;
    this.#pieces = null;
    if (pieces !== null) this.#addText(pieces.type, pieces.stream.end());
    this.flushMessage();
  }

  /** Emits the open message, which may go on in the next one. */
  flushMessage(): void {
    if (this.#message === null) return;
    const { id, type, text } = this.#message;
    this.#message = null;
    if (text.trim() === "") return;
    if (type === "text") {
      this.#lastMessage = text.trim();
      this.#turnMessage = this.#lastMessage;
      this.#conversation.add("agent", text);
    }
    this.#context.emit("message", { id, role: "assistant", content: [{ type, text }] });
  }

  #updateCall(update: ToolCallUpdate): void {
    this.#endMessage();
    const call = this.#calls.get(update.toolCallId) ?? this.#openCall(update.toolCallId);
    if (call === null) return;
    // The first title of some programs is the name of the tool.
    const nameInTitle = call.title === null && /^[\w-]{1,40}$/.test(update.title ?? "") ? update.title : null;
    call.name = update.name ?? call.name ?? nameInTitle ?? update.kind ?? null;
    if (update.title) call.title = update.title;
    if (!isEmpty(update.rawInput)) call.input = update.rawInput;
    if (update.locations?.length) call.paths = update.locations.map(({ path }) => path);
    call.output = readOutput(update) || call.output;
    call.isRunning ||= update.status === "in_progress";
    const over = update.status === "completed" || update.status === "failed";
    if (!over) return this.#announceSoon(call);
    this.#calls.delete(update.toolCallId);
    this.#finishCall(call, call.output, update.status === "completed" ? 0 : 1);
  }

  /**
   * The command and the title of a call may follow its first update. A call that runs is announced
   * with what is known after a moment; one that waits is announced once its input is known.
   */
  #announceSoon(call: Call): void {
    clearTimeout(call.timer);
    if (call.announced) return;
    if (call.isRunning && call.input !== null) return this.#announceCall(call);
    if (!call.isRunning && call.input === null) return;
    call.timer = setTimeout(() => this.#announceCall(call), call.input === null ? LATE_INPUT_MS : QUIET_MS);
  }

  #openCall(key: string): Call | null {
    if (this.#calls.size >= MAX_OPEN_CALLS) return null;
    const id = this.#context.newId("tool");
    const call: Call = {
      id,
      startedAt: performance.now(),
      announced: false,
      isRunning: false,
      timer: undefined,
      name: null,
      title: null,
      input: null,
      paths: [],
      output: "",
    };
    this.#calls.set(key, call);
    return call;
  }

  #announceCall(call: Call): void {
    clearTimeout(call.timer);
    if (call.announced) return;
    call.announced = true;
    const { id, title, input, paths } = call;
    const given =
      typeof input === "object" && input !== null && !Array.isArray(input)
        ? { ...input }
        : input === null
          ? {}
          : { input };
    const more = { ...(title === null ? {} : { title }), ...(paths.length === 0 ? {} : { paths }) };
    this.#context.emit("tool.started", { id, name: readName(call), input: { ...more, ...given } });
  }

  #finishCall(call: Call, output: string, exitCode: number | null): void {
    this.#announceCall(call);
    this.#toolEnded = true;
    const { id, startedAt } = call;
    this.#conversation.add("action", describeCall(call, exitCode));
    const shortened = truncate(stripHidden(output).text, OUTPUT_LIMIT);
    this.#context.emit("tool.finished", {
      id,
      name: readName(call),
      output: shortened,
      exitCode,
      ms: Math.round(performance.now() - startedAt),
      truncated: shortened.length < output.length,
    });
  }

  /** @param cost of the whole session so far. */
  #readCost(cost: { readonly amount: number; readonly currency: string } | null): void {
    if (cost === null || cost.currency !== "USD" || !(cost.amount > this.#usd)) return;
    const usd = cost.amount - this.#usd;
    this.#usd = cost.amount;
    this.addCost(usd);
  }

  /** The program's own cost counts only where no gateway counts the usage. */
  addCost(usd: number): void {
    if (this.#context.model !== null || !(usd > 0)) return;
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

const ACTION_LIMIT = 300;

function describeCall(call: Call, exitCode: number | null): string {
  const what = call.title ?? JSON.stringify(call.input ?? {});
  const end = exitCode === null ? "no end was reported" : exitCode === 0 ? "done" : "failed";
  return stripHidden(`${truncate(`${readName(call)}: ${what}`, ACTION_LIMIT)} (${end})`).text;
}

const readName = ({ name }: Call): string => stripHidden(name ?? "tool").text;

/** The folder alone says nothing. */
function isEmpty(input: unknown): boolean {
  if (typeof input !== "object") return input === undefined;
  return input === null || Object.keys(input).every((key) => key === "cwd");
}

function isChunk({ sessionUpdate }: SessionUpdate): boolean {
  return sessionUpdate === "agent_message_chunk" || sessionUpdate === "agent_thought_chunk";
}

/** What the program's maker tells its users, such as news about billing. */
function isMakersNote({ _meta }: { readonly _meta?: Readonly<Record<string, unknown>> | null }): boolean {
  const meta = _meta?.["claudeCode"];
  return typeof meta === "object" && meta !== null && "kind" in meta && meta.kind === "informational";
}

function readOutput({ content, rawOutput }: ToolCallUpdate): string {
  const parts = (content ?? []).map((part: ToolCallContent) => {
    if (part.type === "diff") return `[changed ${part.path}]`;
    if (part.type === "terminal") return "";
    return part.content.type === "text" ? part.content.text : `[${part.content.type}]`;
  });
  const text = parts.filter((part) => part !== "").join("\n");
  if (text !== "" || rawOutput === undefined || rawOutput === null) return text;
  return typeof rawOutput === "string" ? rawOutput : JSON.stringify(rawOutput);
}
