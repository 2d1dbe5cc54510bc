/**
 * The worker API in memory, for one task: accepts events by the rules of the real one (order,
 * duplicates, gaps, the fence).
 */
import { Readable } from "node:stream";
import type { OpenedAttachment } from "../../src/core/ports/files/attachments.ts";
import type { BudgetStanding } from "../../src/core/budget.ts";
import { SequenceGap, SlipwayError } from "../../src/core/error.ts";
import { WORKER_DATA, type WorkerEventType } from "../../src/core/event.ts";
import { MemoryTranscripts } from "../../src/store/memory/transcripts.ts";
import type { ScriptStep } from "../../src/core/task.ts";
import {
  TRANSCRIPT_PAGE_BYTES,
  RECORD_BYTES,
  TranscriptMoved,
  type StoredRecord,
} from "../../src/core/ports/records/transcripts.ts";
import type {
  TranscriptAppend,
  WorkerAck,
  WorkerBatch,
  WorkerCommand,
  WorkerEvent,
  WorkerSpec,
  WorkerVariables,
} from "../../src/core/protocol/worker.ts";
import { checkpointRef, WORK_REF } from "../../src/core/ports/repositories.ts";
import type { Finding } from "../../src/core/values/push-guard.ts";
import type { OpenedSetup, SetupSaved } from "../../src/core/ports/files/setup-caches.ts";
import type { WorkerApi } from "../../src/core/ports/broker.ts";

export interface Accepted extends WorkerEvent {
  readonly attempt: number;
}

type Unnumbered = WorkerCommand extends infer C ? (C extends { id: number } ? Omit<C, "id"> : never) : never;

export class MemoryWorkerApi implements WorkerApi {
  readonly taskId: string;
  readonly events: Accepted[] = [];
  /** `after` is the number of the last event before it. */
  readonly deltas: { messageId: string; text: string; after: number }[] = [];
  readonly answers: Record<string, string> = {};
  readonly transcripts = new MemoryTranscripts();
  standing: BudgetStanding = { state: "continue" };
  findings: readonly Finding[] = [];
  readonly inspected: string[] = [];
  readonly attachments = new Map<string, OpenedAttachment>();
  /** Before the attempt is ready, and after that. */
  setupVariables: WorkerVariables["variables"] = [];
  agentVariables: WorkerVariables["variables"] = [];
  /** The workspace began as a copy. */
  isSetupOnDisk = false;
  /** What a setup made; with `setupBreaks` the connection ends within it. */
  setup: Buffer | null = null;
  setupBreaks = false;
  attempt = 1;
  ack = 0;
  over = false;
  baseSha = "";
  /** The times of all requests, including refused ones; epoch ms. */
  readonly requestTimes: number[] = [];
  overrides: Partial<WorkerSpec> = {};
  script: ScriptStep[] | null = null;
  #commands: WorkerCommand[] = [];
  /** The id of the last command that the worker has. */
  #received = 0;
  #watchers = new Set<() => void>();

  constructor(taskId = "task_01j00000000000000000000000") {
    this.taskId = taskId;
  }

