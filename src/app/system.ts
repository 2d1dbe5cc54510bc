/** Real ids, and the version of this program. Tests inject their own ids. */
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "../core/lib/runtime/package-root.ts";
import { systemClock } from "../core/lib/runtime/system-clock.ts";
import type { Clock, Ids } from "../core/ports/runtime.ts";
import type { Store } from "../core/ports/store.ts";

/** The version in package.json. */
export function version(): string {
  const { version: text } = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8")) as {
    version: string;
  };
  return text;
}

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
 * @param after epoch ms of the last ids of an earlier process: new ones sort behind them, even when
 * the clock was set back.
 */
export function systemIds(clock: Clock = systemClock, after = 0): Ids {
  let lastMs = after;
  let lastRandom = 0n;
  return {
    next(prefix) {
      const now = Math.max(clock.now(), lastMs);
      lastRandom = now === lastMs ? lastRandom + 1n : BigInt(`0x${randomBytes(9).toString("hex")}`);
      lastMs = now;
      return `${prefix}_${encode(BigInt(now), 10)}${encode(lastRandom, 16)}`;
    },
    random: () => randomBytes(6).readUIntBE(0, 6) / 2 ** 48,
  };
}

/** The folder of the built web app; null when only the sources are there. */
export function findWebApp(): string | null {
  const dir = join(packageRoot(), "dist", "web");
  return existsSync(join(dir, "index.html")) ? dir : null;
}

/**
 * The largest number of slots that this installation ever had: `doctor` checks rule D4 against it.
 */
export async function rememberSlots(store: Store, max: number): Promise<void> {
  const before = Number((await store.setting("slots.max")) ?? 0);
  if (!(max <= before)) await store.setSetting("slots.max", String(max));
}
