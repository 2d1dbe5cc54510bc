/** The faults that are open at the moment, and a record of all that were. */
import type { WindowKind } from "../plan.ts";
import { Dice } from "./dice.ts";
import type { VirtualTime } from "./virtual-time.ts";

interface Window {
  readonly kind: WindowKind | "down" | "paused";
  readonly from: number;
  to: number;
  readonly p: number;
}

export class Faults {
  /** How often each fault was drawn or hit. */
  readonly counts = new Map<string, number>();
  readonly #time: VirtualTime;
  readonly #dice: Dice;
  readonly #windows: Window[] = [];

  constructor(time: VirtualTime, seed: number) {
    this.#time = time;
    this.#dice = new Dice(seed, "faults");
  }

  open(kind: Window["kind"], ms: number, p = 1): void {
    this.#windows.push({ kind, from: this.#time.now, to: this.#time.now + ms, p });
    this.count(kind);
  }

  count(kind: string): void {
    this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
  }

  /** Faults cease. */
  closeAll(): void {
    for (const window of this.#windows) window.to = Math.min(window.to, this.#time.now);
  }

  /** When the fault ends; null = it is not there. */
  until(kind: WindowKind): number | null {
    const { now } = this.#time;
    const found = this.#windows.filter((window) => window.kind === kind && window.from <= now && now < window.to);
    return found.length === 0 ? null : Math.max(...found.map(({ to }) => to));
  }

  /** Draws whether the fault hits this call. */
  hits(kind: WindowKind): boolean {
    const { now } = this.#time;
    const found = this.#windows.find((window) => window.kind === kind && window.from <= now && now < window.to);
    if (found === undefined || (found.p < 1 && !this.#dice.chance(found.p))) return false;
    this.count(`${kind}: calls`);
    return true;
  }

  /** The time between two moments during which one of these faults was there, ms. */
  overlap(kinds: readonly Window["kind"][], from: number, to: number): number {
    let total = 0;
    for (const window of this.#windows)
      if (kinds.includes(window.kind)) total += Math.max(0, Math.min(to, window.to) - Math.max(from, window.from));
    return total;
  }

  /** True if one of these faults was there between two moments. */
  touched(kinds: readonly Window["kind"][], from: number, to: number): boolean {
    return this.#windows.some((window) => kinds.includes(window.kind) && window.from <= to && window.to >= from);
  }
}
