/**
 * Searches by text: a case-insensitive substring of title, prompt or repository.
 *
 * T1 The index tells which tasks contain some trigrams of the text. It only narrows down what is
 *    read: the text itself decides, so an index that is behind or damaged finds too little at most,
 *    and `doctor --repair` makes it anew.
 * T2 Whatever the pattern, tasks are read in slices of about `SLICE_MS`, and the event loop gets a
 *    turn after each.
 */
import { setImmediate } from "node:timers/promises";
import type { Connection } from "../driver.ts";
import { MAX_TRIGRAMS, toTrigrams } from "../../shared/trigrams.ts";

/** With more candidates than this, reading the newest tasks fills a page sooner. */
const MAX_CANDIDATES = 1_000;
/** Intended time of one slice, ms. */
const SLICE_MS = 5;
const SLICE_ROWS = { first: 64, most: 2_048 };

export function textIndex(db: Connection) {
  const find = db
    .prepare<[string, number], number>("SELECT rowid FROM task_search WHERE task_search MATCH ? LIMIT ?")
    .pluck();
  return {
    /**
     * Rows of `task_specs` that may contain the text.
     * @returns null when there are many, or the text is too short to tell.
     */
    candidates(text: string): readonly number[] | null {
      const trigrams = toTrigrams(text, MAX_TRIGRAMS);
      if (trigrams.length === 0) return null;
      const found = find.all(toMatch(trigrams), MAX_CANDIDATES + 1);
      return found.length > MAX_CANDIDATES ? null : found;
    },
  };
}

/** The FTS5 query for rows that contain all of these. */
export const toMatch = (trigrams: readonly string[]): string =>
  trigrams.map((trigram) => `"${trigram.replaceAll('"', '""')}"`).join(" AND ");

/**
 * Calls `read` until it says that it is done, with the number of rows to look at, which follows
 * from how long the last ones took.
 */
export async function inSlices(read: (rows: number) => "more" | "done"): Promise<void> {
  for (let rows = SLICE_ROWS.first; ;) {
    const begun = performance.now();
    if (read(rows) === "done") return;
    const took = performance.now() - begun;
    if (took > SLICE_MS) rows = Math.max(1, Math.floor(rows / 2));
    else if (took < SLICE_MS / 2) rows = Math.min(SLICE_ROWS.most, rows * 2);
    await setImmediate();
  }
}
