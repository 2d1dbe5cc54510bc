/** One line of a diff: its number, its sign, its code with colours and marks. */
import { memo, useEffect, useRef, type ReactNode } from "react";
import type { LinePart, PatchLine } from "../../../../lib/patch.ts";
import type { Token } from "../syntax/tokens.ts";

const SIGNS = { add: "+", del: "−", same: " ", hunk: "" } as const;
const CLASSES = { add: "a", del: "d", same: "", hunk: "hunk" } as const;
const COLOURS = { key: "k", string: "s", number: "nu", comment: "cm" } as const;

interface DiffRowProps {
  readonly line: PatchLine;
  readonly index: number;
  readonly tokens: readonly Token[] | undefined;
  /** How the line was chosen (0 = by a tap); null = it is not. */
  readonly step: -1 | 0 | 1 | null;
  readonly hasComment: boolean;
  readonly onPick: (index: number) => void;
}

export const DiffRow = memo(function DiffRow({ line, index, tokens, step, hasComment, onPick }: DiffRowProps) {
  const { kind, number, text } = line;
  const row = useRef<HTMLTableRowElement>(null);
  useEffect(() => {
    if (step === 1 || step === -1) row.current?.scrollIntoView({ block: "center" });
  }, [step]);
  if (kind === "hunk")
    return (
      <tr className="hunk">
        <td className="ln" />
        <td className="sg" />
        <td className="cd">{text}</td>
      </tr>
    );
  const className = [CLASSES[kind], hasComment ? "has" : "", step === null ? "" : "sel"].filter(Boolean).join(" ");
  return (
    <tr ref={row} className={className || undefined} onClick={() => onPick(index)}>
      <td className="ln">{number}</td>
      <td className="sg">{SIGNS[kind]}</td>
      <td className="cd">{toCode(line, tokens ?? [])}</td>
    </tr>
  );
});

/** Words that changed are marked, and have no other colour. */
function toCode({ kind, text, parts }: PatchLine, tokens: readonly Token[]): ReactNode {
  if (parts === null && tokens.length === 0) return text;
  let at = 0;
  const Mark = kind === "add" ? "ins" : "del";
  return (parts ?? [{ text, isChanged: false }]).map((part, i) => {
    const from = at;
    at += part.text.length;
    return part.isChanged ? <Mark key={i}>{part.text}</Mark> : toColours(part, from, tokens);
  });
}

function toColours({ text }: LinePart, from: number, tokens: readonly Token[]): ReactNode[] {
  const shown: ReactNode[] = [];
  let at = 0;
  for (const [start, end, kind] of tokens) {
    const [left, right] = [Math.max(at, start - from), Math.min(text.length, end - from)];
    if (left >= right) continue;
    if (left > at) shown.push(text.slice(at, left));
    shown.push(
      <span key={from + left} className={COLOURS[kind]}>
        {text.slice(left, right)}
      </span>,
    );
    at = right;
  }
  if (at < text.length) shown.push(text.slice(at));
  return shown;
}
