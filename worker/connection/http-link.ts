/**
 * The link over the broker's unix socket.
 *
 * L1 An event is written to the journal before it is sent, and kept in memory until it is
 *    acknowledged.
 * L2 At most one batch is in flight, so events arrive in order. After an error the same events are
 *    sent again; the coordinator drops duplicates (rule W1).
 * L3 While the coordinator is away the link retries, for at most `abandonMs` (a day). While nothing
 *    listens on the socket it retries every 200 ms, so that a restart delays little.
 * L4 An event that the coordinator refuses is replaced by a notice with the same number: one
 *    invalid event never blocks the rest.
 */
import type { Finding } from "../../src/core/values/push-guard.ts";
import type { BudgetStanding } from "../../src/core/budget.ts";
import { isAbort } from "../../src/core/error.ts";
import type { WorkerEventType } from "../../src/core/event.ts";
import {
  ABANDON_MS,
  POLL_SECONDS,
  SETUP_ARCHIVE_MS,
  SETUP_ON_DISK,
  SETUP_SAVED_AT,
  TEXT_ENDS,
  workerAckSchema,
  workerBudgetSchema,
  workerFindingsSchema,
  workerCommandSchema,
  workerSetupSavedSchema,
  workerSpecSchema,
  workerTranscriptSchema,
  workerVariablesSchema,
  type WorkerSetupSaved,
  type WorkerSpec,
  type WorkerTranscript,
  type WorkerVariables,
} from "../../src/core/protocol/worker.ts";
import { z } from "zod";
import type { Journal } from "./journal.ts";
import { Absence } from "./absence.ts";
import {
  Inbox,
  RecordRejected,
  StaleAttempt,
  type CoordinatorLink,
  type KeptSetup,
  type RecoveredState,
} from "./link.ts";
import { Outbox } from "./outbox.ts";
import { BrokerSocket, isDisconnected, isOfDisk, type BrokerRequest, type BrokerResponse } from "./broker-socket.ts";
import { truncate, fitToSchema, type WorkerData } from "../lib/text.ts";
import { NO_SECRETS, type Redaction } from "../../src/core/lib/json/redaction.ts";
import type { Clock } from "../../src/core/ports/runtime.ts";

const HEARTBEAT_MS = 20_000;
/** Longest time of one look at a change, ms: thousands of files may be searched. */
const INSPECT_MS = 180_000;
/** Longer than any attempt: a silenced link sends no heartbeat. */
const NEVER_MS = 2 ** 30;
/** Longest time of one attachment, ms. */
const DOWNLOAD_MS = 5 * 60_000;
/** Text is collected for this long before it is sent. */
const DELTA_MS = 40;
const RESPONSE_MS = 30_000;
/** Pauses between retries grow from the first to the last; `AWAY` while nothing listens. */
const FIRST_RETRY_MS = 50;
const AWAY_RETRY_MS = 200;
const LAST_RETRY_MS = 1_000;
/** Characters of one message, and messages, in one batch. */
const DELTA_LIMIT = 16_384;
const DELTA_MESSAGES = 100;

/** The archive of a setup, in both directions. */
const SETUP = "/worker/v1/setup";
/** The poll for commands, which the coordinator answers late on purpose. */
const COMMANDS = "/worker/v1/commands";

const commandsSchema = z.object({ commands: z.array(workerCommandSchema) });
const problemSchema = z.object({ detail: z.string() });
const gapSchema = z.object({ ack: z.int().min(0) });

export interface HttpLinkOptions {
  /** Returns the known secrets; called at each emit, because commands get them later. */
  readonly secrets?: () => Redaction;
  readonly socketPath: string;
  readonly token: string;
  readonly attempt: number;
  readonly journal: Journal;
  readonly clock: Clock;
  /** Holds until the spec has arrived, which brings its own value. */
  readonly abandonMs?: number;
  /** True when the installation was deleted while this worker runs. Called when requests fail. */
  readonly isOrphaned?: () => boolean;
}

export class HttpLink implements CoordinatorLink {
  readonly inbox = new Inbox();
  readonly #socket: BrokerSocket;
  readonly #attempt: number;
  readonly #journal: Journal;
  readonly #outbox: Outbox;
  readonly #clock: Clock;
  readonly #over = new AbortController();
  readonly #closed = new AbortController();
  readonly #silenced = new AbortController();
  /** Text that waits to be sent, by message id. */
  readonly #deltas = new Map<string, string>();
  readonly #absence: Absence;
  readonly #secrets: () => Redaction;
  readonly #isOrphaned: () => boolean;
  #abandonMs: number;
  /** On the monotonic clock. */
  #lastResponseAt: number;
  /** Ends the pause of the send loop. */
  #wake: () => void = () => {};
  #loops: Promise<void>[] = [];

