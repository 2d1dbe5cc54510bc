/**
 * The pure fold from the transcript's lines to the conversation.
 *
 * C1 What has been sent is a prefix of what will be sent, until a compaction or a new beginning
 *    replaces everything.
 * C2 The message after an answer holds the results of its calls in the order of the calls, then the
 *    texts that came after.
 */
import type { Begin, Block, Line, Result } from "./records.ts";

export interface Call {
  readonly id: string;
  readonly name: string;
  readonly input: Readonly<Record<string, unknown>>;
}

export interface Message {
  readonly role: "user" | "assistant";
  readonly content: readonly Block[];
}

/**
 * One finished call as the watch for circles sees it; `nudge`: the model was told that it goes in
 * circles.
 */
export type Trace = { readonly call: Call; readonly result: Result } | "nudge";

const callOf = (block: Block): Call[] => {
  const { type, id, name, input } = block as { type: string; id?: unknown; name?: unknown; input?: unknown };
  if (type !== "tool_use" || typeof id !== "string" || typeof name !== "string") return [];
  const plain = typeof input === "object" && input !== null && !Array.isArray(input);
  return [{ id, name, input: plain ? (input as Record<string, unknown>) : {} }];
};

const isBlank = (block: Block): boolean => block.type === "text" && String(block["text"] ?? "").trim() === "";

/** What of an answer is kept: the provider refuses blank texts when they come back. */
export const withoutBlanks = (content: readonly Block[]): Block[] => content.filter((block) => !isBlank(block));

export class Conversation {
  /** Lines so far. */
  length = 0;
  begin: Begin | null = null;
  /** The last answer; null before the first and after a compaction. */
  stop: string | null = null;
  tokens = 0;
  /** Calls of the last answer, and their results as far as there are any. */
  calls: readonly Call[] = [];
  readonly results = new Map<string, Result>();
  readonly started = new Set<string>();
  /** Texts told since the last answer. */
  #texts: string[] = [];
  #sent: Message[] = [];
  /** Answers of this task; those that it inherited do not count. */
  turns = 0;
  /** The last answer had nothing in it, and nothing was said since. */
  empty = false;
  /** Answers in a row that were cut off or paused. */
  cutOff = 0;
  /** Since a person said something last. */
  nudges = 0;
  repairs = 0;
  trace: Trace[] = [];
  /** Warnings about limits that were given already. */
  readonly warned = new Set<string>();
  /** Ids of the messages of people that are in it. */
  readonly heard = new Set<string>();
  /** The notes that hold now, as the model was sent them. */
  notes: readonly string[] = [];
  /** The words that the present task was given in. */
  task = "";
  /** The items of the last `todo` call. */
  todo: unknown = null;

  get open(): readonly Call[] {
    return this.calls.filter(({ id }) => !this.results.has(id));
  }

  get hasNews(): boolean {
    return this.#texts.length > 0;
  }

  /** The finish call of the last answer that was taken, as long as nothing was said after it. */
  get finish(): Call | null {
    if (this.hasNews) return null;
    return this.calls.find(({ id, name }) => name === "finish" && this.results.get(id)?.status === "ok") ?? null;
  }

  /** What the model is sent. Each call has its result by now. */
  messages(): readonly Message[] {
    const draft = this.#draft();
    return draft.length === 0 ? this.#sent : [...this.#sent, { role: "user", content: draft }];
  }

  add(line: Line, inherited: boolean): void {
    this.length += 1;
    switch (line.kind) {
      case "begin":
        this.begin = line;
        this.task = line.text;
        this.notes = line.notes ?? [];
        this.#restart([], [line.text, ...this.notes]);
        this.#listen();
        this.warned.clear();
        return;
      case "compacted":
        this.#restart(line.block === null ? [] : [{ role: "assistant", content: [line.block] }], [line.text]);
        return;
      case "turn":
        return this.#turn(line.content, line.stop, line.tokens, inherited);
      case "call":
        return void this.started.add(line.id);
      case "result":
        return this.#result(line);
      case "told":
        return this.#told(line);
    }
  }

  #restart(sent: Message[], texts: string[]): void {
    this.#sent = sent;
    this.#texts = texts;
    this.calls = [];
    this.results.clear();
    this.started.clear();
    this.stop = null;
    this.tokens = 0;
    this.empty = false;
  }

  #listen(): void {
    this.nudges = 0;
    this.repairs = 0;
    this.cutOff = 0;
    this.trace = [];
  }

  #draft(): Block[] {
    const results = this.calls.flatMap(({ id }) => {
      const found = this.results.get(id);
      if (found === undefined) return [];
      const failed = found.status === "ok" ? {} : { is_error: true };
      return [
        {
          type: "tool_result",
          tool_use_id: id,
          content: found.output === "" ? "(no output)" : found.output,
          ...failed,
        },
      ];
    });
    return [...results, ...this.#texts.map((text) => ({ type: "text", text }))];
  }

  #turn(content: readonly Block[], stop: string, tokens: number, inherited: boolean): void {
    if (!inherited) this.turns += 1;
    const answer = withoutBlanks(content);
    const calls = answer.flatMap(callOf);
    this.stop = stop;
    this.tokens = tokens;
    this.cutOff = stop === "max_tokens" || stop === "pause_turn" ? this.cutOff + 1 : 0;
    this.empty = answer.length === 0;
    // An empty answer cannot be sent back: what it answered stays open.
    if (this.empty) return;
    const draft = this.#draft();
    if (draft.length > 0) this.#sent = [...this.#sent, { role: "user", content: draft }];
    this.#sent = [...this.#sent, { role: "assistant", content: answer }];
    this.calls = calls;
    this.results.clear();
    this.started.clear();
    this.#texts = [];
  }

  #result(line: Result): void {
    this.results.set(line.id, line);
    const call = this.calls.find(({ id }) => id === line.id);
    if (call === undefined) return;
    this.trace.push({ call, result: line });
    if (call.name === "todo" && line.status === "ok") this.todo = call.input["items"] ?? null;
  }

  #told({ source, text, message, notes }: Extract<Line, { kind: "told" }>): void {
    if (message !== undefined) this.heard.add(message);
    if (notes !== undefined) this.notes = notes;
    this.#texts.push(text);
    this.empty = false;
    if (source === "person" || source === "task") this.#listen();
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
