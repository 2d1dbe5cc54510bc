/** A desk: whether the screen is as wide as one, and its keys. A key in a field is a letter. */
import { useSyncExternalStore } from "react";

const wide = matchMedia("(min-width: 64rem)");

export const isWideScreen = (): boolean => wide.matches;

function subscribe(listener: () => void): () => void {
  wide.addEventListener("change", listener);
  return () => wide.removeEventListener("change", listener);
}

export const useWideScreen = (): boolean => useSyncExternalStore(subscribe, isWideScreen);

export const PALETTE_KEYS = navigator.platform.startsWith("Mac") ? "⌘ K" : "Ctrl K";

/** True while the person writes, or a sheet is open. */
export function isTaken({ target }: KeyboardEvent): boolean {
  if (document.querySelector("dialog[open]") !== null) return true;
  return target instanceof HTMLElement && target.closest("input, textarea, select, [contenteditable]") !== null;
}

/** What the keys of every screen open. */
export type Opened = "palette" | "keys";

/**
 * Ctrl K, or Command K on a Mac, opens the palette, `?` the list of all keys, and `c` a new task.
 * @returns the end of listening.
 */
export function onAppKeys(open: (what: Opened) => void, create: () => void): () => void {
  const listen = (event: KeyboardEvent): void => {
    const { key, ctrlKey, metaKey, altKey, shiftKey } = event;
    const isCommand = (ctrlKey || metaKey) && !altKey && !shiftKey;
    if (key.toLowerCase() === "k" && isCommand && document.querySelector("dialog[open]") === null) open("palette");
    else if (ctrlKey || metaKey || altKey || isTaken(event)) return;
    else if (key === "?") open("keys");
    else if (key === "c" && !event.repeat) create();
    else return;
    event.preventDefault();
  };
  const byButton = (event: Event): void => open((event as CustomEvent<Opened>).detail);
  addEventListener("keydown", listen);
  addEventListener(OPEN, byButton);
  return () => {
    removeEventListener("keydown", listen);
    removeEventListener(OPEN, byButton);
  };
}

const OPEN = "slipway-open";

/** For a button that opens what the keys open. */
export const openByButton = (detail: Opened): void => void dispatchEvent(new CustomEvent(OPEN, { detail }));

/** The row next to the one that is open, or the one that is selected, or the first. */
function begin(rows: readonly HTMLElement[], step: number): number {
  const open = rows.findIndex((row) => row.getAttribute("aria-current") === "page");
  if (open !== -1) return open + step;
  return Math.max(
    0,
    rows.findIndex((row) => row.getAttribute("aria-current") === "true"),
  );
}

/** `j` and `k` move the focus through the rows; Enter then opens the row, as on every link. */
export function onRowKeys(selector: string): () => void {
  const listen = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTaken(event)) return;
    const step = event.key === "j" ? 1 : event.key === "k" ? -1 : 0;
    if (step === 0) return;
    const rows = [...document.querySelectorAll<HTMLElement>(selector)];
    const present = rows.findIndex((row) => row.contains(document.activeElement));
    const next = present === -1 ? begin(rows, step) : present + step;
    const row = rows[Math.min(rows.length - 1, Math.max(0, next))];
    row?.focus();
    row?.scrollIntoView({ block: "nearest" });
  };
  addEventListener("keydown", listen);
  return () => removeEventListener("keydown", listen);
}
