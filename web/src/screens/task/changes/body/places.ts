/**
 * Where a line of a change is, so that it is found again when the agent has saved other lines
 * above it or beside it.
 */
import type { PatchLine } from "../../../../lib/patch.ts";

export interface Place {
  /** The number counts the lines of the old file: the line is removed. */
  readonly isOld: boolean;
  readonly number: number;
  readonly text: string;
  /** The lines around it; absent = not known. */
  readonly near?: readonly [before: string | undefined, after: string | undefined] | undefined;
}

export function toPlace(lines: readonly PatchLine[], index: number): Place {
  const { kind, number, text } = lines[index] ?? { kind: "same", number: 0, text: "" };
  return { isOld: kind === "del", number, text, near: [lines[index - 1]?.text, lines[index + 1]?.text] };
}

/**
 * Of the lines with its text: rather one on its side of the change, then one with the same lines
 * around it, then the nearest. @returns -1 when there is none.
 */
export function findPlace(lines: readonly PatchLine[], { isOld, number, text, near }: Place): number {
  let found = -1;
  let best = -Infinity;
  for (const [i, line] of lines.entries()) {
    if (line.kind === "hunk" || line.text !== text) continue;
    const isSameSide = (line.kind === "del") === isOld;
    const around = near === undefined ? [] : [near[0] === lines[i - 1]?.text, near[1] === lines[i + 1]?.text];
    const distance = Math.abs(line.number - number);
    const rank = (isSameSide ? 4 : 0) + around.filter(Boolean).length + 1 / (1 + distance);
    if (rank <= best) continue;
    best = rank;
    found = i;
  }
  return found;
}

/** Where its number is, or would be. @returns -1 when there are no lines. */
export function findNearest(lines: readonly PatchLine[], { isOld, number }: Place): number {
  let found = -1;
  for (const [i, line] of lines.entries()) {
    if (line.kind === "hunk" || (found !== -1 && (line.kind === "del") !== isOld)) continue;
    if (found === -1 || line.number <= number) found = i;
  }
  return found;
}

/** @returns each by the index of its line, and those whose line is gone, or is that of another. */
export function placeAll<T extends { readonly place: Place }>(lines: readonly PatchLine[], all: readonly T[]) {
  const at = new Map<number, T>();
  const lost: T[] = [];
  for (const one of all) {
    const index = findPlace(lines, one.place);
    if (index === -1 || at.has(index)) lost.push(one);
    else at.set(index, one);
  }
  return { at, lost };
}
