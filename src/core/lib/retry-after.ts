/** Reads one header; null or undefined when the answer does not have it. */
export type ReadHeader = (name: string) => string | null | undefined;

/**
 * `retry-after-ms` (milliseconds), else `retry-after` (seconds or an HTTP date).
 * @param now epoch ms, for dates.
 * @returns milliseconds, never negative; null when neither header has a usable value.
 */
export function parseRetryAfter(header: ReadHeader, now: number): number | null {
  const ms = readNumber(header("retry-after-ms"));
  if (ms !== null && ms >= 0) return ms;
  const text = header("retry-after");
  const seconds = readNumber(text);
  if (seconds !== null) return Math.max(0, seconds * 1_000);
  const date = Date.parse(text ?? "");
  return Number.isNaN(date) ? null : Math.max(0, date - now);
}

function readNumber(text: string | null | undefined): number | null {
  if (text === null || text === undefined || text.trim() === "") return null;
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}
