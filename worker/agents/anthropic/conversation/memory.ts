/**
 * The transcript and the conversation that it makes, kept in step: a line counts once it is
 * durable.
 */
import type { AgentContext, ReceivedMessage } from "../../agent.ts";
import { Conversation } from "./conversation.ts";
import { readLine, type Line, type Source } from "./records.ts";
import { PERSON } from "../messages.ts";

export class ConversationLog {
  readonly view = new Conversation();
  readonly #context: AgentContext;

  /** @throws AgentFailure when the transcript is not ours. */
  constructor(context: AgentContext) {
    this.#context = context;
    for (const record of context.transcript.records) this.view.add(readLine(record), record.attempt === 0);
  }

  /** The cursor that belongs to what was written so far. */
  get cursor(): string {
    return String(this.view.length);
  }

  async write(line: Line): Promise<void> {
    await this.#context.transcript.append(line);
    this.view.add(line, false);
    this.#context.mark(this.cursor);
  }

  /** @param notes the notes that hold from here on; null = the same as before. */
  async tell(source: Source, text: string, notes: readonly string[] | null = null): Promise<void> {
    await this.write({ kind: "told", source, text, ...(notes === null ? {} : { notes: [...notes] }) });
  }

  /** What a person said; once, however often it is brought. */
  async hear({ id, text }: ReceivedMessage): Promise<void> {
    if (!this.view.heard.has(id)) await this.write({ kind: "told", source: "person", text: PERSON(text), message: id });
  }
}