  constructor(options: HttpLinkOptions) {
    this.#socket = new BrokerSocket(options.socketPath, options.token);
    this.#attempt = options.attempt;
    this.#journal = options.journal;
    this.#outbox = new Outbox(options.journal);
    this.#clock = options.clock;
    this.#secrets = options.secrets ?? ((): Redaction => NO_SECRETS);
    this.#isOrphaned = options.isOrphaned ?? ((): boolean => false);
    this.#abandonMs = options.abandonMs ?? ABANDON_MS;
    this.#absence = new Absence(() => options.clock.monotonic());
    this.#lastResponseAt = options.clock.monotonic();
    this.#over.signal.addEventListener("abort", () => this.#wake());
  }

  get over(): AbortSignal {
    return this.#over.signal;
  }

  get awayMs(): number {
    return this.#absence.totalMs;
  }

  get recovered(): RecoveredState {
    return this.#journal.recovered;
  }

  async spec(signal: AbortSignal): Promise<WorkerSpec> {
    const request = { method: "GET", path: "/worker/v1/spec", timeoutMs: RESPONSE_MS, signal } as const;
    const spec = await this.#requestUntilOk(request, workerSpecSchema);
    this.#abandonMs = spec.abandonMs;
    this.#outbox.startAfter(spec.ack);
    this.inbox.startAfter(spec.commandsAfter);
    this.#loops = [this.#sendLoop(), this.#pollLoop()];
    return spec;
  }

