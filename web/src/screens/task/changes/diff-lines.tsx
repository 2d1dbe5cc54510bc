/** The lines of one file. A tap or the arrow keys choose one, for a comment. */
import { useEffect, useMemo, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { Icon } from "../../../components/icon.tsx";
import { formatCount } from "../../../lib/format.ts";
import { parsePatch, type PatchLine } from "../../../lib/patch.ts";
import { keyOf, KeptComment, LineEditor, type Comments } from "./comments.tsx";

/** Lines that are drawn at first, and with each request for more: each costs layout. */
const SHOWN = 2_000;

interface DiffLinesProps {
  readonly path: string;
  readonly name: string;
  readonly patch: string;
  readonly comments: Comments;
}

interface Chosen {
  readonly index: number;
  /** The step that led there: 0 = it was tapped. */
  readonly step: -1 | 0 | 1;
}

export function DiffLines({ path, name, patch, comments }: DiffLinesProps) {
  const lines = useMemo(() => parsePatch(patch), [patch]);
  const [limit, setLimit] = useState(SHOWN);
  const [chosen, setChosen] = useState<Chosen | null>(null);
  // What was typed goes with the choice: a step corrects the thumb.
  const [typed, setTyped] = useState<string | null>(null);
  const close = (): void => {
    setChosen(null);
    setTyped(null);
  };
  const move = (step: -1 | 1): void => {
    let index = (chosen?.index ?? (step === 1 ? -1 : 0)) + step;
    while (lines[index]?.kind === "hunk") index += step;
    if (lines[index] !== undefined && index < limit) setChosen({ index, step });
  };
  const present = chosen === null ? undefined : lines[chosen.index];
  return (
    <>
      <div
        className="diff-scroll"
        tabIndex={0}
        role="region"
        aria-label={`Diff of ${name}`}
        aria-keyshortcuts="ArrowDown ArrowUp Enter"
        onKeyDown={(event) => onLineKey(event, { move, close })}
      >
        <table className="diff">
          <tbody>
            {lines.slice(0, limit).map((line, i) => {
              const key = keyOf(path, line);
              const isChosen = chosen?.index === i;
              const kept = line.kind === "hunk" ? undefined : comments.get(key);
              return [
                <DiffRow
                  key={i}
                  line={line}
                  step={isChosen ? chosen.step : null}
                  hasComment={kept !== undefined}
                  onPick={() => (isChosen ? close() : setChosen({ index: i, step: 0 }))}
                />,
                isChosen ? (
                  <SayRow key={`${i} editor`}>
                    <LineEditor
                      line={line}
                      text={typed ?? kept?.text ?? ""}
                      isKept={kept !== undefined}
                      step={chosen.step}
                      onType={setTyped}
                      onMove={move}
                      onClose={close}
                      onKeep={(text) => {
                        comments.set(key, text === "" ? null : { text, line: line.text });
                        close();
                      }}
                    />
                  </SayRow>
                ) : kept !== undefined ? (
                  <SayRow key={`${i} kept`}>
                    <KeptComment line={line} text={kept.text} />
                  </SayRow>
                ) : null,
              ];
            })}
          </tbody>
        </table>
      </div>
      <p className="sr" aria-live="polite">
        {present === undefined ? "" : `Line ${present.number}: ${present.text}`}
      </p>
      {lines.length > limit && (
        <button className="more-row" type="button" onClick={() => setLimit(limit + SHOWN)}>
          {formatCount(lines.length - limit)} more lines
          <Icon name="chev-d" small />
        </button>
      )}
    </>
  );
}

interface Steps {
  readonly move: (step: -1 | 1) => void;
  readonly close: () => void;
}

/** Keys in the editor are its own. */
function onLineKey(event: KeyboardEvent<HTMLElement>, { move, close }: Steps): void {
  if (event.key === "Escape") return close();
  if (event.target !== event.currentTarget || event.altKey || event.ctrlKey || event.metaKey) return;
  const field = event.currentTarget.querySelector("textarea");
  if (event.key === "ArrowDown") move(1);
  else if (event.key === "ArrowUp") move(-1);
  else if (event.key === "Enter" && field !== null) field.focus();
  else return;
  event.preventDefault();
}

function SayRow({ children }: { children: ReactNode }) {
  return (
    <tr className="say">
      <td colSpan={3}>{children}</td>
    </tr>
  );
}

const SIGNS = { add: "+", del: "−", same: " ", hunk: "" } as const;
const CLASSES = { add: "a", del: "d", same: "", hunk: "hunk" } as const;

interface DiffRowProps {
  readonly line: PatchLine;
  /** Null = it is not chosen. */
  readonly step: Chosen["step"] | null;
  readonly hasComment: boolean;
  readonly onPick: () => void;
}

function DiffRow({ line, step, hasComment, onPick }: DiffRowProps) {
  const { kind, number, parts, text } = line;
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
    <tr ref={row} className={className || undefined} onClick={onPick}>
      <td className="ln">{number}</td>
      <td className="sg">{SIGNS[kind]}</td>
      <td className="cd">
        {parts === null
          ? text
          : parts.map((part, i) =>
              !part.isChanged ? (
                part.text
              ) : kind === "add" ? (
                <ins key={i}>{part.text}</ins>
              ) : (
                <del key={i}>{part.text}</del>
              ),
            )}
      </td>
    </tr>
  );
}
