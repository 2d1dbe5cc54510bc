/** The line of a file that is chosen for a comment, and the comments that its lines have. */
import { useCallback, useEffect, useMemo, useState } from "react";
import type { PatchLine } from "../../../../lib/patch.ts";
import type { Comments, Kept } from "../comments.tsx";
import { keepTyped, readTyped } from "../typed.tsx";
import { findNearest, findPlace, placeAll, toPlace, type Place } from "./places.ts";

export interface Selection {
  /** The line itself: its index changes when the agent saves others. */
  readonly place: Place;
  /** The step that led there: 0 = it was tapped. */
  readonly step: -1 | 0 | 1;
  /** What was typed goes with the choice: a step corrects the thumb. */
  readonly typed: string | null;
}

export interface LineComments {
  readonly selection: Selection | null;
  /** Of the chosen line; -1 when none is, and when the patch does not have it any more. */
  readonly index: number;
  /** Where the editor stands: at its line, or where that would be. */
  readonly at: number;
  readonly kept: ReadonlyMap<number, Kept>;
  /** Their lines are not in the patch any more. */
  readonly lost: readonly Kept[];
  readonly pick: (index: number, step?: -1 | 0 | 1) => void;
  readonly type: (text: string) => void;
  readonly close: () => void;
  /** An empty text removes the comment of the line. */
  readonly keep: (text: string) => void;
  readonly remove: (lost: Kept) => void;
}

function readSelection(taskId: string, path: string): Selection | null {
  const known = readTyped(taskId)[path];
  if (known === undefined) return null;
  const { typed, ...place } = known;
  return { place, step: 0, typed };
}

function useSelection(path: string, lines: readonly PatchLine[], taskId: string) {
  const [selection, select] = useState(() => readSelection(taskId, path));
  const [known, setKnown] = useState<readonly PatchLine[] | null>(null);
  const index = useMemo(() => (selection === null ? -1 : findPlace(lines, selection.place)), [lines, selection]);
  if (known !== lines) {
    setKnown(lines);
    if (selection !== null && index !== -1) select({ ...selection, place: toPlace(lines, index) });
  }
  useEffect(() => {
    const { place, typed = null } = selection ?? {};
    keepTyped(taskId, path, place === undefined || typed === null || typed === "" ? null : { ...place, typed });
  }, [taskId, path, selection]);
  const pick = useCallback(
    (next: number, step: -1 | 0 | 1 = 0) =>
      select((before) =>
        step === 0 && before !== null && findPlace(lines, before.place) === next
          ? null
          : { place: toPlace(lines, next), step, typed: before?.typed ?? null },
      ),
    [lines],
  );
  return { selection, select, index, pick };
}

export function useLineComments(path: string, lines: readonly PatchLine[], comments: Comments): LineComments {
  const { selection, select, index, pick } = useSelection(path, lines, comments.taskId);
  const { at: kept, lost } = useMemo(() => placeAll(lines, comments.of(path)), [lines, comments, path]);
  const close = (): void => select(null);
  const keep = (text: string): void => {
    close();
    if (selection === null) return;
    const comment = { place: selection.place, text };
    // All of them get the numbers of the present patch.
    const all = new Map([...kept].map(([i, one]) => [i, { place: toPlace(lines, i), text: one.text }]));
    if (index !== -1 && text === "") all.delete(index);
    else if (index !== -1) all.set(index, comment);
    comments.put(path, [...all.values(), ...lost, ...(index === -1 && text !== "" ? [comment] : [])]);
  };
  return {
    selection,
    index,
    at: selection === null || index !== -1 ? index : findNearest(lines, selection.place),
    kept,
    lost,
    pick,
    type: (typed) => {
      if (selection !== null) select({ ...selection, typed });
    },
    close,
    keep,
    remove: (one) =>
      comments.put(
        path,
        comments.of(path).filter((other) => other !== one),
      ),
  };
}
