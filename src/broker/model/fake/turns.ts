/**
 * Which turn of a scenario a request is for.
 *
 * Stored per conversation: attempts per turn (faults) and the number of turns that a compaction
 * removed.
 */
import { createHash } from "node:crypto";
import { getFault, getTurn, type Fault, type Scenario, type Turn } from "./scenario.ts";
import { getBlocks, isSummary, type FakeRequest } from "./strict.ts";

interface Conversation {
  readonly tries: Map<number, number>;
  /**
   * Assistant messages in the last request, and its first message: when that changes, older turns
   * were replaced by a summary.
   */
  answers: number;
  firstMessage: string | null;
  /** Turns that a summary replaced. */
  offset: number;
}

export class Conversations {
  readonly #byKey = new Map<string, Conversation>();

  get(key: string): Conversation {
    const known = this.#byKey.get(key) ?? { tries: new Map(), answers: 0, firstMessage: null, offset: 0 };
    this.#byKey.set(key, known);
    return known;
  }
}

export const firstText = (request: FakeRequest): string =>
  getBlocks(request.messages.find(({ role }) => role === "user") ?? { role: "user", content: "" })
    .map((block) => String(block["text"] ?? ""))
    .join("\n");

/** Identifies the conversation: `metadata.user_id`, else a digest of the first user message. */
export function getConversationKey(request: FakeRequest): string {
  return request.metadata?.user_id ?? createHash("sha256").update(firstText(request)).digest("hex").slice(0, 16);
}

interface PlannedTurn {
  readonly turn: Turn;
  readonly index: number;
  readonly fault: Fault | null;
}

/** The last words of a client that asks for a summary in an ordinary turn. */
const SUMMARY_WORDS = /is replaced by a summary, which you write now/;

/**
 * True for a request for a summary: by parameter or by words. A summary is not counted as a turn.
 */
function isSummaryRequest({ compaction, messages: [...sent] }: FakeRequest): boolean {
  const last = sent.at(-1);
  const text = last === undefined ? "" : String(getBlocks(last).at(-1)?.["text"] ?? "");
  return compaction !== undefined || SUMMARY_WORDS.test(text);
}

/** The first words of a client that asks for a review of a change. */
const REVIEWER_WORDS = /^You review one change to a git repository/;

/**
 * Reviews are not turns of the scenario. The n-th review gets the n-th answer; the last answer
 * repeats.
 */
function planReview({ reviews = [ACCEPTED] }: Scenario, log: Conversations, request: FakeRequest): PlannedTurn {
  const reviewed = log.get(`${getConversationKey(request)} review`);
  const index = reviewed.offset;
  const turn = reviews[Math.min(index, reviews.length - 1)] ?? ACCEPTED;
  const tried = reviewed.tries.get(index) ?? 0;
  reviewed.tries.set(index, tried + 1);
  const fault = getFault(turn, tried);
  if (fault === null) reviewed.offset += 1;
  return { turn, index, fault };
}

const ACCEPTED: Turn = { say: "ACCEPT\nThe change does what the task asks." };

/** The requested turn and its fault, if any; counts the attempt. */
export function planTurn(scenario: Scenario, log: Conversations, request: FakeRequest): PlannedTurn {
  if (typeof request.system === "string" && REVIEWER_WORDS.test(request.system))
    return planReview(scenario, log, request);
  const conversation = log.get(getConversationKey(request));
  const asksForSummary = isSummaryRequest(request);
  // A call that was refused when a summary was requested is not a turn of the scenario.
  const isRefused =
    asksForSummary && JSON.stringify(request.messages.at(-1)?.content).includes("Write the summary now");
  const all = request.messages.filter((message) => message.role === "assistant" && !isSummary(message)).length;
  const answers = all - (isRefused ? 1 : 0);
  const firstMessage = JSON.stringify(request.messages[0]?.content);
  if (conversation.firstMessage !== null && conversation.firstMessage !== firstMessage)
    conversation.offset += Math.max(0, conversation.answers - answers);
  conversation.answers = answers;
  conversation.firstMessage = firstMessage;
  const index = answers + conversation.offset;
  if (asksForSummary) {
    const calls = scenario.summary === "calls_first" && request.compaction === undefined && !isRefused;
    const turn: Turn = calls
      ? { tools: [{ name: "bash", input: { command: "ls" } }] }
      : { say: `Summary of the turns up to ${index}.` };
    return { turn, index, fault: null };
  }
  const turn = getTurn(scenario, index);
  const tried = conversation.tries.get(index) ?? 0;
  conversation.tries.set(index, tried + 1);
  return { turn, index, fault: getFault(turn, tried) };
}
