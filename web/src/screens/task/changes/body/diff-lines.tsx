/** The lines of one file. A tap or the arrow keys choose one, for a comment. */
import { useCallback, useMemo, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { Icon } from "../../../../components/icon.tsx";
import { formatCount } from "../../../../lib/format.ts";
import { parsePatch } from "../../../../lib/patch.ts";
import { keyOf, KeptComment, LineEditor, type Comments } from "../comments.tsx";
import { DiffRow } from "./diff-row.tsx";
import { useColours } from "../syntax/use-colours.ts";

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

interface Selection {
  readonly chosen: Chosen | null;
  /** What was typed goes with the choice: a step corrects the thumb. */
  readonly typed: string | null;
}

const NOTHING: Selection = { chosen: null, typed: null };

export function DiffLines({ path, name, patch, comments }: DiffLinesProps) {
  const lines = useMemo(() => parsePatch(patch), [patch]);
  const [limit, setLimit] = useState(SHOWN);
  const scroll = useRef<HTMLDivElement>(null);
  const colours = useColours(path, lines, scroll);
  const [{ chosen, typed }, select] = useState(NOTHING);
  const close = (): void => select(NOTHING);
  const pick = useCallback(
    (index: number) =>
      select((before) => (before.chosen?.index === index ? NOTHING : { ...before, chosen: { index, step: 0 } })),
    [],
  );
  const move = (step: -1 | 1): void => {
    let index = (chosen?.index ?? (step === 1 ? -1 : 0)) + step;
    while (lines[index]?.kind === "hunk") index += step;
    if (lines[index] !== undefined && index < limit) select({ typed, chosen: { index, step } });
  };
  const present = chosen === null ? undefined : lines[chosen.index];
  return (
    <>
      <div
        ref={scroll}
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
                  index={i}
                  tokens={colours?.[i]}
                  step={isChosen ? chosen.step : null}
                  hasComment={kept !== undefined}
                  onPick={pick}
                />,
                isChosen ? (
                  <SayRow key={`${i} editor`}>
                    <LineEditor
                      line={line}
                      text={typed ?? kept?.text ?? ""}
                      isKept={kept !== undefined}
                      step={chosen.step}
                      onType={(text) => select({ chosen, typed: text })}
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
