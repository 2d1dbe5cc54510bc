/** The lines of one file. A tap or the arrow keys choose one, for a comment. */
import { useCallback, useMemo, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { Icon } from "../../../../components/icon.tsx";
import { formatCount } from "../../../../lib/format.ts";
import { findLine, parsePatch, type PatchLine } from "../../../../lib/patch.ts";
import { CommentOfLine, LineEditor, type Comments, type KeptComment } from "../comments.tsx";
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
  /** As it was when it was chosen: the next version of the patch may have it elsewhere. */
  readonly line: PatchLine;
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
      select((before) => {
        const line = lines[index];
        const isOpen = before.chosen !== null && findLine(lines, before.chosen.line).index === index;
        return isOpen || line === undefined ? NOTHING : { ...before, chosen: { line, step: 0 } };
      }),
    [lines],
  );
  const place = chosen === null ? null : findLine(lines, chosen.line);
  const move = (step: -1 | 1): void => {
    let index = (place?.index ?? (step === 1 ? -1 : 0)) + step;
    while (lines[index]?.kind === "hunk") index += step;
    const line = lines[index];
    if (line !== undefined && index < limit) select({ typed, chosen: { line, step } });
  };
  const kept = useMemo(() => placeComments(lines, comments.of(path)), [lines, comments, path]);
  const present = place === null || place.isGone ? undefined : lines[place.index];
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
            {lines.slice(0, Math.max(limit, (place?.index ?? 0) + 1)).map((line, i) => {
              const isChosen = chosen !== null && place?.index === i;
              const here = kept.get(i) ?? [];
              const own = here.find(({ isGone }) => !isGone)?.comment;
              return [
                <DiffRow
                  key={i}
                  line={line}
                  index={i}
                  tokens={colours?.[i]}
                  step={isChosen ? chosen.step : null}
                  hasComment={own !== undefined}
                  onPick={pick}
                />,
                isChosen ? (
                  <SayRow key={`${i} editor`}>
                    <LineEditor
                      line={place.isGone ? chosen.line : line}
                      isGone={place.isGone}
                      text={typed ?? own?.text ?? ""}
                      isKept={own !== undefined}
                      step={chosen.step}
                      onType={(text) => select({ chosen, typed: text })}
                      onMove={move}
                      onClose={close}
                      onKeep={(text) => {
                        comments.put(path, place.isGone ? chosen.line : line, text, place.isGone ? undefined : own);
                        close();
                      }}
                    />
                  </SayRow>
                ) : null,
                ...here
                  .filter(({ comment }) => !isChosen || comment !== own)
                  .map(({ comment, isGone }) => (
                    <SayRow key={comment.key}>
                      <CommentOfLine
                        comment={comment}
                        line={isGone ? null : line}
                        onRemove={() => comments.remove(comment)}
                      />
                    </SayRow>
                  )),
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

interface Placed {
  readonly comment: KeptComment;
  readonly isGone: boolean;
}

/** The comments by the index of the line below which they stand. */
function placeComments(lines: readonly PatchLine[], all: readonly KeptComment[]): Map<number, Placed[]> {
  const placed = new Map<number, Placed[]>();
  for (const comment of all) {
    const { index, isGone } = findLine(lines, comment.anchor);
    placed.set(index, [...(placed.get(index) ?? []), { comment, isGone }]);
  }
  return placed;
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
