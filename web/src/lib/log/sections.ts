/** How the screen of a task lists the blocks of its conversation. */
import { GROUP_LIMIT, isWork, type Block } from "./block.ts";

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
    if (isWork(block)) {
      if (work.length === GROUP_LIMIT) flush(0);
      work.push(block);
      continue;
    }
    flush(block.at);
    sections.push({ kind: "block", key: block.key, block });
  }
  flush(0);
  return sections;
}
