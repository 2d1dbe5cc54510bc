/** Formats of the app, which begin without `Intl`, compared with it. */
import { expect, it } from "vitest";
import { formatClock, formatCount, formatDay, formatOrdinal, formatSecond } from "../../../web/src/lib/format.ts";
import { createRandom, SEED } from "../../support/random.ts";

const TRIES = 2_000;
const LAST = Date.UTC(2100, 0, 1);
const SUFFIXES = { zero: "th", one: "st", two: "nd", few: "rd", many: "th", other: "th" } as const;

it(`clocks and days are those of Intl (seed ${SEED})`, () => {
  const random = createRandom(SEED);
  const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
  const second = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
  const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
  const times = [0, ...Array.from({ length: TRIES }, () => Math.floor(random() * LAST))];
  for (const at of times) {
    expect(formatClock(at)).toBe(clock.format(at));
    expect(formatSecond(at)).toBe(second.format(at));
    // The other months have three letters.
    expect(formatDay(at)).toBe(day.format(at).replace("Sept", "Sep"));
  }
});

it("counts and ordinals are those of Intl", () => {
  const rules = new Intl.PluralRules("en", { type: "ordinal" });
  for (let n = 0; n < TRIES; n += 1) {
    expect(formatOrdinal(n)).toBe(`${n}${SUFFIXES[rules.select(n)]}`);
    for (const count of [n, n ** 2, n ** 4, -1 - n]) expect(formatCount(count)).toBe(count.toLocaleString("en"));
  }
});
