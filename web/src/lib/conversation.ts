/**
 * Folds the events of a task into the blocks of its conversation. Pure and incremental: one event
 * changes at most the blocks that it names.
 */
import type { WireEvent } from "../../../src/core/protocol/rest.ts";

type Data = WireEvent["data"];

export interface Step {
  readonly name: string;
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly detail: string | null;
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
      readonly answer: { readonly text: string; readonly at: number } | null;
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
  readonly state: string;
  readonly from: number;
  readonly to: number | null;
}

export interface Conversation {
  readonly blocks: readonly Block[];
  readonly todo: readonly Todo[];
  readonly spans: readonly StateSpan[];
  readonly statuses: ReadonlyMap<string, string>;
  readonly changes: { readonly files: number; readonly additions: number; readonly deletions: number } | null;
  readonly stop: { readonly askedAt: number } | null;
}

const text = (data: Data, name: string): string => (typeof data[name] === "string" ? data[name] : "");
const number = (data: Data, name: string): number => (typeof data[name] === "number" ? data[name] : 0);
const objects = (value: unknown): readonly Readonly<Record<string, unknown>>[] =>
  Array.isArray(value)
    ? value.filter((item): item is Record<string, unknown> => typeof item === "object" && item !== null)
    : [];

export class ConversationFold {
  #blocks: Block[] = [];
  #todo: readonly Todo[] = [];
  #spans: StateSpan[] = [];
  readonly #statuses = new Map<string, string>();
  #changes: Conversation["changes"] = null;
  #stop: Conversation["stop"] = null;
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
      stop: this.#stop,
    };
  }

  add(event: WireEvent): void {
    const at = Date.parse(event.at);
    const { data } = event;
    // Several types of events change the state: `task.state`, `push`, ...
    this.#enter(event, at);
    switch (event.type) {
      case "task.state":
        this.#addState(event, at);
        return;
      case "task.step":
        this.#addStep(event, at);
        return;
      case "message":
        this.#addMessage(event, at);
        return;
      case "message.status":
        this.#statuses.set(text(data, "id"), text(data, "status"));
        return;
      case "tool.started":
        this.#open(`tool ${text(data, "id")}`, {
          kind: "tool",
          key: String(event.seq),
          at,
          name: text(data, "name"),
          input:
            typeof data["input"] === "object" && data["input"] !== null
              ? (data["input"] as Record<string, unknown>)
              : {},
          result: null,
        });
        return;
      case "tool.finished":
        this.#finishTool(data);
        return;
      case "todo":
        this.#todo = objects(data["items"]).map((item) => ({
          text: String(item["text"]),
          status: String(item["status"]),
        }));
        return;
      default:
        this.#addOther(event, at);
    }
  }

  #addOther({ type, seq, data }: WireEvent, at: number): void {
    const key = String(seq);
    switch (type) {
      case "checkpoint":
        this.#changes = {
          files: number(data, "files"),
          additions: number(data, "additions"),
          deletions: number(data, "deletions"),
        };
        return;
      case "question":
        this.#open(`question ${text(data, "id")}`, {
          kind: "question",
          key,
          at,
          id: text(data, "id"),
          question: text(data, "question"),
          answer: null,
        });
        return;
      case "answer":
        this.#update(`question ${text(data, "questionId")}`, (block) =>
          block.kind === "question" ? { ...block, answer: { text: text(data, "text"), at } } : block,
        );
        return;
      case "verify":
        this.#blocks.push({
          kind: "check",
          key,
          at,
          command: text(data, "command"),
          exitCode: typeof data["exitCode"] === "number" ? data["exitCode"] : null,
          ms: number(data, "ms"),
          tail: text(data, "tail"),
        });
        return;
      case "notice":
        // A sign of life: the row of the tool shows its time already.
        if (text(data, "code") === "working") return;
        this.#blocks.push({ kind: "line", key, at, level: toLevel(text(data, "level")), text: text(data, "text") });
        return;
      case "push":
        this.#blocks.push({
          kind: "line",
          key,
          at,
          level: "info",
          text: `Pushed ${text(data, "branch")} at ${text(data, "sha").slice(0, 7)}`,
        });
        return;
      default:
    }
  }

  #addState(event: WireEvent, at: number): void {
    const { data, seq } = event;
    const reason = text(data, "reason");
    if (reason === "failed") {
      const detail = text(data, "detail");
      const code = text(data, "code").replaceAll("_", " ");
      this.#blocks.push({
        kind: "line",
        key: String(seq),
        at,
        level: "error",
        text: detail === "" ? code : `${code}: ${detail}`,
      });
    }
    if (reason === "cancel" && this.#stop === null) this.#stop = { askedAt: at };
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

  #addStep({ seq, attempt, data }: WireEvent, at: number): void {
    const key = `steps ${attempt}`;
    if (!this.#index.has(key)) this.#open(key, { kind: "steps", key: String(seq), at, attempt, steps: [] });
    const name = text(data, "name");
    const detail = text(data, "detail") === "" ? null : text(data, "detail");
    this.#update(key, (block) => {
      if (block.kind !== "steps") return block;
      const known = block.steps.find((step) => step.name === name);
      const ended = text(data, "status") === "ended";
      const next: Step =
        known === undefined
          ? { name, startedAt: at, endedAt: ended ? at : null, detail }
          : { ...known, endedAt: ended ? at : known.endedAt, detail: detail ?? known.detail };
      const steps =
        known === undefined ? [...block.steps, next] : block.steps.map((step) => (step === known ? next : step));
      return { ...block, steps };
    });
  }

  #addMessage({ seq, data }: WireEvent, at: number): void {
    const isPerson = data["role"] === "user";
    objects(data["content"]).forEach((block, i) => {
      const key = `${seq}.${i}`;
      const value = String(block["text"] ?? "");
      if (isPerson) this.#blocks.push({ kind: "person", key, at, text: value, id: text(data, "id") });
      else if (block["type"] === "thinking") this.#blocks.push({ kind: "thought", key, at, text: value });
      else if (value.trim() !== "") this.#blocks.push({ kind: "text", key, at, text: value });
    });
    if (isPerson && !this.#statuses.has(text(data, "id"))) this.#statuses.set(text(data, "id"), "queued");
  }

  #finishTool(data: Data): void {
    this.#update(`tool ${text(data, "id")}`, (block) =>
      block.kind === "tool"
        ? {
            ...block,
            result: {
              output: text(data, "output"),
              exitCode: typeof data["exitCode"] === "number" ? data["exitCode"] : null,
              ms: number(data, "ms"),
              truncated: data["truncated"] === true,
            },
          }
        : block,
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

function toLevel(level: string): "info" | "warning" | "error" {
  return level === "error" || level === "warning" ? level : "info";
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
