/** The name of a file of a change as it is now, short enough to keep thousands of them. */
import { Fnv } from "../../../../lib/log/digest.ts";
import type { FileChange } from "./tree.ts";

const encoder = new TextEncoder();

/** Of a file whose lines are not here, any new commit of the task makes another mark. */
export function toMark(file: FileChange, head: string): string {
  const { path, oldPath, status, patch, additions, deletions } = file;
  const content = patch ?? `${head} ${additions} ${deletions}`;
  return new Fnv().add(encoder.encode([path, oldPath ?? "", status, content].join("\0"))).toString();
}
