import { defineConfig } from "vitest/config";

/**
 * Suites whose files have a process each, by which they name their containers and programs. Files of
 * all other suites share a process per worker, which saves its imports.
 */
const ALONE = "test/{attack,chaos,sandbox,simulation,scenarios/deploy,scenarios/docker}/**/*.test.ts";

export default defineConfig({
  test: {
    globalSetup: ["test/support/vitest/global-setup.ts"],
    reporters: ["default", "./test/support/vitest/summary-reporter.ts"],
    // Output of tests is shown when they fail.
    silent: "passed-only",
    // Bounds for hangs only: tests wait for conditions, however slow the machine is.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 60_000 } },
    pool: "forks",
    maxWorkers: 4,
    projects: [
      { extends: true, test: { name: "alone", include: [ALONE] } },
      { extends: true, test: { name: "shared", include: ["test/**/*.test.ts"], exclude: [ALONE], isolate: false } },
    ],
  },
});
