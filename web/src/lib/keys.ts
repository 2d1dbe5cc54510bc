/** Keys of a desk. A key in a field is a letter. */

/** True while the person writes, or a sheet is open. */
function isTaken({ target }: KeyboardEvent): boolean {
  if (document.querySelector("dialog[open]") !== null) return true;
  return target instanceof HTMLElement && target.closest("input, textarea, select, [contenteditable]") !== null;
}

/** Ctrl K, or Command K on a Mac. @returns the end of listening. */
export function onPaletteKey(open: () => void): () => void {
  const listen = (event: KeyboardEvent): void => {
    if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
    if (document.querySelector("dialog[open]") !== null) return;
    event.preventDefault();
    open();
  };
  addEventListener("keydown", listen);
  addEventListener(OPEN, open);
  return () => {
    removeEventListener("keydown", listen);
    removeEventListener(OPEN, open);
  };
}

const OPEN = "slipway-palette";

/** For a button that opens what the keys open. */
export const openPalette = (): void => void dispatchEvent(new Event(OPEN));

/** `j` and `k` move the focus through the rows; Enter then opens the row, as on every link. */
export function onRowKeys(selector: string): () => void {
  const listen = (event: KeyboardEvent): void => {
    if (event.ctrlKey || event.metaKey || event.altKey || isTaken(event)) return;
    const step = event.key === "j" ? 1 : event.key === "k" ? -1 : 0;
    if (step === 0) return;
    const rows = [...document.querySelectorAll<HTMLElement>(selector)];
    const present = rows.findIndex((row) => row.contains(document.activeElement));
    const next = present === -1 ? 0 : Math.min(rows.length - 1, Math.max(0, present + step));
    rows[next]?.focus();
    rows[next]?.scrollIntoView({ block: "nearest" });
  };
  addEventListener("keydown", listen);
  return () => removeEventListener("keydown", listen);
}