  #check(taskId: string, attempt: number): void {
    this.requestTimes.push(Date.now());
    if (taskId !== this.taskId || attempt !== this.attempt || this.over) throw new SlipwayError("stale_attempt");
  }

  async attachment(taskId: string, attempt: number, id: string): Promise<OpenedAttachment> {
    this.#check(taskId, attempt);
    const found = this.attachments.get(id);
    if (found === undefined) throw new SlipwayError("not_found");
    return found;
  }

  async spec(taskId: string, attempt: number): Promise<WorkerSpec> {
    this.#check(taskId, attempt);
    const saved = this.of("checkpoint").at(-1)?.data;
    return {
      taskId,
      attempt,
      prompt: "Do the work",
      agent: "scripted",
      model: null,
      effort: null,
      gateway: "none",
      script: this.script,
      setup: [],
      verify: [],
      budget: {},
      base: "main",
      baseSha: this.baseSha,
      workRef: WORK_REF,
      checkpointRef: checkpointRef(attempt),
      transcript: this.transcripts.last(taskId),
      resume: saved === undefined ? null : { sha: String(saved["sha"]), cursor: saved["cursor"] as string | null },
      answers: this.answers,
      delivered: [],
      commandsAfter: 0,
      ack: this.ack,
      wallMs: 3_600_000,
      abandonMs: 3_600_000,
      ...this.overrides,
    };
  }

  async transcript(taskId: string, attempt: number, after: number): Promise<StoredRecord[]> {
    this.#check(taskId, attempt);
    return this.transcripts.records(taskId, after, TRANSCRIPT_PAGE_BYTES);
  }

  async append(taskId: string, { n, attempt, record }: TranscriptAppend): Promise<void> {
    this.#check(taskId, attempt);
    const json = JSON.stringify(record);
    if (Buffer.byteLength(json) > RECORD_BYTES) throw new SlipwayError("payload_too_large");
    const result = this.transcripts.append({ taskId, n, attempt, json }, true);
    if (result.kind === "elsewhere") throw new TranscriptMoved(result.last);
    if (result.kind === "full") throw new SlipwayError("transcript_full");
    this.#changed();
  }

  async variables(taskId: string, attempt: number): Promise<WorkerVariables> {
    this.#check(taskId, attempt);
    const isSetup = this.of("ready").every((event) => event.attempt !== attempt);
    return { variables: isSetup ? this.setupVariables : this.agentVariables };
  }

  async openSetup(taskId: string, attempt: number): Promise<OpenedSetup | null> {
    this.#check(taskId, attempt);
    const { setup, setupBreaks, isSetupOnDisk } = this;
    if (setup === null) return null;
    if (isSetupOnDisk) return { bytes: 0, savedAt: 1_700_000_000_000, content: Readable.from([]), isOnDisk: true };
    const content = (async function* () {
      yield setup;
      if (setupBreaks) throw new Error("the server ends");
    })();
    return { bytes: setup.length + (setupBreaks ? 1 : 0), savedAt: 1_700_000_000_000, content };
  }

  async saveSetup(taskId: string, attempt: number, content: AsyncIterable<Uint8Array>): Promise<SetupSaved> {
    this.#check(taskId, attempt);
    const pieces: Uint8Array[] = [];
    for await (const piece of content) pieces.push(piece);
    this.setup = Buffer.concat(pieces);
    return { saved: true, reason: null };
  }

  async inspect(taskId: string, attempt: number, sha: string): Promise<readonly Finding[]> {
    this.#check(taskId, attempt);
    this.inspected.push(sha);
    return this.findings;
  }

  async budget(taskId: string, attempt: number): Promise<BudgetStanding> {
    this.#check(taskId, attempt);
    return this.standing;
  }

  async accept(taskId: string, batch: WorkerBatch): Promise<WorkerAck> {
    this.#check(taskId, batch.attempt);
    const newEvents = batch.events.filter((event) => event.seq > this.ack);
    if (newEvents[0] !== undefined && newEvents[0].seq !== this.ack + 1) throw new SequenceGap(this.ack);
    for (const event of newEvents) {
      const parsed = WORKER_DATA[event.type].safeParse(event.data);
      if (!parsed.success) throw new SlipwayError("invalid_request", parsed.error.message);
    }
    for (const event of newEvents) {
      this.events.push({ ...event, attempt: batch.attempt });
      this.ack = event.seq;
    }
    this.deltas.push(...(batch.deltas ?? []).map((delta) => ({ ...delta, after: this.ack })));
    this.#changed();
    return { ack: this.ack, commands: this.#commands.length > 0 };
  }

  async commands(
    taskId: string,
    attempt: number,
    after: number,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<WorkerCommand[]> {
    this.#check(taskId, attempt);
    this.#received = Math.max(this.#received, after);
    this.#changed();
    const found = (): WorkerCommand[] => this.#commands.filter((command) => command.id > after);
    const until = Date.now() + waitMs;
    while (found().length === 0 && !this.over && !signal.aborted && Date.now() < until)
      await this.#change(until - Date.now(), signal);
    if (this.over) throw new SlipwayError("stale_attempt");
    return found();
  }

  command(command: Unnumbered): void {
    this.#commands.push({ ...command, id: this.#commands.length + 1 } as WorkerCommand);
    this.#changed();
  }

  /** Resolves when the worker has the command: it asks for those after it. */
  async deliver(command: Unnumbered): Promise<void> {
    this.command(command);
    const id = this.#commands.length;
    await this.until(() => this.#received >= id);
  }

  /** The attempt is over; the next one may begin. */
  next(): void {
    this.attempt += 1;
    this.ack = 0;
    this.#changed();
  }

  end(): void {
    this.over = true;
    this.#changed();
  }

  of(type: WorkerEventType): Accepted[] {
    return this.events.filter((event) => event.type === type);
  }

  /** The texts of the agent's messages. */
  messageTexts(): string[] {
    return this.of("message").map((event) =>
      (event.data["content"] as { text: string }[]).map((block) => block.text).join(""),
    );
  }

  tool(name: string, nth = 0): { output: string; exitCode: number | null; truncated: boolean; ms: number } {
    return this.of("tool.finished").filter((event) => event.data["name"] === name)[nth]!.data as never;
  }

  /** Resolves when the condition holds; checked at each change. */
  async until(condition: () => boolean, ms = 120_000): Promise<void> {
    const end = Date.now() + ms;
    while (!condition()) {
      if (Date.now() > end)
        throw new Error(
          `not in time; so far: ${JSON.stringify(this.events.map((e) => [e.type, e.data])).slice(-3_000)}`,
        );
      await this.#change(100, new AbortController().signal);
    }
  }

  #changed(): void {
    for (const watcher of this.#watchers) watcher();
  }

  async #change(ms: number, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#watchers.delete(done);
        signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(0, ms));
      this.#watchers.add(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }
}
