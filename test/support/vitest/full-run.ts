/** Tests that a quick run leaves to full runs (decision 073). */
import { describe, it, type TestAPI, type TestOptions } from "vitest";
import { IS_FULL_RUN, SEED } from "../random.ts";

type Suite = (name: string, suite: () => void) => void;
type Test = () => unknown;
type Rest = [Test] | [TestOptions, Test];
type Declare = (name: string, ...rest: Rest) => void;

const SKIPPED = " (skipped: SLIPWAY_TEST_FULL is not 1)";

/** A suite that takes minutes: outside full runs it is skipped, with the reason in its name. */
export const inFullRuns =
  (describeIt: Suite): Suite =>
  (name, suite) =>
    IS_FULL_RUN ? describeIt(name, suite) : describe.runIf(false)(`${name}${SKIPPED}`, suite);

interface InTurn extends Declare, Pick<TestAPI, "each" | "runIf"> {
  /** A test that every run tries. */
  readonly always: Declare;
}

/**
 * An `it` for a file of tests that take seconds each: a quick run tries every `n`-th of them, from
 * one that the seed chooses, and skips the others, with the reason in their names. Of `n` or more
 * at least one runs.
 */
export function inTurn(n: number, common: TestOptions = {}): InTurn {
  const add = (isTried: boolean, name: string, rest: Rest): void => {
    const [options, test] = rest.length === 1 ? [{}, rest[0]] : rest;
    it.runIf(isTried)(`${name}${isTried ? "" : SKIPPED}`, { ...common, ...options }, test);
  };
  let turn = SEED;
  const declare: Declare = (name, ...rest) => {
    turn += 1;
    add(IS_FULL_RUN || turn % n === 0, name, rest);
  };
  return Object.assign(declare, {
    always: (name: string, ...rest: Rest) => add(true, name, rest),
    each: it.each.bind(it) as TestAPI["each"],
    runIf: it.runIf.bind(it),
  });
}
