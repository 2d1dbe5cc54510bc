/** Amounts in texts for people: what is more than nothing never reads as nothing. */

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

/** `$4.20`, `$0.0350`, `$0.00012`: as many digits as the first two that are not zero need. */
export function formatUsd(amount: number): string {
  const size = Math.abs(amount);
  if (size >= 0.1 || size === 0) return `$${amount.toFixed(2)}`;
  if (size >= 0.001) return `$${amount.toFixed(4)}`;
  return `$${amount.toFixed(Math.min(9, 1 - Math.floor(Math.log10(size))))}`;
}

/** `48 of 60 minutes`, `4.8 of 6 minutes`, `3.2 of 4 seconds`, `40 of 50 ms`: by the whole. */
export function formatShareOfTime(usedMs: number, wholeMs: number): string {
  const [unit, name] =
    wholeMs >= 2 * MINUTE ? [MINUTE, "minutes"] : wholeMs >= 2 * SECOND ? [SECOND, "seconds"] : [1, "ms"];
  const digits = wholeMs / unit < 10 && unit > 1 ? 1 : 0;
  const text = (ms: number): string => String(Number((ms / unit).toFixed(digits)));
  return `${text(usedMs)} of ${text(wholeMs)} ${name}`;
}

/** `12 minutes`, `1 minute`, `30 seconds`, `250 ms`: for a limit. */
export function formatTime(ms: number): string {
  const [amount, name] = ms >= MINUTE ? [ms / MINUTE, "minute"] : ms >= SECOND ? [ms / SECOND, "second"] : [ms, "ms"];
  const shown = Number(amount.toFixed(name === "ms" || amount >= 10 ? 0 : 2));
  return name === "ms" ? `${Math.max(1, shown)} ms` : `${shown} ${name}${shown === 1 ? "" : "s"}`;
}

/** `0.4 s`, `12 s`, `120 ms` for less than a tenth of a second. */
export function formatSeconds(ms: number): string {
  if (ms < 100) return `${Math.round(Math.max(0, ms))} ms`;
  return `${(ms / SECOND).toFixed(ms < 10 * SECOND ? 1 : 0)} s`;
}
