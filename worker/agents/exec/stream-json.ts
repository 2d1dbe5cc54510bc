/**
 * Reads the lines of JSON that `claude -p --output-format stream-json --verbose` writes. Lines that
 * are no such JSON are plain text, and lines of unknown types are left out.
 */
import type { ToolCallContent } from "@agentclientprotocol/sdk";
import { z } from "zod";
import { truncate } from "../../lib/text.ts";
import type { AcpEventMapper } from "../programs/event-mapper.ts";
import { TextReader, type OutputReader } from "./output.ts";

const blockSchema = z.discriminatedUnion("type", [
  z.object({ type: z.literal("text"), text: z.string() }),
  z.object({ type: z.literal("thinking"), thinking: z.string() }),
  z.object({
    type: z.literal("tool_use"),
    id: z.string(),
    name: z.string(),
    input: z.record(z.string(), z.unknown()),
  }),
  z.object({
    type: z.literal("tool_result"),
    tool_use_id: z.string(),
    is_error: z.boolean().nullish(),
    content: z
      .union([z.string(), z.array(z.looseObject({ type: z.string(), text: z.string().optional() }))])
      .optional(),
  }),
]);
type Block = z.infer<typeof blockSchema>;
/** Blocks of other types are left out. */
const blocks = z
  .union([z.string().transform((text) => [{ type: "text", text }]), z.array(z.unknown())])
  .transform((all: readonly unknown[]) =>
    all.flatMap((block): Block[] => {
      const parsed = blockSchema.safeParse(block);
      return parsed.success ? [parsed.data] : [];
    }),
  );

const lineSchema = z.discriminatedUnion("type", [
  z.object({
    type: z.enum(["assistant", "user"]),
    message: z.object({ content: blocks }),
    /** The call of a sub-agent that it belongs to. */
    parent_tool_use_id: z.string().nullish(),
  }),
  z.object({
    type: z.literal("result"),
    subtype: z.string().optional(),
    is_error: z.boolean().optional(),
    result: z.string().optional(),
    total_cost_usd: z.number().optional(),
  }),
]);
type Line = z.infer<typeof lineSchema>;

const todosSchema = z.object({
  todos: z.array(z.object({ content: z.string(), status: z.enum(["pending", "in_progress", "completed"]) })),
});

const TITLE_LIMIT = 200;
const FAILURE_LIMIT = 2_000;

export class StreamJsonReader implements OutputReader {
  readonly #events: AcpEventMapper;
  readonly #text: TextReader;
  #failure: string | null = null;
  #usd = 0;
  /** Of assistant messages, to keep them apart. */
  #messages = 0;

  constructor(events: AcpEventMapper) {
    this.#events = events;
    this.#text = new TextReader(events);
  }

  get tail(): string {
    return this.#text.tail;
  }

  get failure(): string | null {
    return this.#failure;
  }

  get usd(): number {
    return this.#usd;
  }

  line(text: string): void {
    const json = parseJson(text);
    if (json === undefined) return text.trim() === "" ? undefined : this.#text.line(text);
    const parsed = lineSchema.safeParse(json);
    if (parsed.success) this.#read(parsed.data);
  }

  end(): void {
    this.#text.end();
  }

  #read(line: Line): void {
    if (line.type === "result") {
      this.#usd = line.total_cost_usd ?? this.#usd;
      const failed = line.is_error === true || (line.subtype ?? "success") !== "success";
      this.#failure = failed ? truncate(line.result ?? line.subtype ?? "no reason", FAILURE_LIMIT) : null;
      return;
    }
    this.#messages += 1;
    for (const block of line.message.content) this.#readBlock(block, line);
  }

  #readBlock(block: Block, line: Exclude<Line, { type: "result" }>): void {
    // A sub-agent's words, and the prompts that the program sends itself, are no messages.
    const isOwn = line.type === "assistant" && (line.parent_tool_use_id ?? null) === null;
    const messageId = String(this.#messages);
    if (block.type === "text" && isOwn)
      this.#events.update({
        sessionUpdate: "agent_message_chunk",
        messageId,
        content: { type: "text", text: block.text },
      });
    if (block.type === "thinking" && isOwn)
      this.#events.update({
        sessionUpdate: "agent_thought_chunk",
        messageId,
        content: { type: "text", text: block.thinking },
      });
    if (block.type === "tool_use") this.#startCall(block);
    if (block.type === "tool_result")
      this.#events.update({
        sessionUpdate: "tool_call_update",
        toolCallId: block.tool_use_id,
        status: block.is_error === true ? "failed" : "completed",
        content: toContent(block.content),
      });
  }

  #startCall({ id, name, input }: Extract<Block, { type: "tool_use" }>): void {
    const todos = name === "TodoWrite" ? todosSchema.safeParse(input) : null;
    if (todos?.success === true)
      this.#events.update({
        sessionUpdate: "plan",
        entries: todos.data.todos.map((todo) => ({ ...todo, priority: "medium" })),
      });
    this.#events.update({
      sessionUpdate: "tool_call",
      toolCallId: id,
      name,
      title: describeInput(name, input),
      status: "in_progress",
      rawInput: input,
    });
  }
}

function parseJson(line: string): unknown {
  if (!line.startsWith("{")) return undefined;
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** What the call is about: the input's own description, or its first text. */
function describeInput(name: string, input: Readonly<Record<string, unknown>>): string {
  const texts = ["command", "file_path", "pattern", "description"].map((key) => input[key]);
  const text = [...texts, ...Object.values(input)].find((value) => typeof value === "string" && value.trim() !== "");
  return truncate(String(text ?? name).split("\n", 1)[0] ?? "", TITLE_LIMIT);
}

function toContent(content: Extract<Block, { type: "tool_result" }>["content"]): ToolCallContent[] {
  const parts = typeof content === "string" ? [content] : (content ?? []).map(({ type, text }) => text ?? `[${type}]`);
  return parts.map((text) => ({ type: "content", content: { type: "text", text } }));
}
