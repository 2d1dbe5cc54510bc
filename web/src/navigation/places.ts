/**
 * Where a screen was left, by the entry of the history.
 *
 * N2 A new address begins at its top; Back, Forward and a reload show a screen where it was left.
 * N3 The focus that a screen takes along with it goes to the heading of the next one, which is what
 *    a screen reader reads.
 */
import { useLayoutEffect, useState, type RefObject } from "react";
import { first, onLeave, useAddress } from "./history.tsx";

/** The page itself, among what can be scrolled. */
const PAGE = "";
const STORED = "slipway.scroll";
const ENTRIES_STORED = 50;
/** Time in which a screen becomes as long as it was, ms. */
const GROWTH_MS = 3_000;

type Scrolls = Readonly<Record<string, number>>;

/** How far the page and its panes are scrolled, by the key of the entry. */
const scrolls = new Map<string, Scrolls>(readStored());
/** What else screens keep, by the key of the entry. */
const states = new Map<string, Map<string, unknown>>();
/** The entry that is drawn; the address may be ahead of it (N1). */
let shown = first;

function readStored(): [string, Scrolls][] {
  try {
    return JSON.parse(sessionStorage.getItem(STORED) ?? "[]") as [string, Scrolls][];
  } catch {
    return [];
  }
}

function keepScroll(pane: string, top: number): void {
  scrolls.set(shown.key, { ...scrolls.get(shown.key), [pane]: top });
}

const keepPage = (): void => keepScroll(PAGE, scrollY);

onLeave(keepPage);
addEventListener("scroll", keepPage, { passive: true });
function store(): void {
  try {
    sessionStorage.setItem(STORED, JSON.stringify([...scrolls].slice(-ENTRIES_STORED)));
  } catch {
    // Storage may be forbidden: a page that is loaded again begins at its top.
  }
}

addEventListener("pagehide", store);
// A page in the background may end without a word.
document.addEventListener("visibilitychange", store);

/** Scrolls at once, and again while the page grows to its length. @returns the end of that. */
function restoreScroll(top: number): () => void {
  const end = new AbortController();
  const { signal } = end;
  const scroll = (): void => {
    scrollTo(0, top);
    if (Math.abs(scrollY - top) < 1) end.abort();
  };
  scroll();
  if (signal.aborted) return () => undefined;
  const observer = new ResizeObserver(scroll);
  observer.observe(document.body);
  const timer = setTimeout(() => end.abort(), GROWTH_MS);
  // From here on the person decides.
  for (const type of ["wheel", "touchstart", "pointerdown", "keydown"])
    addEventListener(type, () => end.abort(), { signal, passive: true });
  signal.addEventListener("abort", () => {
    observer.disconnect();
    clearTimeout(timer);
  });
  return () => end.abort();
}

/**
 * The last element of each screen: the page gets its title from the heading, is scrolled to its
 * place, and the focus is moved. Screens whose title changes set it after this.
 */
export function Place(): null {
  const address = useAddress();
  useLayoutEffect(() => {
    const heading = document.querySelector<HTMLElement>("#main h1");
    const title = heading?.textContent ?? "Slipway";
    document.title = title.includes("Slipway") ? title : `${title} · Slipway`;
    if (address.path !== shown.path) focus(heading);
    shown = address;
    const top = scrolls.get(address.key)?.[PAGE];
    return top === undefined && address.key === first.key ? undefined : restoreScroll(top ?? 0);
  }, [address]);
  return null;
}

/** Unless a field of the new screen has the focus, or what had it is still there. */
function focus(heading: HTMLElement | null): void {
  if (document.activeElement !== document.body) return;
  heading?.setAttribute("tabindex", "-1");
  heading?.focus({ preventScroll: true });
}

/**
 * N2 for an element that scrolls by itself. @param name of it on its screen. @param isFilled it has
 * its content.
 */
export function useScrollPlace(element: RefObject<HTMLElement | null>, name: string, isFilled: boolean): void {
  const { key } = useAddress();
  useLayoutEffect(() => {
    const { current: pane } = element;
    if (pane === null || !isFilled) return undefined;
    pane.scrollTop = scrolls.get(key)?.[name] ?? 0;
    const keep = (): void => keepScroll(name, pane.scrollTop);
    pane.addEventListener("scroll", keep, { passive: true });
    return () => pane.removeEventListener("scroll", keep);
  }, [element, key, name, isFilled]);
}

function readState<T>(key: string, name: string, otherwise: T): T {
  const kept = states.get(key);
  return kept?.has(name) === true ? (kept.get(name) as T) : otherwise;
}

/**
 * As `useState`, for what Back finds as it was left. A new address of the same screen takes it
 * over.
 */
export function useEntryState<T>(name: string, initial: T): readonly [T, (next: T) => void] {
  const { key } = useAddress();
  const [held, hold] = useState(() => ({ key, value: readState(key, name, initial) }));
  const { value } = held.key === key ? held : { value: readState(key, name, held.value) };
  if (held.key !== key) hold({ key, value });
  useLayoutEffect(() => {
    states.set(key, (states.get(key) ?? new Map<string, unknown>()).set(name, value));
  }, [key, name, value]);
  const [{ set }] = useState(() => ({
    set: (next: T): void => hold((present) => ({ ...present, value: next })),
  }));
  return [value, set];
}
