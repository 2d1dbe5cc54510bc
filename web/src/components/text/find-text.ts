/**
 * Finds a text in an element and marks it, without changing the element: the browser paints ranges
 * (CSS Custom Highlight API). Where it cannot, hits are counted and gone to, but not painted.
 */

/** More are not counted: a letter has hundreds of thousands of hits in a long output. */
export const MOST_HITS = 1_000;

/** A hit may go across elements, such as those of colours. @returns at most MOST_HITS + 1. */
export function findText(root: Node, query: string): Range[] {
  if (query === "") return [];
  const nodes: { readonly node: Text; readonly from: number }[] = [];
  let text = "";
  const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = walk.nextNode(); node !== null; node = walk.nextNode()) {
    nodes.push({ node: node as Text, from: text.length });
    text += (node as Text).data;
  }
  const found: Range[] = [];
  // As long as what was searched: a lower case may be longer than its upper case.
  const lower = text.toLowerCase().length === text.length ? text.toLowerCase() : text;
  const wanted = lower === text ? query : query.toLowerCase();
  let at = 0;
  const place = (offset: number): readonly [Text, number] | null => {
    while (at + 1 < nodes.length && (nodes[at + 1]?.from ?? 0) <= offset) at++;
    const place = nodes[at];
    return place === undefined ? null : [place.node, offset - place.from];
  };
  for (
    let i = lower.indexOf(wanted);
    i !== -1 && found.length <= MOST_HITS;
    i = lower.indexOf(wanted, i + wanted.length)
  ) {
    const start = place(i);
    const last = place(i + wanted.length - 1);
    if (start === null || last === null) break;
    const range = document.createRange();
    range.setStart(...start);
    range.setEnd(last[0], last[1] + 1);
    found.push(range);
  }
  return found;
}

/** @param at the hit that is shown, from 0. @returns takes the marks away. */
export function markHits(hits: readonly Range[], at: number): () => void {
  const highlights = "highlights" in CSS ? CSS.highlights : null;
  const present = hits[at];
  highlights?.set("hit", new Highlight(...hits));
  if (present !== undefined) highlights?.set("hit-now", new Highlight(present));
  return () => {
    highlights?.delete("hit");
    highlights?.delete("hit-now");
  };
}

/** Scrolls the box of the text, and then the page, where the hit is not in sight. */
export function showHit(hit: Range, box: HTMLElement): void {
  const edge = box.getBoundingClientRect();
  const { left, right, top, bottom } = hit.getBoundingClientRect();
  if (left < edge.left || right > edge.right) box.scrollLeft += left - edge.left - edge.width / 3;
  if (top < edge.top || bottom > edge.bottom) box.scrollTop += top - edge.top - edge.height / 2;
  const { top: at } = hit.getBoundingClientRect();
  const margin = innerHeight / 4;
  if (at < margin || at > innerHeight - margin) scrollBy({ top: at - innerHeight / 2 });
}
