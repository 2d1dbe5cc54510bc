/**
 * The attempt's journal: one JSON line per emitted event, written before it is sent.
 *
 * J1 A line that was cut short by a crash is the last one; it was never sent and is dropped.
 * J2 A journal that cannot be written (disk full) is left as it is: what follows lives in memory
 *    only, so that the failure can be reported.
 * J3 Only what is not acknowledged is kept in memory; the rest is read back from the file when a
 *    coordinator asks for it.
 */
import { closeSync, existsSync, fdatasync, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import type { WorkerEvent } from "../../src/core/protocol/worker.ts";
import type { RecoveredState } from "./link.ts";

const datasync = promisify(fdatasync);

/**
 * Losing one of these in a power cut would lose what the agent did or said; the rest is progress.
 */
const PRECIOUS: ReadonlySet<string> = new Set([
  "message",
  "message.status",
  "tool.finished",
  "checkpoint",
  "question",
  "finished",
  "failed",
]);

type Line = WorkerEvent | { readonly cursor: string } | { readonly attempt: number };

export class Journal {
  readonly #path: string;
  readonly #fd: number;
  #unsynced = false;
  #broken = false;
  #lastSeq: number;
  readonly recovered: RecoveredState;

  /** Another attempt's journal in the same folder is begun anew. */
  constructor(stateDir: string, attempt: number) {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    this.#path = join(stateDir, "journal.jsonl");
    const found = existsSync(this.#path) ? readLines(this.#path) : { lines: [], bytes: 0 };
    const [head, ...lines] = found.lines;
    const mine = head !== undefined && "attempt" in head && head.attempt === attempt;
    this.#fd = openSync(this.#path, "a", 0o600);
    ftruncateSync(this.#fd, mine ? found.bytes : 0);
    if (!mine) {
      lines.length = 0;
      this.#write(JSON.stringify({ attempt }));
    }
    this.#lastSeq = lines.reduce((last, line) => ("seq" in line ? Math.max(last, line.seq) : last), 0);
    this.recovered = recover(lines);
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Numbers that the coordinator knows of an attempt whose journal is lost are not used again. */
  startAfter(seq: number): void {
    this.#lastSeq = Math.max(this.#lastSeq, seq);
  }

  /** `json`: the event as it will be sent. */
  append(event: WorkerEvent, json: string): void {
    this.#lastSeq = event.seq;
    this.#write(json);
    if (PRECIOUS.has(event.type)) this.#unsynced = true;
  }

  mark(cursor: string): void {
    this.#write(JSON.stringify({ cursor }));
  }

  /** Resolves when every precious line is on the disk. */
  async sync(): Promise<void> {
    if (!this.#unsynced) return;
    this.#unsynced = false;
    await datasync(this.#fd).catch(() => {
      this.#broken = true;
    });
  }

  /** Events with a larger seq, from the file. */
  after(seq: number): WorkerEvent[] {
    return readLines(this.#path).lines.filter((line): line is WorkerEvent => "seq" in line && line.seq > seq);
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

function readLines(path: string): { lines: Line[]; bytes: number } {
  const text = readFileSync(path, "utf8");
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  const lines: Line[] = [];
  for (const line of whole.split("\n")) {
    if (line !== "") lines.push(JSON.parse(line) as Line);
  }
  return { lines, bytes: Buffer.byteLength(whole) };
}

function recover(lines: readonly Line[]): RecoveredState {
  const openTools = new Map<string, string>();
  const asked = new Set<string>();
  const delivered = new Set<string>();
  let [ready, reported] = [false, false];
  let [cursor, setupFailure]: [string | null, string | null] = [null, null];
  for (const line of lines) {
    if ("cursor" in line) cursor = line.cursor;
    if (!("seq" in line)) continue;
    const id = String(line.data["id"]);
    if (line.type === "ready") ready = true;
    if (line.type === "finished" || line.type === "failed") reported = true;
    if (line.type === "notice" && line.data["code"] === "setup_failed") setupFailure = String(line.data["text"]);
    if (line.type === "tool.started") openTools.set(id, String(line.data["name"]));
    if (line.type === "tool.finished") openTools.delete(id);
    if (line.type === "question") asked.add(id);
    if (line.type === "message.status") delivered.add(id);
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
