/** What many runs were, in a few lines. */
import type { Outcome } from "./run.ts";

export class Summary {
  findings = 0;
  readonly #kinds = new Map<string, number>();
  readonly #faults = new Map<string, number>();
  readonly #tasks = new Map<string, number>();
  #seeds = 0;
  #virtualMs = 0;
  #steps = 0;

  /** @returns true when a kind of finding is new. */
  add({ findings, virtualMs, steps, counts, tasks }: Outcome): boolean {
    this.#seeds += 1;
    this.#virtualMs += virtualMs;
    this.#steps += steps;
    for (const [kind, count] of counts) add(this.#faults, kind, count);
    for (const [state, count] of Object.entries(tasks)) add(this.#tasks, state, count);
    if (findings.length > 0) this.findings += 1;
    const kinds = findings.map(({ rule, detail }) => `${rule}: ${toKind(detail)}`);
    const isNew = kinds.some((kind) => (this.#kinds.get(kind) ?? 0) < 2);
    for (const kind of kinds) add(this.#kinds, kind, 1);
    return isNew;
  }

  text(yearMs: number): string {
    const list = (counts: ReadonlyMap<string, number>): string =>
      [...counts]
        .toSorted((a, b) => b[1] - a[1])
        .map(([name, count]) => `  ${count} ${name}`)
        .join("\n");
    return [
      `${this.#seeds} seeds, ${(this.#virtualMs / yearMs).toFixed(3)} simulated years, ${this.#steps} steps, ${this.findings} seeds with findings`,
      `tasks:\n${list(this.#tasks)}`,
      `faults:\n${list(this.#faults)}`,
      `findings:\n${list(this.#kinds)}`,
    ].join("\n");
  }
}

function add(counts: Map<string, number>, name: string, count: number): void {
  counts.set(name, (counts.get(name) ?? 0) + count);
}

/** The detail without what differs between seeds. */
function toKind(detail: string): string {
  return detail
    .replaceAll(/(task|msg)_\w+/g, "$1")
    .replaceAll(/\b[0-9a-f]{8,40}\b/g, "x")
    .replaceAll(/\d+/g, "N");
}
