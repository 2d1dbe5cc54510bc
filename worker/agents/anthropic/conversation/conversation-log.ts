/**
 * The transcript together with the conversation that it folds to. A record is added to the
 * conversation once it is durable.
 */
import type { AgentContext, ReceivedMessage } from "../../agent.ts";
import { Conversation } from "./conversation.ts";
import { parseRecord, type ConversationRecord, type TextSource } from "./records.ts";
import type { Picture } from "../../../workspace/attachments.ts";
import { PERSON } from "../messages.ts";

/** For a record, which has the field only where there are some. */
export const toPictures = (pictures: readonly Picture[] = []): { pictures?: Picture[] } =>
  pictures.length === 0 ? {} : { pictures: [...pictures] };

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
