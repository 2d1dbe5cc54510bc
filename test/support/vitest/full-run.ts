/** Tests that a quick run leaves to full runs (decision 073). */
import { describe, it, type TestAPI, type TestOptions } from "vitest";
import { IS_FULL_RUN, SEED, SKIPPED } from "../random.ts";

type Suite = (name: string, suite: () => void) => void;
type Test = () => unknown;
/** A number is the time limit, ms. */
type Rest = [Test, number?] | [TestOptions, Test];
type Declare = (name: string, ...rest: Rest) => void;

/** A suite that takes minutes: outside full runs it is skipped, with the reason in its name. */
export const inFullRuns =
  (describeIt: Suite): Suite =>
  (name, suite) =>
    IS_FULL_RUN ? describeIt(name, suite) : describe.runIf(false)(`${name}${SKIPPED}`, suite);

interface InTurn extends Declare, Pick<TestAPI, "each" | "runIf" | "skipIf"> {
  /** A test that every run tries. */
  readonly always: Declare;
}

/**
 * An `it` for a file whose tests build on each other, or that is one long test: of `n` seeds in a
 * row one runs all of them, the others skip all, with the reason in their names.
 * @param turn 0 to n - 1: files that cost much have turns that differ.
 */
export function inTurnTogether(n: number, turn: number): InTurn {
  const isTried = IS_FULL_RUN || SEED % n === turn;
  return toTest(() => isTried, {});
}

/**
 * An `it` for a file of tests that take seconds each: a quick run tries every `n`-th of them, from
 * one that the seed chooses, and skips the others, with the reason in their names. Of `n` or more
 * at least one runs.
 */
export function inTurn(n: number, common: TestOptions = {}): InTurn {
  let turn = SEED;
  return toTest(() => {
    turn += 1;
    return IS_FULL_RUN || turn % n === 0;
  }, common);
}

/** @param decide whether the next test that is declared runs. */
function toTest(decide: () => boolean, common: TestOptions): InTurn {
  const add = (isTried: boolean, name: string, rest: Rest): void => {
    const [first, second] = rest;
    const [options, test] = typeof first === "function" ? [limitOf(second), first] : [first, second as Test];
    it.runIf(isTried)(`${name}${isTried ? "" : SKIPPED}`, { ...common, ...options }, test);
  };
  const declare: Declare = (name, ...rest) => add(decide(), name, rest);
  return Object.assign(declare, {
    always: (name: string, ...rest: Rest) => add(true, name, rest),
    each: it.each.bind(it) as TestAPI["each"],
    runIf: it.runIf.bind(it),
    skipIf: it.skipIf.bind(it),
  });
}

const limitOf = (ms: unknown): TestOptions => (typeof ms === "number" ? { timeout: ms } : {});
