/** Reads a unified patch, and marks the words that differ in lines that were replaced. */

export interface LinePart {
  readonly text: string;
  readonly isChanged: boolean;
}

export interface PatchLine {
  readonly kind: "same" | "add" | "del" | "hunk";
  /** Line number in the new file; of removed lines, in the old one; 0 for hunks. */
  readonly number: number;
  readonly text: string;
  /** Null when the whole line is new, removed or the same. */
  readonly parts: readonly LinePart[] | null;
}

/** Longer lines get no marks for words. */
const WORDS_LIMIT = 2_000;

export function parsePatch(patch: string): PatchLine[] {
  const lines: PatchLine[] = [];
  let oldLine = 0;
  let newLine = 0;
  let isInside = false;
  for (const line of patch.split("\n")) {
    const hunk = /^@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@/.exec(line);
    if (hunk !== null) {
      oldLine = Number(hunk[1]);
      newLine = Number(hunk[2]);
      isInside = true;
      lines.push({ kind: "hunk", number: 0, text: line, parts: null });
      continue;
    }
    if (!isInside || line === "" || line.startsWith("\\")) continue;
    const text = line.slice(1);
    if (line.startsWith("+")) lines.push({ kind: "add", number: newLine++, text, parts: null });
    else if (line.startsWith("-")) lines.push({ kind: "del", number: oldLine++, text, parts: null });
    else {
      lines.push({ kind: "same", number: newLine++, text, parts: null });
      oldLine++;
    }
  }
  return markWords(lines);
}

/** Pairs each run of removed lines with the run of added lines after it, if both are as long. */
function markWords(lines: PatchLine[]): PatchLine[] {
  for (let i = 0; i < lines.length;) {
    const removed = countRun(lines, i, "del");
    const added = countRun(lines, i + removed, "add");
    if (removed > 0 && removed === added) for (let n = 0; n < removed; n++) markPair(lines, i + n, i + removed + n);
    i += Math.max(1, removed + added);
  }
  return lines;
}

function countRun(lines: readonly PatchLine[], from: number, kind: PatchLine["kind"]): number {
  let end = from;
  while (lines[end]?.kind === kind) end++;
  return end - from;
}

/** Marks the words between the common beginning and the common end of two lines. */
function markPair(lines: PatchLine[], before: number, after: number): void {
  const a = lines[before];
  const b = lines[after];
  if (a === undefined || b === undefined || Math.max(a.text.length, b.text.length) > WORDS_LIMIT) return;
  const left = a.text.match(WORD) ?? [];
  const right = b.text.match(WORD) ?? [];
  let start = 0;
  while (start < left.length && start < right.length && left[start] === right[start]) start++;
  let end = 0;
  while (end < left.length - start && end < right.length - start && left.at(-1 - end) === right.at(-1 - end)) end++;
  if (start + end === 0) return;
  lines[before] = { ...a, parts: split(left, start, end) };
  lines[after] = { ...b, parts: split(right, start, end) };
}
const WORD = /[\p{L}\p{N}_]+|\s+|./gu;

function split(words: readonly string[], start: number, end: number): LinePart[] {
  const parts: LinePart[] = [
    { text: words.slice(0, start).join(""), isChanged: false },
    { text: words.slice(start, words.length - end).join(""), isChanged: true },
    { text: words.slice(words.length - end).join(""), isChanged: false },
  ];
  return parts.filter((part) => part.text !== "");
}
