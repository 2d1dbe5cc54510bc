/** Random numbers that a printed seed replays, and how much of what is generated a run tries. */

/** From SLIPWAY_TEST_SEED, else new for each run, which prints it at its end. */
export const SEED = Number(
  process.env["SLIPWAY_TEST_SEED"] ?? process.env["SLIPWAY_CHAOS_SEED"] ?? Date.now() % 100_000,
);

/**
 * Set by `.ci/run`, where there is time for everything. SLIPWAY_TEST_FULL_UNTIL (seconds since the
 * epoch) ends that time: what is read later, one test file per read, is of the quick size.
 */
const WANTS_FULL = process.env["SLIPWAY_TEST_FULL"] === "1";
const FULL_UNTIL_MS = Number(process.env["SLIPWAY_TEST_FULL_UNTIL"] ?? Infinity) * 1_000;
export const IS_FULL_RUN = WANTS_FULL && Date.now() < FULL_UNTIL_MS;

/** Whether a file that is read now, in a run that was to be full, is of the quick size. */
export const isTooLateForFull = (): boolean => WANTS_FULL && !(Date.now() < FULL_UNTIL_MS);

/** The end of the name of a test that is skipped. */
export const SKIPPED = ` (skipped: ${WANTS_FULL ? "SLIPWAY_TEST_FULL_UNTIL is over" : "SLIPWAY_TEST_FULL is not 1"})`;

/** How large a generated test is: `quick` by default, `full` in a full run. */
export const sized = (quick: number, full: number): number => (IS_FULL_RUN ? full : quick);

/**
 * The members of a family of like tests that this run tries, in their order: all of them in a full
 * run, else `quick` of them, which SEED chooses.
 */
export function sampled<T>(family: readonly T[], quick: number): readonly T[] {
  if (IS_FULL_RUN || quick >= family.length) return family;
  const random = createRandom(SEED);
  const rank = new Map(family.map((member) => [member, random()]));
  const chosen = new Set([...family].toSorted((a, b) => (rank.get(a) ?? 0) - (rank.get(b) ?? 0)).slice(0, quick));
  return family.filter((member) => chosen.has(member));
}

/** mulberry32 (public domain, Tommy Ettinger). @returns numbers from 0 inclusive to 1 exclusive. */
export function createRandom(seed: number = SEED): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
