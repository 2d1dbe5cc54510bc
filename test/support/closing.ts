/** The last line of a run, in words that neither colour nor terminal changes: `1450 passed, 0 failed, 1 skipped`. */
import type { Reporter, TestModule } from "vitest/node";

export default class Closing implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandled: readonly unknown[]): void {
    const count = { passed: 0, failed: unhandled.length, skipped: 0, pending: 0 };
    for (const one of modules) {
      // A file that could not be read has no tests that could fail.
      if (one.state() === "failed" && one.errors().length > 0) count.failed += 1;
      for (const test of one.children.allTests()) count[test.result().state] += 1;
    }
    process.stdout.write(`${count.passed} passed, ${count.failed} failed, ${count.skipped + count.pending} skipped\n`);
  }
}
