/**
 * Text on its way to the coordinator: free of what a store, a terminal or a page could choke on,
 * and never longer than the schema allows. Everything that is emitted goes through `fit`, so that
 * no batch of ours is refused.
 */
import { TEXT_LIMIT, type WORKER_DATA, type WorkerEventType } from "../../src/core/event.ts";
import type { z } from "zod";

export type WorkerData<T extends WorkerEventType> = z.infer<(typeof WORKER_DATA)[T]>;

/**
 * Text of all blocks of one message together, and of one tool's input: keeps an event far below a
 * batch's size.
 */
const MESSAGE_LIMIT = 2 * TEXT_LIMIT;
const INPUT_LIMIT = 32 * 1024;
const INPUT_DEPTH = 8;

const ESCAPES = new RegExp(
  "\\u001b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\\u0007\\u001b]*(?:\\u0007|\\u001b\\\\)?|[PX^_][^\\u001b]*(?:\\u001b\\\\)?|[ -/]*[0-~])?",
  "g",
);
const CONTROLS = new RegExp("[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f]", "g");

const LONELY = /\p{Surrogate}/gu;

/**
 * Without terminal escapes, control characters (tab and line ends stay) and halves of surrogate
 * pairs.
 */
export function sanitize(text: string): string {
  return text.replace(ESCAPES, "").replace(/\r+\n/g, "\n").replace(CONTROLS, "").replace(LONELY, "\ufffd");
}

/** At most `max` UTF-16 units; never ends in half a character. */
export function truncate(text: string, max: number): string {
  if (text.length <= max) return text;
  const end = max > 0 && /[\ud800-\udbff]/.test(text[max - 1] ?? "") ? max - 1 : max;
  return text.slice(0, end);
}

/** The last `max` units, from a whole character on. */
export function truncateStart(text: string, max: number): string {
  if (text.length <= max) return text;
  const start = text.length - max;
  return text.slice(/[\udc00-\udfff]/.test(text[start] ?? "") ? start + 1 : start);
}

const line = (text: string, max: number): string => truncate(sanitize(text), max);

function fitInput(input: Readonly<Record<string, unknown>>): Record<string, unknown> {
  let left = INPUT_LIMIT;
  const walk = (value: unknown, depth: number): unknown => {
    if (left <= 0) return null;
    left -= 8;
    if (typeof value === "string") {
      const kept = line(value, Math.max(0, left));
      left -= kept.length;
      return kept;
    }
    if (typeof value === "number") return Number.isFinite(value) ? value : null;
    if (typeof value !== "object" || value === null) return typeof value === "boolean" ? value : null;
    if (depth >= INPUT_DEPTH) return null;
    if (Array.isArray(value)) return value.map((item) => walk(item, depth + 1));
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [line(key, 200), walk(item, depth + 1)]));
  };
  return walk(input, 0) as Record<string, unknown>;
}

function fitBlocks(blocks: WorkerData<"message">["content"]): WorkerData<"message">["content"] {
  let left = MESSAGE_LIMIT;
  return blocks.slice(0, 100).map((block) => {
    const text = line(block.text, Math.min(left, TEXT_LIMIT));
    left -= text.length;
    return { type: block.type, text };
  });
}

const bounded = (value: number, max: number): number =>
  Number.isFinite(value) && value > 0 ? Math.min(value, max) : 0;
const count = (value: number): number => Math.round(bounded(value, 1_000_000_000));

type Fitter = { readonly [T in WorkerEventType]: (data: WorkerData<T>) => WorkerData<T> };

const FIT: Fitter = {
  "task.step": (d) => ({ ...d, detail: d.detail === null ? null : line(d.detail, 500) }),
  message: (d) => ({ ...d, content: fitBlocks(d.content) }),
  "message.status": (d) => d,
  "tool.started": (d) => ({ id: d.id, name: line(d.name, 100), input: fitInput(d.input) }),
  "tool.finished": (d) => {
    const output = line(d.output, TEXT_LIMIT);
    return { ...d, name: line(d.name, 100), output, truncated: d.truncated || output.length === TEXT_LIMIT };
  },
  todo: (d) => ({ items: d.items.slice(0, 200).map((item) => ({ ...item, text: line(item.text, 500) })) }),
  usage: (d) => ({
    inputTokens: count(d.inputTokens),
    outputTokens: count(d.outputTokens),
    cacheReadTokens: count(d.cacheReadTokens),
    cacheWriteTokens: count(d.cacheWriteTokens),
    usd: bounded(d.usd, 1_000_000),
    turns: count(d.turns),
  }),
  checkpoint: (d) => ({ ...d, cursor: d.cursor === null ? null : truncate(d.cursor, 1_000) }),
  question: (d) => ({
    id: d.id,
    question: line(d.question, 4_000),
    options: d.options === null ? null : d.options.slice(0, 20).map((option) => line(option, 500)),
  }),
  notice: (d) => ({ level: d.level, code: line(d.code, 100), text: line(d.text, 4_000) }),
  verify: (d) => ({ ...d, command: line(d.command, 4_000), tail: truncateStart(sanitize(d.tail), 16_384) }),
  ready: () => ({}),
  finished: (d) => ({ sha: d.sha, title: line(d.title, 500), summary: line(d.summary, TEXT_LIMIT) }),
  failed: (d) => ({
    code: line(d.code, 100),
    message: line(d.message, 4_000),
    evidence: d.evidence === null ? null : truncateStart(sanitize(d.evidence), 16_384),
  }),
};

/** The event's data as the coordinator will take it. */
export function fitToSchema<T extends WorkerEventType>(type: T, data: WorkerData<T>): WorkerData<T> {
  return FIT[type](data);
}
