/** The worker's line to its coordinator, whatever carries it: events and text out, commands in. */
import type { BudgetStanding } from "../../src/core/budget.ts";
import type { WorkerEventType } from "../../src/core/event.ts";
import type { WorkerCommand, WorkerSpec, WorkerTranscript } from "../../src/core/protocol/worker.ts";
import type { WorkerData } from "../lib/text.ts";

/** The coordinator says that this attempt is over (rule W3): nothing more may be sent or pushed. */
export class StaleAttempt extends Error {
  constructor() {
    super("this attempt is over");
    this.name = "StaleAttempt";
  }
}

/**
 * The coordinator does not take this record, now or later: it is too large, the transcript is full,
 * or another life of the worker wrote that number.
 */
export class RecordRejected extends Error {
  constructor(message: string) {
    super(message);
    this.name = "RecordRefused";
  }
}

/** What an earlier life of the same attempt had said before it was interrupted. */
export interface RecoveredState {
  readonly ready: boolean;
  /** What was said about a setup that failed. */
  readonly setupFailure: string | null;
  /** Its final report is in the journal: nothing is left but to deliver it. */
  readonly reported: boolean;
  readonly cursor: string | null;
  readonly openTools: readonly { readonly id: string; readonly name: string }[];
  readonly asked: ReadonlySet<string>;
  readonly delivered: ReadonlySet<string>;
}

/**
 * One attempt's line. All waits reject with StaleAttempt once the coordinator said so, and with an
 * AbortError when their signal is aborted; a coordinator that is away only makes them longer.
 */
export interface CoordinatorLink {
  /**
   * Asks until it is answered. Comes first: what is emitted is numbered from the spec's `ack` on.
   */
  spec(signal: AbortSignal): Promise<WorkerSpec>;
  /** Known once `spec` has resolved. */
  readonly recovered: RecoveredState;
  /** Written down at once, sent soon, resent until acknowledged. Never waits. */
  emit<T extends WorkerEventType>(type: T, data: WorkerData<T>): void;
  /** Ephemeral text of a message that is being written; may be lost. */
  delta(messageId: string, text: string): void;
  /** Writes down, for a later life of the same attempt, where the agent stands. Not sent. */
  mark(cursor: string): void;
  /** Resolves when everything emitted so far is durable at the coordinator. */
  flush(signal: AbortSignal): Promise<void>;
  /** Resolves when the coordinator has answered a request that was made after this call. */
  reach(signal: AbortSignal): Promise<void>;
  /** Resolves when every command that existed at the time of the call is in the inbox. */
  catchUp(signal: AbortSignal): Promise<void>;
  readonly inbox: Inbox;
  /** A page of the task's transcript after record `after`; empty at its end. */
  transcript(after: number, signal: AbortSignal): Promise<WorkerTranscript["records"]>;
  /**
   * Resolves when record `n` is durable. @param json an object. @throws RecordRefused when it never
   * will be.
   */
  append(n: number, json: string, signal: AbortSignal): Promise<void>;
  /** Where the task stands after the gateway refused a request for the budget. */
  budget(signal: AbortSignal): Promise<BudgetStanding>;
  /** No sign of life from now on but what is emitted: no heartbeat, no poll. */
  silence(): void;
  /** Aborted with a StaleAttempt as reason when the attempt is over. */
  readonly over: AbortSignal;
  /** Stops sending. What was not acknowledged stays in the journal. */
  close(): Promise<void>;
}

/** Commands that were received and not yet taken, in order and once each. */
export class Inbox {
  #last = -1;
  #waiting: WorkerCommand[] = [];
  #listeners = new Set<() => void>();

  /** Commands up to this id were received before. */
  startAfter(id: number): void {
    this.#last = Math.max(this.#last, id);
  }

  get last(): number {
    return this.#last;
  }

  put(commands: readonly WorkerCommand[]): void {
    for (const command of commands) {
      if (command.id <= this.#last) continue;
      this.#last = command.id;
      this.#waiting.push(command);
    }
    for (const listener of this.#listeners) listener();
  }

  /** Removes and returns what matches. */
  take(matches: (command: WorkerCommand) => boolean): WorkerCommand[] {
    const taken = this.#waiting.filter(matches);
    this.#waiting = this.#waiting.filter((command) => !taken.includes(command));
    return taken;
  }

  has(matches: (command: WorkerCommand) => boolean): boolean {
    return this.#waiting.some(matches);
  }

  /** The first that matches, now or later, removed. Rejects with the signal's reason. */
  async waitFor(matches: (command: WorkerCommand) => boolean, signal: AbortSignal): Promise<WorkerCommand> {
    return await new Promise((resolve, reject) => {
      const stop = (): void => {
        this.#listeners.delete(look);
        signal.removeEventListener("abort", abort);
      };
      const abort = (): void => {
        stop();
        reject(signal.reason as Error);
      };
      const look = (): void => {
        const index = this.#waiting.findIndex(matches);
        const found = this.#waiting[index];
        if (found === undefined) return;
        this.#waiting.splice(index, 1);
        stop();
        resolve(found);
      };
      if (signal.aborted) return abort();
      signal.addEventListener("abort", abort, { once: true });
      this.#listeners.add(look);
      look();
    });
  }
}
