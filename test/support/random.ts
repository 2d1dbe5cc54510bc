/** Random numbers that a printed seed replays, and how many of them a test tries. */

/** From SLIPWAY_TEST_SEED, else new for each run. Print it in the title or message of the test. */
export const SEED = Number(
  process.env["SLIPWAY_TEST_SEED"] ?? process.env["SLIPWAY_CHAOS_SEED"] ?? Date.now() % 100_000,
);

/**
 * How large a generated test is: `quick` by default, `full` where SLIPWAY_TEST_FULL is 1, as in
 * `.ci/run`.
 */
export const sized = (quick: number, full: number): number => (process.env["SLIPWAY_TEST_FULL"] === "1" ? full : quick);

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
