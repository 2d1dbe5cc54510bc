/**
 * What does not fit a small screen: controls that are cut off or too small to be hit, and marks of
 * which a part is out of sight.
 */
import type { Page } from "playwright-core";

/** Least side of a target, px; rounding of zoomed layouts is no fault. */
const TARGET = 43.5;

/** Runs in the page. Rows of code are dense on purpose: a bar acts on the one that is chosen. */
const FIND = `((least) => {
  const width = document.documentElement.clientWidth;
  const describe = (element, what) =>
    what + ": " + (element.getAttribute("aria-label") ?? element.textContent.trim().slice(0, 40)) + " <" +
    element.tagName.toLowerCase() + " class=" + element.className + ">";
  const shown = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  /** What ancestors leave of a box; content that scrolls in place is not cut off. */
  const inSight = (element, mayScroll) => {
    const box = element.getBoundingClientRect();
    let [left, right] = [Math.max(box.left, 0), Math.min(box.right, width)];
    for (let parent = element.parentElement; parent !== null; parent = parent.parentElement) {
      const { overflowX } = getComputedStyle(parent);
      if (overflowX === "visible") continue;
      if (mayScroll && overflowX !== "hidden" && overflowX !== "clip") return box.width;
      const edge = parent.getBoundingClientRect();
      [left, right] = [Math.max(left, edge.left), Math.min(right, edge.right)];
    }
    return right - left;
  };
  /** The label of a box to tick, and the row that a link covers, are hit as well. */
  const targetOf = (element) => {
    if (element.matches("input[type=checkbox], input[type=radio]")) return element.closest("label") ?? element;
    const cover = getComputedStyle(element, "::after");
    return cover.content !== "none" && cover.position === "absolute" ? element.offsetParent ?? element : element;
  };
  const found = [];
  for (const element of document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")) {
    if (!shown(element) || element.closest("table, .sr, .skip") !== null) continue;
    const target = targetOf(element);
    const box = target.getBoundingClientRect();
    if (box.width === 0 || box.height === 0) continue;
    if (inSight(target, true) < box.width - 1) found.push(describe(element, "cut off"));
    // A link in a sentence is as high as its line.
    if (element.matches("a") && getComputedStyle(element).display === "inline") continue;
    if (element.matches("pre, [role=region]")) continue;
    if (Math.min(box.width, box.height) < least) found.push(describe(element, Math.round(box.width) + " x " + Math.round(box.height)));
  }
  for (const mark of document.querySelectorAll("[role=img], [role=status], h1, nav a")) {
    const box = mark.getBoundingClientRect();
    if (shown(mark) && box.width > 1 && mark.closest(".sr") === null && inSight(mark, false) < box.width - 1)
      found.push(describe(mark, "out of sight"));
  }
  if (document.documentElement.scrollWidth > width) found.push("the page scrolls sideways");
  return [...new Set(found)];
})(${TARGET})`;

export function findMisfits(page: Page): Promise<string[]> {
  return page.evaluate<string[]>(FIND);
}
