/**
 * What an agent program was asked, answered and did, as text in the transcript: a later attempt, a
 * follow-up task and the next run of a program without a memory are given it.
 *
 * Entries are bounded, and lines collect until `save`. A transcript that is full costs the memory
 * of the work, not the work.
 */
import { z } from "zod";
import { truncate, truncateStart } from "../../lib/text.ts";
import { AgentFailure, type AgentContext } from "../agent.ts";

const entrySchema = z.object({
  kind: z.literal("program.entries"),
  entries: z.array(z.object({ by: z.enum(["task", "person", "agent", "action"]), text: z.string() })),
  /** The messages of people that these entries hold. */
  messages: z.array(z.string()).optional(),
});
type Entry = z.infer<typeof entrySchema>["entries"][number];

/** Characters of one entry, of all entries that this process writes, and of the text they make. */
const ENTRY_LIMIT = 4_000;
const WRITE_LIMIT = 2_000_000;
const TEXT_LIMIT = 24_000;
/** Characters of the first task that stay when the text is shortened. */
const FIRST_LIMIT = 4_000;

export class ProgramConversation {
  readonly #context: AgentContext;
  readonly #entries: Entry[] = [];
  readonly #messages = new Set<string>();
  readonly #isOwn: boolean;
  #unsaved: Entry[] = [];
  #unsavedMessages: string[] = [];
  #written = 0;
  #isFull = false;

  constructor(context: AgentContext) {
    this.#context = context;
    this.#isOwn = context.transcript.records.some(({ attempt }) => attempt > 0);
    for (const { data } of context.transcript.records) {
      const parsed = entrySchema.safeParse(data);
      if (!parsed.success) continue;
      this.#entries.push(...parsed.data.entries);
      for (const id of parsed.data.messages ?? []) this.#messages.add(id);
    }
  }

  /** True when an attempt of this task wrote a part of the conversation. */
  get isOwn(): boolean {
    return this.#isOwn;
  }

  /** True when a message of this id is in the conversation. */
  hasMessage(id: string): boolean {
    return this.#messages.has(id);
  }

  add(by: Entry["by"], text: string, message?: string): void {
    if (text.trim() === "" || this.#written > WRITE_LIMIT) return;
    const entry = { by, text: truncate(this.#context.secrets.redact(text).trim(), ENTRY_LIMIT) };
    this.#written += entry.text.length;
    this.#entries.push(entry);
    this.#unsaved.push(entry);
    if (message === undefined) return;
    this.#messages.add(message);
    this.#unsavedMessages.push(message);
  }

  /** Waits while the coordinator is away. Rejects only when the agent must stop. */
  async save(): Promise<void> {
    if (this.#unsaved.length === 0) return;
    const [entries, messages] = [this.#unsaved, this.#unsavedMessages];
    [this.#unsaved, this.#unsavedMessages] = [[], []];
    await this.append({ kind: "program.entries", entries, ...(messages.length === 0 ? {} : { messages }) });
  }

  /**
   * Appends a record to the transcript. Rejects only when the agent must stop.
   * @returns false when the transcript takes no more.
   */
  async append(record: Readonly<Record<string, unknown>>): Promise<boolean> {
    if (this.#isFull) return false;
    try {
      await this.#context.transcript.append(record);
      return true;
    } catch (error) {
      if (!(error instanceof AgentFailure)) throw error;
      this.#isFull = true;
      this.#context.emit("notice", {
        level: "warning",
        code: "memory_full",
        text: "The record of this agent's conversation is full: after an interruption it would not know what follows.",
      });
      return false;
    }
  }

  /** The conversation as text, the middle left out where it is long; empty = there is none. */
  describe(): string {
    const lines = this.#entries.map(({ by, text }) => `[${by}] ${text}`);
    const all = lines.join("\n");
    if (all.length <= TEXT_LIMIT) return all;
    return `${truncate(lines[0] ?? "", FIRST_LIMIT)}\n[...]\n${truncateStart(all, TEXT_LIMIT - FIRST_LIMIT)}`;
  }
}
