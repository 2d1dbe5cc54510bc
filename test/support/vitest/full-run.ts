import { describe } from "vitest";
import { IS_FULL_RUN } from "../random.ts";

type Suite = (name: string, suite: () => void) => void;

/** A suite that takes minutes: outside full runs it is skipped, with the reason in its name. */
export const inFullRuns =
  (describeIt: Suite): Suite =>
  (name, suite) =>
    IS_FULL_RUN
      ? describeIt(name, suite)
      : describe.runIf(false)(`${name} (skipped: SLIPWAY_TEST_FULL is not 1)`, suite);
