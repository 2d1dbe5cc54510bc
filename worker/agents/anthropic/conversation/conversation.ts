/**
 * The conversation: a pure fold of the transcript's records, and the log that appends to both.
 *
 * C1 What has been sent is a prefix of what will be sent, until a compaction or a new `begin`
 *    record replaces everything.
 * C2 The message after an answer holds the results of its calls in the order of the calls, then the
 *    texts that came after them.
 */
import type { Picture } from "../../../workspace/attachments.ts";
import type { AgentContext, ReceivedMessage } from "../../agent.ts";
import { PERSON } from "../messages.ts";
import {
  parseRecord,
  toPictures,
  type Begin,
  type Block,
  type ConversationRecord,
  type Result,
  type TextRecord,
  type TextSource,
} from "./records.ts";

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

/**
 * Who wrote a record: this attempt, an earlier one of the task, or a task that this one continues.
 */
export type Origin = "own" | "attempt" | "task";

/**
 * True for an answer that can be sent back: it has a text or a call, and does not end with
 * thinking.
 */
function isUsable(content: readonly Block[]): boolean {
  const hasContent = content.some(({ type }) => type === "text" || type === "tool_use");
  return hasContent && content.at(-1)?.type.endsWith("thinking") !== true;
}

interface Text {
  readonly source: TextSource | null;
  readonly text: string;
  /** Shown after the text. */
  readonly pictures: readonly Picture[];
}

/**
 * A picture in a message. The request has its content in place of the block, or a text where it has
 * none (model/request.ts).
 */
export const PICTURE = "picture";

const toBlocks = ({ text, pictures }: Text): Block[] => [
  { type: "text", text },
  ...pictures.map((picture) => ({ ...picture, type: PICTURE })),
];

export class Conversation {
  /** The number of records. */
  length = 0;
  begin: Begin | null = null;
  /** The stop reason of the last answer; null before the first answer and after a compaction. */
  stopReason: string | null = null;
  tokens = 0;
  /** The calls, from the first on, whose results the provider leaves out of the prompt. */
  cleared = 0;
  /** No answer has followed the last change of `cleared`. */
  isClearing = false;
  /** The calls of the last answer, with the results that exist so far. */
  calls: readonly Call[] = [];
  readonly results = new Map<string, Result>();
  readonly started = new Set<string>();
  /** The texts since the last answer; those of a `begin` or a summary have no source. */
  #texts: Text[] = [];
  #sent: Message[] = [];
  /** A part of what is sent was written by another attempt. */
  isInherited = false;
  /** The messages of people about the current task, as the model was sent them. */
  people: readonly string[] = [];
  /** The pictures of the current task and of messages about it, each once. */
  pictures: readonly Picture[] = [];
  /** The ids of pictures that the model could not read. */
  readonly unreadable = new Set<string>();
  /** The answers of this task; inherited ones do not count. */
  turns = 0;
  /** The last answer cannot be sent back and was dropped, and no text has followed it. */
  isEmptyAnswer = false;
  /** Consecutive answers that were cut off or paused. */
  cutOff = 0;
  /** Both count from the last message of a person. */
  nudges = 0;
  repairs = 0;
  /** The reviewer has sent the work of the current task back. */
  wasSentBack = false;
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

  /** Nothing of this conversation has been answered yet. */
  get isUnanswered(): boolean {
    return this.#sent.every(({ role }) => role === "user");
  }

  /** The pictures that were not answered yet. */
  get unsentPictures(): readonly Picture[] {
    return this.#texts.flatMap(({ pictures }) => pictures);
  }

  /** The texts since the last answer, without the one that gave the task. */
  get unsentTexts(): readonly string[] {
    return this.#texts.flatMap(({ source, text }) => (source === null || source === "task" ? [] : [text]));
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

  add(record: ConversationRecord, origin: Origin): void {
    this.length += 1;
    switch (record.kind) {
      case "begin":
        this.begin = record;
        this.task = record.text;
        if (record.again !== true) this.people = [];
        this.notes = record.notes ?? [];
        this.pictures = record.pictures ?? [];
        this.#restart([], [record.text, ...this.notes], record.pictures);
        this.#resetCounters();
        this.warned.clear();
        return;
      case "settings": {
        const { kind: _kind, refused, ...settings } = record;
        if (this.begin !== null) this.begin = { ...this.begin, ...settings, ...(refused && { refused }) };
        if (refused?.includes("clearing") === true) this.cleared = 0;
        return;
      }
      case "compacted":
        this.#restart(
          record.block === null ? [] : [{ role: "assistant", content: [record.block] }],
          [record.text],
          record.pictures,
        );
        this.isInherited = record.block !== null && origin !== "own";
        return;
      case "cleared":
        this.cleared = record.uses;
        this.isClearing = true;
        return;
      case "unreadable":
        return record.pictures.forEach((id) => this.unreadable.add(id));
      case "turn":
        return this.#addTurn(record.content, record.stop, record.tokens, origin);
      case "call":
        return void this.started.add(record.id);
      case "result":
        return this.#addResult(record);
      case "told":
        return this.#addText(record);
    }
  }

