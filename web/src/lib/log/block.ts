/** The parts of a conversation. */
import type { WireEventOf } from "../../../../src/core/protocol/events.ts";
import type { Attachment } from "../../../../src/core/values/attachment.ts";

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
      /** What people pushed to the branch before this attempt began. */
      readonly kind: "commits";
      readonly key: string;
      readonly at: number;
      readonly isRewritten: boolean;
      /** The newest first; there may be more of them. */
      readonly commits: NonNullable<WireEventOf<"notice">["data"]["commits"]>;
      readonly count: number;
    }
  | {
      readonly kind: "line";
      readonly key: string;
      readonly at: number;
      readonly level: "info" | "warning" | "error";
      readonly text: string;
    };

/** The most blocks of one group of work: its rows are on the screen together. */
export const GROUP_LIMIT = 100;

/** The screen shows consecutive ones as a group. */
export const isWork = (block: Block | undefined): boolean => block?.kind === "tool" || block?.kind === "thought";

/** The seq of the event that opened it. */
export const seqOf = (block: Block): number => Number.parseInt(block.key, 10);

/** Later events change it. */
export function isOpen(block: Block): boolean {
  if (block.kind === "tool") return block.result === null;
  if (block.kind === "question") return block.answer === null;
  return block.kind === "steps" && block.steps.some((step) => step.endedAt === null);
}
