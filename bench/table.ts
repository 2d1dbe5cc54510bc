/** The table of the benches, and how its figures are written. */

export interface Row {
  readonly what: string;
  readonly ours: string;
  readonly floor: string;
  readonly ratio: string;
  readonly aim: string;
}

export const n = (value: number): string => Math.round(value).toLocaleString("en");
export const ms = (value: number): string => `${value.toFixed(value < 10 ? 2 : 0)} ms`;
export const pct = (ratio: number): string => `${Math.round(ratio * 100)} %`;
export const usd = (value: number): string => `$${value.toFixed(5)}`;

export function table(all: readonly Row[]): string {
  const head: Row = { what: "what", ours: "Slipway", floor: "floor", ratio: "ratio", aim: "aim" };
  const keys = ["what", "ours", "floor", "ratio", "aim"] as const;
  const widths = keys.map((key) => Math.max(...[head, ...all].map((row) => row[key].length)));
  const line = (row: Row): string => `| ${keys.map((key, i) => row[key].padEnd(widths[i] ?? 0)).join(" | ")} |`;
  return [line(head), `|${widths.map((w) => "-".repeat(w + 2)).join("|")}|`, ...all.map(line)].join("\n");
}
