/**
 * The link over the broker's unix socket.
 *
 * L1 An event is in the journal before it is sent, and in memory until it is acknowledged.
 * L2 At most one batch is under way: events arrive in order. After an error the same events are
 *    sent again; the coordinator drops doubles (rule W1).
 * L3 A coordinator that is away is waited for, up to `abandonMs` (a day); while nobody listens it
 *    is knocked at every 200 ms, so that a restart costs little.
 * L4 An event that the coordinator refuses for good is replaced by a notice under the same number:
 *    one bad event never blocks the rest.
 */
import type { BudgetStanding } from "../../src/core/budget.ts";
import { isAbort } from "../../src/core/error.ts";
import type { WorkerEventType } from "../../src/core/event.ts";
import {
  ABANDON_MS,
  BATCH_BYTES,
  BATCH_EVENTS,
  POLL_SECONDS,
  workerAckSchema,
  workerBudgetSchema,
  workerCommandSchema,
  workerSpecSchema,
  workerTranscriptSchema,
  type WorkerEvent,
  type WorkerSpec,
  type WorkerTranscript,
} from "../../src/core/protocol/worker.ts";
import { z } from "zod";
import type { Journal } from "./journal.ts";
import { Inbox, RecordRejected, StaleAttempt, type CoordinatorLink, type RecoveredState } from "./link.ts";
import { BrokerSocket, isDisconnected, type Answer, type Call } from "./socket.ts";
import { truncate, fitToSchema, type WorkerData } from "../lib/text.ts";
import type { Clock } from "../../src/core/ports/runtime.ts";

const HEARTBEAT_MS = 20_000;
const FOREVER_MS = 2 ** 30;
const DELTA_MS = 40;
const ANSWER_MS = 30_000;
const FIRST_DELAY_MS = 50;
const AWAY_DELAY_MS = 200;
const LAST_DELAY_MS = 1_000;
const DELTA_LIMIT = 16_384;
const DELTA_MESSAGES = 100;

interface Unacked {
  readonly event: WorkerEvent;
  readonly json: string;
  readonly bytes: number;
}

interface Waiter {
  readonly seq: number;
  readonly resolve: () => void;
}

const commandsSchema = z.object({ commands: z.array(workerCommandSchema) });
const refusalSchema = z.object({ detail: z.string() });
const gapSchema = z.object({ ack: z.int().min(0) });

export interface HttpLinkOptions {
  readonly socketPath: string;
  readonly token: string;
  readonly attempt: number;
  readonly journal: Journal;
  readonly clock: Clock;
  /** Until the spec says otherwise. */
  readonly abandonMs?: number;
}

export class HttpLink implements CoordinatorLink {
  readonly inbox = new Inbox();
  readonly #socket: BrokerSocket;
  readonly #attempt: number;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #over = new AbortController();
  readonly #closed = new AbortController();
  readonly #quiet = new AbortController();
  readonly #deltas = new Map<string, string>();
  #unacked: Unacked[] = [];
  #acked = 0;
  #batchLimit = BATCH_EVENTS;
  #abandonMs: number;
  #answeredAt: number;
  #waiters: Waiter[] = [];
  #wake: () => void = () => {};
  #loops: Promise<void>[] = [];

  constructor(options: HttpLinkOptions) {
    this.#socket = new BrokerSocket(options.socketPath, options.token);
    this.#attempt = options.attempt;
    this.#journal = options.journal;
    this.#clock = options.clock;
    this.#abandonMs = options.abandonMs ?? ABANDON_MS;
    this.#answeredAt = options.clock.now();
    this.#over.signal.addEventListener("abort", () => this.#wake());
  }

  get over(): AbortSignal {
    return this.#over.signal;
  }

  get recovered(): RecoveredState {
    return this.#journal.recovered;
  }

