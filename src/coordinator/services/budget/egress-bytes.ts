/**
 * How many bytes a task may move through the egress proxy: both directions, all of its attempts,
 * the setup included (rule S5).
 *
 * E1 Bytes are counted before they pass; those that do not fit use up what is left.
 * E2 The counts of open tasks are one small setting, which is written whenever a task has moved
 *    SAVE_BYTES more: a crash forgets less than that per task. A settled task has no count.
 * E3 No connection waits for a write. One that fails is made up by the next.
 */
import { z } from "zod";
import { errorMessage } from "../../../core/error.ts";
import type { Log } from "../../../core/ports/runtime.ts";
import type { Store } from "../../../core/ports/store.ts";
import { OPEN_STATES } from "../../../core/task.ts";

export interface EgressBytesDeps {
  readonly store: Pick<Store, "task" | "setting" | "setSetting">;
  readonly log: Log;
  /** What one task may move, MiB; null or absent = no limit. */
  readonly egressMb?: number | null;
}

/** "over" = the task is not open. */
export type EgressSpending = "fits" | "used_up" | "over";

interface Count {
  bytes: number;
  /** At the last write. */
  saved: number;
}

const KEY = "egress.bytes";
const MIB = 2 ** 20;
const SAVE_BYTES = 16 * MIB;

export class EgressBytes {
  readonly #deps: EgressBytesDeps;
  readonly #limit: number;
  /** By open task that has asked for a connection. */
  readonly #counts = new Map<string, Count>();
  /** What earlier processes have counted; null = not read yet. */
  #earlier: Promise<void> | null = null;
  #isChanged = false;
  #isSaving = false;

  constructor(deps: EgressBytesDeps) {
    this.#deps = deps;
    this.#limit = (deps.egressMb ?? Infinity) * MIB;
  }

  /** Idempotent; to be awaited before the task spends. Rejects as the store does. */
  async open(taskId: string): Promise<void> {
    this.#earlier ??= this.#read();
    await this.#earlier.catch((error: unknown) => {
      this.#earlier = null;
      throw error;
    });
    if (!this.#counts.has(taskId)) this.#counts.set(taskId, { bytes: 0, saved: 0 });
  }

  /** E1. With 0 it says whether anything is left. */
  spend(taskId: string, bytes: number): EgressSpending {
    const count = this.#counts.get(taskId);
    if (count === undefined) return "over";
    const fits = count.bytes < this.#limit && count.bytes + bytes <= this.#limit;
    count.bytes = fits ? count.bytes + bytes : this.#limit;
    if (count.bytes - count.saved >= (fits ? SAVE_BYTES : 1)) this.#save();
    return fits ? "fits" : "used_up";
  }

  /** To be called when the task has settled. */
  forget(taskId: string): void {
    const count = this.#counts.get(taskId);
    if (count === undefined) return;
    this.#counts.delete(taskId);
    if (count.bytes > 0) this.#deps.log.info({ task: taskId, bytes: count.bytes }, "egress of a task");
    if (count.saved > 0) this.#save();
  }

  async #read(): Promise<void> {
    const { store, log } = this.#deps;
    const stored = await store.setting(KEY);
    const parsed = z.record(z.string(), z.int().nonnegative()).safeParse(parseJson(stored ?? "{}"));
    if (!parsed.success) log.error({}, "the counts of egress cannot be read: open tasks begin at zero again");
    for (const [taskId, bytes] of Object.entries(parsed.data ?? {})) {
      const task = await store.task(taskId);
      // It settled while the count could not be written.
      if (task === null || !OPEN_STATES.some((state) => state === task.state)) continue;
      this.#counts.set(taskId, { bytes, saved: bytes });
    }
  }

  /** Never rejects. */
  #save(): void {
    this.#isChanged = true;
    for (const count of this.#counts.values()) count.saved = count.bytes;
    if (!this.#isSaving) void this.#write();
  }

  async #write(): Promise<void> {
    const { store, log } = this.#deps;
    this.#isSaving = true;
    try {
      while (this.#isChanged) {
        this.#isChanged = false;
        const used = [...this.#counts].filter(([, { bytes }]) => bytes > 0).map(([id, { bytes }]) => [id, bytes]);
        await store.setSetting(KEY, used.length === 0 ? null : JSON.stringify(Object.fromEntries(used)));
      }
    } catch (error) {
      log.warn({ error: errorMessage(error) }, "the counts of egress could not be written");
    } finally {
      this.#isSaving = false;
    }
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