  #restart(sent: Message[], texts: string[], pictures: readonly Picture[] = []): void {
    this.#sent = sent;
    this.#texts = texts.map((text, i) => ({ source: null, text, pictures: i === 0 ? pictures : [] }));
    this.isInherited = false;
    this.calls = [];
    this.results.clear();
    this.started.clear();
    this.stopReason = null;
    this.tokens = 0;
    this.cleared = 0;
    this.isClearing = false;
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
    return [...results, ...this.#texts.flatMap(toBlocks)];
  }

  #addTurn(content: readonly Block[], stop: string, tokens: number, origin: Origin): void {
    if (origin !== "task") this.turns += 1;
    const answer = withoutBlanks(content);
    const calls = answer.flatMap(parseCall);
    this.stopReason = stop;
    this.cutOff = stop === "max_tokens" || stop === "pause_turn" ? this.cutOff + 1 : 0;
    this.isEmptyAnswer = !isUsable(answer);
    // The message that a dropped answer answered stays unanswered.
    if (this.isEmptyAnswer) return;
    this.tokens = tokens;
    this.isClearing = false;
    if (origin !== "own") this.isInherited = true;
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

  #addText({ source, text, message, notes, pictures = [] }: TextRecord): void {
    if (message !== undefined) this.messageIds.add(message);
    if (notes !== undefined) this.notes = notes;
    const known = new Set(source === "task" ? [] : this.pictures.map(({ id }) => id));
    const fresh = pictures.filter(({ id }) => !known.has(id));
    this.pictures = source === "task" ? fresh : [...this.pictures, ...fresh];
    this.#texts.push({ source, text, pictures: fresh });
    if (source === "person") this.people = [...this.people, text];
    this.isEmptyAnswer = false;
    if (source === "person" || source === "task") this.#resetCounters();
    if (source === "task") {
      this.task = text;
      this.people = [];
      this.warned.clear();
      this.wasSentBack = false;
    }
    if (source === "review") this.wasSentBack = true;
    if (source === "nudge") this.nudges += 1;
    if (source === "verify") this.repairs += 1;
    if (source === "stuck") this.trace.push("nudge");
    if (source === "limit") this.warned.add(text);
  }
}

/** The transcript together with the conversation that it folds to. */
export class ConversationLog {
  readonly conversation = new Conversation();
  readonly #context: AgentContext;

  /** @throws AgentFailure when another agent wrote the transcript. */
  constructor(context: AgentContext) {
    this.#context = context;
    const { attempt: current } = context.spec;
    for (const record of context.transcript.records) {
      const { attempt } = record;
      this.conversation.add(parseRecord(record), attempt === 0 ? "task" : attempt === current ? "own" : "attempt");
    }
  }

  /** The cursor of the last record: the number of records. */
  get cursor(): string {
    return String(this.conversation.length);
  }

  /** The record is part of the conversation once it is durable. */
  async append(record: ConversationRecord): Promise<void> {
    await this.#context.transcript.append(record);
    this.conversation.add(record, "own");
    this.#context.mark(this.cursor);
  }

  /** @param notes the notes that hold from here on; null = the same as before. */
  async appendText(
    source: TextSource,
    text: string,
    notes: readonly string[] | null = null,
    pictures: readonly Picture[] = [],
  ): Promise<void> {
    const more = { ...(notes === null ? {} : { notes: [...notes] }), ...toPictures(pictures) };
    await this.append({ kind: "told", source, text, ...more });
  }

  /** Idempotent: a message that the conversation has already is ignored. */
  async appendMessage({ id, text, pictures }: ReceivedMessage): Promise<void> {
    if (this.conversation.messageIds.has(id)) return;
    await this.append({ kind: "told", source: "person", text: PERSON(text), message: id, ...toPictures(pictures) });
  }
}
