/** Ids from the clock and the random source of the operating system. Tests inject their own. */
import { randomBytes } from "node:crypto";
import { systemClock } from "../core/lib/system-clock.ts";
import type { Clock, Ids } from "../core/ports/runtime.ts";

// Crockford's base 32: no letter that looks like a digit.
const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

function encode(value: bigint, length: number): string {
  let text = "";
  for (let rest = value; text.length < length; rest >>= 5n) text = ALPHABET[Number(rest & 31n)] + text;
  return text;
}

/**
 * ULID-like: 10 characters of time in ms, then 16 random characters, which count up within one
 * millisecond.
 */
export function systemIds(clock: Clock = systemClock): Ids {
  let lastAt = 0;
  let lastChance = 0n;
  return {
    next(prefix) {
      const now = Math.max(clock.now(), lastAt);
      lastChance = now === lastAt ? lastChance + 1n : BigInt(`0x${randomBytes(9).toString("hex")}`);
      lastAt = now;
      return `${prefix}_${encode(BigInt(now), 10)}${encode(lastChance, 16)}`;
    },
    random: () => randomBytes(6).readUIntBE(0, 6) / 2 ** 48,
  };
}
