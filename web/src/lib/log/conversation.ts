/**
 * Folds the events of a task into the blocks of its conversation. Pure and incremental: one event
 * changes at most the blocks that it names.
 */
import type { Attachment } from "../../../../src/core/values/attachment.ts";
import type { WireEvent, WireEventOf } from "../../../../src/core/protocol/events.ts";
import { addToStop, type SavedWork, type StopProof } from "./stop-proof.ts";

export interface Step {
  readonly name: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly detail: string | null;
  /** The end of what it printed. */
  readonly log: string;
}

export interface ToolResult {
  readonly output: string;
  readonly exitCode: number | null;
  readonly ms: number;
  readonly truncated: boolean;
}

export type Block =
  | {
      readonly kind: "person";
      readonly key: string;
      readonly at: number;
      readonly text: string;
      readonly id: string | null;
      /** The id of the person; null in logs that do not say it. */
      readonly by: string | null;
      readonly attachments: readonly Attachment[];
    }
  | { readonly kind: "text"; readonly key: string; readonly at: number; readonly text: string }
  | { readonly kind: "thought"; readonly key: string; readonly at: number; readonly text: string }
  | {
      readonly kind: "tool";
      readonly key: string;
      readonly at: number;
      readonly name: string;
      readonly input: Readonly<Record<string, unknown>>;
      /** Null while it runs; `lost` when its attempt ended first. */
      readonly result: ToolResult | "lost" | null;
      /** The end of the output so far, while it runs. */
      readonly live: string;
    }
  | {
      readonly kind: "steps";
      readonly key: string;
      readonly at: number;
      readonly attempt: number;
      readonly steps: readonly Step[];
    }
  | {
      readonly kind: "question";
      readonly key: string;
      readonly at: number;
      readonly id: string;
      readonly question: string;
      readonly answer: { readonly text: string; readonly at: number; readonly by: string | null } | null;
    }
  | {
      readonly kind: "check";
      readonly key: string;
      readonly at: number;
      readonly command: string;
      readonly exitCode: number | null;
      readonly ms: number;
      readonly tail: string;
    }
  | {
      readonly kind: "line";
      readonly key: string;
      readonly at: number;
      readonly level: "info" | "warning" | "error";
      readonly text: string;
    };

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

export interface Conversation {
  readonly blocks: readonly Block[];
  readonly todo: readonly Todo[];
  readonly spans: readonly StateSpan[];
  readonly statuses: ReadonlyMap<string, string>;
  readonly changes: { readonly files: number; readonly additions: number; readonly deletions: number } | null;
  /** The last checkpoint. */
  readonly saved: SavedWork | null;
  /** Null = nobody asked for a stop. */
  readonly stop: StopProof | null;
}

/** Characters of the output of a running tool, and of a step, that are kept. */
const LIVE_LIMIT = 8_000;

export class ConversationFold {
  #blocks: Block[] = [];
  #todo: readonly Todo[] = [];
  #spans: StateSpan[] = [];
  readonly #statuses = new Map<string, string>();
  #changes: Conversation["changes"] = null;
  #saved: SavedWork | null = null;
  #stop: StopProof | null = null;
  /** Index of the block of each open tool call and question, and of the steps of each attempt. */
  readonly #index = new Map<string, number>();

