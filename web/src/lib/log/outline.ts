/** What the log says of the task beside its conversation: needs only the events of the outline. */
import type { WireEvent } from "../../../../src/core/protocol/events.ts";
import { addToStop, type SavedWork, type StopProof } from "./stop-proof.ts";

export interface Todo {
  readonly text: string;
  readonly status: string;
}

/** Milliseconds that the task spent in each state, and since when it is in the present one. */
export interface StateSpan {
  readonly state: WireEvent["to"];
  readonly from: number;
  readonly to: number | null;
}

export interface Outline {
  readonly todo: readonly Todo[];
  readonly spans: readonly StateSpan[];
  /** What became of each message of the person. */
  readonly statuses: ReadonlyMap<string, string>;
  readonly changes: { readonly files: number; readonly additions: number; readonly deletions: number } | null;
  /** The last checkpoint. */
  readonly saved: SavedWork | null;
  /** Null = nobody asked for a stop. */
  readonly stop: StopProof | null;
}

export class OutlineFold {
  #todo: Outline["todo"] = [];
  readonly #spans: StateSpan[] = [];
  readonly #statuses = new Map<string, string>();
  #changes: Outline["changes"] = null;
  #saved: SavedWork | null = null;
  #stop: StopProof | null = null;
  #ended = 0;

  /** The seq of the last event that ended what ran. */
  get ended(): number {
    return this.#ended;
  }

  get(): Outline {
    return {
      todo: this.#todo,
      spans: [...this.#spans],
      statuses: new Map(this.#statuses),
      changes: this.#changes,
      saved: this.#saved,
      stop: this.#stop,
    };
  }

  add(event: WireEvent): void {
    const at = Date.parse(event.at);
    // Several types of events change the state: `task.state`, `push`, ...
    this.#enter(event, at);
    this.#stop = addToStop(this.#stop, event);
    if (event.type === "task.state" && event.from !== event.to) this.#ended = event.seq;
    else if (event.type === "message.status") this.#statuses.set(event.data.id, event.data.status);
    else if (event.type === "todo") this.#todo = event.data.items;
    else if (event.type === "checkpoint") {
      const { sha, files, additions, deletions } = event.data;
      this.#changes = { files, additions, deletions };
      this.#saved = { sha, at, additions, deletions };
    }
  }

  #enter({ from, to }: WireEvent, at: number): void {
    if (from === to) return;
    const last = this.#spans.at(-1);
    if (last !== undefined) this.#spans[this.#spans.length - 1] = { ...last, to: at };
    this.#spans.push({ state: to, from: at, to: null });
  }

  /** A message of the person, of which nothing else is known. */
  addMessage(id: string): void {
    if (!this.#statuses.has(id)) this.#statuses.set(id, "queued");
  }

  addStatuses(other: OutlineFold): void {
    for (const [id, status] of other.#statuses) if (!this.#statuses.has(id)) this.#statuses.set(id, status);
  }
}
