/** What the browser saw move on a page, as a visible part that is where it was not. */
import type { Page } from "playwright-core";

/**
 * What moves without an act of the person: how much moved in the frame, the part, and from where to
 * where. The rows of a list are by state and age, so theirs do not count; what stands around them
 * does. A part that is less than 3 pixels away did not move; the browser reports it as well when it
 * changed its size in a frame that scrolled.
 */
export const WATCH_SHIFTS = `globalThis.shifts = [];
  const box = ({ left, top }) => Math.round(left) + "," + Math.round(top);
  const isAway = (from, to) => Math.max(Math.abs(from.left - to.left), Math.abs(from.top - to.top)) >= 3;
  const nameOf = (node) => (node?.outerHTML ?? node?.parentElement?.outerHTML ?? "what is gone").slice(0, 100);
  new PerformanceObserver((list) => {
    for (const { value, hadRecentInput, sources } of list.getEntries())
      for (const { node, previousRect, currentRect } of hadRecentInput ? [] : sources)
        if (!(node?.parentElement ?? node)?.closest?.(".rows, .list-pane") && isAway(previousRect, currentRect))
          shifts.push(value.toFixed(6) + " " + nameOf(node) + " " + box(previousRect) + " to " + box(currentRect));
  }).observe({ type: "layout-shift", buffered: true });`;

export const readShifts = (page: Page): Promise<string[]> => page.evaluate<string[]>("globalThis.shifts");
