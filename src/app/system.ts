/** The real clock and the real ids. Tests bring their own. */
import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Clock, Ids } from "../core/ports/runtime.ts";

export const systemClock: Clock = {
  now: () => Date.now(),
  timer(ms, wake) {
    const handle = setTimeout(wake, ms);
    return () => clearTimeout(handle);
  },
  sleep: (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }),
};

// Crockford's base 32: no letter that looks like a digit.
const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

function encode(value: bigint, length: number): string {
  let text = "";
  for (let rest = value; text.length < length; rest >>= 5n) text = ALPHABET[Number(rest & 31n)] + text;
  return text;
}

/** ULID-like: 10 characters of time in ms, 16 of chance that grow within one ms. */
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
