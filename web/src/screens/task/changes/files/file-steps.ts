/** Which file of a large change is looked at, and which diffs stand on the page. */
import { useEffect, useState } from "react";
import type { Seen } from "./seen.ts";
import type { FileChange } from "./tree.ts";

/** Diffs on the page at first, and with each request for more. */
export const DRAWN = 50;

export interface FileSteps {
  readonly index: number;
  readonly current: FileChange;
  /** Counts the acts that led to the file; 0 = none did. */
  readonly act: number;
  /** The diffs on the page. */
  readonly drawn: readonly [from: number, to: number];
  readonly goTo: (file: FileChange) => void;
  readonly step: (by: -1 | 1) => void;
  /** The next file that was not seen, from the present one on, and then from the first. */
  readonly goToUnseen: () => void;
  readonly markAndGo: () => void;
  readonly draw: (side: -1 | 1) => void;
}

interface Place {
  readonly path: string;
  readonly act: number;
  readonly from: number;
  readonly to: number;
}

/** @param files in their order on the page, one at least. */
export function useFileSteps(files: readonly FileChange[], seen: Seen): FileSteps | null {
  const [place, setPlace] = useState<Place>(() => begin(files, seen));
  const index = Math.max(
    0,
    files.findIndex(({ path }) => path === place.path),
  );
  const current = files[index];
  if (current === undefined) return null;
  const goTo = ({ path }: FileChange): void => {
    const at = files.findIndex((file) => file.path === path);
    const isDrawn = at >= place.from && at < place.to;
    const [from, to] = isDrawn ? [place.from, place.to] : [at, at + DRAWN];
    setPlace({ path, act: place.act + 1, from, to });
  };
  const step = (by: -1 | 1): void => {
    const next = files[index + by];
    if (next !== undefined) goTo(next);
  };
  const goToUnseen = (): void => {
    const next = [...files.slice(index + 1), ...files.slice(0, index)].find((file) => !seen.has(file));
    if (next !== undefined) goTo(next);
  };
  return {
    index,
    current,
    act: place.act,
    drawn: [place.from, Math.min(place.to, files.length)],
    goTo,
    step,
    goToUnseen,
    markAndGo: () => {
      seen.mark([current], true);
      goToUnseen();
    },
    draw: (side) =>
      setPlace(side === 1 ? { ...place, to: place.to + DRAWN } : { ...place, from: Math.max(0, place.from - DRAWN) }),
  };
}

function begin(files: readonly FileChange[], seen: Seen): Place {
  const at = Math.max(
    0,
    files.findIndex((file) => !seen.has(file)),
  );
  return { path: files[at]?.path ?? "", act: 0, from: at, to: at + DRAWN };
}

/** `n` and `s`, outside of fields and sheets. */
export function useFileKeys({ goToUnseen, markAndGo }: Pick<FileSteps, "goToUnseen" | "markAndGo">): void {
  useEffect(() => {
    const listen = (event: KeyboardEvent): void => {
      const { key, ctrlKey, metaKey, altKey, target } = event;
      if (ctrlKey || metaKey || altKey || document.querySelector("dialog[open]") !== null) return;
      if (target instanceof HTMLElement && target.closest("input, textarea, select") !== null) return;
      if (key === "n") goToUnseen();
      else if (key === "s") markAndGo();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  });
}
