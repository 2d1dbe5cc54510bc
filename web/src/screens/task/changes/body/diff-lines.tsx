/** The lines of one file. A tap or the arrow keys choose one, for a comment. */
import { useMemo, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { Icon } from "../../../../components/icon.tsx";
import { formatCount } from "../../../../lib/format.ts";
import { parsePatch } from "../../../../lib/patch.ts";
import { KeptComment, LineEditor, type Comments } from "../comments.tsx";
import { DiffRow } from "./diff-row.tsx";
import { useColours } from "../syntax/use-colours.ts";
import { useLineComments, type LineComments } from "./use-line-comments.ts";

/** Lines that are drawn at first, and with each request for more: each costs layout. */
const SHOWN = 2_000;

interface DiffLinesProps {
  readonly path: string;
  readonly name: string;
  readonly patch: string;
  readonly comments: Comments;
}

export function DiffLines({ path, name, patch, comments }: DiffLinesProps) {
  const lines = useMemo(() => parsePatch(patch), [patch]);
  const [limit, setLimit] = useState(SHOWN);
  const scroll = useRef<HTMLDivElement>(null);
  const colours = useColours(path, lines, scroll);
  const said = useLineComments(path, lines, comments);
  const { selection, index, at, kept, lost, pick, close } = said;
  const shown = Math.max(limit, at + 1);
  const move = (step: -1 | 1): void => {
    let next = (selection === null ? (step === 1 ? -1 : 0) : at) + step;
    while (lines[next]?.kind === "hunk") next += step;
    if (lines[next] !== undefined && next < shown) pick(next, step);
  };
  const present = lines[index];
  // It moves between the rows and is the same field.
  const editor = selection !== null && <Editor key="editor" said={said} selection={selection} onMove={move} />;
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
            {lost.map((comment) => (
              <SayRow key={`${comment.place.number} ${comment.text}`}>
                <KeptComment comment={comment} onRemove={() => said.remove(comment)} />
              </SayRow>
            ))}
            {at === -1 && editor}
            {lines.slice(0, shown).flatMap((line, i) => {
              const comment = kept.get(i);
              return [
                <DiffRow
                  key={i}
                  line={line}
                  index={i}
                  tokens={colours?.[i]}
                  step={index === i && selection !== null ? selection.step : null}
                  hasComment={comment !== undefined}
                  onPick={pick}
                />,
                comment !== undefined && index !== i && (
                  <SayRow key={`${i} kept`}>
                    <KeptComment comment={comment} />
                  </SayRow>
                ),
                at === i && editor,
              ];
            })}
          </tbody>
        </table>
      </div>
      <p className="sr" aria-live="polite">
        {present === undefined ? "" : `Line ${present.number}: ${present.text}`}
      </p>
      {lines.length > shown && (
        <button className="more-row" type="button" onClick={() => setLimit(shown + SHOWN)}>
          {formatCount(lines.length - shown)} more lines
          <Icon name="chev-d" small />
        </button>
      )}
    </>
  );
}

interface EditorProps {
  readonly said: LineComments;
  readonly selection: NonNullable<LineComments["selection"]>;
  readonly onMove: (step: -1 | 1) => void;
}

function Editor({ said, selection, onMove }: EditorProps) {
  const comment = said.kept.get(said.index);
  return (
    <SayRow>
      <LineEditor
        line={selection.place}
        text={selection.typed ?? comment?.text ?? ""}
        isGone={said.index === -1}
        isKept={comment !== undefined}
        step={selection.step}
        onType={said.type}
        onMove={onMove}
        onClose={said.close}
        onKeep={said.keep}
      />
    </SayRow>
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
