/**
 * A conversation that has become long is replaced by a summary, in one line of the transcript.
 *
 * The provider's own summary where it can: it is signed and stands for all that was said. Else a
 * turn of our own without tools. When even that is too long to be asked for, the end of the work is
 * told as plain text, and that is summed up.
 */
import { truncate, truncateStart } from "../../../lib/text.ts";
import { AgentFailure, type AgentContext } from "../../agent.ts";
import type { Answer, ModelCaller } from "../model/call.ts";
import type { ModelClient } from "../model/client.ts";
import type { Conversation, Message } from "./conversation.ts";
import type { ConversationLog } from "./memory.ts";
import { needsBeta, createRequest, type Params } from "../model/request.ts";
import type { Begin, Block } from "./records.ts";
import type { LoopSettings } from "../settings.ts";
import { LOG_OF_WORK, SUM_UP, SUMMED_UP } from "../messages.ts";

const LOG_LIMIT = 200_000;
const ITEM_LIMIT = 4_000;

export interface CompactParts {
  readonly context: AgentContext;
  readonly memory: ConversationLog;
  readonly client: ModelClient;
  readonly caller: ModelCaller;
  readonly settings: LoopSettings;
}

/**
 * @returns `budget` when there is no money for it. @throws AgentFailure when there is no summary to
 * be had.
 */
export async function compact(parts: CompactParts, begin: Begin): Promise<"done" | "budget"> {
  const { context, memory, settings } = parts;
  const { view } = memory;
  const todo = view.todo === null ? null : JSON.stringify(view.todo);
  const before = view.tokens;
  const first = firstText(view, begin);
  if (settings.compaction === "provider") {
    const block = await theirs(parts, begin);
    if (block === "budget") return "budget";
    if (block !== null) {
      await memory.write({ kind: "compacted", block, text: SUMMED_UP(first, null, todo) });
      return tell(context, before);
    }
  }
  const summary = await ours(parts, begin);
  if (summary === "budget") return "budget";
  await memory.write({ kind: "compacted", block: null, text: SUMMED_UP(first, summary.text, todo) });
  return tell(context, before);
}

function tell(context: AgentContext, tokens: number): "done" {
  const size = tokens === 0 ? "" : ` of ${tokens.toLocaleString("en")} tokens`;
  context.emit("notice", {
    level: "info",
    code: "compacted",
    text: `The conversation${size} was replaced by a summary; the work goes on.`,
  });
  return "done";
}

/** What the conversation begins with after a summary: the task, and the notes that hold now. */
const firstText = ({ notes }: Conversation, { text }: Begin): string => [text, ...notes].join("\n\n");

/** The provider's signed summary; null when it gives none. */
async function theirs(
  { context, memory, client, caller }: CompactParts,
  begin: Begin,
): Promise<Block | "budget" | null> {
  const params = createRequest(begin, memory.view.messages(), context.spec.taskId);
  const outcome = await caller.attempt((signal) => client.compact(params, SUM_UP, signal));
  if (outcome.kind === "budget") return "budget";
  if (outcome.kind !== "answer") return null;
  const block = outcome.answer.content.find(({ type }) => type === "compaction");
  return block === undefined || typeof block["content"] !== "string" ? null : block;
}

async function ours(
  { context, memory, client, caller }: CompactParts,
  begin: Begin,
): Promise<{ text: string } | "budget"> {
  const messages = memory.view.messages();
  const ask = async (asked: readonly Message[]): Promise<Answer | "too_long" | "budget"> => {
    const params: Params = { ...createRequest(begin, asked, context.spec.taskId), tool_choice: { type: "none" } };
    const outcome = await caller.call((signal) =>
      client.stream(params, needsBeta(asked) ? "compact" : "plain", signal),
    );
    return outcome.kind === "answer" ? outcome.answer : outcome.kind;
  };
  let answer = await ask(withText(messages, SUM_UP));
  if (answer === "too_long" || (answer !== "budget" && textOf(answer.content) === ""))
    answer = await ask([
      { role: "user", content: [{ type: "text", text: LOG_OF_WORK(firstText(memory.view, begin), logOf(messages)) }] },
    ]);
  if (answer === "budget") return "budget";
  const text = answer === "too_long" ? "" : textOf(answer.content);
  if (text === "")
    throw new AgentFailure(
      "agent_error",
      "The conversation does not fit into the model's window and could not be summed up.",
    );
  return { text };
}

/** The request's last message is ours: the text joins it. */
function withText(messages: readonly Message[], text: string): Message[] {
  const last = messages.at(-1);
  const block = { type: "text", text };
  if (last?.role !== "user") return [...messages, { role: "user", content: [block] }];
  return [...messages.slice(0, -1), { role: "user", content: [...last.content, block] }];
}

const textOf = (content: readonly Block[]): string =>
  content
    .flatMap(({ type, text }) => (type === "text" && typeof text === "string" ? [text] : []))
    .join("\n\n")
    .trim();

function logOf(messages: readonly Message[]): string {
  const lines = messages.flatMap(({ role, content }) =>
    content.flatMap((block) => {
      const { text, input, name, content: output, type } = block as Record<string, unknown>;
      const words =
        type === "tool_use"
          ? `${String(name)} ${JSON.stringify(input)}`
          : type === "tool_result"
            ? String(output)
            : typeof text === "string"
              ? text
              : "";
      return words === "" ? [] : [`${role} (${String(type)}): ${truncate(words, ITEM_LIMIT)}`];
    }),
  );
  return truncateStart(lines.join("\n\n"), LOG_LIMIT);
}
