/** Transcripts in memory. */
import type { AppendResult, NewRecord, StoredRecord } from "../../core/ports/records/transcripts.ts";
import type { Task } from "../../core/task.ts";
import { checkSequence } from "../shared/append.ts";

const totalBytes = (records: readonly StoredRecord[]): number =>
  records.reduce((sum, { json }) => sum + Buffer.byteLength(json), 0);

/** The records `after` + 1 to `upto` of a transcript are those of `owner`. */
interface Origin {
  readonly owner: string;
  readonly after: number;
  readonly upto: number;
}

export class MemoryTranscripts {
  readonly #records = new Map<string, StoredRecord[]>();
  /** By task: the tasks whose records it inherits, in order. */
  readonly #origins = new Map<string, readonly Origin[]>();
  /** Tasks in deletion. What they inherited is theirs until it ends; they get nothing more. */
  readonly #ending = new Set<string>();

  /** @param holdsSlot true when the record's attempt holds the task's slot. */
  append(record: NewRecord, holdsSlot: boolean): AppendResult {
    if (!holdsSlot) return { kind: "stale" };
    const { taskId, n, attempt, json } = record;
    const stored = this.#get(taskId);
    const tail = { n: stored.length, total: totalBytes(stored) };
    const result = checkSequence(record, tail, () => stored[n - 1]);
    if (result.kind === "appended") this.#records.set(taskId, [...stored, { n, attempt, json }]);
    return result;
  }

  /** The task begins with the whole transcript of `from`, as records of attempt 0. */
  inherit(taskId: string, from: string): void {
    const inherited = this.#get(from).map((record) => ({ ...record, attempt: 0 }));
    if (inherited.length === 0) return;
    const origins = this.#origins.get(from) ?? [];
    const after = origins.at(-1)?.upto ?? 0;
    const own = { owner: from, after, upto: inherited.length };
    this.#origins.set(taskId, own.upto > after ? [...origins, own] : origins);
    this.#records.set(taskId, inherited);
  }

  records(taskId: string, after: number, bytes: number): StoredRecord[] {
    let size = 0;
    return this.#get(taskId)
      .slice(Math.max(0, after))
      .filter(({ json }, i) => (size += Buffer.byteLength(json)) <= bytes || i === 0);
  }

  /** Of the transcripts that no other task has inherited from: the bytes of their own records. */
  sizes(): { taskId: string; bytes: number }[] {
    return [...this.#records.keys()]
      .filter((taskId) => this.#heirs(taskId).length === 0)
      .map((taskId) => ({ taskId, bytes: this.ownBytes(taskId) }));
  }

  /** The bytes of its own records. */
  ownBytes(taskId: string): number {
    return totalBytes(this.#get(taskId).slice(this.#origins.get(taskId)?.at(-1)?.upto ?? 0));
  }

  /** Does nothing while another task has inherited from it. */
  drop(taskId: string): void {
    if (this.#heirs(taskId).length > 0) return;
    this.#origins.delete(taskId);
    this.#records.delete(taskId);
  }

  beginDeletion(taskId: string): void {
    this.#ending.add(taskId);
  }

  /** Each part that was inherited from it becomes the property of one of its heirs that stay. */
  endDeletion(taskId: string): void {
    const next = () => this.#heirs(taskId).find(({ id }) => !this.#ending.has(id));
    for (let heir = next(); heir !== undefined; heir = next()) {
      const { id, after, upto } = heir;
      const isPart = (part: Origin): boolean => part.owner === taskId && part.after >= after && part.upto <= upto;
      for (const [of, origins] of this.#origins)
        this.#origins.set(
          of,
          origins.map((part) => (isPart(part) ? { ...part, owner: id } : part)),
        );
    }
    for (const { id } of this.#heirs(taskId)) this.#origins.delete(id);
    this.drop(taskId);
    this.#ending.delete(taskId);
  }

  /** The parts of other tasks that are this one's records, longest first. */
  #heirs(taskId: string): (Origin & { readonly id: string })[] {
    return [...this.#origins]
      .flatMap(([id, origins]) => origins.map((part) => ({ ...part, id })))
      .filter(({ id, owner }) => owner === taskId && id !== taskId)
      .toSorted((a, b) => b.upto - a.upto || (a.id < b.id ? -1 : 1));
  }

  last(taskId: string): number {
    return this.#get(taskId).length;
  }

  #get(taskId: string): readonly StoredRecord[] {
    return this.#records.get(taskId) ?? [];
  }
}

export type StoredReads = ReturnType<typeof storedReads>;
type Entries = ReadonlyMap<string, { readonly task: Task }>;

/** What is stored for whom. */
export function storedReads(entries: Entries, transcripts: MemoryTranscripts) {
  const settledAt = (taskId: string): number => entries.get(taskId)?.task.snapshot.context.settledAt ?? Infinity;
  return {
    records: async (taskId: string, after: number, bytes: number) => transcripts.records(taskId, after, bytes),
    lastRecord: async (taskId: string) => transcripts.last(taskId),
    oldTranscripts: async (before: number) => transcripts.sizes().filter(({ taskId }) => settledAt(taskId) < before),
    async transcriptSizes(userId: string, after: string | null) {
      const own = [...entries.values()].filter(({ task }) => task.userId === userId && task.id > (after ?? ""));
      const items = own.map(({ task }) => ({ taskId: task.id, bytes: transcripts.ownBytes(task.id) }));
      return { items: items.toSorted((a, b) => (a.taskId < b.taskId ? -1 : 1)), more: false };
    },
    async taskOwners(taskIds: readonly string[]): Promise<ReadonlyMap<string, string>> {
      const known = taskIds.map((id) => entries.get(id)?.task).filter((task) => task !== undefined);
      return new Map(known.map(({ id, userId }) => [id, userId]));
    },
  };
}
