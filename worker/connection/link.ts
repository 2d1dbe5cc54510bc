/** The worker's connection to its coordinator: events and text go out, commands come in. */
import type { BudgetStanding } from "../../src/core/budget.ts";
import type { WorkerEventType } from "../../src/core/event.ts";
import type { Readable } from "node:stream";
import type {
  WorkerCommand,
  WorkerSetupSaved,
  WorkerSpec,
  WorkerTranscript,
  WorkerVariables,
} from "../../src/core/protocol/worker.ts";
import type { Finding } from "../../src/core/values/push-guard.ts";
import type { WorkerData } from "../lib/text.ts";

/**
 * The coordinator reported that this attempt is over (rule W3): nothing more may be sent or pushed.
 */
export class StaleAttempt extends Error {
  constructor() {
    super("this attempt is over");
    this.name = "StaleAttempt";
  }
}

/**
 * The coordinator rejected a transcript record, and a retry would not help: the record is too
 * large, the transcript is full, or another worker process wrote that number.
 */
export class RecordRejected extends Error {
  constructor(message: string) {
    super(message);
    this.name = "RecordRejected";
  }
}

export interface KeptSetup {
  /** Epoch ms. */
  readonly savedAt: number;
  /** Ends with an error when it breaks off. */
  readonly content: Readable;
  /** The files are in SETUP_FOLDER, and the content is empty. */
  readonly isOnDisk: boolean;
}

/** The state that an earlier process of the same attempt left in the journal. */
export interface RecoveredState {
  readonly ready: boolean;
  /** The text of the notice about a failed setup; null when none failed. */
  readonly setupFailure: string | null;
  /** The final report is in the journal and only has to be delivered. */
  readonly reported: boolean;
  readonly cursor: string | null;
  readonly openTools: readonly { readonly id: string; readonly name: string }[];
  readonly asked: ReadonlySet<string>;
  readonly delivered: ReadonlySet<string>;
}

/**
 * The connection of one attempt.
 *
 * Every method that waits rejects with StaleAttempt once the attempt is over, and with the signal's
 * reason when its signal is aborted. While the coordinator is away they keep waiting.
 */
export interface CoordinatorLink {
  /** Must be called first: events are numbered from the spec's `ack` on. */
  spec(signal: AbortSignal): Promise<WorkerSpec>;
  /** Valid once `spec` has resolved. */
  readonly recovered: RecoveredState;
  /** Writes the event to the journal; it is sent soon and resent until acknowledged. */
  emit<T extends WorkerEventType>(type: T, data: WorkerData<T>): void;
  /** Sends ephemeral text of a message that is being written; it may be lost. */
  delta(messageId: string, text: string): void;
  /** Writes the agent's cursor to the journal, for a restart of the worker. It is not sent. */
  mark(cursor: string): void;
  /** Resolves when everything emitted so far is durable at the coordinator. */
  flush(signal: AbortSignal): Promise<void>;
  /** Resolves when the coordinator has answered a request that was made after this call. */
  reach(signal: AbortSignal): Promise<void>;
  /** Resolves when every command that existed at the time of the call is in the inbox. */
  catchUp(signal: AbortSignal): Promise<void>;
  /** The time in which the coordinator gave no answer, as far as it was noticed, ms. */
  readonly awayMs: number;
  readonly inbox: Inbox;
  /** A page of the task's transcript after record `after`; empty at its end. */
  transcript(after: number, signal: AbortSignal): Promise<WorkerTranscript["records"]>;
  /**
   * Resolves when record `n` is durable. @param json an object. @throws RecordRejected when it will
   * never be accepted.
   */
  append(n: number, json: string, signal: AbortSignal): Promise<void>;
  /** What the guard finds in a commit that was pushed to the task repository. */
  inspect(sha: string, signal: AbortSignal): Promise<readonly Finding[]>;
  /**
   * Writes an attachment of the task to a file, which is there whole or not at all. @returns false
   * when the task has no such attachment. Rejects with the system's error when writing fails.
   */
  download(id: string, path: string, signal: AbortSignal): Promise<boolean>;
  /** What an earlier setup made that this one would make again; null = nothing, or no answer. */
  openSetup(signal: AbortSignal): Promise<KeptSetup | null>;
  /** Offers what the setup made. Rejects when the content does, or when there is no answer. */
  saveSetup(content: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<WorkerSetupSaved>;
  /** The variables of commands in the present phase. */
  variables(signal: AbortSignal): Promise<WorkerVariables>;
  /** The state of the budget after the gateway refused a request for it. */
  budget(signal: AbortSignal): Promise<BudgetStanding>;
  /** Stops the heartbeat and the poll for commands. Emitted events are still sent. */
  silence(): void;
  /**
   * Aborted with StaleAttempt, or an Error when no coordinator came back or it refused the token.
   */
  readonly over: AbortSignal;
  /** Stops sending. Events that were not acknowledged stay in the journal. */
  close(): Promise<void>;
}

/** The commands that were received and not yet taken: in order, each once. */
export class Inbox {
  #last = -1;
  #commands: WorkerCommand[] = [];
  #listeners = new Set<() => void>();

  /** Ignores commands up to this id, which were received before. */
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
      this.#commands.push(command);
    }
    for (const listener of this.#listeners) listener();
  }

  /** Removes and returns the commands that match. */
  take(matches: (command: WorkerCommand) => boolean): WorkerCommand[] {
    const taken = this.#commands.filter(matches);
    this.#commands = this.#commands.filter((command) => !taken.includes(command));
    return taken;
  }

  has(matches: (command: WorkerCommand) => boolean): boolean {
    return this.#commands.some(matches);
  }

  /** Aborts the signal when a command matches, now or later, until `stop`. Takes nothing. */
  watch(matches: (command: WorkerCommand) => boolean): { readonly signal: AbortSignal; readonly stop: () => void } {
    const found = new AbortController();
    const check = (): void => {
      if (this.has(matches)) found.abort();
    };
    this.#listeners.add(check);
    check();
    return { signal: found.signal, stop: () => this.#listeners.delete(check) };
  }

  /** Removes and returns the first command that matches, now or later. */
  async waitFor(matches: (command: WorkerCommand) => boolean, signal: AbortSignal): Promise<WorkerCommand> {
    return await new Promise((resolve, reject) => {
      const cleanUp = (): void => {
        this.#listeners.delete(check);
        signal.removeEventListener("abort", abort);
      };
      const abort = (): void => {
        cleanUp();
        reject(signal.reason as Error);
      };
      const check = (): void => {
        const index = this.#commands.findIndex(matches);
        const found = this.#commands[index];
        if (found === undefined) return;
        this.#commands.splice(index, 1);
        cleanUp();
        resolve(found);
      };
      if (signal.aborted) return abort();
      signal.addEventListener("abort", abort, { once: true });
      this.#listeners.add(check);
      check();
    });
  }
}
