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
import { withoutBlanks, type Conversation, type ConversationLog, type Message } from "./conversation.ts";
import { createRequest, createShowPicture } from "../model/request.ts";
import { toPictures, type Begin, type Block } from "./records.ts";
import type { LoopSettings } from "../settings.ts";
import { LOG_OF_WORK, NO_TOOLS_NOW, SUM_UP, SUMMED_UP, WORK_SO_FAR } from "../messages.ts";

/** Characters of the plain-text log, of that of earlier work, and of each of their entries. */
const LOG_LIMIT = 200_000;
const EARLIER_LOG_LIMIT = 30_000;
const ENTRY_LIMIT = 4_000;
/** Pictures that are shown again after a summary, the newest. */
const KEPT_PICTURES = 8;

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
  const { tokens, unsentTexts } = conversation;
  const first = firstText(conversation, begin);
  // A summary in words does not replace what people showed.
  const kept = toPictures(conversation.pictures.slice(-KEPT_PICTURES));
  // The provider's summary is of the whole conversation, with what was left out and is not cached.
  if (settings.compaction === "provider" && conversation.cleared === 0) {
    const block = await requestProviderSummary(parts, begin);
    if (block === "budget") return "budget";
    if (block !== null) {
      await log.append({ kind: "compacted", block, text: SUMMED_UP(first, null, todo, unsentTexts), ...kept });
      reportCompaction(context, tokens);
      return "done";
    }
  }
  const summary = await requestSummaryTurn(parts, begin);
  if (summary === "budget") return "budget";
  await log.append({
    kind: "compacted",
    block: null,
    text: SUMMED_UP(first, summary.text, todo, unsentTexts),
    ...kept,
  });
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

/** The task at the start of a first message; the facts about the checkout follow it. */
const FIRST_TASK = /^<task>\n[\s\S]*?\n<\/task>\n\n(?=Today is )/;

/** The first text after a summary: the task that is current, and the notes that hold now. */
function firstText({ task, notes }: Conversation, { text }: Begin): string {
  const first = task === text ? [text] : [text.replace(FIRST_TASK, ""), task];
  return [...first, ...notes].join("\n\n");
}

/** The provider's signed summary; null when it returns none. */
async function requestProviderSummary(
  { context, log, client, caller }: LoopParts,
  begin: Begin,
): Promise<Block | "budget" | null> {
  const params = createRequest(begin, log.conversation.messages(), {
    taskId: context.spec.taskId,
    marks: "read",
    show: createShowPicture(context, log.conversation),
  });
  const outcome = await caller.attempt((signal) => client.compact(params, SUM_UP, signal), { what: "The summary" });
  if (outcome.kind === "budget") return "budget";
  if (outcome.kind !== "answer") return null;
  const block = outcome.answer.content.find(({ type }) => type === "compaction");
  return block === undefined || typeof block["content"] !== "string" ? null : block;
}

/**
 * The request differs from an ordinary one only in its last text: another `tool_choice` would
 * invalidate the cache of all messages. A model that calls a tool nevertheless is refused once.
 */
async function requestSummaryTurn(
  { context, log, client, caller }: LoopParts,
  begin: Begin,
): Promise<{ text: string } | "budget"> {
  const messages = log.conversation.messages();
  const request = async (asked: readonly Message[]): Promise<Answer | "unusable" | "budget"> => {
    const params = createRequest(begin, asked, {
      taskId: context.spec.taskId,
      marks: "read",
      cleared: log.conversation.cleared,
      show: createShowPicture(context, log.conversation),
    });
    const outcome = await caller.attempt((signal) => client.stream(params, signal), { what: "The summary" });
    if (outcome.kind === "fatal" && !outcome.isInvalid) throw new AgentFailure(outcome.code, outcome.why);
    if (outcome.kind === "budget") return "budget";
    return outcome.kind === "answer" ? outcome.answer : "unusable";
  };
  const asked = withText(messages, SUM_UP);
  let answer = await request(asked);
  if (isAnswer(answer) && readText(answer.content) === "" && answer.stop_reason === "tool_use")
    answer = await request([...asked, ...refuseCalls(answer)]);
  if (answer === "unusable" || (isAnswer(answer) && readText(answer.content) === "")) {
    const text = LOG_OF_WORK(firstText(log.conversation, begin), formatLog(messages, LOG_LIMIT));
    answer = await request([{ role: "user", content: [{ type: "text", text }] }]);
  }
  if (answer === "budget") return "budget";
  const text = isAnswer(answer) ? readText(answer.content) : "";
  if (text === "")
    throw new AgentFailure(
      "agent_error",
      "The conversation does not fit into the model's window and could not be summarized.",
    );
  return { text };
}

const isAnswer = (value: Answer | string): value is Answer => typeof value !== "string";

function refuseCalls({ content }: Answer): Message[] {
  const calls = content.filter(({ type }) => type === "tool_use");
  const results = calls.map(({ id }) => ({
    type: "tool_result",
    tool_use_id: id,
    content: NO_TOOLS_NOW,
    is_error: true,
  }));
  return [
    { role: "assistant", content: withoutBlanks(content) },
    { role: "user", content: [...results, { type: "text", text: SUM_UP }] },
  ];
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

/** What a new conversation must know of the one that it replaces. */
export async function describeWork(context: AgentContext, { conversation }: ConversationLog): Promise<string> {
  return WORK_SO_FAR(
    conversation.people,
    formatLog(conversation.messages(), EARLIER_LOG_LIMIT),
    await context.changes(),
  );
}

/** The end of the conversation as plain text. @param limit characters. */
function formatLog(messages: readonly Message[], limit: number): string {
  const entries = messages.flatMap(({ role, content }) =>
    content.flatMap((block) => {
      const text = formatBlock(block);
      return text === "" ? [] : [`${role} (${block.type}): ${truncate(text, ENTRY_LIMIT)}`];
    }),
  );
  return truncateStart(entries.join("\n\n"), limit);
}

function formatBlock(block: Block): string {
  const { type, text, name, input, content } = block as Record<string, unknown>;
  if (type === "tool_use") return `${String(name)} ${JSON.stringify(input)}`;
  if (type === "tool_result") return String(content);
  return typeof text === "string" ? text : "";
}
