/** Draws from a seed. Two dice with the same seed and label give the same numbers. */
import { createHash } from "node:crypto";
import { createRandom } from "../../support/random.ts";

export class Dice {
  readonly #random: () => number;

  constructor(seed: number, label: string) {
    const digest = createHash("sha256").update(`${seed} ${label}`).digest();
    this.#random = createRandom(digest.readUInt32LE(0));
  }

  /** 0 <= x < 1. */
  next(): number {
    return this.#random();
  }

  chance(p: number): boolean {
    return this.next() < p;
  }

  /** A whole number from `min` to `max`, both included. */
  int(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  /** A whole number from `min` to `max`; each order of magnitude is equally likely. */
  log(min: number, max: number): number {
    return Math.round(min * (max / min) ** this.next());
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.next() * list.length)]!;
  }

  sample<T>(list: readonly T[], count: number): T[] {
    const rest = [...list];
    const chosen: T[] = [];
    while (chosen.length < count && rest.length > 0) chosen.push(...rest.splice(this.int(0, rest.length - 1), 1));
    return chosen;
  }
}