  /** A snapshot; later events do not change it. */
  get(): Conversation {
    return {
      blocks: [...this.#blocks],
      todo: this.#todo,
      spans: [...this.#spans],
      statuses: new Map(this.#statuses),
      changes: this.#changes,
      saved: this.#saved,
      stop: this.#stop,
    };
  }

  /**
   * Adds output of a tool that runs; never part of the log. @returns false when no such tool runs.
   */
  addLive(toolId: string, output: string): boolean {
    const i = this.#index.get(`tool ${toolId}`);
    const block = i === undefined ? undefined : this.#blocks[i];
    if (i === undefined || block?.kind !== "tool") return false;
    if (block.result === null) this.#blocks[i] = { ...block, live: (block.live + output).slice(-LIVE_LIMIT) };
    return true;
  }

  add(event: WireEvent): void {
    const at = Date.parse(event.at);
    // Several types of events change the state: `task.state`, `push`, ...
    this.#enter(event, at);
    this.#stop = addToStop(this.#stop, event);
    switch (event.type) {
      case "task.state":
        return this.#addState(event, at);
      case "task.step":
        return this.#addStep(event, at);
      case "message":
        return this.#addMessage(event, at);
      case "message.status":
        this.#statuses.set(event.data.id, event.data.status);
        return;
      case "tool.started": {
        const { id, name, input } = event.data;
        this.#open(`tool ${id}`, { kind: "tool", key: String(event.seq), at, name, input, result: null, live: "" });
        if (name === "setup") this.#addToStep(event.attempt, name, `$ ${String(input["command"])}`);
        return;
      }
      case "tool.finished":
        if (event.data.name === "setup") this.#addToStep(event.attempt, "setup", event.data.output);
        return this.#finishTool(event.data);
      case "todo":
        this.#todo = event.data.items;
        return;
      default:
        this.#addOther(event, at);
    }
  }

  #addOther(event: WireEvent, at: number): void {
    const key = String(event.seq);
    switch (event.type) {
      case "checkpoint": {
        const { sha, files, additions, deletions } = event.data;
        this.#changes = { files, additions, deletions };
        this.#saved = { sha, at, additions, deletions };
        return;
      }
      case "question": {
        const { id, question } = event.data;
        this.#open(`question ${id}`, { kind: "question", key, at, id, question, answer: null });
        return;
      }
      case "answer": {
        const answer = { text: event.data.text, at, by: event.data.by ?? null };
        this.#update(`question ${event.data.questionId}`, (block) =>
          block.kind === "question" ? { ...block, answer } : block,
        );
        return;
      }
      case "verify": {
        const { command, exitCode, ms, tail } = event.data;
        this.#blocks.push({ kind: "check", key, at, command, exitCode, ms, tail });
        return;
      }
      case "notice":
        this.#addNotice(event, at);
        return;
      case "push": {
        const text = `Pushed ${event.data.branch} at ${event.data.sha.slice(0, 7)}`;
        this.#blocks.push({ kind: "line", key, at, level: "info", text });
        return;
      }
      default:
    }
  }

  #addState(event: WireEventOf<"task.state">, at: number): void {
    const { data, seq } = event;
    if (data.reason === "failed") {
      const code = data.code.replaceAll("_", " ");
      const text = data.detail === null ? code : `${code}: ${data.detail}`;
      this.#blocks.push({ kind: "line", key: String(seq), at, level: "error", text });
    }
    if (event.from !== event.to) {
      this.#blocks = this.#blocks.map((block) =>
        block.kind === "tool" && block.result === null ? { ...block, result: "lost" as const } : block,
      );
    }
  }

  #enter({ from, to }: WireEvent, at: number): void {
    if (from === to) return;
    const last = this.#spans.at(-1);
    if (last !== undefined) this.#spans[this.#spans.length - 1] = { ...last, to: at };
    this.#spans.push({ state: to, from: at, to: null });
  }

  #addStep({ seq, attempt, data }: WireEventOf<"task.step">, at: number): void {
    const key = `steps ${attempt}`;
    if (!this.#index.has(key)) this.#open(key, { kind: "steps", key: String(seq), at, attempt, steps: [] });
    const { name, status } = data;
    const detail = data.detail === "" ? null : data.detail;
    this.#update(key, (block) => {
      if (block.kind !== "steps") return block;
      const known = block.steps.find((step) => step.name === name);
      const ended = status === "ended";
      const next: Step =
        known === undefined
          ? { name, startedAt: at, endedAt: ended ? at : null, detail, log: "" }
          : { ...known, endedAt: ended ? at : known.endedAt, detail: detail ?? known.detail };
      const steps =
        known === undefined ? [...block.steps, next] : block.steps.map((step) => (step === known ? next : step));
      return { ...block, steps };
    });
  }

  #addNotice({ seq, attempt, data: { code, level, text } }: WireEventOf<"notice">, at: number): void {
    // A sign of life: the row of the tool shows its time already.
    if (code === "working" || (code.startsWith("step.") && this.#addToStep(attempt, code.slice(5), text))) return;
    this.#blocks.push({ kind: "line", key: String(seq), at, level, text });
  }

  /** @returns false when the attempt has no such step. */
  #addToStep(attempt: number, name: string, text: string): boolean {
    let isFound = false;
    this.#update(`steps ${attempt}`, (block) => {
      if (block.kind !== "steps") return block;
      const steps = block.steps.map((step) => {
        if (step.name !== name) return step;
        isFound = true;
        return { ...step, log: `${step.log}${text.trimEnd()}\n`.slice(-LIVE_LIMIT) };
      });
      return { ...block, steps };
    });
    return isFound;
  }

  #addMessage({ seq, data }: WireEventOf<"message">, at: number): void {
    const isPerson = data.role === "user";
    const by = data.role === "user" ? (data.by ?? null) : null;
    const attachments = data.content.flatMap((block) => ("mediaType" in block ? [block] : []));
    data.content.forEach((block, i) => {
      const key = `${seq}.${i}`;
      if (block.type === "attachment") return;
      if (isPerson) this.#blocks.push({ kind: "person", key, at, text: block.text, id: data.id, by, attachments });
      else if (block.type === "thinking") this.#blocks.push({ kind: "thought", key, at, text: block.text });
      else if (block.text.trim() !== "") this.#blocks.push({ kind: "text", key, at, text: block.text });
    });
    if (isPerson && !this.#statuses.has(data.id)) this.#statuses.set(data.id, "queued");
  }

  #finishTool({ id, output, exitCode, ms, truncated }: WireEventOf<"tool.finished">["data"]): void {
    this.#update(`tool ${id}`, (block) =>
      block.kind === "tool" ? { ...block, result: { output, exitCode, ms, truncated } } : block,
    );
  }

  #open(key: string, block: Block): void {
    this.#index.set(key, this.#blocks.length);
    this.#blocks.push(block);
  }

  #update(key: string, change: (block: Block) => Block): void {
    const i = this.#index.get(key);
    const block = i === undefined ? undefined : this.#blocks[i];
    if (i !== undefined && block !== undefined) this.#blocks[i] = change(block);
  }
}

/** Blocks as the screen lists them: consecutive tool calls and thoughts are one group of work. */
export type Section =
  | { readonly kind: "block"; readonly key: string; readonly block: Block }
  | {
      readonly kind: "work";
      readonly key: string;
      readonly blocks: readonly Block[];
      readonly ms: number;
      readonly tools: number;
      readonly thoughts: number;
    };

export function toSections(blocks: readonly Block[]): Section[] {
  const sections: Section[] = [];
  let work: Block[] = [];
  const flush = (end: number): void => {
    const first = work[0];
    if (first === undefined) return;
    const tools = work.filter((block) => block.kind === "tool").length;
    const last = work.at(-1);
    const lastMs = last?.kind === "tool" && last.result !== null && last.result !== "lost" ? last.result.ms : 0;
    const ms = Math.max(end, (last?.at ?? first.at) + lastMs) - first.at;
    sections.push({ kind: "work", key: `work ${first.key}`, blocks: work, ms, tools, thoughts: work.length - tools });
    work = [];
  };
  for (const block of blocks) {
    if (block.kind === "tool" || block.kind === "thought") {
      work.push(block);
      continue;
    }
    flush(block.at);
    sections.push({ kind: "block", key: block.key, block });
  }
  flush(0);
  return sections;
}
