/** Reads git's progress (`--progress`) from its error output. */

/** A host chooses what follows `remote: `, so only git's own phases and figures are passed on. */
const LINE =
  /^(?:remote: )?((?:Enumerating objects|Counting objects|Compressing objects|Receiving objects|Resolving deltas|Checking objects|Checking connectivity|Updating files): +\d[\d%(), /.|]*(?:(?:bytes|[KMGT]iB)(?: \| [\d.]+ (?:bytes|[KMGT]iB)\/s)?)?)/;
const PHASE =
  /^(remote: )?(Enumerating|Counting|Compressing|Receiving|Resolving|Writing|Checking|Updating) (objects|deltas|connectivity|files):/;
/** An unfinished line is dropped beyond this length, characters. */
const LINE_LIMIT = 1_000;
/** Interval between two lines that are passed on: 1 s, later a sixtieth of the elapsed time, ms. */
const MIN_GAP_MS = 1_000;
const MAX_GAP_MS = 10_000;
const GAPS = 60;

/**
 * @returns a receiver of error output as it arrives. It passes on the newest line of progress, at
 * most one per interval: a fetch of 15 minutes gives about 200 lines. Nothing is passed on while
 * nothing arrives.
 */
export function readProgress(report: (text: string) => void, now: () => number = Date.now): (chunk: string) => void {
  const startedAt = now();
  // What ends within the first interval has no progress.
  let reportedAt = startedAt;
  let rest = "";
  return (chunk) => {
    const lines = (rest + chunk).split(/[\r\n]/);
    rest = (lines.pop() ?? "").slice(-LINE_LIMIT);
    const gap = Math.min(MAX_GAP_MS, Math.max(MIN_GAP_MS, (now() - startedAt) / GAPS));
    if (now() - reportedAt < gap) return;
    const newest = lines.map((line) => LINE.exec(line)?.[1]).findLast((text) => text !== undefined);
    if (newest === undefined) return;
    reportedAt = now();
    report(newest.trimEnd().replace(/,$/, ""));
  };
}

/**
 * Error output without progress. Its lines overwrite one another with a carriage return; only the
 * last state of each line is worth showing.
 */
export function withoutProgress(output: string): string {
  const lines = output.split("\n").map((line) => line.split("\r").findLast((part) => part.trim() !== "") ?? "");
  return lines.filter((line) => !PHASE.test(line)).join("\n");
}
