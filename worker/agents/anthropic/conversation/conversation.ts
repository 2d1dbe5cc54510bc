/**
 * The pure fold from the transcript's records to the conversation.
 *
 * C1 What has been sent is a prefix of what will be sent, until a compaction or a new `begin`
 *    record replaces everything.
 * C2 The message after an answer holds the results of its calls in the order of the calls, then the
 *    texts that came after them.
 */
import type { Begin, Block, ConversationRecord, Result, TextRecord } from "./records.ts";

export interface Call {
  readonly id: string;
  readonly name: string;
  readonly input: Readonly<Record<string, unknown>>;
}

export interface Message {
  readonly role: "user" | "assistant";
  readonly content: readonly Block[];
}

/** One finished call for loop detection; `nudge`: the model was warned that it repeats itself. */
export type Trace = { readonly call: Call; readonly result: Result } | "nudge";

const parseCall = (block: Block): Call[] => {
  const { type, id, name, input } = block as { type: string; id?: unknown; name?: unknown; input?: unknown };
  if (type !== "tool_use" || typeof id !== "string" || typeof name !== "string") return [];
  const isObject = typeof input === "object" && input !== null && !Array.isArray(input);
  return [{ id, name, input: isObject ? (input as Record<string, unknown>) : {} }];
};

const isBlank = (block: Block): boolean => block.type === "text" && String(block["text"] ?? "").trim() === "";

/** An answer without its blank texts, which the provider refuses when they are sent back. */
export const withoutBlanks = (content: readonly Block[]): Block[] => content.filter((block) => !isBlank(block));

export class Conversation {
  /** The number of records. */
  length = 0;
  begin: Begin | null = null;
  /** The stop reason of the last answer; null before the first answer and after a compaction. */
  stopReason: string | null = null;
  tokens = 0;
  /** The calls of the last answer, with the results that exist so far. */
  calls: readonly Call[] = [];
  readonly results = new Map<string, Result>();
  readonly started = new Set<string>();
  /** The texts since the last answer. */
  #texts: string[] = [];
  #sent: Message[] = [];
  /** The answers of this task; inherited ones do not count. */
  turns = 0;
  /** The last answer was empty, and no text has followed it. */
  isEmptyAnswer = false;
  /** Consecutive answers that were cut off or paused. */
  cutOff = 0;
  /** Both count from the last message of a person. */
  nudges = 0;
  repairs = 0;
  trace: Trace[] = [];
  /** The texts of the warnings about limits that were sent. */
  readonly warned = new Set<string>();
  /** The ids of the messages of people. */
  readonly messageIds = new Set<string>();
  /** The notes that hold now, as the model was sent them. */
  notes: readonly string[] = [];
  /** The text that gave the current task to the model. */
  task = "";
  /** The items of the last `todo` call. */
  todo: unknown = null;

  /** The calls of the last answer that have no result. */
  get openCalls(): readonly Call[] {
    return this.calls.filter(({ id }) => !this.results.has(id));
  }

  get hasUnsentTexts(): boolean {
    return this.#texts.length > 0;
  }

  /** The accepted `finish` call of the last answer, unless a text has followed it. */
  get finish(): Call | null {
    if (this.hasUnsentTexts) return null;
    return this.calls.find(({ id, name }) => name === "finish" && this.results.get(id)?.status === "ok") ?? null;
  }

  /** The messages of the next request. Requires that each call has its result. */
  messages(): readonly Message[] {
    const draft = this.#draft();
    return draft.length === 0 ? this.#sent : [...this.#sent, { role: "user", content: draft }];
  }

  /** @param inherited the record belongs to the task that this one continues. */
  add(record: ConversationRecord, inherited: boolean): void {
    this.length += 1;
    switch (record.kind) {
      case "begin":
        this.begin = record;
        this.task = record.text;
        this.notes = record.notes ?? [];
        this.#restart([], [record.text, ...this.notes]);
        this.#resetCounters();
        this.warned.clear();
        return;
      case "compacted":
        this.#restart(record.block === null ? [] : [{ role: "assistant", content: [record.block] }], [record.text]);
        return;
      case "turn":
        return this.#addTurn(record.content, record.stop, record.tokens, inherited);
      case "call":
        return void this.started.add(record.id);
      case "result":
        return this.#addResult(record);
      case "told":
        return this.#addText(record);
    }
  }

  #restart(sent: Message[], texts: string[]): void {
    this.#sent = sent;
    this.#texts = texts;
    this.calls = [];
    this.results.clear();
    this.started.clear();
    this.stopReason = null;
    this.tokens = 0;
    this.isEmptyAnswer = false;
  }

  #resetCounters(): void {
    this.nudges = 0;
    this.repairs = 0;
    this.cutOff = 0;
    this.trace = [];
  }

  /** The content of the next user message. */
  #draft(): Block[] {
    const results = this.calls.flatMap(({ id }) => {
      const result = this.results.get(id);
      if (result === undefined) return [];
      const error = result.status === "ok" ? {} : { is_error: true };
      const content = result.output === "" ? "(no output)" : result.output;
      return [{ type: "tool_result", tool_use_id: id, content, ...error }];
    });
    return [...results, ...this.#texts.map((text) => ({ type: "text", text }))];
  }

  #addTurn(content: readonly Block[], stop: string, tokens: number, inherited: boolean): void {
    if (!inherited) this.turns += 1;
    const answer = withoutBlanks(content);
    const calls = answer.flatMap(parseCall);
    this.stopReason = stop;
    this.tokens = tokens;
    this.cutOff = stop === "max_tokens" || stop === "pause_turn" ? this.cutOff + 1 : 0;
    this.isEmptyAnswer = answer.length === 0;
    // An empty answer cannot be sent back, so the message that it answered stays unanswered.
    if (this.isEmptyAnswer) return;
    const draft = this.#draft();
    if (draft.length > 0) this.#sent = [...this.#sent, { role: "user", content: draft }];
    this.#sent = [...this.#sent, { role: "assistant", content: answer }];
    this.calls = calls;
    this.results.clear();
    this.started.clear();
    this.#texts = [];
  }

  #addResult(result: Result): void {
    this.results.set(result.id, result);
    const call = this.calls.find(({ id }) => id === result.id);
    if (call === undefined) return;
    this.trace.push({ call, result });
    if (call.name === "todo" && result.status === "ok") this.todo = call.input["items"] ?? null;
  }

  #addText({ source, text, message, notes }: TextRecord): void {
    if (message !== undefined) this.messageIds.add(message);
    if (notes !== undefined) this.notes = notes;
    this.#texts.push(text);
    this.isEmptyAnswer = false;
    if (source === "person" || source === "task") this.#resetCounters();
    if (source === "task") {
      this.task = text;
      this.warned.clear();
    }
    if (source === "nudge") this.nudges += 1;
    if (source === "verify") this.repairs += 1;
    if (source === "stuck") this.trace.push("nudge");
    if (source === "limit") this.warned.add(text);
  }
}
