/** Reads what a command line writes to its standard output, as messages and calls. */
import { sanitize, truncateStart } from "../../lib/text.ts";
import type { AcpEventMapper } from "../programs/event-mapper.ts";

/** Characters of one run's output that become messages. */
const SHOWN_LIMIT = 512 * 1024;
/** Characters of its end that are kept as evidence. */
const TAIL_LIMIT = 4_000;

export interface OutputReader {
  /** A line without its end. */
  line(text: string): void;
  /** Call it when the program has ended. */
  end(): void;
  /** The end of the output, as text. */
  readonly tail: string;
  /** Why it failed in its own words, whatever its exit code is; null = it reported no failure. */
  readonly failure: string | null;
  /** US dollars that the program reported for this run. */
  readonly usd: number;
}

/** Plain text: lines collect to messages; what a line overwrites of itself is left out. */
export class TextReader implements OutputReader {
  readonly failure = null;
  readonly usd = 0;
  readonly #events: AcpEventMapper;
  #tail = "";
  #shown = 0;
  #hidden = 0;

  constructor(events: AcpEventMapper) {
    this.#events = events;
  }

  get tail(): string {
    return this.#tail.trim();
  }

  line(text: string): void {
    const last = sanitize(text.trimEnd().split("\r").at(-1) ?? "");
    this.#tail = truncateStart(`${this.#tail}${last}\n`, TAIL_LIMIT);
    if (this.#shown >= SHOWN_LIMIT) this.#hidden += last.length + 1;
    else this.#show(`${last}\n`);
  }

  end(): void {
    if (this.#hidden === 0) return;
    this.#show(`\n[${this.#hidden} more characters of output are not shown. The end is:]\n${this.#tail}`);
    this.#hidden = 0;
  }

  #show(text: string): void {
    this.#shown += text.length;
    this.#events.update({ sessionUpdate: "agent_message_chunk", content: { type: "text", text } });
  }
}
