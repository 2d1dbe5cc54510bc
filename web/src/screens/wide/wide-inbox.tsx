/** The inbox at a desk: dense rows in columns, and a preview of the row that is selected. */
import { useEffect, useRef, useState, type PointerEvent, type ReactNode } from "react";
import type { WireTask } from "../../../../src/core/protocol/rest.ts";
import { onRowKeys } from "../../lib/keys.ts";
import { useEntryState, useScrollPlace } from "../../navigation/places.ts";
import { WideGroups } from "./wide-groups.tsx";
import { Preview } from "./preview.tsx";

interface WideInboxProps {
  readonly tasks: readonly WireTask[];
  readonly now: number;
  /** Above the rows, which scroll without it. */
  readonly head: ReactNode;
  /** Below the rows. */
  readonly foot: ReactNode;
}

export function WideInbox({ tasks, now, head, foot }: WideInboxProps) {
  const { selected, first, select } = useSelection(tasks);
  const pane = useRef<HTMLDivElement>(null);
  useScrollPlace(pane, "rows", tasks.length > 0);
  const rest = useRestingPointer(select);
  useEffect(() => onRowKeys("#main .drow"), []);
  useEffect(() => {
    // The row that stands first on the screen, not the newest.
    if (selected === null && tasks.length > 0) first(pane.current);
  }, [selected, tasks, first]);
  return (
    <>
      <main className="pane desk" id="main">
        {head}
        <div className="desk-rows" ref={pane} {...rest}>
          <WideGroups tasks={tasks} now={now} selected={selected?.id ?? null} onSelect={select} />
          {foot}
        </div>
        <KeysBar isAsking={(selected?.question ?? null) !== null} />
      </main>
      <aside className="pane preview" aria-label="Preview">
        {selected === null ? (
          <p className="empty">The selected task is shown here.</p>
        ) : (
          <Preview key={selected.id} task={selected} now={now} />
        )}
      </aside>
    </>
  );
}

/** Stays with its task, also when the row moves: what is read does not change by itself. */
function useSelection(tasks: readonly WireTask[]) {
  const [id, select] = useEntryState<string | null>("selected", null);
  const selected = tasks.find((task) => task.id === id) ?? null;
  const [{ first }] = useState(() => ({
    first: (pane: HTMLElement | null): void => select(pane?.querySelector<HTMLElement>(".drow")?.dataset["id"] ?? null),
  }));
  return { selected, first, select };
}

const REST_MS = 200;

/**
 * A pointer that rests on a row selects it, but not while somebody types in the preview. Rows that
 * are scrolled under a pointer are not rested on.
 */
function useRestingPointer(select: (id: string) => void) {
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(timer.current), []);
  return {
    onPointerMove: ({ target, movementX, movementY, pointerType }: PointerEvent<HTMLElement>): void => {
      if (pointerType !== "mouse" || (movementX === 0 && movementY === 0)) return;
      clearTimeout(timer.current);
      const id = target instanceof Element ? target.closest<HTMLElement>(".drow")?.dataset["id"] : undefined;
      if (id === undefined) return;
      timer.current = setTimeout(() => {
        if (document.activeElement?.closest(".preview") === null) select(id);
      }, REST_MS);
    },
    onPointerLeave: (): void => clearTimeout(timer.current),
  };
}

function KeysBar({ isAsking }: { isAsking: boolean }) {
  return (
    <ul className="keys-bar" aria-label="Keys">
      <li>
        <kbd className="kbd">j</kbd> <kbd className="kbd">k</kbd> next, previous
      </li>
      <li>
        <kbd className="kbd">Enter</kbd> open
      </li>
      <li>
        <kbd className="kbd">c</kbd> new task
      </li>
      <li>
        <kbd className="kbd">?</kbd> all keys
      </li>
      {/* Last: the others keep their places. */}
      {isAsking && (
        <li>
          <kbd className="kbd">a</kbd> answer
        </li>
      )}
    </ul>
  );
}
