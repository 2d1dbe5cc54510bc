/**
 * The last lines of a run, as plain text without colour: what failed, one line each, which files a
 * full run tried in the quick size, the seed, and then `1450 passed, 0 failed, 1 skipped`.
 */
import { stripVTControlCharacters } from "node:util";
import type { Reporter, TestModule } from "vitest/node";
import { isTooLateForFull } from "../random.ts";

interface FoundError {
  readonly message: string;
  /** What was expected and what was received, which the message shortens. */
  readonly diff?: string;
}

/** Longest part of an error message that is printed, and of its difference, characters. */
const MESSAGE = 300;

function describe({ message, diff }: FoundError): string {
  const parts = [message, ...(diff === undefined ? [] : [stripVTControlCharacters(diff)])];
  return parts.map((text) => text.replaceAll(/\s+/g, " ").slice(0, MESSAGE)).join(" | ");
}

export default class Closing implements Reporter {
  /** Files that came after the time for full sizes. */
  private readonly late: string[] = [];

  onTestModuleQueued(one: TestModule): void {
    if (isTooLateForFull()) this.late.push(one.relativeModuleId);
  }

  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly FoundError[]): void {
    const count = { passed: 0, failed: 0, skipped: 0, pending: 0 };
    const fail = (where: string, errors: readonly FoundError[] | undefined): void => {
      count.failed += 1;
      process.stdout.write(`failed: ${where}: ${(errors ?? []).map(describe).join(" | ")}\n`);
    };
    for (const error of unhandled) fail("outside every test", [error]);
    for (const one of modules) {
      // A file that could not be read has no tests that could fail; hooks of suites fail beside
      // their tests.
      if (one.errors().length > 0) fail(one.relativeModuleId, one.errors());
      for (const suite of one.children.allSuites())
        if (suite.errors().length > 0) fail(`${one.relativeModuleId} > ${suite.fullName}`, suite.errors());
      for (const test of one.children.allTests()) {
        const { state, errors } = test.result();
        if (state === "failed") fail(`${one.relativeModuleId} > ${test.fullName}`, errors);
        else count[state] += 1;
      }
    }
    const seed = process.env["SLIPWAY_TEST_SEED"] ?? "";
    if (this.late.length > 0)
      process.stdout.write(`after SLIPWAY_TEST_FULL_UNTIL, in the quick size: ${this.late.toSorted().join(", ")}\n`);
    process.stdout.write(`SLIPWAY_TEST_SEED=${seed} repeats what was random in this run\n`);
    process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped + count.pending} skipped\n`);
  }
}