  emit<T extends WorkerEventType>(type: T, data: WorkerData<T>): void {
    const at = new Date(this.#clock.now()).toISOString();
    const sent = fitToSchema(type, this.#secrets().redactValue(data)) as Record<string, unknown>;
    this.#outbox.add({ at, type, data: sent });
    if (TEXT_ENDS.has(type)) this.#deltas.delete(String(sent["id"]));
    this.#wake();
  }

  delta(messageId: string, text: string): void {
    if (!this.#deltas.has(messageId) && this.#deltas.size >= DELTA_MESSAGES) return;
    // A caller that sends text in pieces removes secrets that are split over them itself.
    this.#deltas.set(
      messageId,
      truncate(this.#secrets().redact((this.#deltas.get(messageId) ?? "") + text), DELTA_LIMIT),
    );
    this.#wake();
  }

  mark(cursor: string): void {
    this.#journal.mark(cursor);
  }

  async flush(signal: AbortSignal): Promise<void> {
    await this.#outbox.flush(AbortSignal.any([signal, this.#over.signal, this.#closed.signal]));
  }

  async reach(signal: AbortSignal): Promise<void> {
    const body = this.#batchBody([], []);
    const request = { method: "POST", path: "/worker/v1/events", body, timeoutMs: RESPONSE_MS, signal } as const;
    await this.#requestUntilOk(request, workerAckSchema);
  }

  async catchUp(signal: AbortSignal): Promise<void> {
    await this.#fetchCommands(0, signal);
  }

  async transcript(after: number, signal: AbortSignal): Promise<WorkerTranscript["records"]> {
    const path = `/worker/v1/transcript?after=${after}`;
    const request = { method: "GET", path, timeoutMs: RESPONSE_MS, signal } as const;
    return (await this.#requestUntilOk(request, workerTranscriptSchema)).records;
  }

  async append(n: number, json: string, signal: AbortSignal): Promise<void> {
    const body = `{"attempt":${this.#attempt},"n":${n},"record":${json}}`;
    const request = { method: "POST", path: "/worker/v1/transcript", body, timeoutMs: RESPONSE_MS, signal } as const;
    await this.#requestUntilOk(request, z.unknown(), ({ status, body: problem }) => {
      if (status === 400 || status === 409 || status === 413)
        throw new RecordRejected(problemSchema.parse(problem).detail);
    });
  }

  async budget(signal: AbortSignal): Promise<BudgetStanding> {
    const request = { method: "GET", path: "/worker/v1/budget", timeoutMs: RESPONSE_MS, signal } as const;
    return await this.#requestUntilOk(request, workerBudgetSchema);
  }

  async variables(signal: AbortSignal): Promise<WorkerVariables> {
    const request = { method: "GET", path: "/worker/v1/variables", timeoutMs: RESPONSE_MS, signal } as const;
    return await this.#requestUntilOk(request, workerVariablesSchema);
  }

  async openSetup(signal: AbortSignal): Promise<KeptSetup | null> {
    const stop = AbortSignal.any([signal, this.#over.signal, this.#closed.signal]);
    const request = { path: SETUP, timeoutMs: SETUP_ARCHIVE_MS, signal: stop };
    const content = await this.#socket.open(request).catch(() => null);
    stop.throwIfAborted();
    if (content?.statusCode === 200) {
      const isOnDisk = content.headers[SETUP_ON_DISK] !== undefined;
      return { savedAt: Number(content.headers[SETUP_SAVED_AT]), content, isOnDisk };
    }
    content?.resume();
    return null;
  }

  async saveSetup(content: AsyncIterable<Uint8Array>, signal: AbortSignal): Promise<WorkerSetupSaved> {
    const stop = AbortSignal.any([signal, this.#over.signal, this.#closed.signal]);
    const { status, body } = await this.#socket.upload(
      { path: SETUP, timeoutMs: SETUP_ARCHIVE_MS, signal: stop },
      content,
    );
    if (status !== 200) throw new Error(`the server answered ${status}`);
    return workerSetupSavedSchema.parse(body);
  }

  async inspect(sha: string, signal: AbortSignal): Promise<readonly Finding[]> {
    const body = JSON.stringify({ attempt: this.#attempt, sha });
    const request = { method: "POST", path: "/worker/v1/inspect", body, timeoutMs: INSPECT_MS, signal } as const;
    return (await this.#requestUntilOk(request, workerFindingsSchema)).findings;
  }

  async download(id: string, path: string, signal: AbortSignal): Promise<boolean> {
    const stop = AbortSignal.any([signal, this.#over.signal, this.#closed.signal]);
    const address = `/worker/v1/attachment?id=${encodeURIComponent(id)}`;
    for (let delay = FIRST_RETRY_MS; ; delay *= 2) {
      try {
        const status = await this.#socket.download({ path: address, timeoutMs: DOWNLOAD_MS, signal: stop }, path);
        if (status === 200 || status === 404) return status === 200;
        if (status === 410) this.#over.abort(new StaleAttempt());
      } catch (thrown) {
        stop.throwIfAborted();
        if (isOfDisk(thrown)) throw thrown;
      }
      await this.#clock.sleep(Math.min(delay, LAST_RETRY_MS), stop).catch(() => {
        throw stop.reason;
      });
    }
  }

  silence(): void {
    this.#silenced.abort();
    this.#wake();
  }

  async close(): Promise<void> {
    this.#closed.abort();
    this.#wake();
    await Promise.all(this.#loops);
    this.#socket.close();
    this.#journal.close();
  }

  /**
   * Repeats a request until the response has status 200 and a body of the schema.
   * @param checkRejection throws RecordRejected for a response that ends the retries.
   */
  async #requestUntilOk<T>(
    request: BrokerRequest,
    schema: z.ZodType<T>,
    checkRejection: (response: BrokerResponse) => void = () => {},
  ): Promise<T> {
    const signal = AbortSignal.any([request.signal, this.#over.signal, this.#closed.signal]);
    for (let delay = FIRST_RETRY_MS; ; delay *= 2) {
      let maxDelay = LAST_RETRY_MS;
      try {
        const response = await this.#request({ ...request, signal }, request.path.startsWith(COMMANDS));
        const parsed = response.status === 200 ? schema.safeParse(response.body) : null;
        if (parsed?.success) return parsed.data;
        checkRejection(response);
      } catch (thrown) {
        if (signal.aborted) throw signal.reason;
        if (thrown instanceof RecordRejected) throw thrown;
        if (isDisconnected(thrown)) maxDelay = AWAY_RETRY_MS;
      }
      await this.#clock.sleep(Math.min(delay, maxDelay), signal).catch(() => {
        throw signal.reason;
      });
    }
  }

  /** One request. Ends the link when the attempt is over or no coordinator came back in time. */
  async #request(request: BrokerRequest, isPoll = false): Promise<BrokerResponse> {
    const startedAt = this.#clock.monotonic();
    const response = await this.#socket.request(request).catch((thrown: unknown) => {
      if (!request.signal.aborted) this.#absence.onFailure(startedAt);
      if (!request.signal.aborted && this.#clock.monotonic() - this.#lastResponseAt > this.#abandonMs)
        this.#over.abort(new Error("no coordinator came back"));
      if (!request.signal.aborted && this.#isOrphaned())
        this.#over.abort(new Error("nobody answers, and the worker's folder is gone"));
      throw thrown;
    });
    this.#absence.onAnswer(startedAt, isPoll);
    this.#lastResponseAt = this.#clock.monotonic();
    if (response.status === 410) this.#over.abort(new StaleAttempt());
    if (response.status === 401) this.#over.abort(new Error("the coordinator refused the attempt's token"));
    this.#over.signal.throwIfAborted();
    return response;
  }

  // ---------------------------------------------------------------- commands

  async #pollLoop(): Promise<void> {
    const signal = AbortSignal.any([this.#silenced.signal, this.#over.signal, this.#closed.signal]);
    while (!signal.aborted) {
      await this.#fetchCommands(POLL_SECONDS, signal).catch((thrown: unknown) => {
        if (!signal.aborted) throw thrown;
      });
    }
  }

  async #fetchCommands(waitSeconds: number, signal: AbortSignal): Promise<void> {
    const path = `${COMMANDS}?after=${this.inbox.last}&wait=${waitSeconds}`;
    const request = { method: "GET", path, timeoutMs: waitSeconds * 1_000 + RESPONSE_MS, signal } as const;
    const { commands } = await this.#requestUntilOk(request, commandsSchema);
    const { delivered } = this.recovered;
    this.inbox.put(commands.filter((command) => command.type !== "message" || !delivered.has(command.messageId)));
  }

  // ---------------------------------------------------------------- events

  async #sendLoop(): Promise<void> {
    const signal = AbortSignal.any([this.#over.signal, this.#closed.signal]);
    let delay = FIRST_RETRY_MS;
    while (!signal.aborted) {
      try {
        if (this.#outbox.isEmpty) await this.#waitForWork(signal);
        if (signal.aborted) return;
        await this.#sendBatch(signal);
        delay = FIRST_RETRY_MS;
      } catch (thrown) {
        if (signal.aborted) return;
        const maxDelay = isDisconnected(thrown) ? AWAY_RETRY_MS : LAST_RETRY_MS;
        await this.#clock.sleep(Math.min(delay, maxDelay), signal).catch(() => {});
        delay *= 2;
      }
    }
  }

  /** Resolves when there is something to send, a heartbeat is due, or the signal is aborted. */
  async #waitForWork(signal: AbortSignal): Promise<void> {
    const isIdle = (): boolean => !signal.aborted && this.#outbox.isEmpty && this.#deltas.size === 0;
    while (isIdle()) {
      const silenced = this.#silenced.signal.aborted;
      let cancelTimer = (): void => {};
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        cancelTimer = this.#clock.timer(silenced ? NEVER_MS : HEARTBEAT_MS, resolve);
      });
      cancelTimer();
      if (isIdle() && !this.#silenced.signal.aborted) return;
    }
    if (this.#outbox.isEmpty && this.#deltas.size > 0)
      await this.#clock.sleep(DELTA_MS, signal).catch((thrown: unknown) => {
        if (!isAbort(thrown)) throw thrown;
      });
  }

  /** Sends one batch; an empty one is a heartbeat. Rejects when it must be sent again. */
  async #sendBatch(signal: AbortSignal): Promise<void> {
    const { events, firstSeq, isLast } = this.#outbox.nextBatch();
    // They come after the events that wait (F4).
    const deltas = isLast ? [...this.#deltas].map(([messageId, text]) => ({ messageId, text })) : [];
    if (isLast) this.#deltas.clear();
    await this.#journal.sync();
    const body = this.#batchBody(events, deltas);
    const path = "/worker/v1/events";
    const response = await this.#request({ method: "POST", path, body, timeoutMs: RESPONSE_MS, signal });
    if (response.status === 200) return this.#outbox.acknowledge(workerAckSchema.parse(response.body).ack);
    if (response.status === 409) return this.#outbox.rewind(gapSchema.parse(response.body).ack, firstSeq);
    if (response.status === 400 || response.status === 413) this.#outbox.reject(events.length);
    throw new Error(`the coordinator answered ${response.status}`);
  }

  #batchBody(events: readonly string[], deltas: readonly { messageId: string; text: string }[]): string {
    const tail = deltas.length > 0 ? `,"deltas":${JSON.stringify(deltas)}` : "";
    return `{"attempt":${this.#attempt},"events":[${events.join(",")}]${tail}}`;
  }
}