  async spec(signal: AbortSignal): Promise<WorkerSpec> {
    const spec = await this.#ask(
      { method: "GET", path: "/worker/v1/spec", timeoutMs: ANSWER_MS, signal },
      workerSpecSchema,
    );
    this.#abandonMs = spec.abandonMs;
    this.#journal.startAfter(spec.ack);
    this.#acked = spec.ack;
    this.#unacked = this.#journal.after(spec.ack).map(packed);
    this.inbox.startAfter(spec.commandsAfter);
    this.#loops = [this.#send(), this.#poll()];
    return spec;
  }

  emit<T extends WorkerEventType>(type: T, data: WorkerData<T>): void {
    const event: WorkerEvent = {
      seq: this.#journal.lastSeq + 1,
      at: new Date(this.#clock.now()).toISOString(),
      type,
      data: fitToSchema(type, data) as Record<string, unknown>,
    };
    const item = packed(event);
    this.#journal.append(event, item.json);
    this.#unacked.push(item);
    this.#wake();
  }

  delta(messageId: string, text: string): void {
    if (!this.#deltas.has(messageId) && this.#deltas.size >= DELTA_MESSAGES) return;
    this.#deltas.set(messageId, truncate((this.#deltas.get(messageId) ?? "") + text, DELTA_LIMIT));
    this.#wake();
  }

  mark(cursor: string): void {
    this.#journal.mark(cursor);
  }

  async flush(signal: AbortSignal): Promise<void> {
    const seq = this.#journal.lastSeq;
    if (this.#acked >= seq) return;
    const stop = AbortSignal.any([signal, this.#over.signal, this.#closed.signal]);
    await new Promise<void>((resolve, reject) => {
      const abort = (): void => reject(stop.reason as Error);
      if (stop.aborted) return abort();
      stop.addEventListener("abort", abort, { once: true });
      this.#waiters.push({
        seq,
        resolve: () => {
          stop.removeEventListener("abort", abort);
          resolve();
        },
      });
    });
  }

  async reach(signal: AbortSignal): Promise<void> {
    await this.#ask(
      { method: "POST", path: "/worker/v1/events", body: this.#body([], []), timeoutMs: ANSWER_MS, signal },
      workerAckSchema,
    );
  }

  async catchUp(signal: AbortSignal): Promise<void> {
    await this.#fetchCommands(0, signal);
  }

  async transcript(after: number, signal: AbortSignal): Promise<WorkerTranscript["records"]> {
    const path = `/worker/v1/transcript?after=${after}`;
    return (await this.#ask({ method: "GET", path, timeoutMs: ANSWER_MS, signal }, workerTranscriptSchema)).records;
  }

  async append(n: number, json: string, signal: AbortSignal): Promise<void> {
    const body = `{"attempt":${this.#attempt},"n":${n},"record":${json}}`;
    await this.#ask(
      { method: "POST", path: "/worker/v1/transcript", body, timeoutMs: ANSWER_MS, signal },
      z.unknown(),
      ({ status, body: why }) => {
        if (status === 400 || status === 409 || status === 413)
          throw new RecordRejected(refusalSchema.parse(why).detail);
      },
    );
  }

  async budget(signal: AbortSignal): Promise<BudgetStanding> {
    return await this.#ask(
      { method: "GET", path: "/worker/v1/budget", timeoutMs: ANSWER_MS, signal },
      workerBudgetSchema,
    );
  }

  silence(): void {
    this.#quiet.abort();
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
   * Repeats a call until it is answered with 200 and a body of that shape. `refused` throws
   * RecordRefused for answers that end it.
   */
  async #ask<T>(call: Call, schema: z.ZodType<T>, refused: (answer: Answer) => void = () => {}): Promise<T> {
    const signal = AbortSignal.any([call.signal, this.#over.signal, this.#closed.signal]);
    for (let delay = FIRST_DELAY_MS; ; delay *= 2) {
      let limit = LAST_DELAY_MS;
      try {
        const answer = await this.#call({ ...call, signal });
        const parsed = answer.status === 200 ? schema.safeParse(answer.body) : null;
        if (parsed?.success) return parsed.data;
        refused(answer);
      } catch (thrown) {
        if (signal.aborted) throw signal.reason;
        if (thrown instanceof RecordRejected) throw thrown;
        if (isDisconnected(thrown)) limit = AWAY_DELAY_MS;
      }
      await this.#clock.sleep(Math.min(delay, limit), signal).catch(() => {
        throw signal.reason;
      });
    }
  }

  async #call(call: Call): Promise<Answer> {
    const answer = await this.#socket.call(call).catch((thrown: unknown) => {
      if (!call.signal.aborted && this.#clock.now() - this.#answeredAt > this.#abandonMs)
        this.#over.abort(new Error("no coordinator came back"));
      throw thrown;
    });
    this.#answeredAt = this.#clock.now();
    if (answer.status === 410) this.#over.abort(new StaleAttempt());
    if (answer.status === 401) this.#over.abort(new Error("the coordinator refused the attempt's token"));
    this.#over.signal.throwIfAborted();
    return answer;
  }

  // ---------------------------------------------------------------- commands

  async #poll(): Promise<void> {
    const signal = AbortSignal.any([this.#quiet.signal, this.#over.signal, this.#closed.signal]);
    while (!signal.aborted) {
      await this.#fetchCommands(POLL_SECONDS, signal).catch((thrown: unknown) => {
        if (!signal.aborted) throw thrown;
      });
    }
  }

  async #fetchCommands(waitSeconds: number, signal: AbortSignal): Promise<void> {
    const path = `/worker/v1/commands?after=${this.inbox.last}&wait=${waitSeconds}`;
    const { commands } = await this.#ask(
      { method: "GET", path, timeoutMs: waitSeconds * 1_000 + ANSWER_MS, signal },
      commandsSchema,
    );
    const { delivered } = this.recovered;
    this.inbox.put(commands.filter((command) => command.type !== "message" || !delivered.has(command.messageId)));
  }

  // ---------------------------------------------------------------- events

  async #send(): Promise<void> {
    const signal = AbortSignal.any([this.#over.signal, this.#closed.signal]);
    let delay = FIRST_DELAY_MS;
    while (!signal.aborted) {
      try {
        if (this.#unacked.length === 0) await this.#idle(signal);
        if (signal.aborted) return;
        await this.#sendBatch(signal);
        delay = FIRST_DELAY_MS;
      } catch (thrown) {
        if (signal.aborted) return;
        await this.#clock
          .sleep(Math.min(delay, isDisconnected(thrown) ? AWAY_DELAY_MS : LAST_DELAY_MS), signal)
          .catch(() => {});
        delay *= 2;
      }
    }
  }

  /** Until there is something to send, a heartbeat is due, or it is over. */
  async #idle(signal: AbortSignal): Promise<void> {
    const nothing = (): boolean => !signal.aborted && this.#unacked.length === 0 && this.#deltas.size === 0;
    while (nothing()) {
      const quiet = this.#quiet.signal.aborted;
      let callOff = (): void => {};
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        callOff = this.#clock.timer(quiet ? FOREVER_MS : HEARTBEAT_MS, resolve);
      });
      callOff();
      if (nothing() && !this.#quiet.signal.aborted) return;
    }
    if (this.#unacked.length === 0 && this.#deltas.size > 0)
      await this.#clock.sleep(DELTA_MS, signal).catch(unlessAbort);
  }

  async #sendBatch(signal: AbortSignal): Promise<void> {
    const batch = this.#nextBatch();
    const deltas = [...this.#deltas].map(([messageId, text]) => ({ messageId, text }));
    this.#deltas.clear();
    await this.#journal.sync();
    const body = this.#body(batch, deltas);
    const answer = await this.#call({ method: "POST", path: "/worker/v1/events", body, timeoutMs: ANSWER_MS, signal });
    if (answer.status === 200) {
      this.#batchLimit = BATCH_EVENTS;
      return this.#acknowledge(workerAckSchema.parse(answer.body).ack);
    }
    if (answer.status === 409) return this.#goOnFrom(gapSchema.parse(answer.body).ack, batch[0]?.event.seq);
    if (answer.status === 400 || answer.status === 413) this.#refused(batch);
    throw new Error(`the coordinator answered ${answer.status}`);
  }

  #nextBatch(): Unacked[] {
    let bytes = 0;
    const batch: Unacked[] = [];
    for (const item of this.#unacked) {
      bytes += item.bytes + 1;
      if (batch.length >= this.#batchLimit || (batch.length > 0 && bytes > BATCH_BYTES)) break;
      batch.push(item);
    }
    return batch;
  }

  #body(batch: readonly Unacked[], deltas: readonly { messageId: string; text: string }[]): string {
    const tail = deltas.length > 0 ? `,"deltas":${JSON.stringify(deltas)}` : "";
    return `{"attempt":${this.#attempt},"events":[${batch.map((item) => item.json).join(",")}]${tail}}`;
  }

  #acknowledge(ack: number): void {
    this.#acked = Math.max(this.#acked, ack);
    const first = this.#unacked.findIndex((item) => item.event.seq > ack);
    this.#unacked = first === -1 ? [] : this.#unacked.slice(first);
    const reached = this.#waiters.filter((waiter) => waiter.seq <= this.#acked);
    this.#waiters = this.#waiters.filter((waiter) => waiter.seq > this.#acked);
    for (const waiter of reached) waiter.resolve();
  }

  /** After a hole: the coordinator has everything up to `ack` and nothing else. */
  #goOnFrom(ack: number, sent: number | undefined): void {
    if (sent === undefined || ack + 1 === sent) throw new Error("the coordinator named no place to go on from");
    this.#acknowledge(ack);
    if (this.#journal.lastSeq <= ack || this.#unacked[0]?.event.seq === ack + 1) return;
    this.#unacked = this.#journal.after(ack).map(packed);
    if (this.#unacked[0]?.event.seq !== ack + 1) throw new Error(`event ${ack + 1} is not in the journal`);
  }

  #refused(batch: readonly Unacked[]): void {
    const [first] = batch;
    this.#batchLimit = Math.max(1, Math.floor(batch.length / 2));
    if (batch.length !== 1 || first === undefined) return;
    const data = { level: "warning", code: "event_refused", text: `An event of type ${first.event.type} was refused.` };
    this.#unacked[0] = packed({ ...first.event, type: "notice", data });
  }
}

function packed(event: WorkerEvent): Unacked {
  const json = JSON.stringify(event);
  return { event, json, bytes: Buffer.byteLength(json) };
}

function unlessAbort(thrown: unknown): void {
  if (!isAbort(thrown)) throw thrown;
}
