/**
 * Replaces a conversation that has become long by a summary, in one record of the transcript.
 *
 * The provider's own summary is preferred: it is signed and covers everything. Without one, the
 * model writes a summary in a turn without tools. When the conversation is too long even for that
 * request, the end of the work is sent as a plain-text log and the model summarizes the log.
 */
import { truncate, truncateStart } from "../../../lib/text.ts";
import { AgentFailure, type AgentContext } from "../../agent.ts";
import type { Answer, ModelCaller } from "../model/call.ts";
import type { ModelClient } from "../model/client.ts";
import type { Conversation, Message } from "./conversation.ts";
import type { ConversationLog } from "./conversation-log.ts";
import { needsBeta, createRequest, type Params } from "../model/request.ts";
import type { Begin, Block } from "./records.ts";
import type { LoopSettings } from "../settings.ts";
import { LOG_OF_WORK, SUM_UP, SUMMED_UP } from "../messages.ts";

/** Characters of the plain-text log, and of each of its entries. */
const LOG_LIMIT = 200_000;
const ENTRY_LIMIT = 4_000;

export interface LoopParts {
  readonly context: AgentContext;
  readonly log: ConversationLog;
  readonly client: ModelClient;
  readonly caller: ModelCaller;
  readonly settings: LoopSettings;
}

/**
 * @returns `budget` when the budget does not allow the request. @throws AgentFailure when no
 * summary can be made.
 */
export async function compact(parts: LoopParts, begin: Begin): Promise<"done" | "budget"> {
  const { context, log, settings } = parts;
  const { conversation } = log;
  const todo = conversation.todo === null ? null : JSON.stringify(conversation.todo);
  const tokens = conversation.tokens;
  const first = firstText(conversation, begin);
  if (settings.compaction === "provider") {
    const block = await requestProviderSummary(parts, begin);
    if (block === "budget") return "budget";
    if (block !== null) {
      await log.append({ kind: "compacted", block, text: SUMMED_UP(first, null, todo) });
      reportCompaction(context, tokens);
      return "done";
    }
  }
  const summary = await requestSummaryTurn(parts, begin);
  if (summary === "budget") return "budget";
  await log.append({ kind: "compacted", block: null, text: SUMMED_UP(first, summary.text, todo) });
  reportCompaction(context, tokens);
  return "done";
}

function reportCompaction(context: AgentContext, tokens: number): void {
  const size = tokens === 0 ? "" : ` of ${tokens.toLocaleString("en")} tokens`;
  context.emit("notice", {
    level: "info",
    code: "compacted",
    text: `The conversation${size} was replaced by a summary; the work goes on.`,
  });
}

/** The first text after a summary: the task, and the notes that hold now. */
const firstText = ({ notes }: Conversation, { text }: Begin): string => [text, ...notes].join("\n\n");

/** The provider's signed summary; null when it returns none. */
async function requestProviderSummary(
  { context, log, client, caller }: LoopParts,
  begin: Begin,
): Promise<Block | "budget" | null> {
  const params = createRequest(begin, log.conversation.messages(), context.spec.taskId);
  const outcome = await caller.attempt((signal) => client.compact(params, SUM_UP, signal));
  if (outcome.kind === "budget") return "budget";
  if (outcome.kind !== "answer") return null;
  const block = outcome.answer.content.find(({ type }) => type === "compaction");
  return block === undefined || typeof block["content"] !== "string" ? null : block;
}

async function requestSummaryTurn(
  { context, log, client, caller }: LoopParts,
  begin: Begin,
): Promise<{ text: string } | "budget"> {
  const messages = log.conversation.messages();
  const request = async (asked: readonly Message[]): Promise<Answer | "too_long" | "budget"> => {
    const params: Params = { ...createRequest(begin, asked, context.spec.taskId), tool_choice: { type: "none" } };
    const outcome = await caller.call((signal) =>
      client.stream(params, needsBeta(asked) ? "compact" : "plain", signal),
    );
    return outcome.kind === "answer" ? outcome.answer : outcome.kind;
  };
  let answer = await request(withText(messages, SUM_UP));
  if (answer === "too_long" || (answer !== "budget" && readText(answer.content) === "")) {
    const text = LOG_OF_WORK(firstText(log.conversation, begin), formatLog(messages));
    answer = await request([{ role: "user", content: [{ type: "text", text }] }]);
  }
  if (answer === "budget") return "budget";
  const text = answer === "too_long" ? "" : readText(answer.content);
  if (text === "")
    throw new AgentFailure(
      "agent_error",
      "The conversation does not fit into the model's window and could not be summarized.",
    );
  return { text };
}

/** Appends the text to the last user message, or as a new one. */
function withText(messages: readonly Message[], text: string): Message[] {
  const last = messages.at(-1);
  const block = { type: "text", text };
  if (last?.role !== "user") return [...messages, { role: "user", content: [block] }];
  return [...messages.slice(0, -1), { role: "user", content: [...last.content, block] }];
}

const readText = (content: readonly Block[]): string =>
  content
    .flatMap(({ type, text }) => (type === "text" && typeof text === "string" ? [text] : []))
    .join("\n\n")
    .trim();

/** The end of the conversation as plain text. */
function formatLog(messages: readonly Message[]): string {
  const entries = messages.flatMap(({ role, content }) =>
    content.flatMap((block) => {
      const text = formatBlock(block);
      return text === "" ? [] : [`${role} (${block.type}): ${truncate(text, ENTRY_LIMIT)}`];
    }),
  );
  return truncateStart(entries.join("\n\n"), LOG_LIMIT);
}

function formatBlock(block: Block): string {
  const { type, text, name, input, content } = block as Record<string, unknown>;
  if (type === "tool_use") return `${String(name)} ${JSON.stringify(input)}`;
  if (type === "tool_result") return String(content);
  return typeof text === "string" ? text : "";
}
