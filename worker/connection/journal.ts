/**
 * The attempt's journal: one JSON line per emitted event, written before the event is sent.
 *
 * J1 Only the last line can be incomplete after a crash. Its event was never sent; it is dropped.
 * J2 After a failed write (disk full) the journal is not written again: later events exist in
 *    memory only, so that the failure can still be reported.
 * J3 Memory holds only events that are not acknowledged. The others are read from the file when a
 *    coordinator asks for them.
 */
import { closeSync, existsSync, fdatasync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { WorkerEvent } from "../../src/core/protocol/worker.ts";
import type { RecoveredState } from "./link.ts";

const datasync = promisify(fdatasync);

/**
 * Events that are flushed to the disk before they are sent, because they are the record of the
 * agent's work. The others only show progress and may be lost in a power failure.
 */
const DURABLE_TYPES: ReadonlySet<string> = new Set([
  "message",
  "message.status",
  "tool.finished",
  "checkpoint",
  "question",
  "finished",
  "failed",
]);

type JournalEntry = WorkerEvent | { readonly cursor: string } | { readonly attempt: number };

export class Journal {
  readonly #path: string;
  readonly #fd: number;
  #unsynced = false;
  #broken = false;
  #lastSeq: number;
  readonly recovered: RecoveredState;

  /** Opens the journal of the attempt. A journal of another attempt is overwritten. */
  constructor(stateDir: string, attempt: number) {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    this.#path = join(stateDir, "journal.jsonl");
    const found = existsSync(this.#path) ? readEntries(this.#path) : { entries: [], bytes: 0 };
    const [head, ...entries] = found.entries;
    const isOfAttempt = head !== undefined && "attempt" in head && head.attempt === attempt;
    this.#fd = openSync(this.#path, "a", 0o600);
    ftruncateSync(this.#fd, isOfAttempt ? found.bytes : 0);
    if (!isOfAttempt) {
      entries.length = 0;
      this.#write(JSON.stringify({ attempt }));
    }
    this.#lastSeq = entries.reduce((last, entry) => ("seq" in entry ? Math.max(last, entry.seq) : last), 0);
    this.recovered = recoverState(entries);
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  /**
   * Continues the numbers after `seq`, which the coordinator knows even if the journal was lost.
   */
  startAfter(seq: number): void {
    this.#lastSeq = Math.max(this.#lastSeq, seq);
  }

  /** @param json the event as it will be sent. */
  append(event: WorkerEvent, json: string): void {
    this.#lastSeq = event.seq;
    this.#write(json);
    if (DURABLE_TYPES.has(event.type)) this.#unsynced = true;
  }

  mark(cursor: string): void {
    this.#write(JSON.stringify({ cursor }));
  }

  /** Resolves when every event of DURABLE_TYPES is on the disk. */
  async sync(): Promise<void> {
    if (!this.#unsynced) return;
    this.#unsynced = false;
    await datasync(this.#fd).catch(() => {
      this.#broken = true;
    });
  }

  /** The events with a larger seq, from the file. */
  after(seq: number): WorkerEvent[] {
    return readEntries(this.#path).entries.filter((entry): entry is WorkerEvent => "seq" in entry && entry.seq > seq);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #write(json: string): void {
    if (this.#broken) return;
    try {
      writeSync(this.#fd, `${json}\n`);
    } catch {
      this.#broken = true;
    }
  }
}

/** Reads the complete lines (J1). @returns also their length in bytes. */
function readEntries(path: string): { entries: JournalEntry[]; bytes: number } {
  const text = readFileSync(path, "utf8");
  const complete = text.slice(0, text.lastIndexOf("\n") + 1);
  const entries: JournalEntry[] = [];
  for (const line of complete.split("\n")) {
    if (line !== "") entries.push(JSON.parse(line) as JournalEntry);
  }
  return { entries, bytes: Buffer.byteLength(complete) };
}

function recoverState(entries: readonly JournalEntry[]): RecoveredState {
  const openTools = new Map<string, string>();
  const asked = new Set<string>();
  const delivered = new Set<string>();
  let [ready, reported] = [false, false];
  let [cursor, setupFailure]: [string | null, string | null] = [null, null];
  for (const entry of entries) {
    if ("cursor" in entry) cursor = entry.cursor;
    if (!("seq" in entry)) continue;
    const id = String(entry.data["id"]);
    if (entry.type === "ready") ready = true;
    if (entry.type === "finished" || entry.type === "failed") reported = true;
    if (entry.type === "notice" && entry.data["code"] === "setup_failed") setupFailure = String(entry.data["text"]);
    if (entry.type === "tool.started") openTools.set(id, String(entry.data["name"]));
    if (entry.type === "tool.finished") openTools.delete(id);
    if (entry.type === "question") asked.add(id);
    if (entry.type === "message.status") delivered.add(id);
  }
  return {
    ready,
    setupFailure,
    reported,
    cursor,
    asked,
    delivered,
    openTools: [...openTools].map(([id, name]) => ({ id, name })),
  };
}
