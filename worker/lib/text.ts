/**
 * Prepares text for the coordinator: removes characters that a store, a terminal or a page cannot
 * handle, and truncates it to the limits of the schema.
 *
 * Every emitted event passes `fitToSchema`, so that the coordinator refuses no batch.
 */
import { TEXT_LIMIT, type WORKER_DATA, type WorkerEventType } from "../../src/core/event.ts";
import type { z } from "zod";

export type WorkerData<T extends WorkerEventType> = z.infer<(typeof WORKER_DATA)[T]>;

/**
 * Characters of all blocks of one message together, and of one tool's input. They keep an event far
 * below the size of a batch.
 */
const MESSAGE_LIMIT = 2 * TEXT_LIMIT;
const INPUT_LIMIT = 32 * 1024;
const INPUT_DEPTH = 8;

const ESCAPES = new RegExp(
  "\\u001b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\\u0007\\u001b]*(?:\\u0007|\\u001b\\\\)?|[PX^_][^\\u001b]*(?:\\u001b\\\\)?|[ -/]*[0-~])?",
  "g",
);
const CONTROLS = new RegExp("[\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f]", "g");

const LONE_SURROGATES = /\p{Surrogate}/gu;

/**
 * Removes terminal escapes and control characters except tab and line feed, and replaces lone
 * surrogates.
 */
export function sanitize(text: string): string {
  return text.replace(ESCAPES, "").replace(/\r+\n/g, "\n").replace(CONTROLS, "").replace(LONE_SURROGATES, "\ufffd");
}

/** The first `max` UTF-16 units at most; never ends in half a surrogate pair. */
export function truncate(text: string, max: number): string {
  if (text.length <= max) return text;
  const end = max > 0 && /[\ud800-\udbff]/.test(text[max - 1] ?? "") ? max - 1 : max;
  return text.slice(0, end);
}

/** The last `max` UTF-16 units at most; never starts with half a surrogate pair. */
export function truncateStart(text: string, max: number): string {
  if (text.length <= max) return text;
  const start = text.length - max;
  return text.slice(/[\udc00-\udfff]/.test(text[start] ?? "") ? start + 1 : start);
}

const clip = (text: string, max: number): string => truncate(sanitize(text), max);

/** Bounds the input's depth and the sum of its texts; what exceeds them becomes null or is cut. */
function fitInput(input: Readonly<Record<string, unknown>>): Record<string, unknown> {
  let left = INPUT_LIMIT;
  const walk = (value: unknown, depth: number): unknown => {
    if (left <= 0) return null;
    left -= 8;
    if (typeof value === "string") {
      const clipped = clip(value, Math.max(0, left));
      left -= clipped.length;
      return clipped;
    }
    if (typeof value === "number") return Number.isFinite(value) ? value : null;
    if (typeof value !== "object" || value === null) return typeof value === "boolean" ? value : null;
    if (depth >= INPUT_DEPTH) return null;
    if (Array.isArray(value)) return value.map((item) => walk(item, depth + 1));
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [clip(key, 200), walk(item, depth + 1)]));
  };
  return walk(input, 0) as Record<string, unknown>;
}

function fitBlocks(blocks: WorkerData<"message">["content"]): WorkerData<"message">["content"] {
  let left = MESSAGE_LIMIT;
  return blocks.slice(0, 100).map((block) => {
    const text = clip(block.text, Math.min(left, TEXT_LIMIT));
    left -= text.length;
    return { type: block.type, text };
  });
}

const bounded = (value: number, max: number): number =>
  Number.isFinite(value) && value > 0 ? Math.min(value, max) : 0;
const count = (value: number): number => Math.round(bounded(value, 1_000_000_000));

type Fitters = { readonly [T in WorkerEventType]: (data: WorkerData<T>) => WorkerData<T> };

const FITTERS: Fitters = {
  "task.step": (d) => ({ ...d, detail: d.detail === null ? null : clip(d.detail, 500) }),
  message: (d) => ({ ...d, content: fitBlocks(d.content) }),
  "message.status": (d) => d,
  "tool.started": (d) => ({ id: d.id, name: clip(d.name, 100), input: fitInput(d.input) }),
  "tool.finished": (d) => {
    const output = clip(d.output, TEXT_LIMIT);
    return { ...d, name: clip(d.name, 100), output, truncated: d.truncated || output.length === TEXT_LIMIT };
  },
  todo: (d) => ({ items: d.items.slice(0, 200).map((item) => ({ ...item, text: clip(item.text, 500) })) }),
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
    question: clip(d.question, 4_000),
    options: d.options === null ? null : d.options.slice(0, 20).map((option) => clip(option, 500)),
  }),
  notice: (d) => ({ level: d.level, code: clip(d.code, 100), text: clip(d.text, 4_000) }),
  verify: (d) => ({ ...d, command: clip(d.command, 4_000), tail: truncateStart(sanitize(d.tail), 16_384) }),
  ready: () => ({}),
  finished: (d) => ({ sha: d.sha, title: clip(d.title, 500), summary: clip(d.summary, TEXT_LIMIT) }),
  failed: (d) => ({
    code: clip(d.code, 100),
    message: clip(d.message, 4_000),
    evidence: d.evidence === null ? null : truncateStart(sanitize(d.evidence), 16_384),
  }),
};

/** Returns the event's data within the limits of its schema. */
export function fitToSchema<T extends WorkerEventType>(type: T, data: WorkerData<T>): WorkerData<T> {
  return FITTERS[type](data);
}
